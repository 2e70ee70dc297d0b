//! Every default, once. The reasons stand where a person reads them: beside the key in `raw` (the schema) and in
//! docs/configuration.md; tests hold the three together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::BatchingMode;

pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
pub const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
pub const MAX_CONNECTIONS: u32 = 10_000;
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
pub const HALF_CLOSE: bool = false;
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(600);
pub const MAX_BODY_BYTES: u64 = 32 << 20;
pub const MAX_HELD_BYTES: u64 = 256 << 20;
pub const RECEIVE_BUFFERS: u16 = 1024;
pub const RECEIVE_BUFFER_BYTES: u32 = 32 << 10;
pub const INBOX_SLOTS: u32 = 4096;
pub const TRUST_FORWARDED: bool = false;
pub const DEBUG_HEADERS: bool = false;

pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(120);
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(600);
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
pub const POOL_MAX_IDLE: u32 = 1024;
pub const MAX_RESPONSE_BYTES: u64 = 64 << 20;
pub const FORWARD_AUTHORIZATION: bool = false;
pub const WEIGHT: u32 = 1;
pub const WEBSOCKET: bool = false;
pub const WEBSOCKET_IDLE_TIMEOUT: Duration = Duration::from_mins(5);

pub const CONCURRENCY_MIN: u32 = 1;
pub const CONCURRENCY_MAX: u32 = 1024;
pub const QUEUE_MAX: u32 = 1024;
pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);
pub const ZONE_SPILL: u32 = 8;
pub const SCRAPE_INTERVAL: Duration = Duration::from_millis(500);
pub const PREFIX_ENTRIES: u32 = 65_536;
pub const PREFIX_BYTES: u64 = 1 << 20;
pub const PREFIX_LOAD_FACTOR: f64 = 1.25;

pub const MAX_ITEMS: u32 = 32;
pub const MAX_BATCH_BYTES: u64 = 2 << 20;
pub const MAX_DELAY: Duration = Duration::ZERO;
pub const MAX_QUEUE_ITEMS: u32 = 4096;

pub const TARGET_WEIGHT: u32 = 1;
pub const SHADOW_PERCENT: u32 = 100;
pub const SHADOW_IN_FLIGHT: u32 = 32;
pub const STEPS: &[u32] = &[1, 5, 25, 50, 100];
pub const STEP_TIME: Duration = Duration::from_secs(300);
pub const STEP_REQUESTS: u64 = 100;
pub const ERROR_RATE_INCREASE: f64 = 0.02;
pub const LATENCY_INCREASE: f64 = 0.5;
pub const FALSE_ALARM: f64 = 0.01;
pub const METRIC_RATE_INCREASE: f64 = 0.05;

/// Merged calls in flight per endpoint: an exclusive upstream would queue the second one unmerged, a batching one merges again (and
/// the lane learns how many of these pay).
#[must_use]
pub const fn in_flight(mode: BatchingMode) -> u32 {
    match mode {
        BatchingMode::Exclusive | BatchingMode::Off => 1,
        BatchingMode::Batching => 4,
    }
}
