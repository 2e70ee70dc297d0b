//! `models.rollout.metric`: what else makes an answer a bad one.

use super::super::defaults;
use super::super::mistake::{listed, nearest};
use super::super::raw::{At, RawMetric};
use super::super::rollout::{Bound, FinishReason, Measure, MetricRules};
use super::Checker;

impl Checker {
    pub(super) fn metric(&mut self, found: &At<RawMetric>) -> Option<MetricRules> {
        let raw = &found.value;
        let max_rate_increase = self.fraction(
            raw.max_rate_increase.as_ref(),
            defaults::METRIC_RATE_INCREASE,
            0.0001..=1.0,
            "models.rollout.metric.max_rate_increase",
        );
        let measure = match (&raw.name, &raw.header, &raw.finish) {
            (Some(name), None, None) => self.bound(found).map(|bound| match name.value.as_str() {
                "ttft_ms" => Measure::TtftMs(bound),
                "tokens_per_second" => Measure::TokensPerSecond(bound),
                // `shape` has seen to it that no other word comes here.
                _ => Measure::OutputTokens(bound),
            }),
            (None, Some(header), None) => {
                let name = self.named_field(header, "write the name of an answer's field, like \"x-quality-score\"");
                let bound = self.bound(found);
                name.and_then(|name| bound.map(|bound| Measure::Header(name, bound)))
            }
            (None, None, Some(finish)) => self.finish(finish, raw),
            (None, None, None) => {
                if !self.mistakes.any_within(&found.place) {
                    let help = "write { name = \"tokens_per_second\", below = 30 }, { header = \"x-quality-score\", below = 0.7 } or \
                                { finish = [\"length\"] }";
                    self.mistakes.add(&found.place, "`models.rollout.metric` does not say what is measured", "nothing to measure", help);
                }
                None
            }
            _ => {
                let message = "`models.rollout.metric` has more than one of `name`, `header` and `finish`";
                self.mistakes.add(&found.place, message, "which one?", "keep one of them: one metric is compared");
                None
            }
        };
        measure.map(|measure| MetricRules { measure, max_rate_increase })
    }

    /// Exactly one of `above` and `below`.
    fn bound(&mut self, At { value: raw, place }: &At<RawMetric>) -> Option<Bound> {
        let (number, bound) = match (&raw.above, &raw.below) {
            (Some(above), None) => (above, Bound::Above(above.value)),
            (None, Some(below)) => (below, Bound::Below(below.value)),
            (Some(_), Some(below)) => {
                let message = "`models.rollout.metric` has both `above` and `below`";
                self.mistakes.add(&below.place, message, "one too many", "keep the side on which an answer is bad");
                return None;
            }
            (None, None) => {
                if !self.mistakes.any_within(place) {
                    let help = "add above = 800 or below = 30: on that side of it an answer is bad";
                    self.mistakes.add(place, "`models.rollout.metric` does not say which answers are bad", "no bound", help);
                }
                return None;
            }
        };
        if !number.value.is_finite() {
            let message = format!("`models.rollout.metric` cannot be compared with {}", number.value);
            self.mistakes.add(&number.place, message, "not a number", "write a number like 30 or 0.7");
            return None;
        }
        Some(bound)
    }

    fn finish(&mut self, At { value: list, place }: &At<Vec<At<String>>>, raw: &RawMetric) -> Option<Measure> {
        for bound in [&raw.above, &raw.below].into_iter().flatten() {
            let help = "remove it: a stream that ends for one of the reasons is bad";
            self.mistakes.add(&bound.place, "a bound has no meaning beside `models.rollout.metric.finish`", "not used", help);
        }
        let words = FinishReason::ALL.map(FinishReason::as_str);
        let mut reasons = Vec::new();
        for At { value, place } in list {
            match FinishReason::ALL.into_iter().find(|reason| reason.as_str() == value) {
                Some(reason) if reasons.contains(&reason) => {}
                Some(reason) => reasons.push(reason),
                None => {
                    let meant = nearest(value, words).map_or(String::new(), |meant| format!("did you mean {meant:?}? "));
                    let help = format!("{meant}Allowed: {}", listed(words));
                    self.mistakes.add(place, format!("`models.rollout.metric.finish` cannot hold {value:?}"), "not a choice", help);
                }
            }
        }
        if list.is_empty() || reasons.len() == words.len() {
            let help = format!("write some of {}", listed(words));
            self.mistakes.add(place, "`models.rollout.metric.finish` tells no stream from another", "none or all", help);
            return None;
        }
        Some(Measure::Finish(reasons))
    }
}
