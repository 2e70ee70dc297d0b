//! The gateway from outside, in one binary: real sockets on loopback, several shards, threads as clients and model servers, the
//! process itself where memory and signals count. One module per phase; `gate`, `client`, `upstream` and `program` are the stage.
//! What one shard does with scripted bytes is tested beside the shard.
//!
//! `HEADRACE_IO=uring|epoll` picks the driver (default uring). No test waits a fixed time for something to happen: it looks until it
//! has, or a generous bound passes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that cannot go on should stop loudly, and these stand outside the gateway: threads, locks, blocking sockets"
)]

mod gate;

mod client;
mod program;
mod strict;
mod upstream;

mod admin;
mod admission;
mod balance;
mod coalesce;
mod drain;
mod endpoints;
mod forward;
mod hostile;
mod kept;
mod leave;
mod live;
mod read;
mod reload;
mod rollback;
mod rollout;
mod routing;
mod signals;
mod upgrade;

/// The strict reader of the metrics' own tests.
#[path = "../../src/metrics/tests/checker.rs"]
mod checker;
