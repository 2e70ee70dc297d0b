//! What a person may write about dividing a model's requests: `models.targets`, `sticky`, `shadow` and `rollout`.

use schemars::JsonSchema;

use super::At;

/// One of a model's upstreams.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTarget {
    /// The upstream, by name.
    #[schemars(required)]
    pub upstream: Option<At<String>>,
    /// Its share of the requests against the other targets', 0 to 10000. 0 stands by until the admin page gives it some (blue/green).
    #[schemars(extend("default" = 1))]
    pub weight: Option<At<i64>>,
}

/// Requests that are alike stay with one target.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSticky {
    /// The request field whose value decides, by a hash: `"x-session-id"`, or `"authorization"` for one target per key. Requests
    /// without it are given a target by chance.
    #[schemars(required)]
    pub header: Option<At<String>>,
}

/// Copies of the requests for another upstream.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawShadow {
    /// The upstream that gets the copies, by name.
    #[schemars(required)]
    pub upstream: Option<At<String>>,
    /// Of a hundred requests so many are copied, 1 to 100.
    #[schemars(extend("default" = 100))]
    pub percent: Option<At<i64>>,
    /// Copies in flight per shard, 1 to 1024; beyond it a request is served without a copy. 32 bounds what a slow shadow holds.
    #[schemars(extend("default" = 32))]
    pub max_in_flight: Option<At<i64>>,
}

/// Moves the requests of one target to the other step by step.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRollout {
    /// The target that is new, by its upstream's name; the other one of the two is the baseline.
    #[schemars(required)]
    pub canary: Option<At<String>>,
    /// The canary's share in percent, rising, 1 to 100. After the last one it is completed (100) or waits for a person. Small first:
    /// a bad canary fails few.
    #[schemars(extend("default" = [1, 5, 25, 50, 100]))]
    pub steps: Option<At<Vec<At<i64>>>>,
    /// A step takes at least this long. Five minutes show what a cold cache or a leak does.
    #[schemars(extend("default" = "5m"))]
    pub step_time: Option<At<String>>,
    /// And at least so many answers of the canary, 1 to 1000000.
    #[schemars(extend("default" = 100))]
    pub min_requests: Option<At<i64>>,
    /// The rise of the error rate that is looked for, above 0 to 1: 0.02 are two of a hundred. One below half of it is let pass, one
    /// above it is found.
    #[schemars(extend("default" = 0.02))]
    pub max_error_rate_increase: Option<At<f64>>,
    /// How much longer than the baseline's median the canary's answers may take to begin, up to 100: 0.5 is half as long again. 0 does not look at it.
    #[schemars(extend("default" = 0.5))]
    pub max_latency_increase: Option<At<f64>>,
    /// Answers of 400 to 499 are errors too. Clients make mistakes with both targets alike, so more of them with one is its fault: a
    /// wrong model name, a template it refuses.
    #[schemars(extend("default" = true))]
    pub count_4xx: Option<At<bool>>,
    /// The chance that a canary as good as its baseline is taken back, 0.000001 to 0.5. Lower needs more evidence.
    #[schemars(extend("default" = 0.01))]
    pub false_alarm: Option<At<f64>>,
    /// One more thing by which the canary is compared and taken back. Default: errors and latency only, which all upstreams have.
    pub metric: Option<At<RawMetric>>,
}

/// What else makes an answer a bad one, by exactly one of `name`, `header` and `finish`. The shares of bad answers are compared; an answer
/// that cannot be measured counts for neither target, and a step waits until `min_requests` answers of the canary were measured.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawMetric {
    /// A number of each event stream: `"ttft_ms"` (milliseconds from the request to the first event), `"tokens_per_second"` (from the
    /// first event to the last) or `"output_tokens"`; the last two where the server tells its usage.
    #[schemars(extend("enum" = ["ttft_ms", "tokens_per_second", "output_tokens"]))]
    pub name: Option<At<String>>,
    /// A field of the answer's head that holds a number, like `"x-quality-score"`. Merged answers have none.
    pub header: Option<At<String>>,
    /// Streams that end for one of these reasons are bad: `"stop"`, `"length"`, `"tool_calls"`, `"content_filter"`, `"other"`, or `"error"`
    /// for an error told within the stream.
    pub finish: Option<At<Vec<At<String>>>>,
    /// An answer with a larger number is bad.
    pub above: Option<At<f64>>,
    /// An answer with a smaller number is bad.
    pub below: Option<At<f64>>,
    /// The rise of the share of bad answers that is looked for, above 0 to 1: 0.05 are five of a hundred. Less would need many more answers
    /// before anything is known; a rise below half of it is let pass.
    #[schemars(extend("default" = 0.05))]
    pub max_rate_increase: Option<At<f64>>,
}
