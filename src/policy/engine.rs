//! What engines tell of their load, read from their own words: Prometheus text under each engine's names, Infinity's list of models,
//! and the ORCA field of an answer (`endpoint-load-metrics`). Text comes from a server and may be anything: every look is one pass
//! over bounded text, and what is not understood says nothing.

use crate::config::{Engine, limits};

use super::balance::{Report, hash_bytes};

/// The names of an engine's gauges. All series of a name are added up (cache: the fullest counts).
struct Names {
    waiting: &'static [&'static str],
    running: &'static [&'static str],
    cache: &'static [&'static str],
}

const fn names(engine: Engine) -> Names {
    match engine {
        Engine::Vllm => Names {
            waiting: &["vllm:num_requests_waiting"],
            running: &["vllm:num_requests_running"],
            cache: &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
        },
        Engine::Sglang => {
            Names { waiting: &["sglang:num_queue_reqs"], running: &["sglang:num_running_reqs"], cache: &["sglang:token_usage"] }
        }
        Engine::Tei => Names { waiting: &["te_queue_size"], running: &[], cache: &[] },
        Engine::Tgi => Names { waiting: &["tgi_queue_size"], running: &["tgi_batch_current_size"], cache: &[] },
        Engine::LlamaCpp => Names {
            waiting: &["llamacpp:requests_deferred"],
            running: &["llamacpp:requests_processing"],
            cache: &["llamacpp:kv_cache_usage_ratio"],
        },
        Engine::Triton => Names { waiting: &["nv_inference_pending_request_count"], running: &[], cache: &[] },
        // It has no gauges: see `infinity`.
        Engine::Infinity => Names { waiting: &[], running: &[], cache: &[] },
    }
}

/// Reads the answer to a scrape. `None`: it tells nothing of the engine's load, as when it is another engine's.
#[must_use]
pub fn read_scrape(engine: Engine, text: &[u8]) -> Option<Report> {
    let text = std::str::from_utf8(text.get(..limits::SCRAPE_BYTES_MAX).unwrap_or(text)).ok()?;
    if engine == Engine::Infinity {
        return infinity(text);
    }
    let names = names(engine);
    let (mut waiting, mut running, mut cache) = (None, None, None);
    let mut adapters: Option<(f64, &str)> = None;
    for (name, labels, value) in text.lines().filter_map(sample) {
        if names.waiting.contains(&name) {
            *waiting.get_or_insert(0.0) += value;
        } else if names.running.contains(&name) {
            *running.get_or_insert(0.0) += value;
        } else if names.cache.contains(&name) {
            cache = Some(f64::max(cache.unwrap_or(0.0), value));
        } else if name == "vllm:lora_requests_info" && adapters.is_none_or(|(latest, _)| value >= latest) {
            // One series per set of adapters there ever was; its value is when it was true.
            adapters = Some((value, labels));
        }
    }
    if waiting.is_none() && running.is_none() {
        return None;
    }
    Some(Report {
        waiting: whole(waiting.unwrap_or(0.0)),
        running: running.map(whole),
        cache_used: cache.map(share),
        adapters: adapters.map(|(_, labels)| adapters_in(labels)),
    })
}

/// Reads an ORCA field's value: `TEXT a=1, b=2` or `JSON {"a":1}`. `None`: nothing of it is a load.
#[must_use]
pub fn read_orca(value: &[u8]) -> Option<Report> {
    let text = std::str::from_utf8(value.get(..ORCA_BYTES_MAX).unwrap_or(value)).ok()?.trim();
    let mut report = None;
    let mut take = |name: &str, value: f64| {
        let name = name.trim().trim_start_matches("named_metrics.");
        let report: &mut Report = match name {
            "num_requests_waiting" | "num_requests_running" | "kv_cache_usage_perc" | "kv_cache_utilization" => {
                report.get_or_insert_with(Report::default)
            }
            _ => return,
        };
        match name {
            "num_requests_waiting" => report.waiting = whole(value),
            "num_requests_running" => report.running = Some(whole(value)),
            _ => report.cache_used = Some(share(value)),
        }
    };
    if let Some(json) = text.strip_prefix("JSON") {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
        let named = object.get("named_metrics").and_then(|named| named.as_object());
        for (name, value) in object.iter().chain(named.into_iter().flatten()) {
            if let Some(value) = value.as_f64() {
                take(name, value);
            }
        }
    } else {
        for (name, value) in text.strip_prefix("TEXT").unwrap_or(text).split(',').filter_map(|pair| pair.split_once('=')) {
            if let Ok(value) = value.trim().parse() {
                take(name, value);
            }
        }
    }
    report
}

/// Infinity's `GET /models`: `data[].stats.{queue_absolute, results_pending}`.
fn infinity(text: &str) -> Option<Report> {
    #[derive(serde::Deserialize)]
    struct Models {
        data: Vec<Model>,
    }
    #[derive(serde::Deserialize)]
    struct Model {
        stats: Stats,
    }
    #[derive(serde::Deserialize)]
    struct Stats {
        queue_absolute: f64,
        #[serde(default)]
        results_pending: f64,
    }
    let models: Models = serde_json::from_str(text).ok()?;
    let sum = |of: fn(&Stats) -> f64| whole(models.data.iter().map(|model| of(&model.stats)).sum());
    (!models.data.is_empty()).then(|| Report {
        waiting: sum(|stats| stats.queue_absolute),
        running: Some(sum(|stats| stats.results_pending)),
        ..Report::default()
    })
}

/// A line of Prometheus text: name, labels (without the braces), value. `None` for comments and whatever is no sample.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let line = line.trim_start();
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with('#') {
        return None;
    }
    // A label's value may hold a brace: the last one closes.
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest),
    };
    // A timestamp may stand behind.
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((name, labels, value))
}

/// The names in `running_lora_adapters="a,b"`, hashed as model names are, and in `waiting_lora_adapters`: those are loaded next.
fn adapters_in(labels: &str) -> Box<[u64]> {
    let list = |label: &str| {
        let start = labels.find(label)? + label.len();
        labels[start..].split_once('"').map(|(names, _)| names)
    };
    let lists = [list("running_lora_adapters=\""), list("waiting_lora_adapters=\"")];
    let names = lists.into_iter().flatten().flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty());
    names.take(limits::ADAPTERS_MAX).map(|name| hash_bytes(0, name.as_bytes())).collect()
}

/// A count as engines write it (`3.0`), bounded.
fn whole(value: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, which is what is wanted of nonsense")]
    let count = value.clamp(0.0, COUNT_MAX) as u32;
    count
}

/// A share: engines write 0 to 1.
fn share(value: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "a share of a cache needs no more digits")]
    let share = value.clamp(0.0, 1.0) as f32;
    share
}

/// Bytes of an ORCA field that are looked at.
const ORCA_BYTES_MAX: usize = 4 << 10;
/// More requests than any engine has: beyond it the number is nonsense.
const COUNT_MAX: f64 = 1e6;
