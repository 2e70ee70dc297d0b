//! How many requests an upstream is given at a time: a fixed number, or one that is learned (`adaptive`). Who waits for the next
//! place is settled in `queue`; the count of those that run is kept where all shards see it (`mesh`).
//!
//! A fixed limit holds for the whole process, exactly: a place is taken from one count that all shards share. It is not cut into
//! parts, so it does not matter how clients are spread over the shards. While requests wait on several shards, a place that
//! becomes free goes to [`next_shard`]. A learned limit is each shard's own, as it is each client's own in a fleet of clients; its
//! `max` holds for the whole process.

use std::time::Duration;

use super::adaptive::{Adaptive, Round};
use crate::sys::Instant;

/// The limit of one upstream as one shard holds it.
#[derive(Clone, Debug)]
pub enum Limit {
    /// For all shards together.
    Fixed(u32),
    /// Learned by this shard, below a ceiling for all together.
    Adaptive(Box<Adaptive>),
}

impl Limit {
    /// Requests of all shards together.
    #[must_use]
    pub fn of_process(&self) -> u32 {
        match self {
            Limit::Fixed(limit) => *limit,
            Limit::Adaptive(adaptive) => adaptive.max(),
        }
    }

    /// Requests of this shard.
    #[must_use]
    pub fn of_shard(&self) -> u32 {
        match self {
            Limit::Fixed(limit) => *limit,
            Limit::Adaptive(adaptive) => adaptive.limit(),
        }
    }

    /// A request begins beside `in_flight - 1` others of this shard.
    pub fn handle_begin(&mut self, in_flight: u32) -> Round {
        match self {
            Limit::Fixed(_) => Round::default(),
            Limit::Adaptive(adaptive) => adaptive.handle_begin(in_flight),
        }
    }

    /// The answer to a request of `round` began after `latency`.
    pub fn handle_answer(&mut self, round: Round, latency: Duration, now: Instant) {
        if let Limit::Adaptive(adaptive) = self {
            adaptive.handle_answer(round, latency, now);
        }
    }

    /// The upstream said 429 or 503, or did not answer in time.
    pub fn handle_overload(&mut self, round: Round) {
        if let Limit::Adaptive(adaptive) = self {
            adaptive.handle_overload(round);
        }
    }
}

/// What one shard has at an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ShardClaim {
    /// Requests that run.
    pub in_flight: u32,
    /// Tenants with requests that wait for a place; 0 when none does.
    pub tenants: u32,
}

/// The shard that gets the next free place: the one with the fewest running requests per waiting tenant, so that tenants share alike
/// wherever their connections lie. Among equals the first behind `last`, which got the last one: at a limit below the number of shards
/// they take turns. `None` when nobody waits anywhere.
#[must_use]
pub fn next_shard(shards: u32, last: u32, claim: impl Fn(u32) -> ShardClaim) -> Option<u32> {
    let mut least: Option<(u32, ShardClaim)> = None;
    for shard in (1..=shards).map(|step| (last % shards + step) % shards) {
        let claim = claim(shard);
        // in_flight / tenants compared by cross products.
        let is_less = |other: ShardClaim| {
            u64::from(claim.in_flight) * u64::from(other.tenants) < u64::from(other.in_flight) * u64::from(claim.tenants)
        };
        if claim.tenants > 0 && least.is_none_or(|(_, other)| is_less(other)) {
            least = Some((shard, claim));
        }
    }
    least.map(|(shard, _)| shard)
}
