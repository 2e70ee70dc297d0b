//! How much each shard has to do, for whoever accepts a connection and asks which shard should serve it: places in use (connections
//! open or on their way there, counted by both sides) and exchanges in flight (written by the shard once a turn). Which of two loads
//! is the lesser is policy's to say; the bound on places is the configuration's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::ShardId;

/// One row per shard; each on lines of its own, because its shard writes there every turn.
#[derive(Clone, Debug)]
pub(super) struct Loads(Arc<[CachePadded<Row>]>);

#[derive(Debug, Default)]
struct Row {
    connections: AtomicU64,
    exchanges: AtomicU64,
}

/// A shard's load as it was a moment ago.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Load {
    /// Open, or handed over and not taken yet.
    pub connections: u64,
    /// In flight at the end of its last turn.
    pub exchanges: u64,
}

impl Loads {
    pub(super) fn new(shards: usize) -> Loads {
        Loads((0..shards).map(|_| CachePadded::default()).collect())
    }

    pub(super) fn load(&self, shard: ShardId) -> Load {
        self.row(shard).map_or(Load::default(), |row| Load {
            connections: row.connections.load(Ordering::Relaxed),
            exchanges: row.exchanges.load(Ordering::Relaxed),
        })
    }

    pub(super) fn set_exchanges(&self, shard: ShardId, count: u64) {
        if let Some(row) = self.row(shard) {
            row.exchanges.store(count, Ordering::Relaxed);
        }
    }

    /// Takes one of `max` places; false when none is left. Never more than `max` are out, whoever else asks meanwhile.
    pub(super) fn take_place(&self, shard: ShardId, max: u64) -> bool {
        let one_more = |taken: u64| (taken < max).then_some(taken + 1);
        // Release and acquire with `give_place`: a shard that sees no place taken sees the end of whoever had one.
        self.row(shard).is_some_and(|row| row.connections.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok())
    }

    pub(super) fn give_place(&self, shard: ShardId) {
        if let Some(row) = self.row(shard) {
            let before = row.connections.fetch_sub(1, Ordering::AcqRel);
            debug_assert!(before > 0, "a place was given back that nobody took");
        }
    }

    fn row(&self, shard: ShardId) -> Option<&Row> {
        self.0.get(shard.0 as usize).map(|row| &**row)
    }
}
