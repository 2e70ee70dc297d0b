//! What `headrace check` says of faults and limits: the settings in effect, written or not, each as a label and a line. Which of them
//! are right was settled in config.

use crate::config::units::{show_duration, show_share};
use crate::config::{
    Breaker, Concurrency, ConcurrencyLimit, Config, Fallback, HedgeAfter, Model, Probe, RetryRules, Share, SlowStart, Timeouts, Upstream,
};

/// A label and what is in effect.
pub(super) type Setting = (&'static str, String);

/// Of an upstream: what holds where a model or a route says nothing else.
pub(super) fn of_upstream(upstream: &Upstream) -> Vec<Setting> {
    let rules = &upstream.resilience;
    let connect = format!("connect {}, {}", show_duration(upstream.connect_timeout), times(&upstream.timeouts()));
    let mut settings = vec![
        ("timeouts", connect),
        ("probes", rules.probe.as_ref().map_or_else(|| "none".to_owned(), probes)),
        ("breaker", breaker(&rules.breaker)),
        ("retries", retries(&rules.retry)),
        ("admission", upstream.concurrency.as_ref().map_or_else(|| "no limit".to_owned(), admission)),
    ];
    if upstream.endpoints.len() > 1 {
        settings.push(("panic", format!("all endpoints are used when more than {} are out", share(rules.panic_threshold))));
    }
    if let SlowStart { window, first } = rules.slow_start
        && !window.is_zero()
    {
        settings.push(("slow start", format!("from {} over {}", share(first), show_duration(window))));
    }
    settings
}

/// Of a model: only what it has of its own.
pub(super) fn of_model(config: &Config, model: &Model) -> Vec<Setting> {
    let rules = &model.resilience;
    let mut settings = Vec::new();
    if !rules.fallback.is_empty() {
        let name = |link: &Fallback| match link {
            Fallback::Model(id) => config.model(*id).name.clone(),
            Fallback::Canned(id) => {
                let canned = &config.canned[id.0 as usize];
                format!("{} (canned, status {})", canned.name, canned.status)
            }
        };
        settings.push(("fallback", rules.fallback.iter().map(name).collect::<Vec<_>>().join(", then ")));
    }
    if let Some(hedge) = rules.hedge {
        let after = match hedge.after {
            HedgeAfter::Time(time) => show_duration(time),
            HedgeAfter::Percentile(percentile) => format!("p{percentile}"),
        };
        settings.push(("hedging", format!("a second call after {after}, {} of the calls at most", share(hedge.max))));
    }
    if rules.idempotent {
        settings.push(("idempotent", "every call may be repeated".to_owned()));
    }
    settings.extend(own_times(&model.timeouts, config.upstream(model.upstream)));
    settings
}

/// The times of a model or route, where they are not its upstream's.
pub(super) fn own_times(own: &Timeouts, upstream: &Upstream) -> Option<Setting> {
    (*own != upstream.timeouts()).then(|| ("timeouts", times(own)))
}

fn times(times: &Timeouts) -> String {
    let Timeouts { first_byte, stream_idle, total } = times;
    format!("first byte {}, stream idle {}, total {}", show_duration(*first_byte), show_duration(*stream_idle), show_duration(*total))
}

fn probes(probe: &Probe) -> String {
    let Probe { path, interval, timeout, healthy_after, unhealthy_after, expect: (least, most) } = probe;
    format!(
        "GET {path} every {}, {least}-{most} within {}; out after {unhealthy_after} bad ones, back after {healthy_after} good ones",
        show_duration(*interval),
        show_duration(*timeout)
    )
}

fn breaker(breaker: &Breaker) -> String {
    let Breaker { failures, error_rate, slow_call, slow_rate, window, min_calls, open, open_max, trials } = *breaker;
    let mut out = format!("opens after {failures} failures in a row");
    if error_rate != Share::NONE {
        out += &format!(", or when more than {} of the calls fail", share(error_rate));
    }
    if slow_rate != Share::NONE {
        out += &format!(", or when more than {} take longer than {}", share(slow_rate), show_duration(slow_call));
    }
    if error_rate != Share::NONE || slow_rate != Share::NONE {
        out += &format!(" (of {min_calls} or more in {})", show_duration(window));
    }
    out + &format!("; open for {} to {}, then {trials} at a time on trial", show_duration(open), show_duration(open_max))
}

fn retries(retry: &RetryRules) -> String {
    let RetryRules { attempts, on_connect, on_reset, on_5xx, on_429, backoff, backoff_max, budget } = *retry;
    let on = [("connect", on_connect), ("reset", on_reset), ("5xx", on_5xx), ("429", on_429)];
    let on: Vec<&str> = on.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
    if attempts <= 1 || on.is_empty() {
        return "none".to_owned();
    }
    format!(
        "{attempts} calls at most, on {}; backoff {} to {}, budget {}",
        on.join(", "),
        show_duration(backoff),
        show_duration(backoff_max),
        share(budget)
    )
}

fn admission(concurrency: &Concurrency) -> String {
    let Concurrency { limit, queue_max, queue_timeout } = concurrency;
    let limit = match limit {
        ConcurrencyLimit::Fixed(limit) => format!("{limit} at a time"),
        ConcurrencyLimit::Adaptive { min, max } => format!("{min} to {max} at a time, learned from latency"),
    };
    format!("{limit}; per shard {queue_max} wait, {} at most", show_duration(*queue_timeout))
}

fn share(share: Share) -> String {
    show_share(share.0)
}
