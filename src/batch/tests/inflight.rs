//! The learned in-flight limit in front of a model server whose calls take longer side by side, under virtual time: closed-loop
//! clients, a change of their number, and open arrivals.

use super::rig::{RULES, body, body_of, embed, job, ms};
use crate::batch::{Call, CallOutcome, Home, HomeLimits, LaneRules};
use crate::config::BatchingMode;
use crate::sys::Instant;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

fn us(count: u64) -> Duration {
    Duration::from_micros(count)
}

/// What a call takes that has `calls` in flight with it, itself included.
type CallTime = fn(calls: usize) -> Duration;

/// Infinity's debug engine: 6.4 ms alone, 10.3 ms beside others, whatever a call holds.
fn slower_side_by_side(calls: usize) -> Duration {
    if calls == 1 { us(6400) } else { us(10_300) }
}

/// As many calls side by side as one likes.
fn indifferent(_: usize) -> Duration {
    us(6400)
}

/// A home, closed-loop clients and a model server.
struct World {
    home: Home,
    rules: LaneRules,
    time: CallTime,
    now: Instant,
    queue: BTreeMap<(Instant, u64), Event>,
    events: u64,
    in_flight: usize,
    /// Clients that ask again when they are answered.
    clients: u32,
    asking: u32,
    answered: u32,
    /// By ticket.
    came: Vec<Instant>,
    stay: Duration,
    /// Time between arrivals of clients that do not come back; zero: there are none.
    gap: Duration,
}

enum Event {
    Ask,
    Arrival,
    Done(Box<Call>),
}

impl World {
    fn new(in_flight: u32, time: CallTime) -> World {
        World {
            home: Home::new(HomeLimits::default()),
            rules: LaneRules { mode: BatchingMode::Batching, in_flight, ..RULES },
            time,
            now: Instant::ZERO + ms(1),
            queue: BTreeMap::new(),
            events: 0,
            in_flight: 0,
            clients: 0,
            asking: 0,
            answered: 0,
            came: Vec::new(),
            stay: Duration::ZERO,
            gap: Duration::ZERO,
        }
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + after, self.events), event);
    }

    fn clients(&mut self, count: u32) {
        self.clients = count;
        while self.asking < count {
            self.asking += 1;
            self.at(us(5 * u64::from(self.asking)), Event::Ask);
        }
    }

    fn arrivals(&mut self, gap: Duration) {
        self.gap = gap;
        self.at(gap, Event::Arrival);
    }

    /// Runs for `time`; answers a second and the mean stay.
    fn run(&mut self, time: Duration) -> (f64, Duration) {
        let end = self.now + time;
        (self.answered, self.stay) = (0, Duration::ZERO);
        loop {
            let timer = self.home.next_timeout();
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = [timer, event].into_iter().flatten().min().unwrap();
            if next > end {
                self.now = end;
                return (f64::from(self.answered) / time.as_secs_f64(), self.stay / self.answered.max(1));
            }
            self.now = self.now.max(next);
            self.home.handle_timeout(self.now);
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
                match entry.remove() {
                    Event::Ask => self.ask(),
                    Event::Arrival => {
                        self.ask();
                        self.at(self.gap, Event::Arrival);
                    }
                    Event::Done(call) => self.done(&call),
                }
            }
            self.turn_ends();
        }
    }

    fn ask(&mut self) {
        let job = job(u32::try_from(self.came.len()).unwrap(), &body("\"a\""), self.now);
        self.came.push(self.now);
        self.home.handle_job(job, &self.rules, self.now);
    }

    fn done(&mut self, call: &Call) {
        self.in_flight -= 1;
        let body = Bytes::from(embed(&body_of(call)));
        let fields = Bytes::from_static(b"content-type: application/json\r\n");
        self.home.handle_outcome(call.id, CallOutcome::Answered { status: 200, fields, body, retry_after: None }, self.now);
    }

    fn turn_ends(&mut self) {
        while let Some(call) = self.home.poll_call(self.now) {
            self.in_flight += 1;
            assert!(self.in_flight <= self.rules.in_flight as usize, "the configured number is a ceiling");
            self.at((self.time)(self.in_flight), Event::Done(Box::new(call)));
        }
        let mut back = 0;
        while let Some(answer) = self.home.poll_answer() {
            self.answered += 1;
            self.stay += self.now.since(self.came[answer.ticket.slot as usize]);
            if self.gap.is_zero() && self.asking > self.clients {
                self.asking -= 1;
            } else if self.gap.is_zero() {
                back += 1;
                self.at(us(100 + 5 * back), Event::Ask);
            }
        }
    }
}

/// Clients come, time passes in which the limit is learned, then the rate is measured.
fn learned(world: &mut World, clients: u32) -> f64 {
    world.clients(clients);
    world.run(ms(1500));
    world.run(ms(2000)).0
}

#[test]
fn few_clients_of_a_server_that_is_slower_side_by_side_share_one_call() {
    let mut world = World::new(4, slower_side_by_side);
    let rate = learned(&mut world, 32);
    // 32 in 6.4 ms and a moment to come back: 4,700; four calls of eight in 10.3 ms: 3,000.
    assert!(rate > 4400.0, "{rate:.0}/s");
}

#[test]
fn many_clients_fill_all_calls_the_ceiling_allows() {
    let mut world = World::new(4, slower_side_by_side);
    let rate = learned(&mut world, 128);
    // 128 in 10.3 ms and a moment: 11,900; one full call after the other: 4,900.
    assert!(rate > 11_000.0, "{rate:.0}/s");
}

#[test]
fn the_limit_follows_the_load() {
    let mut world = World::new(4, slower_side_by_side);
    for round in 0..2 {
        let few = learned(&mut world, 32);
        let many = learned(&mut world, 128);
        let lone = learned(&mut world, 1);
        assert!(few > 4200.0 && many > 10_500.0 && lone > 150.0, "round {round}: {few:.0}, {many:.0}, {lone:.0}/s");
    }
}

#[test]
fn where_calls_do_not_hinder_one_another_none_waits_for_another() {
    let mut world = World::new(4, indifferent);
    world.arrivals(us(1900));
    world.run(ms(2000));
    let (_, stay) = world.run(ms(4000));
    // Three calls at a time are needed; with one at a time a job would wait for half of the call before its own: 9.6 ms.
    assert!(stay < us(7000), "{stay:?}");
}

#[test]
fn a_full_queue_is_worked_off_as_fast_as_the_ceiling_allows() {
    let mut world = World::new(4, indifferent);
    // 14,000/s come; a call of 32 at a time takes 5,000/s, four 20,000/s.
    world.arrivals(us(70));
    world.run(ms(2000));
    let (rate, stay) = world.run(ms(4000));
    assert!(rate > 13_500.0 && stay < ms(60), "{rate:.0}/s, {stay:?}");
}
