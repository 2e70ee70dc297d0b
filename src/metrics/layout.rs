//! Where each series lies in a counter block. A shard has two blocks: a *core* one for its whole life (phases, gauges, the
//! ring), so that a reload disturbs no gauge, and one per snapshot for what is labelled with names from the configuration.
//! A block is a row of sections; a section is a metric's series in mixed radix over its dimensions, each with its cells.

use super::buckets::{ITEM_CELLS, Scale, TIME_CELLS};
use super::labels::{
    BatchReason, BreakerTo, FallbackReason, HedgeResult, MeasureOutcome, Phase, STATUS_COUNT, ShadowOutcome, ShedReason, SplitOutcome,
    StreamOutcome, TokenKind, UpstreamOutcome, status_values,
};
use super::names::Metric;
use crate::config::{Config, Endpoint, EndpointAddr};
use crate::policy::{Operation, Why};

/// The label values one position in a dimension stands for (a dimension may carry two labels: route and model).
type Values = Vec<String>;

/// A metric's place in a block.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) metric: Metric,
    pub(super) offset: usize,
    /// Outermost first, as the metric's labels are.
    pub(super) dimensions: Vec<Vec<Values>>,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// One number, added up over shards.
    Number,
    /// One number per shard, labelled with the shard (after the section's own labels).
    PerShard,
    Histogram(Scale),
}

impl Shape {
    /// Cells per series.
    pub(super) fn cells(self) -> usize {
        match self {
            Shape::Number | Shape::PerShard => 1,
            Shape::Histogram(scale) => scale.cells(),
        }
    }
}

impl Section {
    pub(super) fn series(&self) -> usize {
        self.dimensions.iter().map(Vec::len).product()
    }

    /// The label values of a series.
    pub(super) fn label_values(&self, series: usize) -> Values {
        let mut rest = series;
        let mut positions: Vec<&Values> = Vec::with_capacity(self.dimensions.len());
        for dimension in self.dimensions.iter().rev() {
            positions.push(&dimension[rest % dimension.len()]);
            rest /= dimension.len();
        }
        positions.into_iter().rev().flatten().cloned().collect()
    }

    fn end(&self) -> usize {
        self.offset + self.series() * self.shape.cells()
    }
}

/// Counters of the core block that are one number per shard.
pub(super) const SHARD_NUMBERS: [Metric; 16] = [
    Metric::ExchangesInFlight,
    Metric::Lanes,
    Metric::QueuedItems,
    Metric::Tickets,
    Metric::UpstreamCallsInFlight,
    Metric::Connections,
    Metric::ConnectionsOpened,
    Metric::ConnectionsHandedOver,
    Metric::Turns,
    Metric::RingEnters,
    Metric::RingEnobufs,
    Metric::RingCqOverflows,
    Metric::StaleCompletions,
    Metric::TaskPanics,
    Metric::DoorbellsRung,
    Metric::CrossShardJobs,
];

// The core block's offsets: known when compiled, since nothing in it depends on the configuration.
pub(super) const CORE_PHASES: usize = SHARD_NUMBERS.len();
pub(super) const CORE_SHED: usize = CORE_PHASES + Phase::ALL.len() * TIME_CELLS;
pub(super) const CORE_CLIENT_CLOSED: usize = CORE_SHED + ShedReason::ALL.len();
pub(super) const CORE_CELLS: usize = CORE_CLIENT_CLOSED + Phase::ALL.len();

/// The cell of a metric of [`SHARD_NUMBERS`].
///
/// # Panics
/// When compiled, for any other metric.
pub(super) const fn shard_number(metric: Metric) -> usize {
    let mut index = 0;
    while SHARD_NUMBERS[index] as usize != metric as usize {
        index += 1;
    }
    index
}

/// The sections of the core block.
pub(super) fn core_sections() -> Vec<Section> {
    let phases = || Phase::ALL.iter().map(|phase| vec![phase.as_str().to_owned()]).collect();
    let shed = ShedReason::ALL.iter().map(|reason| vec![reason.as_str().to_owned()]).collect();
    let number = |(offset, &metric)| Section { metric, offset, dimensions: Vec::new(), shape: Shape::PerShard };
    let mut sections: Vec<Section> = SHARD_NUMBERS.iter().enumerate().map(number).collect();
    sections.push(Section {
        metric: Metric::RequestDuration,
        offset: CORE_PHASES,
        dimensions: vec![phases()],
        shape: Shape::Histogram(Scale::Time),
    });
    sections.push(Section { metric: Metric::Shed, offset: CORE_SHED, dimensions: vec![shed], shape: Shape::Number });
    sections.push(Section { metric: Metric::ClientClosed, offset: CORE_CLIENT_CLOSED, dimensions: vec![phases()], shape: Shape::Number });
    sections
}

/// Offsets of a snapshot's block, for the shard: index arithmetic without names.
#[derive(Clone, Debug)]
pub(super) struct Offsets {
    routes: usize,
    models: usize,
    shards: usize,
    /// By upstream: its first endpoint among all, and how many it has.
    endpoints: Box<[(usize, usize)]>,
    requests: usize,
    stream_ttft: usize,
    stream_itl: usize,
    streams: usize,
    stream_tokens: usize,
    batches: usize,
    batch_items: usize,
    batch_wait: usize,
    batch_jobs: usize,
    isolation_calls: usize,
    lanes_solo: usize,
    admission_limit: usize,
    admission_in_flight: usize,
    admission_waiting: usize,
    admission_wait: usize,
    /// By model: its place among the arms of split models.
    arms: Box<[Option<usize>]>,
    split_requests: usize,
    split_durations: usize,
    split_measured: usize,
    /// By model: its place among those with a shadow.
    shadows: Box<[Option<usize>]>,
    shadow_requests: usize,
    upstream_requests: usize,
    upstream_retries: usize,
    endpoints_chosen: usize,
    upstream_connections_opened: usize,
    breaker_transitions: usize,
    endpoint_pauses: usize,
    retries_refused: usize,
    fallbacks: usize,
    hedges: usize,
    /// Not series: where each endpoint's breaker stands, and why it opened last.
    breaker_state: usize,
    breaker_why: usize,
    /// Not a series: until when each endpoint is unhealthy, in nanoseconds of the process's clock.
    unhealthy_until: usize,
    pub(super) cells: usize,
}

/// A snapshot's block: offsets for the shards, names for the scraper.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) offsets: Offsets,
    pub(super) sections: Vec<Section>,
    /// By upstream, then endpoint: their label values.
    pub(super) endpoints: Vec<Vec<[String; 2]>>,
}

impl Layout {
    pub(super) fn new(config: &Config, shards: u32) -> Layout {
        let names = Names::new(config, shards);
        let mut sections: Vec<Section> = Vec::new();
        let mut section = |metric, dimensions: &[&Vec<Values>], shape| {
            let offset = sections.last().map_or(0, Section::end);
            let dimensions = dimensions.iter().map(|&dimension| dimension.clone()).collect();
            sections.push(Section { metric, offset, dimensions, shape });
            offset
        };
        let Names { targets, statuses, models, operations, reasons, origins, upstreams, endpoints, outcomes, ends, tokens, choices } =
            &names;
        let words = |all: &mut dyn Iterator<Item = &'static str>| -> Vec<Values> { all.map(|word| vec![word.to_owned()]).collect() };
        let to = words(&mut BreakerTo::ALL.iter().map(|one| one.as_str()));
        let fallback_reasons = words(&mut FallbackReason::ALL.iter().map(|one| one.as_str()));
        let hedge_results = words(&mut HedgeResult::ALL.iter().map(|one| one.as_str()));
        let split = SplitNames::new(config);
        let mut offsets = Offsets {
            routes: config.routes.len(),
            models: config.models.len(),
            shards: origins.len(),
            endpoints: endpoint_ranges(config),
            requests: section(Metric::Requests, &[targets, statuses], Shape::Number),
            stream_ttft: section(Metric::StreamTtft, &[targets], Shape::Histogram(Scale::Time)),
            stream_itl: section(Metric::StreamItl, &[targets], Shape::Histogram(Scale::Time)),
            streams: section(Metric::Streams, &[targets, ends], Shape::Number),
            stream_tokens: section(Metric::StreamTokens, &[targets, tokens], Shape::Number),
            batches: section(Metric::Batches, &[models, operations, reasons], Shape::Number),
            batch_items: section(Metric::BatchItems, &[models, operations], Shape::Histogram(Scale::Items)),
            batch_wait: section(Metric::BatchWait, &[models, operations], Shape::Histogram(Scale::Time)),
            batch_jobs: section(Metric::BatchJobs, &[models, operations, origins], Shape::Number),
            isolation_calls: section(Metric::IsolationCalls, &[models], Shape::Number),
            lanes_solo: section(Metric::LanesSolo, &[models], Shape::Number),
            admission_limit: section(Metric::AdmissionLimit, &[upstreams], Shape::Number),
            admission_in_flight: section(Metric::AdmissionInFlight, &[upstreams], Shape::Number),
            admission_waiting: section(Metric::AdmissionWaiting, &[upstreams], Shape::Number),
            admission_wait: section(Metric::AdmissionWait, &[upstreams], Shape::Histogram(Scale::Time)),
            arms: split.arm_places,
            split_requests: section(Metric::SplitRequests, &[&split.arms, &split.outcomes], Shape::Number),
            split_durations: section(Metric::SplitDuration, &[&split.arms], Shape::Histogram(Scale::Time)),
            split_measured: section(Metric::SplitMeasured, &[&split.arms, &split.verdicts], Shape::Number),
            shadows: split.shadow_places,
            shadow_requests: section(Metric::ShadowRequests, &[&split.shadows, &split.shadow_outcomes], Shape::Number),
            upstream_requests: section(Metric::UpstreamRequests, &[endpoints, outcomes], Shape::Number),
            upstream_retries: section(Metric::UpstreamRetries, &[upstreams], Shape::Number),
            endpoints_chosen: section(Metric::EndpointsChosen, &[upstreams, choices], Shape::Number),
            upstream_connections_opened: section(Metric::UpstreamConnectionsOpened, &[endpoints], Shape::Number),
            breaker_transitions: section(Metric::BreakerTransitions, &[endpoints, &to], Shape::Number),
            endpoint_pauses: section(Metric::EndpointPauses, &[endpoints], Shape::Number),
            retries_refused: section(Metric::RetriesRefused, &[upstreams], Shape::Number),
            fallbacks: section(Metric::Fallbacks, &[models, &fallback_reasons], Shape::Number),
            hedges: section(Metric::Hedges, &[models, &hedge_results], Shape::Number),
            breaker_state: 0,
            breaker_why: 0,
            unhealthy_until: 0,
            cells: 0,
        };
        offsets.unhealthy_until = sections.last().map_or(0, Section::end);
        offsets.breaker_state = offsets.unhealthy_until + endpoints.len();
        offsets.breaker_why = offsets.breaker_state + endpoints.len();
        offsets.cells = offsets.breaker_why + endpoints.len();
        Layout { offsets, sections, endpoints: endpoint_names(config) }
    }
}

/// Each answers with a cell, or `None` for an id of another snapshot: then nothing is counted.
impl Offsets {
    pub(super) fn request(&self, target: super::Target, status: usize) -> Option<usize> {
        Some(self.requests + self.target(target)? * STATUS_COUNT + status)
    }

    pub(super) fn stream_ttft(&self, target: super::Target) -> Option<usize> {
        Some(self.stream_ttft + self.target(target)? * TIME_CELLS)
    }

    pub(super) fn stream_itl(&self, target: super::Target) -> Option<usize> {
        Some(self.stream_itl + self.target(target)? * TIME_CELLS)
    }

    pub(super) fn stream(&self, target: super::Target, outcome: StreamOutcome) -> Option<usize> {
        Some(self.streams + self.target(target)? * StreamOutcome::ALL.len() + outcome.index())
    }

    pub(super) fn stream_tokens(&self, target: super::Target, kind: TokenKind) -> Option<usize> {
        Some(self.stream_tokens + self.target(target)? * TokenKind::ALL.len() + kind.index())
    }

    pub(super) fn batch(&self, model: u32, operation: Operation, reason: BatchReason) -> Option<usize> {
        Some(self.batches + self.by_operation(model, operation)? * BatchReason::ALL.len() + reason.index())
    }

    pub(super) fn batch_items(&self, model: u32, operation: Operation) -> Option<usize> {
        Some(self.batch_items + self.by_operation(model, operation)? * ITEM_CELLS)
    }

    pub(super) fn batch_wait(&self, model: u32, operation: Operation) -> Option<usize> {
        Some(self.batch_wait + self.by_operation(model, operation)? * TIME_CELLS)
    }

    pub(super) fn batch_jobs(&self, model: u32, operation: Operation, origin: u32) -> Option<usize> {
        Some(self.batch_jobs + self.by_operation(model, operation)? * self.shards + below(origin, self.shards)?)
    }

    pub(super) fn isolation_calls(&self, model: u32) -> Option<usize> {
        Some(self.isolation_calls + below(model, self.models)?)
    }

    pub(super) fn lanes_solo(&self, model: u32) -> Option<usize> {
        Some(self.lanes_solo + below(model, self.models)?)
    }

    pub(super) fn admission_limit(&self, upstream: u32) -> Option<usize> {
        Some(self.admission_limit + below(upstream, self.endpoints.len())?)
    }

    pub(super) fn admission_in_flight(&self, upstream: u32) -> Option<usize> {
        Some(self.admission_in_flight + below(upstream, self.endpoints.len())?)
    }

    pub(super) fn admission_waiting(&self, upstream: u32) -> Option<usize> {
        Some(self.admission_waiting + below(upstream, self.endpoints.len())?)
    }

    pub(super) fn admission_wait(&self, upstream: u32) -> Option<usize> {
        Some(self.admission_wait + below(upstream, self.endpoints.len())? * TIME_CELLS)
    }

    pub(super) fn split_request(&self, model: u32, outcome: SplitOutcome) -> Option<usize> {
        Some(self.split_requests + self.arm(model)? * SplitOutcome::ALL.len() + outcome.index())
    }

    pub(super) fn split_duration(&self, model: u32) -> Option<usize> {
        Some(self.split_durations + self.arm(model)? * TIME_CELLS)
    }

    pub(super) fn split_measured(&self, model: u32, outcome: MeasureOutcome) -> Option<usize> {
        Some(self.split_measured + self.arm(model)? * MeasureOutcome::ALL.len() + outcome.index())
    }

    pub(super) fn shadow_request(&self, model: u32, outcome: ShadowOutcome) -> Option<usize> {
        let place = self.shadows.get(model as usize).copied().flatten()?;
        Some(self.shadow_requests + place * ShadowOutcome::ALL.len() + outcome.index())
    }

    fn arm(&self, model: u32) -> Option<usize> {
        self.arms.get(model as usize).copied().flatten()
    }

    pub(super) fn upstream_request(&self, upstream: u32, endpoint: u32, outcome: UpstreamOutcome) -> Option<usize> {
        Some(self.upstream_requests + self.endpoint(upstream, endpoint)? * UpstreamOutcome::ALL.len() + outcome.index())
    }

    pub(super) fn upstream_retry(&self, upstream: u32) -> Option<usize> {
        Some(self.upstream_retries + below(upstream, self.endpoints.len())?)
    }

    pub(super) fn endpoint_chosen(&self, upstream: u32, why: Why) -> Option<usize> {
        Some(self.endpoints_chosen + below(upstream, self.endpoints.len())? * Why::ALL.len() + why as usize)
    }

    pub(super) fn upstream_connection_opened(&self, upstream: u32, endpoint: u32) -> Option<usize> {
        Some(self.upstream_connections_opened + self.endpoint(upstream, endpoint)?)
    }

    pub(super) fn unhealthy_until(&self, upstream: u32, endpoint: u32) -> Option<usize> {
        Some(self.unhealthy_until + self.endpoint(upstream, endpoint)?)
    }

    pub(super) fn breaker_transition(&self, upstream: u32, endpoint: u32, to: BreakerTo) -> Option<usize> {
        Some(self.breaker_transitions + self.endpoint(upstream, endpoint)? * BreakerTo::ALL.len() + to.index())
    }

    pub(super) fn breaker_state(&self, upstream: u32, endpoint: u32) -> Option<usize> {
        Some(self.breaker_state + self.endpoint(upstream, endpoint)?)
    }

    pub(super) fn breaker_why(&self, upstream: u32, endpoint: u32) -> Option<usize> {
        Some(self.breaker_why + self.endpoint(upstream, endpoint)?)
    }

    pub(super) fn endpoint_pause(&self, upstream: u32, endpoint: u32) -> Option<usize> {
        Some(self.endpoint_pauses + self.endpoint(upstream, endpoint)?)
    }

    pub(super) fn retry_refused(&self, upstream: u32) -> Option<usize> {
        Some(self.retries_refused + below(upstream, self.endpoints.len())?)
    }

    pub(super) fn fallback(&self, model: u32, reason: FallbackReason) -> Option<usize> {
        Some(self.fallbacks + below(model, self.models)? * FallbackReason::ALL.len() + reason.index())
    }

    pub(super) fn hedge(&self, model: u32, result: HedgeResult) -> Option<usize> {
        Some(self.hedges + below(model, self.models)? * HedgeResult::ALL.len() + result.index())
    }

    fn target(&self, target: super::Target) -> Option<usize> {
        Some(match target {
            super::Target::None => 0,
            super::Target::Route(route) => 1 + below(route.0, self.routes)?,
            super::Target::Model(model) => 1 + self.routes + below(model.0, self.models)?,
        })
    }

    fn by_operation(&self, model: u32, operation: Operation) -> Option<usize> {
        Some(below(model, self.models)? * Operation::ALL.len() + operation as usize)
    }

    fn endpoint(&self, upstream: u32, endpoint: u32) -> Option<usize> {
        let &(first, count) = self.endpoints.get(upstream as usize)?;
        Some(first + below(endpoint, count)?)
    }
}

/// The values of all dimensions.
struct Names {
    targets: Vec<Values>,
    statuses: Vec<Values>,
    models: Vec<Values>,
    operations: Vec<Values>,
    reasons: Vec<Values>,
    origins: Vec<Values>,
    upstreams: Vec<Values>,
    endpoints: Vec<Values>,
    outcomes: Vec<Values>,
    ends: Vec<Values>,
    tokens: Vec<Values>,
    choices: Vec<Values>,
}

impl Names {
    fn new(config: &Config, shards: u32) -> Names {
        let none = std::iter::once(vec![String::new(), String::new()]);
        let routes = config.routes.iter().map(|route| vec![route.path.clone(), String::new()]);
        let models = config.models.iter().map(|model| vec![String::new(), model.name.clone()]);
        Names {
            targets: none.chain(routes).chain(models).collect(),
            statuses: status_values().map(|value| vec![value]).collect(),
            models: config.models.iter().map(|model| vec![model.name.clone()]).collect(),
            operations: Operation::ALL.iter().map(|operation| vec![operation.as_str().to_owned()]).collect(),
            reasons: BatchReason::ALL.iter().map(|reason| vec![reason.as_str().to_owned()]).collect(),
            origins: (0..shards).map(|shard| vec![shard.to_string()]).collect(),
            upstreams: config.upstreams.iter().map(|upstream| vec![upstream.name.clone()]).collect(),
            endpoints: endpoint_names(config).into_iter().flatten().map(Vec::from).collect(),
            ends: StreamOutcome::ALL.iter().map(|outcome| vec![outcome.as_str().to_owned()]).collect(),
            tokens: TokenKind::ALL.iter().map(|kind| vec![kind.as_str().to_owned()]).collect(),
            outcomes: UpstreamOutcome::ALL.iter().map(|outcome| vec![outcome.as_str().to_owned()]).collect(),
            choices: Why::ALL.iter().map(|why| vec![why.as_str().to_owned()]).collect(),
        }
    }
}

/// The series of split and shadowed models; few or none.
struct SplitNames {
    arms: Vec<Values>,
    arm_places: Box<[Option<usize>]>,
    outcomes: Vec<Values>,
    verdicts: Vec<Values>,
    shadows: Vec<Values>,
    shadow_places: Box<[Option<usize>]>,
    shadow_outcomes: Vec<Values>,
}

impl SplitNames {
    fn new(config: &Config) -> SplitNames {
        let mut names = SplitNames {
            arms: Vec::new(),
            arm_places: vec![None; config.models.len()].into(),
            outcomes: SplitOutcome::ALL.iter().map(|outcome| vec![outcome.as_str().to_owned()]).collect(),
            verdicts: MeasureOutcome::ALL.iter().map(|outcome| vec![outcome.as_str().to_owned()]).collect(),
            shadows: Vec::new(),
            shadow_places: vec![None; config.models.len()].into(),
            shadow_outcomes: ShadowOutcome::ALL.iter().map(|outcome| vec![outcome.as_str().to_owned()]).collect(),
        };
        for (index, model) in config.models.iter().enumerate() {
            if model.split.is_some() || model.arm_of.is_some() {
                names.arm_places[index] = Some(names.arms.len());
                names.arms.push(vec![model.name.clone(), config.upstream(model.upstream).name.clone()]);
            }
            if model.shadow.is_some() {
                names.shadow_places[index] = Some(names.shadows.len());
                names.shadows.push(vec![model.name.clone()]);
            }
        }
        names
    }
}

fn endpoint_ranges(config: &Config) -> Box<[(usize, usize)]> {
    let mut first = 0;
    let range = |upstream: &crate::config::Upstream| {
        let range = (first, upstream.endpoints.len());
        first += range.1;
        range
    };
    config.upstreams.iter().map(range).collect()
}

fn endpoint_names(config: &Config) -> Vec<Vec<[String; 2]>> {
    let names = |upstream: &crate::config::Upstream| {
        upstream.endpoints.iter().map(|endpoint| [upstream.name.clone(), endpoint_name(endpoint)]).collect()
    };
    config.upstreams.iter().map(names).collect()
}

/// As the operator wrote it, without the scheme of TCP ones: `gpu0:8000`, `unix:/run/vllm.sock`.
fn endpoint_name(endpoint: &Endpoint) -> String {
    match &endpoint.addr {
        EndpointAddr::Tcp { .. } => endpoint.authority.clone(),
        EndpointAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn below(id: u32, count: usize) -> Option<usize> {
    let index = id as usize;
    debug_assert!(index < count, "id {index} of {count}: from another snapshot");
    (index < count).then_some(index)
}
