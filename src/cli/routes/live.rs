//! `headrace routes explain --admin`: asks a running gateway and shows what each of its shards would do.

use std::fmt::Write;

use serde_json::Value;

use super::super::probe::{Method, Url, ask};
use super::words;
use crate::control::Asked;

/// What the shards say, as the page says it.
///
/// # Errors
/// Why there is no answer, or why the request would be refused before an endpoint is chosen.
pub(super) fn ask_gateway(admin: &Url, asked: &Asked) -> Result<Value, String> {
    let question = serde_json::to_string(asked).map_err(|error| error.to_string())?;
    let Url { authority, .. } = admin;
    let answer = ask(&admin.page("/-/explain"), Method::Post(&question));
    let (status, text) = answer.map_err(|why| format!("nobody answers on {authority} ({why}): is that its admin page?"))?;
    if status != 200 {
        return Err(format!("{authority} does not explain ({status}): {}", text.trim_end()));
    }
    let told: Value = serde_json::from_str(&text).map_err(|error| format!("what {authority} says is no explanation: {error}"))?;
    match told["error"].as_str() {
        Some(why) => Err(why.to_owned()),
        None => Ok(told),
    }
}

pub(super) fn human(told: &Value) -> String {
    let mut out = String::new();
    let shards = told["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(first) = shards.first() {
        let told = &first["told"];
        let _ = writeln!(out, "{} -> upstream {}, balance {}", text(&told["target"]), text(&told["upstream"]), text(&told["balance"]));
        let _ = writeln!(out, "score: {}", text(&told["score"]));
    }
    for one in shards {
        let told = &one["told"];
        let choice = match (told["endpoint"].as_str(), told["reason"].as_str()) {
            (Some(endpoint), Some(reason)) => format!("{endpoint}, because: {}", words(reason)),
            _ => "no endpoint is usable: 503, or the model's fallback".to_owned(),
        };
        let _ = writeln!(out, "\nshard {}: {choice}", one["shard"]);
        let candidates = told["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let wide = candidates.iter().map(|one| text(&one["endpoint"]).len()).max().unwrap_or(0);
        for one in candidates {
            let chosen = if one["chosen"] == true { "*" } else { " " };
            let _ = writeln!(
                out,
                "{chosen} {:<wide$}  {:<12} in flight {:<4} load {:<8.2} weight {:<4} score {:<12.4}{}",
                text(&one["endpoint"]),
                health(one),
                one["in_flight"].as_u64().unwrap_or(0),
                number(&one["load"]),
                one["weight"].as_u64().unwrap_or(0),
                number(&one["score"]),
                zone(one)
            );
        }
    }
    for shard in told["silent"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let _ = writeln!(out, "\nshard {shard} did not answer: /livez says whether it turns");
    }
    if shards.first().is_some_and(|one| one["told"]["merged"] == true) {
        out.push_str(
            "\nnote: requests with mergeable items are coalesced: their lane takes the endpoints in turn, each up to its in_flight\n",
        );
    }
    out
}

/// Why it is not used, or that it may be.
fn health(endpoint: &Value) -> String {
    let paused = endpoint["paused_ms"].as_u64().unwrap_or(0);
    let usable = endpoint["usable"] == true;
    match text(&endpoint["breaker"]) {
        // So many are out that all are used.
        _ if endpoint["down"] == true && usable => "down, used".to_owned(),
        "open" if usable => "open, used".to_owned(),
        _ if endpoint["down"] == true => "down".to_owned(),
        "open" => "breaker open".to_owned(),
        _ if paused > 0 => format!("paused {}s", paused.div_ceil(1000)),
        "half_open" => "on trial".to_owned(),
        _ if usable => "usable".to_owned(),
        _ => "starting".to_owned(),
    }
}

fn zone(endpoint: &Value) -> String {
    let far = if endpoint["near"] == true { "" } else { " (far)" };
    endpoint["zone"].as_str().map_or_else(String::new, |zone| format!("  zone {zone}{far}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}
