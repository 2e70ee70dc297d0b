//! `headrace check --diff OLD NEW` and `--live`: what a reload would change against another file, or against what a process serves. It
//! compares what is written, entry by entry: tables of a list are known by their name, models, upstreams and routes among them may
//! stand in another order. Exit codes: 0 a reload takes it, 1 it cannot be told, 3 a reload refuses it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use toml::{Table, Value};

use super::super::probe::{Method, Url, ask};
use super::super::{Output, complain, load_text, report_load_error, say, say_json};
use crate::config::{Config, check};
use crate::control::needs_restart;

pub(super) fn run(old: &Path, new: &Path, output: Output) -> ExitCode {
    match (load_text(old), load_text(new)) {
        (Ok(old), Ok(new)) => tell(&old, &new, output),
        (old_loaded, new_loaded) => {
            for (path, loaded) in [(old, old_loaded), (new, new_loaded)] {
                if let Err(error) = loaded {
                    report_load_error(path, &error);
                }
            }
            ExitCode::FAILURE
        }
    }
}

/// Against what the process serves that is asked at `live`, or where the file itself says.
pub(super) fn run_live(live: Option<&Url>, new: &Path, output: Output) -> ExitCode {
    let new_loaded = match load_text(new) {
        Ok(loaded) => loaded,
        Err(error) => {
            report_load_error(new, &error);
            return ExitCode::FAILURE;
        }
    };
    let here = Url { authority: new_loaded.1.admin.listen.to_string(), target: String::new() };
    match served(&live.unwrap_or(&here).page("/-/config")) {
        Ok(old) => tell(&old, &new_loaded, output),
        Err(why) => {
            complain(&format!("headrace check: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// What the running process serves.
fn served(url: &Url) -> Result<Loaded, String> {
    let Url { authority, .. } = url;
    let help = "start headrace, or name its admin address with --live=http://HOST:PORT";
    let answer = ask(url, Method::Get).map_err(|why| format!("nobody answers on {authority} ({why}): {help}"))?;
    let text = match answer {
        (200, text) => text,
        (status, why) => return Err(format!("{authority} does not tell its configuration ({status}): {}", why.trim_end())),
    };
    let config = check(&format!("configuration of {authority}"), &text)
        .map_err(|mistakes| format!("the process runs what this program does not take; use its own version.\n{mistakes}"))?;
    Ok((text, config))
}

fn tell((old, old_config): &Loaded, (new, new_config): &Loaded, output: Output) -> ExitCode {
    let (old, new) = (flat(old), flat(new));
    let (changes, restart) = (changes(&old, &new), needs_restart(old_config, new_config));
    match output {
        Output::Human => say(&human(&changes, &restart)),
        Output::Json => say_json(&json!({
            "ok": restart.is_empty(),
            "changes": changes.iter().map(|one| json!({ "key": one.key, "old": one.old, "new": one.new })).collect::<Vec<_>>(),
            "restart": restart,
        })),
    }
    if restart.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
}

/// A text and what it means.
type Loaded = (String, Config);

/// Exit code: a reload would refuse it.
const REFUSED: u8 = 3;

/// One key that differs.
#[derive(PartialEq, Eq, Debug)]
struct Change<'a> {
    key: &'a str,
    old: Option<&'a str>,
    new: Option<&'a str>,
}

fn changes<'a>(old: &'a BTreeMap<String, String>, new: &'a BTreeMap<String, String>) -> Vec<Change<'a>> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))).collect();
    keys.sort();
    let change = |key: &'a String| Change { key, old: old.get(key).map(String::as_str), new: new.get(key).map(String::as_str) };
    keys.into_iter().map(change).filter(|change| change.old != change.new).collect()
}

fn human(changes: &[Change<'_>], restart: &[&str]) -> String {
    if changes.is_empty() {
        return "nothing changes".to_owned();
    }
    let line = |change: &Change<'_>| match (change.old, change.new) {
        (Some(old), Some(new)) => format!("~ {} = {old} -> {new}", change.key),
        (Some(old), None) => format!("- {} = {old}", change.key),
        (None, new) => format!("+ {} = {}", change.key, new.unwrap_or_default()),
    };
    let mut lines: Vec<String> = changes.iter().map(line).collect();
    lines.push(match restart {
        [] => "a reload takes all of it".to_owned(),
        keys => format!("a reload refuses it, because these take a restart or an upgrade: {}", keys.join(", ")),
    });
    lines.join("\n")
}

/// Every written value under its path. The text has been checked.
fn flat(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    if let Ok(table) = text.parse::<Table>() {
        walk_table(&table, "", &mut out);
    }
    out
}

fn walk_table(table: &Table, path: &str, out: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) => walk_table(inner, &path, out),
            Value::Array(items) if !items.is_empty() && items.iter().all(|item| name(item).is_some()) => {
                for item in items {
                    if let (Value::Table(inner), Some(name)) = (item, name(item)) {
                        walk_table(inner, &format!("{path}[{name}]"), out);
                    }
                }
            }
            other => drop(out.insert(path, other.to_string())),
        }
    }
}

/// What a table of a list is known by.
fn name(item: &Value) -> Option<&str> {
    let table = item.as_table()?;
    ["name", "path", "upstream", "url"].iter().find_map(|key| table.get(*key)?.as_str())
}

#[cfg(test)]
mod tests {
    use super::{changes, flat, human};

    #[test]
    fn what_changes_is_told_by_name_whatever_the_order() {
        let old = flat("[server]\nshards = 2\n[[upstreams]]\nname = \"a\"\nendpoints = [\"http://x:1\"]\n[[upstreams]]\nname = \"b\"\n");
        let new = flat(
            "[[upstreams]]\nname = \"b\"\nbalance = \"round_robin\"\n[[upstreams]]\nname = \"a\"\nendpoints = [\"http://x:1\", \"http://x:2\"]\n",
        );
        assert_eq!(
            human(&changes(&old, &new), &["server.shards"]),
            "- server.shards = 2\n~ upstreams[a].endpoints = [\"http://x:1\"] -> [\"http://x:1\", \"http://x:2\"]\n\
             + upstreams[b].balance = \"round_robin\"\na reload refuses it, because these take a restart or an upgrade: server.shards"
        );
        assert_eq!(human(&changes(&old, &old), &[]), "nothing changes");
        assert!(human(&changes(&flat(""), &new), &[]).ends_with("\na reload takes all of it"));
    }
}
