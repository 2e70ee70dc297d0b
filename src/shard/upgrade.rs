//! Websockets: the upgrade is checked on both sides, and from then on bytes go both ways as they come, with backpressure: a direction
//! takes more from its sender when its receiver has taken what it had. What was sent before the server agreed waits here; when it does not
//! agree, those bytes were meant for nobody.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::connection::{Connection, client_gone};
use super::error::Error;
use super::exchange::{Answered, Request};
use super::forward::{ForwardBody, Rendered, message};
use super::relay::relay;
use super::snapshot::Snapshot;
use super::upstream::{CallError, Channel, InFlight, Incoming};
use super::{Shard, admit, answer};
use crate::config::{RouteId, UpstreamId, limits};
use crate::http::{Framing, HeadLimits, Parsed, ResponseEdit, UPGRADE_LINES, WebSocketAccept, write_response_head};
use crate::metrics::{Phase, UpstreamOutcome};
use crate::policy::{self, Attempt, Failure, Retry, decide};
use crate::runtime::{Either, Rt, Socket, race};
use crate::sys::{Instant, Parts};

/// An upgrade that a route allows and that was asked for rightly.
pub(super) struct UpgradePlan {
    pub(super) upstream: UpstreamId,
    pub(super) rendered: Rendered,
    pub(super) accept: WebSocketAccept,
    pub(super) idle_timeout: Duration,
}

/// Whether the route takes websockets, and what its server must answer.
pub(super) fn allowed(snapshot: &Snapshot, connection: &Connection, route: RouteId) -> Result<WebSocketAccept, Error> {
    if snapshot.config.route(route).websocket.is_none() {
        return Err(Error::UpgradeRefused);
    }
    connection.head.websocket_accept(connection.input.bytes()).map_err(Error::WebSocket)
}

/// Adds the lines of the upgrade, which the writers leave out, to a head.
pub(super) fn push_upgrade(head: &mut Vec<u8>) {
    head.truncate(head.len() - 2);
    head.extend_from_slice(UPGRADE_LINES);
    head.extend_from_slice(b"\r\n");
}

/// A websocket holds its place at an upstream with a limit until it ends.
pub(super) async fn upgrade(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    plan: UpgradePlan,
) -> Result<Answered, Error> {
    // Whatever is answered: what the client sends behind its request is no HTTP.
    request.keep_alive = false;
    admit::admit(shard, snapshot, connection, request, plan.upstream, |_| policy::cost(Some(0), None)).await?;
    let over = admitted(shard, snapshot, connection, request, plan).await;
    request.permit = None;
    over
}

async fn admitted(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    plan: UpgradePlan,
) -> Result<Answered, Error> {
    request.phase = Phase::Call;
    let timeouts = snapshot.timeouts(request.target, plan.upstream);
    let (first_byte_by, by) = (shard.rt.now() + timeouts.first_byte, shard.rt.now() + timeouts.total);
    let rules = snapshot.config.upstream(plan.upstream).resilience.retry;
    let mut attempt = Attempt { calls: 0, resent: false, answer_begun: false, body_held: true, idempotent: true, rules };
    let mut avoid = None;
    loop {
        let endpoint =
            snapshot.upstream(plan.upstream).pick(shard, snapshot, plan.upstream, None, avoid, false).ok_or(Error::UpstreamUnreachable)?;
        let call = InFlight::begin(snapshot, plan.upstream, endpoint, shard.rt.now());
        attempt.calls += 1;
        let Connection { socket, input, .. } = &mut *connection;
        match race(ask(shard, snapshot, &plan, &call, first_byte_by), client_gone(shard, socket, input)).await {
            Either::First(Ok(channel)) if channel.incoming.head.status == 101 => {
                call.answered(shard.rt.now(), 101);
                admit::answered(shard, request, 101);
                let over = switched(shard, connection, request, channel, plan.idle_timeout).await;
                let (outcome, result) = match over {
                    Ok(()) => (UpstreamOutcome::Ok, Ok(Answered { status: 101 })),
                    Err(error @ Error::ClientGone) => (UpstreamOutcome::Cancelled, Err(error)),
                    Err(error) => (UpstreamOutcome::Transport, Err(error)),
                };
                call.finish(shard, outcome);
                return result;
            }
            Either::First(Ok(channel)) => {
                let status = channel.incoming.head.status;
                call.answered(shard.rt.now(), status);
                admit::answered(shard, request, status);
                return relay(shard, snapshot, connection, request, channel, call, by).await;
            }
            Either::First(Err(error)) => {
                call.finish(shard, error.outcome);
                admit::failed(shard, request, error.failure == Failure::Timeout);
                if decide(error.failure, attempt) == Retry::No {
                    return Err(error.error());
                }
                avoid = Some(endpoint);
                snapshot.metrics.upstream_retry(plan.upstream);
            }
            Either::Second(()) => {
                call.finish(shard, UpstreamOutcome::Cancelled);
                return Err(Error::ClientGone);
            }
        }
    }
}

/// One try, up to the answer's head. On a connection of its own: it is not given back.
async fn ask(shard: &Shard, snapshot: &Snapshot, plan: &UpgradePlan, call: &InFlight, by: Instant) -> Result<Channel, CallError> {
    let mut channel = Channel::open(shard, snapshot, call, true).await?;
    let authority = &snapshot.config.upstream(plan.upstream).endpoints[call.endpoint as usize].authority;
    channel.start_send(message(shard, &plan.rendered, authority, &ForwardBody::Small));
    read_switch(&shard.rt, &mut channel, plan.accept, by).await?;
    Ok(channel)
}

async fn read_switch(rt: &Rt, channel: &mut Channel, accept: WebSocketAccept, by: Instant) -> Result<(), CallError> {
    let bad = |reason| CallError { reason, ..CallError::new(Failure::BadAnswer, UpstreamOutcome::BadAnswer) };
    let Channel { socket, incoming } = channel;
    let (limits, mut scanned, mut interim) = (HeadLimits::answers(), 0, 0);
    loop {
        if !incoming.input.is_empty() {
            let Incoming { head, input, .. } = &mut **incoming;
            match head.parse_switch(input.bytes(), &mut scanned, &limits) {
                Ok(Parsed::Partial) => {}
                Ok(Parsed::Complete) if head.status == 101 => {
                    return if head.agrees(input.bytes(), accept) { Ok(()) } else { Err(bad("websocket_accept")) };
                }
                Ok(Parsed::Complete) if head.is_interim() => {
                    interim += 1;
                    if interim > limits::INTERIM_ANSWERS_MAX {
                        return Err(bad("too_many_interim_answers"));
                    }
                    input.consume(rt, head.head_len);
                    continue;
                }
                Ok(Parsed::Complete) => return Ok(()),
                Err(error) => return Err(bad(error.reason)),
            }
        }
        incoming.receive(rt, socket, by, UpstreamOutcome::FirstByteTimeout).await?;
    }
}

/// The server has agreed: tells the client, and lets the bytes flow until one side ends.
async fn switched(
    shard: &Shard,
    connection: &mut Connection,
    request: &mut Request,
    mut channel: Channel,
    idle_timeout: Duration,
) -> Result<(), Error> {
    request.phase = Phase::Relay;
    let rt = &shard.rt;
    let Incoming { head, input, .. } = &mut *channel.incoming;
    let edit =
        ResponseEdit { framing: Framing::None, close: false, client_version: request.version, extra: &[("x-request-id", &request.id)] };
    let mut out = rt.take_vec();
    write_response_head(&mut out, head, input.bytes(), &edit);
    push_upgrade(&mut out);
    out.extend_from_slice(&input.bytes()[head.head_len..]);
    input.consume(rt, input.len());
    let ahead = connection.input.bytes().to_vec();
    connection.input.consume(rt, ahead.len());
    if !ahead.is_empty() {
        channel.socket.start_send(ahead);
    }
    answer::send(shard, connection, out).await?;
    // Nobody watches for bytes of HTTP any more, but some may have come while that was sent.
    let ahead = connection.input.bytes().to_vec();
    connection.input.consume(rt, ahead.len());
    if !ahead.is_empty() {
        channel.socket.start_send(ahead);
    }
    splice(rt, &connection.socket, &channel.socket, idle_timeout).await
}

/// Passes bytes both ways until both sides have ended, one breaks, or nothing moves for too long.
async fn splice(rt: &Rt, client: &Socket, server: &Socket, idle_timeout: Duration) -> Result<(), Error> {
    let moved = Cell::new(rt.now());
    let (mut up, mut down) = (pin!(pipe(rt, client, server, &moved)), pin!(pipe(rt, server, client, &moved)));
    let idle = async {
        while moved.get() + idle_timeout > rt.now() {
            rt.sleep_until(moved.get() + idle_timeout).await;
        }
    };
    let closing = |rt: &Rt| rt.now() + limits::WEBSOCKET_CLOSE_TIMEOUT;
    match race(race(&mut up, &mut down), idle).await {
        Either::First(Either::First(Ok(()))) => rest(rt.before(closing(rt), down).await, Broken::From),
        Either::First(Either::Second(Ok(()))) => rest(rt.before(closing(rt), up).await, Broken::To),
        Either::First(Either::First(Err(broken))) => Err(whose(broken, Broken::To)),
        Either::First(Either::Second(Err(broken))) => Err(whose(broken, Broken::From)),
        Either::Second(()) => Ok(()),
    }
}

/// Which end of a pipe broke.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    From,
    To,
}

/// How the second pipe ended; one that takes too long is ended.
fn rest(ended: Option<Result<(), Broken>>, server_end: Broken) -> Result<(), Error> {
    match ended {
        Some(Err(broken)) => Err(whose(broken, server_end)),
        Some(Ok(())) | None => Ok(()),
    }
}

/// A server that breaks leaves a cut connection, a client that breaks has left.
fn whose(broken: Broken, server_end: Broken) -> Error {
    if broken == server_end { Error::Cut } else { Error::ClientGone }
}

/// Passes bytes on until `from` ends its side, which `to` is told then.
async fn pipe(rt: &Rt, from: &Socket, to: &Socket, moved: &Cell<Instant>) -> Result<(), Broken> {
    while let Some(lease) = from.recv().await.map_err(|_| Broken::From)? {
        moved.set(rt.now());
        let mut parts = Parts::new();
        let (mut next, mut count) = (Some(lease), 0);
        while let Some(lease) = next {
            // The other side may be long in taking it.
            let low = rt.buffers_low();
            parts.push(if low { lease.detach() } else { lease });
            count += 1;
            let full = count >= limits::WEBSOCKET_LEASES_MAX || (low && parts.len() >= limits::RECEIVE_LEASES_BYTES_MAX);
            next = if full { None } else { from.try_recv() };
        }
        to.send(parts).await.map_err(|_| Broken::To)?;
        moved.set(rt.now());
    }
    to.shutdown_write();
    Ok(())
}
