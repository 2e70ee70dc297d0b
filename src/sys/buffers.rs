//! One pool of equal receive buffers per shard, lent to whatever connection has something to read. An idle connection owns none.
//!
//! Invariant: a buffer id is at any time in exactly one place: the kernel's buffer ring, the free list, or one [`Lease`]. The
//! kernel (or [`BufferPool::fill`]) writes only to buffers that are in the ring (or just taken from the free list), and a lease
//! reads only its own, so a lease's bytes never change under it. The region is freed when the pool and the last lease are gone;
//! the ring driver keeps the pool until its ring is closed.

#[cfg(test)]
mod tests;

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
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
    /// Ids that are neither leased nor in a ring. Empty when a ring holds them.
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

/// Where a lease's bytes lie; they do not move when the lease does, so the kernel may send them from there.
enum Place {
    Buffer(Held),
    /// Copied out of a buffer, which is back in the pool.
    Own(Vec<u8>),
}

/// A buffer that is lent out.
struct Held {
    pool: Rc<Pool>,
    id: u16,
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
        let region = Region::new(usize::from(count) * size as usize)?;
        let free = RefCell::new((0..count).rev().collect());
        Ok(BufferPool { inner: Rc::new(Pool { region, count, size, free, ring: RefCell::new(None), leased: Cell::new(0) }) })
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
        let place = Place::Buffer(Held { pool: Rc::clone(&self.inner), id });
        Lease { place, start: 0, end: len.min(self.inner.size) }
    }

    /// Moves every free buffer into a kernel buffer ring; [`BufferPool::received`] then names what the kernel filled.
    ///
    /// # Errors
    /// When the ring's memory cannot be described.
    pub(super) fn attach_ring(&self) -> io::Result<u64> {
        let ring = BufferRing::new(self.inner.count)?;
        let address = ring.address();
        for id in self.inner.free.borrow_mut().drain(..) {
            ring.give(self.inner.at(id) as u64, self.inner.size, id);
        }
        *self.inner.ring.borrow_mut() = Some(ring);
        Ok(address)
    }

    /// The kernel reported `len` bytes in buffer `id`, which it took from the ring.
    pub(super) fn received(&self, id: u16, len: u32) -> Lease {
        debug_assert!(id < self.inner.count);
        self.lease(id, len)
    }
}

impl Pool {
    fn at(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count);
        // SAFETY: ids are below `count`, so the offset lies inside the region of `count * size` bytes.
        unsafe { self.region.base.as_ptr().add(usize::from(id) * self.size as usize) }
    }

    fn give_back(&self, id: u16) {
        self.leased.set(self.leased.get() - 1);
        match &*self.ring.borrow() {
            Some(ring) => ring.give(self.at(id) as u64, self.size, id),
            None => self.free.borrow_mut().push(id),
        }
    }
}

impl Lease {
    /// Drops the first `count` bytes from view.
    pub fn advance(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// The same bytes, copied, so that the buffer is back in the pool however long they are kept.
    #[must_use]
    pub fn detach(self) -> Lease {
        match self.place {
            Place::Own(_) => self,
            Place::Buffer(_) => Lease { place: Place::Own(self.to_vec()), start: 0, end: self.end - self.start },
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
            Place::Buffer(Held { pool, id }) => unsafe {
                std::slice::from_raw_parts(pool.at(*id).add(self.start as usize), (self.end - self.start) as usize)
            },
            Place::Own(bytes) => &bytes[self.start as usize..self.end as usize],
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pool.give_back(self.id);
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
    tail: Cell<u16>,
}

impl BufferRing {
    fn new(entries: u16) -> io::Result<BufferRing> {
        let memory = Region::new(usize::from(entries) * size_of::<BufRingEntry>())?;
        Ok(BufferRing { memory, mask: entries - 1, tail: Cell::new(0) })
    }

    fn address(&self) -> u64 {
        self.memory.base.as_ptr() as u64
    }

    fn give(&self, address: u64, len: u32, id: u16) {
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
        let next = tail.wrapping_add(1);
        self.tail.set(next);
        // SAFETY: the tail overlays the first entry's reserved field by the kernel's ABI; it is 2-byte aligned and shared with
        // the kernel, hence the atomic store that releases the entry written above.
        unsafe { (*BufRingEntry::tail(base).cast::<AtomicU16>()).store(next, Ordering::Release) }
    }
}
