//! Decisions about a request and where it goes, as pure values: which route or model (`route`, on one normal form of the path,
//! `path`), which endpoint (`balance`), whether an endpoint is usable (`health`), whether a failed call may be tried again
//! (`retry`), which shard serves a connection (`spread`), which arm of a split model serves a request (`split`) and how far its canary
//! may go (`rollout`, `sequential`). It opens no connection, reads no clock (time and jitter are arguments) and writes no answer (respond does).

mod balance;
mod health;
mod path;
mod retry;
mod rollout;
mod route;
mod sequential;
mod split;
mod spread;

#[cfg(test)]
pub(crate) mod tests;

pub use balance::Balancer;
pub use health::Health;
pub use path::{PathError, normal_form};
pub use retry::{Attempt, CALLS_MAX, Failure, Retry, decide};
pub use rollout::{ArmCounts, Cause, Event as RolloutEvent, LOOK_EVERY, Order, Rollout, Stage};
pub use route::{Operation, Router};
pub use sequential::{RateTest, Sample};
pub use split::sticky_point;
pub use spread::{ShardLoad, is_better_there};
