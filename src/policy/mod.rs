//! Decisions about a request and where it goes, as pure values: which route or model (`route`, on one normal form of the path,
//! `path`), which endpoint (`balance`), what engines tell of their load (`engine`), whether an endpoint is usable (`health`, with a
//! `breaker` each), whether a failed call may be tried again (`retry`), when a slow one is doubled (`hedge`), which shard serves a
//! connection (`spread`), how many requests an upstream is given at a time (`limit`, `adaptive`) and who of those that wait is next
//! (`queue`), which arm of a split model serves a request (`split`), which answers are bad by a metric
//! (`measure`), how far a canary may go (`rollout`, `sequential`) and what of that outlives the process (`kept`). It opens no connection, reads no clock (time and jitter are arguments) and writes no answer (respond does).

mod adaptive;
mod balance;
mod breaker;
mod engine;
mod health;
mod hedge;
mod kept;
mod limit;
mod measure;
mod path;
mod queue;
mod retry;
mod rollout;
mod route;
mod sequential;
mod split;
mod spread;

#[cfg(test)]
pub(crate) mod tests;

pub use adaptive::{Adaptive, Round};
pub use balance::{Ask, Balancer, Candidate, Choice, Explanation, Prompt, Report, Why, Wish, hash_bytes, join};
pub use breaker::{BreakerState, CallEnd, Change, Ended, Tripped};
pub use engine::{read_orca, read_scrape};
pub use health::{Health, Standing, View};
pub use hedge::Hedger;
pub use kept::KeptRollout;
pub use limit::{Limit, ShardClaim, next_shard};
pub use measure::StreamSeen;
pub use path::{PathError, normal_form};
pub use queue::{Claim, Class, Left, Place, Queue, Refusal, cost, cost_of_items};
pub use retry::{Attempt, Budget, Failure, Retry, backoff, decide, failure_of};
pub use rollout::{ArmCounts, Cause, Event as RolloutEvent, Evidence, LOOK_EVERY, Order, Rollout, Stage};
pub use route::{Operation, Router};
pub use sequential::{RateTest, Sample};
pub use split::sticky_point;
pub use spread::{ShardLoad, is_better_there};
