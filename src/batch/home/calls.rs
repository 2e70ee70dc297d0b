//! The calls in flight and who waits for each.

use crate::batch::call::CallId;
use crate::batch::held::{Part, Parts};
use crate::batch::isolate::Suspects;
use crate::sys::Instant;
use slab::Slab;
use smallvec::SmallVec;

#[derive(Debug)]
pub(super) struct Flight {
    generation: u32,
    /// `None`: past the lanes.
    pub(super) lane: Option<u32>,
    pub(super) endpoint: u32,
    /// Everyone in the call in the order of their items, those included that have ended since.
    pub(super) members: SmallVec<[Member; 4]>,
    pub(super) items: u32,
    /// Members still waiting.
    pub(super) live_count: u32,
    /// A client's own message: its answer, good or bad, is for that client as it is.
    pub(super) alone: bool,
    pub(super) sent: Instant,
    pub(super) suspects: Option<Suspects>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) part: Part,
    /// Bytes of its items: its weight in the bill.
    pub(super) weight: u64,
}

impl Flight {
    pub(super) fn parts(&self) -> Parts {
        self.members.iter().map(|member| member.part).collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    slab: Slab<Flight>,
    generation: u32,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn next_slot(&self) -> u32 {
        u32::try_from(self.slab.vacant_key()).unwrap_or(u32::MAX)
    }

    pub(super) fn insert(&mut self, mut flight: Flight) -> CallId {
        self.generation = self.generation.wrapping_add(1);
        flight.generation = self.generation;
        let slot = self.next_slot();
        self.slab.insert(flight);
        CallId { slot, generation: self.generation }
    }

    pub(super) fn id_of(&self, slot: u32) -> Option<CallId> {
        self.slab.get(slot as usize).map(|flight| CallId { slot, generation: flight.generation })
    }

    pub(super) fn in_slot_mut(&mut self, slot: u32) -> Option<&mut Flight> {
        self.slab.get_mut(slot as usize)
    }

    pub(super) fn take(&mut self, id: CallId) -> Option<Flight> {
        self.slab.get(id.slot as usize).filter(|flight| flight.generation == id.generation)?;
        self.slab.try_remove(id.slot as usize)
    }
}

impl Flight {
    pub(super) fn new(
        lane: Option<u32>,
        endpoint: u32,
        members: SmallVec<[Member; 4]>,
        items: u32,
        alone: bool,
        sent: Instant,
        suspects: Option<Suspects>,
    ) -> Flight {
        let live_count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        Flight { generation: 0, lane, endpoint, members, items, live_count, alone, sent, suspects }
    }
}
