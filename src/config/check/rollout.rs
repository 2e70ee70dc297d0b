//! `models.targets`, `sticky`, `shadow` and `rollout`. The arms of a split behind the first become models of their own, at the end of
//! the list.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::super::raw::{At, RawModel, RawRollout, RawShadow, RawTarget};
use super::super::rollout::{Arm, RolloutRules, Shadow, Split, WHOLE};
use super::super::{Model, ModelId, Upstream, UpstreamId, defaults, limits};
use super::server::TIMEOUT_MAX;
use super::{Checker, Seen};

impl Checker {
    /// Adds what the written `models` say about dividing their requests, and the arms of the split ones.
    pub(super) fn splits(&mut self, raw: &[At<RawModel>], upstreams: &[Upstream], models: &mut Vec<Model>) {
        let written = models.len();
        for (index, At { value: raw, place }) in raw.iter().enumerate().take(written) {
            let arms = self.targets(raw, upstreams);
            self.target_or_upstream(raw, place);
            let sticky = raw.sticky.as_ref().and_then(|sticky| {
                let header = self.required(sticky.header.as_ref(), place, "models.sticky.header", "header = \"x-session-id\"")?;
                self.sticky_field(header)
            });
            let rollout = raw.rollout.as_ref().map(|rollout| self.rollout(rollout, raw, &arms, upstreams));
            let shadow = raw.shadow.as_ref().map(|shadow| self.shadow(shadow, &models[index], &arms, upstreams));
            models[index].shadow = shadow;
            if arms.len() < 2 {
                self.without_targets(raw);
                continue;
            }
            models[index].upstream = arms[0].0;
            let mut split = Split { arms: Vec::new(), sticky, rollout };
            let shares = shares(&arms, split.rollout.as_ref());
            for (nth, (&(upstream, _), share)) in arms.iter().zip(shares).enumerate() {
                let id = if nth == 0 { index } else { models.len() };
                let model = ModelId(u32::try_from(id).unwrap_or(u32::MAX));
                if nth > 0 {
                    let of = Some(ModelId(u32::try_from(index).unwrap_or(u32::MAX)));
                    let arm = Model { upstream, arm_of: of, split: None, ..models[index].clone() };
                    models.push(arm);
                }
                // The default of this key is the upstream's, and the targets may differ in it.
                let written = raw.batching.as_ref().is_some_and(|batching| batching.timeout.is_some());
                if let (Some(upstream), false) = (upstreams.get(upstream.0 as usize), written) {
                    models[id].batching.timeout = upstream.total_timeout;
                }
                split.arms.push(Arm { model, upstream, share });
            }
            models[index].split = Some(Box::new(split));
        }
    }

    fn targets(&mut self, raw: &RawModel, upstreams: &[Upstream]) -> Vec<(UpstreamId, u32)> {
        let Some(At { value: list, place }) = &raw.targets else { return Vec::new() };
        if !(2..=limits::TARGETS_MAX).contains(&list.len()) {
            let help = format!("write 2 to {} targets; for one write upstream = \"...\"", limits::TARGETS_MAX);
            self.mistakes.add(place, format!("`models.targets` has {}", list.len()), "not a split", help);
            return Vec::new();
        }
        let mut seen = Seen::new();
        let arms: Vec<(UpstreamId, u32)> = list.iter().map(|target| self.target(target, raw, upstreams, &mut seen)).collect();
        if arms.iter().all(|(_, weight)| *weight == 0) && raw.rollout.is_none() {
            self.mistakes.add(place, "all of `models.targets` have weight 0", "nobody serves", "give one of them weight = 1");
        }
        arms
    }

    fn target<'a>(
        &mut self,
        At { value: target, place }: &'a At<RawTarget>,
        raw: &RawModel,
        upstreams: &[Upstream],
        seen: &mut Seen<'a>,
    ) -> (UpstreamId, u32) {
        let name = self.required(target.upstream.as_ref(), place, "models.targets.upstream", "upstream = \"...\"");
        let upstream = self.upstream_id(name, upstreams, "models.targets.upstream");
        if let Some(name) = name {
            self.unique(seen, name, "the target", "remove one of them, and give the other the weight of both");
        }
        if let (Some(weight), Some(_)) = (&target.weight, &raw.rollout) {
            let help = "remove the weight: the steps of models.rollout say who gets how much";
            self.mistakes.add(&weight.place, "`models.targets.weight` has no meaning beside `models.rollout`", "not used", help);
        }
        (upstream, self.count(target.weight.as_ref(), defaults::TARGET_WEIGHT, 0..=WHOLE, "models.targets.weight"))
    }

    fn target_or_upstream(&mut self, raw: &RawModel, place: &Range<usize>) {
        match (&raw.upstream, &raw.targets) {
            (Some(upstream), Some(_)) => {
                let help = "remove one of them: targets are in place of upstream";
                self.mistakes.add(&upstream.place, "`models.upstream` and `models.targets` are both there", "which one?", help);
            }
            (None, None) => {
                let _: Option<&At<String>> = self.required(None, place, "models.upstream", "upstream = \"...\", the name of an upstream");
            }
            _ => {}
        }
    }

    /// What needs targets to mean something.
    fn without_targets(&mut self, raw: &RawModel) {
        let help = "add targets = [{ upstream = \"...\" }, { upstream = \"...\" }] in place of upstream, or remove it";
        if raw.targets.is_some() {
            return;
        }
        if let Some(At { place, .. }) = raw.sticky.as_ref().and_then(|sticky| sticky.header.as_ref()) {
            self.mistakes.add(place, "`models.sticky` is there without `models.targets`", "nothing to choose from", help);
        }
        if let Some(At { place, .. }) = &raw.rollout {
            self.mistakes.add(place, "`models.rollout` is there without `models.targets`", "nothing to roll out", help);
        }
    }

    fn sticky_field(&mut self, name: &At<String>) -> Option<String> {
        self.named_field(name, "write the name of a request field, like \"x-session-id\"")
    }

    /// A field's name in lower case.
    pub(super) fn named_field(&mut self, At { value, place }: &At<String>, help: &str) -> Option<String> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if value.is_empty() || value.len() > limits::NAME_BYTES_MAX || !value.bytes().all(token) {
            self.mistakes.add(place, format!("{value:?} is not the name of a field"), "not a field name", help);
            return None;
        }
        Some(value.to_ascii_lowercase())
    }

    fn shadow(
        &mut self,
        At { value: raw, place }: &At<RawShadow>,
        model: &Model,
        arms: &[(UpstreamId, u32)],
        upstreams: &[Upstream],
    ) -> Shadow {
        let name = self.required(raw.upstream.as_ref(), place, "models.shadow.upstream", "upstream = \"...\", the name of an upstream");
        let upstream = self.upstream_id(name, upstreams, "models.shadow.upstream");
        let serving: Vec<UpstreamId> = if arms.is_empty() { vec![model.upstream] } else { arms.iter().map(|(id, _)| *id).collect() };
        let forwards = |id: UpstreamId| upstreams.get(id.0 as usize).is_some_and(|one| one.forward_authorization);
        if let Some(name) = name {
            if serving.contains(&upstream) && upstreams.iter().any(|one| one.name == name.value) {
                let help = "name another upstream: this one gets the requests themselves";
                self.mistakes.add(&name.place, format!("`models.shadow.upstream` {:?} serves the model itself", name.value), "twice", help);
            }
            if serving.iter().any(|id| forwards(*id)) && !forwards(upstream) {
                let help = "set forward_authorization = true for the shadow too, or for none of them";
                let message = format!("copies would carry the clients' credentials to {:?}, which is not to have them", name.value);
                self.mistakes.add(&name.place, message, "no forward_authorization", help);
            }
        }
        Shadow {
            upstream,
            percent: self.count(raw.percent.as_ref(), defaults::SHADOW_PERCENT, 1..=100, "models.shadow.percent"),
            max_in_flight: self.count(
                raw.max_in_flight.as_ref(),
                defaults::SHADOW_IN_FLIGHT,
                1..=limits::SHADOW_IN_FLIGHT_MAX,
                "models.shadow.max_in_flight",
            ),
        }
    }

    fn rollout(
        &mut self,
        At { value: raw, place }: &At<RawRollout>,
        model: &RawModel,
        arms: &[(UpstreamId, u32)],
        upstreams: &[Upstream],
    ) -> RolloutRules {
        if arms.len() > 2 {
            let help = "write two targets: the baseline and the canary";
            self.mistakes.add(place, format!("`models.rollout` compares two targets, not {}", arms.len()), "too many", help);
        }
        let canary = self.required(raw.canary.as_ref(), place, "models.rollout.canary", "canary = \"...\", one of the targets");
        let canary = canary.map_or(1, |name| self.canary(name, model, arms, upstreams));
        let latency = self.fraction(
            raw.max_latency_increase.as_ref(),
            defaults::LATENCY_INCREASE,
            0.0..=100.0,
            "models.rollout.max_latency_increase",
        );
        RolloutRules {
            canary,
            steps: self.steps(raw.steps.as_ref()),
            step_time: self.duration(raw.step_time.as_ref(), defaults::STEP_TIME, Duration::ZERO..=TIMEOUT_MAX, "models.rollout.step_time"),
            min_requests: self.count(raw.min_requests.as_ref(), defaults::STEP_REQUESTS, 1..=1_000_000, "models.rollout.min_requests"),
            max_error_rate_increase: self.fraction(
                raw.max_error_rate_increase.as_ref(),
                defaults::ERROR_RATE_INCREASE,
                0.0001..=1.0,
                "models.rollout.max_error_rate_increase",
            ),
            max_latency_increase: (latency > 0.0).then_some(latency),
            count_4xx: raw.count_4xx.as_ref().is_none_or(|found| found.value),
            false_alarm: self.fraction(raw.false_alarm.as_ref(), defaults::FALSE_ALARM, 0.000_001..=0.5, "models.rollout.false_alarm"),
            metric: raw.metric.as_ref().and_then(|metric| self.metric(metric)),
        }
    }

    /// The place of the canary among the two arms.
    fn canary(&mut self, At { value, place }: &At<String>, model: &RawModel, arms: &[(UpstreamId, u32)], upstreams: &[Upstream]) -> usize {
        let name = |id: &UpstreamId| upstreams.get(id.0 as usize).map(|one| one.name.as_str());
        if let Some(index) = arms.iter().position(|(id, _)| name(id) == Some(value.as_str())) {
            return index.min(1);
        }
        if model.targets.is_some() && !arms.is_empty() {
            let names: Vec<String> = arms.iter().filter_map(|(id, _)| name(id)).map(|name| format!("{name:?}")).collect();
            let help = format!("write one of {}", names.join(", "));
            self.mistakes.add(place, format!("`models.rollout.canary` {value:?} is no target"), "not a target", help);
        }
        1
    }

    fn steps(&mut self, raw: Option<&At<Vec<At<i64>>>>) -> Vec<u32> {
        let default = || defaults::STEPS.to_vec();
        let Some(At { value: list, place }) = raw else { return default() };
        let steps: Vec<u32> = list.iter().map(|step| self.count(Some(step), 100, 1..=100, "models.rollout.steps")).collect();
        if steps.is_empty() || steps.len() > limits::STEPS_MAX || steps.windows(2).any(|pair| pair[0] >= pair[1]) {
            let help = format!("write 1 to {} rising percentages, like [1, 5, 25, 50, 100]", limits::STEPS_MAX);
            self.mistakes.add(place, "`models.rollout.steps` do not rise", "not steps", help);
            return default();
        }
        steps
    }

    pub(super) fn fraction(&mut self, found: Option<&At<f64>>, default: f64, allowed: RangeInclusive<f64>, path: &str) -> f64 {
        let Some(At { value, place }) = found else { return default };
        if allowed.contains(value) {
            return *value;
        }
        let help = format!("write {} to {}; the default is {default}", allowed.start(), allowed.end());
        self.mistakes.add(place, format!("`{path}` cannot be {value}"), "out of bounds", help);
        default
    }
}

/// Weights as parts of [`WHOLE`], which they add up to; under a rollout those of its first step.
fn shares(arms: &[(UpstreamId, u32)], rollout: Option<&RolloutRules>) -> Vec<u32> {
    if let Some(rules) = rollout {
        let canary = rules.steps.first().map_or(0, |percent| percent * (WHOLE / 100));
        return (0..arms.len()).map(|arm| if arm == rules.canary { canary } else { WHOLE - canary }).collect();
    }
    let sum = arms.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>().max(1);
    let part = |weight: u32| u32::try_from(u64::from(weight) * u64::from(WHOLE) / sum).unwrap_or(0);
    let mut shares: Vec<u32> = arms.iter().map(|(_, weight)| part(*weight)).collect();
    let rest = WHOLE.saturating_sub(shares.iter().sum());
    // What rounding left goes to the largest.
    if let Some(largest) = (0..arms.len()).max_by_key(|arm| arms[*arm].1) {
        shares[largest] += rest;
    }
    shares
}
