//! What a person may write about the times of a model's or a route's calls.

use schemars::JsonSchema;

use super::At;

/// Times for the calls of one model or route, where they differ from its upstream's.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTimeouts {
    /// From the request's last byte to the answer's first (of an event stream: to its first event); then 504. Default: the upstream's
    /// `first_byte_timeout`. A long prompt on a large model may need minutes.
    pub first_byte: Option<At<String>>,
    /// Silence allowed in an event stream that has begun; then it is cut. Default: the upstream's `stream_idle_timeout`.
    pub stream_idle: Option<At<String>>,
    /// The whole call; then it is cut. Default: the upstream's `total_timeout`.
    pub total: Option<At<String>>,
}
