//! Rollouts as they run: blocks of answers drawn with a seed, thousands of times over, and the steps as a transcript.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::{FinishReason, Measure, MetricRules, RolloutRules, WHOLE};
use crate::policy::{ArmCounts, Cause, Order, RateTest, Rollout, RolloutEvent, Sample, Stage};
use crate::sys::Instant;

struct Dice(u64);

impl Dice {
    /// splitmix64 as a number from 0 to 1.
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn sample(&mut self, total: u64, rate: f64) -> Sample {
        Sample { total, failed: (0..total).filter(|_| self.draw() < rate).count() as u64 }
    }
}

/// Answers of the canary until the test says that it fails more often; `None` after `most`.
fn canary_answers(dice: &mut Dice, share: f64, rates: (f64, f64), alpha: f64, most: u64) -> Option<u64> {
    answers_until_raised(RateTest::new(0.02), dice, share, rates, alpha, most)
}

fn answers_until_raised(mut test: RateTest, dice: &mut Dice, share: f64, rates: (f64, f64), alpha: f64, most: u64) -> Option<u64> {
    let mut canary_total = 0;
    while canary_total < most {
        let (mut baseline, mut canary) = (0, 0);
        for _ in 0..10 {
            if dice.draw() < share {
                canary += 1;
            } else {
                baseline += 1;
            }
        }
        canary_total += canary;
        let blocks = (dice.sample(baseline, rates.0), dice.sample(canary, rates.1));
        test.handle_block(blocks.0, blocks.1);
        if test.is_raised(alpha) {
            return Some(canary_total);
        }
    }
    None
}

#[test]
fn a_canary_as_good_as_its_baseline_is_rarely_blamed_however_long_one_looks() {
    for (share, rate) in [(0.05, 0.0), (0.05, 0.01), (0.5, 0.01), (0.5, 0.2), (0.1, 0.5)] {
        let mut dice = Dice(7);
        let alarms = (0..400).filter(|_| canary_answers(&mut dice, share, (rate, rate), 0.05, 500).is_some()).count();
        // 20 of 400 are allowed on average, 36 four standard deviations above.
        assert!(alarms <= 36, "{alarms} of 400 at share {share}, rate {rate}");
    }
}

#[test]
fn a_canary_better_than_its_baseline_is_rarely_blamed() {
    let mut dice = Dice(11);
    let alarms = (0..200).filter(|_| canary_answers(&mut dice, 0.3, (0.1, 0.05), 0.05, 500).is_some()).count();
    assert!(alarms <= 10, "{alarms} of 200");
}

#[test]
fn five_errors_of_a_hundred_are_found_within_two_hundred_answers() {
    for share in [0.01, 0.05, 0.1, 0.25] {
        let mut dice = Dice(3);
        let mut found: Vec<u64> = (0..200).map(|_| canary_answers(&mut dice, share, (0.0, 0.05), 0.005, 1000).unwrap_or(1000)).collect();
        found.sort_unstable();
        let (median, late) = (found[100], found[189]);
        assert!(median <= 120 && late <= 200, "at {share}: median {median}, 95 of 100 within {late}");
    }
}

/// As the guide tells of the chosen metric with its defaults.
#[test]
fn fifteen_more_bad_answers_of_a_hundred_are_found() {
    for share in [0.05, 0.25] {
        let mut dice = Dice(13);
        let mut draw = || answers_until_raised(RateTest::new(0.05), &mut dice, share, (0.05, 0.2), 0.01 / 3.0, 2000).unwrap_or(2000);
        let mut found: Vec<u64> = (0..200).map(|_| draw()).collect();
        found.sort_unstable();
        let (median, late) = (found[100], found[189]);
        assert!(median <= 100 && late <= 220, "at {share}: median {median}, 95 of 100 within {late}");
    }
}

#[test]
fn a_canary_that_only_fails_is_found_at_once() {
    let mut dice = Dice(5);
    let found = canary_answers(&mut dice, 0.1, (0.01, 1.0), 0.005, 1000).unwrap();
    assert!(found <= 10, "{found}");
}

proptest! {
    /// The bound that all rests on: over all outcomes of a block, a block's ratio is 1 on average under any common rate.
    #[test]
    fn a_blocks_ratio_is_at_most_one_on_average(rate in 0.001_f64..0.999, baseline in 1_u64..6, canary in 1_u64..6, learned in 0_u64..50) {
        let mut mean = 0.0;
        for failed_a in 0..=baseline {
            for failed_b in 0..=canary {
                let chance = binomial(baseline, failed_a, rate) * binomial(canary, failed_b, rate);
                let mut test = RateTest::new(0.02);
                test.handle_block(Sample { total: 50, failed: learned }, Sample::default());
                test.handle_block(Sample { total: baseline, failed: failed_a }, Sample { total: canary, failed: failed_b });
                mean += chance * test.log_evidence().exp();
            }
        }
        prop_assert!(mean <= 1.0 + 1e-9, "{mean}");
    }
}

fn binomial(n: u64, k: u64, rate: f64) -> f64 {
    let ways: f64 = (0..k).map(|step| (n - step) as f64 / (step + 1) as f64).product();
    ways * rate.powi(i32::try_from(k).unwrap()) * (1.0 - rate).powi(i32::try_from(n - k).unwrap())
}

pub(super) fn rules() -> RolloutRules {
    RolloutRules {
        canary: 1,
        steps: vec![5, 50, 100],
        step_time: Duration::from_secs(60),
        min_requests: 20,
        max_error_rate_increase: 0.02,
        max_latency_increase: Some(0.5),
        count_4xx: true,
        false_alarm: 0.01,
        metric: None,
    }
}

/// A rollout with what its arms have answered so far. Buckets are powers of two.
pub(super) struct Scene {
    pub(super) rollout: Rollout,
    pub(super) arms: [ArmCounts; 2],
    pub(super) now: Instant,
}

impl Scene {
    pub(super) fn new(rules: RolloutRules) -> Scene {
        let arms = [ArmCounts { times: vec![0; 8], ..ArmCounts::default() }, ArmCounts { times: vec![0; 8], ..ArmCounts::default() }];
        Scene { rollout: Rollout::new(rules, Instant::ZERO), arms, now: Instant::ZERO }
    }

    pub(super) fn answers(&mut self, arm: usize, ok: u64, errors: u64, bucket: usize) {
        self.arms[arm].ok += ok;
        self.arms[arm].errors += errors;
        self.arms[arm].times[bucket] += ok + errors;
    }

    /// Answers that the chosen metric has measured.
    pub(super) fn measured(&mut self, arm: usize, good: u64, bad: u64) {
        self.arms[arm].good += good;
        self.arms[arm].bad += bad;
        self.answers(arm, good + bad, 0, 3);
    }

    pub(super) fn look(&mut self, seconds: u64) -> Option<RolloutEvent> {
        self.now = self.now + Duration::from_secs(seconds);
        let scale = |bucket: usize, factor: f64| bucket + usize::from(factor > 1.0);
        let [baseline, canary] = &self.arms;
        self.rollout.handle_counts(baseline, canary, scale, self.now);
        self.rollout.poll_event()
    }
}

#[test]
fn a_good_canary_goes_up_the_steps_when_time_and_answers_suffice() {
    let mut scene = Scene::new(rules());
    assert_eq!((scene.rollout.share(), scene.rollout.poll_event()), (500, Some(RolloutEvent::Step(5))));
    scene.answers(0, 400, 1, 3);
    scene.answers(1, 19, 0, 3);
    assert_eq!(scene.look(61), None, "19 answers are not 20");
    scene.answers(1, 1, 0, 3);
    assert_eq!(scene.look(1), Some(RolloutEvent::Step(50)));
    assert_eq!(scene.rollout.share(), 5000);
    scene.answers(0, 400, 2, 3);
    scene.answers(1, 400, 2, 3);
    assert_eq!(scene.look(59), None, "not yet time");
    assert_eq!(scene.rollout.next_timeout(), Some(scene.now + Duration::from_secs(1)));
    assert_eq!(scene.look(1), Some(RolloutEvent::Completed));
    assert_eq!((scene.rollout.share(), scene.rollout.stage(), scene.rollout.next_timeout()), (WHOLE, Stage::Completed, None));
    scene.answers(1, 0, 500, 3);
    assert_eq!((scene.look(100), scene.rollout.share()), (None, WHOLE), "nothing is left to compare with");
}

#[test]
fn a_failing_canary_gets_nothing_until_somebody_starts_it_again() {
    let mut scene = Scene::new(rules());
    scene.rollout.poll_event();
    scene.answers(0, 1000, 2, 3);
    scene.answers(1, 30, 0, 3);
    assert_eq!(scene.look(1), None);
    scene.answers(0, 1000, 2, 3);
    scene.answers(1, 40, 10, 3);
    assert_eq!(scene.look(1), Some(RolloutEvent::RolledBack(Cause::Errors)));
    assert_eq!((scene.rollout.share(), scene.look(1000)), (0, None));
    scene.rollout.handle_order(Order::Start, scene.now);
    assert_eq!(
        (scene.rollout.poll_event(), scene.rollout.share(), scene.rollout.stage()),
        (Some(RolloutEvent::Step(5)), 500, Stage::Running)
    );
    scene.answers(0, 400, 0, 3);
    scene.answers(1, 20, 0, 3);
    assert_eq!(scene.look(60), Some(RolloutEvent::Step(50)), "old answers are not held against it");
}

#[test]
fn a_slower_canary_is_taken_back_and_one_within_the_bound_is_not() {
    for (bucket, wanted) in [(3, None), (4, None), (5, Some(RolloutEvent::RolledBack(Cause::Latency)))] {
        let mut scene = Scene::new(rules());
        scene.rollout.poll_event();
        scene.answers(0, 200, 0, 3);
        scene.look(1);
        let mut event = None;
        for _ in 0..6 {
            scene.answers(0, 100, 0, 3);
            scene.answers(1, 3, 0, bucket);
            event = event.or(scene.look(1));
        }
        assert_eq!(event, wanted, "in bucket {bucket}, when the median is in 3 and slow is above 4");
    }
    let mut scene = Scene::new(RolloutRules { max_latency_increase: None, ..rules() });
    scene.rollout.poll_event();
    for _ in 0..20 {
        scene.answers(0, 100, 0, 3);
        scene.answers(1, 0, 0, 7);
        scene.arms[1].times[7] += 10;
        assert_eq!(scene.look(0), None);
    }
}

fn with_metric() -> RolloutRules {
    let measure = Measure::Finish(vec![FinishReason::Length]);
    RolloutRules { metric: Some(MetricRules { measure, max_rate_increase: 0.05 }), ..rules() }
}

#[test]
fn a_canary_worse_by_the_chosen_metric_is_taken_back_and_a_better_one_is_not() {
    for (bad, wanted) in [(4, Some(RolloutEvent::RolledBack(Cause::Metric))), (0, None)] {
        let mut scene = Scene::new(with_metric());
        scene.rollout.poll_event();
        scene.measured(0, 190, 10);
        let mut event = None;
        for _ in 0..20 {
            scene.measured(0, 190, 10);
            scene.measured(1, 10 - bad, bad);
            event = event.or(scene.look(1));
        }
        assert_eq!(event, wanted, "{bad} of 10 bad: {:?}", scene.rollout.evidence());
        assert_eq!(scene.rollout.share(), if bad > 0 { 0 } else { 500 });
    }
}

#[test]
fn a_step_waits_until_enough_of_the_canarys_answers_were_measured() {
    let mut scene = Scene::new(with_metric());
    scene.rollout.poll_event();
    scene.measured(0, 400, 0);
    scene.answers(1, 100, 0, 3);
    assert_eq!(scene.look(61), Some(RolloutEvent::Unmeasured));
    scene.measured(1, 19, 0);
    assert_eq!((scene.look(1), scene.rollout.share()), (None, 500), "19 are not 20; and it was told");
    scene.measured(1, 1, 0);
    assert_eq!(scene.look(1), Some(RolloutEvent::Step(50)));
    assert_eq!(scene.rollout.measured().map(|[old, new]| (old.total, new.total)), Some((400, 20)));
    scene.answers(1, 100, 0, 3);
    assert_eq!(scene.look(61), Some(RolloutEvent::Unmeasured), "the next step has its own answers");
}

#[test]
fn three_tests_share_the_chance_of_a_false_alarm() {
    let enough = |rules| Rollout::new(rules, Instant::ZERO).evidence().enough;
    assert!((enough(rules()).exp() - 2.0 / 0.01).abs() < 1e-6);
    assert!((enough(with_metric()).exp() - 3.0 / 0.01).abs() < 1e-6);
}

#[test]
fn people_have_the_last_word() {
    let mut scene = Scene::new(RolloutRules { steps: vec![5, 50], ..rules() });
    scene.rollout.poll_event();
    for (order, stage, share, event) in [
        (Order::Promote, Stage::Completed, WHOLE, RolloutEvent::Completed),
        (Order::Abort, Stage::RolledBack(Cause::Operator), 0, RolloutEvent::RolledBack(Cause::Operator)),
        (Order::Weight(1234), Stage::Manual, 1234, RolloutEvent::Manual),
        (Order::Start, Stage::Running, 500, RolloutEvent::Step(5)),
    ] {
        scene.rollout.handle_order(order, scene.now);
        assert_eq!((scene.rollout.stage(), scene.rollout.share(), scene.rollout.poll_event()), (stage, share, Some(event)));
    }
    for wanted in [Some(RolloutEvent::Step(50)), Some(RolloutEvent::Holding), None] {
        scene.answers(0, 100, 0, 3);
        scene.answers(1, 20, 0, 3);
        assert_eq!(scene.look(60), wanted);
    }
    assert_eq!(scene.rollout.share(), 5000, "it holds");
}

#[test]
fn clients_mistakes_count_only_where_they_are_to() {
    for (count_4xx, wanted) in [(true, Some(RolloutEvent::RolledBack(Cause::Errors))), (false, None)] {
        let mut scene = Scene::new(RolloutRules { count_4xx, ..rules() });
        scene.rollout.poll_event();
        scene.answers(0, 500, 0, 3);
        scene.arms[1].client_errors += 30;
        scene.arms[1].ok += 10;
        assert_eq!(scene.look(1), wanted);
    }
}

#[test]
fn a_reload_keeps_what_was_learned() {
    let mut scene = Scene::new(rules());
    scene.rollout.poll_event();
    scene.answers(0, 500, 0, 3);
    scene.answers(1, 21, 0, 3);
    assert_eq!((scene.look(1), scene.rollout.canary_requests()), (None, 21));
    scene.rollout.handle_restart_of_counts();
    scene.arms = [ArmCounts::default(), ArmCounts::default()];
    assert_eq!((scene.look(1), scene.rollout.canary_requests()), (None, 21));
    scene.arms[1].ok = 1;
    assert_eq!(scene.look(58), Some(RolloutEvent::Step(50)));
    assert_eq!(scene.rollout.canary_requests(), 22);
}
