//! Which answers are bad by which metric: tables.

use std::time::Duration;

use crate::config::{Bound, FinishReason, Measure};
use crate::policy::StreamSeen;

fn seen(ttft_ms: u64, writing_ms: u64, tokens: Option<u64>, finish: Option<FinishReason>) -> StreamSeen {
    let (ttft, writing) = (Some(Duration::from_millis(ttft_ms)), Duration::from_millis(writing_ms));
    StreamSeen { ttft, writing, output_tokens: tokens, finish }
}

#[test]
fn a_stream_is_bad_beyond_the_bound_and_unknown_without_the_number() {
    let stop = Some(FinishReason::Stop);
    let reasons = || Measure::Finish(vec![FinishReason::Length, FinishReason::Error]);
    for (measure, stream, wanted) in [
        (Measure::TtftMs(Bound::Above(800.0)), seen(801, 0, None, None), Some(true)),
        (Measure::TtftMs(Bound::Above(800.0)), seen(800, 0, None, None), Some(false)),
        (Measure::TtftMs(Bound::Above(800.0)), StreamSeen::default(), None),
        // 30 tokens behind the first in a second.
        (Measure::TokensPerSecond(Bound::Below(30.0)), seen(1, 1000, Some(31), stop), Some(false)),
        (Measure::TokensPerSecond(Bound::Below(30.0)), seen(1, 1000, Some(30), stop), Some(true)),
        (Measure::TokensPerSecond(Bound::Below(30.0)), seen(1, 0, Some(5), stop), Some(false)),
        (Measure::TokensPerSecond(Bound::Below(30.0)), seen(1, 1000, Some(1), stop), None),
        (Measure::TokensPerSecond(Bound::Below(30.0)), seen(1, 1000, Some(0), stop), None),
        (Measure::TokensPerSecond(Bound::Below(30.0)), seen(1, 1000, None, stop), None),
        (Measure::OutputTokens(Bound::Below(1.0)), seen(1, 0, Some(0), stop), Some(true)),
        (Measure::OutputTokens(Bound::Below(1.0)), seen(1, 0, Some(1), stop), Some(false)),
        (Measure::OutputTokens(Bound::Below(1.0)), seen(1, 0, None, stop), None),
        (reasons(), seen(1, 0, None, Some(FinishReason::Length)), Some(true)),
        (reasons(), seen(1, 0, None, Some(FinishReason::Error)), Some(true)),
        (reasons(), seen(1, 0, None, stop), Some(false)),
        (reasons(), seen(1, 0, None, None), None),
        (Measure::Header("x-score".to_owned(), Bound::Below(1.0)), seen(1, 1, Some(5), stop), None),
    ] {
        assert_eq!(measure.of_stream(&stream), wanted, "{measure} of {stream:?}");
    }
}

#[test]
fn a_field_is_read_as_a_number_or_not_at_all() {
    let measure = Measure::Header("x-score".to_owned(), Bound::Below(0.7));
    for (name, value, wanted) in [
        ("x-score", "0.69", Some(true)),
        ("X-Score", " 0.7 ", Some(false)),
        ("x-score", "-3", Some(true)),
        ("x-score", "1e2", Some(false)),
        ("x-score", "good", None),
        ("x-score", "", None),
        ("x-score", "NaN", None),
        ("x-score", "inf", None),
        ("x-scores", "0.1", None),
    ] {
        let fields = [(&b"x-other"[..], &b"0"[..]), (name.as_bytes(), value.as_bytes())];
        assert_eq!(measure.of_fields(fields.into_iter()), wanted, "{name}: {value}");
    }
    let field = [(&b"x-score"[..], &b"0.1"[..])];
    assert_eq!(Measure::OutputTokens(Bound::Above(1.0)).of_fields(field.into_iter()), None);
}
