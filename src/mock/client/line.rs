//! One client connection: a request out, its answer in, the connection made again when it has ended.

use super::check::Checker;
use super::template::Template;
use crate::http::{BodyDecoder, Framing, HeadLimits, Method, Parsed, ResponseHead};
use crate::runtime::{Rt, Socket};
use crate::sys::net::Address;

pub(super) struct Line {
    rt: Rt,
    socket: Option<Socket>,
    /// The answer as it came.
    buffer: Vec<u8>,
    head: ResponseHead,
    /// A body that was not one run of bytes behind its head.
    decoded: Vec<u8>,
    checker: Checker,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) keep_alive: bool,
}

/// Why there is no usable answer: `connect`, `closed`, `bad_answer`.
type Failure = &'static str;

impl Line {
    pub(super) fn new(rt: Rt) -> Line {
        Line { rt, socket: None, buffer: Vec::new(), head: ResponseHead::new(), decoded: Vec::new(), checker: Checker::default() }
    }

    /// Sends `request` and reads the whole answer, which stays until [`Line::finish`].
    pub(super) async fn exchange(&mut self, address: &Address, request: Vec<u8>) -> Result<Answered, Failure> {
        if self.socket.as_ref().is_some_and(Socket::is_stale) {
            self.socket = None;
        }
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.rt.connect(address).await.map_err(|_| "connect")?,
        };
        // Only a connection whose answer was read to its end goes back to `self`.
        socket.start_send(request);
        self.read_head(&socket).await?;
        self.read_body(&socket).await?;
        self.socket = Some(socket);
        Ok(Answered { status: self.head.status, keep_alive: self.head.keep_alive })
    }

    /// Bytes of the answer.
    pub(super) const fn received(&self) -> usize {
        self.buffer.len() + self.decoded.len()
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
        }
        self.buffer.clear();
        self.decoded.clear();
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
            Framing::Chunked | Framing::UntilClose => self.read_stream(socket, start).await,
        }
    }

    async fn read_stream(&mut self, socket: &Socket, start: usize) -> Result<(), Failure> {
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
        Ok(())
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
