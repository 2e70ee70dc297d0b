//! The shard's handle: what its code calls to count. Every method is index arithmetic and one or two relaxed stores: no
//! hash, no string, no lock prefix. An id of another snapshot is ignored (and stops a debug build: the ids were mixed up).

use super::buckets::Scale;
use super::labels::{
    BatchReason, BreakerTo, FallbackReason, HedgeResult, MeasureOutcome, Phase, ShadowOutcome, ShedReason, SplitOutcome, StreamOutcome,
    Target, TokenKind, UpstreamOutcome, status_index,
};
use super::layout::{CORE_CLIENT_CLOSED, CORE_PHASES, CORE_SHED, Offsets, shard_number};
use super::names::Metric;
use crate::config::{ModelId, UpstreamId};
use crate::mesh::{CounterWriter, ShardId, Shared};
use crate::policy::{Operation, Why};
use crate::sys::Instant;

/// The counters of one shard under one snapshot. Keep it with the snapshot whose ids it takes (in an `Rc`): an exchange that
/// outlives a reload counts into the old one, and when the last reference to that one is dropped the registry folds it. All
/// handles of a shard must live on its thread.
#[derive(Debug)]
pub struct ShardMetrics {
    /// The same cells in all handles of the shard.
    core: CounterWriter,
    /// This snapshot's own.
    labelled: CounterWriter,
    offsets: Shared<Offsets>,
}

/// Totals the ring keeps since the shard began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingStats {
    pub turns: u64,
    pub enters: u64,
    pub enobufs: u64,
    pub cq_overflows: u64,
    pub stale_completions: u64,
    pub task_panics: u64,
}

impl ShardMetrics {
    pub(super) fn new(core: CounterWriter, labelled: CounterWriter, offsets: Shared<Offsets>) -> ShardMetrics {
        ShardMetrics { core, labelled, offsets }
    }

    /// A request was answered with `status`.
    pub fn request(&self, target: Target, status: u16) {
        self.count(self.offsets.request(target, status_index(status)), 1);
    }

    /// A request spent `nanos` in a phase; [`Phase::Exchange`] is the whole.
    pub fn phase(&self, phase: Phase, nanos: u64) {
        observe(&self.core, CORE_PHASES + phase.index() * Scale::Time.cells(), Scale::Time, nanos);
    }

    /// A client left while its request was in `phase`.
    pub fn client_closed(&self, phase: Phase) {
        self.core.add(CORE_CLIENT_CLOSED + phase.index(), 1);
    }

    pub fn shed(&self, reason: ShedReason) {
        self.core.add(CORE_SHED + reason.index(), 1);
    }

    /// The first event of a stream came `nanos` after its request.
    pub fn stream_ttft(&self, target: Target, nanos: u64) {
        if let Some(cell) = self.offsets.stream_ttft(target) {
            observe(&self.labelled, cell, Scale::Time, nanos);
        }
    }

    /// A request for a split model was served by the target `arm`; its answer began after `nanos`.
    pub fn split_request(&self, arm: ModelId, outcome: SplitOutcome, nanos: u64) {
        self.count(self.offsets.split_request(arm.0, outcome), 1);
        if let Some(cell) = self.offsets.split_duration(arm.0) {
            observe(&self.labelled, cell, Scale::Time, nanos);
        }
    }

    /// An answer of the target `arm` was measured by its rollout's metric.
    pub fn split_measured(&self, arm: ModelId, outcome: MeasureOutcome) {
        self.count(self.offsets.split_measured(arm.0, outcome), 1);
    }

    /// Events of a stream came `nanos` after those before.
    pub fn stream_itl(&self, target: Target, nanos: u64) {
        if let Some(cell) = self.offsets.stream_itl(target) {
            observe(&self.labelled, cell, Scale::Time, nanos);
        }
    }

    /// A stream ended.
    pub fn stream(&self, target: Target, outcome: StreamOutcome) {
        self.count(self.offsets.stream(target, outcome), 1);
    }

    /// A stream's server told how many tokens it took.
    pub fn stream_tokens(&self, target: Target, kind: TokenKind, count: u64) {
        self.count(self.offsets.stream_tokens(target, kind), count);
    }

    /// What became of a copy.
    pub fn shadow_request(&self, model: ModelId, outcome: ShadowOutcome) {
        self.count(self.offsets.shadow_request(model.0, outcome), 1);
    }

    /// A batch of `items` left. Counts it by reason and observes its size.
    pub fn batch_left(&self, model: ModelId, operation: Operation, items: u32, reason: BatchReason) {
        self.count(self.offsets.batch(model.0, operation, reason), 1);
        if let Some(cell) = self.offsets.batch_items(model.0, operation) {
            observe(&self.labelled, cell, Scale::Items, u64::from(items));
        }
    }

    /// A job waited `nanos` at its home before its batch left.
    pub fn batch_wait(&self, model: ModelId, operation: Operation, nanos: u64) {
        if let Some(cell) = self.offsets.batch_wait(model.0, operation) {
            observe(&self.labelled, cell, Scale::Time, nanos);
        }
    }

    /// `jobs` of a batch that left came from the shard `origin`.
    pub fn batch_jobs(&self, model: ModelId, operation: Operation, origin: ShardId, jobs: u64) {
        self.count(self.offsets.batch_jobs(model.0, operation, origin.0), jobs);
    }

    /// An upstream call is made to find a culprit.
    pub fn isolation_call(&self, model: ModelId) {
        self.count(self.offsets.isolation_calls(model.0), 1);
    }

    /// A lane turned solo.
    pub fn lane_solo(&self, model: ModelId) {
        self.count(self.offsets.lanes_solo(model.0), 1);
    }

    /// What this shard adds to the limit of an upstream. A snapshot that is not the current one says 0.
    pub fn admission_limit(&self, upstream: UpstreamId, limit: u32) {
        if let Some(cell) = self.offsets.admission_limit(upstream.0) {
            self.labelled.set(cell, u64::from(limit));
        }
    }

    /// A request got a place at an upstream with a limit.
    pub fn admission_begun(&self, upstream: UpstreamId) {
        self.count(self.offsets.admission_in_flight(upstream.0), 1);
    }

    pub fn admission_ended(&self, upstream: UpstreamId) {
        self.count(self.offsets.admission_in_flight(upstream.0), 1_u64.wrapping_neg());
    }

    /// A request waits for a place.
    pub fn admission_waits(&self, upstream: UpstreamId) {
        self.count(self.offsets.admission_waiting(upstream.0), 1);
    }

    /// It does not any more, however that came.
    pub fn admission_waited(&self, upstream: UpstreamId) {
        self.count(self.offsets.admission_waiting(upstream.0), 1_u64.wrapping_neg());
    }

    /// It got its place after `nanos`.
    pub fn admission_wait(&self, upstream: UpstreamId, nanos: u64) {
        if let Some(cell) = self.offsets.admission_wait(upstream.0) {
            observe(&self.labelled, cell, Scale::Time, nanos);
        }
    }

    /// A call ended.
    pub fn upstream(&self, upstream: UpstreamId, endpoint: u32, outcome: UpstreamOutcome) {
        self.count(self.offsets.upstream_request(upstream.0, endpoint, outcome), 1);
    }

    /// A call is made again.
    pub fn upstream_retry(&self, upstream: UpstreamId) {
        self.count(self.offsets.upstream_retry(upstream.0), 1);
    }

    /// An endpoint was chosen where more than the calls in flight decides.
    pub fn endpoint_chosen(&self, upstream: UpstreamId, why: Why) {
        self.count(self.offsets.endpoint_chosen(upstream.0, why), 1);
    }

    pub fn upstream_connection_opened(&self, upstream: UpstreamId, endpoint: u32) {
        self.count(self.offsets.upstream_connection_opened(upstream.0, endpoint), 1);
    }

    /// This shard holds the endpoint unhealthy until then; [`Instant::ZERO`] when it is restored. Call it when
    /// `Health::handle_failure` or `handle_success` says that something changed.
    pub fn endpoint_unhealthy_until(&self, upstream: UpstreamId, endpoint: u32, until: Instant) {
        if let Some(cell) = self.offsets.unhealthy_until(upstream.0, endpoint) {
            self.labelled.set(cell, until.as_nanos());
        }
    }

    /// A breaker did something; `why` is a number that [`Breakers`](super::Breakers) hands on (0: nothing to say).
    pub fn breaker(&self, upstream: UpstreamId, endpoint: u32, to: BreakerTo, why: u64) {
        self.count(self.offsets.breaker_transition(upstream.0, endpoint, to), 1);
        self.breaker_stands(upstream, endpoint, to);
        if let Some(cell) = self.offsets.breaker_why(upstream.0, endpoint)
            && why > 0
        {
            self.labelled.set(cell, why);
        }
    }

    /// Where a breaker stands that a former snapshot moved.
    pub fn breaker_stands(&self, upstream: UpstreamId, endpoint: u32, at: BreakerTo) {
        if let Some(cell) = self.offsets.breaker_state(upstream.0, endpoint) {
            self.labelled.set(cell, at.index() as u64);
        }
    }

    /// An endpoint asked for a pause.
    pub fn endpoint_paused(&self, upstream: UpstreamId, endpoint: u32) {
        self.count(self.offsets.endpoint_pause(upstream.0, endpoint), 1);
    }

    /// A call is not made again: the budget is used up.
    pub fn retry_refused(&self, upstream: UpstreamId) {
        self.count(self.offsets.retry_refused(upstream.0), 1);
    }

    /// A request for `model` goes on to a fallback.
    pub fn fallback(&self, model: ModelId, reason: FallbackReason) {
        self.count(self.offsets.fallback(model.0, reason), 1);
    }

    /// A second call was made, or won.
    pub fn hedge(&self, model: ModelId, result: HedgeResult) {
        self.count(self.offsets.hedge(model.0, result), 1);
    }

    pub fn connection_opened(&self) {
        self.core.add(const { shard_number(Metric::ConnectionsOpened) }, 1);
        self.core.add(const { shard_number(Metric::Connections) }, 1);
    }

    pub fn connection_closed(&self) {
        self.core.sub(const { shard_number(Metric::Connections) }, 1);
    }

    pub fn exchange_begun(&self) {
        self.core.add(const { shard_number(Metric::ExchangesInFlight) }, 1);
    }

    pub fn exchange_ended(&self) {
        self.core.sub(const { shard_number(Metric::ExchangesInFlight) }, 1);
    }

    /// Exchanges in flight on this shard.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.core.value(const { shard_number(Metric::ExchangesInFlight) })
    }

    /// A connection that was accepted here is served by a less loaded shard.
    pub fn connection_handed_over(&self) {
        self.core.add(const { shard_number(Metric::ConnectionsHandedOver) }, 1);
    }

    pub fn upstream_call_begun(&self) {
        self.core.add(const { shard_number(Metric::UpstreamCallsInFlight) }, 1);
    }

    pub fn upstream_call_ended(&self) {
        self.core.sub(const { shard_number(Metric::UpstreamCallsInFlight) }, 1);
    }

    /// Lanes at home here.
    pub fn lanes(&self, count: u64) {
        self.core.set(const { shard_number(Metric::Lanes) }, count);
    }

    /// Items that wait in the lanes at home here.
    pub fn queued_items(&self, count: u64) {
        self.core.set(const { shard_number(Metric::QueuedItems) }, count);
    }

    /// Requests of this shard that wait for a batch's answer.
    pub fn tickets(&self, count: u64) {
        self.core.set(const { shard_number(Metric::Tickets) }, count);
    }

    /// What the ring has counted since the shard began (totals, not differences).
    pub fn ring_stats(&self, totals: &RingStats) {
        self.core.set(const { shard_number(Metric::Turns) }, totals.turns);
        self.core.set(const { shard_number(Metric::RingEnters) }, totals.enters);
        self.core.set(const { shard_number(Metric::RingEnobufs) }, totals.enobufs);
        self.core.set(const { shard_number(Metric::RingCqOverflows) }, totals.cq_overflows);
        self.core.set(const { shard_number(Metric::StaleCompletions) }, totals.stale_completions);
        self.core.set(const { shard_number(Metric::TaskPanics) }, totals.task_panics);
    }

    /// A flush rang this many peers.
    pub fn doorbells_rung(&self, count: u32) {
        self.core.add(const { shard_number(Metric::DoorbellsRung) }, u64::from(count));
    }

    /// A job went to a home on another shard.
    pub fn cross_shard_job(&self) {
        self.core.add(const { shard_number(Metric::CrossShardJobs) }, 1);
    }

    fn count(&self, cell: Option<usize>, count: u64) {
        if let Some(cell) = cell {
            self.labelled.add(cell, count);
        }
    }
}

fn observe(block: &CounterWriter, histogram: usize, scale: Scale, value: u64) {
    block.add(histogram + scale.bucket(value), 1);
    block.add(histogram + scale.cells() - 1, value);
}
