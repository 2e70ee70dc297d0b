//! The tables of an upstream that say how its endpoints are chosen.

use schemars::JsonSchema;

use super::At;

/// What `balance = "consistent_hash"` hashes: `{ header = "..." }` or `{ by = "..." }`.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHash {
    /// The request field whose value is the key. A request without it goes to the endpoint with the least in flight.
    pub header: Option<At<String>>,
    /// `"client_ip"` (the address of the connection) or `"credential"` (`authorization`, else the API key). Default `"client_ip"`:
    /// every TCP client has one.
    #[schemars(extend("enum" = ["client_ip", "credential"]))]
    pub by: Option<At<String>>,
}

/// Sessions that stay at their endpoint.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAffinity {
    /// The request field whose value names the session, like `"x-session-id"`. While its endpoint is not usable another one takes
    /// the session's calls. Requests without it are balanced as usual.
    #[schemars(required)]
    pub header: Option<At<String>>,
}

/// How the load that an engine reports is read.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawScrape {
    /// Where the endpoint tells its load. Default `"/metrics"`, for Infinity `"/models"`: that is where they do.
    pub path: Option<At<String>>,
    /// How often each endpoint is asked, up to an hour; `"0s"` never. What is read counts half as much after this time, so a shorter
    /// one is worth more and asks more.
    #[schemars(extend("default" = "500ms"))]
    pub interval: Option<At<String>>,
    /// The port of the metrics, when it is not the endpoint's own (Triton serves them on 8002). Default: the endpoint's.
    pub port: Option<At<i64>>,
}

/// Which endpoint holds which prompts in its cache.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPrefixAffinity {
    /// Blocks of prompts that a shard remembers, 1024 to 16777216; beyond it the longest unused are forgotten. A block is 256 bytes, or
    /// a sixteenth of what stands before it: 65536 hold some 1500 conversations of 16 KiB.
    #[schemars(extend("default" = 65_536))]
    pub max_entries: Option<At<i64>>,
    /// Memory of the index per shard, 16KiB to 1GiB; the lower of the two bounds counts.
    #[schemars(extend("default" = "1MiB"))]
    pub max_bytes: Option<At<String>>,
    /// An endpoint gets a call for its cache's sake while its load stays within this many times the mean, 1 to 100. 1.25 keeps the
    /// endpoints as even as bounded hashing does; higher trades evenness for hits.
    #[schemars(extend("default" = 1.25))]
    pub load_factor: Option<At<f64>>,
}
