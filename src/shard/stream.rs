//! Event streams on their way to the client. Their bytes go on as they arrive, one write per arrival; beside them a tap reads what they
//! say. The first event is looked at before the status line is committed: a stream that begins with an error, or dies before its first
//! event, can still be tried elsewhere. One that dies later ends with an error event in the client's dialect and a closed connection.
//!
//! ```text
//!  AwaitFirstEvent --- an event, the end, or too much ---> Pass ---> the body is over: its end is passed on
//!    |    |   \--- quiet for stream_comments (commits) --->  |
//!    |    +--- an error that others may not have: tried elsewhere, or passed on
//!    +--- died, late: an error answer, or tried elsewhere    +--> died, silent, late: an error event, then the connection closes
//! ```

use std::rc::Rc;
use std::time::Duration;

use super::connection::{Connection, client_gone};
use super::error::Error;
use super::exchange::{Request, nanos};
use super::forward::Stop;
use super::respond::write_error_event;
use super::snapshot::Snapshot;
use super::upstream::{CallError, Channel, Incoming};
use super::{Shard, answer, split};
use crate::config::limits;
use crate::http::{
    BodyDecoder, CHUNK_END, EventReader, Framing, Known, LAST_CHUNK, ResponseEdit, framing_for_client, write_chunk_header,
    write_response_head,
};
use crate::llm::{Said, StreamError, StreamTap};
use crate::metrics::{StreamOutcome, Target, TokenKind, UpstreamOutcome};
use crate::policy::{Failure, StreamSeen};
use crate::runtime::{Either, race};
use crate::sys::Instant;

/// What was read of an event stream before its status line is committed.
pub(super) struct Opening {
    /// Bytes behind the head, in the channel's input, that are dealt with.
    taken: usize,
    decoder: BodyDecoder,
    /// Their body bytes, not sent yet.
    bytes: Vec<u8>,
    tap: Tap,
    /// The first event must have come by then.
    first_by: Instant,
    idle_timeout: Duration,
    /// The client should hear a sign of life before the first event.
    is_quiet: bool,
}

/// Reads what a stream says.
struct Tap {
    reader: EventReader,
    said: StreamTap,
    /// The first event, signs of life aside.
    first: Option<Said>,
    /// When events came last.
    events_at: Instant,
}

/// Whether the answer whose head was read is a stream of events that can be read and ended by us: not compressed, and not of a length
/// that was promised.
pub(super) fn is_event_stream(incoming: &Incoming) -> bool {
    let head = &incoming.head;
    if !matches!(head.framing, Framing::Chunked | Framing::UntilClose) || !(200..300).contains(&head.status) {
        return false;
    }
    let bytes = incoming.input.bytes();
    let is_typed = |value: &[u8]| value.get(..EVENT_STREAM.len()).is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM));
    let is_encoded = || {
        let mut content = head.fields.iter().filter(|field| field.known == Known::Content);
        content.any(|field| field.name.of(bytes).eq_ignore_ascii_case(b"content-encoding"))
    };
    head.field(Known::ContentType).is_some_and(|value| is_typed(value.of(bytes))) && !is_encoded()
}

/// Reads the stream's first event, by `first_by`; what was read waits in the channel. `idle_timeout` is for what follows.
pub(super) async fn open(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &mut Connection,
    request: &Request,
    channel: &mut Channel,
    first_by: Instant,
    idle_timeout: Duration,
) -> Result<(), Stop> {
    let now = shard.rt.now();
    let mut opening = Box::new(Opening {
        taken: 0,
        decoder: BodyDecoder::for_response(channel.incoming.head.framing),
        bytes: Vec::new(),
        tap: Tap { reader: EventReader::new(limits::EVENT_BYTES_MAX), said: StreamTap::default(), first: None, events_at: now },
        first_by,
        idle_timeout,
        is_quiet: false,
    });
    let comment_by = comments(snapshot, request.target).map(|time| now + time);
    let Connection { socket, input, .. } = &mut *connection;
    match race(opening.fill(shard, channel, comment_by), client_gone(shard, socket, input)).await {
        Either::First(result) => result.map_err(Stop::Upstream)?,
        Either::Second(()) => return Err(Stop::Exchange(Error::ClientGone)),
    }
    channel.incoming.opening = Some(opening);
    Ok(())
}

/// The failure of a call whose stream begins with an error that another endpoint may not have.
pub(super) fn refusal(channel: &Channel) -> Option<CallError> {
    let outcome = match channel.incoming.opening.as_ref()?.tap.first? {
        Said::Error(StreamError::Transient) => UpstreamOutcome::ServerError,
        Said::Error(StreamError::RateLimited) => UpstreamOutcome::RateLimited,
        _ => return None,
    };
    Some(CallError::new(Failure::Refused, outcome))
}

impl Opening {
    /// Reads until something must be passed on.
    async fn fill(&mut self, shard: &Shard, channel: &mut Channel, comment_by: Option<Instant>) -> Result<(), CallError> {
        let Channel { socket, incoming } = channel;
        loop {
            self.take(incoming)?;
            if self.tap.first.is_some() || self.decoder.is_done() || self.bytes.len() >= limits::FIRST_EVENT_BYTES_MAX {
                return Ok(());
            }
            let wake = comment_by.map_or(self.first_by, |comment_by| comment_by.min(self.first_by));
            match incoming.receive_or_end(&shard.rt, socket, wake, UpstreamOutcome::FirstByteTimeout).await {
                Ok(true) => {}
                Ok(false) => {
                    let ended = self.decoder.handle_eof().is_ok();
                    self.tap.end();
                    // Nobody said how long it would be, so an end before anything was said is no end.
                    return if ended && self.tap.first.is_some() { Ok(()) } else { Err(incoming.died()) };
                }
                Err(error) if error.failure == Failure::Timeout && shard.rt.now() < self.first_by => {
                    self.is_quiet = self.tap.reader.is_between_events();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, incoming: &Incoming) -> Result<(), CallError> {
        let bad = |error: crate::http::BodyError| CallError {
            reason: error.reason,
            ..CallError::new(Failure::BadAnswer, UpstreamOutcome::BadAnswer)
        };
        let start = incoming.head.head_len;
        while let Some(rest) = incoming.input.bytes().get(start + self.taken..).filter(|rest| !rest.is_empty()) {
            if self.decoder.is_done() {
                break;
            }
            let step = self.decoder.handle_bytes(rest).map_err(bad)?;
            let data = &rest[step.data];
            self.tap.handle(data);
            self.bytes.extend_from_slice(data);
            self.taken += step.consumed;
        }
        Ok(())
    }
}

impl Tap {
    /// True when an event ended in these bytes.
    fn handle(&mut self, mut bytes: &[u8]) -> bool {
        let mut some = false;
        while !bytes.is_empty() {
            let (used, event) = self.reader.handle_bytes(bytes);
            bytes = &bytes[used..];
            if let Some(event) = event {
                let said = self.said.handle_event(event.name, event.data);
                let counts = said != Said::Ping;
                some |= counts;
                if counts {
                    self.first.get_or_insert(said);
                }
            }
        }
        some
    }

    /// The stream is over; its last event may lack its end.
    fn end(&mut self) {
        if let Some(event) = self.reader.handle_eof() {
            let said = self.said.handle_event(event.name, event.data);
            self.first.get_or_insert(said);
        }
    }
}

/// A stream that is being passed on.
struct Passing<'a> {
    shard: &'a Shard,
    snapshot: &'a Snapshot,
    connection: &'a mut Connection,
    request: &'a mut Request,
    channel: &'a mut Channel,
    decoder: BodyDecoder,
    tap: Tap,
    has_events: bool,
    /// When the first event was here, if one was.
    first_at: Instant,
    /// To the client.
    chunked: bool,
    /// The whole call ends by then.
    by: Instant,
    first_by: Instant,
    idle_timeout: Duration,
    comments: Option<Duration>,
    /// When something came, and when something was last said to a client that heard nothing.
    heard_at: Instant,
    said_at: Instant,
}

/// What came next of a stream.
enum Next {
    Bytes,
    /// The server ended its side in good order.
    End,
    /// Nothing for so long that the client should hear a sign of life.
    Quiet,
}

/// Passes a stream on to its end. How the call ended.
pub(super) async fn pass_on(
    shard: &Shard,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    channel: &mut Channel,
    opening: Opening,
    by: Instant,
) -> Result<UpstreamOutcome, Error> {
    let Opening { taken, decoder, bytes, tap, first_by, idle_timeout, is_quiet } = opening;
    let rt = &shard.rt;
    let incoming = &mut channel.incoming;
    let framing = framing_for_client(incoming.head.framing, request.version);
    request.keep_alive &= framing != Framing::UntilClose && !shard.draining.get() && request.body.is_short();
    let edit =
        ResponseEdit { framing, close: !request.keep_alive, client_version: request.version, extra: &[("x-request-id", &request.id)] };
    let mut out = rt.take_vec();
    write_response_head(&mut out, &incoming.head, incoming.input.bytes(), &edit);
    let used = incoming.head.head_len + taken;
    incoming.input.consume(rt, used);
    let chunked = framing == Framing::Chunked;
    push_piece(&mut out, &bytes, chunked);
    if is_quiet {
        push_piece(&mut out, request.dialect.sign_of_life(), chunked);
    }
    let comments = comments(snapshot, request.target);
    let heard_at = rt.now();
    let has_events = tap.first.is_some();
    if has_events {
        snapshot.metrics.stream_ttft(request.target, nanos(heard_at.since(request.began)));
    }
    let mut passing = Passing {
        shard,
        snapshot,
        connection,
        request,
        channel,
        decoder,
        tap: Tap { events_at: heard_at, ..tap },
        has_events,
        first_at: heard_at,
        chunked,
        by,
        first_by,
        idle_timeout,
        comments,
        heard_at,
        said_at: heard_at,
    };
    let result = passing.run(out).await;
    passing.count(&result);
    result.map(|()| refused_or_ok(&passing.tap))
}

/// How a stream that came to its end counts for its endpoint: an error as its first event is an answer like a 5xx.
fn refused_or_ok(tap: &Tap) -> UpstreamOutcome {
    match tap.first {
        Some(Said::Error(StreamError::Transient)) => UpstreamOutcome::ServerError,
        Some(Said::Error(StreamError::RateLimited)) => UpstreamOutcome::RateLimited,
        Some(Said::Error(StreamError::Client)) => UpstreamOutcome::ClientError,
        _ => UpstreamOutcome::Ok,
    }
}

impl Passing<'_> {
    async fn run(&mut self, mut out: Vec<u8>) -> Result<(), Error> {
        loop {
            if self.decoder.is_done() {
                self.tap.end();
                if self.chunked {
                    out.extend_from_slice(LAST_CHUNK);
                }
                return answer::send_last(self.shard, self.connection, self.request.keep_alive, out).await;
            }
            if !out.is_empty() {
                answer::send_on(self.shard, self.connection, out).await?;
            }
            out = self.shard.rt.take_vec();
            match self.next().await? {
                Next::Bytes => self.take(&mut out).await?,
                Next::Quiet => {
                    self.said_at = self.shard.rt.now();
                    push_piece(&mut out, self.request.dialect.sign_of_life(), self.chunked);
                }
                Next::End => {
                    let ended = self.decoder.handle_eof().is_ok();
                    let closing = self.tap.reader.closing();
                    self.tap.end();
                    // A stream that ends with its connection, and a server that died, look alike; but a model says that it is done.
                    let is_model = matches!(self.request.target, Target::Model(_));
                    if !ended || is_model && !self.tap.said.is_over() {
                        return Err(self.cut(out, closing, UpstreamOutcome::Transport).await);
                    }
                }
            }
        }
    }

    async fn next(&mut self) -> Result<Next, Error> {
        let rt = &self.shard.rt;
        let (quiet_by, late) = if self.tap.first.is_none() {
            (self.first_by, UpstreamOutcome::FirstByteTimeout)
        } else {
            (self.heard_at + self.idle_timeout, UpstreamOutcome::StreamIdleTimeout)
        };
        let comment_by = match self.comments {
            Some(time) if self.tap.reader.is_between_events() => self.heard_at.max(self.said_at) + time,
            _ => Instant::FAR,
        };
        let wake = self.by.min(quiet_by).min(comment_by);
        let Channel { socket: up, incoming } = &mut *self.channel;
        let Connection { socket, input, .. } = &mut *self.connection;
        let more = incoming.receive_or_end(rt, up, wake, late);
        let outcome = match race(more, client_gone(self.shard, socket, input)).await {
            Either::First(Ok(true)) => {
                self.heard_at = rt.now();
                return Ok(Next::Bytes);
            }
            Either::First(Ok(false)) => return Ok(Next::End),
            Either::First(Err(error)) if error.failure != Failure::Timeout => UpstreamOutcome::Transport,
            Either::First(Err(_)) if rt.now() >= self.by => UpstreamOutcome::TotalTimeout,
            Either::First(Err(_)) if rt.now() >= quiet_by => late,
            Either::First(Err(_)) => return Ok(Next::Quiet),
            Either::Second(()) => return Err(Error::ClientGone),
        };
        Err(self.cut(rt.take_vec(), self.tap.reader.closing(), outcome).await)
    }

    /// Moves what has arrived to `out`: all that is here makes one write.
    async fn take(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let rt = &self.shard.rt;
        let Channel { socket, incoming } = &mut *self.channel;
        let mut some = false;
        let broken = loop {
            let step = match self.decoder.handle_bytes(incoming.input.bytes()) {
                Ok(step) => step,
                Err(_) => break true,
            };
            let data = &incoming.input.bytes()[step.data];
            some |= self.tap.handle(data);
            push_piece(out, data, self.chunked);
            incoming.input.consume(rt, step.consumed);
            if self.decoder.is_done() {
                break false;
            }
            // Nothing is left in the input when the next bytes are waited for.
            if incoming.input.is_empty() {
                let more = if out.len() < limits::ARRIVAL_BYTES_MAX { socket.try_recv() } else { None };
                match more {
                    Some(lease) => incoming.input.push(rt, lease),
                    None => break false,
                }
            }
        };
        if some {
            self.observe();
        }
        if broken {
            return Err(self.cut(std::mem::take(out), self.tap.reader.closing(), UpstreamOutcome::Transport).await);
        }
        Ok(())
    }

    /// Events came.
    fn observe(&mut self) {
        let (now, metrics) = (self.shard.rt.now(), &self.snapshot.metrics);
        let before = std::mem::replace(&mut self.tap.events_at, now);
        if std::mem::replace(&mut self.has_events, true) {
            metrics.stream_itl(self.request.target, nanos(now.since(before)));
        } else {
            self.first_at = now;
            metrics.stream_ttft(self.request.target, nanos(now.since(self.request.began)));
        }
    }

    /// The stream is broken: tells the client behind what it has, `out` included, once `closing` has ended what is open. No end marker and
    /// no last chunk follow.
    async fn cut(&mut self, mut out: Vec<u8>, closing: &[u8], outcome: UpstreamOutcome) -> Error {
        let error = Error::StreamCut(outcome);
        let mut event = closing.to_vec();
        write_error_event(&mut event, &error, self.request.dialect);
        push_piece(&mut out, &event, self.chunked);
        self.request.keep_alive = false;
        match answer::send(self.shard, self.connection, out).await {
            Ok(()) => error,
            Err(gone) => gone,
        }
    }

    fn count(&self, result: &Result<(), Error>) {
        let (metrics, target, facts) = (&self.snapshot.metrics, self.request.target, self.tap.said.facts());
        metrics.stream(
            target,
            match result {
                Ok(()) if facts.error.is_some() => StreamOutcome::Error,
                Ok(()) => StreamOutcome::Complete,
                Err(Error::StreamCut(UpstreamOutcome::TotalTimeout)) => StreamOutcome::TotalTimeout,
                Err(Error::StreamCut(UpstreamOutcome::StreamIdleTimeout | UpstreamOutcome::FirstByteTimeout)) => StreamOutcome::IdleTimeout,
                Err(Error::ClientGone) => StreamOutcome::ClientClosed,
                Err(_) => StreamOutcome::Died,
            },
        );
        if self.snapshot.splits {
            let ttft = self.has_events.then(|| self.first_at.since(self.request.began));
            let times = StreamSeen { ttft, writing: self.tap.events_at.since(self.first_at), ..StreamSeen::default() };
            split::measure_stream(self.snapshot, self.request, facts, result.is_ok(), times);
        }
        let Some(usage) = facts.usage else { return };
        for (kind, tokens) in [(TokenKind::Input, usage.input), (TokenKind::Output, usage.output), (TokenKind::Cached, usage.cached)] {
            if let Some(tokens) = tokens {
                metrics.stream_tokens(target, kind, tokens);
            }
        }
    }
}

/// How often a quiet stream of this target gets a sign of life.
fn comments(snapshot: &Snapshot, target: Target) -> Option<Duration> {
    match target {
        Target::Model(id) => snapshot.config.model(id).stream_comments,
        Target::Route(_) | Target::None => None,
    }
}

fn push_piece(out: &mut Vec<u8>, data: &[u8], chunked: bool) {
    if chunked {
        write_chunk_header(out, data.len());
    }
    out.extend_from_slice(data);
    if chunked && !data.is_empty() {
        out.extend_from_slice(CHUNK_END);
    }
}

const EVENT_STREAM: &[u8] = b"text/event-stream";
