//! An endpoint's life, told with times.

use std::time::Duration;

use crate::policy::Health;
use crate::sys::Instant;

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

#[test]
fn three_failures_in_a_row_make_it_unhealthy_for_a_second() {
    let mut health = Health::new(2);
    assert!(!health.handle_failure(0, at(0), 0));
    assert!(!health.handle_failure(0, at(1), 0));
    assert!(health.is_usable(0, at(1)));
    assert!(health.handle_failure(0, at(2), 0), "became unhealthy");
    assert!(!health.is_usable(0, at(2)));
    assert!(!health.is_usable(0, at(1001)));
    assert!(health.is_usable(0, at(1002)), "on trial");
    assert!(health.is_usable(1, at(2)), "the other is untouched");
    assert_eq!(health.unhealthy_until(0), at(1002));
}

#[test]
fn answers_between_failures_keep_it_healthy() {
    let mut health = Health::new(2);
    for round in 0..100 {
        assert!(!health.handle_failure(0, at(round), 0));
        assert!(!health.handle_failure(0, at(round), 0));
        assert!(!health.handle_success(0), "it was healthy all the time");
    }
    assert!(health.is_usable(0, at(100)));
}

#[test]
fn the_backoff_doubles_to_thirty_seconds_and_a_success_ends_it() {
    let mut health = Health::new(2);
    let mut now = at(0);
    health.handle_failure(0, now, 0);
    health.handle_failure(0, now, 0);
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        assert!(health.handle_failure(0, now, 0), "one failure on trial is enough");
        assert_eq!(health.unhealthy_until(0).since(now), Duration::from_secs(seconds));
        now = health.unhealthy_until(0);
    }
    assert!(health.handle_success(0), "restored");
    assert_eq!(health.unhealthy_until(0), Instant::ZERO);
    health.handle_failure(0, now, 0);
    health.handle_failure(0, now, 0);
    assert!(health.is_usable(0, now), "it has its three failures again");
    health.handle_failure(0, now, 0);
    assert_eq!(health.unhealthy_until(0).since(now), Duration::from_secs(1), "and its first backoff");
}

#[test]
fn calls_that_were_under_way_when_it_became_unhealthy_do_not_double_the_backoff() {
    let mut health = Health::new(2);
    for _ in 0..50 {
        health.handle_failure(0, at(5), 0);
    }
    assert_eq!(health.unhealthy_until(0), at(1005));
}

#[test]
fn jitter_adds_up_to_a_quarter() {
    for (jitter, millis) in [(0, 1000), (u32::MAX, 1250)] {
        let mut health = Health::new(1);
        (0..3).for_each(|_| _ = health.handle_failure(0, at(0), jitter));
        assert_eq!(health.unhealthy_until(0), at(millis));
    }
}

#[test]
fn when_all_are_unhealthy_all_are_usable_but_the_upstream_is_not_ready() {
    let mut health = Health::new(2);
    for endpoint in [0, 1] {
        (0..3).for_each(|_| _ = health.handle_failure(endpoint, at(0), 0));
    }
    assert!(health.is_usable(0, at(500)) && health.is_usable(1, at(500)));
    assert!(!health.any_healthy(at(500)));
    health.handle_success(1);
    assert!(!health.is_usable(0, at(500)) && health.is_usable(1, at(500)));
    assert!(health.any_healthy(at(500)));
}

#[test]
fn an_endpoint_that_does_not_exist_is_never_usable() {
    let mut health = Health::new(1);
    assert!(!health.is_usable(1, at(0)));
    assert!(!health.handle_failure(1, at(0), 0) && !health.handle_success(1));
}
