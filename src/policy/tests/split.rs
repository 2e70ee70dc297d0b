//! The arm of a request: in proportion, and the same for the same value while shares move.

use crate::config::{Arm, ModelId, Split, UpstreamId, WHOLE};
use crate::policy::sticky_point;

fn split(arms: u32) -> Split {
    let arm = |index: u32| Arm { model: ModelId(index), upstream: UpstreamId(index), share: 0 };
    Split { arms: (0..arms).map(arm).collect(), sticky: None, rollout: None }
}

#[test]
fn arms_get_their_shares() {
    let split = split(3);
    let shares = [6000, 3000, 1000];
    let mut got = [0_u32; 3];
    for point in (0..WHOLE).map(|step| step * (u32::MAX / WHOLE)) {
        got[split.arm_at(point, |arm| shares[arm.0 as usize]).0 as usize] += 1;
    }
    assert!(got.iter().zip(shares).all(|(got, share)| got.abs_diff(share) <= 1), "{got:?}");
    for (shares, wanted) in [([0, 0, 0], 0), ([0, 10_000, 0], 1), ([10_000, 0, 0], 0), ([0, 0, 10_000], 2)] {
        for point in [0, 1, u32::MAX / 2, u32::MAX] {
            assert_eq!(split.arm_at(point, |arm| shares[arm.0 as usize]), ModelId(wanted), "{shares:?} at {point}");
        }
    }
}

#[test]
fn who_was_with_a_growing_canary_stays_with_it() {
    let split = split(2);
    for user in 0..1000_u32 {
        let point = sticky_point("m", &user.to_be_bytes());
        let mut was_canary = false;
        for canary in [0, 100, 500, 2500, 5000, 10_000] {
            let arm = split.arm_at(point, |arm| if arm.0 == 1 { canary } else { WHOLE - canary });
            assert!(!was_canary || arm == ModelId(1), "user {user} left the canary at {canary}");
            was_canary = arm == ModelId(1);
        }
        assert!(was_canary);
    }
}

#[test]
fn sticky_points_are_spread_and_differ_between_models() {
    let below = |model: &str| (0..10_000_u32).filter(|user| sticky_point(model, &user.to_be_bytes()) < u32::MAX / 10).count();
    for model in ["a", "b"] {
        assert!((900..1100).contains(&below(model)), "{}", below(model));
    }
    let both =
        (0..10_000_u32).filter(|user| ["a", "b"].iter().all(|model| sticky_point(model, &user.to_be_bytes()) < u32::MAX / 10)).count();
    assert!((50..200).contains(&both), "the first tenth of one model's users is not the other's: {both}");
}
