//! The learned limit against a pretend server under virtual time: a server with places for `knee` requests at once, beyond which
//! they queue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::policy::{Adaptive, Round};
use crate::sys::Instant;

/// A server with places for `knee` requests, `service` nanoseconds each, give or take a fifth.
struct Server {
    knee: usize,
    service: u64,
    /// When each place is free.
    free: BinaryHeap<Reverse<u64>>,
    dice: u64,
}

impl Server {
    fn new(knee: usize, service: u64) -> Server {
        Server { knee, service, free: (0..knee).map(|_| Reverse(0)).collect(), dice: 1 }
    }

    /// When a request that comes now is answered.
    fn answer(&mut self, now: u64) -> u64 {
        while self.free.len() > self.knee {
            self.free.pop();
        }
        while self.free.len() < self.knee {
            self.free.push(Reverse(now));
        }
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let spread = self.service / 5;
        let service = self.service - spread + (self.dice >> 33) % (2 * spread);
        let Reverse(free) = self.free.pop().unwrap();
        let end = free.max(now) + service;
        self.free.push(Reverse(end));
        end
    }
}

/// Clients that have always more requests than the limits allow, on one or more shards with a limit each.
struct World {
    limits: Vec<Adaptive>,
    in_flight: Vec<u32>,
    server: Server,
    /// End, begin, shard, round.
    running: BinaryHeap<Reverse<(u64, u64, usize, u32)>>,
    rounds: Vec<Round>,
    now: u64,
    answered: u64,
    seconds: f64,
}

impl World {
    fn new(limits: Vec<Adaptive>, server: Server) -> World {
        let in_flight = vec![0; limits.len()];
        World { limits, in_flight, server, running: BinaryHeap::new(), rounds: Vec::new(), now: 0, answered: 0, seconds: 0.0 }
    }

    /// (Not to a multiple of 30 s: then everybody is in a dip.)
    fn run(&mut self, seconds: u64) {
        let until = self.now + seconds * 1_000_000_000;
        (self.answered, self.seconds) = (0, 0.0);
        while self.now < until {
            for shard in 0..self.limits.len() {
                while self.in_flight[shard] < self.limits[shard].limit() {
                    self.in_flight[shard] += 1;
                    self.rounds.push(self.limits[shard].handle_begin(self.in_flight[shard]));
                    let round = u32::try_from(self.rounds.len() - 1).unwrap();
                    self.running.push(Reverse((self.server.answer(self.now), self.now, shard, round)));
                }
            }
            let Reverse((end, begun, shard, round)) = self.running.pop().unwrap();
            self.now = end;
            self.in_flight[shard] -= 1;
            let latency = Duration::from_nanos(end - begun);
            self.limits[shard].handle_answer(self.rounds[round as usize], latency, Instant::from_nanos(end));
            self.answered += 1;
            self.seconds += latency.as_secs_f64();
        }
    }

    fn total(&self) -> u32 {
        self.limits.iter().map(Adaptive::limit).sum()
    }

    fn latency_ms(&self) -> f64 {
        self.seconds / self.answered as f64 * 1e3
    }
}

const SERVICE: u64 = 50_000_000;

#[test]
fn it_finds_what_the_server_can_do_and_stays_there() {
    for knee in [8, 32, 200] {
        let mut world = World::new(vec![Adaptive::new(1, 1024)], Server::new(knee, SERVICE));
        world.run(595);
        world.run(60);
        let (limit, rate) = (world.total() as usize, world.answered as f64 / 60.0);
        assert!(limit >= knee, "{knee}: {limit} leave some of it idle");
        assert!(limit <= knee * 5 / 2, "{knee}: {limit} only queue there");
        assert!(rate >= 0.95 * knee as f64 * 20.0, "{knee}: {rate}/s, of which the dips take a little");
        assert!(world.latency_ms() < 125.0, "{knee}: {} ms", world.latency_ms());
    }
}

#[test]
fn a_baseline_that_was_measured_in_a_queue_is_found_out() {
    // The first round runs with 20 on a server for 4: the baseline is five times too high.
    let mut world = World::new(vec![Adaptive::new(1, 1024)], Server::new(4, SERVICE));
    world.run(595);
    assert!(world.total() <= 16, "{}", world.total());
    assert!(world.latency_ms() < 50.0 * 5.0);
}

#[test]
fn a_server_that_slows_down_gets_less_and_one_that_recovers_gets_it_back() {
    let mut world = World::new(vec![Adaptive::new(1, 1024)], Server::new(64, SERVICE));
    world.run(295);
    let before = world.total();
    world.server.knee = 16;
    world.run(295);
    let during = world.total();
    assert!((16..=48).contains(&during), "{before} {during}");
    world.server.knee = 64;
    world.run(295);
    assert!(world.total() >= 64, "{before} {during} {}", world.total());
}

#[test]
fn shards_that_learn_for_themselves_find_it_together() {
    let mut world = World::new((0..4).map(|_| Adaptive::new(1, 256)).collect(), Server::new(64, SERVICE));
    world.run(895);
    world.run(60);
    // Each keeps room of its own to find out that more is possible, so together they queue more than one does.
    assert!((64..=256).contains(&world.total()), "{}", world.total());
    assert!(world.answered as f64 / 60.0 >= 0.9 * 64.0 * 20.0);
}

#[test]
fn half_used_changes_nothing_and_overload_takes_a_tenth() {
    let mut adaptive = Adaptive::new(1, 100);
    let now = Instant::from_nanos(1);
    for _ in 0..1000 {
        let round = adaptive.handle_begin(3);
        adaptive.handle_answer(round, Duration::from_millis(1), now);
    }
    assert_eq!(adaptive.limit(), 20);
    let round = adaptive.handle_begin(20);
    adaptive.handle_overload(round);
    assert_eq!(adaptive.limit(), 18);
    // Those of the same round say nothing new.
    adaptive.handle_overload(round);
    assert_eq!(adaptive.limit(), 18);
    for _ in 0..200 {
        let round = adaptive.handle_begin(20);
        adaptive.handle_overload(round);
    }
    assert_eq!(adaptive.limit(), 1, "never nothing");
}

#[test]
fn bounds_hold() {
    assert_eq!(Adaptive::new(50, 100).limit(), 50);
    assert_eq!(Adaptive::new(1, 5).limit(), 5);
    assert_eq!(Adaptive::new(9, 3).limit(), 9, "check refuses it; it does no harm");
    let mut world = World::new(vec![Adaptive::new(4, 30)], Server::new(1000, SERVICE));
    world.run(115);
    assert_eq!(world.total(), 30);
}
