//! The phase "relay": an answer on its way to the client, re-framed and as it arrives, with backpressure: the next bytes are taken
//! from the server when the last ones are with the kernel. Also the re-framing of bodies in either direction.

use std::rc::Rc;

use super::Shard;
use super::answer;
use super::connection::{Connection, client_gone};
use super::error::Error;
use super::exchange::{Answered, Request, nanos};
use super::input::Input;
use super::snapshot::Snapshot;
use super::split;
use super::stream;
use super::upstream::{CallError, Channel, InFlight, outcome_of};
use crate::http::{
    BodyDecoder, BodyError, CHUNK_END, Framing, LAST_CHUNK, ResponseEdit, framing_for_client, write_chunk_header, write_response_head,
};
use crate::metrics::{Phase, UpstreamOutcome};
use crate::runtime::{Either, Rt, Socket, race};
use crate::sys::{Instant, Lease, Parts};

/// Bytes about to be sent as one message, in order: what was written or copied, and buffers as they were received.
pub(super) struct Outgoing {
    /// In front of `vec`.
    parts: Parts,
    pub(super) vec: Vec<u8>,
    /// Buffers among the parts.
    lease_count: usize,
}

impl Outgoing {
    pub(super) fn new(vec: Vec<u8>) -> Outgoing {
        Outgoing { parts: Parts::new(), vec, lease_count: 0 }
    }

    /// Behind bytes that are ready to be sent.
    pub(super) fn behind(parts: Parts) -> Outgoing {
        Outgoing { parts, vec: Vec::new(), lease_count: 0 }
    }

    fn push_lease(&mut self, lease: Lease) {
        self.parts.push(std::mem::take(&mut self.vec));
        self.parts.push(lease);
        self.lease_count += 1;
    }

    pub(super) fn into_parts(mut self) -> Parts {
        self.parts.push(self.vec);
        self.parts
    }
}

/// Moves the body bytes that have arrived on `from` to `out`, in chunks when `chunked`: those in `input`, and what the socket holds
/// behind them. A buffer that holds nothing else is passed on as it is; small pieces are copied.
pub(super) fn take_body(
    rt: &Rt,
    decoder: &mut BodyDecoder,
    input: &mut Input,
    from: &Socket,
    chunked: bool,
    out: &mut Outgoing,
) -> Result<(), BodyError> {
    loop {
        take_pieces(rt, decoder, input, chunked, out)?;
        if decoder.is_done() || out.lease_count >= LEASES_PER_SEND || out.vec.len() >= COPIED_PER_SEND {
            return Ok(());
        }
        let Some(lease) = from.try_recv() else { return Ok(()) };
        input.push(rt, lease);
    }
}

fn take_pieces(rt: &Rt, decoder: &mut BodyDecoder, input: &mut Input, chunked: bool, out: &mut Outgoing) -> Result<(), BodyError> {
    while !input.is_empty() && !decoder.is_done() {
        let step = decoder.handle_bytes(input.bytes())?;
        // Behind another buffer a copy would need a vector of its own.
        let worth = input.len() >= SHARE_MIN || out.lease_count > 0;
        let whole = step.data == (0..input.len()) && worth && !rt.buffers_low();
        if whole
            && !chunked
            && let Some(lease) = input.take_lease()
        {
            out.push_lease(lease);
            return Ok(());
        }
        let data = &input.bytes()[step.data];
        if chunked {
            write_chunk_header(&mut out.vec, data.len());
        }
        out.vec.extend_from_slice(data);
        if chunked && !data.is_empty() {
            out.vec.extend_from_slice(CHUNK_END);
        }
        input.consume(rt, step.consumed);
    }
    Ok(())
}

/// Passes the answer on, whose head was read, and gives the connection back to its pool.
pub(super) fn relay(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    mut channel: Channel,
    call: InFlight,
    by: Instant,
) -> impl Future<Output = Result<Answered, Error>> {
    async move {
        request.phase = Phase::Relay;
        let began = shard.rt.now();
        request.headed = began;
        let status = channel.incoming.head.status;
        if snapshot.splits {
            split::measure_head(snapshot, request, &channel.incoming);
        }
        let passed = match channel.incoming.opening.take() {
            None => pass_on(shard, snapshot, connection, request, &mut channel, by).await.map(|()| outcome_of(status)),
            Some(opening) => Box::pin(stream::pass_on(shard, snapshot, connection, request, &mut channel, *opening, by)).await,
        };
        let (endpoint, upstream) = (call.endpoint, call.upstream());
        match passed {
            Ok(outcome) => call.finish(shard, outcome),
            Err(error) => {
                let outcome = match error {
                    Error::ClientGone => UpstreamOutcome::Cancelled,
                    Error::StreamCut(outcome) => outcome,
                    _ => UpstreamOutcome::Transport,
                };
                call.finish(shard, outcome);
                return Err(error);
            }
        }
        snapshot.metrics.phase(Phase::Relay, nanos(shard.rt.now().since(began)));
        snapshot.upstream(upstream).check_in(endpoint, channel, shard.rt.now());
        Ok(Answered { status })
    }
}

async fn pass_on(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &mut Connection,
    request: &mut Request,
    channel: &mut Channel,
    by: Instant,
) -> Result<(), Error> {
    let rt = &shard.rt;
    let incoming = &mut channel.incoming;
    let framing = framing_for_client(incoming.head.framing, request.version);
    request.keep_alive &= framing != Framing::UntilClose && !shard.draining.get() && request.body.is_short();
    let extra =
        [("x-request-id", request.id.as_slice()), ("x-headrace-fallback", request.served_by(snapshot).unwrap_or_default().as_bytes())];
    let extra = if extra[1].1.is_empty() { &extra[..1] } else { &extra[..] };
    let edit = ResponseEdit { framing, close: !request.keep_alive, client_version: request.version, extra };
    let mut out = Outgoing::new(rt.take_vec());
    write_response_head(&mut out.vec, &incoming.head, incoming.input.bytes(), &edit);
    let mut decoder = BodyDecoder::for_response(incoming.head.framing);
    let chunked = framing == Framing::Chunked;
    let head_len = incoming.head.head_len;
    incoming.input.consume(rt, head_len);
    loop {
        // The head is on its way or will be with this very send: from here on an answer can only be cut.
        take_body(rt, &mut decoder, &mut incoming.input, &channel.socket, chunked, &mut out).map_err(|_| Error::Cut)?;
        if decoder.is_done() && chunked {
            out.vec.extend_from_slice(LAST_CHUNK);
        }
        if decoder.is_done() {
            return answer::send_last(shard, connection, request.keep_alive, out.into_parts()).await;
        }
        answer::send_on(shard, connection, out.into_parts()).await?;
        let Connection { socket, input, .. } = &mut *connection;
        let more = incoming.receive_or_end(rt, &channel.socket, by, UpstreamOutcome::TotalTimeout);
        match race(more, client_gone(shard, socket, input)).await {
            Either::First(Ok(true)) => out = Outgoing::new(rt.take_vec()),
            Either::First(Ok(false)) => {
                decoder.handle_eof().map_err(|_| Error::Cut)?;
                out = Outgoing::new(rt.take_vec());
            }
            Either::First(Err(CallError { .. })) => return Err(Error::Cut),
            Either::Second(()) => return Err(Error::ClientGone),
        }
    }
}

/// From here on a received buffer is sent as it is instead of being copied.
const SHARE_MIN: usize = 2048;
/// Bounds on what one message takes from a peer that sends faster than the other reads: the rest waits, and so does that peer.
const LEASES_PER_SEND: usize = 32;
const COPIED_PER_SEND: usize = 64 * 1024;
