//! How many calls in flight per endpoint pay, for upstreams that batch by themselves. Some of them serve calls side by side at no
//! loss, some make each call wait for the others (Infinity: 6.4 ms for a call alone, 10.3 ms for each of two to four), and which is
//! better depends on the load: 32 clients make one full call, 128 make four. So the configured number is a ceiling, and what is in
//! use below it is learned by trying: the other levels get a window of calls now and then, between two windows of the one in use.
//!
//! ```text
//! windows    base | try 1 | base | rest ... | try 2 | base | rest ... | try 4 ...
//!                  better than the base before it and the one after it: it is the new base
//! ```
//! What is compared is the mean time from a job's arrival to its answer: among clients that wait for their answer it decides how
//! much gets through, and where few come it is all that counts. Where every call is full the queue's length drowns it; then items a
//! second are compared. When a batch leaves within the limit is `rule`'s affair.

use crate::sys::Instant;
use std::time::Duration;

/// The limit in use for one lane, and what is known of the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    ceiling: u32,
    base: u32,
    stage: Stage,
    window: Window,
    /// Since when the limit in use has been in use.
    since: Instant,
    /// The last window of the base that did not follow a trial.
    before: Option<Score>,
    /// The level to try next.
    next: u32,
    /// Levels that were tried since the base was chosen, in a row without success.
    losses: u32,
    /// Base windows until the next trial.
    rest: u32,
    /// Base windows between two trials.
    pause: u32,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Stage {
    Base,
    /// A level other than the base is in use.
    Try,
    /// The base again, to see whether the trial or the load made the difference; `None` when the trial was given up.
    After(Option<Score>),
}

/// What a call that ended well tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) sent: Instant,
    pub(super) items: u32,
    /// It held as much as a call may.
    pub(super) full: bool,
    /// Those of the items that arrived since [`InFlight::since`], and how long they stayed in sum.
    pub(super) fresh_items: u32,
    pub(super) stay: Duration,
}

/// What a number of calls came to.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began: Instant,
    last: Instant,
    call_count: u32,
    /// Calls that left full.
    full_count: u32,
    /// Calls with fresh items.
    fresh_count: u32,
    items: u64,
    fresh_items: u64,
    /// Item-seconds between arrival and answer of the fresh ones.
    stay: f64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Score {
    /// Seconds from arrival to answer, the mean over the fresh items; infinite when there were none.
    stay: f64,
    items_per_second: f64,
    /// All calls were full.
    saturated: bool,
}

impl InFlight {
    pub(super) fn new(ceiling: u32) -> InFlight {
        let ceiling = ceiling.max(1);
        InFlight {
            ceiling,
            base: ceiling,
            stage: Stage::Base,
            window: Window::default(),
            since: Instant::ZERO,
            before: None,
            next: 1,
            losses: 0,
            rest: 0,
            pause: 0,
        }
    }

    /// Calls that may be in flight per endpoint now.
    pub(super) fn limit(&self) -> u32 {
        if self.stage == Stage::Try { self.next } else { self.base }
    }

    /// Only what happened since then tells of the limit in use.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// A call ended well.
    pub(super) fn handle_call(&mut self, ended: Ended, now: Instant) {
        if self.ceiling == 1 || ended.sent < self.since {
            return;
        }
        // Calls that end together belong to one window, or a short one would be too rich or too poor by most of a round.
        if now > self.window.last {
            let limit = self.limit();
            if self.stage == Stage::Try && self.before.is_some_and(|before| self.window.is_hopeless(&before)) {
                self.window = Window::default();
                self.stage = Stage::After(None);
            } else if self.window.is_long_enough(CALLS_MIN.max(4 * limit)) {
                let next = Window { began: self.window.last, ..Window::default() };
                let score = std::mem::replace(&mut self.window, next).score();
                self.judge(score);
            }
            if self.limit() != limit {
                // The call that just ended is of the former limit.
                (self.since, self.window.began) = (now, now);
                return;
            }
        }
        self.window.add(ended, now);
    }

    fn judge(&mut self, score: Score) {
        match std::mem::replace(&mut self.stage, Stage::Base) {
            Stage::Base => {
                if self.before.replace(score).is_some_and(|before| before.differs(&score)) {
                    // Perhaps another load: what was learned under the former one is old. Noise must not make trials common, though.
                    self.pause /= 8;
                    self.rest = self.rest.min(self.pause);
                }
                self.rest_or_try();
            }
            Stage::Try => self.stage = Stage::After(Some(score)),
            Stage::After(Some(tried)) if self.is_better(&tried, &score) => {
                (self.base, self.next) = (self.next, 1);
                (self.losses, self.rest, self.pause) = (0, 0, 0);
                self.before = Some(tried);
            }
            // This window is no measure of the base: the queue that the trial left was in it.
            Stage::After(_) => {
                self.lost();
                self.rest_or_try();
            }
        }
    }

    fn rest_or_try(&mut self) {
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        if self.next == self.base {
            self.next = self.after(self.next);
        }
        self.stage = Stage::Try;
    }

    /// Whether the level that was tried is better than the base before it and after it. Fewer calls in flight mean fuller ones, so
    /// less is asked of them.
    fn is_better(&self, tried: &Score, after: &Score) -> bool {
        let margin = if self.next < self.base { MARGIN_DOWN } else { MARGIN_UP };
        tried.beats(after, margin) && self.before.is_none_or(|before| tried.beats(&before, margin))
    }

    /// The level that was tried is not better.
    fn lost(&mut self) {
        self.losses += 1;
        self.next = self.after(self.next);
        if self.losses >= self.others() {
            self.losses = 0;
            self.pause = (self.pause * 4).clamp(2, PAUSE_MAX);
        }
        self.rest = self.pause;
    }

    /// The level after `level`: 1, 2, 4, ... up to the ceiling, and round.
    fn after(&self, level: u32) -> u32 {
        if level >= self.ceiling { 1 } else { (level.saturating_mul(2)).min(self.ceiling) }
    }

    /// How many other levels there are.
    fn others(&self) -> u32 {
        u32::BITS - (self.ceiling - 1).leading_zeros()
    }
}

impl Window {
    fn add(&mut self, ended: Ended, now: Instant) {
        self.last = now;
        self.call_count += 1;
        self.full_count += u32::from(ended.full);
        self.fresh_count += u32::from(ended.fresh_items > 0);
        self.items += u64::from(ended.items);
        self.fresh_items += u64::from(ended.fresh_items);
        self.stay += ended.stay.as_secs_f64();
    }

    /// Of full calls it is the pace that counts, and a long queue must not make a bad trial long; of others the stay.
    fn is_long_enough(&self, calls: u32) -> bool {
        self.call_count >= calls && (self.full_count == self.call_count || self.fresh_count >= calls)
    }

    /// Whether a few calls of a trial are enough to see that it is not worth going on, while a queue builds up.
    fn is_hopeless(&self, base: &Score) -> bool {
        let score = self.score();
        let slow = self.call_count >= CALLS_HOPELESS && score.saturated && score.items_per_second * HOPELESS < base.items_per_second;
        slow || (self.fresh_count >= CALLS_HOPELESS && score.stay > base.stay * HOPELESS)
    }

    fn score(&self) -> Score {
        let span = self.last.since(self.began).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "items of one window: thousands")]
        let (items, fresh_items) = (self.items as f64, self.fresh_items as f64);
        Score {
            stay: if self.fresh_items > 0 { self.stay / fresh_items } else { f64::INFINITY },
            items_per_second: if span > 0.0 { items / span } else { 0.0 },
            saturated: self.full_count == self.call_count,
        }
    }
}

impl Score {
    fn beats(&self, other: &Score, margin: f64) -> bool {
        if self.saturated && other.saturated {
            return self.items_per_second > other.items_per_second * margin;
        }
        self.stay * margin < other.stay
    }

    fn differs(&self, other: &Score) -> bool {
        self.stay > other.stay * SHIFT || other.stay > self.stay * SHIFT
    }
}

/// Calls in a window at least, and four rounds of those in flight.
const CALLS_MIN: u32 = 12;
/// A trial is given up after so many calls when it is worse by this factor.
const CALLS_HOPELESS: u32 = 4;
const HOPELESS: f64 = 1.5;
/// A level must be this much better to become the base, so that noise does not make equals take turns.
const MARGIN_UP: f64 = 1.1;
const MARGIN_DOWN: f64 = 1.03;
/// The load is another when stays differ this much between two windows of one level.
const SHIFT: f64 = 1.3;
/// Base windows between two trials when none has been better for long: trials then cost about a hundredth.
const PAUSE_MAX: u32 = 64;
