//! When a batch leaves, and to which endpoint. The upstream's busy time is the window; there is no timer to fill a batch.
//!
//! ```text
//! in flight    0            1 .. limit-1                                limit (learned by `inflight` for batching upstreams)
//!              send now     batching upstream: send                     wait
//!              (*)          full batch waits: send
//!                           running one about to finish: send
//!                           held for max_delay: send
//!                           else wait for the first of these
//! ```
//!
//! (*) but for a moment right after a merged call, when its clients are about to be back: `regroup`. What is in the batch is
//! `lane`'s affair.

use super::cost::Cost;
use super::job::{LaneRules, LeaveReason};
use super::regroup::Regroup;
use crate::config::BatchingMode;
use crate::sys::Instant;
use smallvec::SmallVec;
use std::time::Duration;

/// One endpoint as one lane sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoint {
    pub(super) in_flight: u32,
    /// Not before this moment, after it refused or could not be reached.
    pub(super) paused_until: Instant,
    /// Refusals in a row.
    pub(super) refused_count: u32,
    /// Calls in a row that could not be sent.
    pub(super) unsent_count: u32,
    pub(super) cost: Cost,
    /// Slot and expected end of each call in flight.
    pub(super) running: SmallVec<[(u32, Option<Instant>); 2]>,
    pub(super) finished_at: Instant,
    pub(super) regroup: Regroup,
}

impl Endpoint {
    /// A call with `items` leaves now.
    pub(super) fn begin(&mut self, slot: u32, items: u32, now: Instant) {
        // One at a time behind the endpoint: this call's turn comes when the last one before it is done.
        let turn = self.running.iter().filter_map(|(_, end)| *end).fold(now, Instant::max);
        self.running.push((slot, self.cost.predict(items).map(|time| turn + time)));
        self.in_flight += 1;
    }

    /// The call is over, aborted or answered.
    pub(super) fn end(&mut self, slot: u32) {
        self.running.retain(|(running, _)| *running != slot);
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A call with `items` that left at `sent` was answered well.
    ///
    /// `in_line`: one call at a time behind the endpoint, so this one's turn came when the last one before it was done.
    pub(super) fn succeeded(&mut self, items: u32, in_line: bool, sent: Instant, now: Instant) {
        let began = if in_line { sent.max(self.finished_at) } else { sent };
        self.cost.observe(items, now.since(began));
        self.finished_at = now;
    }

    /// It answered something else than "not now".
    pub(super) fn is_there(&mut self) {
        self.refused_count = 0;
        self.unsent_count = 0;
    }

    /// Nothing more to this endpoint for a while: `base`, doubled with each refusal in a row, or as long as it asked.
    pub(super) fn pause(&mut self, base: Duration, asked: Option<Duration>, now: Instant) -> Duration {
        let doubled = base * (1 << self.refused_count.min(6));
        self.refused_count = self.refused_count.saturating_add(1);
        let pause = asked.map_or(doubled, |asked| asked.max(base)).min(PAUSE_MAX);
        self.paused_until = self.paused_until.max(now + pause);
        pause
    }

    /// When a batch sent now would arrive just as the running ones end; `None` while that cannot be told.
    fn ready_at(&self) -> Option<Instant> {
        if !self.cost.is_trusted() {
            return None;
        }
        let lead = self.cost.predict(1).map_or(LEAD_MAX, |time| (time / 8).min(LEAD_MAX));
        self.running.iter().map(|(_, end)| *end).min().flatten().map(|end| end - lead)
    }
}

/// What waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) full: bool,
    pub(super) items: u32,
    pub(super) oldest: Instant,
    /// The endpoint that failed the first in line.
    pub(super) avoid: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Send {
        endpoint: u32,
        reason: LeaveReason,
    },
    /// Look again when a call ends, when more waits, or then.
    Wait(Option<Instant>),
}

/// Whether a batch leaves now, with `limit` calls in flight per endpoint at most. `turn` rotates the choice between equal endpoints.
pub(super) fn decide(rules: &LaneRules, limit: u32, endpoints: &[Endpoint], waiting: Waiting, turn: u32, now: Instant) -> Verdict {
    let least = match least_busy(endpoints, waiting.avoid, turn, now) {
        Ok(least) => least,
        Err(resume) => return Verdict::Wait(Some(resume)),
    };
    let in_flight = endpoints[least as usize].in_flight;
    let sooner = |reason| if waiting.full { LeaveReason::Full } else { reason };
    let mut until = resume_at(endpoints, now);
    if in_flight >= limit {
        return Verdict::Wait(until);
    }
    if in_flight == 0 || rules.mode == BatchingMode::Batching {
        // Who was just answered is about to ask again: a moment's hold makes one batch of them.
        let held = endpoints[least as usize].regroup.holds(waiting.items, now);
        if let Some(moment) = held.filter(|_| !waiting.full) {
            return Verdict::Wait(earlier(until, moment));
        }
        return Verdict::Send { endpoint: least, reason: sooner(if in_flight == 0 { LeaveReason::Idle } else { LeaveReason::Slot }) };
    }
    if waiting.full {
        return Verdict::Send { endpoint: least, reason: LeaveReason::Full };
    }
    let with_slot = endpoints.iter().zip(0u32..).filter(|(endpoint, _)| endpoint.in_flight < limit && endpoint.paused_until <= now);
    let first = with_slot.filter_map(|(endpoint, index)| Some((endpoint.ready_at()?, index))).min();
    if let Some((ready_at, endpoint)) = first {
        if ready_at <= now {
            return Verdict::Send { endpoint, reason: LeaveReason::JustInTime };
        }
        until = earlier(until, ready_at);
    }
    if !rules.max_delay.is_zero() {
        let ceiling = waiting.oldest + rules.max_delay;
        if ceiling <= now {
            return Verdict::Send { endpoint: least, reason: LeaveReason::Delay };
        }
        until = earlier(until, ceiling);
    }
    Verdict::Wait(until)
}

/// An endpoint with fewer than `limit` calls of this lane, for calls that wait for nothing but a slot.
pub(super) fn slot(endpoints: &[Endpoint], limit: u32, avoid: Option<u32>, turn: u32, now: Instant) -> Result<u32, Option<Instant>> {
    let least = least_busy(endpoints, avoid, turn, now).map_err(Some)?;
    if endpoints[least as usize].in_flight < limit { Ok(least) } else { Err(resume_at(endpoints, now)) }
}

/// The endpoint with the fewest calls that is not paused, and not `avoid` while there is another; else when one resumes.
fn least_busy(endpoints: &[Endpoint], avoid: Option<u32>, turn: u32, now: Instant) -> Result<u32, Instant> {
    let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX).max(1);
    let open = endpoints.iter().zip(0u32..).filter(|(endpoint, _)| endpoint.paused_until <= now);
    let order = |(endpoint, index): &(&Endpoint, u32)| (Some(*index) == avoid, endpoint.in_flight, (index + count - turn % count) % count);
    open.min_by_key(order).map(|(_, index)| index).ok_or_else(|| resume_at(endpoints, now).unwrap_or(now))
}

/// When the next paused endpoint resumes.
fn resume_at(endpoints: &[Endpoint], now: Instant) -> Option<Instant> {
    endpoints.iter().map(|endpoint| endpoint.paused_until).filter(|until| *until > now).min()
}

fn earlier(until: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(until.map_or(other, |until| until.min(other)))
}

/// A batch is sent this much before the running one should end, to cover the way there; at most an eighth of a call.
const LEAD_MAX: Duration = Duration::from_micros(500);

/// An upstream may ask for hours; clients wait for seconds.
const PAUSE_MAX: Duration = Duration::from_secs(5);
