//! Clients that send almost requests: each gets an answer or a close, the upstream never sees anything with two readings, and the
//! gateway serves on. `HEADRACE_SEED` replays from another seed.

use std::sync::Arc;

use crate::client::{Client, crowd, find, get, is_end, join, post};
use crate::gate::{Dice, Gate};
use crate::upstream::{Reply, Upstream, ok};

const CONFIG: &str = r#"
[server]
header_timeout = "200ms"
body_timeout = "200ms"
idle_timeout = "200ms"
max_body = "64KiB"

[[upstreams]]
name = "up"
endpoints = ["$UP"]
first_byte_timeout = "2s"

[[models]]
name = "m"
upstream = "up"

[[routes]]
path = "/r"
upstream = "up"
"#;

const MUTATIONS: usize = 500;
const THREADS: usize = 25;

/// What requests are hidden with, between proxies that read differently.
const TOKENS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\r\n ",
    ":",
    " :",
    "\u{b}",
    "\x7f",
    "\u{e9}",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "transfer-encoding:\tchunked\r\n",
    "transfer-encoding : chunked\r\n",
    "transfer-encoding: identity, chunked\r\n",
    "transfer-encoding: chunked, chunked\r\n",
    "content-length: 5\r\n",
    "content-length: 5, 5\r\n",
    "content-length: +5\r\n",
    "content-length: -1\r\n",
    "content-length: 0x5\r\n",
    "content-length: 99999999999999999999\r\n",
    "content_length: 5\r\n",
    "host: other\r\n",
    "connection: content-length, transfer-encoding, host\r\n",
    "connection: close\r\n",
    "expect: 100-continue\r\n",
    "upgrade: h2c\r\nconnection: upgrade, http2-settings\r\n",
    "trailer: content-length\r\n",
    "te: trailers\r\n",
    "x: a\r\n b\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "HTTP/2.0",
    "http://other/",
    "GET /smuggled HTTP/1.1\r\nhost: gate\r\n\r\n",
    "0\r\n\r\n",
    "0;a=b\r\n\r\n",
    "5\r\nhello\r\n",
    "5;\nx\r\nhello\r\n",
    "fffffffffffffffff\r\n",
    "-1\r\n",
    "%2e%2e/",
    "/../",
    "%00",
    "#f",
    "?a b",
];

fn valid(dice: &mut Dice) -> Vec<u8> {
    let chunked =
        "POST /r/c HTTP/1.1\r\nhost: gate\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-trailer: 1\r\n\r\n";
    match dice.below(6) {
        0 => get("/r/a/b?c=d"),
        1 => post("/r/p", "hello GET /smuggled HTTP/1.1\r\nhost: gate\r\n\r\n"),
        2 => chunked.to_owned(),
        3 => post("/v1/embeddings", r#"{"model":"m","input":["one","two"]}"#),
        4 => post("/v1/chat/completions", r#"{"model":"m","messages":[]}"#),
        _ => post("/r/1", "body") + &get("/r/2") + &post("/r/3", "more"),
    }
    .into_bytes()
}

fn mutated(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = valid(dice);
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        let line_start = |at: usize| bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        match dice.below(9) {
            0 => bytes[at] = dice.below(256) as u8,
            1 => bytes[at] ^= 1 << dice.below(8),
            2 | 3 => {
                let token = TOKENS[dice.below(TOKENS.len())];
                bytes.splice(at..at, token.bytes());
            }
            4 | 5 => {
                let (start, token) = (line_start(at), TOKENS[dice.below(TOKENS.len())]);
                bytes.splice(start..start, token.bytes());
            }
            6 => {
                let end = (at + 1 + dice.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            7 => {
                let start = line_start(at);
                let line: Vec<u8> = bytes[start..].iter().copied().take_while(|byte| *byte != b'\n').chain([b'\n']).collect();
                bytes.splice(start..start, line);
            }
            _ => bytes.truncate(at),
        }
        if bytes.is_empty() {
            return b"\r\n".to_vec();
        }
    }
    bytes
}

#[test]
fn five_hundred_mutations_of_requests_end_and_go_up_with_one_reading_or_not_at_all() {
    let seed: u64 = std::env::var("HEADRACE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let up = Upstream::new(|seen, _| {
        let mut answer = ok("{}");
        if seen.method == "HEAD" {
            answer.truncate(find(&answer, b"\r\n\r\n").unwrap() + 4);
        }
        Reply::Bytes(answer)
    });
    let gate = Gate::new(2, CONFIG, &up.url());
    let (addr, passed) = (gate.addr, Arc::new(std::sync::atomic::AtomicU64::new(0)));
    let counted = Arc::clone(&passed);
    join(crowd(THREADS, move |thread| {
        let mut dice = Dice(seed * 1_000_003 + thread as u64);
        for _ in 0..MUTATIONS / THREADS {
            let bytes = mutated(&mut dice);
            let mut client = Client::tcp(addr);
            // In one piece, or in two.
            let cut = if dice.below(2) == 0 { bytes.len() } else { dice.below(bytes.len() + 1) };
            let sent = client.try_send(&bytes[..cut]).and_then(|()| client.try_send(&bytes[cut..]));
            assert!(sent.as_ref().err().is_none_or(is_end), "{sent:?}");
            let rest = client.rest().unwrap_or_else(|error| panic!("{error} for {:?}", String::from_utf8_lossy(&bytes)));
            let answered = rest.is_empty() || rest.starts_with(b"HTTP/1.1 ");
            assert!(answered, "{:?} for {:?}", String::from_utf8_lossy(&rest), String::from_utf8_lossy(&bytes));
            counted.fetch_add(u64::from(rest.starts_with(b"HTTP/1.1 200")), std::sync::atomic::Ordering::Relaxed);
        }
    }));
    let passed = passed.load(std::sync::atomic::Ordering::Relaxed);
    assert!(passed > 20 && passed < MUTATIONS as u64 - 100, "the mutations are neither all harmless nor all refused: {passed} passed");
    assert!(up.count() > 20);
    gate.comes_to_rest();
    assert_eq!(gate.client().ask(get("/r/still")).status, 200);
    // What went up is judged when the upstream is dropped.
}
