//! A lane: the queue of jobs that may share calls, and what is known of the upstream through it. It says what the next batch
//! holds; `rule` says when it leaves, `turns` who is next where classes and tenants are told apart.

use super::cost::Caps;
use super::held::{Held, Jobs, Part, Parts};
use super::inflight::InFlight;
use super::isolate::Isolation;
use super::job::LaneRules;
use super::key::OwnedKey;
use super::rule::{Endpoint, Waiting};
use crate::config::BatchingMode;
use crate::policy::{Place, Queue};
use crate::sys::Instant;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: OwnedKey,
    pub(super) hash: u64,
    pub(super) rules: LaneRules,
    /// First come, first served. May hold parts of jobs that have ended; they are skipped, and swept out when they are many.
    pub(super) line: VecDeque<Part>,
    /// Behind it, where classes and tenants are told apart: everyone who has not been called forward.
    pub(super) fair: Option<Box<Queue<Part>>>,
    dead_parts: usize,
    pub(super) queued_items: u32,
    pub(super) queued_bytes: u64,
    pub(super) endpoints: SmallVec<[Endpoint; 1]>,
    pub(super) isolation: Isolation,
    /// The last call was an isolation call: a batch has the next slot, if one waits.
    pub(super) batch_next: bool,
    pub(super) caps: Caps,
    /// Of a batching upstream.
    pub(super) in_flight: InFlight,
    /// No merging until then: the upstream answered a merged call wrongly.
    pub(super) solo_until: Instant,
    pub(super) solo_period: Duration,
    /// In the list of lanes to look at.
    pub(super) is_scheduled: bool,
    /// The moment a timer is set for.
    pub(super) wake_at: Option<Instant>,
    /// Used since the eviction hand last passed.
    pub(super) is_recent: bool,
    pub(super) turn: u32,
}

impl Lane {
    pub(super) fn new(key: OwnedKey, hash: u64, rules: &LaneRules) -> Lane {
        let at_least_one = |count: u32| count.max(1);
        let rules = LaneRules {
            max_items: at_least_one(rules.max_items),
            in_flight: at_least_one(rules.in_flight),
            endpoints: at_least_one(rules.endpoints),
            ..*rules
        };
        let count = rules.endpoints as usize;
        Lane {
            key,
            hash,
            rules,
            line: VecDeque::new(),
            fair: rules.fair.then(|| Box::new(Queue::new(rules.max_queue_items))),
            dead_parts: 0,
            queued_items: 0,
            queued_bytes: 0,
            endpoints: std::iter::repeat_with(Endpoint::default).take(count).collect(),
            isolation: Isolation::default(),
            batch_next: false,
            caps: Caps::new(rules.max_items),
            in_flight: InFlight::new(rules.in_flight),
            solo_until: Instant::ZERO,
            solo_period: Duration::ZERO,
            is_scheduled: false,
            wake_at: None,
            is_recent: true,
            turn: 0,
        }
    }

    /// Nothing queued, nothing sent: it may be forgotten.
    pub(super) fn is_idle(&self) -> bool {
        self.queued_items == 0 && self.isolation.is_empty() && self.endpoints.iter().all(|endpoint| endpoint.in_flight == 0)
    }

    pub(super) fn is_solo(&self, now: Instant) -> bool {
        now < self.solo_until
    }

    /// Calls in flight per endpoint. A lane that does not merge may have as many items out as one that does.
    pub(super) fn slots(&self, now: Instant) -> u32 {
        if self.is_solo(now) { self.rules.in_flight.saturating_mul(self.rules.max_items) } else { self.limit() }
    }

    /// Merged calls in flight per endpoint.
    pub(super) fn limit(&self) -> u32 {
        if self.rules.mode == BatchingMode::Batching { self.in_flight.limit() } else { self.rules.in_flight }
    }

    pub(super) fn push_back(&mut self, part: Part, held: &mut Held) {
        self.count_in(part, held);
        self.line.push_back(part);
    }

    /// For parts that were taken before: they keep their place ahead of everyone who came later.
    pub(super) fn push_front(&mut self, part: Part, held: &mut Held) {
        self.count_in(part, held);
        self.line.push_front(part);
    }

    pub(super) fn count_in(&mut self, part: Part, held: &mut Held) {
        let bytes = held.bytes_of(part.first, part.count);
        held.queued_items += part.count;
        held.queued_bytes += bytes;
        self.queued_items += part.count;
        self.queued_bytes += bytes;
    }

    fn count_out(&mut self, part: Part, held: &mut Held) {
        let bytes = held.bytes_of(part.first, part.count);
        held.queued_items -= part.count;
        held.queued_bytes -= bytes;
        self.queued_items -= part.count;
        self.queued_bytes -= bytes;
    }

    /// A job has ended, or was started afresh, that had this much in the queue.
    pub(super) fn forget_queued(&mut self, items: u32, bytes: u64, place: Option<Place>, jobs: &Jobs) {
        if let (Some(place), Some(queue)) = (place, &mut self.fair) {
            queue.withdraw(place);
        }
        self.queued_items -= items;
        self.queued_bytes -= bytes;
        self.dead_parts += usize::from(items > 0);
        if self.dead_parts > 32 && self.dead_parts > self.line.len() / 2 {
            self.line.retain(|part| jobs.is_live(part.job));
            self.dead_parts = 0;
        }
    }

    /// What stands in line, as far as the rule cares; `None` when nothing does.
    pub(super) fn waiting(&mut self, jobs: &Jobs, now: Instant) -> Option<Waiting> {
        let first = loop {
            match self.line.front().map(|part| jobs.get(part.job)) {
                Some(Some(held)) => break Some(held),
                Some(None) => self.pop_dead(),
                None => break None,
            }
        };
        let full = self.queued_items >= self.caps.items(now) || self.queued_bytes >= self.rules.max_bytes;
        let oldest = match (first, &self.fair) {
            (Some(held), None) => held.job.arrived,
            (None, None) => return None,
            (None, Some(queue)) if queue.is_empty() => return None,
            (first, Some(queue)) => {
                // Looks at every tenant; it matters only where a batch that is not full has a last moment.
                let in_turn = if full || self.rules.max_delay.is_zero() { None } else { queue.oldest() };
                first.map(|held| held.job.arrived).into_iter().chain(in_turn).min().unwrap_or(now)
            }
        };
        Some(Waiting { full, items: self.queued_items, oldest, avoid: first.and_then(|held| held.avoid) })
    }

    fn pop_dead(&mut self) {
        self.line.pop_front();
        self.dead_parts = self.dead_parts.saturating_sub(1);
    }

    /// How long a job would wait behind `queued` items, as far as it is known: until the answer to the batch that it would be in, behind
    /// full ones. `None` before the first calls.
    pub(super) fn known_wait(&self, queued: u32, now: Instant) -> Option<Duration> {
        let cap = self.caps.items(now);
        let side_by_side = if self.rules.mode == BatchingMode::Batching { self.limit() } else { 1 };
        let before = queued / cap / self.rules.endpoints.saturating_mul(side_by_side);
        let own = queued.saturating_add(1).min(cap);
        let time = |endpoint: &Endpoint| Some(endpoint.cost.predict(cap)?.saturating_mul(before) + endpoint.cost.predict(own)?);
        self.endpoints.iter().filter_map(time).min()
    }

    /// Everyone in line; some may have ended.
    pub(super) fn in_line(&self) -> Vec<Part> {
        let in_turn = self.fair.iter().flat_map(|queue| queue.tickets());
        self.line.iter().chain(in_turn).copied().collect()
    }

    /// Sends no merged calls for a while, for longer each time in a row. Returns the period, unless it is on already.
    pub(super) fn go_solo(&mut self, now: Instant) -> Option<Duration> {
        if self.is_solo(now) {
            return None;
        }
        self.solo_period = (self.solo_period * 2).clamp(SOLO_MIN, SOLO_MAX);
        self.solo_until = now + self.solo_period;
        Some(self.solo_period)
    }

    /// Takes the next batch off the queue. A job that fits into a call is never cut; one that must travel whole is the only one.
    pub(super) fn take_batch(&mut self, jobs: &mut Jobs, now: Instant) -> Parts {
        let solo = self.is_solo(now);
        let (cap, hard) = (self.caps.items(now), self.caps.hard(now));
        let mut batch = Parts::new();
        let mut room = cap;
        // Two brackets, and a comma less than items.
        let mut bytes = self.key.text_len() as u64 + 1;
        while room > 0 {
            let mut called = false;
            if self.line.is_empty() {
                called = self.call_forward(jobs, now);
            }
            let Some(part) = self.line.front().copied() else { break };
            let Some(held) = jobs.get_mut(part.job) else {
                self.pop_dead();
                continue;
            };
            // The rest of a job that is being cut goes on being cut, whatever happens to the lane meanwhile.
            let uncut = held.covers(part) && (solo || held.whole || (part.count > cap && part.count <= hard));
            let alone = solo || uncut;
            if alone && !batch.is_empty() {
                break;
            }
            let count = match (uncut, part.count <= cap) {
                (true, _) => part.count,
                (false, true) if part.count > room => break,
                (false, true) => part.count,
                (false, false) => room,
            };
            let count =
                if uncut { count } else { fitting(held, part, count, self.rules.max_bytes.saturating_sub(bytes), batch.is_empty()) };
            if count == 0 {
                break;
            }
            let taken = Part { count, ..part };
            bytes += held.bytes_of(taken.first, taken.count);
            self.count_out(taken, held);
            self.advance(taken, part, called.then_some(held));
            room = room.saturating_sub(count);
            batch.push(taken);
            if alone {
                break;
            }
        }
        batch
    }

    /// Takes `taken` off the front of the line, whose first is `part`; `called`: its job, when it was called forward just now.
    fn advance(&mut self, taken: Part, part: Part, called: Option<&mut Held>) {
        let rest = Part { first: part.first + taken.count, count: part.count - taken.count, ..part };
        match (rest.count, called) {
            (0, _) => drop(self.line.pop_front()),
            (_, Some(held)) => {
                self.line.pop_front();
                self.put_back(rest, held);
            }
            (_, None) => self.line.iter_mut().take(1).for_each(|front| *front = rest),
        }
    }
}

/// How many of `count` items of `part` go into a call with `room` bytes left. All or none of a job that is not being cut; and a
/// call that is empty takes what it must, or the job would never leave.
fn fitting(held: &Held, part: Part, count: u32, room: u64, empty: bool) -> u32 {
    if held.bytes_of(part.first, count) <= room {
        return count;
    }
    if count == part.count {
        return if empty { count } else { 0 };
    }
    let mut bytes = 0;
    let mut fits = 0;
    while fits < count {
        bytes += held.bytes_of(part.first + fits, 1);
        if bytes > room {
            break;
        }
        fits += 1;
    }
    if empty { fits.max(1) } else { fits }
}

/// How long a lane sends one by one after a wrong answer, before it tries to merge again.
const SOLO_MIN: Duration = Duration::from_secs(30);
const SOLO_MAX: Duration = Duration::from_secs(600);
