//! Asks endpoints how they are (`[upstreams.health]`), tells every shard which are down, and writes the log's lines about that and about
//! the shards' breakers. It judges nothing that calls have shown: each shard's breakers do. If it dies, traffic goes on with what the
//! shards know.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::plane::Plane;
use super::probe::{Address, probe};
use crate::config::{Config, EndpointAddr, Probe, UpstreamId};
use crate::metrics::{BreakerCounts, Breakers};
use crate::shard::{Message, Probed, why_opened};

/// Watches until the runtime ends.
pub(super) async fn watch(plane: Arc<Plane>) {
    let (results, mut inbox) = mpsc::channel(RESULTS_MAX);
    let mut watch = Watch { targets: Vec::new(), generation: None, owed: vec![false; plane.shards().len()], seen: HashMap::new() };
    let mut probes = JoinSet::new();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {
                if watch.renew(&plane) {
                    // The former ones end here; a result of theirs that is still on its way carries another generation.
                    probes = watch.begin(&results);
                }
                watch.log_breakers(&plane);
                watch.tell(&plane);
            }
            Some(result) = inbox.recv() => {
                watch.take(&plane, result);
                watch.tell(&plane);
            }
            Some(_) = probes.join_next(), if !probes.is_empty() => {}
        }
    }
}

/// One endpoint that is probed.
#[derive(Clone, Debug)]
struct Target {
    upstream: UpstreamId,
    endpoint: u32,
    upstream_name: String,
    authority: String,
    address: Address,
    rules: Probe,
    state: ProbeState,
}

/// What probes of one endpoint have shown.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct ProbeState {
    pub(super) down: bool,
    /// Probes in a row that say otherwise.
    against: u32,
}

impl ProbeState {
    /// A probe ended. True when the endpoint is thought otherwise of from now on.
    pub(super) fn handle_result(&mut self, good: bool, rules: &Probe) -> bool {
        if good != self.down {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = if self.down { rules.healthy_after } else { rules.unhealthy_after };
        if self.against < enough {
            return false;
        }
        *self = ProbeState { down: !self.down, against: 0 };
        true
    }
}

/// A probe's end: of which generation, which target, and what was wrong.
type ProbeResult = (u32, usize, Result<(), String>);

struct Watch {
    targets: Vec<Target>,
    generation: Option<u32>,
    /// By shard: it has not been told the latest.
    owed: Vec<bool>,
    /// What the log has said of breakers.
    seen: HashMap<(UpstreamId, u32), [u64; 3]>,
}

impl Watch {
    /// Takes the current configuration, if it is another than before. What is known of endpoints that stay is kept.
    fn renew(&mut self, plane: &Plane) -> bool {
        let (config, generation) = plane.configured();
        if self.generation == Some(generation) {
            return false;
        }
        let mut targets = targets(&config);
        for target in &mut targets {
            let same = |other: &&Target| other.upstream_name == target.upstream_name && other.address == target.address;
            if let Some(former) = self.targets.iter().find(same) {
                target.state = former.state;
            }
        }
        self.targets = targets;
        self.generation = Some(generation);
        self.seen.clear();
        self.owed.fill(!self.targets.is_empty());
        true
    }

    /// One task per target, spread over the interval so that servers are not all asked at once.
    fn begin(&self, results: &mpsc::Sender<ProbeResult>) -> JoinSet<()> {
        let mut probes = JoinSet::new();
        let count = u32::try_from(self.targets.len()).unwrap_or(u32::MAX).max(1);
        for (index, target) in self.targets.iter().enumerate() {
            let (target, results, generation) = (target.clone(), results.clone(), self.generation.unwrap_or_default());
            let share = u32::try_from(index).unwrap_or_default();
            let first = target.rules.interval.mul_f64(f64::from(share) / f64::from(count));
            probes.spawn(async move {
                sleep(first).await;
                loop {
                    let rules = &target.rules;
                    let result = probe(&target.address, &target.authority, &rules.path, rules.expect, rules.timeout).await;
                    if results.send((generation, index, result)).await.is_err() {
                        return;
                    }
                    sleep(rules.interval).await;
                }
            });
        }
        probes
    }

    fn take(&mut self, plane: &Plane, (generation, index, result): ProbeResult) {
        if self.generation != Some(generation) {
            return;
        }
        let Some(target) = self.targets.get_mut(index) else { return };
        let Target { rules, upstream, endpoint, upstream_name, authority, state, .. } = target;
        plane.count_probe(generation, *upstream, *endpoint, result.is_ok());
        if !state.handle_result(result.is_ok(), rules) {
            return;
        }
        match result {
            Err(why) => tracing::warn!(
                "upstream {upstream_name}: endpoint {authority} is down: {} failed probes in a row, the last because {why}",
                rules.unhealthy_after
            ),
            Ok(()) => {
                tracing::info!("upstream {upstream_name}: endpoint {authority} is up again: {} good probes in a row", rules.healthy_after);
            }
        }
        self.owed.fill(true);
    }

    /// Tells the shards that have not heard the latest. One whose inbox is full is told at the next look.
    fn tell(&mut self, plane: &Plane) {
        let Some(generation) = self.generation else { return };
        for (owed, line) in self.owed.iter_mut().zip(plane.shards()) {
            if !*owed {
                continue;
            }
            let down = self.targets.iter().filter(|target| target.state.down).map(|target| (target.upstream, target.endpoint)).collect();
            *owed = line.sender.send(Message::Probed(Box::new(Probed { generation, down }))).is_err();
        }
    }

    /// A line per endpoint and kind of change, over all shards.
    fn log_breakers(&mut self, plane: &Plane) {
        let Breakers { lines } = plane.breakers();
        for (key, (counts, why)) in by_endpoint(&lines) {
            let seen = self.seen.entry(key).or_default();
            let [opened, half_opened, closed] = [0, 1, 2].map(|index| counts[index].saturating_sub(seen[index]));
            *seen = counts;
            if opened + half_opened + closed == 0 {
                continue;
            }
            let (upstream, endpoint) = plane.endpoint_names(key.0, key.1);
            if half_opened > 0 {
                tracing::info!("breaker of upstream {upstream}, endpoint {endpoint}: half open ({half_opened} x): trial calls");
            }
            if opened > 0 {
                tracing::warn!("breaker of upstream {upstream}, endpoint {endpoint}: open ({opened} x) because of {}", why_opened(why));
            }
            if closed > 0 {
                tracing::info!("breaker of upstream {upstream}, endpoint {endpoint}: closed ({closed} x)");
            }
        }
    }
}

/// Opened, half opened, closed: summed over shards; and why one opened last.
fn by_endpoint(lines: &[BreakerCounts]) -> BTreeMap<(UpstreamId, u32), ([u64; 3], u64)> {
    let mut sums: BTreeMap<(UpstreamId, u32), ([u64; 3], u64)> = BTreeMap::new();
    for line in lines {
        let (sum, why) = sums.entry((line.upstream, line.endpoint)).or_default();
        sum.iter_mut().zip([line.opened, line.half_opened, line.closed]).for_each(|(sum, count)| *sum += count);
        *why = line.why.max(*why);
    }
    sums
}

fn targets(config: &Config) -> Vec<Target> {
    let mut targets = Vec::new();
    for (upstream, of) in (0..).map(UpstreamId).zip(&config.upstreams) {
        let Some(rules) = &of.resilience.probe else { continue };
        for (endpoint, one) in (0..).zip(&of.endpoints) {
            let address = match &one.addr {
                EndpointAddr::Tcp { resolved: Some(addr), .. } => Address::Tcp(*addr),
                EndpointAddr::Tcp { resolved: None, .. } => continue,
                EndpointAddr::Unix(path) => Address::Unix(path.clone()),
            };
            targets.push(Target {
                upstream,
                endpoint,
                upstream_name: of.name.clone(),
                authority: one.authority.clone(),
                address,
                rules: rules.clone(),
                state: ProbeState::default(),
            });
        }
    }
    targets
}

/// How often breakers are looked at for the log, and a new configuration is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Results that wait; a probe whose result finds no room waits with it.
const RESULTS_MAX: usize = 64;
