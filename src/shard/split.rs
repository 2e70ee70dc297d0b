//! A model with several targets: which of them serves a request, and how it did. The shares come from control; the choice among them,
//! and which answers are bad by a rollout's metric, are policy's.

use super::Shard;
use super::exchange::Request;
use super::snapshot::Snapshot;
use super::upstream::Incoming;
use crate::config::{FinishReason, Measure, ModelId};
use crate::http::RequestHead;
use crate::llm::{Finish, StreamFacts};
use crate::metrics::{MeasureOutcome, SplitOutcome, Target};
use crate::policy::{StreamSeen, sticky_point};
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

/// Measures the head of an answer that is about to be passed on.
pub(super) fn measure_head(snapshot: &Snapshot, request: &Request, incoming: &Incoming) {
    let Some((model, measure)) = metric(snapshot, request).filter(|_| incoming.head.status < 400) else { return };
    let bytes = incoming.input.bytes();
    let fields = incoming.head.fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
    note(snapshot, model, measure.of_fields(fields));
}

/// Measures a stream that is over, by what was seen of its times and what it said; `is_whole`: it came to its end.
pub(super) fn measure_stream(snapshot: &Snapshot, request: &Request, facts: &StreamFacts, is_whole: bool, times: StreamSeen) {
    let Some((model, measure)) = metric(snapshot, request) else { return };
    let seen = StreamSeen {
        output_tokens: facts.usage.and_then(|usage| usage.output).filter(|_| is_whole),
        finish: finish(facts).filter(|_| is_whole),
        ..times
    };
    note(snapshot, model, measure.of_stream(&seen));
}

/// The arm that serves a request, and what its rollout compares; none for what a fallback serves.
fn metric<'a>(snapshot: &'a Snapshot, request: &Request) -> Option<(ModelId, &'a Measure)> {
    let Target::Model(model) = request.target else { return None };
    if request.fell_back() {
        return None;
    }
    let config = snapshot.config.model(model);
    let split = config.arm_of.map_or(config, |first| snapshot.config.model(first)).split.as_deref()?;
    Some((model, &split.rollout.as_ref()?.metric.as_ref()?.measure))
}

fn note(snapshot: &Snapshot, model: ModelId, is_bad: Option<bool>) {
    if let Some(is_bad) = is_bad {
        snapshot.metrics.split_measured(model, if is_bad { MeasureOutcome::Bad } else { MeasureOutcome::Good });
    }
}

fn finish(facts: &StreamFacts) -> Option<FinishReason> {
    if facts.error.is_some() {
        return Some(FinishReason::Error);
    }
    Some(match facts.finish? {
        Finish::Stop => FinishReason::Stop,
        Finish::Length => FinishReason::Length,
        Finish::ToolCalls => FinishReason::ToolCalls,
        Finish::Filtered => FinishReason::ContentFilter,
        Finish::Other => FinishReason::Other,
    })
}
