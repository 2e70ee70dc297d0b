//! The small pieces by themselves: tickets, the cost line, caps, the bill, what error bodies tell, which fields are shared.

use crate::batch::cost::{Caps, Cost, told_limit};
use crate::batch::isolate::told_culprit;
use crate::batch::split::fields::shared;
use crate::batch::split::usage::apportion;
use crate::batch::{Ticket, Tickets, TicketsFull};
use crate::sys::Instant;
use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use std::time::Duration;

#[test]
fn a_ticket_resolves_once_and_never_for_its_slots_next_tenant() {
    let mut tickets = Tickets::new(3, 2);
    let first = tickets.insert("first").unwrap();
    let second = tickets.insert("second").unwrap();
    assert_eq!(tickets.insert("third"), Err(TicketsFull("third")));
    assert_eq!(tickets.resolve(first), Some("first"));
    assert_eq!(tickets.resolve(first), None);
    let third = tickets.insert("third").unwrap();
    assert_eq!(third.slot, first.slot);
    assert_eq!(tickets.resolve(first), None);
    assert_eq!(tickets.cancel(second), Some("second"));
    assert_eq!(tickets.resolve(second), None);
    assert_eq!(tickets.resolve(Ticket { shard: 4, ..third }), None);
    assert_eq!(tickets.waiting_mut(third).copied(), Some("third"));
    assert_eq!((tickets.len(), tickets.stale_count()), (1, 4));
}

#[test]
fn the_cost_line_is_learned_and_follows() {
    let mut cost = Cost::default();
    assert_eq!(cost.predict(1), None);
    let line = |a: u64, b: u64, n: u32| Duration::from_micros(a + b * u64::from(n));
    for n in (1..=32).cycle().take(100) {
        cost.observe(n, line(5000, 100, n));
    }
    let close = |cost: &Cost, n, right: Duration| {
        let error = cost.predict(n).unwrap().as_secs_f64() / right.as_secs_f64() - 1.0;
        assert!(error.abs() < 0.05, "{n}: {error}");
    };
    close(&cost, 1, line(5000, 100, 1));
    close(&cost, 64, line(5000, 100, 64));
    assert!(cost.is_trusted());
    for n in (1..=32).cycle().take(200) {
        cost.observe(n, line(1000, 50, n));
    }
    close(&cost, 16, line(1000, 50, 16));
}

#[test]
fn the_cap_falls_fast_and_rises_slowly() {
    let mut caps = Caps::new(32);
    let now = Instant::ZERO;
    caps.bad(40);
    assert_eq!(caps.items(now), 16);
    caps.good(3);
    assert_eq!(caps.items(now), 16);
    caps.good(16);
    assert_eq!(caps.items(now), 17);
    assert!(caps.learn(8, now));
    assert!(!caps.learn(9, now));
    assert_eq!((caps.items(now), caps.hard(now)), (8, 8));
    let later = now + Duration::from_secs(601);
    assert_eq!((caps.items(later), caps.hard(later)), (17, 32));
    for _ in 0..9 {
        caps.bad(32);
    }
    assert_eq!(caps.items(now), 1);
}

#[test]
fn error_bodies_tell_limits_and_culprits() {
    assert_eq!(told_limit(b"batch size 33 > maximum allowed batch size 32", 33), Some(32));
    assert_eq!(told_limit(b"batch size 33 > maximum allowed batch size 32", 20), None, "not what this call was refused for");
    assert_eq!(told_limit(b"at most ", 20), None);
    assert_eq!(told_limit(b"at most 99999999999999999999", 20), None);
    assert_eq!(told_limit(b"bad input", 20), None);
    assert_eq!(told_culprit(br#"{"detail":[{"loc":["body","input","list[constrained-str]",17],"msg":""}]}"#), Some(17));
    assert_eq!(told_culprit(br#"{"detail":[{"loc":["body","input"],"msg":""}]}"#), None);
    assert_eq!(told_culprit(br#"{"detail":[{"loc":["body", 123456789"#), None);
}

#[test]
fn fields_of_one_request_are_not_for_all() {
    let fields = Bytes::from_static(b"Content-Type: a\r\nset-cookie: x\r\nDate: d\r\nx-request-id: 1\r\n");
    assert_eq!(shared(&fields), &b"Content-Type: a\r\nDate: d\r\n"[..]);
    assert_eq!(shared(&Bytes::from_static(b"x: y\r\ncontent-type: b\r\n")), &b"content-type: b\r\n"[..]);
    assert!(shared(&Bytes::new()).is_empty());
}

proptest! {
    #[test]
    fn shares_add_up_to_the_bill(total in any::<u64>(), weights in proptest::collection::vec((0u64..1 << 40).prop_map(|weight| weight & !7), 1..80)) {
        let (mut shares, mut remainders) = (vec![7], Vec::new());
        apportion(total, &weights, &mut shares, &mut remainders);
        prop_assert_eq!(shares.len(), weights.len() + 1);
        prop_assert_eq!(shares[1..].iter().map(|share| u128::from(*share)).sum::<u128>(), u128::from(total));
        let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        for (share, weight) in shares[1..].iter().zip(&weights) {
            if let Some(fair) = (u128::from(total) * u128::from(*weight)).checked_div(sum) {
                prop_assert!(u128::from(*share) == fair || u128::from(*share) == fair + 1);
            }
        }
    }

    #[test]
    fn error_bodies_of_any_kind_are_harmless(body in proptest::collection::vec(any::<u8>(), 0..200), sent in 0u32..100) {
        let _ = told_culprit(&body);
        prop_assert!(told_limit(&body, sent).is_none_or(|limit| limit >= 1 && limit < sent));
    }
}
