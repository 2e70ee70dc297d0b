//! A report for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use headrace::mock::client::LoadReport;
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
    let quantiles: Vec<String> = QUANTILES.iter().map(|(name, at)| format!("{name} {}", show(report.latency_at(*at)))).collect();
    let _ = writeln!(out, "latency     {}  max {}", quantiles.join("  "), show(report.latency_max()));
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
    }
    let _ = write!(out, "generator   {:.2} us of processor time per request", cpu_us(report));
    out
}

pub(crate) fn json(args: &Args, report: &LoadReport) -> Value {
    let quantiles = QUANTILES.iter().map(|(name, at)| (format!("{name}_us"), json!(micros(report.latency_at(*at)))));
    let mut latency: Map<String, Value> = quantiles.collect();
    latency.insert("max_us".to_owned(), json!(micros(report.latency_max())));
    latency.insert("mean_us".to_owned(), json!(report.latency.mean() / 1000.0));
    let statuses: Map<String, Value> = report.statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect();
    json!({
        "url": place(args),
        "connections": args.connections,
        "threads": args.threads,
        "rate": args.rate,
        "elapsed_s": report.elapsed.as_secs_f64(),
        "requests_per_second": report.requests_per_second(),
        "done": report.done,
        "errors": report.errors(),
        "statuses": statuses,
        "failures": report.failures,
        "unsent": report.unsent,
        "checked": report.checked,
        "wrong": report.wrong,
        "received_bytes": report.received_bytes,
        "latency": latency,
        "generator_cpu_us_per_request": cpu_us(report),
    })
}

fn place(args: &Args) -> String {
    let Some(url) = &args.url else { return String::new() };
    let path = args.path.as_ref().unwrap_or(&url.path);
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
