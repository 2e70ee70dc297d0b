//! `headrace routes explain`: which upstream and endpoint a request would go to, and why. From a configuration alone (nothing is in flight,
//! nothing was reported or remembered), or from the shards of a running gateway (`live`).

mod live;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Output;
use super::check::show_endpoint;
use super::probe::Url;
use crate::config::{Config, Upstream};
use crate::control::{Asked, Explained, explain};

#[derive(Debug, Args)]
pub(crate) struct RoutesArgs {
    #[command(subcommand)]
    command: RoutesCommand,
}

#[derive(Debug, Subcommand)]
enum RoutesCommand {
    /// Say which endpoint a request would be sent to, and why.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", required_unless_present = "admin", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,
    /// Ask the running gateway with this admin page (like http://127.0.0.1:9090): with its loads, its health and what it remembers.
    #[arg(long, value_name = "URL")]
    pub(crate) admin: Option<Url>,
    /// The model that is asked for. Default: the one the body names.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// The path of the request.
    #[arg(long, default_value = "/v1/chat/completions")]
    pub(crate) path: String,
    /// A field of the request; may be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = field)]
    pub(crate) headers: Vec<(String, String)>,
    /// The client's address, for `hash = { by = "client_ip" }`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) client: String,
    /// A file with the request's body, for `prefix_affinity`.
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no field; write NAME=VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(crate) fn run(args: RoutesArgs) -> ExitCode {
    let RoutesCommand::Explain(args) = args.command;
    let output = args.output;
    let told = match (args.admin.clone(), args.config.clone()) {
        (Some(admin), _) => asked(args).and_then(|asked| live::ask_gateway(&admin, &asked)).map(|told| (live::human(&told), told)),
        (None, path) => {
            let path = path.unwrap_or_default();
            let config = match super::load(&path) {
                Ok(config) => config,
                Err(error) => {
                    super::report_load_error(&path, &error);
                    return ExitCode::FAILURE;
                }
            };
            let explained = asked(args).and_then(|asked| explain(&config, &asked));
            explained.map(|explained| (human(&config, &explained), as_json(&config, &explained)))
        }
    };
    match told {
        Ok((human, json)) => {
            match output {
                Output::Human => super::say(human.trim_end()),
                Output::Json => super::say_json(&json),
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            match output {
                Output::Human => super::complain(&format!("headrace routes explain: {why}")),
                Output::Json => super::say_json(&json!({ "ok": false, "error": why })),
            }
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the command line reads the body it was given")]
fn asked(args: ExplainArgs) -> Result<Asked, String> {
    let body = match &args.body {
        Some(path) => std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?,
        None => Vec::new(),
    };
    Ok(Asked { path: args.path, model: args.model, fields: args.headers, client: args.client, body })
}

/// The same facts for both outputs.
pub(super) fn as_json(config: &Config, explained: &Explained) -> Value {
    let upstream = config.upstream(explained.upstream);
    let explanation = &explained.explanation;
    let candidates: Vec<Value> = explanation
        .candidates
        .iter()
        .map(|one| {
            json!({
                "endpoint": shown(upstream, one.endpoint),
                "chosen": explanation.choice.is_some_and(|choice| choice.endpoint == one.endpoint),
                "weight": one.weight,
                "zone": upstream.endpoints[one.endpoint as usize].zone,
                "near": one.near,
                "score": one.score,
            })
        })
        .collect();
    json!({
        "ok": true,
        "target": explained.target,
        "upstream": upstream.name,
        "balance": upstream.balance.as_str(),
        "endpoint": explanation.choice.map(|choice| shown(upstream, choice.endpoint)),
        "reason": explanation.choice.map(|choice| choice.why.as_str()),
        "score": explanation.score,
        "merged": explained.is_merged,
        "prompt_blocks": explained.prompt_blocks,
        "candidates": candidates,
    })
}

pub(super) fn human(config: &Config, explained: &Explained) -> String {
    let upstream = config.upstream(explained.upstream);
    let explanation = &explained.explanation;
    let mut out = format!("{} -> upstream {}, balance {}\n", explained.target, upstream.name, upstream.balance.as_str());
    if let Some(choice) = explanation.choice {
        let _ = writeln!(out, "endpoint {}, because: {}", shown(upstream, choice.endpoint), words(choice.why.as_str()));
    }
    let _ = writeln!(out, "score: {}\n", explanation.score);
    let wide = explanation.candidates.iter().map(|one| shown(upstream, one.endpoint).len()).max().unwrap_or(0);
    for one in &explanation.candidates {
        let chosen = if explanation.choice.is_some_and(|choice| choice.endpoint == one.endpoint) { "*" } else { " " };
        let zone = upstream.endpoints[one.endpoint as usize].zone.as_ref();
        let zone = zone.map_or_else(String::new, |zone| format!("  zone {zone}{}", if one.near { "" } else { " (far)" }));
        let _ =
            writeln!(out, "{chosen} {:<wide$}  weight {:<4} score {:<12.4}{zone}", shown(upstream, one.endpoint), one.weight, one.score);
    }
    for note in notes(upstream, explained) {
        let _ = writeln!(out, "\nnote: {note}");
    }
    out
}

fn notes(upstream: &Upstream, explained: &Explained) -> Vec<String> {
    let mut notes =
        vec!["told from the configuration: nothing in flight, no reports, no prompts remembered, all endpoints usable (--admin asks a running gateway)".to_owned()];
    if explained.is_merged {
        notes.push(
            "requests with mergeable items are coalesced: their lane takes the endpoints in turn, each up to its in_flight".to_owned(),
        );
    }
    match (upstream.steering.prefix_affinity, explained.prompt_blocks) {
        (Some(_), None) => notes.push("prefix_affinity had no prompt to look at: give --body".to_owned()),
        (Some(_), Some(blocks)) => notes.push(format!("the prompt has {blocks} whole blocks that a running gateway would look for")),
        (None, _) => {}
    }
    notes
}

/// What a reason means, in a person's words.
fn words(reason: &str) -> &'static str {
    match reason {
        "round_robin" => "its turn (round robin)",
        "p2c" => "the better one of two drawn at random (p2c)",
        "hash" => "the key's hash, within the bound on its load",
        "session" => "the session's own endpoint",
        "prefix" => "it has seen at least half of the prompt",
        "conversation" => "it has seen the beginning of the conversation",
        "opening" => "nobody has seen the conversation: the hash of its beginning, the same on every shard",
        "adapter" => "the least loaded of those that have the adapter",
        "last_resort" => "no other is usable",
        _ => "the least in flight",
    }
}

fn shown(upstream: &Upstream, endpoint: u32) -> String {
    upstream.endpoints.get(endpoint as usize).map_or_else(String::new, |one| show_endpoint(&one.addr))
}
