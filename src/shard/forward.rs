//! Dispatch, way 1: straight to an endpoint, body and answer passed on as they come. Tries again where policy says it is safe. The
//! client is watched all the while: when it leaves, the call is dropped and with it the upstream connection.

use std::rc::Rc;

use smallvec::SmallVec;

use super::body::{RequestBody, Whole};
use super::connection::{Connection, client_gone};
use super::error::Error;
use super::exchange::{Answered, Request, nanos};
use super::hedge::call_hedged;
use super::relay::{Outgoing, relay, take_body};
use super::retry::{Judged, Tries, judge};
use super::snapshot::Snapshot;
use super::stream;
use super::upstream::{CallError, Channel, InFlight, outcome_of};
use super::wish::{ORCA_REQUEST, Steered};
use super::{Shard, admit};
use crate::config::UpstreamId;
use crate::http::{Framing, LAST_CHUNK};
use crate::metrics::{Phase, UpstreamOutcome};
use crate::policy::{Attempt, Failure, Retry, decide};
use crate::runtime::{Either, Rt, Socket, race};
use crate::sys::{Instant, Parts, Shared};

/// A request's head as it goes up, but for the endpoint's authority; a small body stands behind it.
pub(super) struct Rendered {
    /// Request line, "host: ", line end, fields, empty line, and the body when it is [`ForwardBody::Small`].
    pub(super) bytes: Vec<u8>,
    /// Where the authority belongs.
    pub(super) host_at: usize,
}

impl Rendered {
    /// Has the engine tell its load with the answer, where that is wanted. Before a body stands behind the head.
    pub(super) fn ask_for_load(&mut self, steered: Option<&Steered>) {
        if steered.is_some_and(|steered| steered.asks_load) {
            self.bytes.truncate(self.bytes.len() - 2);
            self.bytes.extend_from_slice(ORCA_REQUEST.as_bytes());
            self.bytes.extend_from_slice(b": TEXT\r\n\r\n");
        }
    }

    /// The fields and the empty line (and the small body).
    pub(super) fn fields(&self) -> &[u8] {
        &self.bytes[self.host_at + 2..]
    }
}

pub(super) enum ForwardBody {
    /// Stands behind the head already (or there is none).
    Small,
    /// Sent behind the head from where it lies.
    Held(SmallVec<[Shared; 1]>),
    Streamed,
}

pub(super) struct ForwardPlan {
    pub(super) upstream: UpstreamId,
    pub(super) rendered: Rendered,
    pub(super) body: ForwardBody,
    /// For upstreams that ask for it.
    pub(super) steered: Option<Box<Steered>>,
}

/// Why a try ended without an answer to relay.
pub(super) enum Stop {
    Upstream(CallError),
    Exchange(Error),
}

impl ForwardPlan {
    /// For a body that was read whole.
    pub(super) fn whole(
        shard: &Shard,
        upstream: UpstreamId,
        mut rendered: Rendered,
        whole: Whole,
        steered: Option<Box<Steered>>,
    ) -> ForwardPlan {
        rendered.ask_for_load(steered.as_deref());
        if whole.len() > COPY_MAX {
            let body = ForwardBody::Held(whole.into_shared(&shard.rt));
            return ForwardPlan { upstream, rendered, body, steered };
        }
        whole.pieces().iter().for_each(|piece| rendered.bytes.extend_from_slice(piece));
        if let Whole::Gathered(vec) = whole {
            shard.rt.keep_vec(vec);
        }
        ForwardPlan { upstream, rendered, body: ForwardBody::Small, steered }
    }

    /// Nothing of the request is sent again: an answer is passed on.
    fn let_go(&mut self, rt: &Rt) {
        rt.keep_vec(std::mem::take(&mut self.rendered.bytes));
        if matches!(self.body, ForwardBody::Held(_)) {
            self.body = ForwardBody::Small;
        }
    }
}

/// Calls the upstream and passes its answer on, once the request has its place at an upstream with a limit; the place is given back at
/// the end.
pub(super) async fn admitted(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    plan: &mut ForwardPlan,
) -> Result<Answered, Error> {
    admit::admit(shard, snapshot, connection, request, plan.upstream, |request| admit::estimate(request, plan)).await?;
    request.phase = Phase::Call;
    let by = shard.rt.now() + snapshot.timeouts(request.target, plan.upstream).total;
    let (channel, call) = call(shard, snapshot, connection, request, plan, by).await.inspect_err(|_| request.permit = None)?;
    let answered = relay(shard, snapshot, connection, request, channel, call, by).await;
    request.permit = None;
    answered
}

/// Tries until there is an answer to pass on, of which the head is here.
async fn call(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    plan: &mut ForwardPlan,
    by: Instant,
) -> Result<(Channel, InFlight), Error> {
    let mut tries = Tries::begin(snapshot, request, plan.upstream);
    loop {
        let endpoint = tries.pick(shard, snapshot, request, plan.steered.as_deref())?;
        let mut call = InFlight::begin(snapshot, plan.upstream, endpoint, shard.rt.now());
        tries.attempt.calls += 1;
        let tried = match request.hedged {
            // Two calls at once are rare and large: not a part of every connection's state.
            Some(model) if tries.fresh.is_none() => {
                Box::pin(call_hedged(shard, snapshot, connection, request, plan, &mut call, model, by)).await
            }
            _ => call_once(shard, snapshot, connection, request, plan, &call, tries.fresh.is_some(), by).await,
        };
        let endpoint = call.endpoint;
        tries.attempt.body_held = !matches!(plan.body, ForwardBody::Streamed) || !request.body.begun;
        let failed = match refused(snapshot, plan.upstream, tried, &tries.attempt) {
            Ok(mut channel) => {
                let status = channel.incoming.head.status;
                admit::answered(shard, request, status);
                let judged = match status {
                    0..400 => Ok(Judged::Relay),
                    _ => judge(shard, snapshot, connection, request, &mut channel, &call, tries.attempt, by).await,
                };
                match judged {
                    Ok(Judged::Relay) => {
                        if let Some(steered) = &plan.steered {
                            snapshot.upstream(plan.upstream).took(steered, endpoint, &mut channel);
                        }
                        plan.let_go(&shard.rt);
                        return Ok((channel, call));
                    }
                    Ok(Judged::Again(failure, asked)) => {
                        call.finish(shard, outcome_of(status));
                        (failure, asked)
                    }
                    Err(error) => {
                        let gone = matches!(error, Error::ClientGone);
                        call.finish(shard, if gone { UpstreamOutcome::Cancelled } else { outcome_of(status) });
                        return Err(error);
                    }
                }
            }
            Err(Stop::Exchange(error)) => {
                call.finish(shard, UpstreamOutcome::Cancelled);
                return Err(error);
            }
            Err(Stop::Upstream(error)) => {
                call.finish(shard, error.outcome);
                admit::failed(shard, request, error.failure == Failure::Timeout);
                if !tries.go_on_after(shard, snapshot, endpoint, &error)? {
                    continue;
                }
                (error.failure, None)
            }
        };
        tries.rest(shard, snapshot, connection, endpoint, failed, by).await?;
    }
}

/// One try, up to the answer's head.
#[expect(clippy::too_many_arguments, reason = "the exchange's state, the plan and the try: bundling them would hide what a try may change")]
async fn call_once(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &mut Connection,
    request: &mut Request,
    plan: &ForwardPlan,
    call: &InFlight,
    fresh: bool,
    by: Instant,
) -> Result<Channel, Stop> {
    let Connection { socket, input, .. } = &mut *connection;
    // The beginning of a streamed body may lie here for as long as connecting takes.
    input.settle(&shard.rt);
    let opened = match race(Channel::open(shard, snapshot, call, fresh), client_gone(shard, socket, input)).await {
        Either::First(opened) => opened,
        Either::Second(()) => return Err(Stop::Exchange(Error::ClientGone)),
    };
    let mut channel = opened.map_err(Stop::Upstream)?;
    let config = snapshot.config.upstream(plan.upstream);
    let authority = &config.endpoints[call.endpoint as usize].authority;
    let message = message(shard, &plan.rendered, authority, &plan.body);
    let is_headed = match plan.body {
        ForwardBody::Streamed => stream_up(shard, connection, request, &mut channel, message, by).await?,
        ForwardBody::Small | ForwardBody::Held(_) => {
            channel.start_send(message);
            false
        }
    };
    let timeouts = snapshot.timeouts(request.target, plan.upstream);
    let first_byte_by = by.min(shard.rt.now() + timeouts.first_byte);
    let Connection { socket, input, .. } = &mut *connection;
    let began = shard.rt.now();
    let headed = if is_headed {
        Ok(())
    } else {
        let head = channel.incoming.read_head(&shard.rt, &channel.socket, request.method, first_byte_by);
        match race(head, client_gone(shard, socket, input)).await {
            Either::First(headed) => headed,
            Either::Second(()) => return Err(Stop::Exchange(Error::ClientGone)),
        }
    };
    if headed.is_ok() {
        call.answered(shard.rt.now(), channel.incoming.head.status);
    }
    snapshot.metrics.phase(Phase::Call, nanos(shard.rt.now().since(began)));
    // An answer that came before its request was sent says nothing of how long answers take.
    if !is_headed {
        snapshot.upstream(plan.upstream).heard(shard, call.endpoint, &headed, began, &channel);
    }
    headed.map_err(Stop::Upstream)?;
    if stream::is_event_stream(&channel.incoming) {
        Box::pin(stream::open(shard, snapshot, connection, request, &mut channel, first_byte_by, timeouts.stream_idle)).await?;
    }
    Ok(channel)
}

/// A stream whose first event is an error is a failed try, where another endpoint may be tried; else it is passed on as it is.
fn refused(snapshot: &Snapshot, upstream: UpstreamId, tried: Result<Channel, Stop>, attempt: &Attempt) -> Result<Channel, Stop> {
    let Some(error) = tried.as_ref().ok().and_then(stream::refusal) else { return tried };
    let others = snapshot.config.upstream(upstream).endpoints.len() > 1;
    if others && decide(error.failure, *attempt) != Retry::No { Err(Stop::Upstream(error)) } else { tried }
}

/// The head, and the body as far as it is here.
pub(super) fn message(shard: &Shard, rendered: &Rendered, authority: &str, body: &ForwardBody) -> Parts {
    let mut out = shard.rt.take_vec();
    let (line, rest) = rendered.bytes.split_at(rendered.host_at);
    out.reserve(rendered.bytes.len() + authority.len());
    out.extend_from_slice(line);
    out.extend_from_slice(authority.as_bytes());
    out.extend_from_slice(rest);
    let mut parts = Parts::from(out);
    if let ForwardBody::Held(pieces) = body {
        pieces.iter().for_each(|piece| parts.push(piece.clone()));
    }
    parts
}

/// Passes the client's body on as it comes, until it is over or the server answers before: then the rest is not wanted, and
/// neither connection can be used again. True when the answer's head was read. (The head that lies in `channel` says nothing about
/// that: it may be an interim answer's.)
fn stream_up(
    shard: &Shard,
    connection: &mut Connection,
    request: &mut Request,
    channel: &mut Channel,
    head: Parts,
    by: Instant,
) -> impl Future<Output = Result<bool, Stop>> {
    async move {
        let method = request.method;
        let Channel { socket, incoming } = channel;
        match race(pump(shard, connection, &mut request.body, head, socket), incoming.read_head(&shard.rt, socket, method, by)).await {
            Either::First(Ok(())) => Ok(false),
            Either::First(Err(stop)) => Err(stop),
            Either::Second(Ok(())) => {
                // The last bytes may have been sent and answered before we hear that they were sent: the client's side is clean then.
                request.keep_alive &= request.body.is_done();
                incoming.head.keep_alive = false;
                Ok(true)
            }
            Either::Second(Err(error)) => Err(Stop::Upstream(error)),
        }
    }
}

fn pump(
    shard: &Shard,
    connection: &mut Connection,
    body: &mut RequestBody,
    head: Parts,
    up: &Socket,
) -> impl Future<Output = Result<(), Stop>> {
    async move {
        let chunked = body.framing == Framing::Chunked;
        // The head goes with the first of the body when that is here, else ahead of it.
        let mut head = Some(head);
        if connection.input.is_empty() {
            up.start_send(head.take().unwrap_or_default());
        }
        while !body.is_done() {
            body.fill(shard, connection).await.map_err(Stop::Exchange)?;
            body.begun = true;
            let mut out = head.take().map_or_else(|| Outgoing::new(shard.rt.take_vec()), Outgoing::behind);
            let Connection { socket, input, .. } = &mut *connection;
            let broken = take_body(&shard.rt, &mut body.decoder, input, socket, chunked, &mut out).err();
            if let Some(error) = broken {
                return Err(Stop::Exchange(Error::Body(error)));
            }
            if body.is_done() && chunked {
                out.vec.extend_from_slice(LAST_CHUNK);
            }
            up.start_send(out.into_parts());
            // A server that closes while we send shows in its answer, or in the lack of one.
            if up.sent().await.is_err() {
                return std::future::pending().await;
            }
        }
        Ok(())
    }
}

/// Bodies up to this are copied behind their head: cheaper than a vectored send.
const COPY_MAX: usize = 4 * 1024;
