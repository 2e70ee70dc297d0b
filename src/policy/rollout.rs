//! When a canary gets more, all or nothing: the steps of an automatic rollout, as a machine. It is told what both arms answered and
//! says which share the canary is to have; counting, applying and telling are control's.
//!
//! ```text
//!   running, steps[0] -- step_time over and min_requests answered --> steps[1] --> ... --> 100: completed
//!      |                                                              last step below 100: holding, until somebody decides
//!      +-- evidence of more errors, or of slower answers --> rolled back: share 0, until somebody restarts it
//!      +-- a person: promote (completed), abort (rolled back), weight (manual: watched no more)
//! ```
//!
//! Evidence is `sequential`'s. Errors and slowness are two tests, each with half of the allowed chance of a false alarm; a metric that
//! the user chose is a third one, and then each has a third. A request
//! is slow when its answer began later than `1 + max_latency_increase` times the baseline's median: under no difference both arms
//! have the same share of those, wherever that bound lies, so the same test answers. The bound is taken anew at each step.

use std::time::Duration;

use super::sequential::{RateTest, Sample};
use crate::config::{RolloutRules, WHOLE};
use crate::sys::Instant;

/// What an arm has answered since counting began, read at one moment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ArmCounts {
    pub ok: u64,
    /// Answers of 400 to 499.
    pub client_errors: u64,
    /// Answers from 500, and cut ones.
    pub errors: u64,
    /// Times to the answer's first byte, by bucket; all arms have the same buckets.
    pub times: Vec<u64>,
    /// Answers that are good and bad by the metric the user chose.
    pub good: u64,
    pub bad: u64,
}

/// What speaks against a canary: logarithms.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Evidence {
    pub errors: f64,
    pub latency: f64,
    /// When a metric was chosen.
    pub metric: Option<f64>,
    /// The bound at which one of them suffices.
    pub enough: f64,
}

/// Where a rollout stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Running,
    /// The last step is below 100 and has ended well.
    Holding,
    Completed,
    RolledBack(Cause),
    /// A person sets the shares.
    Manual,
}

/// Why a canary was taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Errors,
    Latency,
    /// The metric the user chose.
    Metric,
    Operator,
}

/// What just happened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Event {
    /// The canary has this share now, in percent.
    Step(u32),
    Holding,
    Completed,
    RolledBack(Cause),
    Manual,
    /// The step would be over, had enough answers of the canary been measured by the chosen metric. Told once in a step.
    Unmeasured,
}

/// What a person may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Begin again at the first step.
    Start,
    /// The canary takes everything.
    Promote,
    /// The baseline takes everything.
    Abort,
    /// The canary gets this share of [`WHOLE`], and nobody watches.
    Weight(u32),
}

/// The rollout of one model.
#[derive(Clone, Debug)]
pub struct Rollout {
    pub(super) rules: RolloutRules,
    pub(super) stage: Stage,
    pub(super) step: usize,
    pub(super) share: u32,
    pub(super) since: Instant,
    /// Time of this step that went by in a process before this one.
    pub(super) step_before: Duration,
    /// Answers of the canary in this step, and since the start.
    pub(super) canary_step: u64,
    pub(super) canary_total: u64,
    pub(super) errors: RateTest,
    pub(super) slow: RateTest,
    pub(super) chosen: Option<Chosen>,
    /// The last bucket that is not slow; none until the baseline is known well enough.
    slow_above: Option<usize>,
    /// The baseline's times so far.
    baseline_times: Vec<u64>,
    /// Baseline's and canary's counts at the last look.
    last: Option<[ArmCounts; 2]>,
    event: Option<Event>,
}

/// The test of the metric the user chose.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) test: RateTest,
    /// What was measured of the baseline and of the canary since the start.
    pub(super) measured: [Sample; 2],
    /// Of the canary in this step.
    pub(super) canary_step: u64,
    is_told: bool,
}

impl Rollout {
    #[must_use]
    pub fn new(rules: RolloutRules, now: Instant) -> Rollout {
        let share = share_of(rules.steps.first().copied().unwrap_or(100));
        Rollout {
            stage: Stage::Running,
            step: 0,
            share,
            since: now,
            step_before: Duration::ZERO,
            canary_step: 0,
            canary_total: 0,
            errors: RateTest::new(rules.max_error_rate_increase),
            slow: RateTest::new(SLOW_RISE),
            chosen: rules.metric.as_ref().map(|metric| Chosen::new(metric.max_rate_increase)),
            slow_above: None,
            baseline_times: Vec::new(),
            last: None,
            event: Some(Event::Step(share / (WHOLE / 100))),
            rules,
        }
    }

    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The canary's share, of [`WHOLE`].
    #[must_use]
    pub fn share(&self) -> u32 {
        self.share
    }

    /// Answers of the canary since the rollout began.
    #[must_use]
    pub fn canary_requests(&self) -> u64 {
        self.canary_total
    }

    /// What speaks against the canary so far.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence {
            errors: self.errors.log_evidence(),
            latency: self.slow.log_evidence(),
            metric: self.chosen.as_ref().map(|chosen| chosen.test.log_evidence()),
            enough: -self.alpha().ln(),
        }
    }

    /// What the chosen metric has found with the baseline and with the canary: `failed` are the bad ones.
    #[must_use]
    pub fn measured(&self) -> Option<[Sample; 2]> {
        self.chosen.as_ref().map(|chosen| chosen.measured)
    }

    /// The counts begin at zero again (a new configuration): what was learned stays.
    pub fn handle_restart_of_counts(&mut self) {
        self.last = None;
    }

    /// What both arms have answered until now; `scale` gives the bucket that holds so many times a bucket's bound.
    pub fn handle_counts(&mut self, baseline: &ArmCounts, canary: &ArmCounts, scale: impl Fn(usize, f64) -> usize, now: Instant) {
        let [was_baseline, was_canary] = self.last.take().unwrap_or_default();
        let (base_new, canary_new) = (since(&was_baseline, baseline), since(&was_canary, canary));
        self.last = Some([baseline.clone(), canary.clone()]);
        if self.stage != Stage::Running {
            return;
        }
        let answered = self.failed(&canary_new).total;
        self.canary_step += answered;
        self.canary_total += answered;
        self.errors.handle_block(self.failed(&base_new), self.failed(&canary_new));
        if let Some(above) = self.slow_above {
            self.slow.handle_block(slower(&base_new.times, above), slower(&canary_new.times, above));
        }
        add(&mut self.baseline_times, &base_new.times);
        if self.slow_above.is_none() {
            self.set_slow(&scale);
        }
        if let Some(chosen) = &mut self.chosen {
            chosen.handle(&base_new, &canary_new);
        }
        let alpha = self.alpha();
        let tests = [(&self.errors, Cause::Errors), (&self.slow, Cause::Latency)];
        let chosen = self.chosen.as_ref().map(|chosen| (&chosen.test, Cause::Metric));
        let raised = tests.into_iter().chain(chosen).find(|(test, _)| test.is_raised(alpha)).map(|(_, cause)| cause);
        match raised {
            Some(cause) => self.roll_back(cause),
            None => self.step_if_due(&scale, now),
        }
    }

    pub fn handle_order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Start => {
                let last = self.last.take();
                *self = Rollout::new(self.rules.clone(), now);
                self.last = last;
            }
            Order::Promote => {
                (self.stage, self.share, self.event) = (Stage::Completed, WHOLE, Some(Event::Completed));
            }
            Order::Abort => self.roll_back(Cause::Operator),
            Order::Weight(share) => (self.stage, self.share, self.event) = (Stage::Manual, share.min(WHOLE), Some(Event::Manual)),
        }
    }

    /// What happened since the last question.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// When time alone may bring the next step.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        (self.stage == Stage::Running).then(|| self.since + self.rules.step_time.saturating_sub(self.step_before))
    }

    fn step_if_due(&mut self, scale: impl Fn(usize, f64) -> usize, now: Instant) {
        if self.step_time(now) < self.rules.step_time || self.canary_step < self.rules.min_requests {
            return;
        }
        match &mut self.chosen {
            Some(chosen) if chosen.canary_step < self.rules.min_requests => {
                if !std::mem::replace(&mut chosen.is_told, true) {
                    self.event = Some(Event::Unmeasured);
                }
            }
            _ => self.next_step(scale, now),
        }
    }

    /// How long this step has taken.
    pub(super) fn step_time(&self, now: Instant) -> Duration {
        self.step_before + now.since(self.since)
    }

    /// The allowed chance of a false alarm of each test.
    fn alpha(&self) -> f64 {
        self.rules.false_alarm / if self.chosen.is_some() { 3.0 } else { 2.0 }
    }

    fn next_step(&mut self, scale: impl Fn(usize, f64) -> usize, now: Instant) {
        let Some(&percent) = self.rules.steps.get(self.step + 1) else {
            (self.stage, self.event) = (Stage::Holding, Some(Event::Holding));
            return;
        };
        self.step += 1;
        (self.share, self.since, self.step_before, self.canary_step) = (share_of(percent), now, Duration::ZERO, 0);
        if let Some(chosen) = &mut self.chosen {
            (chosen.canary_step, chosen.is_told) = (0, false);
        }
        if percent >= 100 {
            // Nothing is left to compare with.
            (self.stage, self.event) = (Stage::Completed, Some(Event::Completed));
            return;
        }
        self.event = Some(Event::Step(percent));
        self.set_slow(scale);
    }

    fn roll_back(&mut self, cause: Cause) {
        (self.stage, self.share, self.event) = (Stage::RolledBack(cause), 0, Some(Event::RolledBack(cause)));
    }

    /// Says anew from where an answer is slow.
    fn set_slow(&mut self, scale: impl Fn(usize, f64) -> usize) {
        let Some(increase) = self.rules.max_latency_increase else { return };
        let total: u64 = self.baseline_times.iter().sum();
        if total < BASELINE_TIMES_MIN {
            return;
        }
        let mut seen = 0;
        let median = self.baseline_times.iter().position(|count| {
            seen += count;
            seen * 2 >= total
        });
        let above = median.map(|bucket| scale(bucket, 1.0 + increase));
        if above != self.slow_above {
            self.slow_above = above;
            self.slow.forget_rate();
        }
    }

    fn failed(&self, counts: &ArmCounts) -> Sample {
        let client = if self.rules.count_4xx { counts.client_errors } else { 0 };
        Sample { total: counts.ok + counts.errors + client, failed: counts.errors + client }
    }
}

impl Chosen {
    pub(super) fn new(rise: f64) -> Chosen {
        Chosen { test: RateTest::new(rise), measured: [Sample::default(); 2], canary_step: 0, is_told: false }
    }

    fn handle(&mut self, baseline: &ArmCounts, canary: &ArmCounts) {
        let new = [baseline, canary].map(|arm| Sample { total: arm.good + arm.bad, failed: arm.bad });
        self.test.handle_block(new[0], new[1]);
        for (sum, new) in self.measured.iter_mut().zip(new) {
            sum.total += new.total;
            sum.failed += new.failed;
        }
        self.canary_step += new[1].total;
    }
}

fn share_of(percent: u32) -> u32 {
    percent.min(100) * (WHOLE / 100)
}

/// What was counted between two looks.
fn since(before: &ArmCounts, now: &ArmCounts) -> ArmCounts {
    let times = now.times.iter().enumerate().map(|(bucket, count)| count.saturating_sub(before.times.get(bucket).copied().unwrap_or(0)));
    ArmCounts {
        ok: now.ok.saturating_sub(before.ok),
        client_errors: now.client_errors.saturating_sub(before.client_errors),
        errors: now.errors.saturating_sub(before.errors),
        times: times.collect(),
        good: now.good.saturating_sub(before.good),
        bad: now.bad.saturating_sub(before.bad),
    }
}

fn slower(times: &[u64], above: usize) -> Sample {
    Sample { total: times.iter().sum(), failed: times.iter().skip(above + 1).sum() }
}

fn add(sum: &mut Vec<u64>, more: &[u64]) {
    sum.resize(sum.len().max(more.len()), 0);
    for (cell, count) in sum.iter_mut().zip(more) {
        *cell += count;
    }
}

/// The rise of the share of slow answers that the test looks for.
const SLOW_RISE: f64 = 0.15;
/// Answers of the baseline before its median is used.
const BASELINE_TIMES_MIN: u64 = 50;

/// How often the counts are to be looked at: what a bad canary answers between two looks comes on top of what the test needed.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
