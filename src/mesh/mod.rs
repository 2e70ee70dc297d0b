//! All that crosses cores: bounded inboxes with doorbells (`inbox`, `doorbell`), counter blocks one shard writes and the
//! scraper reads (`counters`), how much each shard has to do (`loads`) and has at an upstream with a limit (`shares`), how near memory is
//! to its ceiling (`pressure`), numbers control sets and shards read (`dials`), one answer to an operator's question (`reply`), and values shared whole (`shared`: snapshots). It knows neither what a message says nor what a
//! counter means (shard and metrics do), makes no system call (a bell is a [`Ring`] it is given) and never waits.
#![expect(clippy::disallowed_types, reason = "the room where Arc and atomics live")]

mod counters;
mod dials;
pub mod doorbell;
mod inbox;
mod loads;
mod pressure;
mod reply;
mod shared;
mod shares;

#[cfg(test)]
mod tests;

pub use counters::{CounterBlock, CounterWriter};
pub use dials::Dials;
pub use doorbell::{Doorbell, Ring};
pub use inbox::{Bell, FlagBell, Inbox, Mesh, Port, Sender};
pub use loads::Load;
pub use pressure::{Level, Pressure};
pub use reply::{Awaited, Reply, reply};
pub use shared::Shared;
pub use shares::{Share, Shares};

/// Index of a shard: 0 to the number of shards - 1, for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardId(pub u32);

/// The atomics the doorbell is built on. `tests/loom` includes the same `doorbell.rs` beside a `sync` of loom's.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
}
