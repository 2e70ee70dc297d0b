//! A peer's folder below `loadtest/peers`: how it is installed and started, and its configuration template with the places filled in. Running
//! it is `child`'s business.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use headrace::config::units::parse_duration;
use serde::Deserialize;

/// `peer.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub(crate) title: String,
    start: Vec<String>,
    /// Templates beside `peer.toml`.
    #[serde(default)]
    files: Vec<String>,
    /// Prints the version, for peers without an `install`.
    #[serde(default)]
    version: Vec<String>,
    /// How long it may take until it answers.
    start_limit: Option<String>,
    /// It writes an answer of its own, so that comparing bytes says nothing.
    #[serde(default)]
    pub(crate) rewrites: bool,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// What a contender is started with: every place filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Start {
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// File name and text.
    pub(crate) files: Vec<(String, String)>,
}

/// The values of places, without their `@`.
pub(crate) type Places = BTreeMap<String, String>;

const START_LIMIT: Duration = Duration::from_secs(20);

impl Peer {
    /// Reads `folder/peer.toml`.
    ///
    /// # Errors
    /// For a person: the file is not there, or a mistake with its place.
    pub(crate) fn read(folder: &Path) -> Result<Peer, String> {
        let place = folder.join("peer.toml");
        let text = read(&place)?;
        let peer: Peer = toml::from_str(&text).map_err(|error| format!("{}: {}", place.display(), error.to_string().trim_end()))?;
        peer.start_limit().map_err(|error| format!("{}: {error}", place.display()))?;
        Ok(peer)
    }

    pub(crate) fn start_limit(&self) -> Result<Duration, String> {
        let Some(text) = &self.start_limit else { return Ok(START_LIMIT) };
        parse_duration(text).map_err(|_| format!("start_limit: {text:?} is not a duration; write a number and a unit, like \"60s\""))
    }

    /// Runs `install`, or asks for the version; it is the version's text. Nothing is installed where `install` is false.
    ///
    /// # Errors
    /// The reason why there is no such peer, in one line.
    pub(crate) fn install(&self, folder: &Path, bin: &Path) -> Result<String, String> {
        let script = folder.join("install");
        let command = if script.is_file() {
            vec![script.display().to_string()]
        } else {
            let places = Places::from([("BIN".to_owned(), bin.display().to_string())]);
            self.version.iter().map(|part| fill(part, &places)).collect::<Result<_, _>>()?
        };
        let Some((program, args)) = command.split_first() else { return Ok(String::new()) };
        let done = Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
        let last =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        if !done.status.success() {
            let said = last(&done.stderr);
            return Err(if said.is_empty() { format!("{program}: {}", done.status) } else { said });
        }
        Ok(last(&done.stdout))
    }

    /// The command and the files with their places filled in. `set` goes before the peer's own defaults.
    ///
    /// # Errors
    /// A template that is not there, a place nobody fills, a value nobody uses.
    pub(crate) fn fill(&self, folder: &Path, args: &[String], set: &BTreeMap<String, String>, places: &Places) -> Result<Start, String> {
        if let Some(name) = set.keys().find(|name| !self.set.contains_key(*name)) {
            let known: Vec<&str> = self.set.keys().map(String::as_str).collect();
            return Err(format!("{}: it has no value {name:?} to set; it has {}", self.title, known.join(", ")));
        }
        let mut all = self.set.clone();
        all.extend(set.clone());
        all.extend(places.clone());
        let mut command = Vec::new();
        for part in &self.start {
            if part == "@ARGS@" { command.extend_from_slice(args) } else { command.push(fill(part, &all)?) }
        }
        if !args.is_empty() && !self.start.iter().any(|part| part == "@ARGS@") {
            return Err(format!("{}: its start command has no place for arguments ({})", self.title, args.join(" ")));
        }
        let mut files = Vec::new();
        for name in &self.files {
            let place = folder.join(name);
            files.push((name.clone(), fill(&read(&place)?, &all).map_err(|error| format!("{}: {error}", place.display()))?));
        }
        let env = self.env.iter().map(|(name, value)| Ok((name.clone(), fill(value, &all)?))).collect::<Result<_, String>>()?;
        Ok(Start { command, env, files })
    }
}

/// Replaces each `@NAME@`. A name is of capitals, digits and `_`, so mail addresses and the like stay.
pub(crate) fn fill(text: &str, places: &Places) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        out.push_str(before);
        let len = after.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).unwrap_or(after.len());
        if len > 0 && after[len..].starts_with('@') {
            let name = &after[..len];
            out.push_str(places.get(name).ok_or_else(|| format!("nothing is known for @{name}@"))?);
            rest = &after[len + 1..];
        } else {
            out.push('@');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where peers install themselves, as `peers/lib.sh` has it.
pub(crate) fn installed(peers: &Path, name: &str) -> PathBuf {
    peers.join(".installed").join(name)
}

fn read(place: &Path) -> Result<String, String> {
    #[expect(clippy::disallowed_methods, reason = "the runner is a tool, not a shard")]
    fs::read_to_string(place).map_err(|error| format!("{}: {error}", place.display()))
}
