//! The virtual GPU: one call at a time, in the order they came, each costing a fixed part and a part per item. A pure machine:
//! it says when a call will be done; waiting until then is the connection's matter, and no processor time is burnt.
//!
//! ```text
//! calls:   ---a(2)-b(1)---------------------c(1)---->
//! GPU:        [base 1 2][base 1]            [base 1]
//! ```

use std::time::Duration;

use crate::sys::Instant;

/// When the GPU is free again, and what a call costs: T(n) = base + n * per item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gpu {
    cost_base: Duration,
    cost_per_item: Duration,
    busy_until: Instant,
}

/// One admitted call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    pub begins_at: Instant,
    pub done_at: Instant,
}

impl Gpu {
    #[must_use]
    pub const fn new(cost_base: Duration, cost_per_item: Duration) -> Gpu {
        Gpu { cost_base, cost_per_item, busy_until: Instant::ZERO }
    }

    /// Puts a call of `items` behind those that wait already. `done_at == now` when it costs nothing and nobody is before it.
    pub fn admit(&mut self, now: Instant, items: u32) -> Call {
        let begins_at = self.busy_until.max(now);
        let cost = self.cost_base.saturating_add(self.cost_per_item.saturating_mul(items));
        self.busy_until = begins_at + cost;
        Call { begins_at, done_at: self.busy_until }
    }

    /// Gives a call up before it is done. Its time is free for others when it stands last; time in the middle of the line is
    /// lost, because those behind it have been told their moment already.
    pub fn abandon(&mut self, now: Instant, call: Call) {
        if call.done_at == self.busy_until {
            self.busy_until = call.begins_at.max(now).min(call.done_at);
        }
    }

    /// When everything admitted so far is done.
    #[must_use]
    pub const fn busy_until(&self) -> Instant {
        self.busy_until
    }
}
