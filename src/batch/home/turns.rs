//! How a job comes into a lane where classes and tenants are told apart: it may be refused for what its tenant holds, and others may be
//! put out for it.

use super::Home;
use super::timers::Timer;
use crate::batch::held::Part;
use crate::batch::job::{Event, Job};
use crate::sys::Instant;

impl Home {
    pub(super) fn admit_in_turn(&mut self, job: Job, slot: u32, now: Instant) {
        let (items, deadline) = (job.items(), job.deadline);
        let endpoints = self.lanes[slot as usize].rules.endpoints;
        let Some(key) = self.jobs.insert(job, endpoints) else {
            self.note(Event::Stale);
            return;
        };
        let Some(held) = self.jobs.get_mut(key) else { return };
        held.lane = Some(slot);
        let put_out = match self.lanes[slot as usize].enter(Part { job: key, first: 0, count: items }, held, now) {
            Ok(put_out) => put_out,
            Err(failure) => {
                self.fail(key, failure, now);
                return;
            }
        };
        self.queued_items += items as usize;
        self.timers.set(deadline, Timer::Job(key));
        for (left, why) in put_out {
            let Some(held) = self.jobs.get(left.ticket.job) else { continue };
            let failure = self.lanes[slot as usize].refusal(why, held.job.claim, now);
            self.fail(left.ticket.job, failure, now);
        }
        self.schedule(slot);
    }
}
