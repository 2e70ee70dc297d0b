//! How a model's requests are divided between upstreams: split, shadow, rollout. The arms of a split are entries of
//! [`Config::models`](super::Config::models) of their own, behind those that were written, so that everything that is kept by model
//! (lanes, rules of batching, counters) is kept by arm without knowing of splits.

use std::time::Duration;

use super::{ModelId, UpstreamId};

/// The whole of a split: shares are parts of this many.
pub const WHOLE: u32 = 10_000;

/// A model that several upstreams serve.
#[derive(Clone, PartialEq, Debug)]
pub struct Split {
    /// At least two, in the order written. The first is the model itself.
    pub arms: Vec<Arm>,
    /// The request field (lower case) whose value decides the arm: the same value, the same arm. None: every request by chance.
    pub sticky: Option<String>,
    pub rollout: Option<RolloutRules>,
}

/// One target of a split.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arm {
    /// What its requests count as.
    pub model: ModelId,
    pub upstream: UpstreamId,
    /// At the start, of [`WHOLE`]; those of all arms add up to it.
    pub share: u32,
}

/// An automatic rollout: from a small share to the whole, as long as nothing speaks against it.
#[derive(Clone, PartialEq, Debug)]
pub struct RolloutRules {
    /// Index of the canary among the two arms; the other is the baseline.
    pub canary: usize,
    /// The canary's shares in percent, rising. Default 1, 5, 25, 50, 100.
    pub steps: Vec<u32>,
    /// A step takes at least this long. Default 5 min.
    pub step_time: Duration,
    /// And at least this many answers of the canary. Default 100.
    pub min_requests: u64,
    /// The rise of the error rate (a share, 0.02 are two points) the test looks for. Default 0.02.
    pub max_error_rate_increase: f64,
    /// How much longer than the baseline's median the canary's requests may take (0.5: half as long again). Default 0.5; None when it
    /// is not looked at.
    pub max_latency_increase: Option<f64>,
    /// Answers of 400 to 499 count as errors too. Default true.
    pub count_4xx: bool,
    /// The chance that a canary as good as its baseline is rolled back. Default 0.01.
    pub false_alarm: f64,
}

/// Copies of a model's requests for another upstream; their answers are thrown away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shadow {
    pub upstream: UpstreamId,
    /// Of the model's requests, 1 to 100. Default 100.
    pub percent: u32,
    /// Copies in flight per shard at most; beyond it a request is not copied. Default 32.
    pub max_in_flight: u32,
}
