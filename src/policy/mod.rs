//! Decisions about a request and where it goes, as pure values: which route or model (`route`, on one normal form of the path,
//! `path`), which endpoint (`balance`), whether an endpoint is usable (`health`), whether a failed call may be tried again
//! (`retry`), which shard serves a connection (`spread`). It opens no connection, reads no clock (time and jitter are arguments) and writes no answer (respond does).

mod balance;
mod health;
mod path;
mod retry;
mod route;
mod spread;

#[cfg(test)]
pub(crate) mod tests;

pub use balance::Balancer;
pub use health::Health;
pub use path::{PathError, normal_form};
pub use retry::{Attempt, CALLS_MAX, Failure, Retry, decide};
pub use route::{Operation, Router};
pub use spread::{ShardLoad, is_better_there};
