//! One client of the mock: requests in, answers out, one after the other, and an eye on whether the client is still there while
//! its call is computed. What an answer says is `answer`'s matter.

use std::time::Duration;

use super::State;
use super::answer::{Answer, Plain, answer};
use super::chat::Chat;
use super::stats::add;
use crate::http::{
    BodyDecoder, CHUNK_END, CONTINUE, Framing, HeadLimits, LAST_CHUNK, Method, Parsed, RequestHead, Version, write_chunk_header,
    write_own_response,
};
use crate::runtime::{Either, Rt, Socket, race};
use crate::sys::{Instant, Parts};

/// The client has left, or the connection cannot go on.
struct Over;

struct Connection<'a> {
    state: &'a State,
    rt: Rt,
    socket: Socket,
    /// What came and was not used yet; a request's head and body are read in place.
    buffer: Vec<u8>,
    head: RequestHead,
    /// A chunked body, decoded.
    decoded: Vec<u8>,
}

/// How an answer is to be written.
#[derive(Clone, Copy)]
struct Manner {
    keep_alive: bool,
    version: Version,
    /// An answer to HEAD has no body.
    headless: bool,
}

/// Serves `socket` until either side closes it.
pub(super) async fn serve(state: &State, rt: Rt, socket: Socket) {
    add(&state.counters.connections, 1);
    let mut connection = Connection { state, rt, socket, buffer: Vec::new(), head: RequestHead::new(), decoded: Vec::new() };
    while connection.exchange().await.is_ok() {}
    let count = &state.counters.connections;
    count.set(count.get().saturating_sub(1));
}

impl Connection<'_> {
    async fn exchange(&mut self) -> Result<(), Over> {
        self.read_head().await?;
        let (body, used) = self.read_body().await?;
        let manner = Manner { keep_alive: self.head.keep_alive, version: self.head.version, headless: self.head.method == Method::Head };
        add(&self.state.counters.requests, 1);
        let mut out = self.rt.take_vec();
        let body = if self.head.framing == Framing::Chunked { &self.decoded[..] } else { &self.buffer[body] };
        let answer = answer(self.state, self.head.method, self.head.path.of(&self.buffer), body, &mut out);
        self.use_up(used);
        match answer {
            Answer::Now(plain) => self.send(plain, out, manner).await?,
            Answer::Computed { items, cut } => {
                self.compute(items).await?;
                if cut {
                    return self.cut(&out).await;
                }
                self.send(Plain::json(200), out, manner).await?;
            }
            Answer::Chat(chat) => self.chat(&chat, out, manner).await?,
            Answer::Never => {
                add(&self.state.counters.in_flight, 1);
                while self.client_waits(Instant::FAR).await {}
                self.state.counters.end(true);
                return Err(Over);
            }
        }
        if manner.keep_alive { Ok(()) } else { self.close().await }
    }

    async fn read_head(&mut self) -> Result<(), Over> {
        let mut scanned = 0;
        loop {
            if !self.buffer.is_empty() {
                match self.head.parse(&self.buffer, &mut scanned, &HeadLimits::default()) {
                    Ok(Parsed::Complete) => return Ok(()),
                    Ok(Parsed::Partial) => {}
                    Err(error) => return self.refuse(error.status, error.reason).await,
                }
            }
            self.fill().await?;
        }
    }

    /// Waits for the whole body; returns where it lies in the buffer (nowhere when it was chunked) and how much of the buffer
    /// the request takes.
    async fn read_body(&mut self) -> Result<(std::ops::Range<usize>, usize), Over> {
        let start = self.head.head_len;
        if self.head.expect_continue && self.buffer.len() == start {
            self.socket.start_send(CONTINUE);
        }
        match self.head.framing {
            Framing::None | Framing::UntilClose => Ok((start..start, start)),
            Framing::Length(len) => {
                let Some(len) = usize::try_from(len).ok().filter(|len| *len <= BODY_BYTES_MAX) else {
                    return self.refuse(413, "body_too_large").await;
                };
                while self.buffer.len() < start + len {
                    self.fill().await?;
                }
                Ok((start..start + len, start + len))
            }
            Framing::Chunked => {
                let used = self.read_chunks(start).await?;
                Ok((start..start, used))
            }
        }
    }

    async fn read_chunks(&mut self, start: usize) -> Result<usize, Over> {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let mut at = start;
        self.decoded.clear();
        loop {
            let step = match decoder.handle_bytes(&self.buffer[at..]) {
                Ok(step) => step,
                Err(error) => return self.refuse(400, error.reason).await,
            };
            self.decoded.extend_from_slice(&self.buffer[at + step.data.start..at + step.data.end]);
            at += step.consumed;
            if step.done {
                return Ok(at);
            }
            if self.decoded.len() > BODY_BYTES_MAX {
                return self.refuse(413, "body_too_large").await;
            }
            if at == self.buffer.len() {
                // The head is needed on; the chunks in front of `at` are not.
                self.buffer.truncate(start);
                at = start;
                self.fill().await?;
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Over> {
        match self.socket.recv().await {
            Ok(Some(lease)) => {
                self.buffer.extend_from_slice(&lease);
                Ok(())
            }
            Ok(None) | Err(_) => Err(Over),
        }
    }

    fn use_up(&mut self, used: usize) {
        if used < self.buffer.len() {
            self.buffer.drain(..used);
        } else if self.buffer.capacity() > KEPT_CAPACITY_MAX {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
        if self.decoded.capacity() > KEPT_CAPACITY_MAX {
            self.decoded = Vec::new();
        }
    }

    /// The GPU's time for a call of `items`.
    async fn compute(&mut self, items: u32) -> Result<(), Over> {
        let now = self.rt.now();
        let mut gpu = self.state.gpu.get();
        let call = gpu.admit(now, items);
        self.state.gpu.set(gpu);
        let counters = &self.state.counters;
        counters.begin_call(items);
        let here = call.done_at <= now || self.client_waits(call.done_at).await;
        counters.end(!here);
        if here {
            return Ok(());
        }
        let mut gpu = self.state.gpu.get();
        gpu.abandon(self.rt.now(), call);
        self.state.gpu.set(gpu);
        Err(Over)
    }

    /// Waits until `until`; false when the client leaves before. Bytes it sends meanwhile are its next request.
    async fn client_waits(&mut self, until: Instant) -> bool {
        loop {
            match race(self.rt.sleep_until(until), self.socket.recv()).await {
                Either::First(()) => return true,
                Either::Second(Ok(Some(lease))) if self.buffer.len() < AHEAD_BYTES_MAX => self.buffer.extend_from_slice(&lease),
                Either::Second(_) => return false,
            }
        }
    }

    /// Sends an answer whose body is `body`.
    async fn send(&mut self, plain: Plain, mut body: Vec<u8>, manner: Manner) -> Result<(), Over> {
        if plain.status >= 400 {
            add(&self.state.counters.errors, 1);
        }
        // The answer before must be gone, or a client that reads nothing would fill our memory.
        self.socket.sent().await.map_err(|_| Over)?;
        let mut out = self.rt.take_vec();
        write_head(&mut out, plain, body.len(), !manner.keep_alive);
        if manner.headless {
            body.clear();
        }
        if body.len() <= JOINED_BYTES_MAX {
            out.extend_from_slice(&body);
            self.rt.keep_vec(body);
            self.socket.start_send(out);
        } else {
            self.socket.start_send(Parts::new().with(out).with(body));
        }
        Ok(())
    }

    /// Answers with half of the body and ends the connection.
    async fn cut(&mut self, body: &[u8]) -> Result<(), Over> {
        let mut out = self.rt.take_vec();
        write_head(&mut out, Plain::json(200), body.len(), false);
        out.extend_from_slice(&body[..body.len() / 2]);
        let _ = self.socket.send(out).await;
        Err(Over)
    }

    async fn refuse<T>(&mut self, status: u16, reason: &'static str) -> Result<T, Over> {
        let mut body = self.rt.take_vec();
        super::answer::error(&mut body, status, "invalid_request_error", reason);
        let manner = Manner { keep_alive: false, version: Version::Http11, headless: false };
        self.send(Plain::json(status), body, manner).await?;
        self.close().await?;
        Err(Over)
    }

    /// Ends the connection so that the answer survives it: a close with unread bytes would reset what is on its way.
    async fn close(&mut self) -> Result<(), Over> {
        self.socket.sent().await.map_err(|_| Over)?;
        self.socket.shutdown_write();
        let socket = &self.socket;
        let read_away = async { while let Ok(Some(_)) = socket.recv().await {} };
        let _ = self.rt.before(self.rt.now() + CLOSE_TIMEOUT, read_away).await;
        Err(Over)
    }

    async fn chat(&mut self, chat: &Chat, body: Vec<u8>, manner: Manner) -> Result<(), Over> {
        let counters = &self.state.counters;
        add(&counters.chats, 1);
        add(&counters.in_flight, 1);
        let result = match self.prefill(chat.prefill).await {
            Err(over) => Err(over),
            Ok(()) if chat.stream => self.stream_chat(chat, body, manner).await,
            Ok(()) => self.whole_chat(chat, body, manner).await,
        };
        self.state.counters.end(result.is_err() && !chat.cut);
        result
    }

    /// The time a prompt takes, behind those that came before it.
    async fn prefill(&mut self, bytes: u32) -> Result<(), Over> {
        if bytes == 0 {
            return Ok(());
        }
        let now = self.rt.now();
        let mut gpu = self.state.prefill.get();
        let call = gpu.admit(now, bytes);
        self.state.prefill.set(gpu);
        if call.done_at <= now || self.client_waits(call.done_at).await {
            return Ok(());
        }
        let mut gpu = self.state.prefill.get();
        gpu.abandon(self.rt.now(), call);
        self.state.prefill.set(gpu);
        Err(Over)
    }

    async fn whole_chat(&mut self, chat: &Chat, mut body: Vec<u8>, manner: Manner) -> Result<(), Over> {
        let took = self.state.config.chat_delay.saturating_mul(chat.events);
        if !took.is_zero() && !self.client_waits(self.rt.now() + took).await {
            return Err(Over);
        }
        chat.write_whole(self.state, &mut body);
        if chat.cut {
            return self.cut(&body).await;
        }
        self.send(Plain::json(200), body, manner).await
    }

    async fn stream_chat(&mut self, chat: &Chat, mut event: Vec<u8>, manner: Manner) -> Result<(), Over> {
        let delay = self.state.config.chat_delay;
        let chunked = manner.version == Version::Http11;
        let mut out = self.rt.take_vec();
        out.extend_from_slice(STREAM_HEAD);
        out.extend_from_slice(if chunked { b"transfer-encoding: chunked\r\n" } else { b"connection: close\r\n" });
        out.extend_from_slice(if chunked && !manner.keep_alive { b"connection: close\r\n\r\n" } else { b"\r\n" });
        chat.write_first(self.state, &mut event);
        push_piece(&mut out, &mut event, chunked);
        for at in 0..chat.events {
            if chat.cut && at >= chat.events / 2 {
                let _ = self.socket.send(out).await;
                return Err(Over);
            }
            if !delay.is_zero() || out.len() > STREAM_BYTES_AHEAD {
                self.socket.send(std::mem::replace(&mut out, self.rt.take_vec())).await.map_err(|_| Over)?;
            }
            if !delay.is_zero() && !self.client_waits(self.rt.now() + delay).await {
                return Err(Over);
            }
            chat.write_event(self.state, at, &mut event);
            push_piece(&mut out, &mut event, chunked);
        }
        chat.write_last(self.state, &mut event);
        push_piece(&mut out, &mut event, chunked);
        if chunked {
            out.extend_from_slice(LAST_CHUNK);
        }
        self.rt.keep_vec(event);
        self.socket.send(out).await.map_err(|_| Over)?;
        if chunked { Ok(()) } else { self.close().await }
    }
}

/// Moves `piece` behind `out`, as a chunk or bare.
fn push_piece(out: &mut Vec<u8>, piece: &mut Vec<u8>, chunked: bool) {
    if chunked {
        write_chunk_header(out, piece.len());
    }
    out.extend_from_slice(piece);
    if chunked {
        out.extend_from_slice(CHUNK_END);
    }
    piece.clear();
}

fn write_head(out: &mut Vec<u8>, plain: Plain, body_len: usize, close: bool) {
    // The usual fields are rendered once and for all.
    if plain.fields == Plain::JSON {
        return write_own_response(out, plain.status, JSON_FIELDS, body_len as u64, close);
    }
    let fields = [SERVER, plain.fields].concat();
    write_own_response(out, plain.status, &fields, body_len as u64, close);
}

const SERVER: &[u8] = b"server: headrace-mock\r\n";
const JSON_FIELDS: &[u8] = b"server: headrace-mock\r\ncontent-type: application/json\r\n";
const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nserver: headrace-mock\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n";
/// Bytes of a request body; beyond it 413.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Bytes a client may send ahead while its call is computed; beyond it the connection ends.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// Larger buffers are given back after the request that needed them.
const KEPT_CAPACITY_MAX: usize = 64 << 10;
/// Bodies up to this are copied behind their head: one piece to send.
const JOINED_BYTES_MAX: usize = 16 << 10;
/// A stream without delays is sent in pieces of about this size.
const STREAM_BYTES_AHEAD: usize = 16 << 10;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
