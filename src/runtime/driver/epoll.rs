//! The epoll driver, for hosts that refuse io_uring: the same operations, carried out by system calls when a socket is ready.
//!
//! Sockets are registered once, edge-triggered. An operation that can go on stands in `tries`; one that met EAGAIN waits for the
//! next edge, which puts it back.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use smallvec::SmallVec;

use super::Driver;
use crate::sys::net::{self, Address};
use crate::sys::progress;
use crate::sys::{BufferPool, Completed, Completion, EventFd, Fd, Op, OpId, RingStats, Slots, Wait};

pub struct EpollDriver {
    epoll: OwnedFd,
    bell: EventFd,
    pool: BufferPool,
    slots: Slots<Held>,
    /// By descriptor number.
    sockets: Vec<Readiness>,
    /// Operations that may make progress now.
    tries: VecDeque<OpId>,
    events: Vec<epoll::Event>,
    stats: RingStats,
}

struct Held {
    op: Op,
    target: u64,
    cancelled: bool,
    connecting: bool,
}

/// What is known of one registered socket, and which operations wait for an edge on it.
#[derive(Default, Clone)]
struct Readiness {
    registered: bool,
    /// An input edge came since the last EAGAIN or short read.
    readable: bool,
    /// The peer has closed: read on to the end even after a short read.
    hung_up: bool,
    input: Option<OpId>,
    output: Option<OpId>,
    /// Every operation in flight on it, waiting or not: at most a receive, a send and a connect.
    ops: SmallVec<[OpId; 3]>,
}

impl EpollDriver {
    /// # Errors
    /// When descriptors are out.
    pub fn new(pool: BufferPool, bell: EventFd) -> io::Result<EpollDriver> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        Ok(EpollDriver {
            epoll,
            bell,
            pool,
            slots: Slots::new(),
            sockets: Vec::new(),
            tries: VecDeque::new(),
            events: Vec::with_capacity(EVENTS),
            stats: RingStats::default(),
        })
    }

    fn readiness(&mut self, fd: Fd) -> &mut Readiness {
        let index = usize::try_from(fd.number()).unwrap_or(0);
        if self.sockets.len() <= index {
            self.sockets.resize(index + 1, Readiness::default());
        }
        &mut self.sockets[index]
    }

    fn register(&mut self, fd: Fd) -> io::Result<()> {
        if self.readiness(fd).registered {
            return Ok(());
        }
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(u64::try_from(fd.number()).unwrap_or(0));
        epoll::add(&self.epoll, fd.borrow(), data, flags)?;
        self.readiness(fd).registered = true;
        Ok(())
    }

    fn finish(&mut self, id: OpId, result: io::Result<u32>, out: &mut Vec<Completion>) {
        let Completed::Last(held) = self.slots.complete(id, false) else { return };
        let readiness = self.readiness(held.op.fd());
        for waiting in [&mut readiness.input, &mut readiness.output] {
            if *waiting == Some(id) {
                *waiting = None;
            }
        }
        readiness.ops.retain(|op| *op != id);
        out.push(Completion { target: held.target, id, result, more: false, lease: None, accepted: None, op: Some(held.op) });
    }

    fn attempt(&mut self, id: OpId, out: &mut Vec<Completion>) {
        let Some(held) = self.slots.get(id) else { return };
        if held.cancelled {
            return self.finish(id, Err(io::Error::from_raw_os_error(libc::ECANCELED)), out);
        }
        let fd = held.op.fd();
        if let Err(error) = self.register(fd) {
            return self.finish(id, Err(error), out);
        }
        match self.slots.get(id).map(|held| &held.op) {
            Some(Op::Recv { .. }) => self.try_recv(id, fd, out),
            Some(Op::Send { .. }) => self.try_send(id, fd, out),
            Some(Op::Accept { .. }) => self.try_accept(id, fd, out),
            Some(Op::Connect { .. }) => self.try_connect(id, fd, out),
            None => {}
        }
    }

    fn try_recv(&mut self, id: OpId, fd: Fd, out: &mut Vec<Completion>) {
        self.readiness(fd).input = Some(id);
        for _ in 0..READS_PER_TURN {
            if !self.readiness(fd).readable {
                return;
            }
            let size = self.pool.size();
            let lease = match self.pool.fill(|buffer| net::recv(fd, buffer)) {
                Ok(Some(lease)) => lease,
                Ok(None) => return self.finish(id, Err(io::Error::from_raw_os_error(libc::ENOBUFS)), out),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readiness(fd).readable = false;
                    return;
                }
                Err(error) => return self.finish(id, Err(error), out),
            };
            let count = u32::try_from(lease.len()).unwrap_or(size);
            if count == 0 {
                return self.finish(id, Ok(0), out);
            }
            if count < size && !self.readiness(fd).hung_up {
                self.readiness(fd).readable = false;
            }
            let Completed::More(held) = self.slots.complete(id, true) else { return };
            let target = held.target;
            out.push(Completion { target, id, result: Ok(count), more: true, lease: Some(lease), accepted: None, op: None });
        }
        self.tries.push_back(id);
    }

    fn try_send(&mut self, id: OpId, fd: Fd, out: &mut Vec<Completion>) {
        let Some(Held { op: Op::Send { parts, .. }, .. }) = self.slots.get(id) else { return };
        match net::send(fd, parts) {
            Ok(count) => self.finish(id, Ok(u32::try_from(count).unwrap_or(u32::MAX)), out),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readiness(fd).output = Some(id),
            Err(error) => self.finish(id, Err(error), out),
        }
    }

    fn try_accept(&mut self, id: OpId, fd: Fd, out: &mut Vec<Completion>) {
        self.readiness(fd).input = Some(id);
        for _ in 0..ACCEPTS_PER_TURN {
            match net::accept(fd) {
                Ok(accepted) => {
                    let Completed::More(held) = self.slots.complete(id, true) else { return drop(accepted.release()) };
                    let target = held.target;
                    out.push(Completion { target, id, result: Ok(0), more: true, lease: None, accepted: Some(accepted), op: None });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => {}
                Err(error) => return self.finish(id, Err(error), out),
            }
        }
        self.tries.push_back(id);
    }

    fn try_connect(&mut self, id: OpId, fd: Fd, out: &mut Vec<Completion>) {
        let Some(held) = self.slots.get_mut(id) else { return };
        let Op::Connect { addr, .. } = &held.op else { return };
        if held.connecting {
            return match net::connect_result(fd) {
                Ok(true) => self.finish(id, Ok(0), out),
                Ok(false) => self.readiness(fd).output = Some(id),
                Err(error) => self.finish(id, Err(error), out),
            };
        }
        match net::connect(fd, addr) {
            Ok(true) => self.finish(id, Ok(0), out),
            Ok(false) => {
                held.connecting = true;
                self.readiness(fd).output = Some(id);
            }
            Err(error) => self.finish(id, Err(error), out),
        }
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let time = match wait {
            Wait::Now => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
            Wait::For(time) => {
                Some(Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) })
            }
            Wait::Forever => None,
        };
        self.events.clear();
        self.stats.enters += 1;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), time.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::new(io::Error::from(error).kind(), format!("epoll_wait: {error}"))),
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            self.note(event);
        }
        self.events = events;
        Ok(())
    }

    fn note(&mut self, event: &epoll::Event) {
        let (data, flags) = (event.data.u64(), event.flags);
        if data == BELL {
            return self.bell.drain();
        }
        let Some(readiness) = usize::try_from(data).ok().and_then(|index| self.sockets.get_mut(index)) else { return };
        let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        if broken || flags.intersects(epoll::EventFlags::RDHUP) {
            readiness.hung_up = true;
        }
        if broken || flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP) {
            readiness.readable = true;
            self.tries.extend(readiness.input);
        }
        if broken || flags.contains(epoll::EventFlags::OUT) {
            self.tries.extend(readiness.output.take());
        }
    }

    fn attempt_all(&mut self, out: &mut Vec<Completion>) {
        for _ in 0..self.tries.len() {
            let Some(id) = self.tries.pop_front() else { return };
            self.attempt(id, out);
        }
    }
}

impl Driver for EpollDriver {
    fn listen(&mut self, address: &Address, backlog: i32) -> io::Result<Fd> {
        net::listen(address, backlog, true)
    }

    fn adopt_listener(&mut self, socket: OwnedFd) -> io::Result<Fd> {
        net::adopt_listener(socket, true)
    }

    fn socket(&mut self, address: &Address) -> io::Result<(Fd, Op)> {
        let (fd, addr) = net::socket(address, true)?;
        Ok((fd, Op::Connect { fd, addr }))
    }

    fn submit(&mut self, op: Op, target: u64) -> OpId {
        let fd = op.fd();
        let id = self.slots.insert(Held { op, target, cancelled: false, connecting: false });
        self.readiness(fd).ops.push(id);
        self.tries.push_back(id);
        id
    }

    fn cancel(&mut self, id: OpId) {
        if let Some(held) = self.slots.get_mut(id) {
            held.cancelled = true;
            self.tries.push_back(id);
        }
    }

    fn cancel_all(&mut self, fd: Fd) {
        for id in self.readiness(fd).ops.clone() {
            self.cancel(id);
        }
    }

    fn close(&mut self, fd: Fd) {
        *self.readiness(fd) = Readiness::default();
        drop(fd.release());
    }

    fn has_work(&mut self) -> bool {
        !self.tries.is_empty()
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.attempt_all(out);
        let wait = if out.is_empty() && self.tries.is_empty() { wait } else { Wait::Now };
        self.wait(wait)?;
        self.attempt_all(out);
        Ok(())
    }

    fn peer_addr(&self, fd: Fd) -> Option<SocketAddr> {
        net::peer_addr(fd)
    }

    fn local_addr(&self, fd: Fd) -> Option<SocketAddr> {
        net::local_addr(fd)
    }

    fn taken_bytes(&self, fd: Fd) -> Option<u64> {
        progress::bytes_acked(fd)
    }

    fn shutdown_write(&mut self, fd: Fd) {
        net::shutdown_write(fd);
    }

    fn reset_on_close(&mut self, fd: Fd) {
        net::reset_on_close(fd);
    }

    fn pool(&self) -> &BufferPool {
        &self.pool
    }

    fn name(&self) -> &'static str {
        "epoll"
    }

    fn can_spin(&self) -> bool {
        false
    }

    fn stats(&self) -> RingStats {
        RingStats { stale: self.slots.stale(), in_flight: self.slots.in_flight(), ..self.stats }
    }
}

const BELL: u64 = u64::MAX;
const EVENTS: usize = 512;
const READS_PER_TURN: usize = 4;
const ACCEPTS_PER_TURN: usize = 64;
