//! The table of operations in flight: who asked, and the memory that is lent. A pure machine shared by all drivers.
//!
//! ```text
//!            insert                 complete(more)          complete(last)
//!   (free) ---------> in flight ----------------> in flight ---------------> (free, generation + 1)
//!                         |  cancel: a mark only; the slot waits for its own last completion
//! ```
//! Rules it holds (each from a fault others shipped): a slot is retired only by the operation's own last completion, never by the
//! cancel's; a completion that names an older generation is counted and dropped; memory stays here until retirement.

#[cfg(test)]
mod tests;

/// Names one operation: slot number and the slot's generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OpId {
    slot: u32,
    generation: u32,
}

impl OpId {
    /// As the kernel's 64-bit `user_data`.
    #[must_use]
    pub fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    #[must_use]
    pub fn from_user_data(value: u64) -> OpId {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        OpId { slot: u32::from_le_bytes([a, b, c, d]), generation: u32::from_le_bytes([e, f, g, h]) }
    }
}

/// Operations in flight, each with a `T` (the op and who waits for it).
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    in_flight: u32,
    stale: u64,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    held: Option<T>,
    cancelled: bool,
}

/// What a completion belongs to.
#[derive(Debug, PartialEq, Eq)]
pub enum Completed<'a, T> {
    /// More completions follow; the entry stays.
    More(&'a mut T),
    /// That was the last one: the entry and its memory are given back.
    Last(T),
    /// The generation is over; the caller must still give back what the completion brought (a buffer, a descriptor).
    Stale,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { slots: Vec::new(), free: Vec::new(), in_flight: 0, stale: 0 }
    }
}

impl<T> Slots<T> {
    #[must_use]
    pub fn new() -> Slots<T> {
        Slots::default()
    }

    /// Generations start at 1 and slots stay below `u32::MAX`, so the user data of an operation is never below 2^32: drivers use
    /// smaller values for completions of their own.
    pub fn insert(&mut self, held: T) -> OpId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 1, held: None, cancelled: false });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut self.slots[slot as usize];
        debug_assert!(entry.held.is_none());
        entry.held = Some(held);
        entry.cancelled = false;
        self.in_flight += 1;
        OpId { slot, generation: entry.generation }
    }

    #[must_use]
    pub fn get(&self, id: OpId) -> Option<&T> {
        self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?.held.as_ref()
    }

    pub fn get_mut(&mut self, id: OpId) -> Option<&mut T> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?.held.as_mut()
    }

    /// Marks `id` as cancelled; true the first time, while it is in flight. Nothing is retired: its own last completion does that.
    pub fn cancel(&mut self, id: OpId) -> bool {
        match self.slots.get_mut(id.slot as usize) {
            Some(slot) if slot.generation == id.generation && slot.held.is_some() => !std::mem::replace(&mut slot.cancelled, true),
            _ => false,
        }
    }

    /// A completion arrived for `id`.
    pub fn complete(&mut self, id: OpId, more: bool) -> Completed<'_, T> {
        let live = self.slots.get(id.slot as usize).is_some_and(|slot| slot.generation == id.generation && slot.held.is_some());
        if !live {
            self.stale += 1;
            return Completed::Stale;
        }
        let entry = &mut self.slots[id.slot as usize];
        if more {
            return match entry.held.as_mut() {
                Some(held) => Completed::More(held),
                None => Completed::Stale,
            };
        }
        // Generation 0 is skipped on wrap so that user data stays at or above 2^32.
        entry.generation = entry.generation.checked_add(1).unwrap_or(1);
        self.in_flight -= 1;
        self.free.push(id.slot);
        match entry.held.take() {
            Some(held) => Completed::Last(held),
            None => Completed::Stale,
        }
    }

    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Completions dropped because their generation was over.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale
    }
}
