//! Chooses an endpoint of an upstream, for one shard. It does not know why an endpoint is not usable (health does) and opens
//! nothing (the pools do).
//!
//! A choice is made by the first of these that has something to say:
//!
//! ```text
//!  session (affinity)  ->  adapter loaded?  ->  prompt seen (prefix)  ->  near enough? (zones)  ->  the policy (balance)
//!  sticks, no bound        narrows the rest     within the load bound     narrows the rest          decides
//! ```
//!
//! One file each: `plain` (round robin, least in flight), `p2c`, `hash` (rendezvous, bounded), `reported` (what engines say),
//! `prefix` (which prompts are where), `steer` (the order above), `explain` (the same for people).

mod explain;
mod hash;
mod p2c;
mod plain;
mod prefix;
mod reported;
mod steer;
#[cfg(test)]
mod tests;

use crate::config::Balance;
use crate::sys::Instant;

pub use explain::{Candidate, Explanation};
pub use hash::{hash_bytes, join};
pub use prefix::Prompt;
pub use reported::Report;
use steer::Steer;

/// The choice among one upstream's endpoints, which are named by their index in the configuration.
#[derive(Clone, Debug)]
pub struct Balancer {
    balance: Balance,
    endpoints: Box<[Share]>,
    /// Where least-in-flight begins to look, so that ties rotate.
    next: usize,
    /// `None`: nothing but the plain policies.
    steer: Option<Box<Steer>>,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    weight: u32,
    in_flight: u32,
    /// Smooth round robin's credit; over the usable endpoints the credits add up to zero.
    credit: i64,
}

/// What a request says about where it wants to go. Made only for upstreams that ask ([`Balancer::is_steered`]).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Wish {
    /// The key of `balance = "consistent_hash"`.
    pub key: Option<u64>,
    /// The session, by the field that `affinity` names.
    pub session: Option<u64>,
    /// The name of the model as asked for, `hash_bytes(0, name)`: it may be an adapter's.
    pub model: Option<u64>,
    pub prompt: Option<Prompt>,
}

/// One choice to be made.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ask<'a> {
    /// It just failed this request: taken only if no other is usable.
    pub avoid: Option<u32>,
    pub wish: Option<&'a Wish>,
    pub now: Instant,
    /// Uniform.
    pub random: u64,
}

/// Why an endpoint was chosen: the label of a metric, and a word in an explanation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Why {
    RoundRobin,
    LeastInFlight,
    TwoChoices,
    Hash,
    /// The session's own endpoint.
    Session,
    /// It has seen at least half of the prompt.
    Prefix,
    /// It has seen the conversation's beginning.
    Conversation,
    /// Nobody has seen it: by the hash of the conversation's beginning, the same on every shard.
    Opening,
    /// The policy decided among those that have the adapter loaded.
    Adapter,
    /// The one to avoid: no other was usable.
    LastResort,
}

impl Why {
    /// In the order of their discriminants.
    pub const ALL: [Why; 10] = [
        Why::RoundRobin,
        Why::LeastInFlight,
        Why::TwoChoices,
        Why::Hash,
        Why::Session,
        Why::Prefix,
        Why::Conversation,
        Why::Opening,
        Why::Adapter,
        Why::LastResort,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Why::RoundRobin => "round_robin",
            Why::LeastInFlight => "least_in_flight",
            Why::TwoChoices => "p2c",
            Why::Hash => "hash",
            Why::Session => "session",
            Why::Prefix => "prefix",
            Why::Conversation => "conversation",
            Why::Opening => "opening",
            Why::Adapter => "adapter",
            Why::LastResort => "last_resort",
        }
    }
}

/// An endpoint and the reason for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    pub endpoint: u32,
    pub why: Why,
}

impl Balancer {
    /// One endpoint per weight; a weight of 0 counts as 1. With `Balance::P2c` and `Balance::ConsistentHash` the endpoints are told
    /// apart by their index; [`Balancer::for_upstream`] knows their addresses.
    #[must_use]
    pub fn new(balance: Balance, weights: impl IntoIterator<Item = u32>) -> Balancer {
        let share = |weight: u32| Share { weight: weight.max(1), in_flight: 0, credit: 0 };
        let endpoints: Box<[Share]> = weights.into_iter().map(share).collect();
        let steer = match balance {
            Balance::RoundRobin | Balance::LeastInFlight => None,
            Balance::P2c | Balance::ConsistentHash => Some(Box::new(Steer::by_index(endpoints.len()))),
        };
        Balancer { balance, endpoints, next: 0, steer }
    }

    /// Whether a choice needs more than the calls in flight: a [`Wish`], a random number, what [`Balancer::observe`] is told.
    #[must_use]
    pub fn is_steered(&self) -> bool {
        self.steer.is_some()
    }

    /// The endpoint for the next call, or `None` when none is usable. The one to `avoid` (it just failed this request) is taken
    /// only if no other is usable. Say [`begin`](Balancer::begin) when the call starts.
    pub fn pick(&mut self, avoid: Option<u32>, usable: impl Fn(u32) -> bool) -> Option<u32> {
        if self.steer.is_some() {
            return self.choose(&Ask { avoid, ..Ask::default() }, &usable).map(|choice| choice.endpoint);
        }
        let others = |endpoint: u32| Some(endpoint) != avoid && usable(endpoint);
        let picked = match self.balance {
            Balance::RoundRobin => self.smooth_round_robin(others),
            _ => self.least_in_flight(others),
        };
        picked.or_else(|| self.last_resort(avoid, &usable))
    }

    /// As [`Balancer::pick`], with what the request says of itself.
    pub fn choose(&mut self, ask: &Ask<'_>, usable: &dyn Fn(u32) -> bool) -> Option<Choice> {
        let others = |endpoint: u32| Some(endpoint) != ask.avoid && usable(endpoint);
        let last_resort = |balancer: &Balancer| {
            let endpoint = balancer.last_resort(ask.avoid, usable)?;
            Some(Choice { endpoint, why: Why::LastResort })
        };
        self.steered(ask, &others).or_else(|| last_resort(self))
    }

    fn last_resort(&self, avoid: Option<u32>, usable: impl Fn(u32) -> bool) -> Option<u32> {
        avoid.filter(|&endpoint| (endpoint as usize) < self.endpoints.len() && usable(endpoint))
    }

    /// A call to `endpoint` begins.
    pub fn begin(&mut self, endpoint: u32) {
        if let Some(share) = self.endpoints.get_mut(endpoint as usize) {
            share.in_flight = share.in_flight.saturating_add(1);
        }
    }

    /// A call to `endpoint` ended, however it did. Once per `begin`.
    pub fn end(&mut self, endpoint: u32) {
        if let Some(share) = self.endpoints.get_mut(endpoint as usize) {
            debug_assert!(share.in_flight > 0, "an end without a begin at endpoint {endpoint}");
            share.in_flight = share.in_flight.saturating_sub(1);
        }
    }

    /// Calls in flight from this shard to `endpoint`.
    #[must_use]
    pub fn in_flight(&self, endpoint: u32) -> u32 {
        self.endpoints.get(endpoint as usize).map_or(0, |share| share.in_flight)
    }
}
