//! How a model's requests are divided between upstreams: split, shadow, rollout. The arms of a split are entries of
//! [`Config::models`](super::Config::models) of their own, behind those that were written, so that everything that is kept by model
//! (lanes, rules of batching, counters) is kept by arm without knowing of splits.

use std::fmt;
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
    /// What else is compared.
    pub metric: Option<MetricRules>,
}

/// A metric that the user chose: an answer is good or bad by it, and the shares of bad ones are compared.
#[derive(Clone, PartialEq, Debug)]
pub struct MetricRules {
    pub measure: Measure,
    /// The rise of the share of bad answers (0.05 are five points) the test looks for. Default 0.05.
    pub max_rate_increase: f64,
}

/// What makes an answer bad. An answer that has no such number counts for nobody.
#[derive(Clone, PartialEq, Debug)]
pub enum Measure {
    /// Milliseconds from the request's head to a stream's first event.
    TtftMs(Bound),
    /// Of a stream, from its first event to its last, as far as its server told its usage.
    TokensPerSecond(Bound),
    /// Of a stream, as its server told.
    OutputTokens(Bound),
    /// The number in this field (lower case) of the answer's head.
    Header(String, Bound),
    /// A stream that ended for one of these reasons.
    Finish(Vec<FinishReason>),
}

/// On which side of a number an answer is bad.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound {
    Above(f64),
    Below(f64),
}

/// How a stream of model output said that it ended, whatever its API calls that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinishReason {
    /// By itself, or at a stop sequence.
    Stop,
    /// The limit of tokens.
    Length,
    ToolCalls,
    ContentFilter,
    /// A reason that is not known here.
    Other,
    /// An error that the server told in a stream that had begun.
    Error,
}

impl FinishReason {
    pub const ALL: [FinishReason; 6] = [
        FinishReason::Stop,
        FinishReason::Length,
        FinishReason::ToolCalls,
        FinishReason::ContentFilter,
        FinishReason::Other,
        FinishReason::Error,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::Other => "other",
            FinishReason::Error => "error",
        }
    }
}

/// As people read it, and as a kept rollout knows it again: `tokens_per_second below 30`.
impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measure::TtftMs(bound) => write!(out, "ttft_ms {bound}"),
            Measure::TokensPerSecond(bound) => write!(out, "tokens_per_second {bound}"),
            Measure::OutputTokens(bound) => write!(out, "output_tokens {bound}"),
            Measure::Header(name, bound) => write!(out, "header {name} {bound}"),
            Measure::Finish(reasons) => {
                let words: Vec<&str> = reasons.iter().map(|reason| reason.as_str()).collect();
                write!(out, "finish {}", words.join(" or "))
            }
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Above(bound) => write!(out, "above {bound}"),
            Bound::Below(bound) => write!(out, "below {bound}"),
        }
    }
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
