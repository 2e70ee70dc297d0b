//! What concerns a whole process, descriptors and signals, needs one to itself: these tests start this test program again with
//! only themselves in it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::super::{Ended, StartOptions, load, start};
use super::{TempFile, admin, ask, begin_exchange, config, line, started, text, two_shards};

const ALONE: &str = "HEADRACE_TEST_ALONE";

/// Whether this is the process that has the test to itself; the value says what it shall do.
fn part() -> Option<String> {
    std::env::var(ALONE).ok()
}

fn alone(test: &str, part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "--test-threads=1", &format!("control::tests::process::{test}")]).env(ALONE, part);
    command
}

#[test]
fn many_starts_and_ends_leave_no_descriptor_and_no_thread() {
    if part().is_none() {
        let output = alone("many_starts_and_ends_leave_no_descriptor_and_no_thread", "count").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    let cycle = |round: usize| {
        let gateway = started(config());
        let addr = gateway.addrs()[0];
        assert!(ask(addr, "/nowhere").starts_with("HTTP/1.1 "));
        gateway.reload(config()).unwrap();
        let begun = begin_exchange(addr);
        match round % 3 {
            0 => drop(gateway),
            1 => assert_eq!(gateway.stop(), Ok(Ended::Cut)),
            _ => {
                drop(begun);
                assert_eq!(gateway.drain(), Ok(Ended::Clean));
            }
        }
    };
    // The first round opens what the process keeps.
    cycle(0);
    let before = (count("/proc/self/fd"), count("/proc/self/task"));
    for round in 0..12 {
        cycle(round);
    }
    let settled = || before == (count("/proc/self/fd"), count("/proc/self/task"));
    // A thread that was joined may be seen for a moment more.
    let deadline = crate::runtime::RealClock::start();
    while !settled() && deadline.now().as_nanos() < 5_000_000_000 {
        std::thread::yield_now();
    }
    assert_eq!(before, (count("/proc/self/fd"), count("/proc/self/task")));
}

/// A process that serves and tells, a line each, what it listens on and how it ended.
struct Server {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(test: &str, part: &str) -> Server {
        let mut child = alone(test, part).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Server { child, lines }
    }

    /// What it says after this word.
    fn said(&mut self, word: &str) -> String {
        let line = self.lines.find_map(|line| line.unwrap().split_once(word).map(|(_, rest)| rest.trim().to_owned()));
        line.unwrap_or_else(|| panic!("it never said {word}"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The serving process's side. The drain timeout is long: what ends it is a signal or the end of its work.
fn serve(part: &str) {
    let options = StartOptions { signals: true, config_path: Some(part.into()), ..two_shards() };
    let mut config = load(part.as_ref()).unwrap();
    config.server.drain_timeout = Duration::from_secs(600);
    let gateway = start(config, options).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "LISTENS {}", gateway.addrs()[0]).unwrap();
    writeln!(out, "ADMIN {}", gateway.admin_addr()).unwrap();
    let ended = gateway.wait();
    writeln!(out, "ENDED {ended:?}").unwrap();
}

#[test]
fn signals_reload_drain_and_cut() {
    const TEST: &str = "signals_reload_drain_and_cut";
    if let Some(part) = part() {
        return serve(&part);
    }
    let file = TempFile::new("signals.toml", &text(3));
    for (first, second) in
        [(Signal::TERM, None), (Signal::INT, None), (Signal::TERM, Some(Signal::TERM)), (Signal::INT, Some(Signal::TERM))]
    {
        file.write(&text(3));
        let mut server = Server::start(TEST, file.path.to_str().unwrap());
        let addr = server.said("LISTENS").parse().unwrap();
        let admin_addr = server.said("ADMIN").parse().unwrap();
        let metric = |begin: &str| line(&ask(admin_addr, "/metrics"), begin).rsplit_once(' ').unwrap().1.to_owned();

        server.signal(Signal::HUP);
        while metric("headrace_config_reloads_total{result=\"ok\"}") != "1" {}
        file.write("nonsense");
        server.signal(Signal::HUP);
        while metric("headrace_config_reloads_total{result=\"failed\"}") != "1" {}
        assert!(ask(addr, "/nowhere").starts_with("HTTP/1.1 "), "it goes on");

        let begun = second.map(|_| begin_exchange(addr));
        for _ in 0..3 {
            assert!(ask(admin_addr, "/livez").starts_with("HTTP/1.1 200"));
        }
        server.signal(first);
        if let Some(second) = second {
            while ask(admin_addr, "/readyz").starts_with("HTTP/1.1 200") {}
            server.signal(second);
        }
        let expected = if second.is_some() { "Ok(Cut)" } else { "Ok(Clean)" };
        assert_eq!(server.said("ENDED"), expected);
        assert!(server.child.wait().unwrap().success());
        drop(begun);
    }
}

#[test]
fn the_admin_page_bears_a_crowd() {
    let gateway = started(config());
    let silent: Vec<_> = (0..40).map(|_| super::connect(gateway.admin_addr())).collect();
    for _ in 0..100 {
        assert_eq!(admin(&gateway, "/readyz").0, 200);
    }
    drop(silent);
}
