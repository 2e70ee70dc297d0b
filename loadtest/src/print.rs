//! A report for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use headrace::mock::client::{LoadReport, Progress, Timing};
use serde_json::{Map, Value, json};

use crate::args::{Args, Place};

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

pub(crate) fn human(args: &Args, report: &LoadReport) -> String {
    let mut out = String::new();
    let pace = args.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("open loop, {rate} requests/s due"));
    let _ = writeln!(
        out,
        "{pace}, {} connections, {} threads, {:.2} s, {}",
        args.connections,
        args.threads,
        report.elapsed.as_secs_f64(),
        place(args)
    );
    let _ = writeln!(out, "requests/s  {:.1} ({} done, {} errors)", report.requests_per_second(), report.done, report.errors());
    let _ = writeln!(out, "latency     {}", times(&report.latency));
    if args.mix.is_some() {
        let _ = writeln!(out, "  short     {} ({} done)", times(&report.short), report.short.len());
        let _ = writeln!(out, "  long      {} ({} done)", times(&report.long), report.long.len());
    }
    write_streams(report, &mut out);
    if args.idle > 0 {
        let idle = report.idle;
        let _ = writeln!(out, "idle        {} open, {} failed to, {} closed by the peer", idle.opened, idle.failed, idle.closed_by_peer);
    }
    if report.connects > 0 || report.closed_by_peer > 0 {
        let _ = writeln!(out, "connections {} made anew, {} closed by the peer", report.connects, report.closed_by_peer);
    }
    if args.check {
        let _ = writeln!(out, "answers     {} checked, {} wrong", report.checked, report.wrong);
    }
    for (status, count) in report.statuses.iter().filter(|(status, _)| **status != 200) {
        let _ = writeln!(out, "status      {status}: {count}");
    }
    for (reason, count) in &report.failures {
        let _ = writeln!(out, "failed      {reason}: {count}");
    }
    if args.rate.is_some() {
        let _ = writeln!(out, "unsent      {} were due and never begun: all connections were busy", report.unsent);
        let _ = writeln!(out, "begun late  {}", times(&report.lag));
    }
    let _ = write!(out, "generator   {:.2} us of processor time per request", cpu_us(report));
    out
}

fn write_streams(report: &LoadReport, out: &mut String) {
    let streams = &report.streams;
    if streams.streams == 0 && streams.events == 0 {
        return;
    }
    let _ = writeln!(
        out,
        "streams     {} ended ({} cut), {} events, {} missing, {} out of order",
        streams.streams, streams.cut, streams.events, streams.missing, streams.out_of_order
    );
    for (name, timing) in [("ttft", &streams.ttft), ("gap", &streams.gap), ("added", &streams.added)] {
        if !timing.is_empty() {
            let _ = writeln!(out, "  {name:<9} {}", times(timing));
        }
    }
}

/// The report as JSON. These keys stay as they are; new ones may come. Times are in microseconds; an object of times holds `p50_us`,
/// `p90_us`, `p99_us`, `p999_us`, `max_us`, `mean_us`.
///
/// | key | is |
/// |---|---|
/// | `url`, `connections`, `idle_connections`, `threads`, `rate` | what was asked for |
/// | `duration_s`, `elapsed_s` | asked for; from the end of the warm-up to the last answer |
/// | `requests` | ended requests: `done` (status 200) and `errors` |
/// | `statuses`, `failures` | answers by status; requests without a usable answer by reason |
/// | `requests_per_second` | `done` / `elapsed_s` |
/// | `unsent`, `lag` | open loop: due and never begun; how much later than due requests were begun |
/// | `checked`, `wrong` | answers compared with what they must be (`--check`) |
/// | `latency` | times of `done`, from due to last byte |
/// | `short`, `long` | with `--mix`: `latency` of either kind, and `done`; else null |
/// | `stream` | with `--stream`: `streams`, `events`, `missing`, `out_of_order`, `cut`, `cpu_us_per_event`, times `ttft`, `gap`, `added`; else null |
/// | `idle` | `opened`, `failed`, `closed_by_peer` of the idle connections |
/// | `connects`, `closed_by_peer` | connections made after the start; kept ones that the peer ended |
/// | `received_bytes` | of answers, heads included |
/// | `cpu_us_per_request`, `generator_cpu_us_per_request` | processor time of the generator (two names of one value) |
pub(crate) fn json(args: &Args, report: &LoadReport) -> Value {
    let statuses: Map<String, Value> = report.statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect();
    let kind = |timing: &Timing| {
        args.mix.map(|_| {
            let mut kind = times_json(timing);
            kind.insert("done".to_owned(), json!(timing.len()));
            kind
        })
    };
    json!({
        "url": place(args),
        "connections": args.connections,
        "idle_connections": args.idle,
        "threads": args.threads,
        "rate": args.rate,
        "duration_s": args.duration.as_secs_f64(),
        "elapsed_s": report.elapsed.as_secs_f64(),
        "requests_per_second": report.requests_per_second(),
        "requests": report.ended(),
        "done": report.done,
        "errors": report.errors(),
        "statuses": statuses,
        "failures": report.failures,
        "unsent": report.unsent,
        "lag": args.rate.map(|_| times_json(&report.lag)),
        "checked": report.checked,
        "wrong": report.wrong,
        "received_bytes": report.received_bytes,
        "latency": times_json(&report.latency),
        "short": kind(&report.short),
        "long": kind(&report.long),
        "stream": args.stream.then(|| stream_json(report)),
        "idle": {
            "opened": report.idle.opened,
            "failed": report.idle.failed,
            "closed_by_peer": report.idle.closed_by_peer,
        },
        "connects": report.connects,
        "closed_by_peer": report.closed_by_peer,
        "cpu_us_per_request": cpu_us(report),
        "generator_cpu_us_per_request": cpu_us(report),
    })
}

fn stream_json(report: &LoadReport) -> Value {
    let streams = &report.streams;
    json!({
        "streams": streams.streams,
        "events": streams.events,
        "missing": streams.missing,
        "out_of_order": streams.out_of_order,
        "cut": streams.cut,
        "cpu_us_per_event": micros(report.cpu) / (streams.events.max(1) as f64),
        "ttft": times_json(&streams.ttft),
        "gap": times_json(&streams.gap),
        "added": times_json(&streams.added),
    })
}

fn times_json(timing: &Timing) -> Map<String, Value> {
    let quantiles = QUANTILES.iter().map(|(name, at)| (format!("{name}_us"), json!(micros(timing.at(*at)))));
    let mut times: Map<String, Value> = quantiles.collect();
    times.insert("max_us".to_owned(), json!(micros(timing.max())));
    times.insert("mean_us".to_owned(), json!(micros(timing.mean())));
    times
}

/// The latency distribution as HdrHistogram's plotter reads it, in milliseconds.
pub(crate) fn distribution(report: &LoadReport) -> String {
    let mut out = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for (quantile, time, count) in report.latency.distribution() {
        let milliseconds = micros(time) / 1e3;
        let _ = match 1.0 / (1.0 - quantile) {
            rest if rest.is_finite() => writeln!(out, "{milliseconds:>12.3} {quantile:>14.12} {count:>10} {rest:>14.2}"),
            _ => writeln!(out, "{milliseconds:>12.3} {quantile:>14.12} {count:>10}"),
        };
    }
    let (mean, max) = (micros(report.latency.mean()) / 1e3, micros(report.latency.max()) / 1e3);
    let _ = writeln!(out, "#[Mean    = {mean:>12.3}]\n#[Max     = {max:>12.3}, Total count    = {:>12}]", report.latency.len());
    out
}

/// One line on how far the run is, `seconds` after its start, of which the last was `since`.
pub(crate) fn progress(seconds: f64, before: Progress, now: Progress, since: f64) -> String {
    let per_second = |before: u64, now: u64| now.saturating_sub(before) as f64 / since.max(0.001);
    let mut line = format!("{seconds:>4.0} s  {:.0} requests/s", per_second(before.done, now.done));
    if now.events > 0 {
        let _ = write!(line, "  {:.0} events/s", per_second(before.events, now.events));
    }
    if now.errors > 0 {
        let _ = write!(line, "  {} errors", now.errors);
    }
    line
}

fn place(args: &Args) -> String {
    let Some(url) = &args.url else { return String::new() };
    let path = args.target(url);
    match &url.place {
        Place::Tcp(_) => format!("http://{}{path}", url.authority),
        Place::Unix(socket) => format!("unix:{}:{path}", socket.display()),
    }
}

fn cpu_us(report: &LoadReport) -> f64 {
    micros(report.cpu) / (report.ended().max(1) as f64)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn times(timing: &Timing) -> String {
    let quantiles: Vec<String> = QUANTILES.iter().map(|(name, at)| format!("{name} {}", show(timing.at(*at)))).collect();
    format!("{}  max {}", quantiles.join("  "), show(timing.max()))
}

/// Three significant digits or so.
fn show(time: Duration) -> String {
    let micros = micros(time);
    match micros {
        0.0..1_000.0 => format!("{micros:.0} us"),
        1_000.0..100_000.0 => format!("{:.2} ms", micros / 1e3),
        100_000.0..1_000_000.0 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}
