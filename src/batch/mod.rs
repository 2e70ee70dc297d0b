//! The coalescer: turns requests of many clients into few full upstream calls and cuts the answers apart again. One [`Home`] per
//! shard owns the lanes whose home that shard is; it is a machine of four verbs and knows no sockets, no clock, no mesh and no
//! configuration file. [`Tickets`] is the other half: the waiting exchanges of an origin shard. Who may ask what was settled
//! before; how an answer or a failure looks on the wire is settled after (`shard::respond`).
//!
//! A batch's timeline, when the upstream takes one call at a time:
//!
//! ```text
//! jobs     a    b c   d e f g             h i
//! calls    [a------] [b c d e f g------] [h i---]
//!          nothing in flight: at once;   the busy time is the window
//! ```

mod call;
mod cost;
mod held;
mod home;
mod inflight;
mod isolate;
mod job;
mod key;
mod lane;
mod merge;
mod regroup;
mod rule;
mod split;
mod tickets;
mod turns;

#[cfg(test)]
mod tests;

pub use call::{Call, CallBody, CallId, CallOutcome};
pub use home::{Home, HomeLimits, PlantedBug};
pub use job::{Answer, Event, Failure, Job, LaneRules, LeaveReason, Operation, Outcome, Ticket};
pub use key::{LaneKey, lane_hash};
pub use tickets::{Tickets, TicketsFull};
