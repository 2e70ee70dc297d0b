//! Descriptor numbers as the runtime passes them around.
//!
//! Invariant: a number is made by [`Fd::adopt`] from an owned descriptor and ends in exactly one [`Fd::release`], which the
//! runtime calls only after every operation on it was retired. Between the two the descriptor is open, so borrowing it is sound.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// The number of an open descriptor (or of a simulated one) that some socket state owns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fd(i32);

impl Fd {
    /// Takes over `owned`; it stays open until [`Fd::release`].
    #[must_use]
    pub fn adopt(owned: OwnedFd) -> Fd {
        Fd(owned.into_raw_fd())
    }

    /// A number without a kernel descriptor behind it, for the simulated driver.
    #[must_use]
    pub const fn simulated(number: i32) -> Fd {
        Fd(number)
    }

    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Gives the descriptor back as an owned one, whose drop closes it.
    #[must_use]
    pub fn release(self) -> OwnedFd {
        // SAFETY: by the invariant this number is open, owned by us and not used after this call.
        unsafe { OwnedFd::from_raw_fd(self.0) }
    }

    /// Borrows the open descriptor for a call that does not keep it.
    #[must_use]
    pub fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: by the invariant the descriptor is open until `release`.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}
