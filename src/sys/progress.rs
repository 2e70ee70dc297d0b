//! How far a peer has taken what was sent to it, as the kernel's TCP knows. Asked only where a send is late.
//!
//! Invariant that makes the one unsafe call sound: the kernel writes at most as many bytes as it is told the array has, and says how many.

use std::os::fd::AsRawFd;

use super::fd::Fd;

/// Bytes the peer has acknowledged; `None` for what is not TCP, and for kernels before 4.1.
#[must_use]
pub fn bytes_acked(fd: Fd) -> Option<u64> {
    let mut info = [0_u8; INFO_BYTES];
    let mut len = libc::socklen_t::try_from(INFO_BYTES).ok()?;
    let raw = fd.borrow().as_raw_fd();
    // SAFETY: `info` is `len` bytes of plain memory that outlive the call, and `len` is a valid place for the length written.
    let result = unsafe { libc::getsockopt(raw, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len) };
    let len = usize::try_from(len).ok()?;
    if result != 0 {
        return None;
    }
    let field = info.get(..len)?.get(BYTES_ACKED_AT..BYTES_ACKED_AT + 8)?;
    field.try_into().ok().map(u64::from_ne_bytes)
}

/// `struct tcp_info` up to and with `tcpi_bytes_received` (linux/tcp.h): 8 bytes of flags, 24 words, then double words.
const INFO_BYTES: usize = 136;
/// `tcpi_bytes_acked`, behind `tcpi_pacing_rate` and `tcpi_max_pacing_rate`.
const BYTES_ACKED_AT: usize = 8 + 24 * 4 + 2 * 8;
