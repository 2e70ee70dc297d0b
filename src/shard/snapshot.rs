//! One configuration as a shard sees it: the shared, immutable part, and beside it what this shard keeps for it (pools, health,
//! counters). Replaced whole; an exchange keeps the one it began with.

use crate::batch::LaneRules;
use crate::config::{BatchingMode, Config, ModelId, UpstreamId};
use crate::mesh::Shared;
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
}

impl Snapshot {
    pub(super) fn new(made: ShardSnapshot) -> Snapshot {
        let ShardSnapshot { generation, config, router, metrics } = made;
        let upstreams = config.upstreams.iter().map(|one| Upstream::new(one, config.server.zone.as_deref())).collect();
        let only_model = match config.models.as_slice() {
            [only] if only.name == "*" => Some(ModelId(0)),
            _ => None,
        };
        let coalesces = config.models.iter().any(|model| model.batching.mode != BatchingMode::Off);
        Snapshot { generation, config, router, metrics, upstreams, only_model, coalesces }
    }

    pub(super) fn upstream(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[id.0 as usize]
    }

    /// Takes over what upstreams of the same name have learned under the former configuration.
    pub(super) fn adopt(&self, former: &Snapshot) {
        for (own, upstream) in self.config.upstreams.iter().zip(&self.upstreams) {
            let same = former.config.upstreams.iter().position(|other| other.name == own.name);
            if let Some(other) = same.and_then(|index| former.upstreams.get(index)) {
                upstream.adopt(other);
            }
        }
    }

    pub(super) fn rules(&self, model: ModelId) -> LaneRules {
        let model = self.config.model(model);
        let endpoints = self.config.upstream(model.upstream).endpoints.len();
        LaneRules::new(&model.batching, u32::try_from(endpoints).unwrap_or(1))
    }
}
