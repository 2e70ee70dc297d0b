//! One configuration as a shard sees it: the shared, immutable part, and beside it what this shard keeps for it (pools, health,
//! counters). Replaced whole; an exchange keeps the one it began with.

use std::cell::Cell;

use crate::batch::LaneRules;
use crate::config::{BatchingMode, Config, ModelId, UpstreamId};
use crate::mesh::{Dials, Shared};
use crate::metrics::ShardMetrics;
use crate::policy::Router;

use super::upstream::Upstream;

/// A configuration on its way from control to one shard.
#[derive(Debug)]
pub struct ShardSnapshot {
    /// Counts up with each reload; the same number on all shards.
    pub generation: u32,
    /// Checked, with every endpoint resolved.
    pub config: Shared<Config>,
    /// Shared by all shards, made once.
    pub router: Shared<Router>,
    /// This shard's counters for it.
    pub metrics: ShardMetrics,
    /// By model: the present shares of the arms of split ones. Control turns them.
    pub dials: Dials,
}

/// The configuration in use by a shard.
pub(super) struct Snapshot {
    pub(super) generation: u32,
    pub(super) config: Shared<Config>,
    pub(super) router: Shared<Router>,
    pub(super) metrics: ShardMetrics,
    /// By [`UpstreamId`].
    pub(super) upstreams: Vec<Upstream>,
    /// Every model goes to one upstream, so a body that is not coalesced need not be read for its model.
    pub(super) only_model: Option<ModelId>,
    /// Some model's requests are merged: only then must a body be cut into items.
    pub(super) coalesces: bool,
    /// Some model has several targets; the shares are in `dials`.
    pub(super) splits: bool,
    pub(super) dials: Dials,
    /// By model: copies on their way to its shadow. Empty when no model has one.
    pub(super) shadows: Box<[Cell<u32>]>,
}

impl Snapshot {
    pub(super) fn new(made: ShardSnapshot) -> Snapshot {
        let ShardSnapshot { generation, config, router, metrics, dials } = made;
        let upstreams = config.upstreams.iter().map(Upstream::new).collect();
        let only_model = match config.models.as_slice() {
            // Behind the first stand only its arms.
            [only, arms @ ..] if only.name == "*" && arms.iter().all(|arm| arm.arm_of.is_some()) => Some(ModelId(0)),
            _ => None,
        };
        let splits = config.models.iter().any(|model| model.split.is_some());
        let shadowed = config.models.iter().any(|model| model.shadow.is_some());
        let shadows = if shadowed { vec![Cell::new(0); config.models.len()].into() } else { Box::default() };
        let coalesces = config.models.iter().any(|model| model.batching.mode != BatchingMode::Off);
        Snapshot { generation, config, router, metrics, upstreams, only_model, coalesces, splits, dials, shadows }
    }

    pub(super) fn upstream(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[id.0 as usize]
    }

    pub(super) fn rules(&self, model: ModelId) -> LaneRules {
        let model = self.config.model(model);
        let endpoints = self.config.upstream(model.upstream).endpoints.len();
        LaneRules::new(&model.batching, u32::try_from(endpoints).unwrap_or(1))
    }
}
