//! The waiting line with requests of several places, as lanes have them: room, shares, and what is put back.

use std::time::Duration;

use crate::policy::{Claim, Class, Queue, Refusal, cost_of_items};
use crate::sys::Instant;

const NOW: Instant = Instant::ZERO;

fn of(tenant: u64) -> Claim {
    Claim { class: Class::Normal, tenant }
}

fn queue(max: u32, waiting: &[(u64, u32)]) -> Queue<usize> {
    let mut queue = Queue::new(max);
    for (ticket, (tenant, size)) in waiting.iter().enumerate() {
        queue.join(of(*tenant), cost_of_items(*size, 0), *size, ticket, NOW);
    }
    queue
}

#[test]
fn room_for_many_places_is_made_of_the_newest_of_the_heaviest() {
    let mut queue = queue(10, &[(1, 3), (1, 3), (1, 2), (2, 2)]);
    let out = queue.make_room(of(3), 3, NOW).unwrap();
    assert_eq!(out.iter().map(|(left, why)| (left.ticket, *why)).collect::<Vec<_>>(), [(2, Refusal::Share), (1, Refusal::Share)]);
    assert_eq!(queue.places(), 5);
}

#[test]
fn who_would_hold_more_than_the_heaviest_has_left_is_refused_and_nobody_goes() {
    let mut queue = queue(10, &[(1, 3), (1, 3), (1, 2), (2, 2)]);
    assert_eq!(queue.make_room(of(3), 5, NOW).map(drop), Err(Refusal::Full));
    assert_eq!(queue.make_room(of(1), 1, NOW).map(drop), Err(Refusal::Share), "it holds eight of ten, of two tenants");
    assert_eq!(queue.places(), 10);
    let mut empty = Queue::<usize>::new(2);
    assert!(empty.make_room(of(1), 9, NOW).unwrap().is_empty(), "a queue that is empty has room for anyone");
}

#[test]
fn a_more_urgent_one_takes_the_places_of_several_less_urgent_tenants() {
    let mut queue = Queue::new(21);
    for ticket in 0..21 {
        queue.join(Claim { class: Class::Low, tenant: ticket }, 1, 1, ticket, NOW);
    }
    let out = queue.make_room(Claim { class: Class::High, tenant: 1 }, 5, NOW).unwrap();
    assert_eq!((out.len(), out.iter().all(|(_, why)| *why == Refusal::Full)), (5, true));
    assert_eq!(queue.places(), 16);
}

#[test]
fn what_is_put_back_is_its_tenants_first_but_others_have_their_turn() {
    let mut queue = queue(1000, &[(1, 90), (1, 1), (2, 1), (2, 1)]);
    let later = NOW + Duration::from_secs(1);
    let (mut order, mut rest) = (Vec::new(), 90);
    while let Some(left) = queue.pop(later) {
        order.push(left.ticket);
        if left.ticket == 0 && rest > 30 {
            rest -= 30;
            queue.put_back(of(1), cost_of_items(30, 0), rest, 0, NOW);
            assert_eq!(queue.oldest(), Some(NOW));
        }
    }
    assert_eq!(order.iter().filter(|ticket| **ticket == 0).count(), 3);
    let at = |ticket: usize| order.iter().position(|one| *one == ticket).unwrap();
    assert_eq!(at(1), order.len() - 1, "behind all of what was put back: {order:?}");
    assert!(at(3) <= 3, "the other tenant does not wait for the whole of it: {order:?}");
    assert_eq!((queue.places(), queue.tenants(), queue.oldest()), (0, 0, None));
}

/// Equal tenants: what leaves before a newcomer is one round of theirs for each item of its own.
#[test]
fn places_before_a_newcomer_are_counted_by_turns() {
    let queue = queue(1000, &[(1, 100), (2, 10)]);
    assert_eq!(queue.places_before(of(3), 1, true), 2);
    assert_eq!(queue.places_before(of(2), 1, true), 21);
    assert_eq!(queue.places_before(of(2), 1, false), 1);
    assert_eq!(queue.places_before(of(1), 1, true), 110, "no more than there are");
    let high = Claim { class: Class::High, tenant: 9 };
    assert_eq!(queue.places_before(high, 16, true), 4, "of 20 that leave while both wait 4 are normal");
}

#[test]
fn withdrawing_frees_the_places() {
    let mut queue = queue(10, &[(1, 4)]);
    let place = queue.join(of(1), 1, 3, 7, NOW);
    assert_eq!((queue.places(), queue.withdraw(place), queue.withdraw(place), queue.places()), (7, Some(7), None, 4));
    assert_eq!(queue.tickets().copied().collect::<Vec<_>>(), [0]);
}

#[test]
fn a_digit_is_an_urgency() {
    let classes = [Class::High, Class::High, Class::High, Class::Normal, Class::Normal, Class::Normal];
    for (digit, class) in (b'0'..=b'9').zip(classes.into_iter().chain([Class::Low; 4])) {
        assert_eq!(Class::from_word(&[digit]), Some(class));
    }
    for word in [&b"10"[..], b"", b"-1", b" 1", b"u=1"] {
        assert_eq!(Class::from_word(word), None);
    }
}
