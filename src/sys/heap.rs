//! What the allocator keeps of this thread's freed memory goes back to the system. Invariant: `mi_collect` takes no pointer, touches the
//! calling thread's own heap and what other threads gave back to it, and may be called at any time; in a program with another allocator
//! it finds an empty heap.

// Linked for its C library, which the crate's own allocator face does not expose.
use libmimalloc_sys as _;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Gives back pages that have been free for a moment. mimalloc looks for such pages only while the thread allocates, so without this
/// a thread that falls idle keeps what its last burst left behind. Takes microseconds on a quiet heap, longer on a large one: for
/// moments when nobody waits.
pub fn give_back_memory() {
    // SAFETY: see the head of the file. Not forced: only pages past the allocator's own delay are unmapped.
    unsafe { mi_collect(false) }
}
