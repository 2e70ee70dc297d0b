//! A second call, to another endpoint, when the first one takes long: the first answer wins, the other call is closed. Only for calls
//! that may be made twice, whose body is held and whose answer is no stream. When and how often is policy's decision.

use std::pin::{Pin, pin};
use std::rc::Rc;

use super::Shard;
use super::connection::{Connection, client_gone};
use super::error::Error;
use super::exchange::Request;
use super::forward::{ForwardPlan, Stop, message};
use super::snapshot::Snapshot;
use super::upstream::{CallError, Channel, InFlight};
use crate::config::ModelId;
use crate::http::Method;
use crate::metrics::{HedgeResult, UpstreamOutcome};
use crate::policy::Hedger;
use crate::runtime::{Either, race};
use crate::sys::Instant;

/// One try that may become two. `call` is the one whose answer came, or the last that failed; the other is over.
#[expect(clippy::too_many_arguments, reason = "the exchange's state, the plan and the try, as in forward")]
pub(super) async fn call_hedged(
    shard: &Shard,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &Request,
    plan: &ForwardPlan,
    call: &mut InFlight,
    model: ModelId,
    by: Instant,
) -> Result<Channel, Stop> {
    let Connection { socket, input, .. } = &mut *connection;
    input.settle(&shard.rt);
    let answered = either(shard, snapshot, request.method, plan, call, model, by);
    match race(answered, client_gone(shard, socket, input)).await {
        Either::First(answered) => answered.map_err(Stop::Upstream),
        Either::Second(()) => Err(Stop::Exchange(Error::ClientGone)),
    }
}

async fn either(
    shard: &Shard,
    snapshot: &Rc<Snapshot>,
    method: Method,
    plan: &ForwardPlan,
    call: &mut InFlight,
    model: ModelId,
    by: Instant,
) -> Result<Channel, CallError> {
    let began = shard.rt.now();
    let hedger = || snapshot.hedgers[model.0 as usize].borrow_mut();
    let Some(after) = hedger().as_mut().and_then(Hedger::handle_call) else {
        let answered = one(shard, snapshot, method, plan, call, model, by).await;
        learn(shard, snapshot, model, began, &answered);
        return answered;
    };
    let mut second = None;
    let raced = {
        let mut first = pin!(one(shard, snapshot, method, plan, call, model, by));
        if let Either::First(answered) = race(first.as_mut(), shard.rt.sleep_until(began + after)).await {
            Raced { answered, second_won: false, lost: None }
        } else {
            let upstream = snapshot.upstream(plan.upstream);
            let other = upstream
                .pick(shard, snapshot, plan.upstream, plan.steered.as_deref(), Some(call.endpoint), true)
                .filter(|other| *other != call.endpoint);
            match other.filter(|_| hedger().as_mut().is_some_and(Hedger::take)) {
                None => Raced { answered: first.await, second_won: false, lost: None },
                Some(other) => {
                    snapshot.metrics.hedge(model, HedgeResult::Sent);
                    let begun = second.insert(InFlight::begin(snapshot, plan.upstream, other, shard.rt.now()));
                    better_of(first, pin!(one(shard, snapshot, method, plan, begun, model, by))).await
                }
            }
        }
    };
    let Raced { answered, second_won, lost } = raced;
    if let Some(second) = second {
        if second_won && answered.is_ok() {
            snapshot.metrics.hedge(model, HedgeResult::Won);
        }
        let other = if second_won { std::mem::replace(call, second) } else { second };
        // One that did not fail is dropped: given up, as its connection was with its future.
        if let Some(outcome) = lost {
            other.finish(shard, outcome);
        }
    }
    learn(shard, snapshot, model, began, &answered);
    answered
}

/// How two calls ended.
struct Raced {
    answered: Result<Channel, CallError>,
    second_won: bool,
    /// How the other one failed, if it did.
    lost: Option<UpstreamOutcome>,
}

/// The first answer of the two; a failure only when both fail.
async fn better_of<F, S>(mut first: Pin<&mut F>, mut second: Pin<&mut S>) -> Raced
where
    F: Future<Output = Result<Channel, CallError>>,
    S: Future<Output = Result<Channel, CallError>>,
{
    match race(first.as_mut(), second.as_mut()).await {
        Either::First(Ok(channel)) => Raced { answered: Ok(channel), second_won: false, lost: None },
        Either::First(Err(error)) => Raced { answered: second.await, second_won: true, lost: Some(error.outcome) },
        Either::Second(Ok(channel)) => Raced { answered: Ok(channel), second_won: true, lost: None },
        Either::Second(Err(error)) => Raced { answered: first.await, second_won: false, lost: Some(error.outcome) },
    }
}

fn learn(shard: &Shard, snapshot: &Snapshot, model: ModelId, began: Instant, answered: &Result<Channel, CallError>) {
    if answered.is_ok()
        && let Some(hedger) = snapshot.hedgers[model.0 as usize].borrow_mut().as_mut()
    {
        hedger.handle_latency(shard.rt.now().since(began));
    }
}

/// One call, up to its answer's head.
async fn one(
    shard: &Shard,
    snapshot: &Snapshot,
    method: Method,
    plan: &ForwardPlan,
    call: &InFlight,
    model: ModelId,
    by: Instant,
) -> Result<Channel, CallError> {
    let config = snapshot.config.upstream(plan.upstream);
    let mut channel = Channel::open(shard, snapshot, call, false).await?;
    let authority = &config.endpoints[call.endpoint as usize].authority;
    channel.start_send(message(shard, &plan.rendered, authority, &plan.body));
    let first_byte_by = by.min(shard.rt.now() + snapshot.config.model(model).timeouts.first_byte);
    let began = shard.rt.now();
    let headed = channel.incoming.read_head(&shard.rt, &channel.socket, method, first_byte_by).await;
    snapshot.upstream(plan.upstream).heard(shard, call.endpoint, &headed, began, &channel);
    headed?;
    call.answered(shard.rt.now(), channel.incoming.head.status);
    Ok(channel)
}
