//! Decisions about a request and where it goes, as pure values: which route or model (`route`, on one normal form of the path,
//! `path`), which endpoint (`balance`), what engines tell of their load (`engine`), whether an endpoint is usable (`health`), whether a failed call may be tried again
//! (`retry`), which shard serves a connection (`spread`). It opens no connection, reads no clock (time and jitter are arguments) and writes no answer (respond does).

mod balance;
mod engine;
mod health;
mod path;
mod retry;
mod route;
mod spread;

#[cfg(test)]
pub(crate) mod tests;

pub use balance::{Ask, Balancer, Candidate, Choice, Explanation, Prompt, Report, Why, Wish, hash_bytes, join};
pub use engine::{read_orca, read_scrape};
pub use health::Health;
pub use path::{PathError, normal_form};
pub use retry::{Attempt, CALLS_MAX, Failure, Retry, decide};
pub use route::{Operation, Router};
pub use spread::{ShardLoad, is_better_there};
