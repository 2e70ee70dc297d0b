//! What the runtime knows of each socket: which operations are in flight, what has arrived and was not read, who waits. It turns
//! completions into wakes and closes a socket once its handle is gone and its last operation is retired.

use std::collections::VecDeque;
use std::io;

use slab::Slab;

use super::driver::Driver;
use super::tasks::TaskId;
use crate::sys::{Completion, Fd, Lease, Op, OpId, Parts};

#[derive(Default)]
pub(crate) struct Sockets {
    pub(crate) streams: Slab<Stream>,
    pub(crate) listeners: Slab<ListenerState>,
    /// Streams whose receive ended because no buffer was left.
    starved: Vec<usize>,
    /// Vectors that were sent, kept for reuse.
    spare: Vec<Vec<u8>>,
    /// Their capacities.
    spare_bytes: usize,
    pub(crate) counts: SocketCounts,
}

/// Things that happened, for the metrics.
#[derive(Clone, Copy, Default, Debug)]
pub struct SocketCounts {
    /// Receives that found no buffer (backpressure at work).
    pub starvations: u64,
    /// Receives paused because the reader was behind.
    pub pauses: u64,
}

pub(crate) struct Stream {
    pub(crate) fd: Fd,
    recv: Option<OpId>,
    pausing: bool,
    pub(crate) arrived: VecDeque<Lease>,
    pub(crate) end: Option<End>,
    pub(crate) reader: Option<TaskId>,
    send: Option<OpId>,
    /// Waits for `send` to be done; sent as one message then.
    unsent: Option<Parts>,
    pub(crate) send_error: Option<i32>,
    pub(crate) writer: Option<TaskId>,
    connect: Option<OpId>,
    pub(crate) connected: Option<io::Result<()>>,
    /// The handle is gone.
    closing: bool,
    is_starved: bool,
}

impl Stream {
    fn arrived_bytes(&self) -> usize {
        self.arrived.iter().map(|lease| lease.len()).sum()
    }
}

/// How the incoming direction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Eof,
    /// An errno.
    Failed(i32),
}

pub(crate) struct ListenerState {
    pub(crate) fd: Fd,
    accept: Option<OpId>,
    pub(crate) accepted: VecDeque<Fd>,
    pub(crate) error: Option<io::Error>,
    pub(crate) acceptor: Option<TaskId>,
    /// Nothing more is accepted; what was is still given out.
    pub(crate) stopped: bool,
    closing: bool,
}

/// Which socket, and which of its operations, a completion belongs to: the `target` given to the driver.
#[derive(Clone, Copy)]
enum Target {
    Accept(usize),
    Recv(usize),
    Send(usize),
    Connect(usize),
}

impl Target {
    fn encode(self) -> u64 {
        let (kind, index) = match self {
            Target::Accept(index) => (0, index),
            Target::Recv(index) => (1, index),
            Target::Send(index) => (2, index),
            Target::Connect(index) => (3, index),
        };
        (index as u64) << 2 | kind
    }

    fn decode(value: u64) -> Target {
        let index = usize::try_from(value >> 2).unwrap_or(usize::MAX);
        match value & 3 {
            0 => Target::Accept(index),
            1 => Target::Recv(index),
            2 => Target::Send(index),
            _ => Target::Connect(index),
        }
    }
}

impl Sockets {
    pub(crate) fn add_stream(&mut self, fd: Fd) -> usize {
        self.streams.insert(Stream {
            fd,
            recv: None,
            pausing: false,
            arrived: VecDeque::new(),
            end: None,
            reader: None,
            send: None,
            unsent: None,
            send_error: None,
            writer: None,
            connect: None,
            connected: None,
            closing: false,
            is_starved: false,
        })
    }

    /// Forgets a stream on which nothing was begun, and gives its descriptor; `None` for others.
    pub(crate) fn take_untouched(&mut self, index: usize) -> Option<Fd> {
        let stream = self.streams.get(index)?;
        let begun = stream.recv.is_some() || stream.send.is_some() || stream.connect.is_some() || stream.is_starved;
        let untouched = !begun && stream.arrived.is_empty() && stream.end.is_none() && stream.send_error.is_none();
        untouched.then(|| self.streams.remove(index).fd)
    }

    pub(crate) fn add_listener(&mut self, fd: Fd) -> usize {
        self.listeners.insert(ListenerState {
            fd,
            accept: None,
            accepted: VecDeque::new(),
            error: None,
            acceptor: None,
            stopped: false,
            closing: false,
        })
    }

    /// Whether every stream and every listener is closed.
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.listeners.is_empty()
    }

    pub(crate) fn start_connect(&mut self, driver: &mut dyn Driver, index: usize, op: Op) {
        self.streams[index].connect = Some(driver.submit(op, Target::Connect(index).encode()));
    }

    /// Keeps a receive armed while the reader is not too far behind.
    pub(crate) fn arm_recv(&mut self, driver: &mut dyn Driver, index: usize) {
        let stream = &mut self.streams[index];
        let idle = stream.recv.is_none() && stream.end.is_none() && !stream.is_starved && !stream.closing;
        let few = stream.arrived.len() <= LEASES_RESUME && !(driver.pool().is_low() && stream.arrived_bytes() > ARRIVED_LOW_MAX / 2);
        if idle && few {
            stream.recv = Some(driver.submit(Op::Recv { fd: stream.fd }, Target::Recv(index).encode()));
        }
    }

    pub(crate) fn arm_accept(&mut self, driver: &mut dyn Driver, index: usize) {
        let listener = &mut self.listeners[index];
        if listener.accept.is_none() && listener.accepted.len() < ACCEPTED_MAX / 2 && !listener.closing && !listener.stopped {
            listener.accept = Some(driver.submit(Op::Accept { listener: listener.fd }, Target::Accept(index).encode()));
        }
    }

    /// Sends `parts` after whatever is being sent. The caller bounds how much it leaves unsent by awaiting `sent`.
    pub(crate) fn start_send(&mut self, driver: &mut dyn Driver, index: usize, mut parts: Parts) {
        let stream = &mut self.streams[index];
        if parts.is_empty() || stream.send_error.is_some() {
            return self.keep(&mut parts);
        }
        match (stream.send, &mut stream.unsent) {
            (None, _) => stream.send = Some(driver.submit(Op::Send { fd: stream.fd, parts }, Target::Send(index).encode())),
            (Some(_), Some(unsent)) => unsent.append(parts),
            (Some(_), none) => *none = Some(parts),
        }
    }

    pub(crate) fn is_sending(&self, index: usize) -> bool {
        self.streams[index].send.is_some()
    }

    /// A vector with spare room, empty.
    pub(crate) fn take_vec(&mut self) -> Vec<u8> {
        let Some(vec) = self.spare.pop() else { return Vec::with_capacity(SPARE_CAPACITY) };
        self.spare_bytes -= vec.capacity();
        vec
    }

    pub(crate) fn keep_vec(&mut self, mut vec: Vec<u8>) {
        let all = self.spare_bytes + vec.capacity();
        if self.spare.len() < SPARES_MAX && (1..=SPARE_CAPACITY_MAX).contains(&vec.capacity()) && all <= SPARE_BYTES_MAX {
            self.spare_bytes = all;
            vec.clear();
            self.spare.push(vec);
        }
    }

    /// Frees the vectors kept for reuse and what the table grew by and needs no more.
    pub(crate) fn shrink(&mut self) {
        (self.spare, self.spare_bytes) = (Vec::new(), 0);
        self.streams.shrink_to_fit();
    }

    fn keep(&mut self, parts: &mut Parts) {
        for vec in parts.take_vecs() {
            self.keep_vec(vec);
        }
    }

    /// Applies one completion and says who may go on. What it brought is taken out of it where it lies.
    pub(crate) fn complete(&mut self, driver: &mut dyn Driver, completion: &mut Completion) -> Option<TaskId> {
        match Target::decode(completion.target) {
            Target::Accept(index) => self.accepted(driver, index, completion),
            Target::Recv(index) => self.received(driver, index, completion),
            Target::Send(index) => self.sent(driver, index, completion),
            Target::Connect(index) => {
                let stream = &mut self.streams[index];
                stream.connect = None;
                stream.connected = Some(take_result(completion).map(|_| ()));
                let wake = stream.writer.take();
                self.finish_closing(driver, index);
                wake
            }
        }
    }

    fn accepted(&mut self, driver: &mut dyn Driver, index: usize, completion: &mut Completion) -> Option<TaskId> {
        let listener = &mut self.listeners[index];
        if !completion.more {
            listener.accept = None;
        }
        if let Some(fd) = completion.accepted.take() {
            if listener.closing {
                driver.close(fd);
            } else {
                listener.accepted.push_back(fd);
            }
        }
        match take_result(completion) {
            Err(error) if error.raw_os_error() != Some(libc::ECANCELED) => listener.error = Some(error),
            _ => {}
        }
        if listener.closing {
            if listener.accept.is_none() {
                driver.close(listener.fd);
                self.listeners.remove(index);
            }
            return None;
        }
        if let Some(op) = listener.accept.filter(|_| listener.accepted.len() >= ACCEPTED_MAX) {
            driver.cancel(op);
        }
        listener.acceptor.take()
    }

    fn received(&mut self, driver: &mut dyn Driver, index: usize, completion: &mut Completion) -> Option<TaskId> {
        let stream = &mut self.streams[index];
        if !completion.more {
            stream.recv = None;
            stream.pausing = false;
        }
        match (&completion.result, completion.lease.take()) {
            (Ok(_), Some(lease)) if !lease.is_empty() => {
                // Nobody waits for it: it may lie here for long, and then it must not hold one of the last buffers.
                let idle = stream.reader.is_none() && driver.pool().is_low();
                stream.arrived.push_back(if idle { lease.detach() } else { lease });
            }
            (Ok(_), _) => stream.end = Some(End::Eof),
            (Err(error), _) => match error.raw_os_error().unwrap_or(libc::EIO) {
                libc::ECANCELED => {}
                libc::ENOBUFS => {
                    self.counts.starvations += 1;
                    if !std::mem::replace(&mut stream.is_starved, true) {
                        self.starved.push(index);
                    }
                }
                errno => stream.end = Some(End::Failed(errno)),
            },
        }
        if stream.closing {
            stream.arrived.clear();
            self.finish_closing(driver, index);
            return None;
        }
        let behind = match driver.pool().is_low() {
            true => stream.arrived.len() >= LEASES_MAX || stream.arrived_bytes() >= ARRIVED_LOW_MAX,
            false => stream.arrived.len() >= LEASES_BURST_MAX,
        };
        if let Some(op) = stream.recv.filter(|_| behind && !stream.pausing) {
            stream.pausing = true;
            self.counts.pauses += 1;
            driver.cancel(op);
        }
        let wake = stream.reader.take();
        self.arm_recv(driver, index);
        wake
    }

    fn sent(&mut self, driver: &mut dyn Driver, index: usize, completion: &mut Completion) -> Option<TaskId> {
        let Some(Op::Send { fd, parts }) = &mut completion.op else { return None };
        let fd = *fd;
        let stream = &mut self.streams[index];
        stream.send = None;
        match &completion.result {
            Ok(count) if *count > 0 => {
                parts.advance(*count as usize);
                if !parts.is_empty() && !stream.closing {
                    let parts = std::mem::take(parts);
                    stream.send = Some(driver.submit(Op::Send { fd, parts }, Target::Send(index).encode()));
                    return None;
                }
                if let Some(unsent) = stream.unsent.take().filter(|_| !stream.closing) {
                    stream.send = Some(driver.submit(Op::Send { fd, parts: unsent }, Target::Send(index).encode()));
                }
            }
            Ok(_) => stream.send_error = Some(libc::EPIPE),
            Err(error) => stream.send_error = Some(error.raw_os_error().unwrap_or(libc::EIO)),
        }
        let wake = stream.writer.take();
        self.keep(parts);
        self.finish_closing(driver, index);
        wake
    }

    /// The handle of a stream is gone: end its operations, then close it.
    pub(crate) fn close_stream(&mut self, driver: &mut dyn Driver, index: usize) {
        let stream = &mut self.streams[index];
        stream.closing = true;
        stream.arrived.clear();
        stream.unsent = None;
        (stream.reader, stream.writer) = (None, None);
        if stream.send.is_some() || stream.connect.is_some() {
            driver.cancel_all(stream.fd);
        } else if stream.recv.is_some() {
            driver.end_recv(stream.fd);
        }
        self.finish_closing(driver, index);
    }

    fn finish_closing(&mut self, driver: &mut dyn Driver, index: usize) {
        let stream = &self.streams[index];
        if stream.closing && stream.recv.is_none() && stream.send.is_none() && stream.connect.is_none() {
            driver.close(stream.fd);
            if stream.is_starved {
                self.starved.retain(|starved| *starved != index);
            }
            self.streams.remove(index);
        }
    }

    /// Ends accepting. The last completions may still bring connections.
    pub(crate) fn stop_listener(&mut self, driver: &mut dyn Driver, index: usize) {
        let listener = &mut self.listeners[index];
        listener.stopped = true;
        if let Some(op) = listener.accept {
            driver.cancel(op);
        }
    }

    /// Whether it was stopped and everything it had accepted was given out.
    pub(crate) fn is_exhausted(&self, index: usize) -> bool {
        let listener = &self.listeners[index];
        listener.stopped && listener.accept.is_none() && listener.accepted.is_empty()
    }

    pub(crate) fn close_listener(&mut self, driver: &mut dyn Driver, index: usize) {
        let listener = &mut self.listeners[index];
        listener.closing = true;
        for fd in listener.accepted.drain(..) {
            driver.close(fd);
        }
        match listener.accept {
            Some(_) => driver.cancel_all(listener.fd),
            None => {
                driver.close(listener.fd);
                self.listeners.remove(index);
            }
        }
    }

    /// Arms the receives that ran out of buffers, once some are back.
    pub(crate) fn feed_starved(&mut self, driver: &mut dyn Driver) {
        if self.starved.is_empty() || driver.pool().available() == 0 {
            return;
        }
        for index in std::mem::take(&mut self.starved) {
            self.streams[index].is_starved = false;
            self.arm_recv(driver, index);
        }
    }
}

/// Received pieces kept per stream for a reader that is behind; then the receive is cancelled until half are read.
pub(crate) const LEASES_MAX: usize = 8;
/// The same while the pool has plenty: a body of 256 KiB comes in one turn, and pausing costs a cancel and a new receive.
pub(crate) const LEASES_BURST_MAX: usize = 32;
const LEASES_RESUME: usize = LEASES_MAX / 2;
/// Bytes of such pieces while the pool is low: they are copied out of it, and the heap has no bound of its own.
pub(crate) const ARRIVED_LOW_MAX: usize = 64 << 10;
/// Accepted connections that wait for the acceptor; then accepting pauses and the kernel's backlog holds the rest.
const ACCEPTED_MAX: usize = 64;
fn take_result(completion: &mut Completion) -> io::Result<u32> {
    std::mem::replace(&mut completion.result, Ok(0))
}

const SPARES_MAX: usize = 256;
const SPARE_CAPACITY: usize = 2048;
const SPARE_CAPACITY_MAX: usize = 64 * 1024;
/// All of them together: what slow readers have left behind goes back to the allocator.
const SPARE_BYTES_MAX: usize = 2 << 20;
