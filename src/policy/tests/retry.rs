//! The table of what may be tried again, when, and what it may cost.

use std::time::Duration;

use crate::config::{Hedge, HedgeAfter, RetryRules, Share};
use crate::policy::{Attempt, Budget, Failure, Hedger, Retry, backoff, decide, failure_of};
use crate::sys::Instant;

fn rules(on: &[&str]) -> RetryRules {
    let has = |word: &str| on.contains(&word);
    RetryRules { on_connect: has("connect"), on_reset: has("reset"), on_5xx: has("5xx"), on_429: has("429"), ..RetryRules::default() }
}

/// The first call of a POST whose body is held.
fn post() -> Attempt {
    Attempt { calls: 1, resent: false, answer_begun: false, body_held: true, idempotent: false, rules: RetryRules::default() }
}

fn get() -> Attempt {
    Attempt { idempotent: true, ..post() }
}

const FAILURES: [Failure; 8] = [
    Failure::Connect,
    Failure::StaleConnection,
    Failure::Transport,
    Failure::Timeout,
    Failure::BadAnswer,
    Failure::RateLimited,
    Failure::ServerError,
    Failure::Refused,
];

#[test]
fn what_may_be_tried_again() {
    use Retry::{FreshConnection, No, OtherEndpoint};
    let all = Attempt { rules: rules(&["connect", "reset", "5xx", "429"]), ..post() };
    let none = Attempt { rules: rules(&[]), ..get() };
    let table = [
        ("nothing was sent", Failure::Connect, post(), OtherEndpoint),
        ("nothing was sent, again", Failure::Connect, Attempt { calls: 2, ..post() }, OtherEndpoint),
        ("the server had closed the idle connection", Failure::StaleConnection, post(), FreshConnection),
        ("so it had, after another endpoint refused", Failure::StaleConnection, Attempt { calls: 2, ..post() }, FreshConnection),
        ("so it had, at the last try", Failure::StaleConnection, Attempt { calls: 3, ..post() }, FreshConnection),
        ("a fresh connection is never stale", Failure::StaleConnection, Attempt { resent: true, calls: 2, ..post() }, No),
        ("but a GET may be repeated anyway", Failure::StaleConnection, Attempt { resent: true, calls: 2, ..get() }, OtherEndpoint),
        ("the resending is not counted", Failure::Connect, Attempt { resent: true, calls: 3, ..post() }, OtherEndpoint),
        ("but only once", Failure::Connect, Attempt { resent: true, calls: 4, ..post() }, No),
        ("the upstream may have acted on it", Failure::Transport, post(), No),
        ("it may act twice on a GET", Failure::Transport, get(), OtherEndpoint),
        ("the model may be at work", Failure::Timeout, post(), No),
        ("the model may be at work on a GET", Failure::Timeout, get(), No),
        ("it said that it did nothing", Failure::Refused, post(), OtherEndpoint),
        ("it acted, badly", Failure::BadAnswer, get(), No),
        ("answers are left alone by default", Failure::ServerError, get(), No),
        ("a 5xx may have been acted upon", Failure::ServerError, all, No),
        ("on a GET that does no harm", Failure::ServerError, Attempt { idempotent: true, ..all }, OtherEndpoint),
        ("a 429 was not acted upon", Failure::RateLimited, all, OtherEndpoint),
        ("the operator wants none", Failure::Connect, none, No),
        ("of no kind", Failure::Transport, none, No),
        ("a stale connection is not the server's fault", Failure::StaleConnection, none, FreshConnection),
    ];
    for (why, failure, attempt, wanted) in table {
        assert_eq!(decide(failure, attempt), wanted, "{why}");
    }
}

#[test]
fn nothing_is_tried_again_once_the_client_has_a_byte_or_the_body_is_gone_or_calls_are_used_up() {
    for failure in FAILURES {
        for attempt in [get(), post()] {
            assert_eq!(decide(failure, Attempt { answer_begun: true, ..attempt }), Retry::No);
            assert_eq!(decide(failure, Attempt { body_held: false, ..attempt }), Retry::No);
            assert_eq!(decide(failure, Attempt { calls: 4, resent: true, ..attempt }), Retry::No);
        }
    }
}

/// However calls fail, a request ends after at most `attempts` and one resending, and a POST that reached an application is never
/// repeated.
#[test]
fn every_sequence_of_failures_ends() {
    fn walk(attempt: Attempt, reached: bool) {
        for failure in FAILURES {
            let reached = reached || matches!(failure, Failure::Transport | Failure::Timeout | Failure::BadAnswer | Failure::ServerError);
            let verdict = decide(failure, attempt);
            if verdict == Retry::No {
                continue;
            }
            assert!(attempt.idempotent || !reached, "a POST repeated after {failure:?}");
            let resent = attempt.resent || verdict == Retry::FreshConnection;
            let next = Attempt { calls: attempt.calls + 1, resent, ..attempt };
            assert!(next.calls <= attempt.rules.attempts + 1);
            walk(next, reached);
        }
    }
    for attempts in [1, 3, 5] {
        let rules = RetryRules { attempts, ..rules(&["connect", "reset", "5xx", "429"]) };
        walk(Attempt { rules, ..post() }, false);
        walk(Attempt { rules, ..get() }, false);
    }
}

#[test]
fn the_wait_doubles_within_its_bound_and_is_drawn_from_all_of_it() {
    let rules = RetryRules { backoff: Duration::from_millis(100), backoff_max: Duration::from_millis(300), ..RetryRules::default() };
    let longest = |calls| backoff(&rules, Failure::Transport, calls, true, u32::MAX).as_millis();
    assert_eq!([1, 2, 3, 10, u32::MAX].map(longest), [100, 200, 300, 300, 300]);
    assert_eq!(backoff(&rules, Failure::Transport, 3, true, 0), Duration::ZERO);
    assert_eq!(backoff(&rules, Failure::Connect, 1, true, u32::MAX), Duration::ZERO, "another is there, nothing was sent");
    assert_eq!(backoff(&rules, Failure::Connect, 1, false, u32::MAX).as_millis(), 100);
}

#[test]
fn which_answers_are_failures() {
    let all = rules(&["5xx", "429"]);
    assert_eq!(
        [200, 400, 429, 499, 500, 503, 599, 600].map(|status| failure_of(&all, status)),
        [
            None,
            None,
            Some(Failure::RateLimited),
            None,
            Some(Failure::ServerError),
            Some(Failure::ServerError),
            Some(Failure::ServerError),
            None
        ]
    );
    assert_eq!([429, 500].map(|status| failure_of(&RetryRules::default(), status)), [None, None]);
}

/// Everything fails for a minute at 1,000 calls a second: a tenth is retried, beside the floor.
#[test]
fn the_budget_keeps_retries_to_their_share() {
    let mut budget = Budget::new(Share(1000));
    let mut retries = 0;
    for millis in 0..60_000 {
        budget.handle_call();
        retries += u32::from(budget.take(Instant::ZERO + Duration::from_millis(millis)));
    }
    // 6,000 for the calls, 600 for the minute, 100 that stood ready.
    assert!((6600..=6701).contains(&retries), "{retries}");
}

#[test]
fn a_quiet_upstream_has_the_floor_and_a_busy_one_saves_ten_seconds_of_its_share() {
    let at = |seconds: u64| Instant::ZERO + Duration::from_secs(seconds);
    let drawn = |budget: &mut Budget, now| (0..100_000).take_while(|_| budget.take(now)).count();
    let mut quiet = Budget::new(Share::NONE);
    assert_eq!(drawn(&mut quiet, at(0)), 100);
    assert_eq!(drawn(&mut quiet, at(1)), 10);
    assert_eq!(drawn(&mut quiet, at(3600)), 100, "an hour's rest is not saved");
    let mut busy = Budget::new(Share(1000));
    for second in 0..60 {
        (0..2000).for_each(|_| budget_call(&mut busy));
        busy.handle_time(at(second));
    }
    let saved = drawn(&mut busy, at(60));
    assert!((1900..2300).contains(&saved), "a tenth of ten seconds' calls and the floor: {saved}");
    for second in 61..=120 {
        busy.handle_time(at(second));
    }
    let saved = drawn(&mut busy, at(121));
    assert!(saved <= 110, "a minute later the plenty is forgotten: {saved}");
}

fn budget_call(budget: &mut Budget) {
    budget.handle_call();
}

#[test]
fn a_hedge_waits_for_its_time_and_never_exceeds_its_share() {
    let mut fixed = Hedger::new(Hedge { after: HedgeAfter::Time(Duration::from_millis(50)), max: Share(500) });
    let mut doubled = 0;
    for _ in 0..1000 {
        assert_eq!(fixed.handle_call(), Some(Duration::from_millis(50)));
        doubled += u32::from(fixed.take());
    }
    assert_eq!(doubled, 50);
}

#[test]
fn a_hedge_learns_its_percentile() {
    let mut learned = Hedger::new(Hedge { after: HedgeAfter::Percentile(95), max: Share::ALL });
    assert_eq!(learned.handle_call(), None, "nothing is known yet");
    for round in 0..2048_u64 {
        // 0 to 99 ms, shuffled.
        learned.handle_latency(Duration::from_millis(round * 37 % 100));
    }
    let after = learned.handle_call().unwrap().as_millis();
    assert!((93..=97).contains(&after), "{after} ms");
    for _ in 0..512 {
        learned.handle_latency(Duration::from_millis(5));
    }
    assert_eq!(learned.handle_call(), Some(Duration::from_millis(5)), "what is long ago is forgotten");
}
