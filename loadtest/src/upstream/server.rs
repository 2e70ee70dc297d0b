//! The light upstream's loop: connections, answers, and streams whose events leave when they are due. Requests are read by
//! `request`, events written by `events`.
//!
//! It stands directly on a driver, without tasks: completions in, sends out, one enter a turn.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use headrace::http::{CONTINUE, write_own_response};
use headrace::mock::client::monotonic;
use headrace::runtime::Driver;
use headrace::sys::net::Address;
use headrace::sys::{Completion, Fd, Instant, Op, Part, Parts, Wait};
use slab::Slab;

use super::events::Stream;
use super::request::{Asked, Found, Heads, Inbox, Refused};

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answers {
    pub(crate) status: u16,
    pub(crate) body_bytes: usize,
    /// Events of a stream, unless the request wants fewer.
    pub(crate) events: u32,
    /// Between a stream's events.
    pub(crate) every: Duration,
}

pub(crate) struct Server {
    driver: Box<dyn Driver>,
    listener: Fd,
    answers: Answers,
    kept: Constant,
    closing: Constant,
    heads: Heads,
    connections: Slab<Connection>,
    /// Streams' next events: when, whose, and which of that connection's streams.
    due: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    /// Connections whose receive found no buffer.
    starved: Vec<usize>,
    accepting: bool,
    /// Streams begun.
    streams: u64,
    completions: Vec<Completion>,
    spare: Vec<Vec<u8>>,
}

/// An answer that never changes.
struct Constant {
    head: Bytes,
    whole: Bytes,
}

struct Connection {
    fd: Fd,
    receiving: bool,
    sending: bool,
    /// To be sent when what is being sent has gone.
    unsent: Vec<u8>,
    inbox: Inbox,
    stream: Option<(u64, Stream)>,
    /// Came while a stream was under way: the next requests.
    ahead: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// Our side is to be ended when all is sent; what comes is read away, so that the answer is not reset.
    AwaitSent,
    AwaitEnd,
    /// Its operations are being ended; then the descriptor is closed.
    Closing,
}

impl Server {
    pub(crate) fn new(mut driver: Box<dyn Driver>, listen: &Address, answers: Answers) -> io::Result<Server> {
        let listener = driver.listen(listen, BACKLOG)?;
        Ok(Server {
            kept: Constant::new(&answers, false),
            closing: Constant::new(&answers, true),
            driver,
            listener,
            answers,
            heads: Heads::new(),
            connections: Slab::new(),
            due: BinaryHeap::new(),
            starved: Vec::new(),
            accepting: false,
            streams: 0,
            completions: Vec::new(),
            spare: Vec::new(),
        })
    }

    pub(crate) fn driver_name(&self) -> &'static str {
        self.driver.name()
    }

    /// Where it listens; `None` on a Unix socket.
    pub(crate) fn local_addr(&self) -> Option<std::net::SocketAddr> {
        self.driver.local_addr(self.listener)
    }

    /// Sends what is due, waits for what comes, at most `wait_max`, and answers it.
    ///
    /// # Errors
    /// When the driver is broken.
    pub(crate) fn turn(&mut self, wait_max: Option<Duration>) -> io::Result<()> {
        if !std::mem::replace(&mut self.accepting, true) {
            self.driver.submit(Op::Accept { listener: self.listener }, ACCEPT);
        }
        for index in std::mem::take(&mut self.starved) {
            self.receive(index);
        }
        let wait = self.send_due_events().or(wait_max).map_or(Wait::Forever, Wait::For);
        let mut completions = std::mem::take(&mut self.completions);
        let result = self.driver.turn(if wait == Wait::For(Duration::ZERO) { Wait::Now } else { wait }, &mut completions);
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        result
    }

    fn complete(&mut self, completion: Completion) {
        if completion.target == ACCEPT {
            self.accepting = completion.more;
            if let Some(fd) = completion.accepted {
                self.accepted(fd);
            }
            return;
        }
        let Ok(index) = usize::try_from(completion.target >> 1) else { return };
        if completion.target & 1 == SEND {
            self.sent(index, completion);
        } else {
            self.received(index, completion);
        }
    }

    fn accepted(&mut self, fd: Fd) {
        if self.connections.len() >= CONNECTIONS_MAX {
            return self.driver.close(fd);
        }
        let index = self.connections.insert(Connection {
            fd,
            receiving: false,
            sending: false,
            unsent: Vec::new(),
            inbox: Inbox::default(),
            stream: None,
            ahead: Vec::new(),
            state: State::Open,
        });
        self.receive(index);
    }

    fn receive(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index).filter(|one| !one.receiving && one.state != State::Closing) {
            connection.receiving = true;
            self.driver.submit(Op::Recv { fd: connection.fd }, (index as u64) << 1);
        }
    }

    fn received(&mut self, index: usize, completion: Completion) {
        let connection = &mut self.connections[index];
        connection.receiving = completion.more;
        let no_buffer =
            completion.result.as_ref().err().and_then(io::Error::raw_os_error) == Some(rustix::io::Errno::NOBUFS.raw_os_error());
        match completion.lease.filter(|lease| !lease.is_empty()) {
            Some(lease) if connection.state == State::Open => {
                if connection.stream.is_some() {
                    connection.ahead.extend_from_slice(&lease);
                    if connection.ahead.len() > AHEAD_BYTES_MAX {
                        return self.close(index);
                    }
                } else {
                    self.read(index, &lease);
                }
            }
            Some(_) => {}
            None if no_buffer => {}
            None if connection.state == State::Closing => return self.finish_closing(index),
            None => return self.close(index),
        }
        if self.connections.get(index).is_some_and(|connection| !connection.receiving) {
            self.starved.push(index);
        }
    }

    /// Reads requests from `input` and answers them, up to the first stream.
    fn read(&mut self, index: usize, mut input: &[u8]) {
        while !input.is_empty() {
            let connection = &mut self.connections[index];
            if connection.state != State::Open {
                return;
            }
            if connection.stream.is_some() {
                return connection.ahead.extend_from_slice(input);
            }
            match connection.inbox.handle_bytes(&mut self.heads, input) {
                Ok((used, found)) => {
                    input = &input[used..];
                    match found {
                        Found::More => {}
                        Found::Continue => self.send(index, Part::from(CONTINUE)),
                        Found::Request(asked) => self.answer(index, asked),
                    }
                }
                Err(refused) => return self.refuse(index, refused),
            }
        }
    }

    fn answer(&mut self, index: usize, asked: Asked) {
        if let Some(most) = asked.stream.filter(|_| self.answers.events > 0) {
            return self.begin_stream(index, asked, most.max(1).min(self.answers.events));
        }
        let constant = if asked.keep_alive { &self.kept } else { &self.closing };
        let bytes = if asked.headless { constant.head.clone() } else { constant.whole.clone() };
        self.send(index, Part::from(bytes));
        if !asked.keep_alive {
            self.end(index);
        }
    }

    fn refuse(&mut self, index: usize, refused: Refused) {
        let body = format!("{{\"error\":{{\"message\":\"{}\"}}}}", refused.reason);
        let mut out = Vec::new();
        write_own_response(&mut out, refused.status, JSON_FIELDS, body.len() as u64, true);
        out.extend_from_slice(body.as_bytes());
        self.send(index, Part::from(out));
        self.end(index);
    }

    fn begin_stream(&mut self, index: usize, asked: Asked, count: u32) {
        let now = monotonic();
        self.streams += 1;
        let number = self.streams;
        let mut stream = Stream::begin(number, count, self.answers.every, now);
        (stream.chunks, stream.keep_alive) = (asked.chunks, asked.keep_alive);
        let mut out = self.spare.pop().unwrap_or_default();
        stream.write_head(&mut out);
        if !asked.headless {
            stream.write_event(now, &mut out);
        }
        self.send(index, Part::from(out));
        self.connections[index].stream = Some((number, stream));
        self.after_event(index, asked.headless);
    }

    /// Queues the stream's next event, or goes on behind its last one.
    fn after_event(&mut self, index: usize, headless: bool) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let Some((number, stream)) = connection.stream else { return };
        if !stream.is_over() && !headless {
            return self.due.push(Reverse((stream.due_at(self.answers.every), index, number)));
        }
        connection.stream = None;
        if !stream.keep_alive {
            return self.end(index);
        }
        let ahead = std::mem::take(&mut connection.ahead);
        self.read(index, &ahead);
    }

    /// Sends the events that are due, a few at a time: each is stamped when it is written, and the last of many would leave long
    /// after its stamp. Returns how long nothing is due.
    fn send_due_events(&mut self) -> Option<Duration> {
        for _ in 0..EVENTS_PER_TURN {
            let Reverse((due_at, index, number)) = *self.due.peek()?;
            let now = monotonic();
            if due_at > now {
                return Some(due_at.since(now));
            }
            self.due.pop();
            let Some(connection) = self.connections.get_mut(index) else { continue };
            let Some((_, stream)) = connection.stream.as_mut().filter(|(own, _)| *own == number) else { continue };
            let mut out = self.spare.pop().unwrap_or_default();
            stream.write_event(now, &mut out);
            self.send(index, Part::from(out));
            self.after_event(index, false);
        }
        Some(Duration::ZERO)
    }

    fn send(&mut self, index: usize, part: Part) {
        let connection = &mut self.connections[index];
        if connection.state == State::Closing {
            return;
        }
        if connection.sending {
            connection.unsent.extend_from_slice(part.as_slice());
            if connection.unsent.len() > UNSENT_BYTES_MAX {
                self.close(index);
            }
            return;
        }
        connection.sending = true;
        self.driver.submit(Op::Send { fd: connection.fd, parts: Parts::from(part) }, (index as u64) << 1 | SEND);
    }

    fn sent(&mut self, index: usize, completion: Completion) {
        let connection = &mut self.connections[index];
        connection.sending = false;
        let Some(Op::Send { fd, mut parts }) = completion.op else { return };
        let went = completion.result.ok().filter(|count| *count > 0);
        if connection.state == State::Closing {
            return self.finish_closing(index);
        }
        let Some(went) = went else { return self.close(index) };
        parts.advance(went as usize);
        if !parts.is_empty() {
            connection.sending = true;
            self.driver.submit(Op::Send { fd, parts }, (index as u64) << 1 | SEND);
            return;
        }
        for mut vec in parts.take_vecs() {
            if self.spare.len() < SPARES_MAX {
                vec.clear();
                self.spare.push(vec);
            }
        }
        if !connection.unsent.is_empty() {
            let unsent = std::mem::take(&mut connection.unsent);
            return self.send(index, Part::from(unsent));
        }
        if connection.state == State::AwaitSent {
            connection.state = State::AwaitEnd;
            self.driver.shutdown_write(fd);
        }
    }

    /// Ends our side once all is sent.
    fn end(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        match connection.state {
            State::Open if connection.sending => connection.state = State::AwaitSent,
            State::Open => {
                connection.state = State::AwaitEnd;
                self.driver.shutdown_write(connection.fd);
            }
            State::AwaitSent | State::AwaitEnd | State::Closing => {}
        }
    }

    fn close(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.state = State::Closing;
        connection.stream = None;
        if connection.receiving || connection.sending {
            self.driver.cancel_all(connection.fd);
        }
        self.finish_closing(index);
    }

    fn finish_closing(&mut self, index: usize) {
        let connection = &self.connections[index];
        if !connection.receiving && !connection.sending {
            self.driver.close(connection.fd);
            self.connections.remove(index);
        }
    }
}

impl Constant {
    fn new(answers: &Answers, close: bool) -> Constant {
        let body = body(answers.body_bytes);
        let mut head = Vec::new();
        write_own_response(&mut head, answers.status, JSON_FIELDS, body.len() as u64, close);
        let whole = [&head[..], &body].concat();
        Constant { head: Bytes::from(head), whole: Bytes::from(whole) }
    }
}

/// JSON of exactly `bytes` bytes; the shortest is `{}`.
pub(super) fn body(bytes: usize) -> Vec<u8> {
    let (before, behind) = (&b"{\"object\":\"answer\",\"text\":\""[..], b"\"}");
    let Some(room) = bytes.checked_sub(before.len() + behind.len()) else {
        let mut short = b"{}".to_vec();
        short.resize(bytes.max(2), b' ');
        return short;
    };
    let text = b"water ".iter().copied().cycle().take(room);
    before.iter().copied().chain(text).chain(behind.iter().copied()).collect()
}

const JSON_FIELDS: &[u8] = b"server: headrace-loadtest\r\ncontent-type: application/json\r\n";
const ACCEPT: u64 = u64::MAX;
const SEND: u64 = 1;
const BACKLOG: i32 = 4096;
/// Beyond it a connection is closed at once.
const CONNECTIONS_MAX: usize = 65_536;
/// A client that sends more requests than this ahead of a stream's end is closed.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// A client that reads so little is closed.
const UNSENT_BYTES_MAX: usize = 8 << 20;
const EVENTS_PER_TURN: usize = 16;
const SPARES_MAX: usize = 256;
