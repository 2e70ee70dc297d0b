//! Who waits for a place at an upstream that is at its limit, and who is next: a bounded queue with classes of priority and fair
//! shares for tenants. How many may run is settled in `limit`; what a refused request is answered is respond's.
//!
//! ```text
//!   push -> class: high | normal | low, weighted 16 : 4 : 1   -> tenant: in turns, by cost -> request: oldest first -> pop
//! ```
//!
//! Both steps are deficit round robin on the requests' estimated cost in tokens, so a tenant that asks more or longer gets no larger
//! share while others wait, and no class starves: of what leaves while all classes wait, `low` has 1/21.

mod line;
mod list;

use std::time::Duration;

use slab::Slab;

use crate::sys::Instant;
use line::Line;
use list::{Linked, Links};

/// A class of priority; the first is the most urgent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Class {
    High,
    #[default]
    Normal,
    Low,
}

impl Class {
    /// Most urgent first.
    pub const ALL: [Class; 3] = [Class::High, Class::Normal, Class::Low];

    /// The class a field's value names, in any case; `None` for any other word.
    #[must_use]
    pub fn from_word(word: &[u8]) -> Option<Class> {
        let words: [(&[u8], Class); 3] = [(b"high", Class::High), (b"normal", Class::Normal), (b"low", Class::Low)];
        words.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, class)| class)
    }

    /// Its share of what leaves while every class waits.
    const fn share(self) -> u64 {
        match self {
            Class::High => 16,
            Class::Normal => 4,
            Class::Low => 1,
        }
    }
}

/// Who asks: what fairness and priority go by.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Claim {
    pub class: Class,
    /// A seeded hash of what names the tenant; 0 for all who name none.
    pub tenant: u64,
}

/// Why a request may not wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The queue is full, and not by this tenant's doing.
    Full,
    /// Its tenant holds more than its share of a full queue, or has so many waiting that this one would come too late.
    Share,
    /// It would be late whoever waits before it.
    Late,
}

/// A place in the queue; of no meaning once its holder has left it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    slot: u32,
    serial: u32,
}

/// Somebody who was in the queue and is not any more, with what they left there.
#[derive(Debug)]
pub struct Left<T> {
    pub ticket: T,
    pub waited: Duration,
}

/// The requests that wait on one shard for one upstream. `T` is what the shard knows its waiting exchange by.
#[derive(Debug)]
pub struct Queue<T> {
    waiters: Slab<Waiter<T>>,
    lines: [Line; 3],
    /// The class whose turn it is; it was credited for it.
    turn: usize,
    max: usize,
    serial: u32,
    /// Between two that leave while others wait; unknown until two did.
    interval: Option<Duration>,
    /// When the last one left, while others have waited since.
    last_left: Option<Instant>,
}

#[derive(Debug)]
struct Waiter<T> {
    links: Links,
    serial: u32,
    class: Class,
    tenant: u64,
    cost: u64,
    arrived: Instant,
    ticket: T,
}

impl<T> Linked for Waiter<T> {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl<T> Queue<T> {
    /// At most `max` wait.
    #[must_use]
    pub fn new(max: u32) -> Queue<T> {
        Queue {
            waiters: Slab::new(),
            lines: [Line::new(), Line::new(), Line::new()],
            turn: 0,
            max: max as usize,
            serial: 0,
            interval: None,
            last_left: None,
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Tenants that wait, each counted once per class.
    #[must_use]
    pub fn tenants(&self) -> u32 {
        self.lines.iter().map(Line::tenants).sum()
    }

    /// Takes a place at the end of the claim's line. `cost` in tokens ([`cost`] estimates it); `patience`: how long it may wait.
    ///
    /// A full queue makes room for whom it wrongs: a place that a class or a tenant holds beyond its share goes to the newcomer. Who
    /// was put out is returned beside the place, with the reason.
    ///
    /// # Errors
    /// Why it may not wait; nothing changed.
    #[expect(clippy::type_complexity, reason = "the place, and perhaps who was put out for it")]
    pub fn push(
        &mut self,
        claim: Claim,
        cost: u64,
        patience: Duration,
        ticket: T,
        now: Instant,
    ) -> Result<(Place, Option<(Left<T>, Refusal)>), Refusal> {
        if self.predicted_wait(claim, now) > patience {
            let alone = self.predicted(claim, 0, now);
            return Err(if alone <= patience { Refusal::Share } else { Refusal::Late });
        }
        let put_out = if self.waiters.len() >= self.max { Some(self.make_room(claim, now)?) } else { None };
        self.serial = self.serial.wrapping_add(1);
        let waiter = Waiter {
            links: Links::default(),
            serial: self.serial,
            class: claim.class,
            tenant: claim.tenant,
            cost: cost.clamp(COST_MIN, COST_MAX),
            arrived: now,
            ticket,
        };
        let was_empty = self.waiters.is_empty();
        let slot = u32::try_from(self.waiters.insert(waiter)).unwrap_or(u32::MAX);
        self.lines[claim.class as usize].push(&mut self.waiters, slot, claim.tenant);
        if was_empty {
            self.lines.iter_mut().for_each(|line| line.credit = 0);
            self.begin_turn(claim.class as usize);
            self.last_left = None;
        }
        Ok((Place { slot, serial: self.serial }, put_out))
    }

    /// Takes out whoever is next.
    pub fn pop(&mut self, now: Instant) -> Option<Left<T>> {
        let slot = self.next()?;
        self.left(now);
        self.take(slot, now)
    }

    /// The holder of the place has left. Its ticket, unless it is not there any more.
    pub fn cancel(&mut self, place: Place, now: Instant) -> Option<Left<T>> {
        let waiter = self.waiters.get(place.slot as usize).filter(|waiter| waiter.serial == place.serial)?;
        self.lines[waiter.class as usize].remove(&mut self.waiters, place.slot);
        self.take(place.slot, now)
    }

    /// How long a request with this claim would wait: the requests that would leave before it, times the time between two that leave.
    /// Those before it are all who wait, or less: its tenant's own, each with one of every other tenant of its class, and of the
    /// other classes as many as their shares. Zero while nothing is known.
    #[must_use]
    pub fn predicted_wait(&self, claim: Claim, now: Instant) -> Duration {
        self.predicted(claim, self.lines[claim.class as usize].waiting_of(claim.tenant), now)
    }

    fn predicted(&self, claim: Claim, own: u32, now: Instant) -> Duration {
        let Some(interval) = self.interval else { return Duration::ZERO };
        // Nothing leaves any more: the present gap says more than the former ones.
        let interval = interval.max(self.last_left.map_or(Duration::ZERO, |last| now.since(last)));
        let line = &self.lines[claim.class as usize];
        let others = line.tenants() - u32::from(line.waiting_of(claim.tenant) > 0);
        let shares: u64 = Class::ALL.into_iter().filter(|class| self.lines[*class as usize].waiting() > 0).map(Class::share).sum();
        let shares = shares + if line.waiting() > 0 { 0 } else { claim.class.share() };
        let rounds = u64::from(own) + 1;
        let in_turn = (rounds * (u64::from(others) + 1)).saturating_mul(shares).div_ceil(claim.class.share());
        let before = in_turn.min(self.waiters.len() as u64 + 1);
        interval.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX))
    }

    /// Puts somebody out for a newcomer. Each class is sure of its share of the places. A newcomer takes the place of the least urgent
    /// class that holds more than that, if that one is less urgent or the newcomer's own class holds less than its share; else of its
    /// own class's heaviest tenant. Always the newest of the tenant with the most waiting goes.
    fn make_room(&mut self, claim: Claim, now: Instant) -> Result<(Left<T>, Refusal), Refusal> {
        let held = |class: Class| u64::from(self.lines[class as usize].waiting());
        let sure = |class: Class| (self.max as u64 * class.share() / SHARES).max(1);
        let in_need = held(claim.class) < sure(claim.class);
        let may_go = |class: &Class| *class != claim.class && held(*class) > sure(*class) && (in_need || *class > claim.class);
        let (from, reason) = match Class::ALL.into_iter().rev().find(may_go) {
            Some(class) => (class, Refusal::Full),
            None => (claim.class, Refusal::Share),
        };
        let line = &mut self.lines[from as usize];
        let Some((tenant, most, newest)) = line.heaviest() else { return Err(Refusal::Full) };
        let own = line.waiting_of(claim.tenant);
        if from == claim.class && (tenant == claim.tenant || most <= own + 1) {
            let by_own_doing = line.tenants() > 1 && u64::from(own) * u64::from(line.tenants()) > u64::from(line.waiting());
            return Err(if by_own_doing { Refusal::Share } else { Refusal::Full });
        }
        line.remove(&mut self.waiters, newest);
        self.take(newest, now).map(|left| (left, reason)).ok_or(Refusal::Full)
    }

    /// The slot of whoever is next, taken off its line.
    fn next(&mut self) -> Option<u32> {
        if self.waiters.is_empty() {
            return None;
        }
        loop {
            let line = &mut self.lines[self.turn];
            match line.next_cost(&self.waiters) {
                Some(cost) if cost <= line.credit => {
                    line.credit -= cost;
                    return line.take_next(&mut self.waiters);
                }
                Some(_) => {}
                None => line.credit = 0,
            }
            self.begin_turn((self.turn + 1) % Class::ALL.len());
        }
    }

    fn begin_turn(&mut self, turn: usize) {
        self.turn = turn;
        if self.lines[turn].waiting() > 0 {
            self.lines[turn].credit += Class::ALL[turn].share() * QUANTUM;
        }
    }

    /// Learns how fast the queue empties: a moving average, in which the last eight count most.
    fn left(&mut self, now: Instant) {
        if let Some(last) = self.last_left {
            let gap = now.since(last);
            self.interval = Some(self.interval.map_or(gap, |known| known * 7 / 8 + gap / 8));
        }
        self.last_left = (self.waiters.len() > 1).then_some(now);
    }

    fn take(&mut self, slot: u32, now: Instant) -> Option<Left<T>> {
        let waiter = self.waiters.try_remove(slot as usize)?;
        Some(Left { ticket: waiter.ticket, waited: now.since(waiter.arrived) })
    }
}

/// What a request is taken to cost, in tokens: a quarter of its body's bytes (English text has about four bytes a token), what it
/// allows the model to write, and a little that every request costs. `None` of either: a usual one.
#[must_use]
pub fn cost(body_bytes: Option<u64>, output_tokens: Option<u64>) -> u64 {
    COST_MIN + body_bytes.unwrap_or(BODY_BYTES_USUAL) / BYTES_PER_TOKEN + output_tokens.unwrap_or(0)
}

/// The sum of all classes' shares.
const SHARES: u64 = Class::High.share() + Class::Normal.share() + Class::Low.share();
const BYTES_PER_TOKEN: u64 = 4;
const BODY_BYTES_USUAL: u64 = 4096;
/// Tokens a tenant is credited per turn, and a class per share: what the cheapest request costs, so that no turn serves several.
const QUANTUM: u64 = COST_MIN;
/// Every request has a place to itself for a while, however small it is.
const COST_MIN: u64 = 256;
/// What a single request is charged at most: bounds the turns until it can be paid.
const COST_MAX: u64 = 256 * QUANTUM;
