//! What of a rollout outlives its process: where it stands and the evidence so far, so that a restart is neither a new beginning for the
//! canary nor one for the chance of a false alarm. Where it is written is control's.

use std::time::Duration;

use super::rollout::{Chosen, Rollout, Stage};
use super::sequential::{COUNT_MAX, RateTest, Sample};
use crate::config::{RolloutRules, WHOLE};
use crate::sys::Instant;

/// A rollout as it is written down.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct KeptRollout {
    /// What must be as it was: which arm is the canary, and its steps.
    canary: usize,
    steps: Vec<u32>,
    stage: Stage,
    step: usize,
    /// Of [`WHOLE`].
    share: u32,
    step_ms: u64,
    canary_step: u64,
    canary_total: u64,
    errors: RateTest,
    slow: RateTest,
    metric: Option<KeptMetric>,
}

#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
struct KeptMetric {
    /// Which one, in words.
    of: String,
    test: RateTest,
    measured: [Sample; 2],
    canary_step: u64,
}

impl Rollout {
    /// As it is to be written down.
    #[must_use]
    pub fn keep(&self, now: Instant) -> KeptRollout {
        let metric = self.rules.metric.as_ref().zip(self.chosen.as_ref()).map(|(rules, chosen)| KeptMetric {
            of: rules.measure.to_string(),
            test: chosen.test.clone(),
            measured: chosen.measured,
            canary_step: chosen.canary_step,
        });
        KeptRollout {
            canary: self.rules.canary,
            steps: self.rules.steps.clone(),
            stage: self.stage,
            step: self.step,
            share: self.share,
            step_ms: u64::try_from(self.step_time(now).as_millis()).unwrap_or(u64::MAX),
            canary_step: self.canary_step,
            canary_total: self.canary_total,
            errors: self.errors.clone(),
            slow: self.slow.clone(),
            metric,
        }
    }

    /// The rollout that was kept, going on under `rules`; the time in between does not count. `None` when canary or steps are others, or
    /// what was kept cannot be. Evidence is taken up where it was found by the same rules.
    #[must_use]
    pub fn taken_up(rules: RolloutRules, kept: &KeptRollout, now: Instant) -> Option<Rollout> {
        let is_same = kept.canary == rules.canary && kept.steps == rules.steps;
        let is_counted = kept.canary_step <= kept.canary_total && kept.canary_total < COUNT_MAX;
        if !is_same || !is_counted || kept.step >= kept.steps.len() || kept.share > WHOLE {
            return None;
        }
        let mut rollout = Rollout::new(rules, now);
        // The step it stands at was told when it came.
        let _ = rollout.poll_event();
        (rollout.stage, rollout.step, rollout.share) = (kept.stage, kept.step, kept.share);
        rollout.step_before = Duration::from_millis(kept.step_ms);
        (rollout.canary_step, rollout.canary_total) = (kept.canary_step, kept.canary_total);
        rollout.errors = rollout.errors.taken_up(&kept.errors);
        rollout.slow = rollout.slow.taken_up(&kept.slow);
        // What is slow will be said anew, when the baseline is known again.
        rollout.slow.forget_rate();
        if let (Some(rules), Some(chosen), Some(kept)) = (&rollout.rules.metric, &mut rollout.chosen, &kept.metric)
            && rules.measure.to_string() == kept.of
            && kept.measured.iter().all(|sample| sample.is_sound())
            && kept.canary_step <= kept.measured[1].total
        {
            chosen.take_up(kept);
        }
        Some(rollout)
    }
}

impl Chosen {
    fn take_up(&mut self, kept: &KeptMetric) {
        self.test = self.test.clone().taken_up(&kept.test);
        (self.measured, self.canary_step) = (kept.measured, kept.canary_step);
    }
}
