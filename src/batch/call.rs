//! Upstream calls: what a home asks its shard to send, and what comes of it.

use crate::config::ModelId;
use crate::json::Pieces;
use crate::sys::Instant;
use bytes::Bytes;
use std::time::Duration;

/// Names a call in flight. Slots are used again; the generation tells their tenants apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// A call to send now.
#[derive(Clone, Debug)]
pub struct Call {
    pub id: CallId,
    pub model: ModelId,
    /// The configuration snapshot of its jobs: the model and the endpoints are looked up there.
    pub generation: u32,
    /// Index into the upstream's endpoints.
    pub endpoint: u32,
    /// The latest of its jobs' deadlines: nobody waits for it any longer then.
    pub deadline: Instant,
    pub body: CallBody,
}

#[derive(Clone, Debug)]
pub enum CallBody {
    /// A client's own request as it came: fields, empty line, body.
    Alone { message: Bytes },
    /// A body put together from several jobs, `len` bytes in all; the shard writes the fields. No answer encoding may be asked
    /// for but identity.
    Merged { body: Pieces, len: usize, credential: Bytes },
}

/// What came of a call.
#[derive(Clone, Debug)]
pub enum CallOutcome {
    Answered {
        status: u16,
        /// End-to-end field lines, each with its CRLF, without `content-length`.
        fields: Bytes,
        body: Bytes,
        /// From `retry-after`, when it was there and readable.
        retry_after: Option<Duration>,
    },
    /// Not connected, or nothing was sent: the upstream knows nothing of it.
    NotSent,
    /// The connection died after something was sent and before the answer was whole.
    Broken,
    /// No answer in time; the upstream may still be computing.
    TimedOut,
    /// The answer is larger than may be held.
    TooLarge,
}
