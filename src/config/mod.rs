//! The configuration in two stages: `raw` is what a person may write, `check` finds every mistake at once with its place, and
//! [`Config`] here is what the rest of the program sees: checked, immutable, ids instead of names, units resolved. `limits`
//! holds every bound. It reads no files and resolves no names (control does), and it knows no sockets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

mod admission;
mod check;
pub mod defaults;
pub mod limits;
mod memory;
mod mistake;
mod raw;
mod resilience;
mod rollout;
mod shape;
mod steering;
mod streams;
pub mod units;

#[cfg(test)]
pub(crate) mod tests;

pub use admission::{Admission, Concurrency, ConcurrencyLimit, MemoryMax};
pub use check::{check, parse_listen};
pub use memory::{Memory, MemoryKind, MemoryLine, memory};
pub use mistake::{MISTAKES_MAX, Mistake, Mistakes};
pub use resilience::{
    Breaker, Canned, CannedId, Fallback, Hedge, HedgeAfter, ModelResilience, Probe, Resilience, RetryRules, Share, SlowStart,
};
pub use rollout::{Arm, Bound, FinishReason, Measure, MetricRules, RolloutRules, Shadow, Split, WHOLE};
pub use steering::{Balance, Engine, HashKey, PrefixAffinity, Scrape, Steering};
pub use streams::{Timeouts, WebSocket};

/// The JSON Schema (draft 2020-12) of headrace.toml, as text.
#[must_use]
pub fn schema() -> String {
    format!("{:#}\n", raw::schema_value())
}

/// Index of an upstream in [`Config::upstreams`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct UpstreamId(pub u32);

/// Index of a model in [`Config::models`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ModelId(pub u32);

/// Index of a route in [`Config::routes`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RouteId(pub u32);

/// A checked configuration. Replaced whole on reload, never changed.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub admission: Admission,
    /// In the order written; [`UpstreamId`] is the index.
    pub upstreams: Vec<Upstream>,
    /// In the order written; a model named `*` takes every name no other entry takes. Behind them stand the arms of the split ones.
    pub models: Vec<Model>,
    /// Longest path first, so the first match wins.
    pub routes: Vec<Route>,
    /// In the order written; [`CannedId`] is the index.
    pub canned: Vec<Canned>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Server {
    pub listen: Vec<ListenAddr>,
    pub shards: Shards,
    pub io: Io,
    /// Open client connections per shard; beyond it accept pauses (the kernel's backlog holds the rest). Default 10_000.
    pub max_connections: u32,
    /// A request head must be complete this long after its first byte (or after accept). Default 10 s, then 408.
    pub header_timeout: Duration,
    /// Silence allowed between body bytes from the client. Default 30 s, then 408.
    pub body_timeout: Duration,
    /// A client that takes nothing of its answer for this long is cut. Default 30 s.
    pub write_timeout: Duration,
    /// A client's FIN is not taken for its leaving. Default false.
    pub half_close: bool,
    /// A keep-alive connection without a request is closed after this. Default 60 s.
    pub idle_timeout: Duration,
    /// Begun exchanges may take this long after SIGTERM. Default 30 s.
    pub drain_timeout: Duration,
    /// Begun exchanges of the former process may take this long after an upgrade. Default 600 s.
    pub upgrade_timeout: Duration,
    /// The largest request body that is held for inspection (model calls). Default 32 MiB, then 413.
    pub max_body_bytes: u64,
    /// Bytes of request bodies one shard holds at a time, over all its connections. Default 256 MiB, then 503.
    pub max_held_bytes: u64,
    /// A ceiling on the process's resident memory. Default: four fifths of the cgroup's.
    pub memory_max: MemoryMax,
    /// Receive buffers per shard (a power of two) and the size of each. Defaults 1024 x 32 KiB.
    pub receive_buffers: u16,
    pub receive_buffer_bytes: u32,
    /// Slots in a shard's inbox (a power of two); when it is full the job is shed with 503. Default 4096.
    pub inbox_slots: u32,
    /// Where the last good configurations are kept. Default: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Reload when the file changes. Default false.
    pub watch_config: bool,
    /// Keep `Forwarded` and `X-Forwarded-*` that clients send (the peer is a trusted proxy) and add to them. Default false:
    /// theirs are removed and ours are written.
    pub trust_forwarded: bool,
    /// The zone this gateway stands in. Default none: all endpoints are near.
    pub zone: Option<String>,
    /// Answer with `x-headrace-batch-size` and `x-headrace-batch-wait-us`. Default false.
    pub debug_headers: bool,
}

/// Where to listen.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ListenAddr {
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shards {
    /// One per core this process may use (affinity mask and cgroup quota).
    Auto,
    Count(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Io {
    /// io_uring where the kernel grants it, else epoll; the start line says which and why.
    Auto,
    Uring,
    Epoll,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Admin {
    /// Default `127.0.0.1:9090`.
    pub listen: SocketAddr,
}

/// A set of equal servers.
#[derive(Clone, PartialEq, Debug)]
pub struct Upstream {
    pub name: String,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    pub balance: Balance,
    pub steering: Steering,
    /// Default 1 s.
    pub connect_timeout: Duration,
    /// From the request's last byte to the answer's first (of an event stream: to its first event). Default 120 s (cold models are slow). A timeout here is never retried.
    pub first_byte_timeout: Duration,
    /// Silence in an event stream that has begun. Default 120 s.
    pub stream_idle_timeout: Duration,
    /// The whole call. Default 600 s.
    pub total_timeout: Duration,
    /// A pooled connection idle for longer is closed, not reused. Default 4 s: uvicorn closes at 5 s.
    pub pool_idle_timeout: Duration,
    /// Idle connections kept per endpoint and shard. Default 256.
    pub pool_max_idle: u32,
    /// Largest answer that is held whole (coalesced calls). Default 64 MiB.
    pub max_response_bytes: u64,
    /// Send the client's `Authorization` to this upstream. Default false. When true it is part of the lane key.
    pub forward_authorization: bool,
    /// Default: no limit.
    pub concurrency: Option<Concurrency>,
    /// Probes, breaker, slow start, retries.
    pub resilience: Resilience,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Endpoint {
    pub addr: EndpointAddr,
    /// At least 1. Default 1.
    pub weight: u32,
    /// `None` is near everybody.
    pub zone: Option<String>,
    /// Rendered `Host` value: `host:port` (port left out when 80), `localhost` for Unix sockets.
    pub authority: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum EndpointAddr {
    /// `http://host:port`; `resolved` is filled by control before a snapshot is made (the first address is used).
    Tcp { host: String, port: u16, resolved: Option<SocketAddr> },
    /// `unix:/path`.
    Unix(PathBuf),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Model {
    /// What clients ask for; `*` takes every model.
    pub name: String,
    pub upstream: UpstreamId,
    pub batching: Batching,
    /// Fallback, hedging, whether calls may be repeated.
    pub resilience: ModelResilience,
    /// The upstream's, unless the model has its own.
    pub timeouts: Timeouts,
    /// A quiet event stream gets a sign of life this often. Off by default.
    pub stream_comments: Option<Duration>,
    /// This entry was not written: it is one target of that model, behind its first.
    pub arm_of: Option<ModelId>,
    /// Several upstreams share its requests; the first of them is `upstream`.
    pub split: Option<Box<Split>>,
    pub shadow: Option<Shadow>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Batching {
    /// Default `Exclusive`.
    pub mode: BatchingMode,
    /// Items per upstream call at most. Default 32.
    pub max_items: u32,
    /// Body bytes per merged call at most. Default 2 MiB (TEI's payload limit).
    pub max_bytes: u64,
    /// A ceiling on how long a ready batch may be held back; default 0 and then unused: the upstream's busy time is the window.
    pub max_delay: Duration,
    /// Merged calls in flight per endpoint. Default 1 for exclusive, 4 for batching upstreams.
    pub in_flight: u32,
    /// Items waiting per lane at most; beyond it jobs are shed with 429 and Retry-After. Default 4096.
    pub max_queue_items: u32,
    /// How long a job may wait for its answer, queueing included; then 504. Default: the upstream's total_timeout.
    pub timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BatchingMode {
    /// No batcher behind it: merging makes the GPU batch.
    Exclusive,
    /// TEI, vLLM, Infinity: merging saves front-end work; several calls in flight.
    Batching,
    Off,
}

/// Traffic that is not a model call: a path and everything below it.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// Begins with `/`; matches itself and, at a segment boundary, everything below it. `/` matches all.
    pub path: String,
    pub upstream: UpstreamId,
    /// The upstream's, unless the route has its own.
    pub timeouts: Timeouts,
    /// `None`, the default: websockets are refused.
    pub websocket: Option<WebSocket>,
}

impl Config {
    #[must_use]
    pub fn upstream(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[id.0 as usize]
    }

    #[must_use]
    pub fn model(&self, id: ModelId) -> &Model {
        &self.models[id.0 as usize]
    }

    /// The models that were written, without the arms behind them.
    pub fn written_models(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().take_while(|model| model.arm_of.is_none())
    }

    /// By model: the share an arm of a split begins with; 0 for all others.
    #[must_use]
    pub fn shares(&self) -> Vec<u32> {
        let mut shares = vec![0; self.models.len()];
        for arm in self.models.iter().filter_map(|model| model.split.as_ref()).flat_map(|split| &split.arms) {
            shares[arm.model.0 as usize] = arm.share;
        }
        shares
    }

    #[must_use]
    pub fn route(&self, id: RouteId) -> &Route {
        &self.routes[id.0 as usize]
    }
}
