//! The clock of load: CLOCK_MONOTONIC itself, because a stream's events carry the moment another process of this host sent them.

use crate::sys::Instant;

/// Now, on the clock that all processes of this host share.
#[must_use]
pub fn monotonic() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    Instant::from_nanos(seconds * 1_000_000_000 + nanos)
}
