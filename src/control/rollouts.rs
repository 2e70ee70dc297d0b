//! The shares of split models: read from the configuration, moved by rollouts and by people, turned on the shards' dials. What a
//! rollout decides is policy's; the admin page asks through here.

use std::fmt;

use serde_json::{Value, json};

use super::kept::Keeping;
use crate::config::{Config, ModelId, Split, WHOLE};
use crate::mesh::Dials;
use crate::metrics::{Registry, SplitCounts};
use crate::policy::{ArmCounts, Cause, Order, Rollout, RolloutEvent, Sample, Stage};
use crate::sys::Instant;

/// All split models of the current configuration.
#[derive(Default, Debug)]
pub(super) struct Rollouts {
    pub(super) lines: Vec<Line>,
    /// What was written down of them, and when.
    pub(super) kept: Keeping,
}

/// One split model.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) model: String,
    pub(super) split: Split,
    /// Names of the arms' upstreams.
    pub(super) targets: Vec<String>,
    /// As the configuration has them, and now.
    pub(super) configured: Vec<u32>,
    pub(super) shares: Vec<u32>,
    pub(super) machine: Option<Rollout>,
}

/// What a person asks for.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Wish {
    /// The rollout begins again at its first step.
    Start,
    /// One target takes everything: the canary of a rollout, or the one that is named.
    Promote { target: Option<String> },
    /// The rollout's baseline takes everything; without a rollout the shares are those of the configuration again.
    Abort,
    /// One target gets this share, the others divide the rest as before.
    Weight { target: String, percent: u32 },
}

/// Why a wish is not granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum WishError {
    NoModel(Vec<String>),
    NoTarget(Vec<String>),
    NoRollout,
    Percent,
    /// Which of several targets?
    TargetMissing(Vec<String>),
}

impl fmt::Display for WishError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WishError::NoModel(models) if models.is_empty() => write!(out, "no model has targets: write models.targets first"),
            WishError::NoModel(models) => write!(out, "no such model with targets; there are {}", models.join(", ")),
            WishError::NoTarget(targets) => write!(out, "no such target; there are {}", targets.join(", ")),
            WishError::NoRollout => write!(out, "the model has no [models.rollout] that could begin again"),
            WishError::Percent => write!(out, "percent must be 0 to 100"),
            WishError::TargetMissing(targets) => write!(out, "say which target: {}", targets.join(", ")),
        }
    }
}

impl Rollouts {
    pub(super) fn new(config: &Config, now: Instant) -> Rollouts {
        let line = |model: &crate::config::Model| {
            let split = model.split.as_deref()?.clone();
            let targets = split.arms.iter().map(|arm| config.upstream(arm.upstream).name.clone()).collect();
            let configured: Vec<u32> = split.arms.iter().map(|arm| arm.share).collect();
            let machine = split.rollout.clone().map(|rules| Rollout::new(rules, now));
            Some(Line { model: model.name.clone(), targets, shares: configured.clone(), configured, machine, split })
        };
        Rollouts { lines: config.written_models().filter_map(line).collect(), kept: Keeping::default() }
    }

    /// For the next configuration: a model whose targets, weights and steps stay as they were goes on where it stands.
    pub(super) fn carried_to(&self, config: &Config, now: Instant) -> Rollouts {
        let mut next = Rollouts::new(config, now);
        for line in &mut next.lines {
            let same = |old: &&Line| old.model == line.model && old.targets == line.targets && old.configured == line.configured;
            if let Some(old) = self.lines.iter().find(same) {
                line.carry(old, now);
            }
        }
        next.kept = self.kept.for_next();
        next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The dials of a snapshot, as the shares are now.
    pub(super) fn dials(&self, config: &Config) -> Dials {
        let dials = Dials::new(config.models.iter().map(|_| 0));
        self.turn(&dials);
        dials
    }

    /// Tells every rollout what was answered, and carries out what it decides.
    pub(super) fn look(&mut self, registry: &mut Registry, dials: &Dials, now: Instant) {
        for line in &mut self.lines {
            self.kept.is_stale |= line.look(registry, now);
        }
        self.publish(registry, dials);
    }

    /// # Errors
    /// Why not; nothing changed.
    pub(super) fn wish(
        &mut self,
        model: &str,
        wish: Wish,
        registry: &mut Registry,
        dials: &Dials,
        now: Instant,
    ) -> Result<Value, WishError> {
        let names = || self.lines.iter().map(|line| line.model.clone()).collect();
        let found = self.lines.iter().position(|line| line.model == model).ok_or_else(|| WishError::NoModel(names()))?;
        let line = &mut self.lines[found];
        line.wish(wish, registry, now)?;
        let shown = line.show();
        self.kept.is_stale = true;
        self.publish(registry, dials);
        Ok(shown)
    }

    pub(super) fn show(&self) -> Value {
        Value::Array(self.lines.iter().map(Line::show).collect())
    }

    pub(super) fn show_one(&self, model: &str) -> Option<Value> {
        self.lines.iter().find(|line| line.model == model).map(Line::show)
    }

    fn publish(&self, registry: &mut Registry, dials: &Dials) {
        self.turn(dials);
        let of = |line: &Line| -> Vec<([String; 2], u64)> {
            let shares = line.targets.iter().zip(&line.shares);
            shares.map(|(target, share)| ([line.model.clone(), target.clone()], u64::from(*share))).collect()
        };
        registry.set_shares(self.lines.iter().flat_map(of));
    }

    fn turn(&self, dials: &Dials) {
        for line in &self.lines {
            for (arm, share) in line.split.arms.iter().zip(&line.shares) {
                dials.set(arm.model.0 as usize, *share);
            }
        }
    }
}

impl Line {
    /// Takes over where the same targets stood under the former configuration, if its steps are the same too.
    fn carry(&mut self, old: &Line, now: Instant) {
        self.machine = match (&self.split.rollout, &old.machine) {
            (None, None) => None,
            (Some(_), Some(machine)) if self.split.rollout == old.split.rollout => {
                let mut machine = machine.clone();
                machine.handle_restart_of_counts();
                Some(machine)
            }
            (Some(rules), Some(machine)) => match Rollout::taken_up(rules.clone(), &machine.keep(now), now) {
                Some(machine) => Some(machine),
                None => return,
            },
            _ => return,
        };
        self.shares.clone_from(&old.shares);
    }

    /// Whether something happened.
    fn look(&mut self, registry: &mut Registry, now: Instant) -> bool {
        let Some((baseline, canary)) = self.pair() else { return false };
        let Some(machine) = &mut self.machine else { return false };
        let counts = |arm: ModelId| arm_counts(registry.split_counts(arm));
        machine.handle_counts(&counts(baseline), &counts(canary), Registry::times_bucket, now);
        self.tell(registry)
    }

    /// What happened, if anything: to the log, the metrics and the shares.
    fn tell(&mut self, registry: &mut Registry) -> bool {
        let Some(machine) = &mut self.machine else { return false };
        let Some(event) = machine.poll_event() else { return false };
        let canary = self.split.rollout.as_ref().map_or(1, |rules| rules.canary);
        let (share, answered) = (machine.share(), machine.canary_requests());
        self.shares = (0..self.shares.len()).map(|arm| if arm == canary { share } else { WHOLE - share }).collect();
        let (model, target) = (&self.model, self.targets.get(canary).map_or("", String::as_str));
        registry.rollout_event(model, event_name(event));
        let metric = self.split.rollout.as_ref().and_then(|rules| rules.metric.as_ref()).map(|metric| metric.measure.to_string());
        match event {
            RolloutEvent::Step(percent) => {
                tracing::info!("rollout of {model}: {target} serves {percent} % now ({answered} answers so far)")
            }
            RolloutEvent::Holding => tracing::info!("rollout of {model}: the last step of {target} has ended well; promote it or abort"),
            RolloutEvent::Completed => tracing::info!("rollout of {model}: completed, {target} serves everything ({answered} answers)"),
            RolloutEvent::Manual => tracing::info!("rollout of {model}: {target} has a share set by hand and is watched no more"),
            RolloutEvent::Unmeasured => tracing::warn!(
                "rollout of {model}: the step would be over, but too few answers of {target} could be measured by its metric ({}); it waits \
                 for min_requests of them (docs/rollouts.md says which answers are measured)",
                metric.unwrap_or_default()
            ),
            RolloutEvent::RolledBack(cause) => {
                let evidence = machine.evidence();
                let measured = metric.zip(evidence.metric).map(|(metric, found)| format!(", {metric} {found:.1}")).unwrap_or_default();
                tracing::warn!(
                    "rollout of {model}: {target} is taken back after {answered} answers: {} (evidence: errors {:.1}, latency \
                     {:.1}{measured}, enough is {:.1}); the rest serves everything until somebody starts it again",
                    cause_name(cause),
                    evidence.errors,
                    evidence.latency,
                    evidence.enough
                );
            }
        }
        true
    }

    fn wish(&mut self, wish: Wish, registry: &mut Registry, now: Instant) -> Result<(), WishError> {
        if self.machine.is_some() {
            let order = self.order(wish)?;
            if let Some(machine) = &mut self.machine {
                machine.handle_order(order, now);
            }
            self.tell(registry);
            return Ok(());
        }
        let event = match wish {
            Wish::Start => return Err(WishError::NoRollout),
            Wish::Abort => {
                self.shares.clone_from(&self.configured);
                "aborted"
            }
            Wish::Promote { target } => {
                let target = self.target(&target.ok_or_else(|| WishError::TargetMissing(self.targets.clone()))?)?;
                self.shares = (0..self.shares.len()).map(|arm| if arm == target { WHOLE } else { 0 }).collect();
                "promoted"
            }
            Wish::Weight { target, percent } => {
                let (target, share) = (self.target(&target)?, share(percent)?);
                self.shares = divided(&self.shares, target, share);
                "weight"
            }
        };
        registry.rollout_event(&self.model, event);
        let shares: Vec<String> =
            self.targets.iter().zip(&self.shares).map(|(name, share)| format!("{name} {} %", f64::from(*share) / 100.0)).collect();
        tracing::info!("the targets of {} share by order ({event}): {}", self.model, shares.join(", "));
        Ok(())
    }

    /// A wish for a model with a rollout.
    fn order(&self, wish: Wish) -> Result<Order, WishError> {
        let canary = self.split.rollout.as_ref().map_or(1, |rules| rules.canary);
        Ok(match wish {
            Wish::Start => Order::Start,
            Wish::Abort => Order::Abort,
            Wish::Promote { target: None } => Order::Promote,
            Wish::Promote { target: Some(target) } => {
                if self.target(&target)? == canary {
                    Order::Promote
                } else {
                    Order::Abort
                }
            }
            Wish::Weight { target, percent } => {
                let (target, share) = (self.target(&target)?, share(percent)?);
                Order::Weight(if target == canary { share } else { WHOLE - share })
            }
        })
    }

    fn target(&self, name: &str) -> Result<usize, WishError> {
        self.targets.iter().position(|target| target == name).ok_or_else(|| WishError::NoTarget(self.targets.clone()))
    }

    /// Baseline and canary.
    fn pair(&self) -> Option<(ModelId, ModelId)> {
        let canary = self.split.rollout.as_ref()?.canary;
        let baseline = self.split.arms.get(1 - canary.min(1))?;
        Some((baseline.model, self.split.arms.get(canary)?.model))
    }

    fn show(&self) -> Value {
        let targets: Vec<Value> = self
            .targets
            .iter()
            .zip(&self.shares)
            .map(|(target, share)| json!({ "target": target, "percent": f64::from(*share) / 100.0 }))
            .collect();
        let rollout = self.machine.as_ref().map(|machine| {
            let evidence = machine.evidence();
            json!({
                "stage": stage_name(machine.stage()),
                "cause": match machine.stage() { Stage::RolledBack(cause) => Some(cause_name(cause)), _ => None },
                "canary": self.split.rollout.as_ref().and_then(|rules| self.targets.get(rules.canary)),
                "canary_requests": machine.canary_requests(),
                "evidence": {
                    "errors": evidence.errors,
                    "latency": evidence.latency,
                    "metric": evidence.metric,
                    "enough": evidence.enough,
                },
                "metric": self.show_metric(machine),
            })
        });
        json!({ "model": self.model, "targets": targets, "rollout": rollout })
    }

    /// The chosen metric and what it has found.
    fn show_metric(&self, machine: &Rollout) -> Option<Value> {
        let metric = self.split.rollout.as_ref()?.metric.as_ref()?;
        let [baseline, canary] = machine.measured()?;
        let arm = |sample: Sample| json!({ "measured": sample.total, "bad": sample.failed });
        Some(json!({ "bad": metric.measure.to_string(), "baseline": arm(baseline), "canary": arm(canary) }))
    }
}

fn arm_counts(counts: SplitCounts) -> ArmCounts {
    let SplitCounts { ok, client_errors, errors, times, good, bad } = counts;
    ArmCounts { ok, client_errors, errors, times, good, bad }
}

fn share(percent: u32) -> Result<u32, WishError> {
    if percent > 100 { Err(WishError::Percent) } else { Ok(percent * (WHOLE / 100)) }
}

/// `target` gets `share`; the others divide the rest in the proportions they had, or evenly if they had nothing.
fn divided(before: &[u32], target: usize, share: u32) -> Vec<u32> {
    let rest = u64::from(WHOLE - share);
    let had = |arm: usize| if arm == target { 0 } else { u64::from(before[arm]) };
    let sum: u64 = (0..before.len()).map(had).sum();
    let others = (before.len() as u64).saturating_sub(1).max(1);
    let part = |arm: usize| match (arm == target, sum) {
        (true, _) => u64::from(share),
        (false, 0) => rest / others,
        (false, sum) => had(arm) * rest / sum,
    };
    let mut shares: Vec<u32> = (0..before.len()).map(|arm| u32::try_from(part(arm)).unwrap_or(0)).collect();
    // What rounding left goes to the first of the others.
    let left = WHOLE.saturating_sub(shares.iter().sum());
    if let Some(first) = (0..before.len()).find(|arm| *arm != target) {
        shares[first] += left;
    }
    shares
}

fn event_name(event: RolloutEvent) -> &'static str {
    match event {
        RolloutEvent::Step(_) => "step",
        RolloutEvent::Holding => "holding",
        RolloutEvent::Completed => "completed",
        RolloutEvent::RolledBack(Cause::Operator) => "aborted",
        RolloutEvent::RolledBack(_) => "rolled_back",
        RolloutEvent::Manual => "weight",
        RolloutEvent::Unmeasured => "unmeasured",
    }
}

/// As the log and the admin page call it.
pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Running => "running",
        Stage::Holding => "holding",
        Stage::Completed => "completed",
        Stage::RolledBack(_) => "rolled_back",
        Stage::Manual => "manual",
    }
}

fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Errors => "more errors than the baseline",
        Cause::Latency => "slower than the baseline",
        Cause::Metric => "worse than the baseline by its metric",
        Cause::Operator => "a person asked for it",
    }
}

#[cfg(test)]
mod tests {
    use super::divided;

    #[test]
    fn the_others_divide_the_rest_as_before() {
        for (before, target, share, wanted) in [
            (&[9000, 1000][..], 1, 3000, &[7000, 3000][..]),
            (&[10_000, 0], 1, 10_000, &[0, 10_000]),
            (&[0, 10_000], 1, 2500, &[7500, 2500]),
            (&[6000, 3000, 1000], 2, 4000, &[4000, 2000, 4000]),
            (&[3333, 3333, 3334], 0, 1, &[1, 5000, 4999]),
        ] {
            let shares = divided(before, target, share);
            assert_eq!(shares.iter().sum::<u32>(), 10_000);
            assert!(shares.iter().zip(wanted).all(|(is, wanted)| is.abs_diff(*wanted) <= 2), "{shares:?} {wanted:?}");
        }
    }
}
