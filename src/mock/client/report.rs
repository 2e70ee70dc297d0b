//! What a run of load saw.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Counts and latencies of one run. Maps are small: statuses are below 600, reasons are a handful of constants.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// From the start to the last answer.
    pub elapsed: Duration,
    /// Answers with status 200.
    pub done: u64,
    /// Answers by status, 200 included.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a usable answer, by reason: `connect`, `closed`, `timeout`, `bad_answer`.
    pub failures: BTreeMap<&'static str, u64>,
    /// Answers that were compared with what they must be.
    pub checked: u64,
    /// Of these, those that were not that.
    pub wrong: u64,
    /// Open loop: requests that were due and never begun, because all connections were busy until the end.
    pub unsent: u64,
    /// Bytes of answers, heads included.
    pub received_bytes: u64,
    /// Of answers with status 200, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Processor time of the clients' threads.
    pub cpu: Duration,
}

impl Default for LoadReport {
    fn default() -> LoadReport {
        LoadReport::new()
    }
}

impl LoadReport {
    #[must_use]
    pub fn new() -> LoadReport {
        LoadReport {
            elapsed: Duration::ZERO,
            done: 0,
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            checked: 0,
            wrong: 0,
            unsent: 0,
            received_bytes: 0,
            latency: histogram(),
            cpu: Duration::ZERO,
        }
    }

    /// Adds the report of another run that went on at the same time.
    pub fn add(&mut self, other: &LoadReport) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.done += other.done;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (reason, count) in &other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
        self.checked += other.checked;
        self.wrong += other.wrong;
        self.unsent += other.unsent;
        self.received_bytes += other.received_bytes;
        // Both have the same bounds, so nothing can fail to fit.
        let _ = self.latency.add(&other.latency);
        self.cpu += other.cpu;
    }

    /// Answers with status 200 a second.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.done as f64 / self.elapsed.as_secs_f64() }
    }

    /// The latency that this share of the answers with status 200 did not exceed.
    #[must_use]
    pub fn latency_at(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(quantile))
    }

    #[must_use]
    pub fn latency_max(&self) -> Duration {
        Duration::from_nanos(self.latency.max())
    }

    /// Requests that ended, well or not.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.failures.values().sum::<u64>()
    }

    /// Requests that did not end with status 200.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.ended() - self.done
    }

    pub(super) fn answered(&mut self, status: u16, latency: Duration, bytes: usize) {
        *self.statuses.entry(status).or_default() += 1;
        self.received_bytes += bytes as u64;
        if status == 200 {
            self.done += 1;
            self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn failed(&mut self, reason: &'static str) {
        *self.failures.entry(reason).or_default() += 1;
    }
}

/// One microsecond to ten minutes with three digits.
#[expect(clippy::expect_used, reason = "constant arguments: either every run fails or none")]
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("the bounds are in order")
}
