//! What is written about faults: `[upstreams.health]`, `breaker`, `slow_start`, `retry`, `panic_threshold`; `models.fallback` and
//! `hedge`; `[[canned]]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::mistake::{listed, nearest};
use super::super::raw::resilience::{RawBreaker, RawCanned, RawHealth, RawHedge, RawRetry, RawSlowStart};
use super::super::raw::{At, RawModel, RawUpstream};
use super::super::units::{UnitError, parse_duration, parse_share, show_share};
use super::super::{
    Breaker, Canned, CannedId, Fallback, Hedge, HedgeAfter, Model, ModelId, ModelResilience, Probe, Resilience, RetryRules, Share,
    SlowStart, limits,
};
use super::{Checker, Seen, show_duration};

const MOMENTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

impl Checker {
    pub(super) fn resilience(&mut self, raw: &RawUpstream) -> Resilience {
        let default = Resilience::default();
        Resilience {
            probe: raw.health.as_ref().map(|health| self.probe(health)),
            breaker: raw.breaker.as_ref().map_or(default.breaker, |breaker| self.breaker(breaker)),
            slow_start: raw.slow_start.as_ref().map_or(default.slow_start, |start| self.slow_start(start)),
            panic_threshold: self.share(
                raw.panic_threshold.as_ref(),
                default.panic_threshold,
                Share::NONE..=Share::ALL,
                "upstreams.panic_threshold",
            ),
            retry: raw.retry.as_ref().map_or(default.retry, |retry| self.retry(retry)),
        }
    }

    fn probe(&mut self, raw: &RawHealth) -> Probe {
        let default = Probe::default();
        let times = 1..=limits::PROBES_IN_A_ROW_MAX;
        let probe = Probe {
            path: self.probe_path(raw.path.as_ref(), default.path),
            interval: self.duration(raw.interval.as_ref(), default.interval, PROBE_INTERVALS, "upstreams.health.interval"),
            timeout: self.duration(raw.timeout.as_ref(), default.timeout, MOMENTS, "upstreams.health.timeout"),
            healthy_after: self.count(raw.healthy_after.as_ref(), default.healthy_after, times.clone(), "upstreams.health.healthy_after"),
            unhealthy_after: self.count(raw.unhealthy_after.as_ref(), default.unhealthy_after, times, "upstreams.health.unhealthy_after"),
            expect: self.expected_status(raw.expect.as_ref(), default.expect),
        };
        if let Some(At { value, place }) = &raw.timeout
            && probe.timeout > probe.interval
        {
            let interval = show_duration(probe.interval);
            let message = format!("`upstreams.health.timeout` is {value:?}, longer than `interval` ({interval})");
            self.mistakes.add(place, message, "probes would overlap", format!("write at most \"{interval}\" or raise `interval`"));
        }
        // A short interval alone shortens the default timeout with it.
        Probe { timeout: probe.timeout.min(probe.interval), ..probe }
    }

    fn probe_path(&mut self, found: Option<&At<String>>, default: String) -> String {
        let Some(At { value, place }) = found else { return default };
        let fine =
            value.starts_with('/') && value.len() <= limits::ROUTE_PATH_BYTES_MAX && value.bytes().all(|byte| byte.is_ascii_graphic());
        if !fine {
            let help = "write a path in ASCII that begins with /, like \"/health\"";
            self.mistakes.add(place, format!("`upstreams.health.path` cannot be {value:?}"), "not a path", help);
        }
        value.clone()
    }

    fn expected_status(&mut self, found: Option<&At<String>>, default: (u16, u16)) -> (u16, u16) {
        let Some(At { value, place }) = found else { return default };
        let class = value.strip_suffix("xx").and_then(|digit| digit.parse::<u16>().ok()).filter(|digit| (1..=5).contains(digit));
        let one = value.parse::<u16>().ok().filter(|status| value.len() == 3 && (100..=599).contains(status));
        match (class, one) {
            (Some(digit), _) => (digit * 100, digit * 100 + 99),
            (None, Some(status)) => (status, status),
            (None, None) => {
                let help = "write one status like \"200\" or a class like \"2xx\"";
                self.mistakes.add(place, format!("`upstreams.health.expect` cannot be {value:?}"), "not a status", help);
                default
            }
        }
    }

    fn breaker(&mut self, raw: &RawBreaker) -> Breaker {
        let default = Breaker::default();
        let rates = Share::NONE..=Share::ALL;
        let breaker = Breaker {
            failures: self.count(raw.failures.as_ref(), default.failures, 1..=limits::BREAKER_COUNT_MAX, "upstreams.breaker.failures"),
            error_rate: self.share(raw.error_rate.as_ref(), default.error_rate, rates.clone(), "upstreams.breaker.error_rate"),
            slow_call: self.duration(raw.slow_call.as_ref(), default.slow_call, MOMENTS, "upstreams.breaker.slow_call"),
            slow_rate: self.share(raw.slow_rate.as_ref(), default.slow_rate, rates, "upstreams.breaker.slow_rate"),
            window: self.duration(raw.window.as_ref(), default.window, WINDOWS, "upstreams.breaker.window"),
            min_calls: self.count(raw.min_calls.as_ref(), default.min_calls, 1..=limits::BREAKER_COUNT_MAX, "upstreams.breaker.min_calls"),
            open: self.duration(raw.open.as_ref(), default.open, MOMENTS, "upstreams.breaker.open"),
            open_max: self.duration(raw.open_max.as_ref(), default.open_max, MOMENTS, "upstreams.breaker.open_max"),
            trials: self.count(raw.trials.as_ref(), default.trials, 1..=limits::BREAKER_TRIALS_MAX, "upstreams.breaker.trials"),
        };
        self.longer(raw.open_max.as_ref(), breaker.open_max, breaker.open, "upstreams.breaker.open_max", "open");
        if let Some(At { place, .. }) = &raw.slow_call
            && raw.slow_rate.is_none()
        {
            let help = "add slow_rate = \"50%\", or remove `slow_call`";
            self.mistakes.add(place, "`upstreams.breaker.slow_call` does nothing without `slow_rate`", "never looked at", help);
        }
        Breaker { open_max: breaker.open_max.max(breaker.open), ..breaker }
    }

    fn slow_start(&mut self, raw: &RawSlowStart) -> SlowStart {
        let default = SlowStart::default();
        SlowStart {
            window: self.duration(
                raw.window.as_ref(),
                default.window,
                Duration::ZERO..=Duration::from_secs(3600),
                "upstreams.slow_start.window",
            ),
            first: self.share(raw.first.as_ref(), default.first, Share(100)..=Share::ALL, "upstreams.slow_start.first"),
        }
    }

    fn retry(&mut self, raw: &RawRetry) -> RetryRules {
        let default = RetryRules::default();
        let mut rules = RetryRules {
            attempts: self.count(raw.attempts.as_ref(), default.attempts, 1..=limits::CALLS_PER_REQUEST_MAX, "upstreams.retry.attempts"),
            backoff: self.duration(raw.backoff.as_ref(), default.backoff, MOMENTS, "upstreams.retry.backoff"),
            backoff_max: self.duration(raw.backoff_max.as_ref(), default.backoff_max, MOMENTS, "upstreams.retry.backoff_max"),
            budget: self.share(raw.budget.as_ref(), default.budget, Share::NONE..=Share::ALL, "upstreams.retry.budget"),
            ..default
        };
        self.longer(raw.backoff_max.as_ref(), rules.backoff_max, rules.backoff, "upstreams.retry.backoff_max", "backoff");
        rules.backoff_max = rules.backoff_max.max(rules.backoff);
        let Some(At { value: on, .. }) = &raw.on else { return rules };
        (rules.on_connect, rules.on_reset) = (false, false);
        for At { value, place } in on {
            match value.as_str() {
                "connect" => rules.on_connect = true,
                "reset" => rules.on_reset = true,
                "5xx" => rules.on_5xx = true,
                "429" => rules.on_429 = true,
                other => {
                    let meant = nearest(other, RETRY_WORDS).map_or(String::new(), |meant| format!("did you mean {meant:?}? "));
                    let help = format!("{meant}Allowed: {}", listed(RETRY_WORDS));
                    self.mistakes.add(place, format!("`upstreams.retry.on` cannot hold {other:?}"), "not a choice", help);
                }
            }
        }
        rules
    }

    /// `[[canned]]`, and every model's chain. Names are looked up among models and canned answers.
    pub(super) fn fallbacks(&mut self, raw: &[At<RawCanned>], raw_models: &[At<RawModel>], models: &mut [Model]) -> Vec<Canned> {
        if let Some(over) = raw.get(limits::CANNED_MAX) {
            self.at_most(raw.len(), limits::CANNED_MAX, &over.place, "canned answers");
        }
        let mut seen = Seen::new();
        let canned: Vec<Canned> = raw.iter().take(limits::CANNED_MAX).map(|one| self.canned(one, models, &mut seen)).collect();
        for (index, At { value, .. }) in raw_models.iter().take(models.len()).enumerate() {
            let Some(At { value: names, .. }) = &value.fallback else { continue };
            let chain = self.chain(index, names, models, &canned);
            models[index].resilience.fallback = chain;
        }
        canned
    }

    fn canned<'a>(&mut self, At { value: raw, place }: &'a At<RawCanned>, models: &[Model], seen: &mut Seen<'a>) -> Canned {
        let name = self.required(raw.name.as_ref(), place, "canned.name", "name = \"sorry\"");
        if let Some(name) = name {
            let plain = name.value.bytes().all(|byte| byte.is_ascii_graphic());
            if name.value.is_empty() || name.value.len() > limits::NAME_BYTES_MAX || !plain || name.value == "*" {
                let help = format!("use 1 to {} ASCII characters without blanks: it is the value of a header", limits::NAME_BYTES_MAX);
                self.mistakes.add(&name.place, format!("{:?} cannot be the name of a canned answer", name.value), "not a name", help);
            } else if models.iter().any(|model| model.name == name.value) {
                let message = format!("{:?} is the name of a model and of a canned answer", name.value);
                self.mistakes.add(&name.place, message, "which is meant?", "give the canned answer another name");
            }
            self.unique(seen, name, "the canned answer", "remove one of them");
        }
        let body = self.required(raw.body.as_ref(), place, "canned.body", "body = '{\"message\": \"try later\"}'");
        if let Some(At { value, place }) = body
            && value.len() > limits::CANNED_BYTES_MAX
        {
            let help = "write at most 1 MiB: it is held in memory and sent whole";
            self.mistakes.add(place, "`canned.body` is too large", "too large", help);
        }
        let kind = raw.content_type.as_ref();
        if let Some(At { value, place }) = kind
            && (value.is_empty() || value.bytes().any(|byte| !(b' '..=b'~').contains(&byte)))
        {
            let help = "write a media type like \"application/json\"";
            self.mistakes.add(place, format!("`canned.content_type` cannot be {value:?}"), "not a type", help);
        }
        Canned {
            name: name.map(|name| name.value.clone()).unwrap_or_default(),
            status: self.count(raw.status.as_ref(), 200, 200..=599, "canned.status"),
            body: body.map(|body| body.value.clone()).unwrap_or_default(),
            content_type: kind.map_or_else(|| "application/json".to_owned(), |kind| kind.value.clone()),
        }
    }

    /// The chain of the model at `index`. Its links' own chains are not followed, so a chain ends; a link that leads back to the model
    /// itself, or one that is there twice, is refused all the same: nobody means that.
    fn chain(&mut self, index: usize, names: &[At<String>], models: &[Model], canned: &[Canned]) -> Vec<Fallback> {
        let mut chain: Vec<Fallback> = Vec::new();
        let last = names.len().saturating_sub(1);
        for (at, At { value, place }) in names.iter().enumerate() {
            if at >= limits::FALLBACKS_MAX {
                self.at_most(names.len(), limits::FALLBACKS_MAX, place, "links in one fallback chain");
                break;
            }
            let model = models.iter().position(|model| model.name == *value && value != "*");
            let link = match (model, canned.iter().position(|canned| canned.name == *value && value != "*")) {
                (Some(model), _) if model == index => {
                    let help = "name another model; retries of the same one are `upstreams.retry`";
                    self.mistakes.add(place, format!("the model {value:?} falls back to itself"), "a loop", help);
                    continue;
                }
                (Some(model), _) => Fallback::Model(ModelId(u32::try_from(model).unwrap_or(0))),
                (None, Some(canned)) => Fallback::Canned(CannedId(u32::try_from(canned).unwrap_or(0))),
                (None, None) => {
                    self.unknown_fallback(value, place, models, canned);
                    continue;
                }
            };
            if chain.contains(&link) {
                let help = "remove one of them: what failed is not tried again further down";
                self.mistakes.add(place, format!("the fallback {value:?} is there twice"), "a loop", help);
            } else if matches!(link, Fallback::Canned(_)) && at < last {
                let help = "put it last: a canned answer never fails, so nothing after it is reached";
                self.mistakes.add(
                    place,
                    format!("the canned answer {value:?} is not the last fallback"),
                    "the rest is never reached",
                    help,
                );
            }
            chain.push(link);
        }
        chain
    }

    fn unknown_fallback(&mut self, value: &str, place: &std::ops::Range<usize>, models: &[Model], canned: &[Canned]) {
        if value == "*" {
            let help = "name a model: the request's `model` is changed to the name";
            self.mistakes.add(place, "`models.fallback` cannot hold \"*\"", "no name", help);
            return;
        }
        let names =
            || models.iter().map(|model| model.name.as_str()).filter(|name| *name != "*").chain(canned.iter().map(|one| one.name.as_str()));
        let help = match nearest(value, names()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!(
                "name a model or a canned answer that is there, or add one: [[models]] name = {value:?}, or [[canned]] name = {value:?}"
            ),
        };
        self.mistakes.add(
            place,
            format!("`models.fallback` names {value:?}, and there is no such model or canned answer"),
            "unknown name",
            help,
        );
    }

    pub(super) fn model_resilience(&mut self, raw: &RawModel) -> ModelResilience {
        ModelResilience {
            fallback: Vec::new(),
            hedge: raw.hedge.as_ref().map(|hedge| self.hedge(hedge)),
            idempotent: raw.idempotent.as_ref().is_some_and(|found| found.value),
        }
    }

    fn hedge(&mut self, raw: &RawHedge) -> Hedge {
        let default = Hedge::default();
        let after = raw.after.as_ref().and_then(|At { value, place }| {
            let percentile = value.strip_prefix('p').and_then(|digits| digits.parse::<u8>().ok()).filter(|one| (50..=99).contains(one));
            let time = parse_duration(value).ok().filter(|time| MOMENTS.contains(time));
            let after = percentile.map(HedgeAfter::Percentile).or(time.map(HedgeAfter::Time));
            if after.is_none() {
                let help = "write a time like \"50ms\", or a percentile from \"p50\" to \"p99\"";
                self.mistakes.add(place, format!("`models.hedge.after` cannot be {value:?}"), "neither a time nor a percentile", help);
            }
            after
        });
        Hedge {
            after: after.unwrap_or(default.after),
            max: self.share(raw.max.as_ref(), default.max, Share(1)..=Share::ALL, "models.hedge.max"),
        }
    }

    fn share(&mut self, found: Option<&At<String>>, default: Share, allowed: RangeInclusive<Share>, path: &str) -> Share {
        let Some(At { value, place }) = found else { return default };
        let (low, high) = (show_share(allowed.start().0), show_share(allowed.end().0));
        match parse_share(value).map(Share) {
            Ok(share) if allowed.contains(&share) => share,
            Err(UnitError::NoNumber | UnitError::NoUnit | UnitError::UnknownUnit) => {
                let help = format!("write a number and a percent sign, like {:?}", show_share(default.0));
                self.mistakes.add(place, format!("`{path}` is not a share: {value:?}"), "not a percentage", help);
                default
            }
            Ok(_) | Err(UnitError::OutOfRange) => {
                self.mistakes.add(place, format!("`{path}` cannot be {value:?}"), "out of bounds", format!("write {low} to {high}"));
                default
            }
        }
    }

    /// A bound that was written must not lie below what it bounds.
    fn longer(&mut self, found: Option<&At<String>>, most: Duration, first: Duration, path: &str, key: &str) {
        if let Some(At { value, place }) = found
            && most < first
        {
            let first = show_duration(first);
            let message = format!("`{path}` is {value:?}, shorter than `{key}` ({first})");
            self.mistakes.add(place, message, "shorter than the first", format!("write at least \"{first}\" or lower `{key}`"));
        }
    }
}

const RETRY_WORDS: [&str; 4] = ["connect", "reset", "5xx", "429"];
const PROBE_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
const WINDOWS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
