//! The jobs a home holds, from arrival to their one end, and the references to them. A job that has ended is gone from here at
//! once; references that are still about (in queues, in calls) no longer find it, which is how leavers cost nothing.

use super::job::{Job, Ticket};
use super::split::embeddings::Gather;
use crate::json::ItemKind;
use crate::policy::Place;
use crate::sys::Instant;
use hashbrown::HashMap;
use slab::Slab;
use smallvec::SmallVec;

/// A reference to a held job; finds nothing once the job has ended or was started afresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct JobKey {
    slot: u32,
    serial: u32,
}

/// Items `first..first + count` of a job. Mostly the whole job; a piece when it is larger than a call may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) job: JobKey,
    pub(super) first: u32,
    pub(super) count: u32,
}

pub(super) type Parts = SmallVec<[Part; 4]>;

/// A job and how far it has come.
#[derive(Debug)]
pub(super) struct Held {
    serial: u32,
    pub(super) job: Job,
    /// Its lane; `None` when it goes past the lanes.
    pub(super) lane: Option<u32>,
    pub(super) endpoints: u32,
    /// Items in the lane's queue, and their bytes.
    pub(super) queued_items: u32,
    pub(super) queued_bytes: u64,
    /// Where it waits for its turn in the lane; none once it was called forward.
    pub(super) place: Option<Place>,
    /// Slots of the calls that carry parts of it.
    pub(super) calls: SmallVec<[u32; 2]>,
    pub(super) unsent_count: u8,
    pub(super) broken_count: u8,
    pub(super) overloaded_count: u8,
    /// The endpoint that failed it last.
    pub(super) avoid: Option<u32>,
    /// Never merge or cut it again: it travels as it came.
    pub(super) whole: bool,
    pub(super) left_at: Option<Instant>,
    pub(super) batch_items: u32,
    /// Answered parts of a job that was cut.
    pub(super) gather: Option<Box<Gather>>,
}

impl Held {
    /// Bytes that items `first..first + count` take in a merged body, a comma each.
    pub(super) fn bytes_of(&self, first: u32, count: u32) -> u64 {
        let range = first as usize..(first as usize + count as usize);
        self.job.request.items[range].iter().map(|item| u64::from(item.len) + 1).sum()
    }

    /// What the items count for when a bill is shared: tokens where they were sent as tokens (exact), else the bytes between the
    /// quotes (an estimate; exact for a server that bills characters and a client that sends ASCII).
    pub(super) fn weight_of(&self, first: u32, count: u32) -> u64 {
        let weight = |index: u32| {
            let text = self.job.item(index).of(&self.job.message);
            match self.job.request.kind {
                ItemKind::Text => text.len() as u64 - 2,
                ItemKind::Tokens => memchr::memchr_iter(b',', text).count() as u64 + 1,
            }
        };
        (first..first + count).map(weight).sum()
    }

    pub(super) fn covers(&self, part: Part) -> bool {
        part.first == 0 && part.count == self.job.items()
    }
}

#[derive(Debug)]
pub(super) struct Jobs {
    slab: Slab<Held>,
    by_ticket: HashMap<Ticket, u32, foldhash::fast::FixedState>,
    serial: u32,
    bytes: u64,
}

impl Jobs {
    pub(super) fn new(seed: u64) -> Jobs {
        let by_ticket = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed));
        Jobs { slab: Slab::new(), by_ticket, serial: 0, bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether a job of this generation is held. Looks at all.
    pub(super) fn holds_generation(&self, generation: u32) -> bool {
        self.slab.iter().any(|(_, held)| held.job.generation == generation)
    }

    /// Message bytes, and bytes of answers that wait for the rest of theirs.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a job in; `None` when one with the same ticket is here already.
    pub(super) fn insert(&mut self, job: Job, endpoints: u32) -> Option<JobKey> {
        let entry = match self.by_ticket.entry(job.ticket) {
            hashbrown::hash_map::Entry::Occupied(_) => return None,
            hashbrown::hash_map::Entry::Vacant(entry) => entry,
        };
        self.serial = self.serial.wrapping_add(1);
        self.bytes += job.message.len() as u64;
        let slot = u32::try_from(self.slab.vacant_key()).ok()?;
        entry.insert(slot);
        self.slab.insert(Held {
            serial: self.serial,
            job,
            lane: None,
            endpoints,
            queued_items: 0,
            queued_bytes: 0,
            place: None,
            calls: SmallVec::new(),
            unsent_count: 0,
            broken_count: 0,
            overloaded_count: 0,
            avoid: None,
            whole: false,
            left_at: None,
            batch_items: 0,
            gather: None,
        });
        Some(JobKey { slot, serial: self.serial })
    }

    pub(super) fn find(&self, ticket: Ticket) -> Option<JobKey> {
        let slot = *self.by_ticket.get(&ticket)?;
        let serial = self.slab.get(slot as usize)?.serial;
        Some(JobKey { slot, serial })
    }

    pub(super) fn get(&self, key: JobKey) -> Option<&Held> {
        self.slab.get(key.slot as usize).filter(|held| held.serial == key.serial)
    }

    pub(super) fn get_mut(&mut self, key: JobKey) -> Option<&mut Held> {
        self.slab.get_mut(key.slot as usize).filter(|held| held.serial == key.serial)
    }

    pub(super) fn is_live(&self, key: JobKey) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn remove(&mut self, key: JobKey) -> Option<Held> {
        self.get(key)?;
        let held = self.slab.try_remove(key.slot as usize)?;
        self.by_ticket.remove(&held.job.ticket);
        self.bytes -= held.job.message.len() as u64 + held.gather.as_ref().map_or(0, |gather| gather.bytes());
        Some(held)
    }

    /// Makes every reference to the job stale and returns the new one.
    pub(super) fn renew(&mut self, key: JobKey) -> Option<JobKey> {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        self.get_mut(key)?.serial = serial;
        Some(JobKey { slot: key.slot, serial })
    }

    /// Counts bytes of an answer that is kept for a cut job.
    pub(super) fn keep_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Forgets what a cut job has gathered so far.
    pub(super) fn drop_gather(&mut self, key: JobKey) {
        let gathered = self.get_mut(key).and_then(|held| held.gather.take());
        self.bytes -= gathered.map_or(0, |gather| gather.bytes());
    }
}
