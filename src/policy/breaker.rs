//! One endpoint's breaker, seen from one shard: what calls have shown, no probes. Which of several endpoints is used is settled in
//! `health`, what counts as a failure there too.
//!
//! ```text
//!              failures in a row, or a rate           `open` is over and a call begins
//!   closed ---------------------------------> open ---------------------------------> half open (so many trials at a time)
//!     ^        of the window, passes its       ^                                        |      |
//!     |        bound                           +---- a trial fails: `open` doubled -----+      |
//!     +------------------------------------ as many trials have succeeded --------------------+
//! ```

use std::time::Duration;

use crate::config::{Breaker as Rules, Share};
use crate::sys::Instant;

/// Where a breaker stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum BreakerState {
    /// Calls pass.
    #[default]
    Closed,
    /// None pass.
    Open,
    /// Some pass on trial.
    HalfOpen,
}

impl BreakerState {
    /// The value of the `state` label, and the word in an explanation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// Why a breaker opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tripped {
    /// So many failures in a row.
    Failures,
    /// Too large a share of failures.
    ErrorRate,
    /// Too large a share of slow calls.
    SlowRate,
    /// A trial failed.
    Trial,
}

/// What a breaker did just now: for the log and the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    Opened(Tripped),
    HalfOpened,
    Closed,
}

/// How a call ended, as a breaker sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallEnd {
    /// The endpoint did its part.
    Good,
    /// No connection, or a broken one: it counts in a row and in the window.
    Failed,
    /// It answered 5xx or not in time: it counts in the window.
    Erred,
    /// Says nothing of the endpoint: the client left.
    Unknown,
}

impl CallEnd {
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, CallEnd::Good)
    }
}

/// A call that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub end: CallEnd,
    /// When it began: what began before the breaker opened says nothing new.
    pub began: Instant,
    /// Until its answer began; `None` when none did.
    pub latency: Option<Duration>,
    /// A uniform random number: up to a quarter is added to how long a breaker stays open.
    pub jitter: u32,
}

#[derive(Clone, Default, Debug)]
pub(super) struct Breaker {
    state: BreakerState,
    /// In a row, while closed.
    failures: u32,
    /// The present or last time open, without jitter; zero when closed.
    backoff: Duration,
    /// When the present state began.
    since: Instant,
    /// When the breaker last opened from closed.
    opened: Instant,
    /// Not used before this; meaningless when closed.
    until: Instant,
    trials_in_flight: u32,
    trials_good: u32,
    /// Only when a rate is configured.
    window: Option<Box<Window>>,
}

impl Breaker {
    pub(super) fn new(rules: &Rules) -> Breaker {
        let rated = rules.error_rate != Share::NONE || rules.slow_rate != Share::NONE;
        Breaker { window: rated.then(Box::default), ..Breaker::default() }
    }

    pub(super) const fn state(&self) -> BreakerState {
        self.state
    }

    /// Until when no call passes; zero when some do.
    pub(super) const fn until(&self) -> Instant {
        match self.state {
            BreakerState::Open => self.until,
            BreakerState::Closed | BreakerState::HalfOpen => Instant::ZERO,
        }
    }

    /// Whether a call may begin now.
    pub(super) fn lets(&self, rules: &Rules, now: Instant) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open => now >= self.until,
            BreakerState::HalfOpen => self.trials_in_flight < rules.trials,
        }
    }

    /// A call begins.
    pub(super) fn handle_begin(&mut self, now: Instant) -> Option<Change> {
        if self.state == BreakerState::Closed {
            return None;
        }
        let due = self.state == BreakerState::Open && now >= self.until;
        if due {
            self.state = BreakerState::HalfOpen;
            self.since = now;
            (self.trials_in_flight, self.trials_good) = (0, 0);
        }
        if self.state == BreakerState::HalfOpen {
            self.trials_in_flight += 1;
        }
        due.then_some(Change::HalfOpened)
    }

    /// A call ended, however it did. Once per `handle_begin`.
    pub(super) fn handle_end(&mut self, rules: &Rules, ended: Ended, now: Instant) -> Option<Change> {
        match self.state {
            BreakerState::Closed => self.ended_closed(rules, ended, now),
            BreakerState::Open | BreakerState::HalfOpen => self.ended_open(rules, ended, now),
        }
    }

    /// Calls may be tried at once: a probe says that the endpoint is there again.
    pub(super) fn try_now(&mut self, now: Instant) {
        if self.state == BreakerState::Open {
            self.until = self.until.min(now);
        }
    }

    fn ended_closed(&mut self, rules: &Rules, ended: Ended, now: Instant) -> Option<Change> {
        // What began before it last opened belongs to a fault that is over.
        let stale = ended.began < self.opened;
        match ended.end {
            CallEnd::Unknown => return None,
            CallEnd::Good => self.failures = 0,
            CallEnd::Failed if !stale => self.failures = self.failures.saturating_add(1),
            CallEnd::Failed | CallEnd::Erred => {}
        }
        if self.failures >= rules.failures {
            return Some(self.open(rules, Tripped::Failures, ended.jitter, now));
        }
        let window = self.window.as_mut()?;
        let slow = ended.latency.is_none_or(|latency| latency > rules.slow_call);
        window.count(rules.window, ended.end != CallEnd::Good, slow, now);
        let tripped = window.judge(rules)?;
        Some(self.open(rules, tripped, ended.jitter, now))
    }

    fn ended_open(&mut self, rules: &Rules, ended: Ended, now: Instant) -> Option<Change> {
        if self.state == BreakerState::HalfOpen && ended.began >= self.since {
            self.trials_in_flight = self.trials_in_flight.saturating_sub(1);
        }
        // A call that began before says nothing new. One that was made while it is open (all endpoints are, or this one would
        // not have been used) counts as a trial when it succeeds.
        if ended.began < self.since {
            return None;
        }
        match ended.end {
            CallEnd::Unknown => None,
            CallEnd::Good => {
                self.trials_good += 1;
                (self.trials_good >= rules.trials).then(|| self.close(now))
            }
            CallEnd::Failed | CallEnd::Erred if self.state == BreakerState::Open => None,
            CallEnd::Failed | CallEnd::Erred => Some(self.open(rules, Tripped::Trial, ended.jitter, now)),
        }
    }

    fn open(&mut self, rules: &Rules, why: Tripped, jitter: u32, now: Instant) -> Change {
        if self.state == BreakerState::Closed {
            self.opened = now;
        }
        self.backoff = if self.backoff.is_zero() { rules.open } else { (self.backoff * 2).min(rules.open_max) };
        self.until = now + self.backoff + (self.backoff / 4).mul_f64(f64::from(jitter) / f64::from(u32::MAX));
        self.state = BreakerState::Open;
        self.since = now;
        (self.trials_in_flight, self.trials_good) = (0, 0);
        Change::Opened(why)
    }

    fn close(&mut self, now: Instant) -> Change {
        *self = Breaker { opened: now, since: now, window: self.window.take(), ..Breaker::default() };
        if let Some(window) = &mut self.window {
            **window = Window::default();
        }
        Change::Closed
    }
}

/// The calls of the last while, in tenths of it.
#[derive(Clone, Default, Debug)]
struct Window {
    buckets: [Bucket; BUCKETS],
    /// Tenths since the clock began, up to the one that is counted into.
    slot: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Bucket {
    calls: u64,
    errors: u64,
    slow: u64,
}

impl Window {
    fn count(&mut self, length: Duration, error: bool, slow: bool, now: Instant) {
        let tenth = u64::try_from((length / BUCKETS_U32).as_nanos()).unwrap_or(u64::MAX).max(1);
        let slot = now.as_nanos() / tenth;
        let passed = usize::try_from(slot.saturating_sub(self.slot)).unwrap_or(usize::MAX).min(BUCKETS);
        for step in 1..=passed {
            self.buckets[index(slot + 1 - step as u64)] = Bucket::default();
        }
        self.slot = self.slot.max(slot);
        let bucket = &mut self.buckets[index(self.slot)];
        bucket.calls += 1;
        bucket.errors += u64::from(error);
        bucket.slow += u64::from(slow);
    }

    fn judge(&self, rules: &Rules) -> Option<Tripped> {
        let sum = |of: fn(&Bucket) -> u64| self.buckets.iter().map(of).sum::<u64>();
        let calls = sum(|bucket| bucket.calls);
        if calls < u64::from(rules.min_calls) {
            return None;
        }
        let passes = |share: Share, part: u64| share != Share::NONE && share.is_exceeded(part, calls);
        if passes(rules.error_rate, sum(|bucket| bucket.errors)) {
            return Some(Tripped::ErrorRate);
        }
        passes(rules.slow_rate, sum(|bucket| bucket.slow)).then_some(Tripped::SlowRate)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder below ten")]
const fn index(slot: u64) -> usize {
    (slot % BUCKETS as u64) as usize
}

const BUCKETS: usize = 10;
const BUCKETS_U32: u32 = 10;
