//! The bell of a simulated shard: rung from the mesh like an eventfd, remembered until it is looked at, without a system call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Marks a simulated driver as rung. Cheap to clone; it may cross threads only because real bells do.
#[derive(Clone, Default, Debug)]
pub struct SimBell(Arc<AtomicBool>);

impl SimBell {
    pub fn ring(&self) {
        self.0.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn is_rung(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Whether it was rung since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}
