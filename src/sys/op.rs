//! Operations as values: what a shard asks the kernel to do, with the memory it lends for it. The driver keeps an [`Op`] until
//! its last completion and only then gives the memory back (reference: io_uring's ownership rule for buffers in flight).

use std::ops::Deref;
use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;
use socket2::SockAddr;

use super::buffers::Lease;
use super::fd::Fd;

/// One asynchronous operation. `Accept` and `Recv` are multishot: they complete again and again until they end by themselves
/// (a completion without `more`) or are cancelled.
#[derive(Debug)]
pub enum Op {
    Accept { listener: Fd },
    Recv { fd: Fd },
    Send { fd: Fd, parts: Parts },
    Connect { fd: Fd, addr: Box<SockAddr> },
}

impl Op {
    #[must_use]
    pub fn fd(&self) -> Fd {
        match self {
            Op::Accept { listener } => *listener,
            Op::Recv { fd } | Op::Send { fd, .. } | Op::Connect { fd, .. } => *fd,
        }
    }
}

/// Bytes to send, in order, as one message.
#[derive(Debug, Default)]
pub struct Parts(SmallVec<[Part; 2]>);

/// One run of bytes whose address does not move while it is lent.
#[derive(Debug)]
pub enum Part {
    Vec { bytes: Vec<u8>, sent: usize },
    Bytes(Bytes),
    Lease(Lease),
    Shared { lease: Rc<Lease>, sent: usize },
}

/// Bytes that several messages may send, one after the other or at once.
#[derive(Clone, Debug)]
pub enum Shared {
    Bytes(Bytes),
    /// Where they arrived; the buffer is back in the pool when the last holder is gone.
    Lease(Rc<Lease>),
}

impl Shared {
    /// The same bytes without a receive buffer, for a holder that may keep them for long.
    #[must_use]
    pub fn detached(&self) -> Shared {
        match self {
            Shared::Bytes(bytes) => Shared::Bytes(bytes.clone()),
            Shared::Lease(lease) => Shared::Bytes(Bytes::copy_from_slice(lease)),
        }
    }
}

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Shared::Bytes(bytes) => bytes,
            Shared::Lease(lease) => lease,
        }
    }
}

impl Parts {
    #[must_use]
    pub fn new() -> Parts {
        Parts::default()
    }

    #[must_use]
    pub fn with(mut self, part: impl Into<Part>) -> Parts {
        self.push(part);
        self
    }

    pub fn push(&mut self, part: impl Into<Part>) {
        let part = part.into();
        if !part.as_slice().is_empty() {
            self.0.push(part);
        }
    }

    /// Puts all of `later` behind what is here.
    pub fn append(&mut self, later: Parts) {
        self.0.extend(later.0);
    }

    /// Bytes that are still to be sent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|part| part.as_slice().len()).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|part| part.as_slice().is_empty())
    }

    /// Whether a receive buffer is lent to this message: while it is not sent, the pool lacks one.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Lease(_) | Part::Shared { .. }))
    }

    /// The runs that are left, in order; none of them is empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Part::as_slice).filter(|slice| !slice.is_empty())
    }

    /// Takes `count` sent bytes off the front.
    pub fn advance(&mut self, mut count: usize) {
        for part in &mut self.0 {
            if count == 0 {
                return;
            }
            let step = part.as_slice().len().min(count);
            part.advance(step);
            count -= step;
        }
    }

    /// The vectors inside, for reuse as buffers; the rest is dropped.
    pub fn take_vecs(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.0.drain(..).filter_map(|part| match part {
            Part::Vec { bytes, .. } => Some(bytes),
            Part::Bytes(_) | Part::Lease(_) | Part::Shared { .. } => None,
        })
    }
}

impl Part {
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Part::Vec { bytes, sent } => bytes.get(*sent..).unwrap_or_default(),
            Part::Bytes(bytes) => bytes,
            Part::Lease(lease) => lease,
            Part::Shared { lease, sent } => lease.get(*sent..).unwrap_or_default(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Part::Vec { sent, .. } | Part::Shared { sent, .. } => *sent += count,
            Part::Bytes(bytes) => bytes::Buf::advance(bytes, count),
            Part::Lease(lease) => lease.advance(count),
        }
    }
}

impl From<Vec<u8>> for Part {
    fn from(bytes: Vec<u8>) -> Part {
        Part::Vec { bytes, sent: 0 }
    }
}

impl From<Bytes> for Part {
    fn from(bytes: Bytes) -> Part {
        Part::Bytes(bytes)
    }
}

impl From<&'static [u8]> for Part {
    fn from(bytes: &'static [u8]) -> Part {
        Part::Bytes(Bytes::from_static(bytes))
    }
}

impl From<Lease> for Part {
    fn from(lease: Lease) -> Part {
        Part::Lease(lease)
    }
}

impl From<Shared> for Part {
    fn from(shared: Shared) -> Part {
        match shared {
            Shared::Bytes(bytes) => Part::Bytes(bytes),
            Shared::Lease(lease) => Part::Shared { lease, sent: 0 },
        }
    }
}

impl<P: Into<Part>> From<P> for Parts {
    fn from(part: P) -> Parts {
        Parts::new().with(part)
    }
}
