//! The choice where more than the calls in flight counts, and what it learns from calls and reports.

use std::time::Duration;

use smallvec::SmallVec;

use super::hash::{hash_bytes, score};
use super::p2c::{self, Latency};
use super::prefix::{Match, PrefixIndex};
use super::reported::Reported;
use super::{Ask, Balancer, Choice, Prompt, Report, Why, Wish};
use crate::config::{Balance, EndpointAddr, Upstream};
use crate::sys::Instant;

/// What the plain policies do without.
#[derive(Clone, Debug)]
pub(super) struct Steer {
    /// Who each endpoint is, for hashing: the same on every shard, whatever its place in the list.
    names: Box<[u64]>,
    /// By endpoint, with `Balance::P2c`; else empty.
    latencies: Box<[Latency]>,
    /// By endpoint, where an engine reports; else empty.
    reported: Box<[Reported]>,
    /// In this time a report loses half of its weight.
    half_life: Duration,
    /// By endpoint, whether it stands in this gateway's zone; empty when all do.
    near: Box<[bool]>,
    zone_spill: u32,
    prefix: Option<PrefixIndex>,
    load_factor: f64,
}

/// How many calls an endpoint may have: `ceil(factor x (all + 1) x weight / weights)` with the call that is to be placed counted in,
/// and never less than `free` (Mirrokni, Thorup, Zadimoghaddam 2016: consistent hashing with bounded loads). Since the bounds add up to
/// more than there are calls, some endpoint is always below its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    per_weight: f64,
    free: f64,
}

impl Bound {
    pub(super) fn of(self, weight: u32) -> f64 {
        (self.per_weight * f64::from(weight)).ceil().max(self.free)
    }
}

impl Steer {
    /// Endpoints without addresses.
    pub(super) fn by_index(count: usize) -> Steer {
        Steer {
            names: (0_u64..).take(count).map(|index| hash_bytes(ENDPOINT, &index.to_le_bytes())).collect(),
            latencies: vec![Latency::default(); count].into(),
            reported: Box::default(),
            half_life: Duration::ZERO,
            near: Box::default(),
            zone_spill: u32::MAX,
            prefix: None,
            load_factor: f64::INFINITY,
        }
    }

    fn is_near(&self, endpoint: u32) -> bool {
        self.near.get(endpoint as usize).copied().unwrap_or(true)
    }
}

impl Balancer {
    /// For a configured upstream of a gateway that stands in `zone`.
    #[must_use]
    pub fn for_upstream(upstream: &Upstream, zone: Option<&str>) -> Balancer {
        let mut balancer = Balancer::new(upstream.balance, upstream.endpoints.iter().map(|endpoint| endpoint.weight));
        let steering = &upstream.steering;
        let is_near = |of: &Option<String>| zone.is_none() || of.is_none() || of.as_deref() == zone;
        let near: Box<[bool]> = upstream.endpoints.iter().map(|endpoint| is_near(&endpoint.zone)).collect();
        let zoned = near.iter().any(|near| !near);
        let plain = steering.affinity.is_none() && steering.engine.is_none() && steering.prefix_affinity.is_none() && !zoned;
        if plain && balancer.steer.is_none() {
            return balancer;
        }
        let count = balancer.endpoints.len();
        balancer.steer = Some(Box::new(Steer {
            names: upstream.endpoints.iter().map(|endpoint| name_of(&endpoint.addr)).collect(),
            latencies: vec![Latency::default(); if upstream.balance == Balance::P2c { count } else { 0 }].into(),
            reported: vec![Reported::default(); if steering.engine.is_some() { count } else { 0 }].into(),
            half_life: steering.scrape.as_ref().map_or(Duration::ZERO, |scrape| scrape.interval).max(HALF_LIFE_MIN),
            near: if zoned { near } else { Box::default() },
            zone_spill: steering.zone_spill,
            prefix: steering.prefix_affinity.map(|prefix| PrefixIndex::new(prefix.entries())),
            load_factor: steering.prefix_affinity.map_or(f64::INFINITY, |prefix| prefix.load_factor),
        }));
        balancer
    }

    /// Whether [`Balancer::observe`] learns something.
    #[must_use]
    pub fn is_observing(&self) -> bool {
        self.steer.as_ref().is_some_and(|steer| !steer.latencies.is_empty())
    }

    /// An answer's head came after `took` (or none came for so long).
    pub fn observe(&mut self, endpoint: u32, took: Duration, now: Instant) {
        let latency = self.steer.as_mut().and_then(|steer| steer.latencies.get_mut(endpoint as usize));
        if let Some(latency) = latency {
            latency.observe(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), now);
        }
    }

    /// Whether [`Balancer::handle_report`] learns something.
    #[must_use]
    pub fn takes_reports(&self) -> bool {
        self.steer.as_ref().is_some_and(|steer| !steer.reported.is_empty())
    }

    /// What an endpoint said of its load.
    pub fn handle_report(&mut self, endpoint: u32, report: Report, now: Instant) {
        let own = self.in_flight(endpoint);
        let reported = self.steer.as_mut().and_then(|steer| steer.reported.get_mut(endpoint as usize));
        if let Some(reported) = reported {
            reported.take(report, own, now);
        }
    }

    /// The endpoint took the request's prompt: it holds it in its cache now.
    pub fn handle_prompt(&mut self, prompt: &Prompt, endpoint: u32) {
        if let Some(index) = self.steer.as_mut().and_then(|steer| steer.prefix.as_mut()) {
            index.record(prompt, endpoint);
        }
    }

    /// Takes over what a former balancer has learned of prompts, when both are about the same endpoints.
    pub fn adopt(&mut self, former: &mut Balancer) {
        let (Some(own), Some(other)) = (&mut self.steer, &mut former.steer) else { return };
        let same = own.names == other.names;
        if let (true, Some(index), Some(learned)) = (same, &mut own.prefix, &mut other.prefix)
            && index.capacity() == learned.capacity()
        {
            // The former one goes on for the few that began under it, with an index of the least size.
            *index = std::mem::replace(learned, PrefixIndex::new(0));
        }
    }

    /// The order of the room's picture.
    pub(super) fn steered(&mut self, ask: &Ask<'_>, open: &dyn Fn(u32) -> bool) -> Option<Choice> {
        if self.steer.is_none() {
            return self.by_policy(ask, open);
        }
        let wish = ask.wish;
        if let Some(session) = wish.and_then(|wish| wish.session) {
            return self.rendezvous(session, open).map(|endpoint| Choice { endpoint, why: Why::Session });
        }
        let loads = self.loads(ask.now);
        let holds = self.with_adapter(wish, open, &loads);
        let open = |endpoint: u32| open(endpoint) && holds.as_ref().is_none_or(|holds| holds.contains(&endpoint));
        let near_only = self.near_is_enough(&open, &loads);
        let (is_near, open) = (self.nearness(), &open);
        let in_reach = |endpoint: u32| open(endpoint) && (!near_only || is_near(endpoint));
        if let Some(prompt) = wish.and_then(|wish| wish.prompt.as_ref())
            && let Some(choice) = self.by_prompt(prompt, &loads, open, &in_reach)
        {
            return Some(choice);
        }
        let choice = self.by_load(ask, &loads, &in_reach)?;
        Some(if holds.is_some() { Choice { why: Why::Adapter, ..choice } } else { choice })
    }

    fn by_policy(&mut self, _ask: &Ask<'_>, open: &dyn Fn(u32) -> bool) -> Option<Choice> {
        let (endpoint, why) = match self.balance {
            Balance::RoundRobin => (self.smooth_round_robin(open)?, Why::RoundRobin),
            _ => (self.least_in_flight(open)?, Why::LeastInFlight),
        };
        Some(Choice { endpoint, why })
    }

    fn by_load(&mut self, ask: &Ask<'_>, loads: &Loads, open: &dyn Fn(u32) -> bool) -> Option<Choice> {
        let key = ask.wish.and_then(|wish| wish.key);
        match (self.balance, key) {
            (Balance::P2c, _) => {
                let (one, other) = p2c::draw(self.endpoints.len(), ask.random, open)?;
                let endpoint = if self.cost(other, loads, ask.now) < self.cost(one, loads, ask.now) { other } else { one };
                Some(Choice { endpoint, why: Why::TwoChoices })
            }
            (Balance::ConsistentHash, Some(key)) => {
                let bound = self.bound(HASH_FACTOR, 0.0, loads, open);
                let endpoint = self.rendezvous(key, &|endpoint| open(endpoint) && self.fits(endpoint, bound, loads))?;
                Some(Choice { endpoint, why: Why::Hash })
            }
            (Balance::RoundRobin, _) => self.by_policy(ask, open),
            (Balance::LeastInFlight | Balance::ConsistentHash, _) => {
                let endpoint = self.least_loaded(loads, open)?;
                Some(Choice { endpoint, why: Why::LeastInFlight })
            }
        }
    }

    /// To the endpoint with the longest match within its bound, else by the conversation's own hash within the same bound: the key is
    /// the same on every shard, so the next turn finds its way from a shard that has never seen the conversation, and whoever is
    /// displaced by the bound goes to the same second choice each time.
    fn by_prompt(&mut self, prompt: &Prompt, loads: &Loads, open: &dyn Fn(u32) -> bool, near: &dyn Fn(u32) -> bool) -> Option<Choice> {
        let steer = self.steer.as_mut()?;
        let (factor, mut index) = (steer.load_factor, steer.prefix.take()?);
        let bound = self.bound(factor, PREFIX_FREE, loads, open);
        let fits = |endpoint: u32| open(endpoint) && self.fits(endpoint, bound, loads);
        let found = index.find(prompt, |holders| self.lightest(holders, loads, &fits));
        let choice = match found {
            Some(Match::Blocks(endpoint, _)) => Some(Choice { endpoint, why: Why::Prefix }),
            Some(Match::Conversation(endpoint)) => Some(Choice { endpoint, why: Why::Conversation }),
            None => {
                let placed = self.rendezvous(prompt.opening(), &|endpoint| near(endpoint) && fits(endpoint));
                placed.map(|endpoint| Choice { endpoint, why: Why::Opening })
            }
        };
        if let Some(steer) = &mut self.steer {
            steer.prefix = Some(index);
        }
        choice
    }

    /// The first of the holders with the least load.
    fn lightest(&self, holders: &[u8], loads: &Loads, fits: &dyn Fn(u32) -> bool) -> Option<u32> {
        let fitting = holders.iter().map(|holder| u32::from(*holder)).filter(|endpoint| fits(*endpoint));
        fitting.min_by(|left, right| self.filling(*left, loads).total_cmp(&self.filling(*right, loads)))
    }

    /// The endpoints that have the model loaded as an adapter, if there are such and one of them is not overloaded.
    fn with_adapter(&self, wish: Option<&Wish>, open: &dyn Fn(u32) -> bool, loads: &Loads) -> Option<SmallVec<[u32; 8]>> {
        let (steer, model) = (self.steer.as_ref()?, wish?.model?);
        if steer.reported.is_empty() {
            return None;
        }
        let bound = self.bound(ADAPTER_FACTOR, PREFIX_FREE, loads, open);
        let with = (0..).zip(&steer.reported).filter(|(_, reported)| reported.has_adapter(model)).map(|(endpoint, _)| endpoint);
        let with: SmallVec<[u32; 8]> = with.filter(|endpoint| open(*endpoint) && self.fits(*endpoint, bound, loads)).collect();
        (!with.is_empty()).then_some(with)
    }

    /// Some near endpoint is open and has less than `zone_spill` calls per unit of weight.
    fn near_is_enough(&self, open: &dyn Fn(u32) -> bool, loads: &Loads) -> bool {
        let Some(steer) = self.steer.as_ref().filter(|steer| !steer.near.is_empty()) else { return false };
        self.all().any(|endpoint| {
            let has_room = || self.load(endpoint, loads) < f64::from(steer.zone_spill) * f64::from(self.weight(endpoint));
            steer.is_near(endpoint) && open(endpoint) && has_room()
        })
    }

    fn nearness(&self) -> impl Fn(u32) -> bool + use<> {
        let near: SmallVec<[bool; 16]> = self.steer.iter().flat_map(|steer| steer.near.iter().copied()).collect();
        move |endpoint| near.get(endpoint as usize).copied().unwrap_or(true)
    }

    /// The endpoint with the highest score for the key.
    pub(super) fn rendezvous(&self, key: u64, open: &dyn Fn(u32) -> bool) -> Option<u32> {
        let scored = self.all().filter(|endpoint| open(*endpoint)).map(|endpoint| (endpoint, self.score(key, endpoint)));
        scored.max_by(|(_, left), (_, right)| left.total_cmp(right)).map(|(endpoint, _)| endpoint)
    }

    pub(super) fn score(&self, key: u64, endpoint: u32) -> f64 {
        let name = self.steer.as_ref().and_then(|steer| steer.names.get(endpoint as usize)).copied().unwrap_or_default();
        score(key, name, self.weight(endpoint))
    }

    /// Least in flight where reports count too. Ties go to the one after the last picked.
    fn least_loaded(&mut self, loads: &Loads, open: &dyn Fn(u32) -> bool) -> Option<u32> {
        if loads.is_empty() {
            return self.least_in_flight(open);
        }
        let count = self.endpoints.len();
        let turned = (0..count).filter_map(|step| u32::try_from((self.next + step) % count).ok()).filter(|endpoint| open(*endpoint));
        let least = turned.min_by(|left, right| self.filling(*left, loads).total_cmp(&self.filling(*right, loads)))?;
        self.next = (least as usize + 1) % count;
        Some(least)
    }

    pub(super) fn cost(&self, endpoint: u32, loads: &Loads, now: Instant) -> f64 {
        let latency = self.steer.as_ref().and_then(|steer| steer.latencies.get(endpoint as usize));
        p2c::cost(latency.map_or(0.0, |latency| latency.at(now)), self.load(endpoint, loads), self.weight(endpoint))
    }

    pub(super) fn bound(&self, factor: f64, free: f64, loads: &Loads, open: &dyn Fn(u32) -> bool) -> Bound {
        let (mut calls, mut weights) = (1.0, 0.0);
        for endpoint in self.all().filter(|endpoint| open(*endpoint)) {
            calls += self.load(endpoint, loads);
            weights += f64::from(self.weight(endpoint));
        }
        Bound { per_weight: factor * calls / f64::max(weights, 1.0), free }
    }

    fn fits(&self, endpoint: u32, bound: Bound, loads: &Loads) -> bool {
        self.load(endpoint, loads) + 1.0 <= bound.of(self.weight(endpoint)) + ROUNDING
    }

    /// The load it would have with this call, by weight.
    pub(super) fn filling(&self, endpoint: u32, loads: &Loads) -> f64 {
        (self.load(endpoint, loads) + 1.0) / f64::from(self.weight(endpoint))
    }

    /// By endpoint, the own calls in flight and the corrections of reports; empty when nothing reports.
    pub(super) fn loads(&self, now: Instant) -> Loads {
        let Some(steer) = self.steer.as_ref().filter(|steer| !steer.reported.is_empty()) else { return Loads::new() };
        let all = self.endpoints.iter().fold(0_u32, |all, share| all.saturating_add(share.in_flight));
        let load =
            |(share, reported): (&super::Share, &Reported)| f64::from(share.in_flight) + reported.correction(all, steer.half_life, now);
        self.endpoints.iter().zip(&steer.reported).map(load).collect()
    }

    pub(super) fn load(&self, endpoint: u32, loads: &Loads) -> f64 {
        loads.get(endpoint as usize).copied().unwrap_or_else(|| f64::from(self.in_flight(endpoint)))
    }

    pub(super) fn weight(&self, endpoint: u32) -> u32 {
        self.endpoints.get(endpoint as usize).map_or(1, |share| share.weight)
    }

    pub(super) fn is_near(&self, endpoint: u32) -> bool {
        self.steer.as_ref().is_none_or(|steer| steer.is_near(endpoint))
    }

    pub(super) fn has_adapter(&self, endpoint: u32, model: u64) -> bool {
        let reported = self.steer.as_ref().and_then(|steer| steer.reported.get(endpoint as usize));
        reported.is_some_and(|reported| reported.has_adapter(model))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX)
    }
}

/// By endpoint.
pub(super) type Loads = SmallVec<[f64; 16]>;

fn name_of(addr: &EndpointAddr) -> u64 {
    match addr {
        EndpointAddr::Tcp { host, port, .. } => hash_bytes(hash_bytes(ENDPOINT, host.as_bytes()), &port.to_le_bytes()),
        EndpointAddr::Unix(path) => hash_bytes(ENDPOINT, path.as_os_str().as_encoded_bytes()),
    }
}

/// Tells endpoints from keys.
const ENDPOINT: u64 = 0x656e_6470_6f69_6e74;
/// The bound of consistent hashing: the authors' (and Vimeo's, and Google's) choice between evenness and moved keys.
const HASH_FACTOR: f64 = 1.25;
/// An adapter that must be loaded first costs seconds: its holders may be twice as full as the rest.
const ADAPTER_FACTOR: f64 = 2.0;
/// Calls an endpoint may always have for its cache's sake: with few in flight the bound alone would part two conversations that happen
/// to live together.
const PREFIX_FREE: f64 = 2.0;
/// ORCA reports come without an interval.
const HALF_LIFE_MIN: Duration = Duration::from_millis(250);
/// Sums of halves and quarters are not exact.
const ROUNDING: f64 = 1e-9;
