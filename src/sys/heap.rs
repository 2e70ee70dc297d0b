//! What the allocator keeps of this thread's freed memory goes back to the system. Invariant: `mi_collect` takes no pointer, touches the
//! calling thread's own heap and what other threads gave back to it, and may be called at any time; in a program with another allocator
//! it finds an empty heap.

// Linked for its C library, which the crate's own allocator face does not expose.
use libmimalloc_sys as _;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// How much of it goes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GiveBack {
    /// Pages that have been free for longer than the allocator's own delay. Microseconds on a quiet heap, longer on a large one.
    Stale,
    /// All that is free: the next burst faults its pages in anew.
    All,
}

/// Gives back freed pages. mimalloc looks for such pages only while the thread allocates, so without this a thread that falls idle
/// keeps what its last burst left behind. For moments when nobody waits.
pub fn give_back_memory(how_much: GiveBack) {
    // SAFETY: see the head of the file.
    unsafe { mi_collect(how_much == GiveBack::All) }
}
