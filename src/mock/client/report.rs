//! What a run of load saw.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Counts and latencies of one run; of requests that were due in the warm-up nothing is counted. Maps are small: statuses are
/// below 600, reasons are a handful of constants.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// From the start (behind the warm-up) to the last answer.
    pub elapsed: Duration,
    /// Answers with status 200.
    pub done: u64,
    /// Answers by status, 200 included.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a usable answer, by reason: `connect`, `no_port` (this host has no local port left for a connection),
    /// `closed`, `timeout`, `bad_answer`, `cut` (a stream without its end).
    pub failures: BTreeMap<&'static str, u64>,
    /// Answers that were compared with what they must be.
    pub checked: u64,
    /// Of these, those that were not that.
    pub wrong: u64,
    /// Open loop: requests that were due and never begun, because all connections were busy until the end.
    pub unsent: u64,
    /// Bytes of answers, heads included.
    pub received_bytes: u64,
    /// Of answers with status 200, from the moment each was due to its last byte.
    pub latency: Timing,
    /// With a mix: the same, of requests with the short and with the long body.
    pub short: Timing,
    pub long: Timing,
    /// Open loop: how much later than due requests were begun, because connections were busy or we were late.
    pub lag: Timing,
    /// Connections made from the start on; those made before, to begin together, are not among them.
    pub connects: u64,
    /// Kept connections that the peer ended.
    pub closed_by_peer: u64,
    pub streams: StreamReport,
    pub idle: IdleReport,
    /// Processor time of the clients' threads.
    pub cpu: Duration,
}

/// What was seen of answers that were streams of events.
#[derive(Clone, Debug, Default)]
pub struct StreamReport {
    /// Streams that ended, well or not; like events they are counted when that was behind the warm-up, whenever they were begun.
    pub streams: u64,
    pub events: u64,
    /// Numbers that were skipped; the event of one that comes later after all is out of order as well.
    pub missing: u64,
    /// Events whose number was not above the one before.
    pub out_of_order: u64,
    /// Streams that ended without `[DONE]`, or in the middle of their body.
    pub cut: u64,
    /// From the moment the request was due to the first event.
    pub ttft: Timing,
    /// Between two events of a stream.
    pub gap: Timing,
    /// From the moment the server stamped an event to its receipt; empty when the server does not stamp.
    pub added: Timing,
}

/// What became of the connections that were only kept open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleReport {
    /// Connections whose one request was answered.
    pub opened: u64,
    /// Those that could not be opened, or whose request was not answered.
    pub failed: u64,
    /// Opened ones that the peer ended before the run was over.
    pub closed_by_peer: u64,
}

/// A histogram of times: one microsecond to ten minutes with three digits.
#[derive(Clone, Debug)]
pub struct Timing(Histogram<u64>);

impl Default for Timing {
    #[expect(clippy::expect_used, reason = "constant arguments: either every run fails or none")]
    fn default() -> Timing {
        let mut histogram = Histogram::new_with_bounds(1_000, 2_000_000, 3).expect("the bounds are in order");
        // It grows by itself: most runs need a small one, and there are many.
        histogram.auto(true);
        Timing(histogram)
    }
}

impl Timing {
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(TIME_MAX_NS);
        // One that grows by itself takes everything.
        let _ = self.0.record(nanos);
    }

    pub fn add(&mut self, other: &Timing) {
        // One that grows by itself takes everything.
        let _ = self.0.add(&other.0);
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that this share did not exceed.
    #[must_use]
    pub fn at(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e9)
    }

    /// (quantile, time, count up to it), finer towards the end: what HdrHistogram's plotter draws.
    pub fn distribution(&self) -> impl Iterator<Item = (f64, Duration, u64)> {
        let mut count = 0;
        self.0.iter_quantiles(5).map(move |step| {
            count += step.count_since_last_iteration();
            (step.quantile_iterated_to(), Duration::from_nanos(step.value_iterated_to()), count)
        })
    }
}

impl LoadReport {
    #[must_use]
    pub fn new() -> LoadReport {
        LoadReport::default()
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
        self.latency.add(&other.latency);
        self.short.add(&other.short);
        self.long.add(&other.long);
        self.lag.add(&other.lag);
        self.connects += other.connects;
        self.closed_by_peer += other.closed_by_peer;
        self.streams.add(&other.streams);
        self.idle.opened += other.idle.opened;
        self.idle.failed += other.idle.failed;
        self.idle.closed_by_peer += other.idle.closed_by_peer;
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
        self.latency.at(quantile)
    }

    #[must_use]
    pub fn latency_max(&self) -> Duration {
        self.latency.max()
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

    /// `long`: of a mix, whether the request had the long body.
    pub(super) fn answered(&mut self, status: u16, latency: Duration, bytes: usize, long: Option<bool>) {
        *self.statuses.entry(status).or_default() += 1;
        self.received_bytes += bytes as u64;
        if status == 200 {
            self.done += 1;
            self.latency.record(latency);
            match long {
                None => {}
                Some(false) => self.short.record(latency),
                Some(true) => self.long.record(latency),
            }
        }
    }

    pub(super) fn failed(&mut self, reason: &'static str) {
        *self.failures.entry(reason).or_default() += 1;
    }
}

impl StreamReport {
    pub(super) fn add(&mut self, other: &StreamReport) {
        self.streams += other.streams;
        self.events += other.events;
        self.missing += other.missing;
        self.out_of_order += other.out_of_order;
        self.cut += other.cut;
        self.ttft.add(&other.ttft);
        self.gap.add(&other.gap);
        self.added.add(&other.added);
    }
}

const TIME_MAX_NS: u64 = 600_000_000_000;
