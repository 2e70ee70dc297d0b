//! What is counted: every metric's name and help in one table (`names`), the bounded label values (`labels`), the histograms'
//! buckets (`buckets`), where each series lies in a counter block (`layout`), the shard's handle (`shard`), and the control
//! plane's view of all shards with the text form (`registry`, `tally`). Nothing here decides anything, no label is made of
//! what a client sent, and how blocks cross cores is settled in mesh. The operator's page is docs/metrics.md.

mod buckets;
mod labels;
mod layout;
mod names;
mod registry;
mod shard;
mod tally;

#[cfg(test)]
mod tests;

pub use labels::{
    BatchReason, BreakerTo, FallbackReason, HedgeResult, MeasureOutcome, Phase, ShadowOutcome, ShedReason, SplitOutcome, StreamOutcome,
    Target, TokenKind, UpstreamOutcome,
};
pub use names::{Description, Kind, METRICS, Metric};
pub use registry::{BreakerCounts, Breakers, CONTENT_TYPE, Registry, SplitCounts, TooManySnapshots};
pub use shard::{RingStats, ShardMetrics};
