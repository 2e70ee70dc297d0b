//! Rollouts over restarts: what was written down is where they go on, and evidence is not forgotten.

use std::time::Duration;

use super::rollout::{Scene, rules};
use crate::config::{Bound, Measure, MetricRules, RolloutRules};
use crate::policy::{Cause, KeptRollout, Order, Rollout, RolloutEvent, Stage};
use crate::sys::Instant;

/// As a process that ends and another that begins, whose clock begins at zero again.
fn restarted(scene: &mut Scene, rules: RolloutRules) -> bool {
    let text = serde_json::to_string(&scene.rollout.keep(scene.now)).unwrap();
    let kept: KeptRollout = serde_json::from_str(&text).unwrap();
    let fresh = Scene::new(rules.clone());
    match Rollout::taken_up(rules, &kept, Instant::ZERO) {
        Some(rollout) => {
            *scene = Scene { rollout, ..fresh };
            true
        }
        None => false,
    }
}

fn with_metric(bound: f64) -> RolloutRules {
    let measure = Measure::TokensPerSecond(Bound::Below(bound));
    RolloutRules { metric: Some(MetricRules { measure, max_rate_increase: 0.05 }), ..rules() }
}

#[test]
fn a_step_goes_on_where_it_stood() {
    let mut scene = Scene::new(rules());
    scene.rollout.poll_event();
    scene.answers(0, 400, 1, 3);
    scene.answers(1, 19, 0, 3);
    assert_eq!(scene.look(50), None);
    assert!(restarted(&mut scene, rules()));
    assert_eq!((scene.rollout.poll_event(), scene.rollout.share(), scene.rollout.stage()), (None, 500, Stage::Running));
    assert_eq!(scene.rollout.next_timeout(), Some(Instant::ZERO + Duration::from_secs(10)));
    scene.answers(0, 100, 0, 3);
    scene.answers(1, 1, 0, 3);
    assert_eq!(scene.look(9), None, "59 of 60 s");
    assert_eq!(scene.look(1), Some(RolloutEvent::Step(50)), "20 answers and 60 s in both processes");
    assert!(restarted(&mut scene, rules()));
    assert_eq!((scene.rollout.share(), scene.rollout.canary_requests()), (5000, 20));
    assert_eq!(scene.rollout.next_timeout(), Some(Instant::ZERO + Duration::from_secs(60)), "a new step has all of its time");
}

#[test]
fn what_was_decided_stays_decided() {
    for (order, stage) in
        [(Order::Abort, Stage::RolledBack(Cause::Operator)), (Order::Promote, Stage::Completed), (Order::Weight(1234), Stage::Manual)]
    {
        let mut scene = Scene::new(rules());
        scene.rollout.handle_order(order, scene.now);
        let share = scene.rollout.share();
        assert!(restarted(&mut scene, rules()));
        assert_eq!((scene.rollout.stage(), scene.rollout.share(), scene.rollout.poll_event()), (stage, share, None));
        scene.answers(0, 100, 0, 3);
        scene.answers(1, 100, 0, 3);
        assert_eq!((scene.look(1000), scene.rollout.share()), (None, share));
    }
}

#[test]
fn evidence_adds_up_over_restarts() {
    let mut scene = Scene::new(rules());
    let mut restarts = 0;
    while scene.rollout.stage() == Stage::Running {
        scene.answers(0, 100, 0, 3);
        // Too few for a verdict by themselves.
        scene.answers(1, 8, 2, 3);
        scene.look(1);
        assert!(restarted(&mut scene, rules()));
        restarts += 1;
        assert!(restarts < 20, "{:?}", scene.rollout.evidence());
    }
    assert_eq!(scene.rollout.stage(), Stage::RolledBack(Cause::Errors));
    assert!(restarts > 1, "one look was enough: this test shows nothing");
}

#[test]
fn other_steps_or_another_canary_begin_anew_and_other_thresholds_do_not() {
    let others = [
        (RolloutRules { steps: vec![5, 60, 100], ..rules() }, false),
        (RolloutRules { canary: 0, ..rules() }, false),
        (RolloutRules { min_requests: 500, false_alarm: 0.001, ..rules() }, true),
        (RolloutRules { max_error_rate_increase: 0.1, ..rules() }, true),
    ];
    for (rules_now, goes_on) in others {
        let mut scene = Scene::new(rules());
        scene.answers(0, 100, 0, 3);
        scene.answers(1, 8, 2, 3);
        scene.look(1);
        let before = scene.rollout.evidence().errors;
        assert!(before > 0.5);
        let rise = rules_now.max_error_rate_increase;
        assert_eq!(restarted(&mut scene, rules_now), goes_on);
        if rise > 0.05 {
            assert!(scene.rollout.evidence().errors.abs() < 1e-9, "it was found by another rule");
        } else {
            assert!((scene.rollout.evidence().errors - before).abs() < 1e-9);
        }
    }
}

#[test]
fn evidence_of_another_metric_is_not_held_against_it() {
    for (bound, stays) in [(30.0, true), (20.0, false)] {
        let mut scene = Scene::new(with_metric(30.0));
        scene.measured(0, 100, 0);
        scene.measured(1, 6, 3);
        scene.look(1);
        let before = scene.rollout.evidence().metric.unwrap();
        assert!(before > 0.5, "{before}");
        assert!(restarted(&mut scene, with_metric(bound)));
        let (after, measured) = (scene.rollout.evidence().metric.unwrap(), scene.rollout.measured().unwrap());
        assert_eq!((after > 0.5, measured[1].total == 9), (stays, stays), "{after} {measured:?}");
    }
}

#[test]
fn what_cannot_be_is_not_taken_up() {
    let mut text = serde_json::to_value(Rollout::new(rules(), Instant::ZERO).keep(Instant::ZERO)).unwrap();
    text["step"] = 7.into();
    let kept: KeptRollout = serde_json::from_value(text.clone()).unwrap();
    assert!(Rollout::taken_up(rules(), &kept, Instant::ZERO).is_none(), "there is no eighth step");
    (text["step"], text["share"]) = (0.into(), 10_001.into());
    let kept: KeptRollout = serde_json::from_value(text.clone()).unwrap();
    assert!(Rollout::taken_up(rules(), &kept, Instant::ZERO).is_none(), "more than the whole");
    (text["share"], text["canary_total"]) = (500.into(), u64::MAX.into());
    let kept: KeptRollout = serde_json::from_value(text.clone()).unwrap();
    assert!(Rollout::taken_up(rules(), &kept, Instant::ZERO).is_none(), "nobody has answered so many");
    (text["canary_total"], text["errors"]["baseline"]["total"]) = (0.into(), u64::MAX.into());
    (text["errors"]["log_products"][0], text["step_ms"]) = (100.into(), u64::MAX.into());
    let kept: KeptRollout = serde_json::from_value(text).unwrap();
    let rollout = Rollout::taken_up(rules(), &kept, Instant::ZERO).unwrap();
    assert!(rollout.evidence().errors.abs() < 1e-9, "evidence out of so many answers is none");
}
