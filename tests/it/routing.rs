//! Which endpoint gets a call, through whole gateways of several shards: sessions, keys, prompts, reported load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use headrace::config::Config;
use headrace::control::StartOptions;

use crate::client::Client;
use crate::gate::{Gate, config, eventually};
use crate::upstream::{Reply, Upstream, ok};

/// Servers that answer with their number; with a count of waiting requests they tell it to scrapes, else those fail.
struct Servers {
    servers: Vec<Upstream>,
    waiting: Arc<Vec<AtomicU32>>,
}

const SILENT: u32 = u32::MAX;

impl Servers {
    fn new(count: usize) -> Servers {
        let waiting: Arc<Vec<AtomicU32>> = Arc::new((0..count).map(|_| AtomicU32::new(SILENT)).collect());
        let server = |number: usize| {
            let waiting = Arc::clone(&waiting);
            Upstream::new(move |seen, _| match (seen.target.as_str(), waiting[number].load(Ordering::Acquire)) {
                ("/metrics", SILENT) => {
                    Reply::ThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n<oops".to_vec())
                }
                ("/metrics", count) => {
                    let text = format!("# a comment\nvllm:num_requests_waiting{{engine=\"0\"}} {count}.0\n");
                    let (one, other) = text.split_at(20);
                    let chunks = [one, other].map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).concat();
                    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
                    Reply::ThenClose(format!("{head}{chunks}0\r\n\r\n").into_bytes())
                }
                _ => Reply::Bytes(ok(number.to_string())),
            })
        };
        let servers = (0..count).map(server).collect();
        Servers { servers, waiting }
    }

    fn gate(&self, shards: u32, lines: &str) -> Gate {
        Gate::with(shards, self.config(lines), StartOptions::default())
    }

    fn config(&self, lines: &str) -> Config {
        let endpoints: Vec<String> = self.servers.iter().map(|server| format!("\"{}\"", server.url())).collect();
        let text = format!(
            "[[upstreams]]\nname = \"up\"\nendpoints = [{}]\n{lines}\n[[routes]]\npath = \"/plain\"\nupstream = \"up\"\n[[models]]\nname = \"*\"\nupstream = \"up\"\nbatching = {{ mode = \"off\" }}\n",
            endpoints.join(", ")
        );
        config(&text, "")
    }
}

/// The number of the server that answers.
fn place(client: &mut Client, request: &str) -> usize {
    let answer = client.ask(request);
    assert_eq!(answer.status, 200, "{}", answer.head);
    String::from_utf8(answer.body).unwrap().parse().unwrap()
}

fn plain(fields: &str) -> String {
    format!("GET /plain HTTP/1.1\r\nhost: g\r\n{fields}\r\n")
}

fn chat(messages: &str) -> String {
    let body = format!("{{\"model\":\"m\",\"messages\":[{messages}]}}");
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Clients enough to be on every shard.
fn clients(gate: &Gate) -> Vec<Client> {
    (0..8).map(|_| gate.client()).collect()
}

#[test]
fn a_session_and_a_key_find_their_endpoint_from_every_shard() {
    for lines in ["affinity = { header = \"X-Key\" }", "balance = \"consistent_hash\"\nhash = { header = \"x-key\" }"] {
        let servers = Servers::new(3);
        let gate = servers.gate(2, lines);
        let mut clients = clients(&gate);
        let mut used = [0; 3];
        for key in 0..24 {
            let request = plain(&format!("x-key: user-{key}\r\n"));
            let home = place(&mut clients[0], &request);
            used[home] += 1;
            for client in &mut clients {
                assert_eq!(place(client, &request), home, "{lines}: user-{key}");
            }
        }
        assert!(used.iter().all(|count| *count > 0), "{used:?}");
        assert!(gate.opened().iter().all(|count| *count > 0.0), "every shard was asked: {:?}", gate.opened());
        let reason = if lines.starts_with("affinity") { "session" } else { "hash" };
        assert_eq!(gate.metric("headrace_endpoints_chosen_total", &[("reason", reason)]), 24.0 * 9.0);
    }
}

#[test]
fn a_conversation_goes_on_where_it_began() {
    let servers = Servers::new(3);
    let gate = servers.gate(2, "prefix_affinity = {}");
    let mut clients = clients(&gate);
    let mut used = [0; 3];
    for number in 0..12 {
        let mut messages = format!(
            "{{\"role\":\"system\",\"content\":\"be brief\"}},{{\"role\":\"user\",\"content\":\"question {number} {}\"}}",
            "x".repeat(600)
        );
        let home = place(&mut clients[0], &chat(&messages));
        used[home] += 1;
        for (turn, client) in clients.iter_mut().enumerate() {
            messages.push_str(&format!(
                ",{{\"role\":\"assistant\",\"content\":\"{}\"}},{{\"role\":\"user\",\"content\":\"and {turn}?\"}}",
                "y".repeat(500)
            ));
            assert_eq!(place(client, &chat(&messages)), home, "turn {turn} of {number}");
        }
    }
    assert!(used.iter().all(|count| *count > 0), "{used:?}");
    let chosen = |reason| gate.metric("headrace_endpoints_chosen_total", &[("reason", reason)]);
    assert_eq!(chosen("opening") + chosen("conversation") + chosen("prefix"), 12.0 * 9.0);
    // Each shard remembers what it sent itself: how many find theirs depends on which shard each client is at.
    assert!(chosen("prefix") >= 12.0 * 3.0, "many turns find their prompt: {}", chosen("prefix"));
    // A body that cannot be looked into is balanced like any other.
    let odd = "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nzz";
    place(&mut clients[0], odd);
}

#[test]
fn a_reload_keeps_what_was_learned() {
    let servers = Servers::new(3);
    let gate = servers.gate(1, "prefix_affinity = {}");
    let mut client = gate.client();
    let messages = format!("{{\"role\":\"user\",\"content\":\"{}\"}}", "z".repeat(3000));
    let home = place(&mut client, &chat(&messages));
    gate.gateway.reload(servers.config("prefix_affinity = {}\ntotal_timeout = \"50s\"")).unwrap();
    // The snapshot is in the shard's inbox, and a shard empties that before it serves.
    let longer = format!("{messages},{{\"role\":\"user\",\"content\":\"more\"}}");
    assert_eq!((place(&mut client, &chat(&longer)), place(&mut client, &chat(&longer))), (home, home));
    let chosen = |reason| gate.metric("headrace_endpoints_chosen_total", &[("reason", reason)]);
    assert_eq!((chosen("opening"), chosen("conversation") + chosen("prefix")), (1.0, 2.0), "only the very first turn was new");
}

#[test]
fn the_busy_engine_gets_nothing_and_a_silent_one_its_share() {
    let servers = Servers::new(2);
    let gate = servers.gate(2, "engine = \"vllm\"\nscrape = { interval = \"50ms\" }");
    let mut clients = clients(&gate);
    let mut sweep = || clients.iter_mut().map(|client| place(client, &plain(""))).collect::<Vec<_>>();
    eventually("nothing is known: both serve", || {
        let places = sweep();
        places.contains(&0) && places.contains(&1)
    });
    for (busy, idle) in [(0, 1), (1, 0)] {
        servers.waiting[busy].store(40, Ordering::Release);
        servers.waiting[idle].store(0, Ordering::Release);
        eventually("the idle one serves all", || sweep().iter().all(|place| *place == idle));
    }
    // Faults of scrapes are no faults of endpoints: the last report fades, and both serve.
    servers.waiting.iter().for_each(|waiting| waiting.store(SILENT, Ordering::Release));
    eventually("both serve again", || {
        let places = sweep();
        places.contains(&0) && places.contains(&1)
    });
}

#[test]
fn an_engine_tells_its_load_with_its_answers_and_clients_do_not_hear_of_it() {
    let servers: Vec<Upstream> = [40, 0]
        .into_iter()
        .enumerate()
        .map(|(number, waiting)| {
            Upstream::new(move |seen, _| {
                let asked = seen.field("endpoint-load-metrics-format").is_some_and(|format| format == "TEXT");
                let load = if asked {
                    format!("endpoint-load-metrics: TEXT named_metrics.num_requests_waiting={waiting}\r\n")
                } else {
                    String::new()
                };
                Reply::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n{load}\r\n{number}").into_bytes())
            })
        })
        .collect();
    let servers = Servers { servers, waiting: Arc::default() };
    let gate = servers.gate(1, "engine = \"vllm\"\nscrape = { interval = \"0s\" }");
    let mut client = gate.client();
    for request in [plain(""), chat("{\"role\":\"user\",\"content\":\"hi\"}")] {
        eventually("the idle one serves eight in a row", || {
            (0..8).all(|_| {
                let answer = client.ask(&request);
                assert!(answer.field("endpoint-load-metrics").is_none(), "{}", answer.head);
                answer.body == b"1"
            })
        });
    }
    // A client that asks itself is answered.
    let own = client.ask(plain("endpoint-load-metrics-format: TEXT\r\n"));
    assert!(own.field("endpoint-load-metrics").is_some(), "{}", own.head);
}
