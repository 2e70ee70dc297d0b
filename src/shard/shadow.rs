//! Copies of a model's requests for its shadow. A copy runs beside its request as a task of its own, bounded in number and size; its
//! answer is read away. Nothing of it reaches the client: what goes wrong with it is counted and no more.

use std::rc::Rc;

use bytes::Bytes;
use smallvec::smallvec;

use super::Shard;
use super::exchange::Request;
use super::forward::{ForwardBody, Rendered, message};
use super::route::Plan;
use super::snapshot::Snapshot;
use super::upstream::{CallError, Channel, InFlight, outcome_of};
use crate::config::{ModelId, UpstreamId, limits};
use crate::http::{BodyDecoder, Method};
use crate::metrics::{ShadowOutcome, Target, UpstreamOutcome};
use crate::policy::Failure;
use crate::sys::{Instant, Shared};

/// Starts a copy of the request when its model has a shadow, the draw says so and there is room.
pub(super) fn copy(shard: &Rc<Shard>, snapshot: &Rc<Snapshot>, request: &Request, plan: &Plan) {
    let Target::Model(model) = request.target else { return };
    let config = snapshot.config.model(model);
    let Some(shadow) = &config.shadow else { return };
    if shard.random() % 100 >= shadow.percent {
        return;
    }
    // All arms of a split model share its places.
    let model = config.arm_of.unwrap_or(model);
    let (Some(flying), Some((rendered, body))) = (snapshot.shadows.get(model.0 as usize), copied(plan)) else {
        return snapshot.metrics.shadow_request(model, ShadowOutcome::Unfit);
    };
    if flying.get() >= shadow.max_in_flight {
        return snapshot.metrics.shadow_request(model, ShadowOutcome::Full);
    }
    let place = Place::take(snapshot, model);
    let (shard_of_task, upstream, method) = (Rc::clone(shard), shadow.upstream, request.method);
    shard.rt.spawn(async move {
        let shard = shard_of_task;
        let outcome = match send(&shard, &place.snapshot, upstream, method, &rendered, &body).await {
            Some(status @ ..400) if status >= 100 => ShadowOutcome::Ok,
            Some(400..=499) => ShadowOutcome::ClientError,
            _ => ShadowOutcome::Error,
        };
        place.snapshot.metrics.shadow_request(place.model, outcome);
    });
}

/// A copy in flight.
struct Place {
    snapshot: Rc<Snapshot>,
    model: ModelId,
}

impl Place {
    fn take(snapshot: &Rc<Snapshot>, model: ModelId) -> Place {
        let place = Place { snapshot: Rc::clone(snapshot), model };
        place.change(|count| count + 1);
        place
    }

    fn change(&self, change: impl FnOnce(u32) -> u32) {
        if let Some(cell) = self.snapshot.shadows.get(self.model.0 as usize) {
            cell.set(change(cell.get()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.change(|count| count.saturating_sub(1));
    }
}

/// The message as it goes up, marked as a copy; `None` when its body is not here whole or too large.
fn copied(plan: &Plan) -> Option<(Rendered, ForwardBody)> {
    let fits = |len: usize| len as u64 <= limits::SHADOW_BODY_BYTES_MAX;
    let (rendered, body) = match plan {
        Plan::Own(_) | Plan::Upgrade(_) => return None,
        Plan::Forward(plan) => {
            let body = match &plan.body {
                ForwardBody::Small => ForwardBody::Small,
                ForwardBody::Held(pieces) if fits(pieces.iter().map(|piece| piece.len()).sum()) => {
                    ForwardBody::Held(pieces.iter().map(Shared::detached).collect())
                }
                ForwardBody::Held(_) | ForwardBody::Streamed => return None,
            };
            (&plan.rendered, body)
        }
        Plan::Coalesce(plan) if fits(plan.body.len()) => {
            (&plan.rendered, ForwardBody::Held(smallvec![Shared::Bytes(Bytes::copy_from_slice(&plan.body))]))
        }
        Plan::Coalesce(_) => return None,
    };
    let (before, behind) = rendered.bytes.split_at(rendered.host_at);
    let bytes = [before, MARK, behind].concat();
    Some((Rendered { bytes, host_at: rendered.host_at }, body))
}

/// The status of the shadow's answer, once that was read to its end.
async fn send(
    shard: &Shard,
    snapshot: &Rc<Snapshot>,
    upstream: UpstreamId,
    method: Method,
    rendered: &Rendered,
    body: &ForwardBody,
) -> Option<u16> {
    let config = snapshot.config.upstream(upstream);
    let by = shard.rt.now() + config.total_timeout;
    let endpoint = snapshot.upstream(upstream).pick(shard, snapshot, upstream, None, None, false)?;
    let mut fresh = false;
    loop {
        let call = InFlight::begin(snapshot, upstream, endpoint, shard.rt.now());
        let parts = message(shard, rendered, &config.endpoints[endpoint as usize].authority, body);
        match answered(shard, snapshot, &call, fresh, method, parts, by).await {
            Ok(channel) => {
                let status = channel.incoming.head.status;
                call.finish(shard, outcome_of(status));
                snapshot.upstream(upstream).check_in(endpoint, channel, shard.rt.now());
                return Some(status);
            }
            Err(error) => {
                call.finish(shard, error.outcome);
                // A pooled connection that the server had closed meanwhile is nobody's fault.
                if error.failure != Failure::StaleConnection || fresh {
                    return None;
                }
                fresh = true;
            }
        }
    }
}

/// Sends the copy and reads its answer away.
async fn answered(
    shard: &Shard,
    snapshot: &Snapshot,
    call: &InFlight,
    fresh: bool,
    method: Method,
    parts: crate::sys::Parts,
    by: Instant,
) -> Result<Channel, CallError> {
    let mut channel = Channel::open(shard, snapshot, call, fresh).await?;
    channel.start_send(parts);
    let Channel { socket, incoming } = &mut channel;
    let first_byte_by = by.min(shard.rt.now() + snapshot.config.upstream(call.upstream()).first_byte_timeout);
    incoming.read_head(&shard.rt, socket, method, first_byte_by).await?;
    call.answered(shard.rt.now(), incoming.head.status);
    let mut decoder = BodyDecoder::for_response(incoming.head.framing);
    let head_len = incoming.head.head_len;
    incoming.input.consume(&shard.rt, head_len);
    loop {
        while !incoming.input.is_empty() && !decoder.is_done() {
            let bad = |_| CallError::new(Failure::BadAnswer, UpstreamOutcome::BadAnswer);
            let step = decoder.handle_bytes(incoming.input.bytes()).map_err(bad)?;
            incoming.input.consume(&shard.rt, step.consumed);
        }
        if decoder.is_done() {
            return Ok(channel);
        }
        if !incoming.receive_or_end(&shard.rt, socket, by, UpstreamOutcome::TotalTimeout).await? {
            decoder.handle_eof().map_err(|_| CallError::new(Failure::Transport, UpstreamOutcome::Transport))?;
        }
    }
}

/// Stands behind the authority, in front of the line end of the `host` field.
const MARK: &[u8] = b"\r\nx-headrace-shadow: 1";
