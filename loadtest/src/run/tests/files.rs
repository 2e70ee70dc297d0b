//! Scenario files and peers' folders: what is understood, and that every mistake is told with its place.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::run::metric::Metric;
use crate::run::peer::{Peer, Places, fill};
use crate::run::scenario::{Bound, Scenario, Upstream, Verify};

const GOOD: &str = r#"shows = "something"
rounds = 3
round = "250ms"
columns = ["cpu_us", "p99_us"]
connections = [8]

[cores]
shard = [0]
load = [1]

[upstream]
kind = "mock"
args = ["--cost", "0ms"]

[load]
path = "/v1/embeddings"
args = ["--model", "m"]

[[cases]]
name = "idle"
args = ["--idle", "5"]
round = "1s"

[[contenders]]
name = "direct"

[[contenders]]
name = "nginx"

[[contenders]]
name = "ours"
peer = "headrace"
unix = true
set = { SHARDS = "2" }

[[targets]]
contender = "ours"
metric = "cpu_us"
against = "nginx"
case = "8"
at_most = 0.5

[[targets]]
contender = "ours"
metric = "p99_us"
case = "idle"
at_least = 2

[quick]
rounds = 1
round = "10ms"
cases = ["8"]
contenders = ["direct", "ours"]
"#;

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse(Path::new("scenarios/example.toml"), text)
}

#[test]
fn a_scenario_is_understood() {
    let one = parse(GOOD).unwrap();
    assert_eq!((one.name.as_str(), one.rounds, one.round), ("example", 3, Duration::from_millis(250)));
    let cases: Vec<_> = one.cases.iter().map(|case| (case.name.as_str(), case.args.join(" "), case.round)).collect();
    assert_eq!(cases, [("8", "-c 8".to_owned(), None), ("idle", "--idle 5".to_owned(), Some(Duration::from_secs(1)))]);
    assert_eq!(one.upstream, Upstream::Mock { args: vec!["--cost".to_owned(), "0ms".to_owned()] });
    assert_eq!((one.load.verify, one.load.model()), (Verify::Same, "m"));
    assert_eq!(one.columns, [Metric::CpuUs, Metric::P99Us]);
    assert_eq!(one.reference(), Some("nginx"), "the first that is a process");
    assert_eq!(one.contenders.last().map(|last| (last.peer.as_str(), last.unix)), Some(("headrace", true)));
    assert_eq!(one.targets.iter().map(|target| target.bound).collect::<Vec<_>>(), [Bound::AtMost(0.5), Bound::AtLeast(2.0)]);
}

#[test]
fn the_short_form_leaves_out_what_it_does_not_name() {
    let quick = parse(GOOD).unwrap().quick().unwrap();
    assert_eq!((quick.rounds, quick.round, quick.cases.len(), quick.contenders.len()), (1, Duration::from_millis(10), 1, 2));
    assert!(quick.targets.is_empty(), "one is against a contender that is left out, the other at a case that is");
    assert_eq!(quick.reference(), Some("ours"));
    let without = GOOD.split("[quick]").next().unwrap();
    assert!(parse(without).unwrap().quick().is_none());
}

#[test]
fn every_mistake_is_told_with_its_line() {
    for (from, to, told) in [
        ("rounds = 3", "rounds = 0", "scenarios/example.toml:2: rounds is 1 to 100"),
        ("rounds = 3", "rounds = 3\nspeed = 1", "unknown field `speed`"),
        ("[\"cpu_us\", ", "[\"cpu\", ", "unknown variant `cpu`"),
        ("\"250ms\"", "\"250\"", "is not a duration"),
        ("\"250ms\"", "\"0ms\"", "is not a duration"),
        ("shard = [0]", "shard = []", "cores.shard names no core"),
        ("name = \"idle\"", "name = \"8\"", "two cases are named \"8\""),
        ("name = \"nginx\"", "name = \"direct\"", "two contenders are named \"direct\""),
        ("peer = \"headrace\"", "peer = \"../x\"", "example.toml:30: \"../x\" is not a folder below peers/"),
        ("contender = \"ours\"\nmetric = \"cpu_us\"", "contender = \"theirs\"\nmetric = \"cpu_us\"", "no contender is named \"theirs\""),
        ("case = \"8\"", "case = \"9\"", "no case is named \"9\"; there are 8, idle"),
        ("at_most = 0.5", "at_most = 0.5\nat_least = 1", "example.toml:36: a target has either at_most or at_least"),
        ("cases = [\"8\"]\ncont", "cases = [\"7\"]\ncont", "example.toml:49: no case is named \"7\""),
        ("rounds = 3", "rounds = 3\nreference = \"x\"", "example.toml:3: no contender is named \"x\""),
        ("kind = \"mock\"", "kind = \"real\"", "unknown variant `real`"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(told), "{from} -> {to}\n{error}");
    }
    let two = GOOD.replacen("rounds = 3", "rounds = 0", 1).replacen("case = \"8\"", "case = \"9\"", 1);
    assert_eq!(parse(&two).unwrap_err().lines().count(), 2);
}

#[test]
fn the_scenarios_and_peers_of_the_repository_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for entry in std::fs::read_dir(root.join("scenarios")).unwrap() {
        let place = entry.unwrap().path();
        let text = String::from_utf8(std::fs::File::open(&place).and_then(|mut file| read_all(&mut file)).unwrap()).unwrap();
        let scenario = Scenario::parse(&place, &text).unwrap();
        for contender in scenario.contenders.iter().filter(|one| one.peer != "direct") {
            let folder = root.join("peers").join(&contender.peer);
            let peer = Peer::read(&folder).unwrap();
            let start = peer.fill(&folder, &contender.args, &contender.set, &places()).unwrap();
            assert!(!start.command.is_empty() && start.files.iter().all(|(_, text)| !text.is_empty()));
        }
        if let Upstream::Server { peer } = &scenario.upstream {
            Peer::read(&root.join("peers").join(peer)).unwrap();
        }
        seen += 1;
    }
    assert!(seen >= 10, "{seen} scenarios");
}

fn read_all(file: &mut impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map(|_| bytes)
}

fn places() -> Places {
    let names = ["DIR", "PEER", "INSTALLED", "BIN", "PORT", "ADMIN_PORT", "UPSTREAM", "UPSTREAM_URL", "UPSTREAM_PORT"];
    names.into_iter().map(|name| (name.to_owned(), "x".to_owned())).collect()
}

#[test]
fn headrace_takes_every_configuration_a_scenario_makes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("peers/headrace");
    let peer = Peer::read(&folder).unwrap();
    let mut all = places();
    for (name, value) in [("PORT", "8080"), ("ADMIN_PORT", "9090"), ("UPSTREAM_URL", "unix:/run/a.sock")] {
        all.insert(name.to_owned(), value.to_owned());
    }
    for set in [BTreeMap::new(), BTreeMap::from([("SERVER".to_owned(), "max_connections = 12000".to_owned())])] {
        let start = peer.fill(&folder, &[], &set, &all).unwrap();
        let (name, text) = start.files.first().unwrap();
        headrace::config::check(name, text).unwrap();
    }
}

#[test]
fn places_are_filled() {
    let places = Places::from([("A".to_owned(), "1".to_owned()), ("B_2".to_owned(), String::new())]);
    assert_eq!(fill("x@A@y@B_2@z @a@ me@host @ @@", &places).unwrap(), "x1yz @a@ me@host @ @@");
    assert!(fill("@C@", &places).unwrap_err().contains("@C@"));
}
