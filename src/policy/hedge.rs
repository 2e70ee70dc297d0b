//! When a call that takes long is doubled: after a time, or after a percentile of what calls took lately, and never more of them than
//! a share. Which calls may be doubled, and where the second goes, is settled in the shard.

use std::time::Duration;

use crate::config::{Hedge, HedgeAfter, Share};

/// The rule and the memory of one model on one shard.
#[derive(Clone, Debug)]
pub struct Hedger {
    after: HedgeAfter,
    max: Share,
    /// What calls took lately, in no order; the oldest is overwritten.
    latencies: Vec<Duration>,
    next: usize,
    /// The percentile of them, as of the last look.
    learned: Option<Duration>,
    /// Second calls that may be made, in ten-thousandths.
    credit: u32,
}

impl Hedger {
    #[must_use]
    pub fn new(rules: Hedge) -> Hedger {
        Hedger { after: rules.after, max: rules.max, latencies: Vec::new(), next: 0, learned: None, credit: 0 }
    }

    /// A first call begins: how long to wait for it before a second is made. `None`: not at all (too little is known yet).
    pub fn handle_call(&mut self) -> Option<Duration> {
        self.credit = (self.credit + self.max.0).min(CREDIT_MAX);
        match self.after {
            HedgeAfter::Time(time) => Some(time),
            HedgeAfter::Percentile(_) => self.learned,
        }
    }

    /// The wait is over: whether a second call may be made. It is counted.
    pub fn take(&mut self) -> bool {
        let has = self.credit >= Share::ALL.0;
        if has {
            self.credit -= Share::ALL.0;
        }
        has
    }

    /// An answer began after `latency`. A call that was doubled and lost took at least so long: it counts with that.
    pub fn handle_latency(&mut self, latency: Duration) {
        let HedgeAfter::Percentile(percentile) = self.after else { return };
        if self.latencies.len() < KEPT {
            self.latencies.push(latency);
        } else {
            self.latencies[self.next % KEPT] = latency;
        }
        self.next = self.next.wrapping_add(1);
        if self.next.is_multiple_of(LOOK_EVERY) {
            let mut sorted = self.latencies.clone();
            let at = (sorted.len() * usize::from(percentile) / 100).min(sorted.len() - 1);
            let (_, value, _) = sorted.select_nth_unstable(at);
            self.learned = Some(*value);
        }
    }
}

/// Latencies kept: enough for the 99th percentile to be more than the largest.
const KEPT: usize = 256;
const LOOK_EVERY: usize = 32;
/// Ten second calls may be saved up.
const CREDIT_MAX: u32 = 10 * Share::ALL.0;
