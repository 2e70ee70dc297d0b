//! The control plane's side: it makes the blocks of each snapshot, reads them all at a scrape, and folds those nobody writes
//! any more. It serves no HTTP (admin does).
//!
//! ```text
//!   boot: snapshot 1 ---- exchanges still count ----> last handle dropped: folded into the base, once
//!   reload:    snapshot 2 ...                         scrape = base + every snapshot not folded + core blocks
//! ```

use std::collections::BTreeMap;

use super::buckets::Scale;
use super::labels::{BreakerTo, MeasureOutcome, SplitOutcome};
use super::layout::{CORE_CELLS, Layout, Offsets, Section, core_sections};
use super::names::Metric;
use super::shard::ShardMetrics;
use super::tally::Tally;
use crate::config::{Config, ModelId, UpstreamId};
use crate::mesh::{CounterBlock, Shared};
use crate::sys::Instant;

/// The `Content-Type` of [`Registry::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Snapshots whose counters are held at most; a reload beyond it is refused. Each is held by an exchange that began under it,
/// so this many reloads within one exchange's life.
const SNAPSHOTS_MAX: usize = 64;

/// All counters of the process.
#[derive(Debug)]
pub struct Registry {
    shards: u32,
    core_sections: Vec<Section>,
    /// By shard, for the life of the process.
    core: Vec<CounterBlock>,
    /// Oldest first; the last is the current one.
    snapshots: Vec<Snapshot>,
    /// What folded snapshots had counted.
    base: Tally,
    reloads_ok: u64,
    reloads_failed: u64,
    last_reload_failed: bool,
    memory_resident: u64,
    memory_max: u64,
    upgrades_failed: u64,
    /// Of split models: shares now by model and target, events so far by model and event.
    shares: BTreeMap<[String; 2], u64>,
    events: BTreeMap<[String; 2], u64>,
    /// Probes by upstream, endpoint and result: of every endpoint that was ever probed, as with its calls.
    probes: BTreeMap<[String; 3], u64>,
}

/// What one target of a split model answered under the current snapshot.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SplitCounts {
    pub ok: u64,
    pub client_errors: u64,
    pub errors: u64,
    /// Times to the first byte, by bucket.
    pub times: Vec<u64>,
    /// By the metric of its rollout.
    pub good: u64,
    pub bad: u64,
}

#[derive(Debug)]
struct Snapshot {
    offsets: Shared<Offsets>,
    sections: Vec<Section>,
    endpoints: Vec<Vec<[String; 2]>>,
    /// By shard.
    blocks: Vec<CounterBlock>,
}

/// What breakers have done: the control plane makes the log's lines of the differences.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Breakers {
    /// Only those that did something.
    pub lines: Vec<BreakerCounts>,
}

/// One breaker of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerCounts {
    pub shard: u32,
    pub upstream: UpstreamId,
    pub endpoint: u32,
    pub opened: u64,
    pub half_opened: u64,
    pub closed: u64,
    /// Why it opened last, as it was told to [`ShardMetrics::breaker`].
    pub why: u64,
}

/// A reload is refused: begun exchanges hold the counters of 64 earlier snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManySnapshots;

impl std::fmt::Display for TooManySnapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "begun exchanges still hold {SNAPSHOTS_MAX} earlier configurations; reload again when they have ended")
    }
}

impl std::error::Error for TooManySnapshots {}

impl Registry {
    /// The registry and the first handle of each shard (in the order of their ids).
    #[must_use]
    pub fn new(config: &Config, shards: u32) -> (Registry, Vec<ShardMetrics>) {
        let mut registry = Registry {
            shards,
            core_sections: core_sections(),
            core: (0..shards).map(|_| CounterBlock::new(CORE_CELLS)).collect(),
            snapshots: Vec::new(),
            base: Tally::default(),
            reloads_ok: 0,
            reloads_failed: 0,
            last_reload_failed: false,
            memory_resident: 0,
            memory_max: 0,
            upgrades_failed: 0,
            shares: BTreeMap::new(),
            events: BTreeMap::new(),
            probes: BTreeMap::new(),
        };
        let handles = registry.add_snapshot(config);
        (registry, handles)
    }

    /// Handles for the next snapshot, one per shard: send each with the snapshot it counts for. The former ones go on counting
    /// until they are dropped. Call it last in a reload, when nothing can fail any more: from here on it is the current one.
    ///
    /// # Errors
    /// When too many former snapshots are still in use; nothing changed.
    pub fn next_snapshot(&mut self, config: &Config) -> Result<Vec<ShardMetrics>, TooManySnapshots> {
        self.fold_retired();
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return Err(TooManySnapshots);
        }
        Ok(self.add_snapshot(config))
    }

    /// Counts an attempt to reload.
    pub fn reloaded(&mut self, successfully: bool) {
        self.last_reload_failed = !successfully;
        if successfully {
            self.reloads_ok += 1;
        } else {
            self.reloads_failed += 1;
        }
    }

    /// What the next text says of the process's memory, in bytes.
    pub fn set_memory(&mut self, resident: u64, max: Option<u64>) {
        (self.memory_resident, self.memory_max) = (resident, max.unwrap_or(0));
    }

    /// Counts a new process that did not come to serve.
    pub fn upgrade_failed(&mut self) {
        self.upgrades_failed += 1;
    }

    /// What the target `arm` answered under the current snapshot, over all shards.
    #[must_use]
    pub fn split_counts(&self, arm: ModelId) -> SplitCounts {
        let Some(current) = self.snapshots.last() else { return SplitCounts::default() };
        let sum = |cell: usize| current.blocks.iter().map(|block| block.value(cell)).sum::<u64>();
        let of = |outcome| current.offsets.split_request(arm.0, outcome).map_or(0, sum);
        let measured = |outcome| current.offsets.split_measured(arm.0, outcome).map_or(0, sum);
        let buckets = Scale::Time.cells() - 1;
        let times = current.offsets.split_duration(arm.0).map(|first| (first..first + buckets).map(sum).collect());
        SplitCounts {
            ok: of(SplitOutcome::Ok),
            client_errors: of(SplitOutcome::ClientError),
            errors: of(SplitOutcome::Error),
            times: times.unwrap_or_default(),
            good: measured(MeasureOutcome::Good),
            bad: measured(MeasureOutcome::Bad),
        }
    }

    /// The bucket of [`SplitCounts::times`] that holds `factor` times the bound of `bucket`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds of up to 2^40 ns")]
    pub fn times_bucket(bucket: usize, factor: f64) -> usize {
        let bounds = Scale::Time.bounds();
        bounds.get(bucket).map_or(bounds.len(), |bound| Scale::Time.bucket((*bound as f64 * factor) as u64))
    }

    /// The shares of all split models, by model and target, from now on.
    pub fn set_shares(&mut self, shares: impl IntoIterator<Item = ([String; 2], u64)>) {
        self.shares = shares.into_iter().collect();
    }

    /// Counts what happened to a model's shares.
    pub fn rollout_event(&mut self, model: &str, event: &str) {
        *self.events.entry([model.to_owned(), event.to_owned()]).or_default() += 1;
    }

    /// Counts a probe of an endpoint of the current snapshot.
    pub fn probed(&mut self, upstream: UpstreamId, endpoint: u32, good: bool) {
        let endpoints = self.snapshots.last().and_then(|current| current.endpoints.get(upstream.0 as usize));
        let Some([upstream, endpoint]) = endpoints.and_then(|endpoints| endpoints.get(endpoint as usize)).cloned() else { return };
        let result = if good { "ok" } else { "failed" };
        *self.probes.entry([upstream, endpoint, result.to_owned()]).or_default() += 1;
    }

    /// Upstreams (of the current snapshot) none of whose endpoints is thought healthy at `now`: not ready for them. An endpoint
    /// counts as unhealthy when one shard holds it so: three failures in a row are evidence, a shard without calls has none.
    #[must_use]
    pub fn unready_upstreams(&self, now: Instant) -> Vec<UpstreamId> {
        let Some(current) = self.snapshots.last() else { return Vec::new() };
        let upstreams = (0..).zip(&current.endpoints);
        let unready = |&(upstream, endpoints): &(u32, &Vec<_>)| {
            (0..).zip(endpoints).all(|(endpoint, _)| current.unhealthy_shards(upstream, endpoint, now) > 0)
        };
        upstreams.filter(unready).map(|(upstream, _)| UpstreamId(upstream)).collect()
    }

    /// What the breakers of the current snapshot have done, over its whole life.
    #[must_use]
    pub fn breakers(&self) -> Breakers {
        let Some(current) = self.snapshots.last() else { return Breakers::default() };
        let mut lines = Vec::new();
        for (shard, block) in (0..).zip(&current.blocks) {
            for (upstream, endpoints) in (0..).zip(&current.endpoints) {
                for endpoint in (0..).take(endpoints.len()) {
                    let cell = |to| current.offsets.breaker_transition(upstream, endpoint, to).map_or(0, |cell| block.value(cell));
                    let counts = [BreakerTo::Closed, BreakerTo::Open, BreakerTo::HalfOpen].map(cell);
                    if counts != [0; 3] {
                        let why = current.offsets.breaker_why(upstream, endpoint).map_or(0, |cell| block.value(cell));
                        let [closed, opened, half_opened] = counts;
                        lines.push(BreakerCounts { shard, upstream: UpstreamId(upstream), endpoint, opened, half_opened, closed, why });
                    }
                }
            }
        }
        Breakers { lines }
    }

    /// How endpoints are called in labels and in the log.
    #[must_use]
    pub fn endpoint_name(&self, upstream: UpstreamId, endpoint: u32) -> Option<&str> {
        let endpoints = self.snapshots.last()?.endpoints.get(upstream.0 as usize)?;
        endpoints.get(endpoint as usize).map(|[_, name]| name.as_str())
    }

    /// Memory of all blocks, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let blocks = self.core.iter().chain(self.snapshots.iter().flat_map(|snapshot| &snapshot.blocks));
        blocks.map(CounterBlock::size_bytes).sum()
    }

    /// The text form (OpenMetrics 1.0, which Prometheus reads; see [`CONTENT_TYPE`]) as of now. Folds what has retired.
    #[must_use]
    pub fn render(&mut self, now: Instant) -> String {
        self.fold_retired();
        let mut tally = self.base.clone();
        for snapshot in &self.snapshots {
            snapshot.add_to(&mut tally);
        }
        for (shard, block) in (0..).zip(&self.core) {
            tally.add_block(&self.core_sections, block, shard);
        }
        self.add_process(&mut tally);
        if let Some(current) = self.snapshots.last() {
            current.add_health(&mut tally, now);
        }
        tally.into_text()
    }

    fn add_snapshot(&mut self, config: &Config) -> Vec<ShardMetrics> {
        let Layout { offsets, sections, endpoints } = Layout::new(config, self.shards);
        let blocks: Vec<CounterBlock> = (0..self.shards).map(|_| CounterBlock::new(offsets.cells)).collect();
        let offsets = Shared::new(offsets);
        let handle = |(core, block): (&CounterBlock, &CounterBlock)| ShardMetrics::new(core.writer(), block.writer(), offsets.clone());
        let handles = self.core.iter().zip(&blocks).map(handle).collect();
        self.snapshots.push(Snapshot { offsets, sections, endpoints, blocks });
        handles
    }

    /// Moves the counts of snapshots that nobody writes any more into the base. Not the current one: its ids are in use.
    fn fold_retired(&mut self) {
        let current = self.snapshots.len().saturating_sub(1);
        let mut index = 0;
        let base = &mut self.base;
        self.snapshots.retain(|snapshot| {
            let retired = index < current && snapshot.blocks.iter().all(CounterBlock::is_final);
            if retired {
                snapshot.add_to(base);
            }
            index += 1;
            !retired
        });
    }

    fn add_process(&self, tally: &mut Tally) {
        tally.add(Metric::MemoryResident, Vec::new(), [self.memory_resident]);
        tally.add(Metric::MemoryMax, Vec::new(), [self.memory_max]);
        tally.add(Metric::BuildInfo, vec![env!("CARGO_PKG_VERSION").to_owned()], [1]);
        tally.add(Metric::ConfigReloads, vec!["ok".to_owned()], [self.reloads_ok]);
        tally.add(Metric::ConfigReloads, vec!["failed".to_owned()], [self.reloads_failed]);
        tally.add(Metric::ConfigLastReloadSuccessful, Vec::new(), [u64::from(!self.last_reload_failed)]);
        for (metric, series) in [(Metric::SplitShare, &self.shares), (Metric::RolloutEvents, &self.events)] {
            series.iter().for_each(|(labels, value)| tally.add(metric, labels.to_vec(), [*value]));
        }
        self.probes.iter().for_each(|(labels, count)| tally.add(Metric::HealthProbes, labels.to_vec(), [*count]));
        tally.add(Metric::UpgradesFailed, Vec::new(), [self.upgrades_failed]);
        tally.add(Metric::ConfigSnapshots, Vec::new(), [self.snapshots.len() as u64]);
    }
}

impl Snapshot {
    fn add_to(&self, tally: &mut Tally) {
        for (shard, block) in (0..).zip(&self.blocks) {
            tally.add_block(&self.sections, block, shard);
        }
    }

    fn add_health(&self, tally: &mut Tally, now: Instant) {
        for (upstream, endpoints) in (0..).zip(&self.endpoints) {
            for (endpoint, labels) in (0..).zip(endpoints) {
                tally.add(Metric::EndpointUnhealthy, labels.to_vec(), [self.unhealthy_shards(upstream, endpoint, now)]);
                let Some(cell) = self.offsets.breaker_state(upstream, endpoint) else { continue };
                for to in BreakerTo::ALL {
                    let count = self.blocks.iter().filter(|block| block.value(cell) == to.index() as u64).count();
                    let labels = labels.iter().cloned().chain([to.as_str().to_owned()]).collect();
                    tally.add(Metric::BreakerState, labels, [count as u64]);
                }
            }
        }
    }

    fn unhealthy_shards(&self, upstream: u32, endpoint: u32, now: Instant) -> u64 {
        let Some(cell) = self.offsets.unhealthy_until(upstream, endpoint) else { return 0 };
        self.blocks.iter().map(|block| u64::from(block.value(cell) > now.as_nanos())).sum()
    }
}
