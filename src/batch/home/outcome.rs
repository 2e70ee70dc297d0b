//! What came of a call, judged: who is served, whose fault it was, who is called again and how. Answers are cut in `serve`.
//!
//! | outcome | one member | several |
//! |---|---|---|
//! | 200 | its answer | cut and shared; when it cannot be cut the lane goes solo and all are called alone |
//! | 429, 503 | pause, again; the last one's refusal is passed on | pause, again, not their fault |
//! | 413, "batch size" | several items: learn the limit and cut; else its own | learn the limit, again |
//! | 408, 504 | its own | failed; the upstream may still compute |
//! | other 4xx, 5xx | its own | halve until the culprit is alone |
//! | nothing sent | again elsewhere | the same |
//! | broken | once more | halves, then one by one |
//! | no answer in time | failed, never again | the same |
//! | answer too large | failed | halves |

use super::calls::Flight;
use super::{Home, PlantedBug, Timer};
use crate::batch::call::{CallId, CallOutcome};
use crate::batch::cost::told_limit;
use crate::batch::held::{JobKey, Jobs, Part, Parts};
use crate::batch::inflight::Ended;
use crate::batch::isolate::{Found, told_culprit};
use crate::batch::job::{Event, Failure, Outcome};
use crate::config::BatchingMode;
use crate::json::Pieces;
use crate::sys::Instant;
use bytes::Bytes;
use std::time::Duration;

/// A whole answer of the upstream.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) fields: Bytes,
    pub(super) body: Bytes,
    pub(super) retry_after: Option<Duration>,
}

impl Answered {
    /// As it is, for the one client whose own call it answers.
    fn verbatim(&self) -> Outcome {
        Outcome::Done { status: self.status, fields: self.fields.clone(), body: Pieces::from_iter([self.body.clone()]) }
    }
}

impl Home {
    pub(super) fn judge(&mut self, id: CallId, outcome: CallOutcome, now: Instant) {
        let Some(mut flight) = self.calls.take(id) else {
            // Over before it could be aborted: nothing is left to close.
            self.aborts.retain(|aborted| *aborted != id);
            self.note(Event::Stale);
            return;
        };
        for member in &flight.members {
            if let Some(held) = self.jobs.get_mut(member.part.job) {
                held.calls.retain(|slot| *slot != id.slot);
            }
        }
        self.free_slot(id.slot, flight.lane, flight.endpoint);
        let Some(lane) = flight.lane else {
            self.judge_past_lanes(&flight, outcome, now);
            return;
        };
        let suspects = flight.suspects.take();
        let (found, hint) = self.judge_in_lane(lane, &flight, suspects.is_some(), outcome, now);
        let Some(suspects) = suspects else {
            self.follow(lane, found, hint);
            return;
        };
        let closed = self.lanes[lane as usize].isolation.settle(suspects, found);
        if closed.is_some_and(|closed| closed.all_culprits) {
            // Nobody gained from being together; a wrong model name or credential looks like this.
            self.go_solo(lane, now);
        }
    }

    /// What a verdict on an ordinary batch leads to.
    fn follow(&mut self, lane: u32, found: Found, hint: Option<usize>) {
        match found {
            Found::Served | Found::Culprit => {}
            Found::Guilty(parts) => {
                let (generation, model, operation) = self.labels(lane);
                self.note(Event::Poisoned { generation, model, operation });
                self.lanes[lane as usize].isolation.begin(parts, hint);
            }
            Found::Again(parts) => self.requeue(lane, &parts),
            Found::Halves(parts) => self.lanes[lane as usize].isolation.begin_halves(parts),
            Found::Singly(parts) => self.lanes[lane as usize].isolation.begin_singly(parts),
        }
    }

    fn judge_in_lane(&mut self, lane: u32, flight: &Flight, isolating: bool, outcome: CallOutcome, now: Instant) -> (Found, Option<usize>) {
        let mut live = flight.parts();
        live.retain(|part| self.jobs.is_live(part.job));
        let found = match outcome {
            CallOutcome::Answered { status, fields, body, retry_after } => {
                let answered = Answered { status, fields, body, retry_after };
                return self.judge_answer(lane, flight, isolating, live, &answered, now);
            }
            CallOutcome::NotSent => self.unsent(lane, flight, live, now),
            CallOutcome::Broken => self.broken(lane, flight, live, now),
            CallOutcome::TimedOut => self.timed_out(lane, flight, &live, now),
            CallOutcome::TooLarge => self.too_large(lane, flight, live, now),
        };
        (found, None)
    }

    fn judge_answer(
        &mut self,
        lane: u32,
        flight: &Flight,
        isolating: bool,
        live: Parts,
        answered: &Answered,
        now: Instant,
    ) -> (Found, Option<usize>) {
        if !matches!(answered.status, 429 | 503) {
            self.lanes[lane as usize].endpoints[flight.endpoint as usize].is_there();
        }
        let found = match answered.status {
            200 if flight.alone => self.serve_alone(lane, flight, &live, answered, now),
            200 => self.serve(lane, flight, live, answered, now),
            429 | 503 => self.overloaded(lane, flight, live, answered, now),
            status if self.teaches_limit(lane, flight, status, &answered.body, now) => self.shrink(lane, isolating, live),
            _ if flight.members.len() == 1 => {
                // Nobody else's items were in it, so nobody else's text is in the error.
                self.answer_all(&live, &answered.verbatim(), now);
                if answered.status >= 400 { Found::Culprit } else { Found::Served }
            }
            408 | 504 => self.timed_out(lane, flight, &live, now),
            status if status >= 400 => {
                let hint = told_culprit(&answered.body).and_then(|item| part_with(flight, &live, item));
                return (Found::Guilty(live), hint);
            }
            _ => self.wrong(lane, live, now),
        };
        (found, None)
    }

    fn serve_alone(&mut self, lane: u32, flight: &Flight, live: &Parts, answered: &Answered, now: Instant) -> Found {
        self.went_well(lane, flight, now);
        self.answer_all(live, &answered.verbatim(), now);
        Found::Served
    }

    /// Learns what a good answer teaches about the upstream.
    pub(super) fn went_well(&mut self, lane: u32, flight: &Flight, now: Instant) {
        let lane = &mut self.lanes[lane as usize];
        if lane.is_solo(now) {
            return;
        }
        let full = flight.items >= lane.caps.items(now);
        lane.caps.good(flight.items);
        let in_line = lane.rules.mode != BatchingMode::Batching;
        if !in_line {
            let (fresh_items, stay) = stayed(flight, &self.jobs, lane.in_flight.since(), now);
            let ended = Ended { sent: flight.sent, items: flight.items, full, fresh_items, stay };
            lane.in_flight.handle_call(ended, now);
        }
        let queued = lane.queued_items;
        let endpoint = &mut lane.endpoints[flight.endpoint as usize];
        endpoint.succeeded(flight.items, in_line, flight.sent, now);
        endpoint.regroup.ended(flight.items, flight.members.len(), queued, endpoint.cost.predict(1), now);
    }

    fn answer_all(&mut self, parts: &Parts, outcome: &Outcome, now: Instant) {
        for part in parts {
            self.answer(part.job, outcome.clone(), now);
        }
    }

    fn overloaded(&mut self, lane: u32, flight: &Flight, live: Parts, answered: &Answered, now: Instant) -> Found {
        let of_lane = &mut self.lanes[lane as usize];
        let pause = of_lane.endpoints[flight.endpoint as usize].pause(PAUSE_OVERLOADED, answered.retry_after, now);
        if flight.members.len() > 1 {
            of_lane.caps.bad(flight.items);
        }
        let resume = of_lane.endpoints.iter().map(|endpoint| endpoint.paused_until).min().unwrap_or(now);
        let retry_after = answered.retry_after.unwrap_or(pause);
        let mut again = Parts::new();
        for part in live {
            let Some(held) = self.jobs.get_mut(part.job) else { continue };
            held.overloaded_count += 1;
            held.avoid = Some(flight.endpoint);
            if held.overloaded_count < OVERLOADED_TRIES && resume < held.job.deadline {
                again.push(part);
            } else if flight.alone {
                self.answer(part.job, answered.verbatim(), now);
            } else {
                self.fail(part.job, Failure::Overloaded { retry_after }, now);
            }
        }
        if self.limits.planted_bug == Some(PlantedBug::LoseRequeued) && again.len() > 1 {
            again.pop();
        }
        Found::Again(again)
    }

    /// Whether this error says that the call had too many items; if so, the limit is learned.
    fn teaches_limit(&mut self, lane: u32, flight: &Flight, status: u16, body: &[u8], now: Instant) -> bool {
        let of_lane = &mut self.lanes[lane as usize];
        let whole = flight.alone
            && (of_lane.is_solo(now) || flight.members.iter().any(|member| self.jobs.get(member.part.job).is_none_or(|held| held.whole)));
        if status < 400 || flight.items < 2 || whole {
            return false;
        }
        let told = told_limit(body, flight.items);
        if status != 413 && told.is_none() {
            return false;
        }
        let items = told.unwrap_or(flight.items / 2);
        if of_lane.caps.learn(items, now) {
            let (generation, model, operation) = self.labels(lane);
            self.note(Event::LearnedItems { generation, model, operation, items });
        }
        true
    }

    /// Back to the queue, to leave in smaller calls; also what was under suspicion.
    fn shrink(&mut self, lane: u32, isolating: bool, live: Parts) -> Found {
        if !isolating {
            return Found::Again(live);
        }
        self.requeue(lane, &live);
        Found::Again(Parts::new())
    }

    fn unsent(&mut self, lane: u32, flight: &Flight, live: Parts, now: Instant) -> Found {
        let of_lane = &mut self.lanes[lane as usize];
        let endpoint = &mut of_lane.endpoints[flight.endpoint as usize];
        endpoint.pause(PAUSE_UNSENT, None, now);
        endpoint.unsent_count = endpoint.unsent_count.saturating_add(1);
        let nobody_there = of_lane.endpoints.iter().all(|endpoint| endpoint.unsent_count >= u32::from(UNSENT_TRIES));
        let in_line = if nobody_there { of_lane.in_line() } else { Vec::new() };
        for part in in_line {
            self.fail(part.job, Failure::UpstreamUnreachable, now);
        }
        let mut again = Parts::new();
        for part in live {
            let Some(held) = self.jobs.get_mut(part.job) else { continue };
            held.unsent_count += 1;
            held.avoid = Some(flight.endpoint);
            if held.unsent_count < UNSENT_TRIES && !nobody_there {
                again.push(part);
            } else {
                self.fail(part.job, Failure::UpstreamUnreachable, now);
            }
        }
        Found::Again(again)
    }

    /// The upstream may have died of what it was sent: less of it at once, and each of the senders alone in the end.
    fn broken(&mut self, lane: u32, flight: &Flight, live: Parts, now: Instant) -> Found {
        let alone = flight.members.len() == 1;
        if !alone {
            self.lanes[lane as usize].caps.bad(flight.items);
        }
        let mut again = Parts::new();
        let mut worst = 0;
        for part in live {
            let Some(held) = self.jobs.get_mut(part.job) else { continue };
            held.broken_count += 1;
            held.avoid = Some(flight.endpoint);
            if alone && held.broken_count > 1 {
                self.fail(part.job, Failure::UpstreamBroken, now);
                return Found::Culprit;
            }
            worst = worst.max(held.broken_count);
            again.push(part);
        }
        if worst > 1 || alone { Found::Singly(again) } else { Found::Halves(again) }
    }

    fn timed_out(&mut self, lane: u32, flight: &Flight, live: &Parts, now: Instant) -> Found {
        if flight.members.len() > 1 {
            self.lanes[lane as usize].caps.bad(flight.items);
        }
        self.answer_all(live, &Outcome::Failed(Failure::UpstreamTimeout), now);
        Found::Again(Parts::new())
    }

    fn too_large(&mut self, lane: u32, flight: &Flight, live: Parts, now: Instant) -> Found {
        if flight.members.len() > 1 {
            self.lanes[lane as usize].caps.bad(flight.items);
            return Found::Halves(live);
        }
        self.answer_all(&live, &Outcome::Failed(Failure::AnswerTooLarge), now);
        Found::Culprit
    }

    /// A merged call was answered with something that cannot be cut: everybody again, as they came.
    pub(super) fn wrong(&mut self, lane: u32, live: Parts, now: Instant) -> Found {
        self.go_solo(lane, now);
        let again = live.into_iter().filter_map(|part| self.restart_whole(lane, part.job)).collect();
        Found::Singly(again)
    }

    fn go_solo(&mut self, lane: u32, now: Instant) {
        if let Some(period) = self.lanes[lane as usize].go_solo(now) {
            let (generation, model, operation) = self.labels(lane);
            self.note(Event::WentSolo { generation, model, operation, period });
        }
    }

    /// Starts a job afresh, to travel as it came; whatever is about of it is not its any more.
    fn restart_whole(&mut self, lane: u32, key: JobKey) -> Option<Part> {
        let key = self.jobs.renew(key)?;
        self.jobs.drop_gather(key);
        let held = self.jobs.get_mut(key)?;
        held.whole = true;
        let calls = std::mem::take(&mut held.calls);
        let part = Part { job: key, first: 0, count: held.job.items() };
        let deadline = held.job.deadline;
        self.queued_items -= held.queued_items as usize;
        let (items, bytes) = (std::mem::take(&mut held.queued_items), std::mem::take(&mut held.queued_bytes));
        let place = held.place.take();
        self.lanes[lane as usize].forget_queued(items, bytes, place, &self.jobs);
        for slot in calls {
            self.leave_call(slot);
        }
        self.timers.set(deadline, Timer::Job(key));
        Some(part)
    }

    /// Back to the head of the line, in the order they were.
    fn requeue(&mut self, lane: u32, parts: &Parts) {
        for part in parts.iter().rev() {
            if let Some(held) = self.jobs.get_mut(part.job) {
                self.queued_items += part.count as usize;
                self.lanes[lane as usize].push_front(*part, held);
            }
        }
        self.schedule(lane);
    }

    fn judge_past_lanes(&mut self, flight: &Flight, outcome: CallOutcome, now: Instant) {
        let Some(key) = flight.members.first().map(|member| member.part.job) else { return };
        let failure = match outcome {
            CallOutcome::Answered { status, fields, body, retry_after } => {
                let answered = Answered { status, fields, body, retry_after };
                self.answer(key, answered.verbatim(), now);
                return;
            }
            CallOutcome::NotSent => {
                let Some(held) = self.jobs.get_mut(key) else { return };
                held.unsent_count += 1;
                held.avoid = Some(flight.endpoint);
                if held.unsent_count < UNSENT_TRIES {
                    self.push_bypass(key);
                    return;
                }
                Failure::UpstreamUnreachable
            }
            CallOutcome::Broken => Failure::UpstreamBroken,
            CallOutcome::TimedOut => Failure::UpstreamTimeout,
            CallOutcome::TooLarge => Failure::AnswerTooLarge,
        };
        self.fail(key, failure, now);
    }
}

/// The items of a call whose jobs arrived at `since` or later, and how long they have been here in sum.
fn stayed(flight: &Flight, jobs: &Jobs, since: Instant, now: Instant) -> (u32, Duration) {
    let arrived = |part: &Part| jobs.get(part.job).map(|held| held.job.arrived).filter(|arrived| *arrived >= since);
    let parts = flight.members.iter().map(|member| member.part);
    let stays = parts.filter_map(|part| Some((part.count, now.since(arrived(&part)?))));
    stays.fold((0, Duration::ZERO), |(items, sum), (count, stay)| (items + count, sum.saturating_add(stay.saturating_mul(count))))
}

/// Which of `live` holds item `item` of the call.
fn part_with(flight: &Flight, live: &Parts, item: u32) -> Option<usize> {
    let mut end = 0;
    let named = flight.members.iter().find(|member| {
        end += member.part.count;
        item < end
    })?;
    live.iter().position(|part| *part == named.part)
}

/// How often a job is refused with 429 or 503 before its client hears of it.
const OVERLOADED_TRIES: u8 = 5;
const PAUSE_OVERLOADED: Duration = Duration::from_millis(50);

/// How often a job is tried where nobody answers.
const UNSENT_TRIES: u8 = 3;
const PAUSE_UNSENT: Duration = Duration::from_millis(10);
