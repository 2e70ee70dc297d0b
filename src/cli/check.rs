//! `headrace check`: is this configuration right, what was understood, how much memory it allows. It starts nothing and resolves no
//! names.

mod diff;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use self::settings::Setting;
use super::probe::Url;
use super::{LoadError, Output};
use crate::config::units::{show_duration, show_size, show_size_rounded};
use crate::config::{
    Arm, Balance, BatchingMode, Config, EndpointAddr, ListenAddr, Memory, MemoryKind, Model, Shards, Upstream, memory, schema,
};
use crate::sys::cores;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file.
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    pub(crate) file: Option<PathBuf>,
    /// Print the JSON Schema of the configuration instead.
    #[arg(long, conflicts_with = "file")]
    pub(crate) schema: bool,
    /// Show what FILE changes against this configuration, and what of it takes a restart.
    #[arg(long, value_name = "OLD", conflicts_with = "schema")]
    pub(crate) diff: Option<PathBuf>,
    /// Show what FILE changes against what the running process serves. It is asked at FILE's own admin.listen, or at this address.
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, conflicts_with_all = ["schema", "diff"])]
    #[expect(clippy::option_option, reason = "not asked for, asked for, asked for at an address")]
    pub(crate) live: Option<Option<Url>>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

pub(crate) fn run(args: CheckArgs) -> ExitCode {
    let Some(path) = args.file.filter(|_| !args.schema) else {
        super::say(schema().trim_end());
        return ExitCode::SUCCESS;
    };
    if let Some(old) = &args.diff {
        return diff::run(old, &path, args.output);
    }
    if let Some(live) = &args.live {
        return diff::run_live(live.as_ref(), &path, args.output);
    }
    match (super::load(&path), args.output) {
        (Ok(config), Output::Human) => {
            super::say(&human(&config));
            ExitCode::SUCCESS
        }
        (Ok(config), Output::Json) => {
            super::say_json(&as_json(&config));
            ExitCode::SUCCESS
        }
        (Err(error), Output::Human) => {
            super::report_load_error(&path, &error);
            ExitCode::FAILURE
        }
        (Err(error), Output::Json) => {
            super::say_json(&mistakes_as_json(&error));
            ExitCode::FAILURE
        }
    }
}

fn shards(config: &Config) -> u32 {
    match config.server.shards {
        Shards::Auto => cores::shard_count(),
        Shards::Count(count) => count,
    }
}

fn mistakes_as_json(error: &LoadError) -> Value {
    match error {
        LoadError::File(error) => json!({ "ok": false, "error": error.to_string(), "mistakes": [] }),
        LoadError::Mistakes(mistakes) => json!({ "ok": false, "count": mistakes.count(), "mistakes": mistakes.list() }),
    }
}

fn as_json(config: &Config) -> Value {
    let shards = shards(config);
    let upstreams: Vec<Value> = config
        .upstreams
        .iter()
        .map(|one| {
            let endpoints: Vec<String> = one.endpoints.iter().map(|end| show_endpoint(&end.addr)).collect();
            json!({ "name": one.name, "endpoints": endpoints, "settings": settings_as_json(settings::of_upstream(one)) })
        })
        .collect();
    let models: Vec<Value> = config
        .written_models()
        .map(|one| {
            let (upstream, batching) = (&config.upstream(one.upstream).name, mode_name(one.batching.mode));
            let settings = settings_as_json(settings::of_model(config, one));
            json!({ "name": one.name, "upstream": upstream, "batching": batching, "settings": settings })
        })
        .collect();
    let routes: Vec<Value> =
        config.routes.iter().map(|one| json!({ "path": one.path, "upstream": config.upstream(one.upstream).name })).collect();
    json!({
        "ok": true,
        "listen": config.server.listen.iter().map(show_listen).collect::<Vec<_>>(),
        "admin": config.admin.listen.to_string(),
        "shards": shards,
        "upstreams": upstreams,
        "models": models,
        "routes": routes,
        "memory": memory(config, shards),
    })
}

fn human(config: &Config) -> String {
    let shards = shards(config);
    let mut out = String::from("ok\n\n");
    let auto = if config.server.shards == Shards::Auto { " (auto: the cores this process may use here)" } else { "" };
    let listeners = config.server.listen.iter().map(show_listen).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "listen     {listeners}");
    let _ = writeln!(out, "admin      {}", config.admin.listen);
    let _ = writeln!(out, "shards     {shards}{auto}");
    for upstream in &config.upstreams {
        let _ = writeln!(out, "upstream   {}", show_upstream(upstream));
        write_settings(&mut out, &settings::of_upstream(upstream));
    }
    for model in config.written_models() {
        let _ = writeln!(out, "model      {} -> {}, {}", model.name, show_targets(config, model), show_batching(&model.batching));
        write_settings(&mut out, &settings::of_model(config, model));
    }
    for route in &config.routes {
        let upstream = config.upstream(route.upstream);
        let _ = writeln!(out, "route      {} -> {}", route.path, upstream.name);
        write_settings(&mut out, settings::own_times(&route.timeouts, upstream).as_slice());
    }
    for upstream in unused(config) {
        let _ = writeln!(out, "note       upstream {upstream} is used by no model and no route");
    }
    out.push('\n');
    out.push_str(&memory_table(&memory(config, shards)));
    out
}

/// Below what they belong to.
fn write_settings(out: &mut String, settings: &[Setting]) {
    for (label, shown) in settings {
        let _ = writeln!(out, "           {label:<10} {shown}");
    }
}

fn settings_as_json(settings: Vec<Setting>) -> Value {
    settings.into_iter().map(|(label, shown)| (label.replace(' ', "_"), Value::from(shown))).collect::<serde_json::Map<_, _>>().into()
}

fn unused(config: &Config) -> impl Iterator<Item = &str> {
    config
        .upstreams
        .iter()
        .enumerate()
        .filter(|(index, _)| {
            let used = |id: crate::config::UpstreamId| id.0 as usize == *index;
            !config.models.iter().any(|model| used(model.upstream) || model.shadow.as_ref().is_some_and(|shadow| used(shadow.upstream)))
                && !config.routes.iter().any(|route| used(route.upstream))
        })
        .map(|(_, upstream)| upstream.name.as_str())
}

/// The memory sum as a table: what, how many, each, together.
fn memory_table(memory: &Memory) -> String {
    let wide = memory.lines.iter().map(|line| line.what.len()).max().unwrap_or(0);
    let mut out = format!("{:<wide$}  {:>12} {:>12} {:>12}\n", "memory", "count", "each", "total");
    let sums = [
        (MemoryKind::Standing, "from the start", memory.standing_bytes),
        (MemoryKind::Load, "with every connection, pool and lane in use", memory.load_bytes),
        (MemoryKind::Worst, "worst case: all of it as large as allowed, at once", memory.worst_bytes),
    ];
    for (kind, what, sum) in sums {
        for line in memory.lines.iter().filter(|line| line.kind == kind) {
            let (each, total) = (show_size_rounded(line.bytes_each), show_size_rounded(line.total_bytes));
            let _ = writeln!(out, "{:<wide$}  {:>12} {each:>12} {total:>12}", line.what, line.count);
        }
        let _ = writeln!(out, "= {what:<width$}  {:>12}", show_size_rounded(sum), width = wide + 24);
    }
    out.push_str("lower it with server.max_connections, server.max_held, upstreams.max_response\n");
    out.truncate(out.trim_end().len());
    out
}

fn show_upstream(upstream: &Upstream) -> String {
    let shown = |end: &crate::config::Endpoint| match end.weight {
        1 => show_endpoint(&end.addr),
        weight => format!("{} (weight {weight})", show_endpoint(&end.addr)),
    };
    let endpoints = upstream.endpoints.iter().map(shown).collect::<Vec<_>>().join(", ");
    let balance = match upstream.balance {
        Balance::RoundRobin => "round robin",
        Balance::LeastInFlight => "least in flight",
        Balance::P2c => "two choices by latency",
        Balance::ConsistentHash => "consistent hash",
    };
    match upstream.endpoints.len() {
        1 => format!("{}: {endpoints}", upstream.name),
        _ => format!("{}: {endpoints} ({balance}{})", upstream.name, show_steering(upstream)),
    }
}

/// What else counts when one of several endpoints is chosen.
fn show_steering(upstream: &Upstream) -> String {
    let steering = &upstream.steering;
    let session = steering.affinity.as_ref().map(|header| format!(", sessions by {header}"));
    let engine = steering.engine.map(|engine| format!(", load of {}", engine.as_str()));
    let prompts = steering.prefix_affinity.map(|prefix| format!(", prompts remembered in {} entries", prefix.entries()));
    [session, engine, prompts].into_iter().flatten().collect()
}

/// The upstream, or the targets with their shares and what moves them; and the shadow.
fn show_targets(config: &Config, model: &Model) -> String {
    let name = |id| config.upstream(id).name.as_str();
    let mut out = match &model.split {
        None => name(model.upstream).to_owned(),
        Some(split) => {
            let shown = |arm: &Arm| format!("{} {} %", name(arm.upstream), f64::from(arm.share) / 100.0);
            let sticky = split.sticky.as_ref().map_or_else(String::new, |field| format!(" (sticky by {field})"));
            split.arms.iter().map(shown).collect::<Vec<_>>().join(" + ") + &sticky
        }
    };
    if let Some(rules) = model.split.as_ref().and_then(|split| split.rollout.as_ref()) {
        let steps = rules.steps.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let _ = write!(out, ", rollout in steps of {steps} %, {} each at least", show_duration(rules.step_time));
        if let Some(metric) = &rules.metric {
            let _ = write!(out, ", bad when {}", metric.measure);
        }
    }
    if let Some(shadow) = &model.shadow {
        let _ = write!(out, ", {} % copied to {}", shadow.percent, name(shadow.upstream));
    }
    out
}

fn show_batching(batching: &crate::config::Batching) -> String {
    if batching.mode == BatchingMode::Off {
        return "not coalesced".to_owned();
    }
    let delay =
        if batching.max_delay.is_zero() { String::new() } else { format!(", held back {} at most", show_duration(batching.max_delay)) };
    format!(
        "batching {}: up to {} items and {} a call, {} in flight per endpoint{delay}",
        mode_name(batching.mode),
        batching.max_items,
        show_size(batching.max_bytes),
        batching.in_flight
    )
}

fn mode_name(mode: BatchingMode) -> &'static str {
    match mode {
        BatchingMode::Exclusive => "exclusive",
        BatchingMode::Batching => "batching",
        BatchingMode::Off => "off",
    }
}

fn show_listen(addr: &ListenAddr) -> String {
    match addr {
        ListenAddr::Tcp(addr) => addr.to_string(),
        ListenAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}

pub(super) fn show_endpoint(addr: &EndpointAddr) -> String {
    match addr {
        EndpointAddr::Tcp { host, port, .. } if host.contains(':') => format!("http://[{host}]:{port}"),
        EndpointAddr::Tcp { host, port, .. } => format!("http://{host}:{port}"),
        EndpointAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}
