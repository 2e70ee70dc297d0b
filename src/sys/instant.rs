//! A moment as plain nanoseconds since the process (or the simulation) began. It cannot be read here: `runtime::clock` reads
//! it once a turn and everybody else is given it, so that tests can live through a week in a microsecond.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the process's monotonic clock, in nanoseconds since its start. Never wraps (584 years).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment the clock started.
    pub const ZERO: Instant = Instant(0);
    /// Later than every moment that is reached.
    pub const FAR: Instant = Instant(u64::MAX);

    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}
