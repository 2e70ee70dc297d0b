//! How near the process is to its ceiling on memory: written by control now and then, read by every shard at every request. What a
//! level means for a request is the shard's to say; where the levels begin is control's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How near memory is to its ceiling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Level {
    #[default]
    Fine,
    /// Take nothing large in any more.
    Near,
    /// Take nothing in any more.
    Full,
}

/// The level, for all shards. Cloning gives the same one.
#[derive(Clone, Default, Debug)]
pub struct Pressure(Arc<AtomicU8>);

impl Pressure {
    /// The level as it was set last.
    #[must_use]
    pub fn level(&self) -> Level {
        match self.0.load(Ordering::Relaxed) {
            0 => Level::Fine,
            1 => Level::Near,
            _ => Level::Full,
        }
    }

    pub fn set(&self, level: Level) {
        self.0.store(level as u8, Ordering::Relaxed);
    }
}
