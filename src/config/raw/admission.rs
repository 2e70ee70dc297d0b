//! `[admission]` and `upstreams.concurrency` as a person writes them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::At;

/// By which fields of a request its priority and its tenant are known, for upstreams with a `concurrency` limit and for lanes of merged
/// calls. With one of these keys lanes, too, are served by priority and fair shares; without both, first come, first served.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAdmission {
    /// The request field that says `high`, `normal` or `low`, or a digit: 0 to 2 are high, 3 to 5 normal, 6 to 9 low. Other words and
    /// requests without it are `normal`. Without this key all are. Anyone can write a field: have a proxy you trust set it.
    pub priority_header: Option<At<String>>,
    /// The request field that names the tenant, for fair shares. Without it (the key, or the field in a request) the credential is
    /// taken (`authorization`, else `x-api-key` and its like), and all requests without one are one tenant.
    pub tenant_header: Option<At<String>>,
}

/// How many requests an upstream is given at a time, and who waits for the next place. Merged calls are not counted:
/// `models.batching.in_flight` bounds those.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawConcurrency {
    /// Requests at a time, 1 to 1000000, of all shards together; or `"adaptive"`: each shard learns from how long answers take to begin.
    #[schemars(required)]
    pub limit: Option<At<RawLimit>>,
    /// A learned limit does not go below this; all shards together, at least one each. Default 1.
    pub min: Option<At<i64>>,
    /// A learned limit does not go beyond this, of all shards together. Default 1024, more than engines run at once.
    pub max: Option<At<i64>>,
    /// Requests that may wait for a place, per shard, 0 to 65536; beyond it 429 or 503. 1024 wait for seconds at most upstreams.
    #[schemars(extend("default" = 1024))]
    pub queue_max: Option<At<i64>>,
    /// How long a request may wait for a place; then 503, and at once where that is foreseen. Ten seconds is as long as people wait.
    #[schemars(extend("default" = "10s"))]
    pub queue_timeout: Option<At<String>>,
}

/// A number or a word: a count or `"adaptive"`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum RawLimit {
    Fixed(i64),
    /// `shape` has seen to it that no other word comes here.
    Adaptive(Adaptive),
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Adaptive {
    Adaptive,
}

impl JsonSchema for RawLimit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string", "enum": ["adaptive"] }, { "type": "integer" }] })
    }
}
