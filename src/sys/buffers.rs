//! One pool of equal receive buffers per shard, lent to whatever connection has something to read. An idle connection owns none.
//!
//! The kernel's ring is kept short and fed with the buffers that came back last: those are still in the processor's cache. It takes
//! buffers first in, first out, so a ring of all of them would walk through the whole region (32 MiB) before it touched one again.
//!
//! Invariant: a buffer id is at any time in exactly one place: the kernel's buffer ring, the free list, or one [`Lease`]. The
//! kernel (or [`BufferPool::fill`]) writes only to buffers that are in the ring (or just taken from the free list), and a lease
//! reads only its own, so a lease's bytes never change under it. The region is freed when the pool and the last lease are gone;
//! the ring driver keeps the pool until its ring is closed.

#[cfg(test)]
mod tests;

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

const PAGE: usize = 4096;

/// The pool; cheap to clone, never leaves its shard.
#[derive(Clone)]
pub struct BufferPool {
    inner: Rc<Pool>,
}

struct Pool {
    region: Region,
    count: u16,
    size: u32,
    /// Bytes from one buffer to the next.
    stride: usize,
    /// Ids that are neither leased nor in a ring; the last one came back last.
    free: RefCell<Vec<u16>>,
    ring: RefCell<Option<BufferRing>>,
    leased: Cell<u32>,
}

/// Bytes received into a pool buffer; the buffer returns to the pool on drop.
pub struct Lease {
    place: Place,
    start: u32,
    end: u32,
}

enum Place {
    Pool {
        pool: Rc<Pool>,
        id: u16,
    },
    /// Detached: a copy that waits without holding a buffer.
    Heap(Box<[u8]>),
}

impl BufferPool {
    /// `count` buffers (a power of two) of `size` bytes each.
    ///
    /// # Errors
    /// When `count` is zero or no power of two, or the region's size cannot be expressed.
    pub fn new(count: u16, size: u32) -> io::Result<BufferPool> {
        if !count.is_power_of_two() || size == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "receive buffers: the count must be a power of two and the size above 0",
            ));
        }
        let stride = stride(size);
        let region = Region::new(usize::from(count) * stride)?;
        let free = RefCell::new((0..count).rev().collect());
        Ok(BufferPool { inner: Rc::new(Pool { region, count, size, stride, free, ring: RefCell::new(None), leased: Cell::new(0) }) })
    }

    #[must_use]
    pub fn count(&self) -> u16 {
        self.inner.count
    }

    /// Bytes per buffer.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.inner.size
    }

    /// Buffers that are lent out now.
    #[must_use]
    pub fn leased(&self) -> u32 {
        self.inner.leased.get()
    }

    /// More than half of the buffers are lent out: what may wait for long should be detached, and what is large copied, so that
    /// peers that stand still cannot keep the rest from receiving.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.leased() > u32::from(self.inner.count) / 2
    }

    /// Less than three eighths of the buffers are lent out: what came may stay where it lies even while an upstream is waited for.
    #[must_use]
    pub fn has_plenty(&self) -> bool {
        self.leased() < u32::from(self.inner.count) / 8 * 3
    }

    #[must_use]
    pub fn available(&self) -> u32 {
        u32::from(self.inner.count) - self.leased()
    }

    /// Takes a free buffer and lets `read` write into it; `Ok(None)` when all are lent out. `read` returns how many bytes it wrote.
    ///
    /// # Errors
    /// What `read` returned; the buffer is then back in the pool.
    pub fn fill(&self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Option<Lease>> {
        let Some(id) = self.inner.free.borrow_mut().pop() else { return Ok(None) };
        let size = self.inner.size as usize;
        // SAFETY: `id` was just taken off the free list, so nobody else reads or writes these `size` bytes inside the region.
        let buffer = unsafe { std::slice::from_raw_parts_mut(self.inner.at(id), size) };
        match read(buffer) {
            Ok(len) => Ok(Some(self.lease(id, u32::try_from(len.min(size)).unwrap_or(0)))),
            Err(error) => {
                self.inner.free.borrow_mut().push(id);
                Err(error)
            }
        }
    }

    fn lease(&self, id: u16, len: u32) -> Lease {
        self.inner.leased.set(self.inner.leased.get() + 1);
        Lease { place: Place::Pool { pool: Rc::clone(&self.inner), id }, start: 0, end: len.min(self.inner.size) }
    }

    /// Lends free buffers to a kernel buffer ring; [`BufferPool::received`] then names what the kernel filled.
    ///
    /// # Errors
    /// When the ring's memory cannot be described.
    pub(super) fn attach_ring(&self) -> io::Result<u64> {
        let ring = BufferRing::new(self.inner.count)?;
        let address = ring.address();
        *self.inner.ring.borrow_mut() = Some(ring);
        self.top_up();
        Ok(address)
    }

    /// Fills the kernel's ring up for the next turn, with the buffers that came back last.
    pub(super) fn top_up(&self) {
        let pool = &*self.inner;
        let ring = pool.ring.borrow();
        let Some(ring) = &*ring else { return };
        let mut free = pool.free.borrow_mut();
        ring.adapt(pool.count);
        while ring.held.get() < ring.wanted.get() {
            let Some(id) = free.pop() else { break };
            ring.put(pool.at(id) as u64, pool.size, id);
        }
        ring.publish();
    }

    /// Gives the memory behind the buffers back, when none is lent out: it comes anew, zeroed, as they are filled. The first
    /// [`KEPT`] keep theirs and are lent next, so that the request after a quiet second waits for no page.
    pub fn discard(&self) {
        if self.leased() == 0 {
            self.inner.free.borrow_mut().sort_unstable_by_key(|id| Reverse(*id));
            self.inner.region.discard(usize::from(KEPT) * self.inner.stride);
        }
    }

    /// The kernel reported `len` bytes in buffer `id`, which it took from the ring.
    pub(super) fn received(&self, id: u16, len: u32) -> Lease {
        debug_assert!(id < self.inner.count);
        if let Some(ring) = &*self.inner.ring.borrow() {
            ring.take();
        }
        self.lease(id, len)
    }
}

impl Pool {
    fn at(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count);
        // SAFETY: ids are below `count`, so the offset lies inside the region of `count * stride` bytes.
        unsafe { self.region.base.as_ptr().add(usize::from(id) * self.stride) }
    }

    fn give_back(&self, id: u16) {
        self.leased.set(self.leased.get() - 1);
        self.free.borrow_mut().push(id);
    }
}

impl Lease {
    /// Drops the first `count` bytes from view.
    pub fn advance(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// The same bytes without the buffer, which goes back to the pool: for bytes that will wait for long.
    #[must_use]
    pub fn detach(self) -> Lease {
        match self.place {
            Place::Heap(_) => self,
            Place::Pool { .. } => Lease { start: 0, end: self.end - self.start, place: Place::Heap(Box::from(&*self)) },
        }
    }

    /// Keeps only the first `len` bytes in view.
    pub fn truncate(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.end = self.end.min(self.start.saturating_add(len));
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.place {
            // SAFETY: this lease is the only holder of the buffer `id` (the room's invariant) and `start <= end <= size`.
            Place::Pool { pool, id } => unsafe {
                std::slice::from_raw_parts(pool.at(*id).add(self.start as usize), (self.end - self.start) as usize)
            },
            Place::Heap(bytes) => &bytes[self.start as usize..self.end as usize],
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Place::Pool { pool, id } = self {
            pool.give_back(*id);
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({} bytes)", self.len())
    }
}

/// Page-aligned zeroed memory, freed on drop.
struct Region {
    base: NonNull<u8>,
    layout: Layout,
}

impl Region {
    fn new(bytes: usize) -> io::Result<Region> {
        let layout = Layout::from_size_align(bytes.max(PAGE), PAGE).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the layout's size is above zero.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        Ok(Region { base, layout })
    }

    /// The whole pages behind the first `kept` bytes.
    fn discard(&self, kept: usize) {
        let (from, to) = (kept.next_multiple_of(PAGE), self.layout.size() / PAGE * PAGE);
        if from < to {
            // SAFETY: these pages lie inside the region, which is private memory that nobody borrows now (the caller saw no lease).
            // What the kernel is to fill it fills by address, like any writer. A refusal leaves things as they are.
            unsafe { libc::madvise(self.base.as_ptr().add(from).cast(), to - from, libc::MADV_DONTNEED) };
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// The memory of a kernel buffer ring (`io_uring_register(IORING_REGISTER_PBUF_RING)`): entries that we write, a tail that we
/// publish. The kernel only reads it.
struct BufferRing {
    memory: Region,
    mask: u16,
    /// Entries written; those after the published tail are not the kernel's yet.
    tail: Cell<u16>,
    /// Buffers that the kernel may fill.
    held: Cell<u16>,
    /// As many as it should have when a turn begins.
    wanted: Cell<u16>,
    /// Taken since the last turn began, and the most taken in one turn of the present period.
    taken: Cell<u16>,
    taken_max: Cell<u16>,
    turns: Cell<u16>,
}

impl BufferRing {
    fn new(entries: u16) -> io::Result<BufferRing> {
        let memory = Region::new(usize::from(entries) * size_of::<BufRingEntry>())?;
        let wanted = Cell::new(HELD_MIN.min(entries));
        let [tail, held, taken, taken_max, turns] = [const { Cell::new(0) }; 5];
        Ok(BufferRing { memory, mask: entries - 1, tail, held, wanted, taken, taken_max, turns })
    }

    fn address(&self) -> u64 {
        self.memory.base.as_ptr() as u64
    }

    /// The kernel took one.
    fn take(&self) {
        self.held.set(self.held.get().saturating_sub(1));
        self.taken.set(self.taken.get().saturating_add(1));
    }

    /// A turn that took more than half of what stood ready doubles it at once, so that a receive rarely finds the ring empty (that
    /// costs arming it again); a period in which no turn took an eighth halves it.
    fn adapt(&self, count: u16) {
        let (taken, wanted) = (self.taken.replace(0), self.wanted.get());
        self.taken_max.set(self.taken_max.get().max(taken));
        if taken > wanted / 2 {
            self.wanted.set(wanted.saturating_mul(2).min(count));
        }
        self.turns.set(self.turns.get() + 1);
        if self.turns.get() == ADAPT_TURNS {
            self.turns.set(0);
            if self.taken_max.replace(0) < wanted / 8 {
                self.wanted.set((wanted / 2).max(HELD_MIN.min(count)));
            }
        }
    }

    fn put(&self, address: u64, len: u32, id: u16) {
        let tail = self.tail.get();
        let base = self.memory.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the index is masked to the ring's size; the kernel does not look at entries at or after the published tail,
        // and there are as many entries as buffer ids, so an entry it has not consumed is never overwritten.
        unsafe {
            let entry = &mut *base.add(usize::from(tail & self.mask));
            entry.set_addr(address);
            entry.set_len(len);
            entry.set_bid(id);
        }
        self.tail.set(tail.wrapping_add(1));
        self.held.set(self.held.get() + 1);
    }

    fn publish(&self) {
        let base = self.memory.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the tail overlays the first entry's reserved field by the kernel's ABI; it is 2-byte aligned and shared with
        // the kernel, hence the atomic store that releases the entries written above.
        unsafe { (*BufRingEntry::tail(base).cast::<AtomicU16>()).store(self.tail.get(), Ordering::Release) }
    }
}

/// Bytes from one buffer to the next: buffers of whole pages would begin in the same few sets of the processor's cache, so that a
/// hundred short messages evict one another; three lines more move each to other sets.
#[must_use]
pub const fn stride(size: u32) -> usize {
    if size as usize >= PAGE { size as usize + COLOUR } else { size as usize }
}

const COLOUR: usize = 3 * 64;
/// Buffers that stand ready at least.
const HELD_MIN: u16 = 16;
const ADAPT_TURNS: u16 = 4096;
/// Buffers whose memory stays with an idle shard.
const KEPT: u16 = 64;
