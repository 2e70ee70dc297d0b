//! The tables: buckets, statuses, names.

use std::collections::HashSet;

use crate::metrics::buckets::{ITEM_CELLS, Scale, TIME_CELLS};
use crate::metrics::labels::{STATUS_COUNT, status_index, status_values};
use crate::metrics::layout::{SHARD_NUMBERS, shard_number};
use crate::metrics::{
    BatchReason, Kind, METRICS, MeasureOutcome, Metric, Phase, ShadowOutcome, ShedReason, SplitOutcome, StreamOutcome, TokenKind,
    UpstreamOutcome,
};

#[test]
fn the_bounds_are_log_linear() {
    assert_eq!(Scale::Items.bounds()[..12], [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]);
    assert_eq!(Scale::Items.bounds().last(), Some(&4096));
    assert_eq!(Scale::Time.bounds()[..5], [4096, 6144, 8192, 12288, 16384]);
    assert_eq!(Scale::Time.bounds().last(), Some(&(1 << 40)));
    assert_eq!((Scale::Time.cells(), Scale::Items.cells()), (TIME_CELLS, ITEM_CELLS));
}

/// The bit arithmetic against the definition, at and around every bound.
#[test]
fn a_value_falls_into_the_first_bucket_whose_bound_holds_it() {
    for scale in [Scale::Time, Scale::Items] {
        let bounds = scale.bounds();
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
        let around = bounds.iter().flat_map(|&bound| [bound - 1, bound, bound + 1]);
        for value in around.chain([0, 1, 2, 3, 5, 7, 1_000_000, u64::MAX - 1, u64::MAX]) {
            assert_eq!(scale.bucket(value), bounds.partition_point(|&bound| bound < value), "{scale:?} {value}");
        }
    }
}

#[test]
fn every_status_has_one_value() {
    let values: Vec<String> = status_values().collect();
    assert_eq!(values.len(), STATUS_COUNT);
    assert_eq!(values.iter().collect::<HashSet<_>>().len(), STATUS_COUNT, "no value twice");
    let of = |status: u16| values[status_index(status)].as_str();
    for (status, value) in
        [(200, "200"), (429, "429"), (529, "529"), (101, "101"), (100, "1xx"), (207, "2xx"), (399, "3xx"), (418, "4xx"), (599, "5xx")]
    {
        assert_eq!(of(status), value, "{status}");
    }
    for status in [0, 42, 99, 600, 999, u16::MAX] {
        assert_eq!(of(status), "other", "{status}");
    }
    for status in 100..600 {
        let value = of(status);
        assert!(value == status.to_string() || value == format!("{}xx", status / 100), "{status} counts as {value}");
    }
}

#[test]
fn label_values_are_plain_words_and_listed_in_order() {
    fn plain<T: Copy>(all: &[T], text: impl Fn(T) -> &'static str, index: impl Fn(T) -> usize) {
        for (place, &value) in all.iter().enumerate() {
            assert_eq!(index(value), place);
            assert!(text(value).chars().all(|char| char.is_ascii_lowercase() || char == '_'), "{}", text(value));
        }
        assert_eq!(all.iter().map(|&value| text(value)).collect::<HashSet<_>>().len(), all.len());
    }
    plain(Phase::ALL, Phase::as_str, Phase::index);
    plain(BatchReason::ALL, BatchReason::as_str, BatchReason::index);
    plain(UpstreamOutcome::ALL, UpstreamOutcome::as_str, UpstreamOutcome::index);
    plain(StreamOutcome::ALL, StreamOutcome::as_str, StreamOutcome::index);
    plain(TokenKind::ALL, TokenKind::as_str, TokenKind::index);
    plain(ShedReason::ALL, ShedReason::as_str, ShedReason::index);
}

#[test]
fn names_follow_the_rules() {
    let mut seen = HashSet::new();
    for (metric, row) in Metric::ALL.iter().zip(&METRICS) {
        assert_eq!(metric.description().name, row.name);
        assert!(seen.insert(row.name), "{} twice", row.name);
        assert!(row.name.starts_with("headrace_"), "{}", row.name);
        assert_eq!(row.kind == Kind::Counter, row.name.ends_with("_total"), "{}", row.name);
        assert!(row.labels.iter().all(|label| *label != "le" && !label.is_empty()));
        assert!(!row.help.is_empty() && !row.help.ends_with('.'), "{}", row.name);
    }
}

#[test]
fn shard_numbers_are_found_by_metric() {
    for (cell, metric) in SHARD_NUMBERS.into_iter().enumerate() {
        assert_eq!(shard_number(metric), cell);
        assert_eq!(metric.description().labels, ["shard"]);
    }
}

/// docs/metrics.md names every metric with its labels, and no other.
#[test]
fn the_page_lists_the_table() {
    let page = include_str!("../../../docs/metrics.md");
    for row in &METRICS {
        let labels = row.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let cells = format!("| `{}` | {} |", row.name, if labels.is_empty() { "-" } else { &labels });
        assert!(page.contains(&cells), "docs/metrics.md lacks a row that begins with: {cells}");
    }
    let listed = page.lines().filter_map(|line| line.strip_prefix("| `headrace_")).map(|line| line.split('`').next().unwrap());
    for name in listed {
        assert!(METRICS.iter().any(|row| row.name == format!("headrace_{name}")), "docs/metrics.md lists headrace_{name}, which is gone");
    }
    let values = Phase::ALL.iter().map(|v| v.as_str()).chain(BatchReason::ALL.iter().map(|v| v.as_str()));
    let values = values.chain(StreamOutcome::ALL.iter().map(|v| v.as_str())).chain(TokenKind::ALL.iter().map(|v| v.as_str()));
    for value in values
        .chain(UpstreamOutcome::ALL.iter().map(|v| v.as_str()))
        .chain(ShedReason::ALL.iter().map(|v| v.as_str()))
        .chain(ShadowOutcome::ALL.iter().map(|v| v.as_str()))
        .chain(SplitOutcome::ALL.iter().map(|v| v.as_str()))
        .chain(MeasureOutcome::ALL.iter().map(|v| v.as_str()))
    {
        assert!(page.contains(&format!("`{value}`")), "docs/metrics.md lacks the label value {value}");
    }
}
