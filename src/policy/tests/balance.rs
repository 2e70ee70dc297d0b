//! Shares, ties, avoidance.

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use crate::config::Balance;
use crate::policy::Balancer;

const ALL: fn(u32) -> bool = |_| true;

fn picks(balancer: &mut Balancer, count: usize) -> Vec<u32> {
    (0..count).map(|_| balancer.pick(None, ALL).unwrap()).collect()
}

#[test]
fn round_robin_spreads_the_heavy_one_out() {
    let mut balancer = Balancer::new(Balance::RoundRobin, [5, 1, 1]);
    assert_eq!(picks(&mut balancer, 7), [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn least_in_flight_takes_the_idle_one_and_rotates_ties() {
    let mut balancer = Balancer::new(Balance::LeastInFlight, [1, 1, 1]);
    assert_eq!(picks(&mut balancer, 4), [0, 1, 2, 0], "all idle: in turn");
    balancer.begin(0);
    balancer.begin(1);
    assert_eq!(picks(&mut balancer, 3), [2, 2, 2], "only one is idle");
    balancer.end(1);
    assert_eq!(picks(&mut balancer, 4), [1, 2, 1, 2]);
}

#[test]
fn least_in_flight_fills_by_weight() {
    let mut balancer = Balancer::new(Balance::LeastInFlight, [3, 1]);
    for _ in 0..40 {
        let endpoint = balancer.pick(None, ALL).unwrap();
        balancer.begin(endpoint);
    }
    assert_eq!((balancer.in_flight(0), balancer.in_flight(1)), (30, 10));
}

#[test]
fn the_avoided_one_is_the_last_resort() {
    for balance in [Balance::RoundRobin, Balance::LeastInFlight] {
        let mut balancer = Balancer::new(balance, [1, 1]);
        for _ in 0..4 {
            assert_eq!(balancer.pick(Some(0), ALL), Some(1));
        }
        assert_eq!(balancer.pick(Some(0), |endpoint| endpoint == 0), Some(0), "no other is usable");
        assert_eq!(balancer.pick(Some(0), |endpoint| endpoint == 1), Some(1));
        assert_eq!(balancer.pick(None, |_| false), None);
        assert_eq!(balancer.pick(Some(1), |_| false), None);
        assert_eq!(balancer.pick(Some(9), |endpoint| endpoint > 1), None, "no such endpoint");
        assert_eq!(Balancer::new(balance, []).pick(None, ALL), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// At every whole cycle the shares are exact; on the way there an endpoint is never more than its share and one ahead.
    #[test]
    fn round_robin_keeps_the_weights(weights in proptest::collection::vec(1..20_u32, 1..8), cycles in 1..4_u32) {
        let mut balancer = Balancer::new(Balance::RoundRobin, weights.clone());
        let total: u32 = weights.iter().sum();
        let mut counts = vec![0_u32; weights.len()];
        for pick in 1..=cycles * total {
            counts[balancer.pick(None, ALL).unwrap() as usize] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(pick) * f64::from(*weight) / f64::from(total);
                prop_assert!(f64::from(*count) < share + 1.0, "{weights:?}: {count} of {pick}, share {share}");
            }
            if pick % total == 0 {
                let wanted: Vec<u32> = weights.iter().map(|weight| weight * (pick / total)).collect();
                prop_assert_eq!(&counts, &wanted);
            }
        }
    }

    /// Whatever calls begin and end, the least loaded by weight is picked, and at rest nothing is in flight.
    #[test]
    fn least_in_flight_is_least_and_returns_to_zero(
        weights in proptest::collection::vec(1..5_u32, 1..6),
        steps in proptest::collection::vec((proptest::bool::ANY, 0..64_usize), 0..200),
    ) {
        let mut balancer = Balancer::new(Balance::LeastInFlight, weights.clone());
        let load = |balancer: &Balancer, endpoint: u32| f64::from(balancer.in_flight(endpoint) + 1) / f64::from(weights[endpoint as usize]);
        let mut open = Vec::new();
        for (begin, which) in steps {
            if begin || open.is_empty() {
                let picked = balancer.pick(None, ALL).unwrap();
                for other in 0..u32::try_from(weights.len()).unwrap() {
                    prop_assert!(load(&balancer, picked) <= load(&balancer, other) + 1e-9);
                }
                balancer.begin(picked);
                open.push(picked);
            } else {
                balancer.end(open.swap_remove(which % open.len()));
            }
        }
        open.into_iter().for_each(|endpoint| balancer.end(endpoint));
        for endpoint in 0..u32::try_from(weights.len()).unwrap() {
            prop_assert_eq!(balancer.in_flight(endpoint), 0);
        }
    }

    /// Endpoints that come and go leave no debt: after the change the shares of the usable ones are kept within the weights.
    #[test]
    fn round_robin_forgets_the_unusable(weights in proptest::collection::vec(1..6_u32, 2..6), before in 0..40_usize) {
        let mut balancer = Balancer::new(Balance::RoundRobin, weights.clone());
        picks(&mut balancer, before);
        let total: u32 = weights[1..].iter().sum();
        let mut counts = vec![0_u32; weights.len()];
        for _ in 0..20 * total {
            counts[balancer.pick(None, |endpoint| endpoint != 0).unwrap() as usize] += 1;
        }
        prop_assert_eq!(counts[0], 0);
        for (count, weight) in counts.iter().zip(&weights).skip(1) {
            // What credit is left over from before is worth a cycle of all at most.
            prop_assert!(count.abs_diff(20 * weight) <= weights.iter().sum(), "{:?} {:?}", weights, counts);
        }
    }
}
