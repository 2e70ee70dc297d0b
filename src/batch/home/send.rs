//! From queues to calls: asks `rule` whether a lane's batch leaves, takes the batch, puts the body together.

use super::Home;
use super::calls::{Flight, Member};
use crate::batch::call::{Call, CallBody};
use crate::batch::held::{Part, Parts};
use crate::batch::isolate::Suspects;
use crate::batch::job::{Event, LeaveReason, Operation};
use crate::batch::merge;
use crate::batch::rule::{self, Verdict};
use crate::config::ModelId;
use crate::sys::Instant;
use smallvec::SmallVec;

/// What a call is made of besides its parts.
struct Sending {
    lane: Option<u32>,
    endpoint: u32,
    reason: LeaveReason,
    suspects: Option<Suspects>,
}

impl Home {
    pub(super) fn next_call(&mut self, now: Instant) -> Option<Call> {
        if let Some(call) = self.next_bypass(now) {
            return Some(call);
        }
        while let Some(slot) = self.scheduled.pop_front() {
            self.lanes[slot as usize].is_scheduled = false;
            if let Some(call) = self.next_of_lane(slot, now) {
                // Perhaps there is more; but the other lanes first.
                self.schedule(slot);
                return Some(call);
            }
        }
        None
    }

    /// Jobs past the lanes go one by one, round the endpoints.
    fn next_bypass(&mut self, now: Instant) -> Option<Call> {
        while self.bypass_in_flight < BYPASS_IN_FLIGHT_MAX {
            let key = self.bypass.pop_front()?;
            let Some(held) = self.jobs.get(key) else { continue };
            self.turn = self.turn.wrapping_add(1);
            let endpoints = held.endpoints.max(1);
            let mut endpoint = self.turn % endpoints;
            if held.avoid == Some(endpoint) {
                endpoint = (endpoint + 1) % endpoints;
            }
            let whole = Part { job: key, first: 0, count: held.job.items() };
            self.bypass_in_flight += 1;
            return self.send(
                &Parts::from_elem(whole, 1),
                Sending { lane: None, endpoint, reason: LeaveReason::Solo, suspects: None },
                now,
            );
        }
        None
    }

    fn next_of_lane(&mut self, slot: u32, now: Instant) -> Option<Call> {
        let lane = &mut self.lanes[slot as usize];
        let waiting = lane.waiting(&self.jobs, now);
        // Isolation goes ahead of new batches, turn and turn about when both wait.
        let batch_first = lane.batch_next && waiting.is_some();
        if !lane.isolation.is_empty() && !batch_first {
            if let Some(call) = self.next_suspects(slot, now) {
                return Some(call);
            }
            if !self.lanes[slot as usize].isolation.is_empty() {
                return None;
            }
        }
        let waiting = waiting?;
        let lane = &mut self.lanes[slot as usize];
        let verdict = if lane.is_solo(now) {
            match rule::slot(&lane.endpoints, lane.slots(now), waiting.avoid, lane.turn, now) {
                Ok(endpoint) => Verdict::Send { endpoint, reason: LeaveReason::Solo },
                Err(resume) => Verdict::Wait(resume),
            }
        } else {
            rule::decide(&lane.rules, lane.limit(), &lane.endpoints, waiting, lane.turn, now)
        };
        match verdict {
            Verdict::Wait(None) => None,
            Verdict::Wait(Some(until)) => {
                self.wake_at(slot, until);
                None
            }
            Verdict::Send { endpoint, reason } => {
                lane.batch_next = false;
                let queued = lane.queued_items;
                let parts = lane.take_batch(&mut self.jobs, now);
                lane.endpoints[endpoint as usize].regroup.left(queued, queued - lane.queued_items, waiting.full);
                self.queued_items -= parts.iter().map(|part| part.count as usize).sum::<usize>();
                self.send(&parts, Sending { lane: Some(slot), endpoint, reason, suspects: None }, now)
            }
        }
    }

    fn next_suspects(&mut self, slot: u32, now: Instant) -> Option<Call> {
        let lane = &mut self.lanes[slot as usize];
        let first = lane.isolation.first().and_then(|part| self.jobs.get(part.job));
        let avoid = first.and_then(|held| held.avoid);
        let endpoint = match rule::slot(&lane.endpoints, lane.slots(now), avoid, lane.turn, now) {
            Ok(endpoint) => endpoint,
            Err(resume) => {
                if let Some(until) = resume {
                    self.wake_at(slot, until);
                }
                return None;
            }
        };
        let (parts, suspects) = lane.isolation.next(|part| self.jobs.is_live(part.job))?;
        lane.batch_next = true;
        self.send(&parts, Sending { lane: Some(slot), endpoint, reason: LeaveReason::Isolation, suspects: Some(suspects) }, now)
    }

    /// Puts the call together and books it. `parts` are live and there is at least one.
    fn send(&mut self, parts: &Parts, sending: Sending, now: Instant) -> Option<Call> {
        let slot = self.calls.next_slot();
        let items = parts.iter().map(|part| part.count).sum();
        let mut deadline = Instant::ZERO;
        let mut members = SmallVec::with_capacity(parts.len());
        for part in parts {
            let Some(held) = self.jobs.get_mut(part.job) else { continue };
            deadline = deadline.max(held.job.deadline);
            members.push(Member { part: *part, weight: held.weight_of(part.first, part.count) });
            held.calls.push(slot);
            held.batch_items = held.batch_items.max(items);
            if held.left_at.is_none() {
                held.left_at = Some(now);
                let event = Event::JobLeft {
                    generation: held.job.generation,
                    model: held.job.model,
                    operation: held.job.operation,
                    waited: now.since(held.job.arrived),
                };
                self.note(event);
            }
        }
        let first = self.jobs.get(parts.first()?.job)?;
        let (generation, model, operation) = (first.job.generation, first.job.model, first.job.operation);
        let alone = match parts.as_slice() {
            [part] => sending.lane.is_none() || first.whole || first.covers(*part),
            _ => false,
        };
        let body = match sending.lane {
            Some(lane) if !alone => {
                let key = self.lanes[lane as usize].key.borrow();
                let (body, len) = merge::embeddings::merge(&key, parts, &self.jobs);
                CallBody::Merged { body, len, credential: first.job.credential.clone() }
            }
            _ => CallBody::Alone { message: first.job.message.clone() },
        };
        let jobs = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        self.count_sent(&sending, slot, items, now);
        self.note(Event::BatchLeft { generation, model, operation, reason: sending.reason, items, jobs });
        let endpoint = sending.endpoint;
        let id = self.calls.insert(Flight::new(sending.lane, endpoint, members, items, alone, now, sending.suspects));
        Some(Call { id, model, generation, endpoint, deadline, body })
    }

    fn count_sent(&mut self, sending: &Sending, slot: u32, items: u32, now: Instant) {
        if let Some(lane) = sending.lane {
            let lane = &mut self.lanes[lane as usize];
            lane.endpoints[sending.endpoint as usize].begin(slot, items, now);
            lane.turn = lane.turn.wrapping_add(1);
        }
    }

    /// What labels a lane's events.
    pub(super) fn labels(&self, lane: u32) -> (u32, ModelId, Operation) {
        let key = self.lanes[lane as usize].key.borrow();
        (key.generation, key.model, key.operation)
    }
}

/// Calls past the lanes in flight at once; the others wait their turn.
const BYPASS_IN_FLIGHT_MAX: u32 = 1024;
