//! Places that all shards take from: never more out than allowed, none lost, rows kept over a reload.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::mesh::{ShardId, Shares};

#[test]
fn never_more_places_are_out_than_there_are() {
    const SHARDS: u32 = 4;
    const MAX: u32 = 3;
    let share = Shares::new(SHARDS, [None, Some("gpu")], &Shares::default()).of(1).unwrap();
    share.set_max(MAX);
    let (out, most) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for shard in (0..SHARDS).map(ShardId) {
            let (share, out, most) = (share.clone(), &out, &most);
            scope.spawn(move || {
                for _ in 0..20_000 {
                    if share.take(shard) {
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        out.fetch_sub(1, Ordering::SeqCst);
                        share.give(shard);
                    }
                }
            });
        }
    });
    assert!((1..=MAX).contains(&most.load(Ordering::SeqCst)));
    share.set_max(1);
    assert!(share.has_room(), "every place came back");
    assert!((0..SHARDS).all(|shard| share.claim(shard) == (0, 0)));
}

#[test]
fn rows_are_kept_by_name_over_a_reload() {
    let first = Shares::new(2, [Some("a"), Some("b"), None], &Shares::default());
    first.of(1).unwrap().set_max(1);
    assert!(first.of(1).unwrap().take(ShardId(1)));
    let second = Shares::new(2, [None, Some("c"), Some("b")], &first);
    assert!(!second.of(2).unwrap().take(ShardId(0)), "it is still out");
    assert_eq!(second.of(2).unwrap().claim(1), (1, 0));
    assert!(second.of(0).is_none() && second.of(9).is_none());
    assert!(!second.of(1).unwrap().has_room(), "nobody has said how many places it has");
    // The next configuration allows more: all know at once.
    second.of(2).unwrap().set_max(2);
    assert!(first.of(1).unwrap().take(ShardId(0)));
}

#[test]
fn word_of_a_place_is_sent_once() {
    let share = Shares::new(2, [Some("a")], &Shares::default()).of(0).unwrap();
    assert!(share.must_tell(ShardId(1)) && !share.must_tell(ShardId(1)));
    share.heard(ShardId(1));
    assert!(share.must_tell(ShardId(1)));
    share.set_tenants(ShardId(0), 0, 3);
    share.set_tenants(ShardId(1), 0, 2);
    share.set_tenants(ShardId(0), 3, 1);
    assert_eq!((share.claim(0), share.claim(1)), ((0, 1), (0, 2)));
    share.set_tenants(ShardId(0), 1, 0);
    assert!(share.is_waited_for());
    share.set_tenants(ShardId(1), 2, 0);
    assert!(!share.is_waited_for());
}
