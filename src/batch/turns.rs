//! A lane's line where classes and tenants are told apart: who waits stands in the same queue as at an upstream's limit
//! (`policy::Queue`), each item in a place of its own, and is called forward when a batch has room. Those who were called and did not
//! fit, and those who must go again, stand before it and are first in the next batch.
//!
//! ```text
//! enter -> queue: class 16 : 4 : 1, tenants in turns by cost -> call_forward -> line: oldest first -> batch
//!            ^---- the rest of a job that is cut <----------------------------------------------------'
//! ```

use super::held::{Held, Jobs, Part};
use super::job::Failure;
use super::lane::Lane;
use crate::config::limits::LANE_BYTES;
use crate::policy::{Claim, Left, Queue, Refusal, cost_of_items};
use crate::sys::Instant;
use std::time::Duration;

impl Lane {
    /// A new job takes its place. Returned are those who were put out for it, with the reason.
    ///
    /// # Errors
    /// Why it may not wait; nothing changed.
    pub(super) fn enter(&mut self, part: Part, held: &mut Held, now: Instant) -> Result<Vec<(Left<Part>, Refusal)>, Failure> {
        let claim = held.job.claim;
        let deadline = held.job.deadline;
        let late = |before: u32| self.known_wait(before, now).is_some_and(|wait| now + wait > deadline);
        if self.queued_items > 0 && late(self.items_before(claim, part.count, true)) {
            let why = if late(self.items_before(claim, part.count, false)) { Refusal::Late } else { Refusal::Share };
            return Err(self.refusal(why, claim, now));
        }
        let cost = self.cost_of_next(part, held);
        let room = self.fair.as_mut().map_or(Ok(Vec::new()), |queue| queue.make_room(claim, part.count, now));
        let put_out = room.map_err(|why| self.refusal(why, claim, now))?;
        held.place = self.fair.as_mut().map(|queue| queue.join(claim, cost, part.count, part, now));
        self.count_in(part, held);
        Ok(put_out)
    }

    /// The failure of a job that may not wait, or not any longer.
    pub(super) fn refusal(&self, why: Refusal, claim: Claim, now: Instant) -> Failure {
        let retry_after = self.predicted_wait(self.items_before(claim, 1, true), now);
        match why {
            Refusal::Full => Failure::QueueFull { retry_after },
            Refusal::Share => Failure::TenantShare { retry_after },
            Refusal::Late => Failure::PredictedLate { retry_after },
        }
    }

    /// Whoever is next in turn goes to the end of the line. False when nobody is.
    pub(super) fn call_forward(&mut self, jobs: &mut Jobs, now: Instant) -> bool {
        let Some(next) = self.fair.as_mut().and_then(|queue| queue.pop(now)) else { return false };
        if let Some(held) = jobs.get_mut(next.ticket.job) {
            held.place = None;
        }
        self.line.push_back(next.ticket);
        true
    }

    /// The rest of a job of which a batch has taken a part: its tenant's turn goes on, or is over.
    pub(super) fn put_back(&mut self, rest: Part, held: &mut Held) {
        let cost = self.cost_of_next(rest, held);
        let (claim, arrived) = (held.job.claim, held.job.arrived);
        held.place = self.fair.as_mut().map(|queue| queue.put_back(claim, cost, rest.count, rest, arrived));
    }

    /// The items that leave before a newcomer's.
    fn items_before(&self, claim: Claim, items: u32, own: bool) -> u32 {
        let Some(queue) = &self.fair else { return self.queued_items };
        let in_line = u64::from(self.queued_items).saturating_sub(queue.places());
        u32::try_from(in_line + queue.places_before(claim, items, own)).unwrap_or(u32::MAX)
    }

    /// What is to be paid for when the part is next: no more of it than a batch can take.
    fn cost_of_next(&self, part: Part, held: &Held) -> u64 {
        let count = part.count.min(self.rules.max_items);
        cost_of_items(count, held.bytes_of(part.first, count))
    }

    /// A guess at how long a job would wait behind so many items, for clients that are turned away.
    pub(super) fn predicted_wait(&self, before: u32, now: Instant) -> Duration {
        self.known_wait(before, now).map_or(RETRY_AFTER_MAX, |time| time.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
    }
}

// `headrace check` promises what a lane costs beside its key.
const _: () = assert!((size_of::<Lane>() + size_of::<Queue<Part>>()) as u64 <= LANE_BYTES);

const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
