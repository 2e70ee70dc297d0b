//! Bytes that arrived on a connection and are not used yet. Usually they lie in one leased buffer and are read where they lie; a
//! head or body in pieces is gathered in a vector, so that no lease is held across a long wait.

use crate::runtime::Rt;
use crate::sys::Lease;

#[derive(Default)]
pub(super) struct Input {
    lease: Option<Lease>,
    /// In front of the lease's bytes; used first. Never filled beside a lease.
    held: Vec<u8>,
    /// Bytes of `held` that are used up.
    used: usize,
}

impl Input {
    /// All that is here, in order.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.lease {
            Some(lease) => lease,
            None => &self.held[self.used..],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Adds what arrived next.
    pub(super) fn push(&mut self, rt: &Rt, lease: Lease) {
        if self.is_empty() {
            self.clear(rt);
            self.lease = Some(lease);
            return;
        }
        self.settle(rt);
        self.held.extend_from_slice(&lease);
    }

    /// Uses up the first `count` bytes.
    pub(super) fn consume(&mut self, rt: &Rt, count: usize) {
        if let Some(lease) = &mut self.lease {
            lease.advance(count);
        } else {
            self.used = (self.used + count).min(self.held.len());
        }
        if self.is_empty() {
            self.clear(rt);
        }
    }

    /// Gives the leased buffer back before a long wait; what was not used is copied.
    pub(super) fn settle(&mut self, rt: &Rt) {
        let Some(lease) = self.lease.take() else { return };
        if lease.is_empty() {
            return;
        }
        if self.held.capacity() == 0 {
            self.held = rt.take_vec();
        }
        self.held.clear();
        self.used = 0;
        self.held.extend_from_slice(&lease);
    }

    /// Takes the lease out, when exactly `len` bytes are here and lie in one.
    pub(super) fn take_whole(&mut self, len: usize) -> Option<Lease> {
        self.lease.take_if(|lease| lease.len() == len)
    }

    /// Takes the lease out, when all that is here lies in one.
    pub(super) fn take_lease(&mut self) -> Option<Lease> {
        self.lease.take()
    }

    fn clear(&mut self, rt: &Rt) {
        self.lease = None;
        self.used = 0;
        if self.held.capacity() > 0 {
            rt.keep_vec(std::mem::take(&mut self.held));
        }
    }
}
