//! Numbers that control sets and every shard reads: the shares of split models. A change needs no message and no snapshot; it holds
//! for the next request that looks. What a number means is its reader's matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A row of numbers of a fixed length; clones are the same row.
#[derive(Clone, Default, Debug)]
pub struct Dials(Arc<[AtomicU32]>);

impl Dials {
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = u32>) -> Dials {
        Dials(values.into_iter().map(AtomicU32::new).collect())
    }

    /// 0 beyond the end.
    #[must_use]
    pub fn value(&self, index: usize) -> u32 {
        // Relaxed: the numbers of a split may be read while they change, and each of them is right by itself.
        self.0.get(index).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Nothing beyond the end.
    pub fn set(&self, index: usize, value: u32) {
        if let Some(cell) = self.0.get(index) {
            cell.store(value, Ordering::Relaxed);
        }
    }
}
