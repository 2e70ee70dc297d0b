//! Limits, as clients of several shards see them: never more at the upstream than allowed, whichever shard they are on and whatever is
//! reloaded; and a process that is driven over its ceiling on memory and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headrace::mock::MockConfig;

use crate::client::{Client, crowd, get, join, post};
use crate::gate::{Gate, config, eventually, mock, sum};
use crate::program::Program;
use crate::upstream::{Reply, Upstream, ok};

const LIMITED: &str = r#"
[[upstreams]]
name = "up"
endpoints = ["$UP"]
concurrency = { limit = 3, queue_timeout = "60s" }

[[routes]]
path = "/"
upstream = "up"
"#;

fn chat() -> String {
    post("/v1/chat/completions", r#"{"model":"m","max_tokens":4,"messages":[{"role":"user","content":"hello"}]}"#)
}

/// An upstream that counts how many are with it at a time.
fn counting(most: &Arc<AtomicU64>) -> Upstream {
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::clone(most));
    Upstream::new(move |seen, _| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Long enough for others to come, if they may.
        std::thread::sleep(std::time::Duration::from_millis(1));
        now.fetch_sub(1, Ordering::SeqCst);
        Reply::Bytes(ok(&seen.body))
    })
}

#[test]
fn a_limit_holds_for_all_shards_together_and_through_reloads() {
    let most = Arc::new(AtomicU64::new(0));
    let up = counting(&most);
    let gate = Gate::new(3, LIMITED, &up.url());
    let addr = gate.addr;
    let clients = crowd(24, move |number| {
        let mut client = Client::tcp(addr);
        for request in 0..60 {
            let text = format!("{number}/{request}");
            let answer = client.ask(post("/files/a", &text));
            assert_eq!((answer.status, answer.text()), (200, text.as_str()), "{}", answer.head);
        }
    });
    let text = LIMITED.replace("[[upstreams]]", "[[upstreams]]\nname = \"first\"\nendpoints = [\"http://127.0.0.1:1\"]\n[[upstreams]]");
    for round in 0..6 {
        let text = if round % 2 == 0 { &text } else { LIMITED };
        gate.gateway.reload(config(text, &up.url())).expect("it is taken");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    join(clients);
    assert_eq!(most.load(Ordering::SeqCst), 3, "all of the limit was used, and no more");
    assert_eq!(gate.metric("headrace_requests_total", &[("status", "200")]), 24.0 * 60.0);
    assert!(gate.metric("headrace_admission_wait_seconds_count", &[]) > 0.0);
    gate.comes_to_rest();
    assert_eq!(gate.metric("headrace_admission_waiting", &[]), 0.0);
    assert_eq!(gate.metric("headrace_admission_in_flight", &[]), 0.0);
    eventually("the limit is shown once", || gate.metric("headrace_admission_limit", &[("upstream", "up")]) == 3.0);
}

/// One place, many shards: word of a free place must reach whoever waits, or somebody waits for ever.
#[test]
fn a_single_place_goes_round_all_shards() {
    let most = Arc::new(AtomicU64::new(0));
    let up = counting(&most);
    let gate = Gate::new(4, &LIMITED.replace("limit = 3", "limit = 1"), &up.url());
    let addr = gate.addr;
    join(crowd(16, move |number| {
        for request in 0..10 {
            // A connection each: wherever it lands.
            let text = format!("{number}/{request}");
            assert_eq!(Client::tcp(addr).ask(post("/a", &text)).text(), text);
        }
    }));
    assert_eq!(most.load(Ordering::SeqCst), 1);
    gate.comes_to_rest();
}

const SMALL: &str = r#"
[server]
listen = ["$LISTEN"]
memory_max = "96MiB"
max_held = "2GiB"
receive_buffers = 64

[admin]
listen = "$ADMIN"

[[upstreams]]
name = "up"
endpoints = ["$UP"]

[[models]]
name = "*"
upstream = "up"

[[routes]]
path = "/health"
upstream = "up"
"#;

/// Clients that send bodies and never end them take the memory; the process sheds, serves whom it can, lives, and recovers.
#[test]
fn a_process_at_its_ceiling_sheds_and_recovers() {
    let upstream = mock(MockConfig::default());
    let program = Program::serve(2, SMALL, &upstream.url());
    const PIECE: usize = 4 << 20;
    let head = format!("POST /v1/embeddings HTTP/1.1\r\nhost: g\r\ncontent-length: {}\r\n\r\n", PIECE + 1);
    let body = vec![b'x'; PIECE];
    // Beside them others ask for little: each gets its answer, or is told why not.
    let (addr, stop) = (program.addr, Arc::new(AtomicU64::new(0)));
    let stopping = Arc::clone(&stop);
    let others = crowd(4, move |_| {
        let (mut client, mut served) = (Client::tcp(addr), 0);
        while stopping.load(Ordering::SeqCst) == 0 {
            let answer = client.ask(chat());
            match (answer.status, answer.field("x-headrace-error")) {
                (200, None) => served += 1,
                (503, Some("memory_full")) => {}
                other => panic!("{other:?}"),
            }
            if answer.field("connection") == Some("close") {
                client = Client::tcp(addr);
            }
        }
        served
    });
    let mut holders = Vec::new();
    let shed = |program: &Program| sum(&program.metrics(), "headrace_shed_total", &[("reason", "memory_full")]);
    eventually("bodies are refused", || {
        let mut client = Client::tcp(program.addr);
        let _ = client.try_send(head.as_bytes()).and_then(|()| client.try_send(&body));
        holders.push(client);
        assert!(holders.len() < 1000, "a gigabyte is held and nothing refused");
        shed(&program) > 0.0
    });
    let samples = program.metrics();
    let resident = sum(&samples, "headrace_memory_resident_bytes", &[]);
    assert_eq!(sum(&samples, "headrace_memory_max_bytes", &[]), f64::from(96_u32 << 20));
    assert!(resident < f64::from(160_u32 << 20), "{resident} bytes");
    drop(holders);
    stop.store(1, Ordering::SeqCst);
    assert!(join(others).into_iter().all(|served| served > 0));
    // What was held is free: everybody is served again, large bodies too.
    eventually("it recovers", || Client::tcp(program.addr).ask(chat()).status == 200);
    eventually("large ones too", || {
        let text = "y".repeat(1 << 20);
        let body = format!(r#"{{"model":"m","max_tokens":4,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        Client::tcp(program.addr).ask(post("/v1/chat/completions", &body)).status == 200
    });
    assert_eq!(Client::tcp(program.addr).ask(get("/health")).status, 200);
    program.comes_to_rest();
}
