//! What operations do in the pretend kernel: connect, accept, send, receive, close. Connections carry bytes in order, with
//! latency, through bounded buffers, and break as TCP's do: unread bytes at close make a reset, so do bytes sent to the gone.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::faults::Fault;
use super::kernel::{Event, FIRST_NUMBER, Kernel, Outcome};
use super::network::{Connection, End, File, FileKind, OpRef, Piece, Side};
use crate::sys::net::Address;
use crate::sys::{Fd, Op};

impl Kernel {
    pub(super) fn file(&self, fd: Fd) -> Option<&File> {
        self.files.get(index_of(fd)?)?.as_ref()
    }

    pub(super) fn file_mut(&mut self, fd: Fd) -> Option<&mut File> {
        self.files.get_mut(index_of(fd)?)?.as_mut()
    }

    /// Opens the lowest free number.
    fn open(&mut self, kind: FileKind) -> io::Result<Fd> {
        let index = self.files.iter().position(Option::is_none).unwrap_or(self.files.len());
        if index >= self.faults.descriptors_max {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        if index == self.files.len() {
            self.files.push(None);
        }
        let serial = self.next_serial();
        self.files[index] = Some(File::new(serial, kind));
        Ok(Fd::simulated(FIRST_NUMBER + i32::try_from(index).unwrap_or(i32::MAX)))
    }

    pub(super) fn listen(&mut self, address: &Address, backlog: i32) -> io::Result<Fd> {
        let address = match address {
            Address::Tcp(addr) if addr.port() == 0 => Address::Tcp(SocketAddr::new(addr.ip(), self.free_port())),
            other => other.clone(),
        };
        if matches!(address, Address::Unix(_)) && self.listeners.iter().any(|(taken, _)| *taken == address) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        let backlog_max = usize::try_from(backlog).unwrap_or(1).max(1);
        let fd = self.open(FileKind::Listener { address: address.clone(), backlog: VecDeque::new(), backlog_max })?;
        self.listeners.push((address, fd));
        Ok(fd)
    }

    fn free_port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(20_000);
        self.next_port
    }

    pub(super) fn socket(&mut self, address: &Address) -> io::Result<Fd> {
        if self.strikes(Fault::SocketOutOfDescriptors) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        self.open(FileKind::Idle { peer: address.clone() })
    }

    /// An operation leaves the submission queue.
    pub(super) fn start(&mut self, op: OpRef) {
        let Some(held) = self.rings[op.ring].slots.get(op.id) else { return };
        let (fd, kind) = (held.op.fd(), std::mem::discriminant(&held.op));
        let is = |other: Op| std::mem::discriminant(&other) == kind;
        let (accept, recv) = (is(Op::Accept { listener: fd }), is(Op::Recv { fd }));
        let send = matches!(held.op, Op::Send { .. });
        let Some(file) = self.file_mut(fd) else {
            self.accuse(format!("an operation on {fd:?}, which is closed"));
            return self.post_last(op, Outcome::Failed(libc::EBADF));
        };
        let slot = match (accept, recv, send) {
            (true, ..) => &mut file.accept,
            (_, true, _) => &mut file.recv,
            (.., true) => &mut file.send,
            _ => &mut file.connect,
        };
        if slot.replace(op).is_some() {
            self.accuse(format!("two operations of one kind on {fd:?}"));
        }
        let end = self.file(fd).and_then(File::end);
        match (accept, recv, send, end) {
            (true, ..) => self.pump_accept(fd),
            (_, true, _, Some(end)) => self.pump_recv(end),
            (_, _, true, Some(end)) => self.pump_send(end),
            (_, true, ..) | (_, _, true, _) => self.post_last(op, Outcome::Failed(libc::ENOTCONN)),
            _ => {
                let at = self.now() + self.latency();
                self.schedule(at, Event::Connect { op, tries: 0 });
            }
        }
    }

    pub(super) fn try_connect(&mut self, op: OpRef, tries: u32) {
        if !self.is_active(op) {
            return;
        }
        let Some(fd) = self.rings[op.ring].slots.get(op.id).map(|held| held.op.fd()) else { return };
        let Some(File { kind: FileKind::Idle { peer }, .. }) = self.file(fd) else {
            return self.post_last(op, Outcome::Failed(libc::EISCONN));
        };
        let peer = peer.clone();
        if self.holes.contains(&peer) {
            // It is on its way until it is cancelled.
            return;
        }
        let at: Vec<Fd> = self.listeners.iter().filter(|(address, _)| *address == peer).map(|(_, fd)| *fd).collect();
        if at.is_empty() || self.strikes(Fault::Refused) {
            let missing = matches!(peer, Address::Unix(_)) && at.is_empty();
            return self.post_last(op, Outcome::Failed(if missing { libc::ENOENT } else { libc::ECONNREFUSED }));
        }
        if tries >= CONNECT_TRIES || self.strikes(Fault::ConnectTimedOut) {
            return self.post_last(op, Outcome::Failed(libc::ETIMEDOUT));
        }
        let listener = at[self.rng.index(at.len())];
        let is_full = match self.file(listener).map(|file| &file.kind) {
            Some(FileKind::Listener { backlog, backlog_max, .. }) => backlog.len() >= *backlog_max,
            _ => true,
        };
        if is_full {
            self.reach(Fault::BacklogFull);
            let at = self.now() + CONNECT_AGAIN;
            return self.schedule(at, Event::Connect { op, tries: tries + 1 });
        }
        self.connect(op, fd, listener, &peer);
    }

    fn connect(&mut self, op: OpRef, fd: Fd, listener: Fd, peer: &Address) {
        let id = self.next_serial();
        let addresses = match peer {
            Address::Tcp(to) => [Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.free_port())), Some(*to)],
            Address::Unix(_) => [None, None],
        };
        let mut connection = Connection { sides: [Side::default(), Side::default()], addresses };
        connection.sides[0].fd = Some(fd);
        self.connections.insert(id, connection);
        if let Some(file) = self.file_mut(fd) {
            file.kind = FileKind::Stream(End { connection: id, side: 0 });
        }
        if let Some(File { kind: FileKind::Listener { backlog, .. }, .. }) = self.file_mut(listener) {
            backlog.push_back(id);
        }
        self.post_last(op, Outcome::Count(0));
        self.pump_accept(listener);
    }

    fn pump_accept(&mut self, listener: Fd) {
        loop {
            let Some(File { kind: FileKind::Listener { backlog, .. }, accept: Some(op), .. }) = self.file_mut(listener) else { return };
            let (op, Some(connection)) = (*op, backlog.front().copied()) else { return };
            if !self.connections.contains_key(&connection) {
                self.unqueue(listener);
                continue;
            }
            if self.strikes(Fault::AcceptOutOfDescriptors) {
                return self.post_last(op, Outcome::Failed(libc::EMFILE));
            }
            let end = End { connection, side: 1 };
            if self.strikes(Fault::Aborted) {
                self.unqueue(listener);
                self.abandon(end);
                return self.post_last(op, Outcome::Failed(libc::ECONNABORTED));
            }
            let Ok(fd) = self.open(FileKind::Stream(end)) else {
                self.reach(Fault::AcceptOutOfDescriptors);
                return self.post_last(op, Outcome::Failed(libc::EMFILE));
            };
            self.unqueue(listener);
            if let Some(side) = self.side_mut(end) {
                side.fd = Some(fd);
            }
            if self.strikes(Fault::MultishotEnds) {
                return self.post_last(op, Outcome::Accepted(fd));
            }
            self.post(op, Outcome::Accepted(fd), true);
        }
    }

    fn unqueue(&mut self, listener: Fd) {
        if let Some(File { kind: FileKind::Listener { backlog, .. }, .. }) = self.file_mut(listener) {
            backlog.pop_front();
        }
    }

    fn side(&self, end: End) -> Option<&Side> {
        Some(&self.connections.get(&end.connection)?.sides[end.side])
    }

    fn side_mut(&mut self, end: End) -> Option<&mut Side> {
        Some(&mut self.connections.get_mut(&end.connection)?.sides[end.side])
    }

    /// Sends a piece on its way to `end`, behind what is on its way already.
    fn transmit(&mut self, end: End, piece: Piece) {
        let arrival = self.now() + self.latency();
        let Some(side) = self.side_mut(end) else { return };
        let arrival = arrival.max(side.last_arrival);
        side.last_arrival = arrival;
        if let Piece::Bytes(bytes) = &piece {
            side.flying_bytes += bytes.len();
        }
        side.flying.push_back(piece);
        self.schedule(arrival, Event::Deliver(end));
    }

    pub(super) fn deliver(&mut self, end: End) {
        let Some(side) = self.side_mut(end) else { return };
        let Some(piece) = side.flying.pop_front() else { return };
        match piece {
            Piece::Bytes(bytes) => {
                side.flying_bytes -= bytes.len();
                if side.is_closed {
                    return self.transmit(end.other(), Piece::Reset);
                }
                if side.error.is_some() {
                    return;
                }
                side.inbox.extend(bytes);
            }
            Piece::Fin => side.is_at_end = true,
            Piece::Reset => {
                if !side.is_closed {
                    self.fail(end, libc::ECONNRESET);
                }
                return;
            }
        }
        if self.strikes(Fault::Reset) {
            self.fail(end, libc::ECONNRESET);
            self.fail(end.other(), libc::ECONNRESET);
        } else if self.strikes(Fault::TimedOut) {
            self.fail(end, libc::ETIMEDOUT);
            self.transmit(end.other(), Piece::Reset);
        }
        self.pump_recv(end);
    }

    /// The connection is broken as seen from `end`: what is on its way to it is lost, what has arrived can still be read.
    fn fail(&mut self, end: End, errno: i32) {
        let Some(side) = self.side_mut(end) else { return };
        side.error.get_or_insert(errno);
        // The arrivals that were scheduled for these pieces will find nothing.
        side.flying.clear();
        side.flying_bytes = 0;
        self.pump_recv(end);
        self.pump_send(end);
        self.pump_send(end.other());
    }

    pub(super) fn pump_send(&mut self, end: End) {
        let Some(fd) = self.side(end).and_then(|side| side.fd) else { return };
        let Some(op) = self.file(fd).and_then(|file| file.send) else { return };
        let (Some(side), Some(peer)) = (self.side(end), self.side(end.other())) else { return };
        if side.error.is_some() || side.has_shut_write {
            let errno = if side.error == Some(libc::ETIMEDOUT) { libc::ETIMEDOUT } else { libc::EPIPE };
            self.reach(Fault::BrokenPipe);
            return self.post_last(op, Outcome::Failed(errno));
        }
        let room = self.faults.socket_bytes_max.saturating_sub(peer.pending());
        let Some(Op::Send { parts, .. }) = self.rings[op.ring].slots.get(op.id).map(|held| &held.op) else { return };
        let len = parts.len();
        if room == 0 && len > 0 {
            return self.reach(Fault::SendWaited);
        }
        let mut count = room.min(len);
        if count > 1 && self.strikes(Fault::ShortWrite) {
            count = self.rng.one_to(count);
        }
        let Some(Op::Send { parts, .. }) = self.rings[op.ring].slots.get(op.id).map(|held| &held.op) else { return };
        let mut bytes = Vec::with_capacity(count);
        for slice in parts.slices() {
            bytes.extend_from_slice(&slice[..slice.len().min(count - bytes.len())]);
        }
        self.note_taken(op, count);
        self.transmit(end.other(), Piece::Bytes(bytes));
        self.post_last(op, Outcome::Count(u32::try_from(count).unwrap_or(u32::MAX)));
    }

    fn pump_recv(&mut self, end: End) {
        loop {
            let Some(fd) = self.side(end).and_then(|side| side.fd) else { return };
            let Some(op) = self.file(fd).and_then(|file| file.recv) else { return };
            let Some(side) = self.side(end) else { return };
            let (len, error, is_at_end) = (side.inbox.len(), side.error, side.is_at_end);
            match (len, error, is_at_end) {
                (0, Some(errno), _) => return self.post_last(op, Outcome::Failed(errno)),
                (0, None, true) => return self.post_last(op, Outcome::Count(0)),
                (0, None, false) if self.strikes(Fault::Cancelled) => return self.post_last(op, Outcome::Failed(libc::ECANCELED)),
                (0, None, false) => return,
                _ => {}
            }
            if self.strikes(Fault::NoBuffers) {
                return self.post_last(op, Outcome::Failed(libc::ENOBUFS));
            }
            if !self.receive(op, end, len) {
                return;
            }
        }
    }

    /// Moves bytes into a buffer and posts it; false when that was the receive's last.
    fn receive(&mut self, op: OpRef, end: End, len: usize) -> bool {
        let pool = self.rings[op.ring].pool.clone();
        let mut count = len.min(pool.size() as usize);
        if count > 1 && self.strikes(Fault::ShortRead) {
            count = self.rng.one_to(count);
        }
        let Some(side) = self.side_mut(end) else { return false };
        let filled = pool.fill(|buffer| {
            for (to, from) in buffer.iter_mut().zip(side.inbox.drain(..count)) {
                *to = from;
            }
            side.taken += count as u64;
            Ok(count)
        });
        let Ok(Some(lease)) = filled else {
            self.reach(Fault::PoolEmpty);
            self.post_last(op, Outcome::Failed(libc::ENOBUFS));
            return false;
        };
        // There is room again; the sender hears of it one latency later.
        let at = self.now() + self.latency();
        self.schedule(at, Event::Send(end.other()));
        let goes_on = !self.strikes(Fault::MultishotEnds);
        if goes_on {
            self.post(op, Outcome::Received(lease), true);
        } else {
            self.post_last(op, Outcome::Received(lease));
        }
        goes_on
    }

    pub(super) fn shutdown_write(&mut self, fd: Fd) {
        let Some(end) = self.file(fd).and_then(File::end) else { return };
        let Some(side) = self.side_mut(end) else { return };
        if !std::mem::replace(&mut side.has_shut_write, true) && side.error.is_none() {
            self.transmit(end.other(), Piece::Fin);
        }
        self.pump_send(end);
    }

    pub(super) fn close(&mut self, fd: Fd) {
        let Some(file) = index_of(fd).and_then(|index| self.files.get_mut(index)).and_then(Option::take) else {
            return self.accuse(format!("{fd:?} is closed twice"));
        };
        if file.ops().next().is_some() {
            self.accuse(format!("{fd:?} is closed with operations in flight"));
        }
        match file.kind {
            FileKind::Idle { .. } => {}
            FileKind::Stream(end) => self.close_end(end, file.resets_on_close),
            FileKind::Listener { backlog, .. } => {
                self.listeners.retain(|(_, listener)| *listener != fd);
                for connection in backlog {
                    self.abandon(End { connection, side: 1 });
                }
            }
        }
    }

    /// A connection that nobody will accept.
    fn abandon(&mut self, end: End) {
        self.close_end(end, true);
    }

    fn close_end(&mut self, end: End, resets: bool) {
        let Some(side) = self.side_mut(end) else { return };
        side.is_closed = true;
        side.fd = None;
        let resets = resets || !side.inbox.is_empty();
        let (was_shut, is_broken) = (side.has_shut_write, side.error.is_some());
        side.inbox.clear();
        if resets {
            self.transmit(end.other(), Piece::Reset);
        } else if !was_shut && !is_broken {
            self.transmit(end.other(), Piece::Fin);
        }
        let is_over = self.connections.get(&end.connection).is_some_and(|connection| connection.sides.iter().all(|side| side.is_closed));
        if is_over {
            self.connections.remove(&end.connection);
        }
    }
}

fn index_of(fd: Fd) -> Option<usize> {
    usize::try_from(fd.number().checked_sub(FIRST_NUMBER)?).ok()
}

/// A full backlog makes a connect try again this often, and then give up (as a lost SYN does).
const CONNECT_TRIES: u32 = 20;
const CONNECT_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);
