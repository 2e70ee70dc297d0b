//! `headrace-loadtest run` from end to end on loopback: real processes, tiny rounds. It asserts what must be in the results, never how fast
//! anything was.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop loudly")]
#![expect(clippy::disallowed_methods, reason = "a test of a command-line tool reads and writes files and waits for processes")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const LOADTEST: &str = env!("CARGO_BIN_EXE_headrace-loadtest");

/// A folder of its own for one test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Cores this process may use: the first for the contender, the last for the load.
fn cores() -> (usize, usize) {
    let cores = headrace::sys::cores::allowed_cores();
    (*cores.first().unwrap(), *cores.last().unwrap())
}

/// `headrace` beside the load test's own binary: a test of one package does not build the other's.
fn build_headrace() {
    let release: &[&str] = if LOADTEST.contains("/release/") { &["--release"] } else { &[] };
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "headrace", "--bin", "headrace"]).args(release).status();
    assert!(built.unwrap().success());
}

fn run(folder: &Path, port: &str, args: &[&str]) -> Output {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let mut command = Command::new(LOADTEST);
    command.arg("run").arg("--peers").arg(peers).arg("--work").arg(folder.join("work")).args(["--port", port]).args(args);
    command.current_dir(folder).output().unwrap()
}

fn scenario(contenders: &str) -> String {
    let (shard, load) = cores();
    format!(
        r#"shows = "a test"
rounds = 2
round = "200ms"
warmup = "50ms"
columns = ["cpu_us", "requests_per_second", "p50_added_us", "rss_mib", "errors", "wrong"]
connections = [2]

[cores]
shard = [{shard}]
load = [{load}]

[upstream]
kind = "light"

[load]
path = "/forward"
args = ["--body-bytes", "70"]
{contenders}"#
    )
}

#[test]
fn contenders_are_measured_and_nobody_is_left_behind() {
    build_headrace();
    let folder = folder("side-by-side");
    let text = scenario(
        "
[[contenders]]
name = \"direct\"

[[contenders]]
name = \"headrace\"

[[contenders]]
name = \"headrace epoll\"
peer = \"headrace\"
args = [\"--io\", \"epoll\"]
unix = true

[[contenders]]
name = \"broken\"
peer = \"headrace\"
args = [\"--no-such-flag\"]

[[targets]]
contender = \"headrace epoll\"
metric = \"errors\"
case = \"2\"
at_most = 0
",
    );
    fs::write(folder.join("tiny.toml"), text).unwrap();
    fs::write(folder.join("doc.md"), "<!-- figures:tiny -->\n<!-- /figures -->\n").unwrap();
    let shown = ["--json", "r.json", "--svg", "r.svg", "--markdown", "r.md", "--refresh", "doc.md"];
    let done = run(&folder, "22500", &[&["tiny.toml"], &shown[..]].concat());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        !done.status.success() && said.contains("fault: broken: "),
        "a contender that does not start is told and fails the run\n{said}"
    );
    let results: Value = serde_json::from_str(&fs::read_to_string(folder.join("r.json")).unwrap()).unwrap();
    let tiny = &results["scenarios"][0];
    let contenders = tiny["cases"][0]["contenders"].as_array().unwrap();
    assert_eq!(contenders.len(), 4, "{results:#}");
    for one in &contenders[1..3] {
        for metric in ["cpu_us", "requests_per_second", "p50_added_us", "rss_mib"] {
            let rounds = one["figures"][metric]["rounds"].as_array().unwrap();
            assert!(rounds.len() == 2 && rounds.iter().all(Value::is_number), "{metric}: {one:#}");
        }
        assert!(one["figures"]["cpu_us"]["median"].as_f64().unwrap() > 0.0);
        assert_eq!(one["figures"]["wrong"]["max"], 0.0);
    }
    assert!(contenders[0]["figures"]["cpu_us"].is_null(), "the direct contender is no process");
    assert_eq!(contenders[3]["figures"], serde_json::json!({}));
    assert_eq!(tiny["verdicts"][0]["met"], true);
    let table = String::from_utf8(done.stdout).unwrap();
    let doc = fs::read_to_string(folder.join("doc.md")).unwrap();
    for text in [&table, &doc, &fs::read_to_string(folder.join("r.md")).unwrap(), &fs::read_to_string(folder.join("r.svg")).unwrap()] {
        assert!(text.contains("headrace epoll") && text.contains("broken"), "{text}");
    }
    assert_eq!(left_behind(&folder), Vec::<String>::new());
    let again = run(&folder, "22500", &["--from", "r.json"]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), table, "stored results show the same");
}

#[test]
fn an_interrupt_ends_everything_that_was_started() {
    build_headrace();
    let folder = folder("interrupted");
    let text = scenario("\n[[contenders]]\nname = \"headrace\"\n").replace("200ms", "20s");
    fs::write(folder.join("long.toml"), text).unwrap();
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let mut command = Command::new(LOADTEST);
    command.arg("run").arg("--peers").arg(peers).args(["--work", "work", "--port", "22550", "long.toml"]).current_dir(&folder);
    let mut child = command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
    // The generator's folder appears when the stage is set and the first round begins.
    while !folder.join("work/long/generator/stdout").exists() {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    assert!(!left_behind(&folder).is_empty());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(left_behind(&folder), Vec::<String>::new());
}

/// Processes whose working folder is below this test's.
fn left_behind(folder: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let ours = processes.filter(|place| fs::read_link(place.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder.join("work"))));
    ours.filter_map(|place| fs::read_to_string(place.join("cmdline")).ok()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn mistakes_are_told_before_anything_starts() {
    let folder = folder("mistakes");
    fs::write(folder.join("bad.toml"), scenario("\n[[contenders]]\nname = \"headrace\"\n").replace("rounds = 2", "rounds = 0")).unwrap();
    let far = scenario("\n[[contenders]]\nname = \"headrace\"\n").replace("shard = [", "shard = [4096, ");
    fs::write(folder.join("far.toml"), far).unwrap();
    for (args, told) in [
        (&["bad.toml"][..], "bad.toml:2: rounds is 1 to 100"),
        (&["none.toml"], "none.toml: No such file"),
        (&["far.toml"], "core 4096 is not among those"),
        (&["far.toml", "--quick"], "nothing is left to measure"),
        (&["--from", "bad.toml"], "bad.toml: "),
    ] {
        let done = run(&folder, "22590", args);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(told), "{args:?}: {said}");
    }
    assert!(!folder.join("work").exists());
}
