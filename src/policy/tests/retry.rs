//! The table of what may be tried again.

use crate::policy::{Attempt, CALLS_MAX, Failure, Retry, decide};

/// The first call of a POST whose body is held.
const POST: Attempt = Attempt { calls: 1, resent: false, answer_begun: false, body_held: true, idempotent: false };
const GET: Attempt = Attempt { idempotent: true, ..POST };
const FAILURES: [Failure; 6] =
    [Failure::Connect, Failure::StaleConnection, Failure::Transport, Failure::Timeout, Failure::BadAnswer, Failure::Refused];

#[test]
fn what_may_be_tried_again() {
    use Retry::{FreshConnection, No, OtherEndpoint};
    let table = [
        ("nothing was sent", Failure::Connect, POST, OtherEndpoint),
        ("nothing was sent, again", Failure::Connect, Attempt { calls: 2, ..POST }, OtherEndpoint),
        ("the server had closed the idle connection", Failure::StaleConnection, POST, FreshConnection),
        ("so it had, after another endpoint refused", Failure::StaleConnection, Attempt { calls: 2, ..POST }, FreshConnection),
        ("a fresh connection is never stale", Failure::StaleConnection, Attempt { resent: true, calls: 2, ..POST }, No),
        ("but a GET may be repeated anyway", Failure::StaleConnection, Attempt { resent: true, calls: 2, ..GET }, OtherEndpoint),
        ("the upstream may have acted on it", Failure::Transport, POST, No),
        ("it may act twice on a GET", Failure::Transport, GET, OtherEndpoint),
        ("the model may be at work", Failure::Timeout, POST, No),
        ("the model may be at work on a GET", Failure::Timeout, GET, No),
        ("it said that it did nothing", Failure::Refused, POST, OtherEndpoint),
        ("it acted, badly", Failure::BadAnswer, GET, No),
    ];
    for (why, failure, attempt, wanted) in table {
        assert_eq!(decide(failure, attempt), wanted, "{why}");
    }
}

#[test]
fn nothing_is_tried_again_once_the_client_has_a_byte_or_the_body_is_gone_or_calls_are_used_up() {
    for failure in FAILURES {
        for attempt in [GET, POST] {
            assert_eq!(decide(failure, Attempt { answer_begun: true, ..attempt }), Retry::No);
            assert_eq!(decide(failure, Attempt { body_held: false, ..attempt }), Retry::No);
            assert_eq!(decide(failure, Attempt { calls: CALLS_MAX, ..attempt }), Retry::No);
        }
    }
}

/// However calls fail, a request ends after at most three, and a POST that reached an application is never repeated.
#[test]
fn every_sequence_of_failures_ends() {
    fn walk(attempt: Attempt, reached: bool) {
        for failure in FAILURES {
            let reached = reached || matches!(failure, Failure::Transport | Failure::Timeout | Failure::BadAnswer);
            let verdict = decide(failure, attempt);
            if verdict == Retry::No {
                continue;
            }
            assert!(attempt.idempotent || !reached, "a POST repeated after {failure:?}");
            let resent = attempt.resent || verdict == Retry::FreshConnection;
            let next = Attempt { calls: attempt.calls + 1, resent, ..attempt };
            assert!(next.calls <= CALLS_MAX);
            walk(next, reached);
        }
    }
    walk(POST, false);
    walk(GET, false);
}
