//! Places at upstreams that take only so many requests at a time: one count per upstream that all shards take from, so that a limit
//! holds for the process exactly, and beside it what each shard has and wants there. Who gets the next place is policy's to say
//! (`policy::next_shard`), the limit is the configuration's. Only upstreams with a limit have a row, and only their requests touch it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::ShardId;

/// The rows of one snapshot, by upstream. Cloning gives the same rows.
#[derive(Clone, Default)]
pub struct Shares(Arc<[Option<Named>]>);

#[derive(Clone)]
struct Named {
    upstream: Box<str>,
    share: Share,
}

/// One upstream's places. Cloning gives the same row.
#[derive(Clone, Debug)]
pub struct Share(Arc<Row>);

#[derive(Debug)]
struct Row {
    all: CachePadded<All>,
    shards: Box<[CachePadded<One>]>,
}

#[derive(Debug, Default)]
struct All {
    in_flight: AtomicU64,
    /// Tenants that wait, over all shards.
    tenants: AtomicU64,
    /// The shard that got the last place for which somebody waited.
    last: AtomicU32,
    /// How many places there are, by the newest configuration.
    max: AtomicU32,
}

#[derive(Debug, Default)]
struct One {
    in_flight: AtomicU64,
    tenants: AtomicU64,
    /// It was told of a free place and has not looked yet.
    told: AtomicBool,
}

impl Shares {
    /// Rows for the upstreams that have a limit, given by name in the order of their ids (`None`: no limit). One that had a row in
    /// `former` keeps it: its requests are still there after a reload.
    #[must_use]
    pub fn new<'a>(shards: u32, limited: impl IntoIterator<Item = Option<&'a str>>, former: &Shares) -> Shares {
        let row = |name: &str| {
            let kept = former.0.iter().flatten().find(|named| &*named.upstream == name);
            kept.cloned().unwrap_or_else(|| Named { upstream: name.into(), share: Share::new(shards) })
        };
        Shares(limited.into_iter().map(|name| name.map(row)).collect())
    }

    /// The row of an upstream by its id.
    #[must_use]
    pub fn of(&self, upstream: u32) -> Option<Share> {
        self.0.get(upstream as usize)?.as_ref().map(|named| named.share.clone())
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().flatten().map(|named| (&named.upstream, &named.share))).finish()
    }
}

/// Who frees a place and who begins to wait for one must not miss each other: each writes its own and then reads the other's, all in
/// one order (`SeqCst`).
impl Share {
    fn new(shards: u32) -> Share {
        Share(Arc::new(Row { all: CachePadded::default(), shards: (0..shards).map(|_| CachePadded::default()).collect() }))
    }

    #[must_use]
    pub fn shards(&self) -> u32 {
        u32::try_from(self.0.shards.len()).unwrap_or(u32::MAX)
    }

    /// How many places there are from now on, also for those who came under an earlier configuration. None at first.
    pub fn set_max(&self, max: u32) {
        self.0.all.max.store(max, Ordering::SeqCst);
    }

    /// Takes a place for a shard; false when none is free. Never more are out than there are, whoever else asks meanwhile.
    #[must_use]
    pub fn take(&self, shard: ShardId) -> bool {
        let max = self.max();
        let one_more = |taken: u64| (taken < max).then_some(taken + 1);
        let taken = self.0.all.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok();
        if taken && let Some(one) = self.one(shard) {
            one.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Gives a place back.
    pub fn give(&self, shard: ShardId) {
        if let Some(one) = self.one(shard) {
            one.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        let before = self.0.all.in_flight.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "a place was given back that nobody took");
    }

    /// Whether a place is free.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.all.in_flight.load(Ordering::SeqCst) < self.max()
    }

    /// Whether somebody waits, on any shard.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.0.all.tenants.load(Ordering::SeqCst) > 0
    }

    /// Adds the difference of what a shard's line was and is, in tenants that wait.
    pub fn set_tenants(&self, shard: ShardId, before: u32, now: u32) {
        let difference = u64::from(now).wrapping_sub(u64::from(before));
        if difference != 0
            && let Some(one) = self.one(shard)
        {
            one.tenants.fetch_add(difference, Ordering::SeqCst);
            self.0.all.tenants.fetch_add(difference, Ordering::SeqCst);
        }
    }

    /// Requests of a shard that run, and its tenants that wait, as of a moment ago.
    #[must_use]
    pub fn claim(&self, shard: u32) -> (u64, u64) {
        let one = self.one(ShardId(shard));
        one.map_or((0, 0), |one| (one.in_flight.load(Ordering::Relaxed), one.tenants.load(Ordering::SeqCst)))
    }

    /// The shard that got the last place for which somebody waited.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.0.all.last.load(Ordering::Relaxed)
    }

    /// A waiting request of this shard got a place.
    pub fn set_last(&self, shard: ShardId) {
        self.0.all.last.store(shard.0, Ordering::Relaxed);
    }

    /// Whether a shard must be sent word of a free place: not while an earlier word is on its way.
    #[must_use]
    pub fn must_tell(&self, shard: ShardId) -> bool {
        self.one(shard).is_some_and(|one| !one.told.swap(true, Ordering::SeqCst))
    }

    /// The word has arrived; say so before looking for places.
    pub fn heard(&self, shard: ShardId) {
        if let Some(one) = self.one(shard) {
            one.told.store(false, Ordering::SeqCst);
        }
    }

    fn max(&self) -> u64 {
        u64::from(self.0.all.max.load(Ordering::SeqCst))
    }

    fn one(&self, shard: ShardId) -> Option<&One> {
        self.0.shards.get(shard.0 as usize).map(|one| &**one)
    }
}
