//! What the pretend kernel knows: open files, connections with bytes on their way, and who listens where. Plain state; what
//! happens to it, and when, is decided in `kernel` and `streams`.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::sys::net::Address;
use crate::sys::{Fd, OpId};

/// An operation of one of the simulated drivers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OpRef {
    pub(super) ring: usize,
    pub(super) id: OpId,
}

/// An open descriptor. The serial tells a file from a later one with the same number.
pub(super) struct File {
    pub(super) serial: u64,
    pub(super) kind: FileKind,
    pub(super) recv: Option<OpRef>,
    pub(super) send: Option<OpRef>,
    pub(super) accept: Option<OpRef>,
    pub(super) connect: Option<OpRef>,
    pub(super) resets_on_close: bool,
}

pub(super) enum FileKind {
    /// Not connected yet.
    Idle {
        peer: Address,
    },
    Stream(End),
    Listener {
        address: Address,
        backlog: VecDeque<u64>,
        backlog_max: usize,
    },
}

/// One end of a connection: side 0 connected, side 1 was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) connection: u64,
    pub(super) side: usize,
}

impl End {
    pub(super) fn other(self) -> End {
        End { connection: self.connection, side: 1 - self.side }
    }
}

pub(super) struct Connection {
    pub(super) sides: [Side; 2],
    /// Where side 0 comes from and where it went to; `None` for Unix sockets.
    pub(super) addresses: [Option<SocketAddr>; 2],
}

/// One side, with the bytes that come towards it.
#[derive(Default)]
pub(super) struct Side {
    /// `None` before it is accepted and after it is closed.
    pub(super) fd: Option<Fd>,
    pub(super) inbox: VecDeque<u8>,
    pub(super) flying: VecDeque<Piece>,
    pub(super) flying_bytes: usize,
    /// When the last piece on its way arrives: a later one is never earlier.
    pub(super) last_arrival: crate::sys::Instant,
    pub(super) is_at_end: bool,
    pub(super) error: Option<i32>,
    pub(super) has_shut_write: bool,
    pub(super) is_closed: bool,
    /// Bytes its reader has taken.
    pub(super) taken: u64,
}

pub(super) enum Piece {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

impl Side {
    /// Bytes that stand between its sender and it.
    pub(super) fn pending(&self) -> usize {
        self.flying_bytes + self.inbox.len()
    }
}

impl File {
    pub(super) fn new(serial: u64, kind: FileKind) -> File {
        File { serial, kind, recv: None, send: None, accept: None, connect: None, resets_on_close: false }
    }

    pub(super) fn ops(&self) -> impl Iterator<Item = OpRef> {
        [self.recv, self.send, self.accept, self.connect].into_iter().flatten()
    }

    pub(super) fn end(&self) -> Option<End> {
        match self.kind {
            FileKind::Stream(end) => Some(end),
            FileKind::Idle { .. } | FileKind::Listener { .. } => None,
        }
    }

    /// Forgets `op`, which is over.
    pub(super) fn forget(&mut self, op: OpRef) {
        for slot in [&mut self.recv, &mut self.send, &mut self.accept, &mut self.connect] {
            if *slot == Some(op) {
                *slot = None;
            }
        }
    }
}
