//! The one place where a job ends: it leaves the table, its lane, its calls, and at most one answer goes out for it. A call whose
//! last member ends is aborted here.

use super::Home;
use crate::batch::held::{Held, JobKey, Parts};
use crate::batch::isolate::Found;
use crate::batch::job::{Answer, Failure, Outcome};
use crate::sys::Instant;

impl Home {
    pub(super) fn fail(&mut self, key: JobKey, failure: Failure, now: Instant) {
        self.answer(key, Outcome::Failed(failure), now);
    }

    /// Ends a job with its answer; nothing happens when it has ended already.
    pub(super) fn answer(&mut self, key: JobKey, outcome: Outcome, now: Instant) {
        let Some(held) = self.remove(key) else { return };
        let waited = held.left_at.unwrap_or(now).since(held.job.arrived);
        self.answers.push_back(Answer { ticket: held.job.ticket, outcome, batch_items: held.batch_items, waited });
    }

    /// Ends a job without an answer: nobody is there to get it.
    pub(super) fn drop_job(&mut self, key: JobKey) {
        self.remove(key);
    }

    fn remove(&mut self, key: JobKey) -> Option<Held> {
        let mut held = self.jobs.remove(key)?;
        self.queued_items -= held.queued_items as usize;
        if let Some(slot) = held.lane
            && let Some(lane) = self.lanes.get_mut(slot as usize)
        {
            lane.forget_queued(held.queued_items, held.queued_bytes, held.place, &self.jobs);
            self.schedule(slot);
        }
        for slot in std::mem::take(&mut held.calls) {
            self.leave_call(slot);
        }
        Some(held)
    }

    /// One member less waits for the call in `slot`; the last one leaving aborts it.
    pub(super) fn leave_call(&mut self, slot: u32) {
        let Some(flight) = self.calls.in_slot_mut(slot) else { return };
        flight.live_count -= 1;
        if flight.live_count > 0 {
            return;
        }
        let Some(id) = self.calls.id_of(slot) else { return };
        let Some(flight) = self.calls.take(id) else { return };
        self.aborts.push_back(id);
        self.free_slot(slot, flight.lane, flight.endpoint);
        if let (Some(lane), Some(suspects)) = (flight.lane, flight.suspects) {
            // What those who left would have proved stays open.
            self.lanes[lane as usize].isolation.settle(suspects, Found::Again(Parts::new()));
        }
    }

    /// A call is over, one way or another: its place at the endpoint is free.
    pub(super) fn free_slot(&mut self, slot: u32, lane: Option<u32>, endpoint: u32) {
        match lane {
            None => self.bypass_in_flight -= 1,
            Some(lane) => {
                self.lanes[lane as usize].endpoints[endpoint as usize].end(slot);
                self.schedule(lane);
            }
        }
    }
}
