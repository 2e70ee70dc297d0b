//! The waiting side: an origin shard's bounded table of exchanges whose jobs are with a home. A ticket resolves once; whatever
//! comes later for it (the answer to a client that has left, a second answer) is refused and counted, never delivered.

use super::job::Ticket;

/// What waits is up to the shard: a waker and a place for the answer.
#[derive(Debug)]
pub struct Tickets<T> {
    shard: u16,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    capacity: u32,
    stale_count: u64,
}

#[derive(Debug)]
struct Slot<T> {
    /// Of the ticket that is out, or that goes out next.
    generation: u32,
    waiting: Option<T>,
}

/// The table holds all it may; the exchange is to be shed. Gives back what was to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TicketsFull<T>(pub T);

impl<T> Tickets<T> {
    /// A table for `shard` with at most `capacity` exchanges waiting.
    #[must_use]
    pub fn new(shard: u16, capacity: u32) -> Tickets<T> {
        Tickets { shard, slots: Vec::new(), free: Vec::new(), capacity, stale_count: 0 }
    }

    /// At most so many from now on; those that wait already stay.
    pub fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// Lets `waiting` wait.
    ///
    /// # Errors
    /// When the table is full.
    pub fn insert(&mut self, waiting: T) -> Result<Ticket, TicketsFull<T>> {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.waiting = Some(waiting);
            return Ok(Ticket { shard: self.shard, slot, generation: entry.generation });
        }
        let slot = match u32::try_from(self.slots.len()) {
            Ok(slot) if slot < self.capacity => slot,
            _ => return Err(TicketsFull(waiting)),
        };
        self.slots.push(Slot { generation: 0, waiting: Some(waiting) });
        Ok(Ticket { shard: self.shard, slot, generation: 0 })
    }

    /// Takes out what waits under `ticket`, because its answer came. `None`, and counted, when nothing does any more.
    pub fn resolve(&mut self, ticket: Ticket) -> Option<T> {
        let taken = self.take(ticket);
        self.stale_count += u64::from(taken.is_none());
        taken
    }

    /// Takes out what waits under `ticket`, because its client left. The answer that still comes will be stale.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        self.take(ticket)
    }

    /// What waits under `ticket`.
    pub fn waiting_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.slot_mut(ticket)?.waiting.as_mut()
    }

    /// Exchanges waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers that came for nobody.
    #[must_use]
    pub fn stale_count(&self) -> u64 {
        self.stale_count
    }

    fn slot_mut(&mut self, ticket: Ticket) -> Option<&mut Slot<T>> {
        if ticket.shard != self.shard {
            return None;
        }
        self.slots.get_mut(ticket.slot as usize).filter(|slot| slot.generation == ticket.generation)
    }

    fn take(&mut self, ticket: Ticket) -> Option<T> {
        let slot = self.slot_mut(ticket)?;
        let waiting = slot.waiting.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(ticket.slot);
        Some(waiting)
    }
}
