//! The memory a configuration allows, as a sum an operator can read. Three kinds of lines: what stands from the start, what comes with
//! load up to a bound, and the worst case, in which every client holds the largest body at once.

use super::limits::{
    CONNECTION_BYTES, EXCHANGE_BYTES, INBOX_SLOT_BYTES, JOB_BYTES, LANE_BYTES, LANES_MAX, POOLED_CONNECTION_BYTES, PREFIX_ENTRY_BYTES,
    RECEIVE_BUFFER_GAP_BYTES, SHADOW_BODY_BYTES_MAX, SHARD_BYTES, STREAM_BYTES, WAITER_BYTES,
};
use super::{BatchingMode, Config};

/// One line of the sum.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct MemoryLine {
    pub kind: MemoryKind,
    /// What it is, with the keys that set it.
    pub what: &'static str,
    pub count: u64,
    pub bytes_each: u64,
    /// `count * bytes_each`.
    pub total_bytes: u64,
}

/// When memory is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// Allocated at the start.
    Standing,
    /// Grows with clients up to this.
    Load,
    /// Only when everything is as large as allowed, at once.
    Worst,
}

/// The whole sum.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Memory {
    pub lines: Vec<MemoryLine>,
    /// Allocated at the start.
    pub standing_bytes: u64,
    /// Standing, and every connection, lane and pool at its bound.
    pub load_bytes: u64,
    /// That, and every held body and answer as large as allowed.
    pub worst_bytes: u64,
}

/// The sum for `shards` shards.
#[must_use]
pub fn memory(config: &Config, shards: u32) -> Memory {
    let shards = u64::from(shards.max(1));
    let server = &config.server;
    let connections = shards * u64::from(server.max_connections);
    let pooled = config.upstreams.iter().map(|one| one.endpoints.len() as u64 * u64::from(one.pool_max_idle)).sum::<u64>() * shards;
    let coalesces = config.models.iter().any(|model| model.batching.mode != BatchingMode::Off);
    let lanes = if coalesces { shards * LANES_MAX as u64 } else { 0 };
    // A connection has one exchange at a time, and an exchange at most one job: the jobs are bounded by the connections.
    let jobs = if coalesces { connections } else { 0 };
    let waiting =
        config.upstreams.iter().filter_map(|one| one.concurrency.as_ref()).map(|one| u64::from(one.queue_max)).sum::<u64>() * shards;
    let mut lines = vec![
        line(MemoryKind::Standing, "shards: ring, timers, counters", shards, SHARD_BYTES),
        line(
            MemoryKind::Standing,
            "receive buffers (server.receive_buffers x receive_buffer)",
            shards * u64::from(server.receive_buffers),
            u64::from(server.receive_buffer_bytes) + RECEIVE_BUFFER_GAP_BYTES,
        ),
        line(MemoryKind::Standing, "inboxes (server.inbox_slots)", shards * u64::from(server.inbox_slots), INBOX_SLOT_BYTES),
        line(MemoryKind::Load, "connections (server.max_connections)", connections, CONNECTION_BYTES),
        line(MemoryKind::Load, "pooled connections (upstreams.pool_max_idle)", pooled, POOLED_CONNECTION_BYTES),
        line(MemoryKind::Load, "lanes", lanes, LANE_BYTES),
        line(MemoryKind::Load, "jobs waiting in lanes, without bodies", jobs, JOB_BYTES),
        line(MemoryKind::Load, "requests waiting for a place (upstreams.concurrency.queue_max), without bodies", waiting, WAITER_BYTES),
        line(MemoryKind::Worst, "request heads and bytes sent ahead", connections, EXCHANGE_BYTES),
        line(
            MemoryKind::Worst,
            "event streams: a first event held back, an event in pieces, arrivals not taken",
            connections,
            STREAM_BYTES,
        ),
        line(MemoryKind::Worst, "held request bodies (server.max_held)", shards, server.max_held_bytes),
    ];
    let blocks: u64 =
        config.upstreams.iter().filter_map(|one| one.steering.prefix_affinity).map(|prefix| u64::from(prefix.entries())).sum();
    if blocks > 0 {
        lines.push(line(MemoryKind::Standing, "prompt index (upstreams.prefix_affinity.max_entries)", shards * blocks, PREFIX_ENTRY_BYTES));
    }
    lines.extend(merged_calls(config));
    let copies =
        config.written_models().filter_map(|model| model.shadow.as_ref()).map(|shadow| u64::from(shadow.max_in_flight)).sum::<u64>();
    if copies > 0 {
        lines.push(line(MemoryKind::Worst, "copies for shadows (models.shadow.max_in_flight)", shards * copies, SHADOW_BODY_BYTES_MAX));
    }
    let sum = |kinds: &[MemoryKind]| {
        lines.iter().filter(|line| kinds.contains(&line.kind)).fold(0_u64, |sum, line| sum.saturating_add(line.total_bytes))
    };
    Memory {
        standing_bytes: sum(&[MemoryKind::Standing]),
        load_bytes: sum(&[MemoryKind::Standing, MemoryKind::Load]),
        worst_bytes: sum(&[MemoryKind::Standing, MemoryKind::Load, MemoryKind::Worst]),
        lines,
    }
}

/// Merged calls and their answers: one line per distinct size, summed over models.
fn merged_calls(config: &Config) -> Vec<MemoryLine> {
    let mut lines = Vec::new();
    let mut sizes: Vec<(u64, u64, u64)> = Vec::new();
    for model in config.models.iter().filter(|model| model.batching.mode != BatchingMode::Off) {
        let upstream = config.upstream(model.upstream);
        let calls = upstream.endpoints.len() as u64 * u64::from(model.batching.in_flight);
        match sizes.iter_mut().find(|(request, answer, _)| *request == model.batching.max_bytes && *answer == upstream.max_response_bytes) {
            Some((_, _, count)) => *count += calls,
            None => sizes.push((model.batching.max_bytes, upstream.max_response_bytes, calls)),
        }
    }
    for (request, answer, count) in sizes {
        lines.push(line(MemoryKind::Worst, "merged calls (models.batching.in_flight x max_bytes)", count, request));
        lines.push(line(MemoryKind::Worst, "their answers, held whole (upstreams.max_response)", count, answer));
    }
    lines
}

fn line(kind: MemoryKind, what: &'static str, count: u64, bytes_each: u64) -> MemoryLine {
    MemoryLine { kind, what, count, bytes_each, total_bytes: count.saturating_mul(bytes_each) }
}
