//! The waiting line: order, shares under a flood, who is put out, predictions; and a simulation of an upstream behind it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use crate::policy::{Claim, Class, Place, Queue, Refusal, cost};
use crate::sys::Instant;

const PATIENT: Duration = Duration::from_secs(3600);

fn claim(class: Class, tenant: u64) -> Claim {
    Claim { class, tenant }
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn push(queue: &mut Queue<u32>, claim: Claim, cost: u64, ticket: u32) -> Place {
    let (place, put_out) = queue.push(claim, cost, PATIENT, ticket, at(0)).unwrap();
    assert!(put_out.is_none());
    place
}

fn drained(queue: &mut Queue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| queue.pop(at(0)).map(|left| left.ticket)).collect()
}

#[test]
fn one_tenant_is_served_in_order() {
    let mut queue = Queue::new(100);
    (0..50).for_each(|ticket| {
        push(&mut queue, Claim::default(), 5000, ticket);
    });
    assert_eq!(drained(&mut queue), (0..50).collect::<Vec<_>>());
    assert!(queue.is_empty() && queue.tenants() == 0);
}

#[test]
fn a_light_tenant_is_next_whatever_the_heavy_one_has_waiting() {
    let mut queue = Queue::new(1000);
    (0..500).for_each(|ticket| {
        push(&mut queue, claim(Class::Normal, 1), 1024, ticket);
    });
    push(&mut queue, claim(Class::Normal, 2), 1024, 900);
    let order = drained(&mut queue);
    assert!(order.iter().position(|ticket| *ticket == 900).unwrap() <= 2, "{:?}", &order[..5]);
}

/// Twice the cost a request, half the requests: shares are of what is asked, not of how often.
#[test]
fn shares_go_by_cost_and_not_by_requests() {
    let mut queue = Queue::new(10_000);
    for ticket in 0..1000 {
        push(&mut queue, claim(Class::Normal, 1), 4000, ticket);
        push(&mut queue, claim(Class::Normal, 2), 1000, 10_000 + ticket);
    }
    let mut served = [0_u64; 2];
    for _ in 0..500 {
        let ticket = queue.pop(at(0)).unwrap().ticket;
        let tenant = usize::from(ticket >= 10_000);
        served[tenant] += if tenant == 0 { 4000 } else { 1000 };
    }
    let share = served[0] as f64 / (served[0] + served[1]) as f64;
    assert!((0.45..0.55).contains(&share), "{served:?}");
}

#[test]
fn classes_share_16_4_1_and_none_starves() {
    let mut queue = Queue::new(30_000);
    for ticket in 0..3000 {
        for class in Class::ALL {
            push(&mut queue, claim(class, 0), 500, ticket * 3 + class as u32);
        }
    }
    let mut served = [0_u32; 3];
    for _ in 0..2100 {
        served[queue.pop(at(0)).unwrap().ticket as usize % 3] += 1;
    }
    let share = |class: usize| f64::from(served[class]) / 2100.0 * 21.0;
    assert!((15.0..17.0).contains(&share(0)) && (3.5..4.5).contains(&share(1)) && (0.8..1.3).contains(&share(2)), "{served:?}");
    // Alone, a class has everything.
    while queue.pop(at(0)).is_some() {}
    push(&mut queue, claim(Class::Low, 0), 1 << 40, 7);
    assert_eq!(drained(&mut queue), [7], "what costs more than any turn pays is served all the same");
}

#[test]
fn who_leaves_is_gone_at_once_and_only_once() {
    let mut queue = Queue::new(3);
    let places: Vec<Place> = (0..3).map(|ticket| push(&mut queue, claim(Class::Normal, u64::from(ticket)), 1, ticket)).collect();
    assert_eq!(queue.cancel(places[1], at(5)).map(|left| (left.ticket, left.waited)), Some((1, Duration::from_millis(5))));
    assert!(queue.cancel(places[1], at(5)).is_none());
    // Its slot is used again; the old place is nobody's.
    push(&mut queue, claim(Class::Normal, 9), 1, 9);
    assert!(queue.cancel(places[1], at(5)).is_none());
    assert_eq!(drained(&mut queue), [0, 2, 9]);
    assert!(queue.cancel(places[0], at(5)).is_none());
}

/// A push that may put somebody out: their ticket and why.
fn crowd(queue: &mut Queue<u32>, claim: Claim) -> Result<Option<(u32, Refusal)>, Refusal> {
    queue.push(claim, 1, PATIENT, 99, at(1)).map(|(_, out)| out.map(|(left, why)| (left.ticket, why)))
}

#[test]
fn a_full_queue_makes_room_for_the_tenant_it_wrongs() {
    let mut queue = Queue::new(4);
    (0..4).for_each(|ticket| {
        push(&mut queue, claim(Class::High, 1), 1, ticket);
    });
    assert_eq!(crowd(&mut queue, claim(Class::High, 1)), Err(Refusal::Full), "alone it wrongs nobody: that is overload");
    assert_eq!(crowd(&mut queue, claim(Class::High, 2)), Ok(Some((3, Refusal::Share))), "the newest of who holds all");
    assert_eq!(crowd(&mut queue, claim(Class::High, 1)), Err(Refusal::Share), "it holds three of four, of two tenants");
    assert_eq!(crowd(&mut queue, claim(Class::High, 2)), Ok(Some((2, Refusal::Share))));
    assert_eq!(crowd(&mut queue, claim(Class::High, 2)), Err(Refusal::Full), "they hold two each");
    assert_eq!(queue.len(), 4);
    assert_eq!(crowd(&mut Queue::new(0), claim(Class::High, 2)), Err(Refusal::Full), "a queue without places");
}

#[test]
fn a_full_queue_keeps_each_class_its_places() {
    let mut queue = Queue::new(21);
    (0..21).for_each(|ticket| {
        push(&mut queue, claim(Class::Low, 1), 1, ticket);
    });
    for more in 0..16 {
        assert_eq!(crowd(&mut queue, claim(Class::High, 2)), Ok(Some((20 - more, Refusal::Full))), "the more urgent come first");
    }
    for more in 0..4 {
        assert_eq!(crowd(&mut queue, claim(Class::Normal, 2)), Ok(Some((4 - more, Refusal::Full))));
    }
    for class in Class::ALL {
        assert_eq!(crowd(&mut queue, claim(class, 2)), Err(Refusal::Full), "each has its share now");
    }
    // The flood was first: who has less than a share gets it.
    let mut queue = Queue::new(21);
    (0..21).for_each(|ticket| {
        push(&mut queue, claim(Class::High, 1), 1, ticket);
    });
    assert_eq!(crowd(&mut queue, claim(Class::Low, 2)), Ok(Some((20, Refusal::Full))));
    assert_eq!(crowd(&mut queue, claim(Class::Low, 2)), Err(Refusal::Full));
}

#[test]
fn who_would_be_late_is_told_at_once() {
    let mut queue = Queue::new(1000);
    (0..100).for_each(|ticket| {
        push(&mut queue, claim(Class::Normal, 1), 1000, ticket);
    });
    assert_eq!(queue.predicted_wait(claim(Class::Normal, 1), at(0)), Duration::ZERO, "nothing is known yet");
    // One leaves every 10 ms; 90 are left.
    for step in 1..=10 {
        assert!(queue.pop(at(step * 10)).is_some());
    }
    let now = at(100);
    assert_eq!(queue.predicted_wait(claim(Class::Normal, 1), now), Duration::from_millis(910));
    assert_eq!(queue.predicted_wait(claim(Class::Normal, 2), now), Duration::from_millis(20), "one of the other first, then this one");
    let late = |queue: &mut Queue<u32>, tenant, patience| {
        queue.push(claim(Class::Normal, tenant), 1000, Duration::from_millis(patience), 0, now).map(drop)
    };
    assert_eq!(late(&mut queue, 1, 900), Err(Refusal::Share), "late for what its own tenant has waiting");
    assert_eq!(late(&mut queue, 2, 19), Err(Refusal::Late));
    assert_eq!(late(&mut queue, 2, 20), Ok(()));
    // The upstream stands still: the prediction grows with the gap.
    assert_eq!(queue.predicted_wait(claim(Class::Normal, 3), at(1100)), Duration::from_secs(3));
}

#[test]
fn the_cost_of_a_request() {
    assert_eq!(cost(Some(4000), Some(100)), 256 + 1000 + 100);
    assert_eq!(cost(None, None), cost(Some(4096), Some(0)));
    assert_eq!(Class::from_word(b"HIGH"), Some(Class::High));
    assert_eq!((Class::from_word(b"urgent"), Class::default()), (None, Class::Normal));
}

/// An upstream with `slots` places and 10 ms a request, behind a queue. `arrivals(step)` are the claims that come in a millisecond;
/// returned: per tenant, how many were served and the longest any waited in ms.
fn simulate(slots: usize, steps: u64, arrivals: impl Fn(u64) -> Vec<Claim>) -> BTreeMap<u64, (u64, u64)> {
    let mut queue = Queue::new(256);
    let mut running: VecDeque<u64> = VecDeque::new();
    let mut served: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for step in 0..steps {
        for claim in arrivals(step) {
            // Refused and put out: they may come again, which the arrivals say.
            let _ = queue.push(claim, 1000, Duration::from_secs(2), claim.tenant, at(step));
        }
        while running.front().is_some_and(|end| *end <= step) {
            running.pop_front();
        }
        while running.len() < slots
            && let Some(left) = queue.pop(at(step))
        {
            running.push_back(step + 10);
            let entry = served.entry(left.ticket).or_default();
            *entry = (entry.0 + 1, entry.1.max(u64::try_from(left.waited.as_millis()).unwrap()));
        }
    }
    served
}

/// The upstream serves 800 requests a second. One tenant asks 10,000 times a second, the other 200: less than half.
#[test]
fn a_flood_of_one_tenant_leaves_the_other_its_share() {
    let served = simulate(8, 10_000, |step| {
        let mut claims = vec![claim(Class::Normal, 1); 10];
        if step % 5 == 0 {
            claims.push(claim(Class::Normal, 2));
        }
        claims
    });
    let (flood, light) = (served[&1], served[&2]);
    assert!(light.0 >= 1999, "the light one loses nothing: {served:?}");
    assert!(light.1 <= 30, "nor does it wait long: {served:?}");
    assert!(flood.0 >= 5900, "and the rest is the flood's: {served:?}");
}

#[test]
fn a_flood_of_a_high_class_leaves_the_low_one_something() {
    let served = simulate(8, 10_000, |_| vec![claim(Class::High, 1), claim(Class::High, 1), claim(Class::Low, 2)]);
    let share = served[&2].0 as f64 / (served[&1].0 + served[&2].0) as f64;
    assert!(share > 0.03 && share < 0.08, "{served:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes, leaves and is served: nobody is lost, nobody is served twice, the order within a tenant and class is kept,
    /// the bound holds.
    #[test]
    fn nobody_is_lost(steps in proptest::collection::vec((0..4_u8, 0..3_usize, 0..4_u64, 1..9000_u64, 0..50_usize), 1..300)) {
        let mut queue = Queue::new(20);
        let mut inside: Vec<(u32, Place, Claim)> = Vec::new();
        for (ticket, (what, class, tenant, cost, which)) in (0_u32..).zip(steps) {
            let now = at(u64::from(ticket));
            match what {
                0 | 1 => {
                    let claim = claim(Class::ALL[class], tenant);
                    if let Ok((place, put_out)) = queue.push(claim, cost, PATIENT, ticket, now) {
                        if let Some((left, _)) = put_out {
                            let at = inside.iter().position(|(one, ..)| *one == left.ticket).unwrap();
                            inside.remove(at);
                        }
                        inside.push((ticket, place, claim));
                    }
                }
                2 => {
                    let left = queue.pop(now).map(|left| left.ticket);
                    prop_assert_eq!(left.is_some(), !inside.is_empty());
                    if let Some(left) = left {
                        let at = inside.iter().position(|(one, ..)| *one == left).unwrap();
                        let (_, _, claim) = inside.remove(at);
                        prop_assert!(inside[..at].iter().all(|(.., before)| *before != claim), "the older one goes first");
                    }
                }
                _ if inside.is_empty() => {}
                _ => {
                    let (ticket, place, _) = inside.remove(which % inside.len());
                    prop_assert_eq!(queue.cancel(place, now).map(|left| left.ticket), Some(ticket));
                }
            }
            prop_assert!(queue.len() <= 20);
            prop_assert_eq!(queue.len(), inside.len());
        }
        let mut rest: Vec<u32> = std::iter::from_fn(|| queue.pop(at(1000)).map(|left| left.ticket)).collect();
        rest.sort_unstable();
        let mut wanted: Vec<u32> = inside.iter().map(|(ticket, ..)| *ticket).collect();
        wanted.sort_unstable();
        prop_assert_eq!(rest, wanted);
        prop_assert_eq!(queue.tenants(), 0);
    }
}
