//! Clients that ask again as soon as they are answered find one another again; a lone client is never held.

use crate::batch::regroup::Regroup;
use crate::sys::Instant;
use std::time::Duration;

const CALL: Duration = Duration::from_millis(5);

fn at(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

#[test]
fn the_first_one_back_is_held_until_all_are_back_or_the_moment_is_over() {
    let mut regroup = Regroup::default();
    regroup.ended(32, 32, 0, Some(CALL), at(0));
    assert_eq!(regroup.holds(1, at(10)), Some(at(625)), "an eighth of a call");
    assert_eq!(regroup.holds(31, at(300)), Some(at(625)));
    assert_eq!(regroup.holds(32, at(300)), None, "all are back");
    assert_eq!(regroup.holds(1, at(625)), None, "the moment is over");
}

#[test]
fn a_call_of_one_client_holds_nobody_and_neither_does_an_unknown_cost() {
    let mut regroup = Regroup::default();
    regroup.ended(8, 1, 5, Some(CALL), at(0));
    assert_eq!(regroup.holds(1, at(1)), None);
    regroup.ended(9, 9, 0, None, at(0));
    assert_eq!(regroup.holds(1, at(1)), None);
}

#[test]
fn a_slow_model_is_never_held_for_longer_than_a_millisecond() {
    let mut regroup = Regroup::default();
    regroup.ended(2, 2, 0, Some(Duration::from_secs(1)), at(0));
    assert_eq!(regroup.holds(1, at(0)), Some(at(1000)));
}

#[test]
fn holds_that_do_not_pay_become_rare_and_one_that_pays_makes_them_common_again() {
    let mut regroup = Regroup::default();
    let mut held = 0;
    for _ in 0..1000 {
        regroup.ended(8, 8, 0, Some(CALL), at(0));
        held += u32::from(regroup.holds(1, at(1)).is_some());
        regroup.left(1, 1, false);
    }
    assert!(held <= 15, "{held} of 1000 calls were held for nothing");
    for _ in 0..200 {
        regroup.ended(8, 8, 0, Some(CALL), at(0));
        regroup.left(7, 7, false);
    }
    let all = (0..10).all(|_| {
        regroup.ended(8, 8, 0, Some(CALL), at(0));
        let holds = regroup.holds(1, at(1)).is_some();
        regroup.left(8, 8, false);
        holds
    });
    assert!(all, "clients that do come back are waited for each time");
}

#[test]
fn clients_of_two_calls_that_end_together_are_waited_for_together() {
    let mut regroup = Regroup::default();
    regroup.ended(32, 32, 32, Some(CALL), at(0));
    regroup.ended(30, 30, 32, Some(CALL), at(5));
    // Those who waited already leave full: that tells nothing of those who are on their way.
    regroup.left(32, 32, true);
    assert_eq!(regroup.holds(61, at(300)), Some(at(630)));
    assert_eq!(regroup.holds(62, at(300)), None);
    regroup.left(32, 32, true);
    assert_eq!(regroup.holds(29, at(310)), Some(at(630)));
    regroup.ended(4, 4, 3, Some(CALL), at(2000));
    assert_eq!(regroup.holds(6, at(2001)), Some(at(2625)), "whoever is not back by now is not waited for");
    assert_eq!(regroup.holds(7, at(2001)), None);
}
