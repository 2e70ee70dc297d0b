//! One client connection: a request out, its answer in, the connection made again when it has ended.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use super::check::Checker;
use super::events::StreamWatch;
use super::moment::monotonic;
use super::report::LoadReport;
use super::template::Template;
use crate::http::{BodyDecoder, Framing, HeadLimits, Method, Parsed, ResponseHead};
use crate::runtime::{Rt, Socket};
use crate::sys::net::Address;
use crate::sys::{Instant, Parts};

pub(super) struct Line {
    rt: Rt,
    socket: Option<Socket>,
    /// The answer as it came.
    buffer: Vec<u8>,
    head: ResponseHead,
    /// A body that was not one run of bytes behind its head.
    decoded: Vec<u8>,
    /// Body bytes of a stream, which are not kept.
    streamed: usize,
    checker: Checker,
    watch: StreamWatch,
    /// Requests answered on this connection.
    pub(super) used: u32,
    pub(super) connects: u64,
    pub(super) closed_by_peer: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) keep_alive: bool,
}

/// How to read an answer whose body is a stream of events.
pub(super) struct Streaming<'a> {
    /// When the request was due, on the clock of [`monotonic`].
    pub(super) due_at: Instant,
    pub(super) counted_from: Instant,
    /// A silence longer than this gives the stream up.
    pub(super) timeout: Duration,
    pub(super) report: &'a RefCell<LoadReport>,
}

/// Why there is no usable answer: `connect`, `no_port`, `closed`, `bad_answer`, `timeout`, `cut`.
pub(super) type Failure = &'static str;

impl Line {
    pub(super) fn new(rt: Rt) -> Line {
        Line {
            rt,
            socket: None,
            buffer: Vec::new(),
            head: ResponseHead::new(),
            decoded: Vec::new(),
            streamed: 0,
            checker: Checker::default(),
            watch: StreamWatch::default(),
            used: 0,
            connects: 0,
            closed_by_peer: 0,
        }
    }

    /// Makes the connection, if there is none.
    pub(super) async fn open(&mut self, address: &Address) -> Result<(), Failure> {
        if self.socket.as_ref().is_some_and(Socket::is_stale) {
            self.closed_by_peer += 1;
            self.socket = None;
        }
        if self.socket.is_none() {
            let connected = self.rt.connect(address).await;
            let socket = connected.map_err(|error| if error.kind() == io::ErrorKind::AddrNotAvailable { "no_port" } else { "connect" })?;
            (self.used, self.connects) = (0, self.connects + 1);
            self.socket = Some(socket);
        }
        Ok(())
    }

    /// Sends `request` and reads the whole answer, which stays until [`Line::finish`].
    pub(super) async fn exchange(&mut self, address: &Address, request: Parts) -> Result<Answered, Failure> {
        self.open(address).await?;
        // Only a connection whose answer was read to its end goes back to `self`.
        let Some(socket) = self.socket.take() else { return Err("connect") };
        socket.start_send(request);
        self.read_head(&socket).await?;
        self.read_body(&socket).await?;
        self.used += 1;
        self.socket = Some(socket);
        Ok(Answered { status: self.head.status, keep_alive: self.head.keep_alive })
    }

    /// As [`Line::exchange`], for an answer that is a stream; one that is not is read like any other. The timeout is for each
    /// silence, because a stream may be as long as it likes.
    pub(super) async fn exchange_stream(
        &mut self,
        address: &Address,
        request: Parts,
        streaming: &Streaming<'_>,
    ) -> Result<Answered, Failure> {
        let rt = self.rt.clone();
        let until = |rt: &Rt| rt.now() + streaming.timeout;
        rt.before(until(&rt), self.open(address)).await.unwrap_or(Err("timeout"))?;
        let Some(socket) = self.socket.take() else { return Err("connect") };
        socket.start_send(request);
        rt.before(until(&rt), self.read_head(&socket)).await.unwrap_or(Err("timeout"))?;
        if self.head.status == 200 {
            let result = self.read_events(&socket, streaming).await;
            let mut report = streaming.report.borrow_mut();
            if monotonic() >= streaming.counted_from {
                report.streams.streams += 1;
                report.streams.cut += u64::from(result.is_err());
            }
            result?;
        } else {
            rt.before(until(&rt), self.read_body(&socket)).await.unwrap_or(Err("timeout"))?;
        }
        self.used += 1;
        self.socket = Some(socket);
        Ok(Answered { status: self.head.status, keep_alive: self.head.keep_alive })
    }

    /// Waits until the peer ends the connection.
    pub(super) async fn closed(&self) {
        // Bytes nobody asked for are no end.
        while let Some(socket) = &self.socket {
            if !matches!(socket.recv().await, Ok(Some(_))) {
                return;
            }
        }
    }

    /// Bytes of the answer.
    pub(super) const fn received(&self) -> usize {
        self.buffer.len() + self.decoded.len() + self.streamed
    }

    /// Whether the answer is the one to request `unique`.
    pub(super) fn check(&mut self, template: &Template, unique: u64) -> bool {
        let body = match self.head.framing {
            Framing::Length(_) => &self.buffer[self.head.head_len..],
            Framing::None | Framing::Chunked | Framing::UntilClose => &self.decoded,
        };
        self.checker.check(body, template, unique)
    }

    /// Ready for the next request.
    pub(super) fn finish(&mut self, keep: bool) {
        if !keep {
            self.socket = None;
            self.used = 0;
        }
        self.buffer.clear();
        self.decoded.clear();
        self.streamed = 0;
    }

    async fn read_head(&mut self, socket: &Socket) -> Result<(), Failure> {
        let mut scanned = 0;
        loop {
            if !self.buffer.is_empty() {
                let parsed = self.head.parse(&self.buffer, &mut scanned, &HeadLimits::answers(), Method::Post);
                match parsed.map_err(|_| "bad_answer")? {
                    Parsed::Complete if self.head.is_interim() => {
                        self.buffer.drain(..self.head.head_len);
                        continue;
                    }
                    Parsed::Complete => return Ok(()),
                    Parsed::Partial => {}
                }
            }
            if !self.fill(socket).await? {
                return Err("closed");
            }
        }
    }

    async fn read_body(&mut self, socket: &Socket) -> Result<(), Failure> {
        let start = self.head.head_len;
        match self.head.framing {
            Framing::None => Ok(()),
            Framing::Length(len) => {
                let end = usize::try_from(len).ok().and_then(|len| len.checked_add(start)).ok_or("bad_answer")?;
                if end > ANSWER_BYTES_MAX {
                    return Err("bad_answer");
                }
                while self.buffer.len() < end {
                    if !self.fill(socket).await? {
                        return Err("closed");
                    }
                }
                // More than the answer: the server has lost its count.
                if self.buffer.len() == end { Ok(()) } else { Err("bad_answer") }
            }
            Framing::Chunked | Framing::UntilClose => self.read_pieces(socket, start).await,
        }
    }

    async fn read_pieces(&mut self, socket: &Socket, start: usize) -> Result<(), Failure> {
        let mut decoder = BodyDecoder::for_response(self.head.framing);
        let mut at = start;
        while !decoder.is_done() {
            if at == self.buffer.len() {
                self.buffer.truncate(start);
                at = start;
                if !self.fill(socket).await? {
                    return decoder.handle_eof().map_err(|_| "closed");
                }
            }
            let step = decoder.handle_bytes(&self.buffer[at..]).map_err(|_| "bad_answer")?;
            self.decoded.extend_from_slice(&self.buffer[at + step.data.start..at + step.data.end]);
            at += step.consumed;
            if self.decoded.len() > ANSWER_BYTES_MAX {
                return Err("bad_answer");
            }
        }
        if at == self.buffer.len() { Ok(()) } else { Err("bad_answer") }
    }

    /// Reads a body event by event; each is received at the moment its piece is taken from the socket.
    async fn read_events(&mut self, socket: &Socket, streaming: &Streaming<'_>) -> Result<(), Failure> {
        self.watch.begin(streaming.due_at);
        let start = self.head.head_len;
        let mut decoder = BodyDecoder::for_response(self.head.framing);
        let mut at = start;
        let mut now = monotonic();
        while !decoder.is_done() {
            if at == self.buffer.len() {
                self.buffer.truncate(start);
                at = start;
                let rt = self.rt.clone();
                if !rt.before(rt.now() + streaming.timeout, self.fill(socket)).await.unwrap_or(Err("timeout"))? {
                    decoder.handle_eof().map_err(|_| "cut")?;
                    break;
                }
                now = monotonic();
            }
            let step = decoder.handle_bytes(&self.buffer[at..]).map_err(|_| "bad_answer")?;
            let data = &self.buffer[at + step.data.start..at + step.data.end];
            let counts = now >= streaming.counted_from;
            self.watch.handle_bytes(data, now, counts, &mut streaming.report.borrow_mut().streams);
            self.streamed += data.len();
            at += step.consumed;
        }
        if self.watch.is_done() && at == self.buffer.len() { Ok(()) } else { Err("cut") }
    }

    /// More bytes into the buffer; false at the end of the stream.
    async fn fill(&mut self, socket: &Socket) -> Result<bool, Failure> {
        match socket.recv().await {
            Ok(Some(lease)) => {
                self.buffer.extend_from_slice(&lease);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(_) => Err("closed"),
        }
    }
}

/// An answer larger than this is not read on.
const ANSWER_BYTES_MAX: usize = 256 << 20;
