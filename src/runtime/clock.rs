//! The one place that reads the clock. A shard reads it once a turn and hands the moment down; the simulation turns it by hand.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sys::Instant;

/// Where moments come from. All shards of a process share one real clock, so their moments compare.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real { clock: quanta::Clock, start: quanta::Instant },
    Virtual(Rc<Cell<Instant>>),
}

/// The process's real clock, to be handed to each shard's thread (a [`Clock`] itself may be virtual and stays in its thread).
#[derive(Clone, Debug)]
pub struct RealClock {
    clock: quanta::Clock,
    start: quanta::Instant,
}

impl RealClock {
    /// Starts at zero now. Calibrates the processor's counter the first time in a process (some milliseconds).
    #[must_use]
    pub fn start() -> RealClock {
        let clock = quanta::Clock::new();
        let start = clock.now();
        RealClock { clock, start }
    }

    #[must_use]
    pub fn now(&self) -> Instant {
        Clock::from(self.clone()).now()
    }
}

impl From<RealClock> for Clock {
    fn from(real: RealClock) -> Clock {
        Clock(Source::Real { clock: real.clock, start: real.start })
    }
}

impl Clock {
    /// A clock that stands still until `hand` is moved.
    #[must_use]
    pub fn simulated(hand: Rc<Cell<Instant>>) -> Clock {
        Clock(Source::Virtual(hand))
    }

    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::Real { clock, start } => {
                let nanos = clock.now().saturating_duration_since(*start).as_nanos();
                Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
            Source::Virtual(hand) => hand.get(),
        }
    }

    /// What time it is for people: the time since 1970 by the system's clock, which may jump. Pretended clocks start in a year's first
    /// moment. Only for comparing with dates that others wrote.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn wall(&self) -> Duration {
        match &self.0 {
            Source::Real { .. } => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Source::Virtual(hand) => VIRTUAL_START + hand.get().since(Instant::ZERO),
        }
    }
}

/// Thu, 01 Jan 2026 00:00:00 GMT.
const VIRTUAL_START: Duration = Duration::from_secs(1_767_225_600);
