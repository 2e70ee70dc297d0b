//! A hierarchical timer wheel: who wants to be woken when. It wakes nobody itself; the executor asks it what is due.
//!
//! ```text
//! level 0: 64 slots of 65.5 us   (4.2 ms)        an entry sits at the level where its distance fits and
//! level 1: 64 slots of 4.2 ms    (268 ms)        moves down a level when the hand reaches its slot;
//! level 2: 64 slots of 268 ms    (17 s)          insert and remove are O(1), no allocation in steady state
//! level 3: 64 slots of 17 s      (18 min)
//! level 4: 64 slots of 18 min    (19 h)          beyond: parked at the far end and looked at again there
//! ```
//! An entry fires at most one slot late and never early.

use super::tasks::TaskId;
use crate::sys::Instant;

/// Names an entry until it fired or was removed; a stale id does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
pub(crate) struct Timers {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// First entry of each slot's list; `NONE` when empty.
    heads: [[u32; SLOTS]; LEVELS],
    /// One bit per non-empty slot.
    occupied: [u64; LEVELS],
    /// The last tick that was handled.
    hand: u64,
    count: u32,
    /// Where new entries begin to count: past every generation of those that [`Timers::shrink`] freed.
    first_generation: u32,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    tick: u64,
    task: TaskId,
    level: u8,
    slot: u8,
    prev: u32,
    next: u32,
    live: bool,
}

impl Timers {
    pub(crate) fn new(now: Instant) -> Timers {
        Timers {
            entries: Vec::new(),
            free: Vec::new(),
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            hand: tick_of(now),
            count: 0,
            first_generation: 0,
        }
    }

    /// Wakes `task` at `at` (rounded up to the next slot).
    pub(crate) fn insert(&mut self, at: Instant, task: TaskId) -> TimerId {
        let tick = tick_of(at).saturating_add(1).max(self.hand + 1);
        let index = self.free.pop().unwrap_or_else(|| {
            let generation = self.first_generation;
            self.entries.push(Entry { generation, tick: 0, task, level: 0, slot: 0, prev: NONE, next: NONE, live: false });
            u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
        });
        let entry = &mut self.entries[index as usize];
        entry.tick = tick;
        entry.task = task;
        entry.live = true;
        let generation = entry.generation;
        self.count += 1;
        self.link(index);
        TimerId { index, generation }
    }

    /// Whether it neither fired nor was removed.
    pub(crate) fn is_live(&self, id: TimerId) -> bool {
        self.entries.get(id.index as usize).is_some_and(|entry| entry.live && entry.generation == id.generation)
    }

    pub(crate) fn remove(&mut self, id: TimerId) {
        if self.is_live(id) {
            self.unlink(id.index);
            self.retire(id.index);
        }
    }

    /// Hands every task that is due at `now` to `wake`.
    pub(crate) fn expire(&mut self, now: Instant, mut wake: impl FnMut(TaskId)) {
        let target = tick_of(now);
        while self.hand < target {
            match self.next_tick() {
                Some(next) if next <= target => self.hand = next,
                _ => {
                    self.hand = target;
                    return;
                }
            }
            for level in (1..LEVELS).rev() {
                self.cascade(level);
            }
            self.fire(&mut wake);
        }
    }

    /// When the next entry is due, or a slot boundary at which entries must move down: never later than the earliest entry.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.next_tick().map(|tick| Instant::from_nanos(tick.saturating_mul(1 << TICK_BITS)))
    }

    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// Frees the table's end that no timer uses. What is said late of those numbers stays without effect.
    pub(crate) fn shrink(&mut self) {
        let used = self.entries.iter().rposition(|entry| entry.live).map_or(0, |last| last + 1);
        let Some(newest) = self.entries[used..].iter().map(|entry| entry.generation).max() else { return };
        self.first_generation = self.first_generation.max(newest);
        self.entries.truncate(used);
        self.entries.shrink_to_fit();
        self.free.retain(|index| (*index as usize) < used);
        self.free.shrink_to_fit();
    }

    fn next_tick(&self) -> Option<u64> {
        (0..LEVELS).filter_map(|level| self.next_in_level(level)).min()
    }

    /// The tick at which the first occupied slot of `level` after the hand begins.
    fn next_in_level(&self, level: usize) -> Option<u64> {
        let occupied = self.occupied[level];
        if occupied == 0 {
            return None;
        }
        let shift = level * SLOT_BITS;
        let at = self.hand >> shift;
        // Rotated so that bit 0 is the slot after the hand's.
        let first = (at + 1) % SLOTS as u64;
        let ahead = u64::from(occupied.rotate_right(u32::try_from(first).unwrap_or(0)).trailing_zeros());
        Some((at + 1 + ahead) << shift)
    }

    fn cascade(&mut self, level: usize) {
        let shift = level * SLOT_BITS;
        if self.hand & ((1 << shift) - 1) != 0 {
            return;
        }
        let slot = slot_at(self.hand, level);
        while self.heads[level][slot] != NONE {
            let index = self.heads[level][slot];
            self.unlink(index);
            self.link(index);
        }
    }

    fn fire(&mut self, wake: &mut impl FnMut(TaskId)) {
        let slot = slot_at(self.hand, 0);
        while self.heads[0][slot] != NONE {
            let index = self.heads[0][slot];
            self.unlink(index);
            let entry = &self.entries[index as usize];
            if entry.tick > self.hand {
                // A parked entry from beyond the last level.
                self.link(index);
                return;
            }
            wake(entry.task);
            self.retire(index);
        }
    }

    fn link(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick;
        // An entry that cascades on its very tick belongs to the slot that fires next, which is the hand's own.
        let distance = tick.saturating_sub(self.hand);
        let level = (0..LEVELS).find(|level| distance < 1 << ((level + 1) * SLOT_BITS)).unwrap_or(LEVELS - 1);
        let reach = (1u64 << (LEVELS * SLOT_BITS)) - 1;
        let slot = slot_at(self.hand + distance.min(reach), level);
        let head = self.heads[level][slot];
        let entry = &mut self.entries[index as usize];
        (entry.prev, entry.next) = (NONE, head);
        entry.level = u8::try_from(level).unwrap_or(0);
        entry.slot = u8::try_from(slot).unwrap_or(0);
        if head != NONE {
            self.entries[head as usize].prev = index;
        }
        self.heads[level][slot] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (prev, next, level, slot) = (entry.prev, entry.next, usize::from(entry.level), usize::from(entry.slot));
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        if prev == NONE {
            self.heads[level][slot] = next;
            if next == NONE {
                self.occupied[level] &= !(1 << slot);
            }
        } else {
            self.entries[prev as usize].next = next;
        }
    }

    fn retire(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.live = false;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        self.count -= 1;
    }
}

fn tick_of(at: Instant) -> u64 {
    at.as_nanos() >> TICK_BITS
}

fn slot_at(tick: u64, level: usize) -> usize {
    usize::try_from((tick >> (level * SLOT_BITS)) % SLOTS as u64).unwrap_or(0)
}

const TICK_BITS: u32 = 16;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 5;
const NONE: u32 = u32::MAX;
