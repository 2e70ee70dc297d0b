//! When requests are due, and which of them are long. Pure: moments and numbers in, moments and choices out.

use std::time::Duration;

use crate::sys::Instant;

/// When requests begin.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// As soon as the connection is free.
    Closed,
    /// At fixed moments, this many a second over all connections; latency counts from the moment, sent in time or not.
    Open { per_second: f64 },
}

/// The moments of one run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Schedule {
    pace: Pace,
    begun_at: Instant,
    /// The warm-up is over: requests due from here on are counted.
    pub(super) counted_from: Instant,
    /// No request is begun from here on.
    pub(super) ends_at: Instant,
}

impl Schedule {
    pub(super) fn begin(pace: Pace, now: Instant, warmup: Duration, duration: Duration) -> Schedule {
        Schedule { pace, begun_at: now, counted_from: now + warmup, ends_at: now + warmup + duration }
    }

    /// When request `number` of an open loop is due; in a closed loop they are due at any time.
    pub(super) fn due_at(&self, number: u64) -> Instant {
        let Pace::Open { per_second } = self.pace else { return self.begun_at };
        let after = Duration::try_from_secs_f64(number as f64 / per_second).unwrap_or(Duration::MAX);
        self.begun_at + after
    }

    /// Of the requests of an open loop from `number` on, how many were due and are to be counted.
    pub(super) fn unsent_from(&self, number: u64) -> u64 {
        if self.pace == Pace::Closed {
            return 0;
        }
        let due = (number..).map(|number| self.due_at(number)).take_while(|due_at| *due_at < self.ends_at);
        due.filter(|due_at| *due_at >= self.counted_from).count() as u64
    }
}

/// Whether request `number` of a run is among the `share` (0 to 1) of long ones: spread evenly, the same in every run.
pub(super) fn is_long(number: u64, share: f64) -> bool {
    ((number + 1) as f64 * share).floor() > (number as f64 * share).floor()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pace, Schedule, is_long};
    use crate::sys::Instant;

    #[test]
    fn an_open_loop_has_fixed_moments_whatever_happens() {
        let now = Instant::from_nanos(5_000);
        let ms = Duration::from_millis;
        let schedule = Schedule::begin(Pace::Open { per_second: 1000.0 }, now, ms(10), ms(90));
        assert_eq!(schedule.due_at(0), now);
        assert_eq!(schedule.due_at(25), now + ms(25));
        assert_eq!((schedule.counted_from, schedule.ends_at), (now + ms(10), now + ms(100)));
        // 0 to 9 belong to the warm-up, 100 would be due at the end.
        assert_eq!(schedule.unsent_from(0), 90);
        assert_eq!(schedule.unsent_from(40), 60);
        assert_eq!(schedule.unsent_from(100), 0);
        assert_eq!(Schedule::begin(Pace::Closed, now, ms(0), ms(9)).unsent_from(0), 0);
    }

    #[test]
    fn long_requests_have_their_share_and_are_spread() {
        for (share, expected) in [(0.0, 0), (0.01, 10), (0.25, 250), (0.5, 500), (1.0, 1000)] {
            assert_eq!((0..1000).filter(|number| is_long(*number, share)).count(), expected, "{share}");
        }
        assert!((0..100).all(|tenth| (tenth * 10..tenth * 10 + 10).filter(|number| is_long(*number, 0.1)).count() == 1));
    }
}
