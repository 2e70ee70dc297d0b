//! Who waits for a place at an upstream that is at its limit, or in a lane for the next batch, and who is next: a bounded queue with
//! classes of priority and fair shares for tenants. How many may run is settled in `limit`, what a batch takes in `batch`; what a refused
//! request is answered is respond's.
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
use line::{End, Line};
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

    /// The class a field's value names, in any case; `None` for any other word. A digit is an urgency as in RFC 9218, 4.1: the smaller the
    /// more urgent, and its default, 3, is normal.
    #[must_use]
    pub fn from_word(word: &[u8]) -> Option<Class> {
        match word {
            [b'0'..=b'2'] => return Some(Class::High),
            [b'3'..=b'5'] => return Some(Class::Normal),
            [b'6'..=b'9'] => return Some(Class::Low),
            _ => {}
        }
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

/// The requests that wait on one shard for one upstream, or in one lane. `T` is what the owner knows its waiting exchange by. A request
/// has one place or, in a lane, as many as it has items.
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
    /// Places it takes up.
    size: u32,
    arrived: Instant,
    ticket: T,
}

impl<T> Linked for Waiter<T> {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl<T> Queue<T> {
    /// At most `max` places.
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

    /// Places taken.
    #[must_use]
    pub fn places(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.waiting())).sum()
    }

    /// What all who wait left here, in no order.
    pub fn tickets(&self) -> impl Iterator<Item = &T> {
        self.waiters.iter().map(|(_, waiter)| &waiter.ticket)
    }

    /// When the one came that has waited longest. Looks at every tenant.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.lines.iter().filter_map(|line| line.oldest(&self.waiters)).min()
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
        let put_out = self.make_room(claim, 1, now)?.pop();
        Ok((self.join(claim, cost, 1, ticket, now), put_out))
    }

    /// Takes `size` places at the end of the claim's line, whether there is room or not.
    pub fn join(&mut self, claim: Claim, cost: u64, size: u32, ticket: T, now: Instant) -> Place {
        let slot = self.insert(claim, cost, size, ticket, now);
        self.lines[claim.class as usize].push(&mut self.waiters, slot, claim.tenant, End::Back);
        self.joined(claim, slot)
    }

    /// What is left of a request that was taken out and served in part: first among its tenant's again, and to be paid for.
    pub fn put_back(&mut self, claim: Claim, cost: u64, size: u32, ticket: T, arrived: Instant) -> Place {
        let slot = self.insert(claim, cost, size, ticket, arrived);
        self.lines[claim.class as usize].push(&mut self.waiters, slot, claim.tenant, End::Front);
        self.joined(claim, slot)
    }

    fn insert(&mut self, claim: Claim, cost: u64, size: u32, ticket: T, arrived: Instant) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        let waiter = Waiter {
            links: Links::default(),
            serial: self.serial,
            class: claim.class,
            tenant: claim.tenant,
            cost: cost.clamp(COST_MIN, COST_MAX),
            size,
            arrived,
            ticket,
        };
        u32::try_from(self.waiters.insert(waiter)).unwrap_or(u32::MAX)
    }

    fn joined(&mut self, claim: Claim, slot: u32) -> Place {
        if self.waiters.len() == 1 {
            self.lines.iter_mut().for_each(|line| line.credit = 0);
            self.begin_turn(claim.class as usize);
            self.last_left = None;
        }
        Place { slot, serial: self.serial }
    }

    /// Takes out whoever is next.
    pub fn pop(&mut self, now: Instant) -> Option<Left<T>> {
        let slot = self.next()?;
        self.left(now);
        self.take(slot, now)
    }

    /// The holder of the place has left. Its ticket, unless it is not there any more.
    pub fn cancel(&mut self, place: Place, now: Instant) -> Option<Left<T>> {
        let waiter = self.remove(place)?;
        Some(Left { ticket: waiter.ticket, waited: now.since(waiter.arrived) })
    }

    /// As [`Queue::cancel`], for who does not ask how long it was.
    pub fn withdraw(&mut self, place: Place) -> Option<T> {
        self.remove(place).map(|waiter| waiter.ticket)
    }

    fn remove(&mut self, place: Place) -> Option<Waiter<T>> {
        let waiter = self.waiters.get(place.slot as usize).filter(|waiter| waiter.serial == place.serial)?;
        self.lines[waiter.class as usize].remove(&mut self.waiters, place.slot);
        self.waiters.try_remove(place.slot as usize)
    }

    /// The places that would be served before a newcomer with this claim and size. `own`: those of its own tenant included.
    #[must_use]
    pub fn places_before(&self, claim: Claim, size: u32, own: bool) -> u64 {
        let own = if own { self.lines[claim.class as usize].waiting_of(claim.tenant) } else { 0 };
        self.up_to(claim, own, size) - u64::from(size)
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
        interval.saturating_mul(u32::try_from(self.up_to(claim, own, 1)).unwrap_or(u32::MAX))
    }

    /// The places that leave until a newcomer of this size has left, itself included, when its tenant has `own` before it.
    fn up_to(&self, claim: Claim, own: u32, size: u32) -> u64 {
        let line = &self.lines[claim.class as usize];
        let others = line.tenants() - u32::from(line.waiting_of(claim.tenant) > 0);
        let shares: u64 = Class::ALL.into_iter().filter(|class| self.lines[*class as usize].waiting() > 0).map(Class::share).sum();
        let shares = shares + if line.waiting() > 0 { 0 } else { claim.class.share() };
        let rounds = u64::from(own) + u64::from(size);
        let in_turn = (rounds * (u64::from(others) + 1)).saturating_mul(shares).div_ceil(claim.class.share());
        in_turn.min(self.places() + u64::from(size))
    }

    /// Puts others out until a newcomer of `size` places has room; a queue with places that is empty has room for anyone. Each class is
    /// sure of its share of the places. A newcomer takes those of the least urgent class that holds more than that, if that one is less
    /// urgent or the newcomer's own class stays within its share; else of its own class's heaviest tenant, if that one still has as much as
    /// the newcomer's afterwards. Always the newest of the tenant with the most waiting goes.
    ///
    /// # Errors
    /// Why there is no room for it; nothing changed.
    pub fn make_room(&mut self, claim: Claim, size: u32, now: Instant) -> Result<Vec<(Left<T>, Refusal)>, Refusal> {
        let (taken, size) = (self.places(), u64::from(size));
        let need = (taken + size).saturating_sub(self.max as u64);
        if need == 0 || (taken == 0 && self.max > 0) {
            return Ok(Vec::new());
        }
        let held = |class: Class| u64::from(self.lines[class as usize].waiting());
        let sure = |class: Class| (self.max as u64 * class.share() / SHARES).max(1);
        let in_need = held(claim.class) + size <= sure(claim.class);
        let may_go = |class: &Class| *class != claim.class && held(*class) >= sure(*class) + need && (in_need || *class > claim.class);
        let (from, reason) = match Class::ALL.into_iter().rev().find(may_go) {
            Some(class) => (class, Refusal::Full),
            None => (claim.class, Refusal::Share),
        };
        if from == claim.class {
            let line = &self.lines[from as usize];
            let Some((tenant, most, _)) = line.heaviest() else { return Err(Refusal::Full) };
            let own = u64::from(line.waiting_of(claim.tenant));
            if tenant == claim.tenant || u64::from(most) < own + size + need {
                let by_own_doing = line.tenants() > 1 && own * u64::from(line.tenants()) > u64::from(line.waiting());
                return Err(if by_own_doing { Refusal::Share } else { Refusal::Full });
            }
        }
        let mut put_out = Vec::new();
        let least = taken.saturating_sub(need);
        while self.places() > least {
            let line = &mut self.lines[from as usize];
            let Some((_, _, newest)) = line.heaviest() else { break };
            line.remove(&mut self.waiters, newest);
            put_out.extend(self.take(newest, now).map(|left| (left, reason)));
        }
        Ok(put_out)
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

/// The same of items that are asked for together: each takes what a request takes.
#[must_use]
pub fn cost_of_items(items: u32, bytes: u64) -> u64 {
    u64::from(items).saturating_mul(COST_MIN).saturating_add(bytes / BYTES_PER_TOKEN)
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
