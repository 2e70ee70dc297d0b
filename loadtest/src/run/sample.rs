//! From what was read in one round (the generator's report, the contender's usage) to the round's figures. It reads nothing itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::metric::Metric;

/// What was read of a contender around and during its round. The direct contender has none.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) wall_ns: u64,
    /// The highest seen while the load ran.
    pub(crate) rss_bytes: u64,
    /// The last seen before the load ended: what stays when connections have settled.
    pub(crate) rss_bytes_last: u64,
    pub(crate) pss_bytes: Option<u64>,
    /// After its start, before any load.
    pub(crate) rss_bytes_start: u64,
}

/// Where the generator's report has a metric, as it is.
const REPORTED: &[(Metric, &str)] = &[
    (Metric::RequestsPerSecond, "/requests_per_second"),
    (Metric::P50Us, "/latency/p50_us"),
    (Metric::P99Us, "/latency/p99_us"),
    (Metric::P999Us, "/latency/p999_us"),
    (Metric::Wrong, "/wrong"),
    (Metric::GeneratorCpuUs, "/generator_cpu_us_per_request"),
    (Metric::TtftP99Us, "/stream/ttft/p99_us"),
    (Metric::EventP50Us, "/stream/added/p50_us"),
    (Metric::EventP99Us, "/stream/added/p99_us"),
];

/// The round's figures.
///
/// # Errors
/// For a person: the report lacks what no load can do without, or nothing was answered.
pub(crate) fn figures(report: &Value, usage: Option<Usage>) -> Result<BTreeMap<Metric, f64>, String> {
    let number = |place: &str| report.pointer(place).and_then(Value::as_f64);
    let mut figures = BTreeMap::new();
    for (metric, place) in REPORTED {
        if let Some(value) = number(place) {
            figures.insert(*metric, value);
        }
    }
    let done = number("/done").ok_or("the generator's report has no `done`")?;
    let idle = number("/idle/opened").unwrap_or(0.0);
    let sum = |places: &[&str]| places.iter().filter_map(|place| number(place)).reduce(|a, b| a + b);
    for (metric, places) in
        [(Metric::Errors, &["/errors", "/idle/failed"]), (Metric::ClosedByPeer, &["/closed_by_peer", "/idle/closed_by_peer"])]
    {
        if let Some(value) = sum(places) {
            figures.insert(metric, value);
        }
    }
    let events = number("/stream/events").filter(|events| *events > 0.0);
    if let Some(events) = events {
        if let Some(lost) = sum(&["/stream/missing", "/stream/out_of_order", "/stream/cut"]) {
            figures.insert(Metric::EventsLost, lost);
        }
        if let Some(elapsed) = number("/elapsed_s").filter(|elapsed| *elapsed > 0.0) {
            figures.insert(Metric::EventsPerSecond, events / elapsed);
        }
    } else if done <= 0.0 && idle <= 0.0 {
        return Err(format!("no request was answered: {}", failures(report)));
    }
    // The latency of what never happened is reported as nothing, and is no figure.
    let nothing: &[Metric] = match (events, done > 0.0) {
        (Some(_), _) => &[],
        (None, true) => &[Metric::TtftP99Us, Metric::EventP50Us, Metric::EventP99Us],
        (None, false) => &[Metric::RequestsPerSecond, Metric::P50Us, Metric::P99Us, Metric::P999Us, Metric::GeneratorCpuUs],
    };
    figures.retain(|metric, _| !nothing.contains(metric));
    if let Some(usage) = usage {
        add_usage(&mut figures, usage, done + number("/errors").unwrap_or(0.0), events, idle);
    }
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds and bytes of one round are far below 2^52")]
fn add_usage(figures: &mut BTreeMap<Metric, f64>, usage: Usage, requests: f64, events: Option<f64>, idle: f64) {
    const MIB: f64 = 1024.0 * 1024.0;
    let cpu_us = usage.cpu_ns as f64 / 1e3;
    if requests > 0.0 {
        figures.insert(Metric::CpuUs, cpu_us / requests);
    }
    if let Some(events) = events {
        figures.insert(Metric::CpuUsPerEvent, cpu_us / events);
    }
    figures.insert(Metric::CoresBusy, usage.cpu_ns as f64 / usage.wall_ns.max(1) as f64);
    figures.insert(Metric::RssMib, usage.rss_bytes as f64 / MIB);
    if let Some(pss) = usage.pss_bytes {
        figures.insert(Metric::PssMib, pss as f64 / MIB);
    }
    if idle > 0.0 {
        let grown = usage.rss_bytes_last.saturating_sub(usage.rss_bytes_start);
        figures.insert(Metric::IdleKib, grown as f64 / 1024.0 / idle);
    }
}

/// What is above the direct contender's figures of the same round.
pub(crate) fn add_differences(figures: &mut BTreeMap<Metric, f64>, direct: &BTreeMap<Metric, f64>) {
    for (own, added) in [
        (Metric::P50Us, Metric::P50AddedUs),
        (Metric::P99Us, Metric::P99AddedUs),
        (Metric::EventP50Us, Metric::EventP50AddedUs),
        (Metric::EventP99Us, Metric::EventP99AddedUs),
    ] {
        if let (Some(value), Some(base)) = (figures.get(&own), direct.get(&own)) {
            figures.insert(added, value - base);
        }
    }
}

/// Why requests failed, as the generator counted it.
fn failures(report: &Value) -> String {
    let told = ["statuses", "failures"]
        .into_iter()
        .filter_map(|key| report.get(key))
        .filter(|value| **value != Value::Object(serde_json::Map::new()));
    let told: Vec<String> = told.map(ToString::to_string).collect();
    if told.is_empty() { "it says no reason".to_owned() } else { told.join(" ") }
}
