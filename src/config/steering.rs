//! How an upstream's endpoints are chosen beyond the plain policies: by a key, by session, by what the engines report, by the prompt.
//! What each means while it runs is policy's (`policy::balance`); docs/routing.md explains them to operators.

use std::time::Duration;

/// How the endpoint for a call is chosen when nothing more particular decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Balance {
    RoundRobin,
    /// The endpoint with the fewest calls in flight from this shard, weighted. Default.
    LeastInFlight,
    /// Of two drawn at random, the one with the lower (peak latency, averaged) x (in flight + 1), weighted.
    P2c,
    /// By [`Steering::hash`], with bounded load.
    ConsistentHash,
}

impl Balance {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Balance::RoundRobin => "round_robin",
            Balance::LeastInFlight => "least_in_flight",
            Balance::P2c => "p2c",
            Balance::ConsistentHash => "consistent_hash",
        }
    }
}

/// What `balance = "consistent_hash"` hashes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum HashKey {
    /// A request field, by its name in lower case. Requests without it are balanced by least in flight.
    Header(String),
    /// The client's address (all clients of a Unix socket are one).
    #[default]
    ClientIp,
    /// `authorization`, or the API key in its place.
    Credential,
}

/// Everything about an upstream's choice of endpoints but the policy itself. The default steers nothing.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Steering {
    /// Default: the client's address.
    pub hash: HashKey,
    /// The request field, in lower case, whose value names a session that stays at its endpoint.
    pub affinity: Option<String>,
    /// Which engine serves, and so what its metrics are called.
    pub engine: Option<Engine>,
    /// How the engine's metrics are read; with [`Steering::engine`] only.
    pub scrape: Option<Scrape>,
    pub prefix_affinity: Option<PrefixAffinity>,
    /// Calls in flight per unit of weight at every near endpoint from which a far one may be used.
    pub zone_spill: u32,
}

/// A model server whose load can be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Engine {
    Vllm,
    Sglang,
    Tei,
    Tgi,
    LlamaCpp,
    Triton,
    Infinity,
}

impl Engine {
    pub const ALL: [Engine; 7] =
        [Engine::Vllm, Engine::Sglang, Engine::Tei, Engine::Tgi, Engine::LlamaCpp, Engine::Triton, Engine::Infinity];

    /// As it is written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Engine::Vllm => "vllm",
            Engine::Sglang => "sglang",
            Engine::Tei => "tei",
            Engine::Tgi => "tgi",
            Engine::LlamaCpp => "llamacpp",
            Engine::Triton => "triton",
            Engine::Infinity => "infinity",
        }
    }

    /// Where its load is told when nobody says otherwise: Infinity tells it in its list of models, all others as metrics.
    #[must_use]
    pub const fn default_path(self) -> &'static str {
        match self {
            Engine::Infinity => "/models",
            _ => "/metrics",
        }
    }
}

/// How often and where the load of an endpoint is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scrape {
    /// Begins with `/`.
    pub path: String,
    /// Default 500 ms; zero reads nothing.
    pub interval: Duration,
    /// Where the metrics are served, when not beside the model (Triton: 8002). TCP endpoints only.
    pub port: Option<u16>,
}

/// The index of prompts that an upstream's endpoints have seen lately, one per shard.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PrefixAffinity {
    /// Blocks of prompts remembered per shard.
    pub max_entries: u32,
    /// Memory of the index per shard; the lower of the two bounds counts.
    pub max_bytes: u64,
    /// How far above the mean load an endpoint may be and still get a call for its cache's sake.
    pub load_factor: f64,
}

impl PrefixAffinity {
    /// Entries that both bounds allow.
    #[must_use]
    pub fn entries(&self) -> u32 {
        u32::try_from(self.max_bytes / super::limits::PREFIX_ENTRY_BYTES).unwrap_or(u32::MAX).min(self.max_entries)
    }
}
