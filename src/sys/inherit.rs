//! Descriptors that another process left open for this one, by number.
//!
//! Invariant: a number is taken once in the life of the process, before anything else is opened, and only if it is open and named by
//! the environment that the process was started with. Nobody else then owns it.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::FdFlags;

/// Takes over the open descriptors with these numbers and keeps them from processes that this one starts. Each number once; those of
/// standard input, output and errors never.
///
/// # Errors
/// The first number that is not open, or is there twice; nothing is taken then.
pub fn take(numbers: &[RawFd]) -> io::Result<Vec<OwnedFd>> {
    let mut seen = HashSet::new();
    for number in numbers {
        if *number < FIRST || !seen.insert(*number) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{number} is no descriptor to be inherited")));
        }
        // SAFETY: the borrow ends with this call, which only asks whether the number is open.
        let open = unsafe { BorrowedFd::borrow_raw(*number) };
        rustix::io::fcntl_getfd(open).map_err(|error| io::Error::new(io::ErrorKind::NotFound, format!("descriptor {number}: {error}")))?;
    }
    // SAFETY: by the invariant the numbers are open, named for us and owned by nobody else.
    let owned: Vec<OwnedFd> = numbers.iter().map(|number| unsafe { OwnedFd::from_raw_fd(*number) }).collect();
    for descriptor in &owned {
        rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
    }
    Ok(owned)
}

/// A duplicate that stays open in a process started from this one.
///
/// # Errors
/// When descriptors are out.
pub fn heirloom(descriptor: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::dup(descriptor)?)
}

/// Behind standard input, output and errors.
const FIRST: RawFd = 3;

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::{heirloom, take};

    #[test]
    fn what_is_open_is_taken_once_and_kept_from_children() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let left = heirloom(&file).unwrap();
        assert!(!rustix::io::fcntl_getfd(&left).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let number = left.into_raw_fd();
        assert!(take(&[number, number]).is_err());
        let taken = take(&[number]).unwrap();
        assert_eq!(taken[0].as_raw_fd(), number);
        assert!(rustix::io::fcntl_getfd(&taken[0]).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn numbers_that_cannot_be_ours_are_refused() {
        for number in [-1, 0, 2, 1_000_000] {
            assert!(take(&[number]).is_err(), "{number}");
        }
    }
}
