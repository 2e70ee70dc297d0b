//! The gate before one upstream with a limit: who may go now, who stands in line, who is let in when a place becomes free. The rules are
//! policy's (`Limit`, `Queue`, `next_shard`); the count of places that all shards share is mesh's (`Share`). How an exchange waits is in
//! `admit`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::snapshot::Snapshot;
use super::{Message, Shard};
use crate::config::{Concurrency, ConcurrencyLimit, UpstreamId};
use crate::mesh::{ShardId, Share};
use crate::policy::{Adaptive, Claim, Limit, Place, Queue, Refusal, Round, ShardClaim, next_shard};
use crate::runtime::TaskId;
use crate::sys::Instant;

/// One per upstream with a limit and snapshot.
pub(super) struct Gate {
    upstream: UpstreamId,
    shard: ShardId,
    share: Share,
    /// How long one may wait.
    pub(super) patience: Duration,
    state: RefCell<State>,
}

struct State {
    limit: Limit,
    queue: Queue<Rc<Waiting>>,
    /// Requests that this gate let in.
    in_flight: u32,
    /// The tenants in line, as the other shards know it.
    told_tenants: u32,
}

/// An exchange in line.
pub(super) struct Waiting {
    pub(super) task: TaskId,
    pub(super) turn: Cell<Turn>,
}

/// What has become of an exchange in line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    Waits,
    /// A place is taken for it.
    Called,
    /// Its place in line went to another.
    PutOut(Refusal),
    /// It has taken note.
    Over,
}

/// A place at an upstream; free again when this is dropped.
pub(super) struct Permit {
    shard: Rc<Shard>,
    snapshot: Rc<Snapshot>,
    gate: Rc<Gate>,
    round: Round,
    /// When the present try began.
    began: Instant,
}

impl Gate {
    pub(super) fn new(config: &Concurrency, upstream: UpstreamId, shard: ShardId, share: Share) -> Gate {
        let limit = match config.limit {
            ConcurrencyLimit::Fixed(limit) => Limit::Fixed(limit),
            // The least is each shard's part; the most holds for all together.
            ConcurrencyLimit::Adaptive { min, max } => Limit::Adaptive(Box::new(Adaptive::new(min.div_ceil(share.shards().max(1)), max))),
        };
        share.set_max(limit.of_process());
        let state = State { limit, queue: Queue::new(config.queue_max), in_flight: 0, told_tenants: 0 };
        Gate { upstream, shard, share, patience: config.queue_timeout, state: RefCell::new(state) }
    }

    /// Lets a request in if there is a place and nobody waits for it.
    pub(super) fn at_once(self: &Rc<Gate>, shard: &Rc<Shard>, snapshot: &Rc<Snapshot>) -> Option<Box<Permit>> {
        {
            let mut state = self.state.borrow_mut();
            let first = state.queue.is_empty() && !self.share.is_waited_for();
            if !first || !state.has_room() || !self.share.take(self.shard) {
                return None;
            }
            state.in_flight += 1;
        }
        Some(self.permit(shard, snapshot))
    }

    /// Takes a place in line. Whoever is put out for it is told.
    pub(super) fn stand_in_line(&self, shard: &Shard, claim: Claim, cost: u64, waiting: Rc<Waiting>) -> Result<Place, Refusal> {
        let now = shard.rt.now();
        let (place, put_out) = self.state.borrow_mut().queue.push(claim, cost, self.patience, waiting, now)?;
        if let Some((left, why)) = put_out {
            left.ticket.turn.set(Turn::PutOut(why));
            shard.rt.wake(left.ticket.task);
        }
        self.call_next(shard);
        Ok(place)
    }

    /// Gives up a place in line.
    pub(super) fn leave_line(&self, shard: &Shard, place: Place) {
        self.state.borrow_mut().queue.cancel(place, shard.rt.now());
        self.call_next(shard);
    }

    /// For an exchange that was called.
    pub(super) fn permit(self: &Rc<Gate>, shard: &Rc<Shard>, snapshot: &Rc<Snapshot>) -> Box<Permit> {
        snapshot.metrics.admission_begun(self.upstream);
        let mut state = self.state.borrow_mut();
        let in_flight = state.in_flight;
        let round = state.limit.handle_begin(in_flight);
        let (shard, snapshot, began) = (Rc::clone(shard), Rc::clone(snapshot), shard.rt.now());
        Box::new(Permit { shard, snapshot, gate: Rc::clone(self), round, began })
    }

    /// A place was given back, or taken and not wanted any more.
    pub(super) fn give_back(&self, shard: &Shard) {
        {
            let mut state = self.state.borrow_mut();
            debug_assert!(state.in_flight > 0, "a place was given back that this gate did not give");
            state.in_flight = state.in_flight.saturating_sub(1);
        }
        self.share.give(self.shard);
        self.call_next(shard);
    }

    /// Gives free places to those in line, here and elsewhere.
    pub(super) fn call_next(&self, shard: &Shard) {
        let mut state = self.state.borrow_mut();
        loop {
            let tenants = if state.has_room() { state.queue.tenants() } else { 0 };
            self.share.set_tenants(self.shard, state.told_tenants, tenants);
            state.told_tenants = tenants;
            if !self.share.has_room() {
                return;
            }
            let next = next_shard(self.share.shards(), self.share.last(), |shard| {
                let (in_flight, tenants) = self.share.claim(shard);
                let whole = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
                ShardClaim { in_flight: whole(in_flight), tenants: whole(tenants) }
            });
            let Some(next) = next.map(ShardId) else { return };
            // Another shard's turn; or that of this one's gate of another snapshot.
            if next != self.shard || tenants == 0 {
                if self.share.must_tell(next) {
                    shard.post(next, Message::Room);
                }
                return;
            }
            if !self.share.take(self.shard) {
                return;
            }
            let Some(left) = state.queue.pop(shard.rt.now()) else {
                self.share.give(self.shard);
                return;
            };
            state.in_flight += 1;
            self.share.set_last(self.shard);
            left.ticket.turn.set(Turn::Called);
            shard.rt.wake(left.ticket.task);
        }
    }

    /// When a client that is turned away may try again: when it would have had its place.
    pub(super) fn retry_after(&self, claim: Claim, now: Instant) -> Duration {
        self.state.borrow().queue.predicted_wait(claim, now).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }

    /// What this shard adds to the limit that is shown.
    pub(super) fn shown_limit(&self) -> u32 {
        match &self.state.borrow().limit {
            Limit::Fixed(limit) => u32::from(self.shard.0 == 0) * *limit,
            Limit::Adaptive(adaptive) => adaptive.limit(),
        }
    }

    pub(super) fn upstream(&self) -> UpstreamId {
        self.upstream
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Its line is empty: whoever stands in it holds the gate. What others were told may be older.
        let state = self.state.get_mut();
        self.share.set_tenants(self.shard, state.told_tenants, 0);
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.in_flight < self.limit.of_shard()
    }
}

impl Permit {
    /// The answer's head is here.
    pub(super) fn handle_answer(&mut self, status: u16, now: Instant) {
        let mut state = self.gate.state.borrow_mut();
        match status {
            429 | 503 => state.limit.handle_overload(self.round),
            _ => state.limit.handle_answer(self.round, now.since(self.began), now),
        }
    }

    /// A try has failed; the next one, if there is one, begins.
    pub(super) fn handle_failure(&mut self, was_late: bool, now: Instant) {
        if was_late {
            self.gate.state.borrow_mut().limit.handle_overload(self.round);
        }
        self.began = now;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.snapshot.metrics.admission_ended(self.gate.upstream);
        self.gate.give_back(&self.shard);
    }
}

impl Shard {
    /// Another shard gave a place back that is this one's by turn.
    pub(super) fn take_room(&self) {
        let snapshots: Vec<Rc<Snapshot>> = {
            let former = self.former.borrow();
            former.iter().map(|former| Rc::clone(&former.snapshot)).chain([self.snapshot()]).collect()
        };
        let gates = || snapshots.iter().flat_map(|snapshot| snapshot.gates());
        gates().for_each(|gate| gate.share.heard(self.id));
        gates().for_each(|gate| gate.call_next(self));
    }
}

const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
