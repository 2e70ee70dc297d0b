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
//! Evidence is `sequential`'s. Errors and slowness are two tests, each with half of the allowed chance of a false alarm. A request
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
}

/// Where a rollout stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Errors,
    Latency,
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
    rules: RolloutRules,
    stage: Stage,
    step: usize,
    share: u32,
    since: Instant,
    /// Answers of the canary in this step, and since the start.
    canary_step: u64,
    canary_total: u64,
    errors: RateTest,
    slow: RateTest,
    /// The last bucket that is not slow; none until the baseline is known well enough.
    slow_above: Option<usize>,
    /// The baseline's times so far.
    baseline_times: Vec<u64>,
    /// Baseline's and canary's counts at the last look.
    last: Option<[ArmCounts; 2]>,
    event: Option<Event>,
}

impl Rollout {
    #[must_use]
    pub fn new(rules: RolloutRules, now: Instant) -> Rollout {
        let (errors, slow) = tests(&rules);
        let share = share_of(rules.steps.first().copied().unwrap_or(100));
        Rollout {
            rules,
            stage: Stage::Running,
            step: 0,
            share,
            since: now,
            canary_step: 0,
            canary_total: 0,
            errors,
            slow,
            slow_above: None,
            baseline_times: Vec::new(),
            last: None,
            event: Some(Event::Step(share / (WHOLE / 100))),
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

    /// The evidence for more errors and for slower answers: logarithms, and the bound at which it suffices.
    #[must_use]
    pub fn evidence(&self) -> (f64, f64, f64) {
        (self.errors.log_evidence(), self.slow.log_evidence(), -(self.rules.false_alarm / 2.0).ln())
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
        let alpha = self.rules.false_alarm / 2.0;
        if self.errors.is_raised(alpha) {
            return self.roll_back(Cause::Errors);
        }
        if self.slow.is_raised(alpha) {
            return self.roll_back(Cause::Latency);
        }
        let due = now.since(self.since) >= self.rules.step_time && self.canary_step >= self.rules.min_requests;
        if due {
            self.next_step(&scale, now);
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
        (self.stage == Stage::Running).then(|| self.since + self.rules.step_time)
    }

    fn next_step(&mut self, scale: impl Fn(usize, f64) -> usize, now: Instant) {
        let Some(&percent) = self.rules.steps.get(self.step + 1) else {
            (self.stage, self.event) = (Stage::Holding, Some(Event::Holding));
            return;
        };
        self.step += 1;
        (self.share, self.since, self.canary_step) = (share_of(percent), now, 0);
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

fn tests(rules: &RolloutRules) -> (RateTest, RateTest) {
    (RateTest::new(rules.max_error_rate_increase), RateTest::new(SLOW_RISE))
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
