//! How a limit of the process is shared by shards, however skewed the load.

use std::collections::VecDeque;

use crate::policy::{Adaptive, Limit, ShardClaim, next_shard};

fn next(of: &[(u32, u32)], last: u32) -> Option<u32> {
    next_shard(u32::try_from(of.len()).unwrap(), last, |shard| {
        let (in_flight, tenants) = of[shard as usize];
        ShardClaim { in_flight, tenants }
    })
}

#[test]
fn the_shard_with_the_least_per_waiting_tenant_is_next() {
    assert_eq!(next(&[(0, 0), (5, 0)], 0), None, "nobody waits");
    assert_eq!(next(&[(0, 0), (5, 1), (9, 0)], 0), Some(1));
    assert_eq!(next(&[(4, 1), (3, 1)], 0), Some(1));
    assert_eq!(next(&[(6, 3), (3, 1)], 1), Some(0), "two per tenant against three");
    assert_eq!(next(&[(7, 1), (0, 1)], 1), Some(1), "who has nothing is first");
    assert_eq!((next(&[(1, 1); 3], 0), next(&[(1, 1); 3], 2)), (Some(1), Some(0)), "equals take turns");
    assert_eq!(next(&[], 0), None);
}

/// Closed loop at the limit: places become free one at a time, the oldest request's first. Returned: what each shard runs at the end,
/// and how often each was next.
fn settle(limit: usize, tenants: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut shards: Vec<(u32, u32)> = tenants.iter().map(|&tenants| (0, tenants)).collect();
    let mut served = vec![0; shards.len()];
    let mut running: VecDeque<u32> = VecDeque::new();
    let mut last = 0;
    for _ in 0..9600 {
        if running.len() == limit {
            shards[running.pop_front().unwrap() as usize].0 -= 1;
        }
        let shard = next(&shards, last).unwrap();
        last = shard;
        shards[shard as usize].0 += 1;
        served[shard as usize] += 1;
        running.push_back(shard);
    }
    (shards.iter().map(|(in_flight, _)| *in_flight).collect(), served)
}

#[test]
fn a_limit_is_used_whole_and_shared_by_tenants_wherever_they_are() {
    assert_eq!(settle(64, &[1, 0, 0, 0]).0, [64, 0, 0, 0], "all load on one shard: it has the whole limit");
    assert_eq!(settle(64, &[1, 1, 1, 1]).0, [16, 16, 16, 16]);
    assert_eq!(settle(64, &[3, 1, 0, 0]).0, [48, 16, 0, 0], "by tenants, not by shards");
}

#[test]
fn no_shard_starves_where_there_are_fewer_places_than_shards() {
    for limit in 1..=3 {
        let (running, served) = settle(limit, &[1, 1, 1, 1]);
        assert_eq!(running.iter().sum::<u32>() as usize, limit);
        assert!(served.iter().all(|count| *count == 9600 / 4), "{limit}: {served:?}");
    }
}

#[test]
fn a_learned_limit_is_of_the_shard_and_its_bound_of_the_process() {
    let learned = Limit::Adaptive(Box::new(Adaptive::new(2, 500)));
    assert_eq!((learned.of_shard(), learned.of_process()), (20, 500));
    assert_eq!((Limit::Fixed(7).of_shard(), Limit::Fixed(7).of_process()), (7, 7));
}
