//! The home of lanes: takes jobs in, says what to call, takes what came of it, says who gets what. Here are its face and its
//! state; `send` decides and puts calls together, `outcome` judges what came back, `finish` is the one place where a job ends.

mod calls;
mod finish;
mod outcome;
mod send;
mod serve;
mod timers;
mod turns;

use super::call::{Call, CallId, CallOutcome};
use super::held::{JobKey, Jobs, Part};
use super::job::{Answer, Event, Failure, Job, LaneRules, Outcome, Ticket};
use super::key::OwnedKey;
use super::lane::Lane;
use super::split::embeddings::Cutter;
use crate::config::BatchingMode;
use crate::sys::Instant;
use calls::Calls;
use hashbrown::HashTable;
use slab::Slab;
use std::collections::VecDeque;
use std::time::Duration;
use timers::{Timer, Timers};

/// Bounds of one home and what happens at each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HomeLimits {
    /// Seed of the ticket table; any number, drawn at start.
    pub seed: u64,
    /// Lanes kept; beyond it an idle one is forgotten, and when none is idle the job goes past the lanes, alone.
    pub max_lanes: u32,
    /// Jobs queued and sent; beyond it a job is shed with [`Failure::QueueFull`].
    pub max_jobs: u32,
    /// Message bytes of all jobs held; beyond it a job is shed with [`Failure::QueueFull`].
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
    /// The last of the members is forgotten when a merged call is refused with 429 or 503.
    LoseRequeued,
}

/// The batchers of one shard.
///
/// A shard's turn: `handle_*` for everything that came in, then `poll_call`, `poll_abort`, `poll_answer` and `poll_event` until
/// each returns `None`; sleep no longer than `next_timeout`.
#[derive(Debug)]
pub struct Home {
    limits: HomeLimits,
    lanes: Slab<Lane>,
    /// Lane slots by key.
    table: HashTable<u32>,
    /// Where the search for a lane to forget goes on.
    hand: usize,
    jobs: Jobs,
    calls: Calls,
    /// Lanes that may have something to send.
    scheduled: VecDeque<u32>,
    /// Whole jobs that go past the lanes.
    bypass: VecDeque<JobKey>,
    bypass_in_flight: u32,
    turn: u32,
    queued_items: usize,
    timers: Timers,
    answers: VecDeque<Answer>,
    aborts: VecDeque<CallId>,
    events: VecDeque<Event>,
    cutter: Cutter,
}

impl Home {
    #[must_use]
    pub fn new(limits: HomeLimits) -> Home {
        Home {
            limits,
            lanes: Slab::new(),
            table: HashTable::new(),
            hand: 0,
            jobs: Jobs::new(limits.seed),
            calls: Calls::default(),
            scheduled: VecDeque::new(),
            bypass: VecDeque::new(),
            bypass_in_flight: 0,
            turn: 0,
            queued_items: 0,
            timers: Timers::default(),
            answers: VecDeque::new(),
            aborts: VecDeque::new(),
            events: VecDeque::new(),
            cutter: Cutter::default(),
        }
    }

    /// A job arrives from its origin. It ends with exactly one [`Answer`], unless it is cancelled. A second job under a ticket that
    /// is still held is ignored.
    pub fn handle_job(&mut self, job: Job, rules: &LaneRules, now: Instant) {
        if job.deadline <= now {
            self.refuse(&job, Failure::DeadlineExceeded, now);
            return;
        }
        let full = self.jobs.len() >= self.limits.max_jobs as usize;
        if full || self.jobs.bytes() + job.message.len() as u64 > self.limits.max_bytes {
            self.refuse(&job, Failure::QueueFull { retry_after: RETRY_AFTER_UNKNOWN }, now);
            return;
        }
        let Some(slot) = self.lane_for(&job, rules) else {
            self.admit_past_lanes(job, rules);
            return;
        };
        let lane = &self.lanes[slot as usize];
        let items = job.items();
        if lane.rules.fair {
            self.admit_in_turn(job, slot, now);
            return;
        }
        if lane.queued_items > 0 && lane.queued_items.saturating_add(items) > lane.rules.max_queue_items {
            let failure = Failure::QueueFull { retry_after: lane.predicted_wait(lane.queued_items, now) };
            self.refuse(&job, failure, now);
            return;
        }
        // Behind others it would be late: it is told now, and the room is somebody's who is not.
        if lane.queued_items > 0 && lane.known_wait(lane.queued_items, now).is_some_and(|wait| now + wait > job.deadline) {
            let failure = Failure::PredictedLate { retry_after: lane.predicted_wait(lane.queued_items, now) };
            self.refuse(&job, failure, now);
            return;
        }
        let deadline = job.deadline;
        let Some(key) = self.jobs.insert(job, rules.endpoints) else {
            self.note(Event::Stale);
            return;
        };
        self.timers.set(deadline, Timer::Job(key));
        if let Some(held) = self.jobs.get_mut(key) {
            held.lane = Some(slot);
            self.queued_items += items as usize;
            self.lanes[slot as usize].push_back(Part { job: key, first: 0, count: items }, held);
        }
        self.schedule(slot);
    }

    /// The client behind `ticket` has left. No answer comes for it any more, but one that is out already.
    pub fn handle_cancel(&mut self, ticket: Ticket, _now: Instant) {
        let Some(key) = self.jobs.find(ticket) else {
            self.note(Event::Stale);
            return;
        };
        let sent = self.jobs.get(key).is_some_and(|held| !held.calls.is_empty());
        self.note(if sent { Event::CancelledSent } else { Event::CancelledQueued });
        self.drop_job(key);
    }

    /// What came of a call. Ignored when the call was aborted meanwhile.
    pub fn handle_outcome(&mut self, id: CallId, outcome: CallOutcome, now: Instant) {
        self.judge(id, outcome, now);
    }

    /// Ends jobs whose deadline has passed and wakes lanes whose moment has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, timer)) = self.first_timer() {
            if at > now {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Job(key) => self.fail(key, Failure::DeadlineExceeded, now),
                Timer::Lane(slot) => {
                    self.lanes[slot as usize].wake_at = None;
                    self.schedule(slot);
                }
            }
        }
    }

    /// The next call to send. Asked at the end of a turn, so that jobs of one turn share a call.
    pub fn poll_call(&mut self, now: Instant) -> Option<Call> {
        self.handle_timeout(now);
        self.next_call(now)
    }

    /// A call nobody waits for any more: close its connection. An outcome that comes for it all the same is ignored.
    pub fn poll_abort(&mut self) -> Option<CallId> {
        self.aborts.pop_front()
    }

    /// The next answer to carry to its origin.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// The next thing to count.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is next of use. Calls that could leave now are not waited for: `poll_call` comes first.
    #[must_use]
    pub fn next_timeout(&mut self) -> Option<Instant> {
        self.first_timer().map(|(at, _)| at)
    }

    /// Jobs held, queued and sent.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Whether a job that was routed under this generation of the configuration is held. Looks at all jobs: not for every turn.
    #[must_use]
    pub fn holds_generation(&self, generation: u32) -> bool {
        self.jobs.holds_generation(generation)
    }

    /// Items waiting in all lanes.
    #[must_use]
    pub fn queued_items(&self) -> usize {
        self.queued_items
    }

    /// Lanes known, busy and idle.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Calls in flight.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Message bytes of all jobs held, and the answers kept for cut jobs.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.jobs.bytes()
    }

    /// The lane of `job`, made when there is none; `None` when it must go past the lanes.
    fn lane_for(&mut self, job: &Job, rules: &LaneRules) -> Option<u32> {
        if !job.request.mergeable() || rules.mode == BatchingMode::Off {
            return None;
        }
        let key = job.key();
        let lanes = &mut self.lanes;
        if let Some(slot) = self.table.find(job.hash, |slot| lanes[*slot as usize].key.borrow() == key) {
            lanes[*slot as usize].is_recent = true;
            return Some(*slot);
        }
        if key.text_len() > self.limits.max_key_bytes as usize {
            return None;
        }
        if self.lanes.len() >= self.limits.max_lanes as usize && !self.forget_a_lane() {
            self.note(Event::LanesFull);
            return None;
        }
        let slot = u32::try_from(self.lanes.insert(Lane::new(OwnedKey::new(&key), job.hash, rules))).ok()?;
        let lanes = &self.lanes;
        self.table.insert_unique(job.hash, slot, |slot| lanes[*slot as usize].hash);
        Some(slot)
    }

    /// Makes room for a lane by forgetting an idle one that was not used lately; false when none was found nearby.
    fn forget_a_lane(&mut self) -> bool {
        for _ in 0..FORGET_STEPS {
            self.hand = (self.hand + 1) % self.limits.max_lanes.max(1) as usize;
            let Some(lane) = self.lanes.get_mut(self.hand) else { continue };
            if !lane.is_idle() || lane.is_scheduled || std::mem::take(&mut lane.is_recent) {
                continue;
            }
            let (hash, hand) = (lane.hash, self.hand);
            if let Ok(entry) = self.table.find_entry(hash, |slot| *slot as usize == hand) {
                entry.remove();
            }
            self.lanes.remove(hand);
            return true;
        }
        false
    }

    fn admit_past_lanes(&mut self, job: Job, rules: &LaneRules) {
        let deadline = job.deadline;
        let Some(key) = self.jobs.insert(job, rules.endpoints) else {
            self.note(Event::Stale);
            return;
        };
        self.timers.set(deadline, Timer::Job(key));
        self.push_bypass(key);
    }

    fn push_bypass(&mut self, key: JobKey) {
        // Leavers stay in the line until their turn; not more of them than of the others.
        if self.bypass.len() > 64 + 2 * self.jobs.len() {
            self.bypass.retain(|key| self.jobs.is_live(*key));
        }
        self.bypass.push_back(key);
    }

    fn refuse(&mut self, job: &Job, failure: Failure, now: Instant) {
        let waited = now.since(job.arrived);
        self.answers.push_back(Answer { ticket: job.ticket, outcome: Outcome::Failed(failure), batch_items: 0, waited });
    }

    /// Puts a lane on the list of those to look at.
    fn schedule(&mut self, slot: u32) {
        if let Some(lane) = self.lanes.get_mut(slot as usize)
            && !std::mem::replace(&mut lane.is_scheduled, true)
        {
            self.scheduled.push_back(slot);
        }
    }

    fn wake_at(&mut self, slot: u32, at: Instant) {
        let lane = &mut self.lanes[slot as usize];
        if lane.wake_at != Some(at) {
            lane.wake_at = Some(at);
            self.timers.set(at, Timer::Lane(slot));
        }
    }

    fn first_timer(&mut self) -> Option<(Instant, Timer)> {
        let (jobs, lanes) = (&self.jobs, &self.lanes);
        let is_live = |at, timer| match timer {
            Timer::Job(key) => jobs.is_live(key),
            Timer::Lane(slot) => lanes.get(slot as usize).is_some_and(|lane| lane.wake_at == Some(at)),
        };
        self.timers.sweep(jobs.len() + lanes.len(), is_live);
        self.timers.first(is_live)
    }

    fn note(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// How far to look for a lane to forget before a job goes alone instead.
const FORGET_STEPS: usize = 64;

/// Events kept for a shard that does not drain them.
const EVENTS_MAX: usize = 8192;

/// What a client is told when nothing is known of how long it will take.
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(1);
