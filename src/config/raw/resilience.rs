//! The tables about faults: `[upstreams.health]`, `[upstreams.breaker]`, `[upstreams.slow_start]`, `upstreams.retry`, `models.hedge`
//! and `[[canned]]`.

use schemars::JsonSchema;

use super::At;

/// Probes: the control plane asks every endpoint how it is. Without this table only calls tell.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHealth {
    /// What is asked for with GET. `/health` is what vLLM, SGLang, TEI, Infinity and llama.cpp answer.
    #[schemars(extend("default" = "/health"))]
    pub path: Option<At<String>>,
    /// Time between two probes of an endpoint. A dead one is found within `interval` x `unhealthy_after`; shorter costs the server calls.
    #[schemars(extend("default" = "5s"))]
    pub interval: Option<At<String>>,
    /// A probe without an answer by then has failed. At most `interval`.
    #[schemars(extend("default" = "1s"))]
    pub timeout: Option<At<String>>,
    /// Good probes in a row after which an endpoint that was down is used again. Two, since one may be luck.
    #[schemars(extend("default" = 2))]
    pub healthy_after: Option<At<i64>>,
    /// Failed probes in a row after which an endpoint is not used. Three, since a busy server may miss one.
    #[schemars(extend("default" = 3))]
    pub unhealthy_after: Option<At<i64>>,
    /// The status of a good probe: one (`"200"`) or a class (`"2xx"`).
    #[schemars(extend("default" = "2xx"))]
    pub expect: Option<At<String>>,
}

/// When calls alone show that an endpoint is broken, and how it comes back. Each shard judges by its own calls.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawBreaker {
    /// Failures in a row (no connection, cut connection, an answer that is not HTTP) that open the breaker. One may be chance, three are
    /// not.
    #[schemars(extend("default" = 3))]
    pub failures: Option<At<i64>>,
    /// Share of the calls in `window` that may fail, 5xx and time-outs included; above it the breaker opens. Default `"0%"`: not looked
    /// at, because an engine that answers 500 to some inputs is not down.
    #[schemars(extend("default" = "0%"))]
    pub error_rate: Option<At<String>>,
    /// A call whose answer takes longer than this to begin is slow. Only used with `slow_rate`.
    #[schemars(extend("default" = "10s"))]
    pub slow_call: Option<At<String>>,
    /// Share of the calls in `window` that may be slow; above it the breaker opens. Default `"0%"`: not looked at, because a long prompt is
    /// no fault.
    #[schemars(extend("default" = "0%"))]
    pub slow_rate: Option<At<String>>,
    /// How far back the two rates look. Ten seconds forget a hiccup and see a trend.
    #[schemars(extend("default" = "10s"))]
    pub window: Option<At<String>>,
    /// Calls in `window` below which no rate is judged: one of two is not half.
    #[schemars(extend("default" = 20))]
    pub min_calls: Option<At<i64>>,
    /// How long the breaker stays open at first; doubled each time a trial fails, and up to a quarter more by chance, so that shards do not
    /// try in step.
    #[schemars(extend("default" = "1s"))]
    pub open: Option<At<String>>,
    /// The longest it stays open.
    #[schemars(extend("default" = "30s"))]
    pub open_max: Option<At<String>>,
    /// Trial calls at a time while it is half open; when as many have succeeded it closes, when one fails it opens again.
    #[schemars(extend("default" = 1))]
    pub trials: Option<At<i64>>,
}

/// An endpoint that comes back gets its share of the calls little by little.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSlowStart {
    /// From the first share to the whole one, in a straight line. Default 0: at once, which is right for engines that are warm when they
    /// answer.
    #[schemars(extend("default" = "0ms"))]
    pub window: Option<At<String>>,
    /// The first share.
    #[schemars(extend("default" = "10%"))]
    pub first: Option<At<String>>,
}

/// What is tried again. Only before the first byte of an answer has gone to the client.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRetry {
    /// Calls per request at most, 1 to 10, the first included. Three reach an endpoint that works when two of many are gone. A request sent
    /// anew because the server had closed an idle connection does not count.
    #[schemars(extend("default" = 3))]
    pub attempts: Option<At<i64>>,
    /// Any of `"connect"` (nothing was sent), `"reset"` (cut before an answer), `"5xx"` and `"429"`. All but connect and 429 only for
    /// requests that may be repeated: GET and its like, embeddings, rerank, score, classify, pooling, and models with `idempotent`.
    /// The default leaves answers alone: what a server says is for the client to hear.
    #[schemars(extend("default" = ["connect", "reset"]))]
    pub on: Option<At<Vec<At<String>>>>,
    /// The wait before the second try is drawn from 0 to this, the next from 0 to twice this, and so on. A connection that could not be made
    /// is tried elsewhere at once.
    #[schemars(extend("default" = "25ms"))]
    pub backoff: Option<At<String>>,
    /// The longest wait; a server that asks for more with `Retry-After`, and has no other beside it, is not tried again.
    #[schemars(extend("default" = "1s"))]
    pub backoff_max: Option<At<String>>,
    /// Retries as a share of the calls, beside 10 a second and shard: when a whole upstream fails, retries must not double its load.
    #[schemars(extend("default" = "10%"))]
    pub budget: Option<At<String>>,
}

/// A second call to another endpoint when the first one takes long; the first answer wins, the other call is closed.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHedge {
    /// When the second call is made: a time (`"50ms"`) or a percentile of what calls for this model took lately (`"p95"`, `"p50"` to
    /// `"p99"`).
    #[schemars(extend("default" = "p95"))]
    pub after: Option<At<String>>,
    /// Second calls as a share of the first ones, at most: they are paid for in the servers' time.
    #[schemars(extend("default" = "5%"))]
    pub max: Option<At<String>>,
}

/// An answer that stands ready, as the last of `models.fallback`.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCanned {
    /// What `models.fallback` calls it; no model may have the same name.
    #[schemars(required)]
    pub name: Option<At<String>>,
    /// 200 to 599. The default is what clients understand as an answer.
    #[schemars(extend("default" = 200))]
    pub status: Option<At<i64>>,
    /// The body, at most 1 MiB. Write it in the form the clients expect.
    #[schemars(required)]
    pub body: Option<At<String>>,
    /// Its type.
    #[schemars(extend("default" = "application/json"))]
    pub content_type: Option<At<String>>,
}
