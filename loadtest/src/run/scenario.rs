//! A scenario file: what is measured, with whom, how long, and what was promised. Reading checks everything at once and tells every mistake
//! with its place; starting what it names is `rounds`' business.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use headrace::config::units::parse_duration;
use serde::Deserialize;
use toml::Spanned;

use super::metric::Metric;

/// The peer that is no process: the load goes straight to the upstream.
pub(crate) const DIRECT: &str = "direct";

/// A checked scenario: every name it uses exists in it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Scenario {
    /// The file's name without `.toml`.
    pub(crate) name: String,
    pub(crate) shows: String,
    pub(crate) rounds: u32,
    pub(crate) round: Duration,
    /// Before the first round of each case, not recorded.
    pub(crate) warmup: Duration,
    pub(crate) cores: Cores,
    pub(crate) upstream: Upstream,
    pub(crate) load: Load,
    pub(crate) cases: Vec<Case>,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) targets: Vec<Target>,
    /// What the table shows, most important first; the first is what the plot draws.
    pub(crate) columns: Vec<Metric>,
    pub(crate) quick: Option<Quick>,
    reference: Option<String>,
}

/// Which cores each side may use.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cores {
    /// The contender's.
    pub(crate) shard: Vec<usize>,
    /// The generator's and the upstream's.
    pub(crate) load: Vec<usize>,
}

/// What answers behind the contenders.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Upstream {
    /// `headrace-loadtest upstream`: a fixed answer at the least cost.
    Light {
        #[serde(default)]
        args: Vec<String>,
    },
    /// `headrace mock`: vectors that can be checked, at the cost of a GPU.
    Mock {
        #[serde(default)]
        args: Vec<String>,
    },
    /// A real server, described like a peer in `peers/NAME`.
    Server { peer: String },
}

/// What the generator is told besides the URL, the duration and the case.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// How the one answer before the first round is judged.
    #[serde(default)]
    pub(crate) verify: Verify,
}

impl Load {
    /// What the generator asks for, `mock` unless its arguments say otherwise.
    pub(crate) fn model(&self) -> &str {
        let after = self.args.iter().skip_while(|arg| *arg != "--model").nth(1);
        after.map_or("mock", String::as_str)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verify {
    /// Byte for byte what the upstream answers when it is asked directly.
    #[default]
    Same,
    /// A 200 with a body.
    Status,
}

/// One point of the measurement: usually a number of connections.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// In place of the scenario's: streams and idle connections take longer to settle.
    #[serde(default, deserialize_with = "duration_or_none")]
    pub(crate) round: Option<Duration>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Contender {
    /// How it is listed.
    pub(crate) name: String,
    /// The folder below `peers/`, or [`DIRECT`].
    pub(crate) peer: String,
    pub(crate) args: Vec<String>,
    /// Values for the places in the peer's template.
    pub(crate) set: BTreeMap<String, String>,
    /// Reach the upstream over its Unix socket.
    pub(crate) unix: bool,
    /// In place of the scenario's `cores.shard`.
    pub(crate) cores: Option<Vec<usize>>,
}

/// What was promised.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Target {
    pub(crate) contender: String,
    pub(crate) metric: Metric,
    /// Then the value is the ratio to this contender in the same round.
    pub(crate) against: Option<String>,
    pub(crate) case: String,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// The short form of the scenario, for `--quick`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quick {
    pub(crate) rounds: u32,
    #[serde(deserialize_with = "duration")]
    pub(crate) round: Duration,
    pub(crate) cases: Vec<String>,
    pub(crate) contenders: Vec<String>,
}

/// As written; [`Raw::check`] makes it a [`Scenario`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    shows: String,
    rounds: Spanned<u32>,
    #[serde(deserialize_with = "duration")]
    round: Duration,
    #[serde(default, deserialize_with = "duration_or_none")]
    warmup: Option<Duration>,
    cores: Cores,
    upstream: Upstream,
    load: Load,
    /// Shorthand for cases with `-c N`.
    #[serde(default)]
    connections: Vec<u32>,
    #[serde(default)]
    cases: Vec<Case>,
    contenders: Vec<Spanned<RawContender>>,
    #[serde(default)]
    targets: Vec<Spanned<RawTarget>>,
    columns: Vec<Metric>,
    quick: Option<Spanned<Quick>>,
    reference: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawContender {
    name: String,
    peer: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    unix: bool,
    cores: Option<Vec<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    contender: String,
    metric: Metric,
    against: Option<String>,
    case: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
}

impl Scenario {
    /// Reads the text of `place`, whose file name is the scenario's name.
    ///
    /// # Errors
    /// Every mistake with its line, for a person.
    pub(crate) fn parse(place: &Path, text: &str) -> Result<Scenario, String> {
        let name = place.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let raw: Raw = toml::from_str(text).map_err(|error| format!("{}: {}", place.display(), error.to_string().trim_end()))?;
        let mut mistakes = Mistakes { text, found: Vec::new() };
        let scenario = raw.check(name, &mut mistakes);
        if mistakes.found.is_empty() {
            return Ok(scenario);
        }
        mistakes.found.sort();
        let told = mistakes.found.iter().map(|(line, what)| format!("{}:{line}: {what}", place.display()));
        Err(told.collect::<Vec<_>>().join("\n"))
    }

    /// The short form, where there is one.
    pub(crate) fn quick(mut self) -> Option<Scenario> {
        let quick = self.quick.take()?;
        self.rounds = quick.rounds;
        self.round = quick.round;
        self.warmup = self.warmup.min(Duration::from_millis(200));
        self.keep(&quick.cases, &quick.contenders);
        for case in &mut self.cases {
            case.round = None;
        }
        Some(self)
    }

    /// Leaves out what is not named; an empty list names all. Targets of what is left out go with it.
    pub(crate) fn keep(&mut self, cases: &[String], contenders: &[String]) {
        self.cases.retain(|case| cases.is_empty() || cases.contains(&case.name));
        self.contenders.retain(|one| contenders.is_empty() || contenders.contains(&one.name));
        let (cases, contenders) = (&self.cases, &self.contenders);
        let there = |name: &String| contenders.iter().any(|one| one.name == *name);
        self.targets.retain(|target| {
            cases.iter().any(|case| case.name == target.case) && there(&target.contender) && target.against.as_ref().is_none_or(there)
        });
    }

    /// What ratios are taken to: the one the file names, else the first contender that is a process.
    pub(crate) fn reference(&self) -> Option<&str> {
        let named = self.reference.as_deref().and_then(|name| self.contenders.iter().find(|one| one.name == name));
        named.or_else(|| self.contenders.iter().find(|one| one.peer != DIRECT)).map(|one| one.name.as_str())
    }

    /// Somebody is there to be measured.
    pub(crate) fn has_process(&self) -> bool {
        self.contenders.iter().any(|one| one.peer != DIRECT)
    }
}

/// Mistakes so far, with the line each is on.
struct Mistakes<'a> {
    text: &'a str,
    found: Vec<(usize, String)>,
}

impl Mistakes<'_> {
    fn add(&mut self, at: usize, what: String) {
        let line = self.text.get(..at).unwrap_or(self.text).matches('\n').count() + 1;
        self.found.push((line, what));
    }
}

const ROUNDS_MAX: u32 = 100;

impl Raw {
    fn check(self, name: String, mistakes: &mut Mistakes<'_>) -> Scenario {
        if !(1..=ROUNDS_MAX).contains(self.rounds.get_ref()) {
            mistakes.add(self.rounds.span().start, format!("rounds is 1 to {ROUNDS_MAX}"));
        }
        for (key, cores) in [("shard", &self.cores.shard), ("load", &self.cores.load)] {
            if cores.is_empty() {
                mistakes.add(0, format!("cores.{key} names no core; write {key} = [0]"));
            }
        }
        if self.columns.is_empty() {
            mistakes.add(0, "columns names no metric; the first is the one the plot draws".to_owned());
        }
        let cases = cases(&self.connections, self.cases, mistakes);
        let contenders = contenders(self.contenders, mistakes);
        let names = Names {
            cases: cases.iter().map(|case| case.name.clone()).collect(),
            contenders: contenders.iter().map(|one| one.name.clone()).collect(),
        };
        let targets = self.targets.into_iter().filter_map(|target| names.target(target, mistakes)).collect();
        if let Some(quick) = &self.quick {
            names.quick(quick, mistakes);
        }
        if let Some(reference) = &self.reference {
            names.contender(reference.get_ref(), reference.span().start, mistakes);
        }
        Scenario {
            name,
            shows: self.shows,
            rounds: self.rounds.into_inner(),
            round: self.round,
            warmup: self.warmup.unwrap_or(Duration::from_millis(500)),
            cores: self.cores,
            upstream: self.upstream,
            load: self.load,
            cases,
            contenders,
            targets,
            columns: self.columns,
            quick: self.quick.map(Spanned::into_inner),
            reference: self.reference.map(Spanned::into_inner),
        }
    }
}

fn cases(connections: &[u32], mut cases: Vec<Case>, mistakes: &mut Mistakes<'_>) -> Vec<Case> {
    let short = |count: &u32| Case { name: count.to_string(), args: vec!["-c".to_owned(), count.to_string()], round: None };
    let mut all: Vec<Case> = connections.iter().map(short).collect();
    all.append(&mut cases);
    if all.is_empty() {
        mistakes.add(0, "no case: write connections = [64] or [[cases]]".to_owned());
    }
    for (at, case) in all.iter().enumerate() {
        if all.iter().take(at).any(|other| other.name == case.name) {
            mistakes.add(0, format!("two cases are named {:?}", case.name));
        }
    }
    all
}

fn contenders(raw: Vec<Spanned<RawContender>>, mistakes: &mut Mistakes<'_>) -> Vec<Contender> {
    let mut all: Vec<Contender> = Vec::new();
    for one in raw {
        let at = one.span().start;
        let RawContender { name, peer, args, set, unix, cores } = one.into_inner();
        if all.iter().any(|other| other.name == name) {
            mistakes.add(at, format!("two contenders are named {name:?}"));
        }
        let peer = peer.unwrap_or_else(|| name.clone());
        if peer.is_empty() || peer.contains(['/', '.']) {
            mistakes.add(at, format!("{peer:?} is not a folder below peers/"));
        }
        all.push(Contender { name, peer, args, set, unix, cores });
    }
    if !all.iter().any(|one| one.peer != DIRECT) {
        mistakes.add(0, "no contender that is a process".to_owned());
    }
    all
}

/// What targets and the quick form may name.
struct Names {
    cases: Vec<String>,
    contenders: Vec<String>,
}

impl Names {
    fn target(&self, raw: Spanned<RawTarget>, mistakes: &mut Mistakes<'_>) -> Option<Target> {
        let at = raw.span().start;
        let RawTarget { contender, metric, against, case, at_most, at_least } = raw.into_inner();
        for name in std::iter::once(&contender).chain(&against) {
            self.contender(name, at, mistakes);
        }
        self.case(&case, at, mistakes);
        let bound = match (at_most, at_least) {
            (Some(most), None) => Bound::AtMost(most),
            (None, Some(least)) => Bound::AtLeast(least),
            _ => {
                mistakes.add(at, "a target has either at_most or at_least".to_owned());
                return None;
            }
        };
        Some(Target { contender, metric, against, case, bound })
    }

    fn quick(&self, quick: &Spanned<Quick>, mistakes: &mut Mistakes<'_>) {
        let (at, quick) = (quick.span().start, quick.get_ref());
        if !(1..=ROUNDS_MAX).contains(&quick.rounds) {
            mistakes.add(at, format!("quick.rounds is 1 to {ROUNDS_MAX}"));
        }
        quick.cases.iter().for_each(|name| self.case(name, at, mistakes));
        quick.contenders.iter().for_each(|name| self.contender(name, at, mistakes));
    }

    fn contender(&self, name: &str, at: usize, mistakes: &mut Mistakes<'_>) {
        if !self.contenders.iter().any(|known| known == name) {
            mistakes.add(at, format!("no contender is named {name:?}; there are {}", self.contenders.join(", ")));
        }
    }

    fn case(&self, name: &str, at: usize, mistakes: &mut Mistakes<'_>) {
        if !self.cases.iter().any(|known| known == name) {
            mistakes.add(at, format!("no case is named {name:?}; there are {}", self.cases.join(", ")));
        }
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = parse_duration(&text).ok().filter(|time| !time.is_zero());
    parsed.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a duration; write a number and a unit, like \"2s\"")))
}

fn duration_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
