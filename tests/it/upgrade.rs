//! A new process takes the place of the one that serves, under load: nobody is failed, no stream is cut. And one that cannot start
//! changes nothing. `HEADRACE_UPGRADES` says how many there are (default 5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use headrace::mock::MockConfig;
use rustix::process::{Signal, kill_process};

use crate::client::{Client, crowd, embed, get, join, post};
use crate::gate::{eventually, mock, sum};
use crate::program::{Program, is_alive};

const TEXT: &str = r#"
[server]
listen = ["$LISTEN"]

[admin]
listen = "$ADMIN"

[[upstreams]]
name = "up"
endpoints = ["$UP"]

[[models]]
name = "m"
upstream = "up"
"#;

/// Asks on kept connections, and opens another when the answer says that this one ends.
fn asks(
    addr: std::net::SocketAddr,
    stop: &AtomicBool,
    done: &AtomicU64,
    request: impl Fn(u64) -> String,
    check: impl Fn(u64, &crate::client::Answer),
) {
    let mut client = Client::tcp(addr);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let answer = client.ask(request(number));
        check(number, &answer);
        done.fetch_add(1, Ordering::Relaxed);
        if answer.field("connection") == Some("close") {
            client = Client::tcp(addr);
        }
    }
}

#[test]
fn upgrades_under_load_fail_nobody_and_cut_no_stream() {
    let upgrades: u64 = std::env::var("HEADRACE_UPGRADES").ok().and_then(|count| count.parse().ok()).unwrap_or(5);
    let words = 40;
    let upstream = mock(MockConfig { chat_delay: std::time::Duration::from_millis(5), chat_events: words, ..MockConfig::default() });
    let program = Program::serve(2, TEXT, &upstream.url());
    let addr = program.addr;
    let (stop, done, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (stopping, counted) = (Arc::clone(&stop), Arc::clone(&done));
    let calls = crowd(8, move |client| {
        let text = move |number: u64| format!("client {client} request {number}");
        asks(addr, &stopping, &counted, |number| embed(&text(number)), |number, answer| answer.is_embedding_of(&text(number)));
    });
    let (stopping, counted) = (Arc::clone(&stop), Arc::clone(&streams));
    let chats = crowd(4, move |_| {
        let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"tell"}]}"#;
        let request = |_| post("/v1/chat/completions", body);
        asks(addr, &stopping, &counted, request, |_, answer| {
            assert_eq!(answer.status, 200);
            assert!(answer.text().trim_end().ends_with("data: [DONE]"), "the stream was cut: {}", answer.text());
            assert!(answer.text().matches("\ndata: ").count() >= words as usize);
        });
    });
    // New connections all the time: each lands in somebody's queue.
    let (stopping, counted) = (Arc::clone(&stop), Arc::clone(&done));
    let fresh = crowd(2, move |_| {
        while !stopping.load(Ordering::Relaxed) {
            assert_eq!(Client::tcp(addr).ask(get("/v1/models")).status, 200);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    for upgrade in 1..=upgrades {
        let (calls, chats) = (done.load(Ordering::Relaxed), streams.load(Ordering::Relaxed));
        eventually("clients are served", || done.load(Ordering::Relaxed) > calls + 100 && streams.load(Ordering::Relaxed) > chats + 4);
        let old = program.upgrade();
        eventually(&format!("the old process of upgrade {upgrade} has ended"), || !is_alive(old));
    }
    let last = done.load(Ordering::Relaxed);
    eventually("the last process serves", || done.load(Ordering::Relaxed) > last + 100);
    stop.store(true, Ordering::Relaxed);
    join(calls);
    join(chats);
    join(fresh);
    let pid = program.pid().unwrap();
    program.comes_to_rest();
    kill_process(pid, Signal::TERM).unwrap();
    eventually("the last process ends", || !is_alive(pid));
    assert!(std::net::TcpStream::connect(addr).is_err(), "no queue is left that nobody serves");
}

#[test]
fn a_new_process_that_cannot_start_changes_nothing() {
    let upstream = mock(MockConfig::default());
    let program = Program::serve(2, TEXT, &upstream.url());
    let text = std::fs::read_to_string(&program.file).unwrap();
    std::fs::write(&program.file, "this is no configuration").unwrap();
    let old = program.pid().unwrap();
    let mut client = Client::tcp(program.addr);
    client.ask(embed("before")).is_embedding_of("before");
    kill_process(old, Signal::USR2).unwrap();
    eventually("it has failed", || sum(&program.metrics(), "headrace_upgrades_failed_total", &[]) == 1.0);
    assert_eq!(program.pid(), Some(old));
    client.ask(embed("between")).is_embedding_of("between");
    std::fs::write(&program.file, text).unwrap();
    assert_eq!(program.upgrade(), old);
    eventually("the old process finishes and asks to come again", || {
        let answer = client.ask(embed("after"));
        answer.is_embedding_of("after");
        answer.field("connection") == Some("close")
    });
    Client::tcp(program.addr).ask(embed("new")).is_embedding_of("new");
    eventually("the old process has ended", || !is_alive(old));
}
