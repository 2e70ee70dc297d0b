//! Lists whose members lie in a slab and know their neighbours: joining at the back, leaving from anywhere and turning the front to
//! the back cost the same however long the list is.

use slab::Slab;

/// A member's neighbours, by slot; [`NONE`] at the ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    before: u32,
    after: u32,
}

impl Default for Links {
    fn default() -> Links {
        Links { before: NONE, after: NONE }
    }
}

/// Something that can be a member of one list at a time.
pub(super) trait Linked {
    fn links(&mut self) -> &mut Links;
}

/// The ends of a list; its members are in a slab that the caller passes in, always the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
    len: u32,
}

impl Default for List {
    fn default() -> List {
        List { first: NONE, last: NONE, len: 0 }
    }
}

impl List {
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn last(&self) -> Option<u32> {
        (self.last != NONE).then_some(self.last)
    }

    pub(super) fn push_back<T: Linked>(&mut self, slab: &mut Slab<T>, slot: u32) {
        if let Some(member) = slab.get_mut(slot as usize) {
            *member.links() = Links { before: self.last, after: NONE };
        }
        match slab.get_mut(self.last as usize).filter(|_| self.last != NONE) {
            Some(last) => last.links().after = slot,
            None => self.first = slot,
        }
        self.last = slot;
        self.len += 1;
    }

    pub(super) fn push_front<T: Linked>(&mut self, slab: &mut Slab<T>, slot: u32) {
        if let Some(member) = slab.get_mut(slot as usize) {
            *member.links() = Links { before: NONE, after: self.first };
        }
        match slab.get_mut(self.first as usize).filter(|_| self.first != NONE) {
            Some(first) => first.links().before = slot,
            None => self.last = slot,
        }
        self.first = slot;
        self.len += 1;
    }

    /// Takes a member out; it must be one.
    pub(super) fn remove<T: Linked>(&mut self, slab: &mut Slab<T>, slot: u32) {
        let Some(member) = slab.get_mut(slot as usize) else { return };
        let Links { before, after } = std::mem::take(member.links());
        match slab.get_mut(before as usize).filter(|_| before != NONE) {
            Some(neighbour) => neighbour.links().after = after,
            None => self.first = after,
        }
        match slab.get_mut(after as usize).filter(|_| after != NONE) {
            Some(neighbour) => neighbour.links().before = before,
            None => self.last = before,
        }
        self.len -= 1;
    }
}

const NONE: u32 = u32::MAX;
