//! Series by their label values: what blocks are added up into at a scrape, what retired blocks are folded into, and what
//! `prometheus-client` encodes. Keyed by names, not ids, since ids change with each snapshot.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::buckets::Scale;
use super::layout::{Section, Shape};
use super::names::{Kind, Metric};
use crate::mesh::CounterBlock;

/// Series of one metric that are kept at most. The operator's names are few, but they may change with every reload for
/// years; beyond this many, new ones count under `other` in all their labels.
const SERIES_MAX: usize = 100_000;

/// Figures by metric and label values. Cells as in the blocks: one number, or a histogram's buckets and sum.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    metrics: BTreeMap<Metric, BTreeMap<Vec<String>, Box<[u64]>>>,
}

impl Tally {
    /// Adds a block's sections. A series that never counted anything is left out, except the one-number-per-shard kind.
    pub(super) fn add_block(&mut self, sections: &[Section], block: &CounterBlock, shard: u32) {
        for section in sections {
            let cells = section.shape.cells();
            for series in 0..section.series() {
                let first = section.offset + series * cells;
                let mut values = (first..first + cells).map(|cell| block.value(cell));
                if section.shape == Shape::PerShard {
                    self.add(section.metric, vec![shard.to_string()], values);
                } else if values.clone().any(|value| value != 0) {
                    self.add(section.metric, section.label_values(series), &mut values);
                }
            }
        }
    }

    /// Adds figures to a series, which begins at zero.
    pub(super) fn add(&mut self, metric: Metric, labels: Vec<String>, values: impl IntoIterator<Item = u64>) {
        let series = self.metrics.entry(metric).or_default();
        let labels =
            if series.len() < SERIES_MAX || series.contains_key(&labels) { labels } else { vec!["other".to_owned(); labels.len()] };
        let cells = series.entry(labels).or_insert_with(|| vec![0; cells_of(metric)].into());
        for (cell, value) in cells.iter_mut().zip(values) {
            *cell = cell.wrapping_add(value);
        }
    }

    /// The metrics' text, in the order of their table.
    pub(super) fn into_text(self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        let written = prometheus_client::encoding::text::encode(&mut text, &registry);
        debug_assert!(written.is_ok(), "writing into a String does not fail");
        text
    }
}

impl Collector for Tally {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for &metric in Metric::ALL {
            let row = metric.description();
            let (kind, name) = match row.kind {
                // The encoder writes the suffix itself: in OpenMetrics it belongs to the sample, not to the family.
                Kind::Counter => (MetricType::Counter, row.name.strip_suffix("_total").unwrap_or(row.name)),
                Kind::Gauge => (MetricType::Gauge, row.name),
                Kind::Histogram => (MetricType::Histogram, row.name),
            };
            let mut family = encoder.encode_descriptor(name, row.help, None, kind)?;
            for (values, cells) in self.metrics.get(&metric).into_iter().flatten() {
                if row.labels.is_empty() {
                    encode_series(metric, &mut family, cells)?;
                } else {
                    let labels: Vec<(&str, &str)> = row.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
                    encode_series(metric, &mut family.encode_family(&labels)?, cells)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_series(metric: Metric, encoder: &mut MetricEncoder<'_>, cells: &[u64]) -> fmt::Result {
    let number = cells.first().copied().unwrap_or(0);
    match metric.description().kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&number, None),
        Kind::Gauge => encoder.encode_gauge(&number.cast_signed()),
        Kind::Histogram => encode_histogram(scale_of(metric), encoder, cells),
    }
}

/// The count is the sum of the buckets, not a cell of its own, so that the two agree in every scrape.
#[expect(clippy::cast_precision_loss, reason = "sums beyond 2^53 ns (104 days of waiting) lose their last nanoseconds")]
fn encode_histogram(scale: Scale, encoder: &mut MetricEncoder<'_>, cells: &[u64]) -> fmt::Result {
    let Some((&sum, buckets)) = cells.split_last() else { return Ok(()) };
    let bounds = scale.bounds().iter().map(|&bound| bound as f64 / scale.divisor()).chain(std::iter::once(f64::INFINITY));
    let buckets: Vec<(f64, u64)> = bounds.zip(buckets.iter().copied()).collect();
    let count = buckets.iter().map(|&(_, count)| count).sum();
    encoder.encode_histogram::<NoLabelSet>(sum as f64 / scale.divisor(), count, &buckets, None)
}

fn scale_of(metric: Metric) -> Scale {
    match metric {
        Metric::BatchItems => Scale::Items,
        _ => Scale::Time,
    }
}

fn cells_of(metric: Metric) -> usize {
    match metric.description().kind {
        Kind::Counter | Kind::Gauge => 1,
        Kind::Histogram => scale_of(metric).cells(),
    }
}
