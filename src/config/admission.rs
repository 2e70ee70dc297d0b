//! The checked form of `[admission]`, `upstreams.concurrency` and `server.memory_max`.

use std::time::Duration;

/// By which fields of a request its priority and tenant are known. Names in lower case.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Admission {
    /// `None`: every request is `normal`.
    pub priority_header: Option<String>,
    /// `None`: the credential names the tenant.
    pub tenant_header: Option<String>,
}

/// How many requests an upstream is given at a time, and who waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Concurrency {
    pub limit: ConcurrencyLimit,
    /// Requests that may wait, per shard. Default 1024.
    pub queue_max: u32,
    /// How long one may wait. Default 10 s.
    pub queue_timeout: Duration,
}

/// Requests at a time, of all shards together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConcurrencyLimit {
    Fixed(u32),
    /// Learned by each shard.
    Adaptive {
        min: u32,
        max: u32,
    },
}

/// The ceiling on the process's resident memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryMax {
    /// Four fifths of the cgroup's `memory.max`, where there is one. Default.
    Auto,
    None,
    Bytes(u64),
}
