//! The load that endpoints report, as a correction to what this shard knows for certain: its own calls in flight.

use std::time::Duration;

use crate::sys::Instant;

/// What one endpoint said of itself.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Report {
    /// Requests that wait in the engine.
    pub waiting: u32,
    /// Requests it works on; `None` when it does not say, and then what it said shortly before stays.
    pub running: Option<u32>,
    /// The share of its KV cache in use, 0 to 1; `None` when it does not say.
    pub cache_used: Option<f32>,
    /// The LoRA adapters it has loaded, hashed as model names are (`hash_bytes(0, name)`), at most `limits::ADAPTERS_MAX`. `None`: it
    /// said nothing about them, and what was said before stays.
    pub adapters: Option<Box<[u64]>>,
}

/// The last report of an endpoint, as one shard keeps it.
#[derive(Clone, Default, Debug)]
pub(super) struct Reported {
    /// Calls of others: what the endpoint has less what this shard had there when the report came.
    others: f64,
    /// How full the cache is above nine tenths, 0 to 1.
    pressure: f64,
    at: Instant,
    /// What it said last of what runs, and when: answers (ORCA) tell less than scrapes.
    running: (u32, Instant),
    adapters: Box<[u64]>,
}

impl Reported {
    pub(super) fn take(&mut self, report: Report, own: u32, now: Instant) {
        if let Some(running) = report.running {
            self.running = (running, now);
        }
        let running = if now.since(self.running.1) < RUNNING_KEPT { self.running.0 } else { 0 };
        self.others = f64::from(report.waiting.saturating_add(running).saturating_sub(own));
        self.pressure = report.cache_used.map_or(0.0, |used| ((f64::from(used) - FULL_FROM) / (1.0 - FULL_FROM)).clamp(0.0, 1.0));
        self.at = now;
        if let Some(adapters) = report.adapters {
            self.adapters = adapters;
        }
    }

    /// What the report adds to the own calls in flight:
    ///
    /// ```text
    /// correction = min(B, others + B x pressure) x 2^(-age / interval),   B = all own calls in flight + 1
    /// ```
    ///
    /// `pressure` is how far the KV cache is above 90 % of its size, as a share of the rest (beyond it engines preempt). A report is
    /// 50 ms to a second old when it counts, so the own calls rank first: all reports of one endpoint together weigh at most as much as
    /// every call this shard has in flight, and half of that is gone when the next one is due; after eight intervals all is. No report, no correction: an endpoint
    /// that cannot be scraped is balanced by the own calls alone.
    pub(super) fn correction(&self, all_own: u32, half_life: Duration, now: Instant) -> f64 {
        if self.others + self.pressure <= 0.0 || half_life.is_zero() {
            return 0.0;
        }
        let bound = f64::from(all_own) + 1.0;
        let age = now.since(self.at).as_secs_f64() / half_life.as_secs_f64();
        if age > FORGOTTEN {
            return 0.0;
        }
        (self.others + bound * self.pressure).min(bound) * (-age).exp2()
    }

    pub(super) fn has_adapter(&self, model: u64) -> bool {
        self.adapters.contains(&model)
    }
}

/// How long the running requests of a scrape count in reports that say nothing of them.
const RUNNING_KEPT: Duration = Duration::from_secs(5);
/// Intervals after which a report says nothing.
const FORGOTTEN: f64 = 8.0;
/// The share of the KV cache from which an endpoint is better left alone.
const FULL_FROM: f64 = 0.9;
