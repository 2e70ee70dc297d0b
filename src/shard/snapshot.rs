//! One configuration as a shard sees it: the shared, immutable part, and beside it what this shard keeps for it (pools, health,
//! counters). Replaced whole; an exchange keeps the one it began with.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::batch::LaneRules;
use crate::config::{Admission, BatchingMode, Config, ModelId, Timeouts, UpstreamId};
use crate::mesh::{Dials, ShardId, Shared, Shares};
use crate::metrics::{ShardMetrics, Target};
use crate::policy::{Hedger, Router};

use super::admit;
use super::gate::Gate;
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
    /// The places at upstreams with a limit; the same for all shards.
    pub shares: Shares,
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
    /// By [`UpstreamId`]; empty when no upstream has a limit.
    gates: Box<[Option<Rc<Gate>>]>,
    /// By [`ModelId`]; none for models that are not hedged.
    pub(super) hedgers: Vec<RefCell<Option<Hedger>>>,
    /// Every model goes to one upstream, so a body that is not coalesced need not be read for its model.
    pub(super) only_model: Option<ModelId>,
    /// Some model's requests are merged: only then must a body be cut into items.
    pub(super) coalesces: bool,
    /// Lanes tell classes and tenants apart.
    fair_lanes: bool,
    /// Some model has several targets; the shares are in `dials`.
    pub(super) splits: bool,
    pub(super) dials: Dials,
    /// By model: copies on their way to its shadow. Empty when no model has one.
    pub(super) shadows: Box<[Cell<u32>]>,
}

impl Snapshot {
    pub(super) fn new(made: ShardSnapshot, shard: ShardId) -> Snapshot {
        let ShardSnapshot { generation, config, router, shares, metrics, dials } = made;
        let gates = admit::gates(&config, &shares, shard);
        let upstreams = config.upstreams.iter().map(|one| Upstream::new(one, config.server.zone.as_deref())).collect();
        let only_model = match config.models.as_slice() {
            // Behind the first stand only its arms. A fallback needs the body, to send it again under another name; so does a hedge, to
            // see whether it asks for a stream.
            [only, arms @ ..] if only.name == "*" && arms.iter().all(|arm| arm.arm_of.is_some()) => {
                (only.resilience.fallback.is_empty() && only.resilience.hedge.is_none()).then_some(ModelId(0))
            }
            _ => None,
        };
        let splits = config.models.iter().any(|model| model.split.is_some());
        let shadowed = config.models.iter().any(|model| model.shadow.is_some());
        let shadows = if shadowed { vec![Cell::new(0); config.models.len()].into() } else { Box::default() };
        let coalesces = config.models.iter().any(|model| model.batching.mode != BatchingMode::Off);
        let fair_lanes = coalesces && config.admission != Admission::default();
        let hedgers = config.models.iter().map(|model| RefCell::new(model.resilience.hedge.map(Hedger::new))).collect();
        Snapshot {
            generation,
            config,
            router,
            metrics,
            upstreams,
            gates,
            hedgers,
            only_model,
            coalesces,
            fair_lanes,
            splits,
            dials,
            shadows,
        }
    }

    pub(super) fn upstream(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[id.0 as usize]
    }

    /// The gate before an upstream, when it has a limit.
    pub(super) fn gate(&self, id: UpstreamId) -> Option<&Rc<Gate>> {
        self.gates.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn gates(&self) -> impl Iterator<Item = &Rc<Gate>> {
        self.gates.iter().flatten()
    }

    /// Whether anything goes by whose a request is.
    pub(super) fn heeds_claims(&self) -> bool {
        self.fair_lanes || !self.gates.is_empty()
    }

    /// How long the parts of a call for `target` may take.
    pub(super) fn timeouts(&self, target: Target, upstream: UpstreamId) -> Timeouts {
        match target {
            Target::Model(id) => self.config.model(id).timeouts,
            Target::Route(id) => self.config.route(id).timeouts,
            Target::None => self.config.upstream(upstream).timeouts(),
        }
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
        LaneRules::new(&model.batching, u32::try_from(endpoints).unwrap_or(1), self.fair_lanes)
    }
}
