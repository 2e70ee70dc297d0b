//! Keys, sessions, zones, latency.

use std::time::Duration;

use proptest::prelude::{ProptestConfig, prop_assert, proptest};

use super::{ALL, FOUR, balancer, begin, choose, choose_at, four, keyed, session};
use crate::policy::balance::p2c;
use crate::policy::{Ask, Balancer, Why, Wish, hash_bytes};
use crate::sys::Instant;

const HASHED: &str = "balance = \"consistent_hash\"";

fn at(seconds: f64) -> Instant {
    Instant::ZERO + Duration::from_secs_f64(seconds)
}

#[test]
fn keys_are_spread_by_weight_and_stay_when_another_endpoint_goes() {
    let mut balancer = balancer(None, &format!("endpoints = [{{ url = \"http://a\", weight = 2 }}, \"http://b\", \"http://c\"]\n{HASHED}"));
    let places: Vec<u32> = (0..4000).map(|key| choose(&mut balancer, &keyed(hash_bytes(0, &u64::to_le_bytes(key)))).endpoint).collect();
    let counts = [0, 1, 2].map(|endpoint| places.iter().filter(|place| **place == endpoint).count());
    assert!(counts[0].abs_diff(2000) < 150 && counts[1].abs_diff(1000) < 120 && counts[2].abs_diff(1000) < 120, "{counts:?}");
    let mut moved = [0; 3];
    for (key, place) in (0..4000).zip(&places) {
        let wish = keyed(hash_bytes(0, &u64::to_le_bytes(key)));
        let now = balancer.choose(&Ask { wish: Some(&wish), ..Ask::default() }, &|endpoint| endpoint != 1).unwrap();
        assert_eq!(now.why, Why::Hash);
        if *place == 1 {
            moved[now.endpoint as usize] += 1;
        } else {
            assert_eq!(now.endpoint, *place, "only the keys of the one that is gone move");
        }
    }
    // They are spread over the others by weight again.
    assert!(moved[0] > moved[2] && moved[2] > 200, "{moved:?}");
}

/// The places are part of what shards and gateways agree on without a word: they do not hang on the order of the list.
#[test]
fn the_order_of_the_list_places_nothing() {
    let (mut one, mut other) =
        (four(HASHED), balancer(None, &format!("endpoints = [\"http://d\", \"http://b\", \"http://a\", \"http://c\"]\n{HASHED}")));
    for key in 0..500 {
        let (here, there) = (choose(&mut one, &keyed(key)).endpoint, choose(&mut other, &keyed(key)).endpoint);
        assert_eq!(["a", "b", "c", "d"][here as usize], ["d", "b", "a", "c"][there as usize]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However the calls fall and whatever has ended: no endpoint gets a call beyond 1.25 of its share, rounded up.
    #[test]
    fn hashed_loads_are_bounded(
        weights in proptest::collection::vec(1..4_u32, 2..9),
        steps in proptest::collection::vec((proptest::bool::weighted(0.7), 0..6_u64), 1..300),
    ) {
        let list: Vec<String> = weights.iter().enumerate().map(|(at, weight)| format!("{{ url = \"http://e{at}\", weight = {weight} }}")).collect();
        let mut balancer = balancer(None, &format!("endpoints = [{}]\n{HASHED}", list.join(", ")));
        let mut open: Vec<u32> = Vec::new();
        for (begins, key) in steps {
            if !begins && !open.is_empty() {
                let endpoint = open.swap_remove(key as usize % open.len());
                balancer.end(endpoint);
                continue;
            }
            let endpoint = choose(&mut balancer, &keyed(key)).endpoint;
            balancer.begin(endpoint);
            open.push(endpoint);
            let share = 1.25 * open.len() as f64 * f64::from(weights[endpoint as usize]) / f64::from(weights.iter().sum::<u32>());
            prop_assert!(f64::from(balancer.in_flight(endpoint)) <= share.ceil() + 1e-9);
        }
    }
}

#[test]
fn a_request_without_the_key_goes_where_the_least_is_in_flight() {
    let mut balancer = four(HASHED);
    begin(&mut balancer, 0, 1);
    begin(&mut balancer, 1, 1);
    begin(&mut balancer, 3, 1);
    let choice = choose(&mut balancer, &Wish::default());
    assert_eq!((choice.endpoint, choice.why), (2, Why::LeastInFlight));
}

#[test]
fn a_session_sticks_however_loaded_and_comes_back() {
    let mut balancer = four("affinity = { header = \"x-session-id\" }");
    let home = choose(&mut balancer, &session(77)).endpoint;
    begin(&mut balancer, home, 1000);
    let choice = choose(&mut balancer, &session(77));
    assert_eq!((choice.endpoint, choice.why), (home, Why::Session));
    let wish = session(77);
    let away =
        |balancer: &mut Balancer| balancer.choose(&Ask { wish: Some(&wish), ..Ask::default() }, &|endpoint| endpoint != home).unwrap();
    let second = away(&mut balancer);
    assert_ne!(second.endpoint, home);
    assert_eq!(away(&mut balancer), second, "and stays at its second home while the first is down");
    assert_eq!(choose(&mut balancer, &session(77)).endpoint, home);
    assert_ne!(choose(&mut balancer, &Wish::default()).endpoint, home, "who names no session is balanced");
}

#[test]
fn the_near_ones_first_then_over_the_brim() {
    let zones = "endpoints = [{ url = \"http://a\", zone = \"east\" }, { url = \"http://b\", zone = \"west\" }, { url = \"http://c\", zone = \"east\" }]\nzone_spill = 3";
    let mut balancer = balancer(Some("east"), zones);
    let mut placed = Vec::new();
    for _ in 0..9 {
        let endpoint = choose(&mut balancer, &Wish::default()).endpoint;
        balancer.begin(endpoint);
        placed.push(endpoint);
    }
    assert_eq!(placed, [0, 2, 0, 2, 0, 2, 1, 1, 1], "six fill the near ones, then the far one until it has as much to do");
    balancer.end(2);
    assert_eq!(choose(&mut balancer, &Wish::default()).endpoint, 2, "room nearby again");
    let far = balancer.choose(&Ask::default(), &|endpoint| endpoint == 1).unwrap();
    assert_eq!(far.endpoint, 1, "no near one is usable");
}

#[test]
fn of_two_draws_the_faster_one_for_its_load() {
    let mut balancer = four("balance = \"p2c\"");
    for (endpoint, millis) in [(0, 10), (1, 40), (2, 10), (3, 10)] {
        balancer.observe(endpoint, Duration::from_millis(millis), Instant::ZERO);
    }
    let mut counts = [0; 4];
    let mut random = 1_u64;
    for _ in 0..4000 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let choice = balancer.choose(&Ask { random: random ^ random >> 31, ..Ask::default() }, ALL).unwrap();
        assert_eq!(choice.why, Why::TwoChoices);
        counts[choice.endpoint as usize] += 1;
    }
    assert_eq!(counts[1], 0, "it loses to whichever is drawn with it");
    assert!(counts.iter().enumerate().all(|(endpoint, count)| endpoint == 1 || (900..1800).contains(count)), "{counts:?}");
    // Three calls each at the fast ones: 10 ms x 4 is as much as 40 ms x 1, four are more.
    [0, 2, 3].into_iter().for_each(|endpoint| begin(&mut balancer, endpoint, 4));
    assert!(
        (0..64).any(|random| balancer.choose(&Ask { random: random << 58 | random << 26, ..Ask::default() }, ALL).unwrap().endpoint == 1)
    );
}

#[test]
fn a_peak_counts_at_once_and_is_forgotten_slowly() {
    let mut latency = p2c::Latency::default();
    latency.observe(1_000_000, at(0.0));
    latency.observe(9_000_000, at(0.1));
    assert!(latency.at(at(0.1)) >= 9_000_000.0, "the peak at once");
    latency.observe(1_000_000, at(0.2));
    assert!(latency.at(at(0.2)) > 8_000_000.0, "one good answer does not make it good");
    assert!(latency.at(at(60.0)) < 100_000.0, "unasked it is worth another try");
    let unknown = p2c::Latency::default().at(at(5.0));
    assert!(p2c::cost(unknown, 0.0, 1) < p2c::cost(10.0, 0.0, 1), "an unknown one is tried");
    assert!(p2c::cost(unknown, 1.0, 1) > p2c::cost(1e8, 3.0, 1), "but not by everybody at once");
}

#[test]
fn slow_endpoints_that_share_a_shard_with_fast_ones_get_less() {
    // A thousand calls in virtual time: endpoint 1 takes ten times as long as the others.
    let mut balancer = balancer(None, &format!("{FOUR}\nbalance = \"p2c\""));
    let mut ends: Vec<(Instant, Instant, u32)> = Vec::new();
    let mut counts = [0; 4];
    let mut random = 7_u64;
    for call in 0..1000 {
        let now = at(f64::from(call) / 1000.0);
        ends.retain(|(end, began, endpoint)| {
            if *end <= now {
                balancer.end(*endpoint);
                balancer.observe(*endpoint, end.since(*began), *end);
            }
            *end > now
        });
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let endpoint = choose_at_random(&mut balancer, now, random ^ random >> 29);
        balancer.begin(endpoint);
        counts[endpoint as usize] += 1;
        ends.push((now + Duration::from_millis(if endpoint == 1 { 50 } else { 5 }), now, endpoint));
    }
    assert!(counts[1] * 5 < counts[0].min(counts[2]).min(counts[3]), "{counts:?}");
    assert_eq!(choose_at(&mut balancer, &Wish::default(), at(1.0)).why, Why::TwoChoices);
}

fn choose_at_random(balancer: &mut Balancer, now: Instant, random: u64) -> u32 {
    balancer.choose(&Ask { now, random, ..Ask::default() }, ALL).unwrap().endpoint
}
