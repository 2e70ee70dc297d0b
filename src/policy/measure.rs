//! Whether an answer is a bad one by the metric that a rollout compares. What was seen of the answer is its relay's to tell; an answer
//! that has no such number is neither good nor bad.

use std::time::Duration;

use crate::config::{Bound, FinishReason, Measure};

/// What was seen of an event stream, once it is over.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StreamSeen {
    /// From the request's head to the first event, if one came.
    pub ttft: Option<Duration>,
    /// From the first event to the last.
    pub writing: Duration,
    /// As its server told; none when it did not, or when the stream did not come to its end.
    pub output_tokens: Option<u64>,
    /// None when the stream did not come to its end.
    pub finish: Option<FinishReason>,
}

impl Measure {
    /// Whether a stream is bad.
    #[must_use]
    pub fn of_stream(&self, seen: &StreamSeen) -> Option<bool> {
        match self {
            Measure::TtftMs(bound) => Some(bound.is_beyond(seen.ttft?.as_secs_f64() * 1e3)),
            Measure::TokensPerSecond(bound) => Some(bound.is_beyond(rate(seen.output_tokens?, seen.writing)?)),
            Measure::OutputTokens(bound) => Some(bound.is_beyond(number(seen.output_tokens?))),
            Measure::Finish(reasons) => Some(reasons.contains(&seen.finish?)),
            Measure::Header(..) => None,
        }
    }

    /// Whether an answer with these fields (name and value) is bad.
    #[must_use]
    pub fn of_fields<'a>(&self, mut fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<bool> {
        let Measure::Header(name, bound) = self else { return None };
        let (_, value) = fields.find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))?;
        let number: f64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
        number.is_finite().then(|| bound.is_beyond(number))
    }
}

impl Bound {
    fn is_beyond(self, number: f64) -> bool {
        match self {
            Bound::Above(bound) => number > bound,
            Bound::Below(bound) => number < bound,
        }
    }
}

/// Tokens behind the first one, per second. A single token has no pace; several that came together are as fast as can be.
fn rate(tokens: u64, writing: Duration) -> Option<f64> {
    let behind = tokens.checked_sub(1).filter(|behind| *behind > 0)?;
    Some(if writing.is_zero() { f64::INFINITY } else { number(behind) / writing.as_secs_f64() })
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens stay far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}
