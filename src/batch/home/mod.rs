//! The home of lanes: temporary shape of the public face; the machine follows.

use super::call::{Call, CallId, CallOutcome};
use super::job::{Answer, Event, Job, LaneRules, Ticket};
use crate::sys::Instant;

/// Bounds of one home and what happens at each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HomeLimits {
    /// Seed of the tables; any number, drawn at start.
    pub seed: u64,
    /// Lanes kept; beyond it an idle one is forgotten, and when none is idle the job goes past the lanes, alone.
    pub max_lanes: u32,
    /// Jobs queued and sent; beyond it a job is shed with [`super::Failure::QueueFull`].
    pub max_jobs: u32,
    /// Message bytes of all jobs held; beyond it a job is shed with [`super::Failure::QueueFull`].
    pub max_bytes: u64,
    /// Lane key bytes (credential and the body without its input); a job with more goes past the lanes, alone.
    pub max_key_bytes: u32,
    /// Only for tests of the tests: a wrong the machine does now and then, which the simulation must notice.
    pub planted_bug: Option<PlantedBug>,
}

impl Default for HomeLimits {
    fn default() -> HomeLimits {
        HomeLimits { seed: 0, max_lanes: 1024, max_jobs: 65_536, max_bytes: 256 << 20, max_key_bytes: 64 << 10, planted_bug: None }
    }
}

/// A wrong that the simulation must notice. Never set it in a process that serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlantedBug {
    /// Two members of a call get each other's answers when the upstream answers out of order and a third has left.
    SwapAnswers,
    /// A member whose client leaves just before its call is retried is counted as gone twice.
    LoseRequeued,
}

/// The batchers of one shard.
///
/// A shard's turn: `handle_*` for everything that came in, then `poll_call`, `poll_abort`, `poll_answer` and `poll_event` until
/// each returns `None`; sleep no longer than `next_timeout`.
#[derive(Debug)]
pub struct Home {
    limits: HomeLimits,
}

impl Home {
    #[must_use]
    pub fn new(limits: HomeLimits) -> Home {
        Home { limits }
    }

    /// A job arrives from its origin. It ends with exactly one [`Answer`], unless it is cancelled.
    pub fn handle_job(&mut self, job: Job, rules: &LaneRules, now: Instant) {
        let _ = (job, rules, now, self.limits);
    }

    /// The client behind `ticket` has left. No answer comes for it any more.
    pub fn handle_cancel(&mut self, ticket: Ticket, now: Instant) {
        let _ = (ticket, now);
    }

    /// What came of a call. Ignored when the call was aborted meanwhile.
    pub fn handle_outcome(&mut self, id: CallId, outcome: CallOutcome, now: Instant) {
        let _ = (id, outcome, now);
    }

    /// Ends jobs whose deadline has passed and wakes lanes whose moment has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// The next call to send. Asked at the end of a turn, so that jobs of one turn share a call.
    pub fn poll_call(&mut self, now: Instant) -> Option<Call> {
        let _ = now;
        None
    }

    /// A call nobody waits for any more: close its connection. No outcome is expected for it.
    pub fn poll_abort(&mut self) -> Option<CallId> {
        None
    }

    /// The next answer to carry to its origin.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        None
    }

    /// The next thing to count.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// When `handle_timeout` is next of use.
    #[must_use]
    pub fn next_timeout(&mut self) -> Option<Instant> {
        None
    }

    /// Jobs held, queued and sent.
    #[must_use]
    pub fn jobs(&self) -> usize {
        0
    }

    /// Items waiting in all lanes.
    #[must_use]
    pub fn queued_items(&self) -> usize {
        0
    }

    /// Lanes known, busy and idle.
    #[must_use]
    pub fn lanes(&self) -> usize {
        0
    }

    /// Calls in flight.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        0
    }

    /// Message bytes of all jobs held.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        0
    }
}
