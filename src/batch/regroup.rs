//! Whether to hold a batch for a moment right after a merged call ended: clients that wait for their answer and then ask again come
//! back together, but not in the same turn. Without this the first one back leaves alone and all the others wait a whole call for
//! it: batches of 1 and 31 in turn where 32 fit into one (measured with 32 clients, T(n) = 5 + 0.1 n ms: 2,270 against 3,300
//! requests a second). When a batch leaves otherwise is `rule`'s affair.
//!
//! ```text
//! call with n items ends ── hold, at most an eighth of T(1) and 1 ms ──> n items wait again, or the time is up: send
//! ```
//! A lone client is never held: its calls have one job. Where clients do not come back (open arrivals) the hold is a loss, so it
//! is tried less and less: after each one that gathered less than half of those it waited for, twice as many calls pass before the
//! next.

use crate::sys::Instant;
use std::time::Duration;

/// What is known of one endpoint's returning clients, through one lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Regroup {
    /// Items to wait for; 0 when nothing is held.
    expected: u32,
    until: Instant,
    /// Holds in a row that did not pay.
    misses: u32,
    /// Merged calls that end before the next hold.
    skip: u32,
}

impl Regroup {
    /// A call with `items` of `jobs` jobs ended well while `queued` items were waiting; a call with one item takes `alone`.
    pub(super) fn ended(&mut self, items: u32, jobs: usize, queued: u32, alone: Option<Duration>, now: Instant) {
        if now >= self.until {
            self.expected = 0;
        }
        let Some(alone) = alone.filter(|_| jobs > 1) else { return };
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        // Those who are on their way back from a call that ended a moment ago still are.
        self.expected = self.expected.max(queued).saturating_add(items);
        self.until = now + (alone / 8).min(HOLD_MAX);
    }

    /// Until when a batch of `queued` items is held, unless more come.
    pub(super) fn holds(&self, queued: u32, now: Instant) -> Option<Instant> {
        (queued < self.expected && now < self.until).then_some(self.until)
    }

    /// A batch leaves, with `taken` of `queued` items in line: learns whether holding it was worth it. A full one was not held.
    pub(super) fn left(&mut self, queued: u32, taken: u32, full: bool) {
        if self.expected == 0 {
            return;
        }
        if full || queued >= self.expected / 2 {
            self.misses = if full { self.misses } else { 0 };
            self.expected = self.expected.saturating_sub(taken);
        } else {
            self.misses = (self.misses + 1).min(MISSES_MAX);
            self.skip = 1 << self.misses;
            self.expected = 0;
        }
    }
}

/// The longest hold, whatever a call costs.
const HOLD_MAX: Duration = Duration::from_millis(1);
/// At most 2^7 calls pass between two holds that do not pay.
const MISSES_MAX: u32 = 7;
