//! An endpoint's life, told with times.

use std::time::Duration;

use crate::config::{Breaker, Resilience, Share, SlowStart};
use crate::policy::{BreakerState, CallEnd, Change, Ended, Health, Tripped};
use crate::sys::Instant;

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn with(breaker: Breaker) -> Resilience {
    Resilience { breaker, ..Resilience::default() }
}

/// A call that takes no time.
fn call(health: &mut Health, endpoint: u32, end: CallEnd, now: Instant) -> Option<Change> {
    let begun = health.handle_begin(endpoint, now);
    let ended = health.handle_end(endpoint, Ended { end, began: now, latency: Some(Duration::ZERO), jitter: 0 }, now);
    ended.or(begun)
}

fn fail(health: &mut Health, endpoint: u32, now: Instant) -> Option<Change> {
    call(health, endpoint, CallEnd::Failed, now)
}

fn succeed(health: &mut Health, endpoint: u32, now: Instant) -> Option<Change> {
    call(health, endpoint, CallEnd::Good, now)
}

fn defaults(endpoints: u32) -> Health {
    Health::new(&Resilience::default(), endpoints, 1)
}

#[test]
fn three_failures_in_a_row_open_it_for_a_second() {
    let mut health = defaults(2);
    assert_eq!(fail(&mut health, 0, at(0)), None);
    assert_eq!(fail(&mut health, 0, at(1)), None);
    assert!(health.is_usable(0, at(1)));
    assert_eq!(fail(&mut health, 0, at(2)), Some(Change::Opened(Tripped::Failures)));
    assert!(!health.is_usable(0, at(2)));
    assert!(!health.is_usable(0, at(1001)));
    assert!(health.is_usable(0, at(1002)), "on trial");
    assert!(health.is_usable(1, at(2)), "the other is untouched");
    assert_eq!((health.state(0), health.unhealthy_until(0)), (BreakerState::Open, at(1002)));
}

#[test]
fn answers_between_failures_keep_it_closed() {
    let mut health = defaults(2);
    for round in 0..100 {
        assert_eq!(fail(&mut health, 0, at(round)), None);
        assert_eq!(fail(&mut health, 0, at(round)), None);
        assert_eq!(succeed(&mut health, 0, at(round)), None);
    }
    assert!(health.is_usable(0, at(100)));
}

#[test]
fn the_time_open_doubles_to_thirty_seconds_and_a_good_trial_closes() {
    let mut health = defaults(2);
    let mut now = at(0);
    fail(&mut health, 0, now);
    fail(&mut health, 0, now);
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        assert!(matches!(fail(&mut health, 0, now), Some(Change::Opened(_))), "one failure on trial is enough");
        assert_eq!(health.unhealthy_until(0).since(now), Duration::from_secs(seconds));
        now = health.unhealthy_until(0);
    }
    assert_eq!(succeed(&mut health, 0, now), Some(Change::Closed));
    assert_eq!(health.unhealthy_until(0), Instant::ZERO);
    now = now + ms(1);
    fail(&mut health, 0, now);
    fail(&mut health, 0, now);
    assert!(health.is_usable(0, now), "it has its three failures again");
    fail(&mut health, 0, now);
    assert_eq!(health.unhealthy_until(0).since(now), Duration::from_secs(1), "and its first time");
}

#[test]
fn calls_that_were_under_way_when_it_opened_say_nothing_new() {
    let mut health = defaults(2);
    (0..3).for_each(|_| _ = fail(&mut health, 0, at(5)));
    for end in [CallEnd::Failed, CallEnd::Good] {
        let ended = Ended { end, began: at(4), latency: None, jitter: 0 };
        assert_eq!(health.handle_end(0, ended, at(500)), None);
    }
    assert_eq!(health.unhealthy_until(0), at(1005));
    // Nor when it has closed again since: the old ones are not the first failures of a new fault.
    assert_eq!(succeed(&mut health, 0, at(1005)), Some(Change::Closed));
    for _ in 0..10 {
        let ended = Ended { end: CallEnd::Failed, began: at(4), latency: None, jitter: 0 };
        assert_eq!(health.handle_end(0, ended, at(1006)), None);
    }
    assert!(health.is_usable(0, at(1006)));
}

#[test]
fn jitter_adds_up_to_a_quarter() {
    for (jitter, millis) in [(0, 1000), (u32::MAX, 1250)] {
        let mut health = defaults(1);
        let ended = Ended { end: CallEnd::Failed, began: at(0), latency: None, jitter };
        (0..3).for_each(|_| _ = health.handle_end(0, ended, at(0)));
        assert_eq!(health.unhealthy_until(0), at(millis));
    }
}

#[test]
fn half_open_lets_so_many_at_a_time_and_closes_after_as_many() {
    let mut health = Health::new(&with(Breaker { trials: 3, ..Breaker::default() }), 2, 1);
    (0..3).for_each(|_| _ = fail(&mut health, 0, at(0)));
    let now = at(1000);
    assert_eq!(health.handle_begin(0, now), Some(Change::HalfOpened));
    for _ in 1..3 {
        assert!(health.is_usable(0, now));
        assert_eq!(health.handle_begin(0, now), None);
    }
    assert!(!health.is_usable(0, now), "three are out");
    let ended = |end| Ended { end, began: now, latency: Some(ms(1)), jitter: 0 };
    assert_eq!(health.handle_end(0, ended(CallEnd::Unknown), now), None);
    assert!(health.is_usable(0, now), "who left gave its place back");
    assert_eq!(health.handle_end(0, ended(CallEnd::Good), now), None);
    assert_eq!(health.handle_end(0, ended(CallEnd::Good), now), None);
    assert_eq!(health.handle_begin(0, now), None);
    assert_eq!(health.handle_end(0, ended(CallEnd::Good), now), Some(Change::Closed));
}

#[test]
fn an_error_rate_opens_it_over_a_sliding_window() {
    let rules = Breaker { error_rate: Share(5000), window: ms(1000), min_calls: 10, ..Breaker::default() };
    let mut health = Health::new(&with(rules), 2, 1);
    for round in 0..9 {
        let end = if round % 3 == 0 { CallEnd::Good } else { CallEnd::Erred };
        assert_eq!(call(&mut health, 0, end, at(round)), None, "too few to judge");
    }
    // Two thirds of ten are too many.
    assert_eq!(call(&mut health, 0, CallEnd::Erred, at(9)), Some(Change::Opened(Tripped::ErrorRate)));
    // The same calls over more than the window never are enough.
    let mut health = Health::new(&with(rules), 2, 1);
    for round in 0..100 {
        assert_eq!(call(&mut health, 0, CallEnd::Erred, at(round * 150)), None, "round {round}");
    }
    // Half is not more than half.
    for round in 0..100 {
        let end = if round % 2 == 0 { CallEnd::Good } else { CallEnd::Erred };
        assert_eq!(call(&mut health, 1, end, at(20_000 + round)), None);
    }
}

#[test]
fn slow_calls_open_it_where_that_is_configured() {
    let rules = Breaker { slow_rate: Share(5000), slow_call: ms(100), min_calls: 4, ..Breaker::default() };
    let mut health = Health::new(&with(rules), 2, 1);
    let slow = |took| Ended { end: CallEnd::Good, began: at(0), latency: Some(ms(took)), jitter: 0 };
    for took in [100, 101, 500] {
        assert_eq!(health.handle_end(0, slow(took), at(600)), None);
    }
    assert_eq!(health.handle_end(0, slow(900), at(900)), Some(Change::Opened(Tripped::SlowRate)));
    let mut health = defaults(2);
    (0..100).for_each(|_| assert_eq!(health.handle_end(0, slow(900_000), at(900_000)), None));
}

#[test]
fn when_all_are_out_all_are_used_but_the_upstream_is_not_ready() {
    let mut health = defaults(2);
    for endpoint in [0, 1] {
        (0..3).for_each(|_| _ = fail(&mut health, endpoint, at(0)));
    }
    assert!(health.is_usable(0, at(500)) && health.is_usable(1, at(500)));
    let strict = health.view(at(500)).strict();
    assert!(!strict.is_usable(0) && !strict.is_usable(1), "unless there is a fallback");
    assert!(!health.any_healthy(at(500)));
    // A call made meanwhile succeeds: that is as good as a trial.
    assert_eq!(succeed(&mut health, 1, at(500)), Some(Change::Closed));
    assert!(!health.is_usable(0, at(500)) && health.is_usable(1, at(500)));
    assert!(health.any_healthy(at(500)));
}

#[test]
fn the_panic_threshold_is_a_share_of_the_endpoints() {
    let mut health = Health::new(&Resilience { panic_threshold: Share(5000), ..Resilience::default() }, 4, 1);
    let usable = |health: &Health| (0..4).filter(|endpoint| health.is_usable(*endpoint, at(1))).count();
    for (endpoint, left) in [(0, 3), (1, 2), (2, 4)] {
        (0..3).for_each(|_| _ = fail(&mut health, endpoint, at(0)));
        assert_eq!(usable(&health), left, "after {endpoint}");
    }
}

#[test]
fn a_pause_is_no_fault_and_ends_by_itself() {
    let mut health = defaults(2);
    health.handle_pause(0, at(700));
    assert!(!health.is_usable(0, at(699)) && health.is_usable(1, at(699)));
    assert_eq!((health.state(0), health.unhealthy_until(0)), (BreakerState::Closed, Instant::ZERO));
    assert!(health.any_healthy(at(1)));
    health.handle_pause(1, at(800));
    assert_eq!(health.paused_until(at(1)), Some(at(700)), "nobody is called before");
    assert!(!health.is_usable(0, at(1)) && !health.is_usable(1, at(1)));
    assert!(health.is_usable(0, at(700)));
    assert_eq!(health.paused_until(at(900)), None);
}

#[test]
fn probes_take_an_endpoint_out_and_bring_it_back_for_a_trial_at_once() {
    let mut health = defaults(3);
    assert!(!health.handle_probe(0, true, at(0)), "nothing new");
    assert!(health.handle_probe(0, false, at(0)));
    assert!(!health.is_usable(0, at(1)));
    assert_eq!(health.unhealthy_until(0), Instant::FAR);
    (0..3).for_each(|_| _ = fail(&mut health, 0, at(100)));
    assert!(!health.handle_probe(0, false, at(110)));
    assert!(health.handle_probe(0, true, at(120)));
    assert!(health.is_usable(0, at(120)), "its breaker does not wait for its second to pass");
    assert_eq!(succeed(&mut health, 0, at(120)), Some(Change::Closed));
}

/// Counted over many choices, its share grows in a straight line.
#[test]
fn slow_start_grows_from_the_first_share_to_all() {
    let slow_start = SlowStart { window: ms(10_000), first: Share(1000) };
    let mut health = Health::new(&Resilience { slow_start, ..Resilience::default() }, 2, 7);
    health.handle_probe(0, false, at(0));
    health.handle_probe(0, true, at(1000));
    for (moment, share) in [(1000, 0.1), (6000, 0.55), (10_999, 1.0), (11_000, 1.0)] {
        let times = (0..10_000).filter(|_| health.view(at(moment)).is_usable(0)).count();
        assert!((times as f64 / 10_000.0 - share).abs() < 0.02, "{times} of 10000 at {moment}");
        assert!(health.view(at(moment)).whole().is_usable(0));
        assert!(health.view(at(moment)).is_usable(1));
    }
}

#[test]
fn a_reload_keeps_what_is_known() {
    let mut former = defaults(2);
    (0..3).for_each(|_| _ = fail(&mut former, 1, at(0)));
    former.handle_probe(0, false, at(0));
    let mut health = defaults(2);
    health.inherit(0, &former, 1);
    health.inherit(1, &former, 0);
    assert_eq!(health.state(0), BreakerState::Open);
    assert_eq!(health.unhealthy_until(1), Instant::FAR);
    // Under other rules the breaker's judgement begins anew.
    let mut health = Health::new(&with(Breaker { failures: 9, ..Breaker::default() }), 2, 1);
    health.inherit(0, &former, 1);
    assert_eq!(health.state(0), BreakerState::Closed);
}

#[test]
fn an_endpoint_that_does_not_exist_is_never_usable() {
    let mut health = defaults(1);
    assert!(!health.is_usable(1, at(0)));
    assert_eq!(fail(&mut health, 1, at(0)), None);
    assert!(!health.handle_probe(1, false, at(0)));
}

/// Whatever happens, in any order: a breaker that is left alone lets a call through in the end, and never more trials than allowed.
#[test]
fn a_week_of_weather() {
    let rules = Breaker { trials: 2, error_rate: Share(3000), ..Breaker::default() };
    let mut health = Health::new(&with(rules), 2, 1);
    let mut dice = 1_u64;
    let mut roll = |bound: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % bound
    };
    let mut now = at(0);
    let mut flights: Vec<Instant> = Vec::new();
    let mut opened = 0;
    for _ in 0..200_000 {
        now = now + ms(roll(6000));
        if health.view(now).strict().is_usable(0) && flights.len() < 50 {
            health.handle_begin(0, now);
            flights.push(now);
        }
        if roll(3) > 0 && !flights.is_empty() {
            let index = usize::try_from(roll(flights.len() as u64)).unwrap();
            let began = flights.swap_remove(index);
            let end = [CallEnd::Good, CallEnd::Good, CallEnd::Failed, CallEnd::Erred, CallEnd::Unknown][usize::try_from(roll(5)).unwrap()];
            let change = health.handle_end(0, Ended { end, began, latency: Some(now.since(began)), jitter: 5 }, now);
            opened += usize::from(matches!(change, Some(Change::Opened(_))));
        }
    }
    assert!(opened > 1000, "{opened}");
    for began in flights {
        health.handle_end(0, Ended { end: CallEnd::Unknown, began, latency: None, jitter: 0 }, now);
    }
    assert!(health.is_usable(0, now + Duration::from_secs(60)));
}
