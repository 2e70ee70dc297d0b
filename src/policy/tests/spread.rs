//! Who serves a connection.

use crate::policy::{ShardLoad, is_better_there};

fn load(connections: u64, exchanges: u64) -> ShardLoad {
    ShardLoad { connections, exchanges }
}

#[test]
fn only_a_clear_difference_moves_a_connection() {
    let cases = [
        ("nobody anywhere", load(0, 0), load(0, 0), false),
        ("one here", load(1, 0), load(0, 0), true),
        ("as many", load(5, 5), load(5, 5), false),
        ("one more of many", load(101, 0), load(100, 0), false),
        ("an eighth more", load(113, 0), load(100, 0), true),
        ("streams here, idle connections there", load(8, 8), load(16, 0), true),
        ("more idle ones there than the streams weigh", load(8, 8), load(24, 0), false),
        ("less here", load(1, 1), load(9, 9), false),
    ];
    for (name, here, there, moves) in cases {
        assert_eq!(is_better_there(here, there), moves, "{name}");
    }
}

#[test]
fn a_crowd_that_one_shard_accepts_ends_up_even() {
    let (mut here, mut there) = (load(0, 0), load(0, 0));
    for _ in 0..1000 {
        let chosen = if is_better_there(here, there) { &mut there } else { &mut here };
        chosen.connections += 1;
    }
    assert!(here.connections >= there.connections && here.connections * 8 <= there.connections * 9 + 8, "{here:?} {there:?}");
}
