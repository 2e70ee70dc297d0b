//! Decides whether looking for work a little longer beats going to sleep: a wake-up costs more than the latency of a short gap,
//! but a processor that spins in vain takes time from those it waits for. It learns from its own hits.

use std::time::Duration;

use super::clock::Clock;

/// An adaptive spinner; off until a window is set.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    window: Duration,
    /// Hits over the recent tries, in 1/256, exponentially smoothed.
    success: u32,
    /// Sleeps since the last try, while spinning does not pay.
    skipped: u32,
    pub(crate) tries: u64,
    pub(crate) hits: u64,
}

impl Spin {
    pub(crate) fn set_window(&mut self, window: Duration) {
        self.window = window;
        self.success = FULL;
    }

    /// Whether to spin before this sleep: always while it pays, now and then to find out whether it pays again.
    pub(crate) fn should_try(&mut self) -> bool {
        if self.window.is_zero() {
            return false;
        }
        if self.success >= PAYS {
            return true;
        }
        self.skipped += 1;
        if self.skipped >= PROBE_EVERY {
            self.skipped = 0;
            return true;
        }
        false
    }

    /// Looks at `found` until it says yes or the window is over. A spin that took far longer than its window was preempted: the
    /// processor is wanted by others, which counts as a miss even if work was there afterwards.
    pub(crate) fn run(&mut self, clock: &Clock, mut found: impl FnMut() -> bool) -> bool {
        self.tries += 1;
        let begin = clock.now();
        let (hit, took) = loop {
            let hit = (0..CHECKS_PER_CLOCK).any(|_| {
                std::hint::spin_loop();
                found()
            });
            let took = clock.now().since(begin);
            if hit || took >= self.window {
                break (hit, took);
            }
        };
        let good = hit && took <= self.window * 2;
        self.hits += u64::from(good);
        let score = if good { FULL } else { 0 };
        self.success = (self.success * 15 + score) / 16;
        hit
    }
}

const FULL: u32 = 256;
/// Spin on while at least this share of the tries hit.
const PAYS: u32 = 96;
const PROBE_EVERY: u32 = 64;
const CHECKS_PER_CLOCK: usize = 16;
