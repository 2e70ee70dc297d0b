//! A safe face over one io_uring: operations go in with the memory they lend, completions come out.
//!
//! Invariants: (1) every entry pushed names memory that lives in the slot table (or in `PreparedMessage`, kept beside it) until the
//! operation's last completion; (2) the ring is closed before the slot table and the buffer pool are freed (field order: fields
//! drop from first to last); (3) the ring is entered by one thread only (`Ring` is `!Send` through the pool's `Rc`).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::buffers::{BufferPool, Lease};
use super::eventfd::EventFd;
use super::fd::Fd;
use super::net::MAX_IOVECS;
use super::op::{Op, Parts};
use super::slots::{Completed, OpId, Slots};

/// One completion, in the form all drivers share.
#[derive(Debug)]
pub struct Completion {
    /// Who asked: the value given with the operation.
    pub target: u64,
    pub id: OpId,
    /// Accept: unused (see `accepted`); Recv: bytes; Send: bytes; Connect: 0.
    pub result: io::Result<u32>,
    /// The operation goes on (multishot).
    pub more: bool,
    pub lease: Option<Lease>,
    pub accepted: Option<Fd>,
    /// With the last completion: the operation with the memory it had borrowed.
    pub op: Option<Op>,
}

/// How long a turn may wait for a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Submit, reap what is there.
    Now,
    For(Duration),
    Forever,
}

/// Counts for the ring's gauges.
#[derive(Clone, Copy, Default, Debug)]
pub struct RingStats {
    pub enters: u64,
    pub cq_overflows: u64,
    pub stale: u64,
    pub in_flight: u32,
}

pub struct Ring {
    ring: IoUring,
    slots: Slots<Held>,
    #[expect(clippy::vec_box, reason = "the kernel keeps the address of a header, so it must not move with the vector")]
    messages: Vec<Box<PreparedMessage>>,
    pool: BufferPool,
    bell: EventFd,
    bell_armed: bool,
    /// Entries that found the submission queue full; they go in before anything newer.
    backlog: VecDeque<squeue::Entry>,
    stats: RingStats,
}

struct Held {
    op: Op,
    target: u64,
    message: Option<Box<PreparedMessage>>,
}

/// The kernel reads the message header and the vector table when the operation runs, so both live until it is done.
struct PreparedMessage {
    header: libc::msghdr,
    vectors: Vec<libc::iovec>,
}

const BUFFER_GROUP: u16 = 0;
const BELL: u64 = 1;
const IGNORED: u64 = 2;

impl Ring {
    /// A ring of `entries` submission slots that receives into `pool` and wakes when `bell` rings.
    ///
    /// # Errors
    /// When the kernel (or seccomp, or the memlock limit) refuses; the error says which call failed.
    pub fn new(entries: u32, pool: BufferPool, bell: EventFd) -> io::Result<Ring> {
        let ring = Self::build(entries).map_err(|error| annotate(&error, "io_uring_setup"))?;
        let address = pool.attach_ring()?;
        // SAFETY: the address is the pool's page-aligned ring of exactly `count` entries; the pool is a field of `Ring` declared
        // after the ring itself, so it outlives it.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, pool.count(), BUFFER_GROUP, 0) }
            .map_err(|error| annotate(&error, "registering the receive buffers"))?;
        Ok(Ring {
            ring,
            slots: Slots::new(),
            messages: Vec::new(),
            pool,
            bell,
            bell_armed: false,
            backlog: VecDeque::new(),
            stats: RingStats::default(),
        })
    }

    /// The fast flags need Linux 6.1 (NO_SQARRAY 6.6): older kernels get what they know.
    fn build(entries: u32) -> io::Result<IoUring> {
        let completions = entries * 4;
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).setup_submit_all().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_clamp();
        let fast = builder.clone().setup_no_sqarray().build(entries);
        fast.or_else(|_| builder.build(entries)).or_else(|error| {
            if error.raw_os_error() == Some(libc::EINVAL) {
                IoUring::builder().setup_cqsize(completions).setup_submit_all().setup_coop_taskrun().setup_taskrun_flag().build(entries)
            } else {
                Err(error)
            }
        })
    }

    /// Queues `op` for the next enter. `target` comes back with each completion.
    pub fn submit(&mut self, op: Op, target: u64) -> OpId {
        let mut message = match &op {
            Op::Send { parts, .. } if parts.slices().nth(1).is_some() => Some(self.prepare(parts)),
            _ => None,
        };
        let entry = match &op {
            Op::Accept { listener } => opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build(),
            Op::Recv { fd } => opcode::RecvMulti::new(types::Fd(fd.as_raw_fd()), BUFFER_GROUP).build(),
            Op::Connect { fd, addr } => opcode::Connect::new(types::Fd(fd.as_raw_fd()), addr.as_ptr().cast(), addr.len()).build(),
            Op::Send { fd, parts } => send_entry(*fd, parts, message.as_deref_mut()),
        };
        let id = self.slots.insert(Held { op, target, message });
        self.push(entry.user_data(id.user_data()));
        id
    }

    fn prepare(&mut self, parts: &Parts) -> Box<PreparedMessage> {
        let mut message = self.messages.pop().unwrap_or_else(PreparedMessage::empty);
        message.vectors.clear();
        let vectors = parts.slices().take(MAX_IOVECS);
        message.vectors.extend(vectors.map(|slice| libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() }));
        message.header.msg_iov = message.vectors.as_mut_ptr();
        message.header.msg_iovlen = message.vectors.len();
        message
    }

    /// Asks the kernel to end `id`; its own last completion still follows.
    pub fn cancel(&mut self, id: OpId) {
        if self.slots.cancel(id) {
            self.push(opcode::AsyncCancel2::new(CancelBuilder::user_data(id.user_data())).build().user_data(IGNORED));
        }
    }

    /// Asks the kernel to end every operation on `fd`.
    pub fn cancel_all(&mut self, fd: Fd) {
        let all = CancelBuilder::fd(types::Fd(fd.as_raw_fd())).all();
        self.push(opcode::AsyncCancel2::new(all).build().user_data(IGNORED));
    }

    /// Closes a descriptor on which no operation is in flight.
    pub fn close(&mut self, fd: Fd) {
        self.push(opcode::Close::new(types::Fd(fd.as_raw_fd())).build().user_data(IGNORED));
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        // SAFETY: invariant (1): whatever the entry points to lives in `slots` or in this struct until its last completion.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Whether a completion can be reaped, or made by an enter, without waiting. Reads shared memory only, makes no call.
    pub fn has_work(&mut self) -> bool {
        let taskrun = {
            let queue = self.ring.submission();
            queue.taskrun() || queue.cq_overflow()
        };
        taskrun || !self.ring.completion().is_empty()
    }

    /// One enter: submits everything queued, waits as told, then hands each completion to `out`.
    ///
    /// # Errors
    /// When the kernel refuses the enter itself (not an operation): the ring is then unusable.
    pub fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.arm_bell();
        self.pool.top_up();
        self.drain_backlog()?;
        let wait = if self.ring.completion().is_empty() { wait } else { Wait::Now };
        if wait != Wait::Now || !self.ring.submission().is_empty() || self.has_work() {
            self.enter(wait)?;
        }
        self.reap(out);
        Ok(())
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.stats.enters += 1;
        let entered = match wait {
            Wait::Now => self.ring.submitter().submit(),
            Wait::Forever => self.ring.submitter().submit_and_wait(1),
            Wait::For(time) => {
                let span = Timespec::from(time);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&span))
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The time is up; a signal; completions must be reaped first (they are, next). All are states, not faults.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(annotate(&error, "io_uring_enter")),
            },
        }
    }

    fn drain_backlog(&mut self) -> io::Result<()> {
        while !self.backlog.is_empty() {
            if self.ring.submission().is_full() {
                self.enter(Wait::Now)?;
                if self.ring.submission().is_full() {
                    return Ok(());
                }
            }
            let Some(entry) = self.backlog.pop_front() else { break };
            // SAFETY: as in `push`.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                self.backlog.push_front(entry);
                return Ok(());
            }
        }
        Ok(())
    }

    fn arm_bell(&mut self) {
        if self.bell_armed {
            return;
        }
        self.bell_armed = true;
        let fd = types::Fd(self.bell.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, POLLIN).multi(true).build().user_data(BELL);
        self.push(entry);
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        if self.ring.completion().overflow() > 0 {
            self.stats.cq_overflows += 1;
        }
        let mut rang = false;
        let (_, _, completions) = self.ring.split();
        for entry in completions {
            let (data, flags, result) = (entry.user_data(), entry.flags(), entry.result());
            match data {
                BELL => {
                    rang = true;
                    self.bell_armed = cqueue::more(flags);
                }
                IGNORED => {}
                _ => {
                    if let Some(completion) = finish(&mut self.slots, &mut self.messages, &self.pool, data, flags, result) {
                        out.push(completion);
                    }
                }
            }
        }
        if rang {
            self.bell.drain();
        }
    }

    #[must_use]
    pub fn stats(&self) -> RingStats {
        RingStats { stale: self.slots.stale(), in_flight: self.slots.in_flight(), ..self.stats }
    }
}

#[expect(clippy::vec_box, reason = "the kernel keeps the address of a header, so it must not move with the vector")]
/// Turns a kernel completion into ours. What a stale one brought (a descriptor, a buffer) is given back here.
fn finish(
    slots: &mut Slots<Held>,
    messages: &mut Vec<Box<PreparedMessage>>,
    pool: &BufferPool,
    data: u64,
    flags: u32,
    result: i32,
) -> Option<Completion> {
    let id = OpId::from_user_data(data);
    let more = cqueue::more(flags);
    let count = u32::try_from(result).unwrap_or(0);
    let lease = cqueue::buffer_select(flags).map(|buffer| pool.received(buffer, count));
    let (target, op) = match slots.complete(id, more) {
        Completed::More(held) => (held.target, None),
        Completed::Last(mut held) => {
            messages.extend(held.message.take().filter(|_| messages.len() < KEPT_MESSAGES));
            (held.target, Some(held.op))
        }
        Completed::Stale => return None,
    };
    let is_accept = match &op {
        Some(op) => matches!(op, Op::Accept { .. }),
        None => slots.get(id).is_some_and(|held| matches!(held.op, Op::Accept { .. })),
    };
    // SAFETY: a non-negative accept result is a fresh descriptor that nobody else knows.
    let accepted = (is_accept && result >= 0).then(|| Fd::adopt(unsafe { std::os::fd::FromRawFd::from_raw_fd(result) }));
    let result = if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(count) };
    Some(Completion { target, id, result, more, lease, accepted, op })
}

fn send_entry(fd: Fd, parts: &Parts, message: Option<&mut PreparedMessage>) -> squeue::Entry {
    let fd = types::Fd(fd.as_raw_fd());
    // MSG_WAITALL makes the kernel go on after a short write, so one completion stands for the whole message.
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    match message {
        Some(message) => opcode::SendMsg::new(fd, &raw const message.header).flags(flags.cast_unsigned()).build(),
        None => {
            let bytes = parts.slices().next().unwrap_or_default();
            let len = u32::try_from(bytes.len()).unwrap_or(i32::MAX.cast_unsigned());
            opcode::Send::new(fd, bytes.as_ptr(), len).flags(flags).build()
        }
    }
}

impl PreparedMessage {
    fn empty() -> Box<PreparedMessage> {
        // SAFETY: msghdr is a plain C struct for which all-zero bytes are valid (null pointers, zero lengths).
        let header = unsafe { std::mem::zeroed() };
        Box::new(PreparedMessage { header, vectors: Vec::new() })
    }
}

impl Drop for Ring {
    /// Rule: cancel, reap, close the ring, then free. Operations still in flight could write into memory that is about to go.
    fn drop(&mut self) {
        let mut out = Vec::new();
        self.push(opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(IGNORED));
        for _ in 0..DROP_TURNS {
            // At least one turn: closes may be queued that the kernel has not seen.
            let is_broken = self.turn(Wait::For(Duration::from_millis(1)), &mut out).is_err();
            for completion in out.drain(..) {
                if let Some(fd) = completion.accepted {
                    drop(fd.release());
                }
            }
            if is_broken || (self.slots.in_flight() == 0 && self.backlog.is_empty() && self.ring.submission().is_empty()) {
                break;
            }
        }
        if self.slots.in_flight() > 0 {
            // The kernel still holds pointers into it: leak the memory rather than free it under the kernel.
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(self.pool.clone());
        }
    }
}

fn annotate(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

const POLLIN: u32 = libc::POLLIN.cast_unsigned() as u32;
const KEPT_MESSAGES: usize = 64;
const DROP_TURNS: usize = 100;
