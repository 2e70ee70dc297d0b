//! What crosses between an origin shard and a home: jobs one way, answers the other, and what the home counts on the way.

use super::key::LaneKey;
use crate::config::{Batching, BatchingMode, ModelId};
use crate::json::{EmbeddingsRequest, Pieces};
use crate::policy::Claim;
use crate::sys::{Instant, Span};
use bytes::Bytes;
use std::time::Duration;

/// Names a waiting exchange on its origin shard. A slot is used again; the generation tells its tenants apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket {
    pub shard: u16,
    pub slot: u32,
    pub generation: u32,
}

/// What is asked of the model. One today; rerank, classify and V2 tensors will join.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    Embeddings,
}

impl Operation {
    /// The label in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Embeddings => "embeddings",
        }
    }
}

/// One client request on its way to a lane's home.
#[derive(Clone, Debug)]
pub struct Job {
    pub ticket: Ticket,
    /// The configuration snapshot the origin routed with. Part of the lane key: snapshots never share a call.
    pub generation: u32,
    pub model: ModelId,
    pub operation: Operation,
    /// Whose it is: decides who is next in a lane that tells classes and tenants apart. No part of the lane key: all share calls.
    pub claim: Claim,
    /// [`super::lane_hash`] of [`Job::key`].
    pub hash: u64,
    /// The `authorization` value that travels upstream; empty when none is forwarded. Part of the lane key.
    pub credential: Bytes,
    /// The end-to-end request fields as they go upstream, an empty line, the client's body. Sent unchanged when the job travels
    /// alone.
    pub message: Bytes,
    /// Where the body lies in `message`.
    pub body: Span,
    /// Its spans are relative to the body.
    pub request: EmbeddingsRequest,
    /// When the origin had read the request.
    pub arrived: Instant,
    /// When the client gets a failure instead of an answer.
    pub deadline: Instant,
}

impl Job {
    /// What must be equal for two jobs to share a call.
    #[must_use]
    pub fn key(&self) -> LaneKey<'_> {
        let body = self.body.of(&self.message);
        LaneKey {
            generation: self.generation,
            model: self.model,
            operation: self.operation,
            kind: self.request.kind,
            credential: &self.credential,
            before: &body[..self.request.input.start as usize],
            after: &body[self.request.input.end()..],
        }
    }

    pub(super) fn items(&self) -> u32 {
        u32::try_from(self.request.items.len()).unwrap_or(u32::MAX)
    }

    /// Item `index` as a span of the message.
    pub(super) fn item(&self, index: u32) -> Span {
        let item = self.request.items[index as usize];
        Span { start: self.body.start + item.start, len: item.len }
    }
}

/// How a lane's jobs are batched: the model's settings and the number of endpoints. Sent along with every job, so that a home
/// needs no configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneRules {
    pub mode: BatchingMode,
    /// Items per call at most.
    pub max_items: u32,
    /// Body bytes per merged call at most.
    pub max_bytes: u64,
    /// Ceiling on holding a ready batch below the in-flight limit; zero: none.
    pub max_delay: Duration,
    /// Calls in flight per endpoint; the ceiling of what is learned where the upstream batches by itself.
    pub in_flight: u32,
    /// Items waiting per lane at most.
    pub max_queue_items: u32,
    /// Endpoints of the upstream; calls name one by its index.
    pub endpoints: u32,
    /// Classes and tenants are told apart by the jobs' claims; else first come, first served.
    pub fair: bool,
}

impl LaneRules {
    #[must_use]
    pub fn new(batching: &Batching, endpoints: u32, fair: bool) -> LaneRules {
        LaneRules {
            mode: batching.mode,
            max_items: batching.max_items.max(1),
            max_bytes: batching.max_bytes,
            max_delay: batching.max_delay,
            in_flight: batching.in_flight.max(1),
            max_queue_items: batching.max_queue_items.max(1),
            endpoints: endpoints.max(1),
            fair,
        }
    }
}

/// How a job ended. Exactly one per job that was not cancelled.
#[derive(Clone, Debug)]
pub struct Answer {
    pub ticket: Ticket,
    pub outcome: Outcome,
    /// Items in the call that carried the job (the largest, when it was cut over several); 0 when none did.
    pub batch_items: u32,
    /// From arrival until the first call with a part of it left; the whole wait when none did.
    pub waited: Duration,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    Done {
        status: u16,
        /// End-to-end field lines, each with its CRLF, without `content-length`.
        fields: Bytes,
        /// Slices of the upstream's body and a little glue.
        body: Pieces,
    },
    Failed(Failure),
}

/// Why there is no answer. `shard::respond` gives each a status and a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No endpoint took the call within the bounded tries.
    UpstreamUnreachable,
    /// The connection died in the middle of the call, twice when it could be retried.
    UpstreamBroken,
    /// The upstream did not answer in time. Never retried: it is still computing.
    UpstreamTimeout,
    /// The job's own deadline passed, queued or sent.
    DeadlineExceeded,
    /// The lane or the home holds all it may. The time is a guess at when there is room.
    QueueFull { retry_after: Duration },
    /// Its tenant has more waiting in the lane than its share, and this job is too many or would be too late. The time as above.
    TenantShare { retry_after: Duration },
    /// It would wait in its lane beyond its deadline, by the learned cost. The time is a guess at when there is room.
    PredictedLate { retry_after: Duration },
    /// The upstream said 429 or 503 until the tries or the time ran out.
    Overloaded { retry_after: Duration },
    /// The upstream's answer is larger than it may be.
    AnswerTooLarge,
}

impl Failure {
    /// The label in metrics and `x-headrace-error`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Failure::UpstreamUnreachable => "upstream_unreachable",
            Failure::UpstreamBroken => "upstream_broken",
            Failure::UpstreamTimeout => "upstream_timeout",
            Failure::DeadlineExceeded => "deadline_exceeded",
            Failure::QueueFull { .. } => "queue_full",
            Failure::TenantShare { .. } => "tenant_share",
            Failure::PredictedLate { .. } => "predicted_late",
            Failure::Overloaded { .. } => "upstream_overloaded",
            Failure::AnswerTooLarge => "answer_too_large",
        }
    }
}

/// Why a batch left when it did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LeaveReason {
    /// Nothing was in flight at the endpoint.
    Idle,
    /// A full batch waited and there was a slot.
    Full,
    /// The running batch is about to finish, by the learned cost line.
    JustInTime,
    /// The upstream batches by itself and there was a slot.
    Slot,
    /// `max_delay` ran out.
    Delay,
    /// Looking for the item that makes a call fail.
    Isolation,
    /// The lane does not merge (for now).
    Solo,
}

impl LeaveReason {
    /// The label in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LeaveReason::Idle => "idle",
            LeaveReason::Full => "full",
            LeaveReason::JustInTime => "jit",
            LeaveReason::Slot => "slot",
            LeaveReason::Delay => "delay",
            LeaveReason::Isolation => "isolation",
            LeaveReason::Solo => "solo",
        }
    }
}

/// What happened, for counters and the log. Drained by `Home::poll_event`; when nobody drains, the oldest are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A call left with this many items of this many jobs.
    BatchLeft { generation: u32, model: ModelId, operation: Operation, reason: LeaveReason, items: u32, jobs: u32 },
    /// A job's first part left after this wait.
    JobLeft { generation: u32, model: ModelId, operation: Operation, waited: Duration },
    /// A merged call failed in a way that may be one item's fault; the search began.
    Poisoned { generation: u32, model: ModelId, operation: Operation },
    /// The upstream answered a merged call wrongly; the lane sends its jobs one by one for this long.
    WentSolo { generation: u32, model: ModelId, operation: Operation, period: Duration },
    /// The upstream takes at most this many items a call.
    LearnedItems { generation: u32, model: ModelId, operation: Operation, items: u32 },
    /// A client left before its job did.
    CancelledQueued,
    /// A client left while its job was with the upstream.
    CancelledSent,
    /// A cancel or an outcome came for something that had ended already; harmless.
    Stale,
    /// A job went past its lane because the home has no room for another lane.
    LanesFull,
}

const _: () = {
    const fn crosses_shards<T: Send>() {}
    crosses_shards::<Job>();
    crosses_shards::<Answer>();
};
