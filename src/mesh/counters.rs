//! Counter blocks: an array of numbers that one shard writes and the scraper reads at any time. What each cell means is
//! settled in metrics. A write is a relaxed load and a relaxed store (no lock prefix): right because one thread writes.
//!
//! A reader sees each cell go forward in steps that were really written; between cells it sees no common moment, so figures
//! that must agree (a histogram's count and its buckets) are made from the same cells.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// Cells in a padded line: `CachePadded` is 128 bytes on x86-64 and aarch64 (they fetch lines in pairs).
const LINE: usize = 16;

#[derive(Debug)]
struct Cells {
    /// Whole lines, so that two shards' blocks never share one.
    lines: Box<[CachePadded<[AtomicU64; LINE]>]>,
    writers: CachePadded<AtomicUsize>,
}

impl Cells {
    fn cell(&self, index: usize) -> Option<&AtomicU64> {
        self.lines.get(index / LINE).map(|line| &line[index % LINE])
    }
}

/// The reading side of a block; the scraper's. Cloning gives another reference to the same cells.
#[derive(Clone, Debug)]
pub struct CounterBlock(Arc<Cells>);

impl CounterBlock {
    /// A block of `cells` zeros (rounded up to whole lines).
    #[must_use]
    pub fn new(cells: usize) -> CounterBlock {
        let lines = (0..cells.div_ceil(LINE)).map(|_| CachePadded::default()).collect();
        CounterBlock(Arc::new(Cells { lines, writers: CachePadded::new(AtomicUsize::new(0)) }))
    }

    /// A writer for this block. All writers of a block must live on one thread: writers on two would lose counts (never more
    /// than that).
    #[must_use]
    pub fn writer(&self) -> CounterWriter {
        self.0.writers.fetch_add(1, Ordering::Relaxed);
        CounterWriter { cells: Arc::clone(&self.0), one_thread: PhantomData }
    }

    /// Cell `index`; 0 beyond the end.
    #[must_use]
    pub fn value(&self, index: usize) -> u64 {
        self.0.cell(index).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// True when no writer is left; then every count is visible and none will come.
    #[must_use]
    pub fn is_final(&self) -> bool {
        // Pairs with the release in the writer's drop.
        self.0.writers.load(Ordering::Acquire) == 0
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.lines.len() * size_of::<CachePadded<[AtomicU64; LINE]>>()
    }
}

/// The writing side; the shard's. It can move to the shard's thread but not be used from two.
#[derive(Debug)]
pub struct CounterWriter {
    cells: Arc<Cells>,
    one_thread: PhantomData<Cell<()>>,
}

impl CounterWriter {
    /// Adds to a counter. A cell beyond the end is ignored: metrics checks ids before it computes an index.
    pub fn add(&self, index: usize, count: u64) {
        if let Some(cell) = self.cells.cell(index) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        }
    }

    /// Cell `index` as its only writer knows it; 0 beyond the end.
    #[must_use]
    pub fn value(&self, index: usize) -> u64 {
        self.cells.cell(index).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Takes from a gauge. Gauges are 64-bit two's complement.
    pub fn sub(&self, index: usize, count: u64) {
        self.add(index, count.wrapping_neg());
    }

    /// Sets a gauge.
    pub fn set(&self, index: usize, value: u64) {
        if let Some(cell) = self.cells.cell(index) {
            cell.store(value, Ordering::Relaxed);
        }
    }
}

impl Drop for CounterWriter {
    fn drop(&mut self) {
        self.cells.writers.fetch_sub(1, Ordering::Release);
    }
}
