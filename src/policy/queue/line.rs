//! The waiting requests of one class: tenants in a ring, served by deficit round robin (Shreedhar and Varghese, "Efficient Fair
//! Queueing using Deficit Round Robin", 1995): whoever comes to the front of the ring is credited a quantum and served while the
//! credit pays for the request at the head; what is left is kept for the next round, and lost by a tenant that has nothing waiting.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use super::list::{Linked, Links, List};
use super::{QUANTUM, Waiter};
use crate::sys::Instant;

/// One class.
#[derive(Debug)]
pub(super) struct Line {
    tenants: Slab<Tenant>,
    /// By the tenant's key, which is a seeded hash already.
    by_key: HashMap<u64, u32, FixedState>,
    /// Tenants that wait, in the order of their turns. The first was credited for the present turn.
    ring: List,
    /// Places that its requests take up.
    waiting: u32,
    /// The class's own credit against the other classes.
    pub(super) credit: u64,
}

#[derive(Debug)]
struct Tenant {
    links: Links,
    key: u64,
    queue: List,
    /// Places that its requests take up.
    places: u32,
    credit: u64,
}

/// Where in its tenant's queue a request goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

impl Linked for Tenant {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Line {
    pub(super) fn new() -> Line {
        Line { tenants: Slab::new(), by_key: HashMap::with_hasher(FixedState::default()), ring: List::default(), waiting: 0, credit: 0 }
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Tenants that wait.
    pub(super) fn tenants(&self) -> u32 {
        self.ring.len()
    }

    /// Places that one tenant's requests take up.
    pub(super) fn waiting_of(&self, key: u64) -> u32 {
        self.by_key.get(&key).and_then(|slot| self.tenants.get(*slot as usize)).map_or(0, |tenant| tenant.places)
    }

    /// When the one came that has waited longest. Looks at every tenant.
    pub(super) fn oldest<T>(&self, waiters: &Slab<Waiter<T>>) -> Option<Instant> {
        let heads = self.tenants.iter().filter_map(|(_, tenant)| waiters.get(tenant.queue.first()? as usize));
        heads.map(|waiter| waiter.arrived).min()
    }

    pub(super) fn push<T>(&mut self, waiters: &mut Slab<Waiter<T>>, slot: u32, key: u64, end: End) {
        let size = waiters.get(slot as usize).map_or(0, |waiter| waiter.size);
        let tenant = match self.by_key.get(&key) {
            Some(tenant) => *tenant,
            None => self.join(key),
        };
        if let Some(tenant) = self.tenants.get_mut(tenant as usize) {
            match end {
                End::Front => tenant.queue.push_front(waiters, slot),
                End::Back => tenant.queue.push_back(waiters, slot),
            }
            tenant.places += size;
            self.waiting += size;
        }
    }

    /// The cost of whoever is next. Turns the ring until the tenant at its front can pay; asking again changes nothing.
    pub(super) fn next_cost<T>(&mut self, waiters: &Slab<Waiter<T>>) -> Option<u64> {
        loop {
            let front = self.ring.first()?;
            let tenant = self.tenants.get(front as usize)?;
            let cost = waiters.get(tenant.queue.first()? as usize)?.cost;
            if cost <= tenant.credit {
                return Some(cost);
            }
            self.ring.remove(&mut self.tenants, front);
            self.ring.push_back(&mut self.tenants, front);
            self.credit_front();
        }
    }

    /// Takes whoever is next; the caller asked for the cost before.
    pub(super) fn take_next<T>(&mut self, waiters: &mut Slab<Waiter<T>>) -> Option<u32> {
        let cost = self.next_cost(waiters)?;
        let front = self.ring.first()?;
        let tenant = self.tenants.get_mut(front as usize)?;
        let slot = tenant.queue.first()?;
        tenant.credit -= cost;
        self.remove(waiters, slot);
        Some(slot)
    }

    /// Takes one out, wherever it stands.
    pub(super) fn remove<T>(&mut self, waiters: &mut Slab<Waiter<T>>, slot: u32) {
        let Some((key, size)) = waiters.get(slot as usize).map(|waiter| (waiter.tenant, waiter.size)) else { return };
        let Some(&at) = self.by_key.get(&key) else { return };
        let Some(tenant) = self.tenants.get_mut(at as usize) else { return };
        tenant.queue.remove(waiters, slot);
        tenant.places -= size;
        self.waiting -= size;
        if tenant.queue.len() == 0 {
            let was_first = self.ring.first() == Some(at);
            self.ring.remove(&mut self.tenants, at);
            self.tenants.remove(at as usize);
            self.by_key.remove(&key);
            if was_first {
                self.credit_front();
            }
        }
    }

    /// The tenant with the most places, how many, and the newest of them. Looks at every tenant: only for a full queue.
    pub(super) fn heaviest(&self) -> Option<(u64, u32, u32)> {
        let heavier = self.tenants.iter().map(|(_, tenant)| tenant).max_by_key(|tenant| tenant.places)?;
        Some((heavier.key, heavier.places, heavier.queue.last()?))
    }

    fn join(&mut self, key: u64) -> u32 {
        let tenant = Tenant { links: Links::default(), key, queue: List::default(), places: 0, credit: 0 };
        let slot = u32::try_from(self.tenants.insert(tenant)).unwrap_or(u32::MAX);
        self.by_key.insert(key, slot);
        self.ring.push_back(&mut self.tenants, slot);
        if self.ring.len() == 1 {
            self.credit_front();
        }
        slot
    }

    fn credit_front(&mut self) {
        if let Some(front) = self.ring.first()
            && let Some(tenant) = self.tenants.get_mut(front as usize)
        {
            tenant.credit += QUANTUM;
        }
    }
}
