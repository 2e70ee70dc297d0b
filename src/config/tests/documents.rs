//! docs/configuration.md tells every key and every bound, in the words of the schema and of limits.rs. Its two lists are made from
//! those; HEADRACE_BLESS=1 writes them anew.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::golden::{compare, read};
use super::{check, schema};

/// The tables of the file: heading, place in the schema, and the name of their keys.
const TABLES: &[(&str, &str, &str)] = &[
    ("[server]", "/properties/server", "server"),
    ("[admin]", "/properties/admin", "admin"),
    ("[admission]", "/properties/admission", "admission"),
    ("[[upstreams]]", "/properties/upstreams/items", "upstreams"),
    ("upstreams.endpoints", "/properties/upstreams/items/properties/endpoints/items/anyOf/1", "upstreams.endpoints"),
    ("upstreams.concurrency", "/properties/upstreams/items/properties/concurrency", "upstreams.concurrency"),
    ("upstreams.health", "/properties/upstreams/items/properties/health", "upstreams.health"),
    ("upstreams.breaker", "/properties/upstreams/items/properties/breaker", "upstreams.breaker"),
    ("upstreams.slow_start", "/properties/upstreams/items/properties/slow_start", "upstreams.slow_start"),
    ("upstreams.retry", "/properties/upstreams/items/properties/retry", "upstreams.retry"),
    ("upstreams.hash", "/properties/upstreams/items/properties/hash", "upstreams.hash"),
    ("upstreams.affinity", "/properties/upstreams/items/properties/affinity", "upstreams.affinity"),
    ("upstreams.scrape", "/properties/upstreams/items/properties/scrape", "upstreams.scrape"),
    ("upstreams.prefix_affinity", "/properties/upstreams/items/properties/prefix_affinity", "upstreams.prefix_affinity"),
    ("[[models]]", "/properties/models/items", "models"),
    ("models.batching", "/properties/models/items/properties/batching", "models.batching"),
    ("models.hedge", "/properties/models/items/properties/hedge", "models.hedge"),
    ("[[canned]]", "/properties/canned/items", "canned"),
    ("models.timeouts", "/properties/models/items/properties/timeouts", "models.timeouts"),
    ("models.targets", "/properties/models/items/properties/targets/items", "models.targets"),
    ("models.sticky", "/properties/models/items/properties/sticky", "models.sticky"),
    ("models.shadow", "/properties/models/items/properties/shadow", "models.shadow"),
    ("models.rollout", "/properties/models/items/properties/rollout", "models.rollout"),
    ("models.rollout.metric", "/properties/models/items/properties/rollout/properties/metric", "models.rollout.metric"),
    ("[[routes]]", "/properties/routes/items", "routes"),
    ("routes.timeouts", "/properties/routes/items/properties/timeouts", "routes.timeouts"),
];

#[test]
fn the_guide_tells_every_key_and_bound() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = read(&path);
    let text = between(&text, "keys", &keys());
    compare(&path, &between(&text, "bounds", &bounds()));
}

/// A key of the schema that stands in no table of the guide would be found here.
#[test]
fn the_guide_has_every_table_of_the_schema() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut tables = 0;
    count_tables(&schema, &mut tables);
    assert_eq!(tables, TABLES.len() + 1, "a table was added: name it in TABLES");
}

/// The examples of the guides are complete configurations.
#[test]
fn the_examples_of_the_guides_are_right() {
    let mut count = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let text = read(&path);
        let blocks = text.split("```toml\n").skip(1).filter_map(|part| part.split("```").next());
        for example in blocks.filter(|block| block.contains("[server]") || block.contains("[[upstreams]]")) {
            count += 1;
            if let Err(mistakes) = check("example.toml", example) {
                panic!("{}: {mistakes}", path.display());
            }
        }
    }
    assert!(count >= 5, "only {count} examples are left");
}

/// So are those of every other guide, where they show an upstream.
#[test]
fn the_examples_of_all_guides_are_right() {
    let mut found = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let text = read(&path);
        let blocks = text.split("```toml\n").skip(1).filter_map(|part| part.split("```").next());
        for example in blocks.filter(|block| block.contains("[[upstreams]]")) {
            found += 1;
            let checked = check(&path.display().to_string(), example);
            assert!(checked.is_ok(), "{}", checked.unwrap_err());
        }
    }
    assert!(found >= 7, "only {found} examples are left");
}

fn count_tables(schema: &Value, tables: &mut usize) {
    match schema {
        Value::Object(map) => {
            *tables += usize::from(map.get("properties").is_some_and(Value::is_object));
            map.values().for_each(|inner| count_tables(inner, tables));
        }
        Value::Array(items) => items.iter().for_each(|inner| count_tables(inner, tables)),
        _ => {}
    }
}

/// `text` with the lines between the markers of `name` replaced.
fn between(text: &str, name: &str, inner: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("the marker {begin} is gone"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("the marker {end} is gone"));
    format!("{before}{begin}{inner}{end}{after}")
}

fn keys() -> String {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut out = String::new();
    for (heading, pointer, name) in TABLES {
        let table = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not in the schema"));
        writeln!(out, "### {heading}\n\n{}\n\n| key | default | meaning, reason, what happens at the bound |\n|---|---|---|", words(table))
            .unwrap();
        let required = table.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for (key, inner) in table["properties"].as_object().unwrap() {
            let default = match inner.get("default") {
                Some(default) => format!("`{default}`"),
                None if required.iter().any(|one| one == key) => "required".to_owned(),
                None => "see right".to_owned(),
            };
            assert!(!words(inner).is_empty(), "{name}.{key} has no description");
            writeln!(out, "| `{name}.{key}` | {default} | {} |", words(inner).replace('|', "\\|")).unwrap();
        }
        out.push('\n');
    }
    out
}

/// The constants of limits.rs with their comments.
fn bounds() -> String {
    let source = include_str!("../limits.rs");
    let mut out = "| bound | value | what is bounded, and beyond it |\n|---|---|---|\n".to_owned();
    let mut comment = String::new();
    for line in source.lines() {
        if let Some(words) = line.strip_prefix("/// ") {
            comment.push_str(if comment.is_empty() { "" } else { " " });
            comment.push_str(words);
        } else if let Some((name, value)) = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(" = ")) {
            let name = name.split(':').next().unwrap();
            assert!(!comment.is_empty(), "{name} has no comment");
            writeln!(out, "| `{name}` | {} | {comment} |", shown(name, value.trim_end_matches(';'))).unwrap();
            comment.clear();
        } else {
            comment.clear();
        }
    }
    out
}

/// A value as limits.rs writes it, for readers: `64 << 10` bytes are 64 KiB.
fn shown(name: &str, value: &str) -> String {
    let seconds = value.strip_prefix("Duration::from_secs(").and_then(|rest| rest.strip_suffix(')'));
    let millis = value.strip_prefix("Duration::from_millis(").and_then(|rest| rest.strip_suffix(')'));
    match (seconds, value.split_once(" << ")) {
        (None, None) if millis.is_some() => format!("{} ms", millis.unwrap()),
        (Some(seconds), _) => format!("{seconds} s"),
        (None, Some((number, "10"))) if name.contains("BYTES") => format!("{number} KiB"),
        (None, Some((number, "20"))) if name.contains("BYTES") => format!("{number} MiB"),
        (None, Some((number, "30"))) if name.contains("BYTES") => format!("{number} GiB"),
        (None, Some((number, shift))) => (number.parse::<u64>().unwrap() << shift.parse::<u32>().unwrap()).to_string(),
        (None, None) => value
            .trim_end_matches(" as u64")
            .trim_matches(['(', ')'])
            .replace('_', if value.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "_" }),
    }
}

fn words(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}
