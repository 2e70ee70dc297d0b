//! A model with several targets: which of them serves a request, and how it did. The shares come from control, the choice among them
//! is policy's.

use super::Shard;
use super::exchange::Request;
use super::snapshot::Snapshot;
use crate::config::ModelId;
use crate::http::RequestHead;
use crate::metrics::{SplitOutcome, Target};
use crate::policy::sticky_point;
use crate::sys::Instant;

/// The arm of `model` for a request whose head lies in `bytes`; the model itself when it is not split.
pub(super) fn arm(shard: &Shard, snapshot: &Snapshot, model: ModelId, head: &RequestHead, bytes: &[u8]) -> ModelId {
    if !snapshot.splits {
        return model;
    }
    let config = snapshot.config.model(model);
    let Some(split) = &config.split else { return model };
    let field = |name: &str| head.fields.iter().find(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
    let sticky = split.sticky.as_deref().and_then(field).map(|field| sticky_point(&config.name, field.value.of(bytes)));
    split.arm_at(sticky.unwrap_or_else(|| shard.random()), |arm| snapshot.dials.value(arm.0 as usize))
}

/// Counts that an arm failed a request which a fallback serves instead.
pub(super) fn record_failure(shard: &Shard, snapshot: &Snapshot, request: &Request) {
    count(shard, snapshot, request, 500);
}

/// Counts how an arm served a request. A client that left says nothing about it, nor does what a fallback answered.
pub(super) fn record(shard: &Shard, snapshot: &Snapshot, request: &Request, status: u16) {
    if !request.fell_back() {
        count(shard, snapshot, request, status);
    }
}

fn count(shard: &Shard, snapshot: &Snapshot, request: &Request, status: u16) {
    let Target::Model(model) = request.target else { return };
    let config = snapshot.config.model(model);
    if config.split.is_none() && config.arm_of.is_none() {
        return;
    }
    let outcome = match status {
        499 => return,
        400..=498 => SplitOutcome::ClientError,
        500.. => SplitOutcome::Error,
        _ => SplitOutcome::Ok,
    };
    let headed = if request.headed == Instant::ZERO { shard.rt.now() } else { request.headed };
    snapshot.metrics.split_request(model, outcome, super::exchange::nanos(headed.since(request.began)));
}
