//! Split models: shares, shadows, orders of a person, and canaries that are taken back or complete by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use headrace::control::StartOptions;
use headrace::mock::{MockConfig, MockHandle};

use crate::checker;
use crate::client::{Client, crowd, embed, get, join, post};
use crate::gate::{Gate, config, eventually, mock, sum};
use crate::upstream::{Door, Reply, Upstream, ok};

/// `$MODEL` stands for the lines of the model `m` behind its name.
fn text(old: &str, new: &str, model: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"old\"\nendpoints = [\"{old}\"]\n[[upstreams]]\nname = \"new\"\nendpoints = [\"{new}\"]\n\
         [[models]]\nname = \"m\"\n{model}\n"
    )
}

const ROLLOUT: &str = "targets = [{ upstream = \"old\" }, { upstream = \"new\" }]\n\
    rollout = { canary = \"new\", steps = [10, 30, 60, 100], step_time = \"100ms\", min_requests = 60, max_latency_increase = 0 }\n";

fn gate(model: &str, old: &MockHandle, new: &MockHandle) -> Gate {
    Gate::with(2, config(&text(&old.url(), &new.url(), model), ""), StartOptions::default())
}

/// Asks until it is dropped; how many got no 200.
struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    threads: Option<Vec<JoinHandle<()>>>,
}

impl Load {
    fn on(gate: &Gate, clients: usize) -> Load {
        Load::asking(gate, clients, "\"max_tokens\":1")
    }

    /// With more in the body of every request.
    fn asking(gate: &Gate, clients: usize, more: &'static str) -> Load {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (addr, stopping, failures) = (gate.addr, Arc::clone(&stop), Arc::clone(&failed));
        let threads = crowd(clients, move |number| {
            let mut client = Client::tcp(addr);
            for request in 0.. {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                // Chats are not merged: an error is one client's.
                let body = format!(r#"{{"model":"m",{more},"messages":[{{"role":"user","content":"{number} {request}"}}]}}"#);
                let status = client.ask(post("/v1/chat/completions", &body)).status;
                failures.fetch_add(u64::from(status != 200), Ordering::Relaxed);
            }
        });
        Load { stop, failed, threads: Some(threads) }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        join(self.threads.take().unwrap());
        self.failed.load(Ordering::Relaxed)
    }
}

fn share(gate: &Gate, target: &str) -> f64 {
    gate.metric("headrace_split_share", &[("model", "m"), ("target", target)])
}

fn answers(gate: &Gate, target: &str) -> f64 {
    gate.metric("headrace_split_requests_total", &[("model", "m"), ("target", target)])
}

fn events(gate: &Gate, event: &str) -> f64 {
    gate.metric("headrace_rollout_events_total", &[("model", "m"), ("event", event)])
}

#[test]
fn a_canary_with_five_percent_errors_is_taken_back_within_200_of_its_requests() {
    let slow = MockConfig { chat_delay: std::time::Duration::from_millis(4), ..MockConfig::default() };
    let (old, new) = (mock(slow.clone()), mock(MockConfig { error_rate: 0.05, seed: 42, ..slow }));
    let gate = gate(ROLLOUT, &old, &new);
    let load = Load::on(&gate, 8);
    eventually("the canary is taken back", || events(&gate, "rolled_back") == 1.0);
    assert_eq!((share(&gate, "old"), share(&gate, "new")), (10_000.0, 0.0));
    let canary = answers(&gate, "new");
    let rollout: serde_json::Value = serde_json::from_str(Client::tcp(gate.gateway.admin_addr()).ask(get("/rollouts/m")).text()).unwrap();
    assert_eq!((&rollout["rollout"]["stage"], &rollout["targets"][1]["percent"]), (&"rolled_back".into(), &0.0.into()));
    let before = gate.metric("headrace_requests_total", &[("model", "m")]);
    eventually("the baseline goes on", || gate.metric("headrace_requests_total", &[("model", "m")]) > before + 100.0);
    let failed = load.end();
    gate.comes_to_rest();
    // Those that were on their way when it was taken back come on top.
    let after = answers(&gate, "new");
    assert!(after <= 200.0 && after - canary <= 8.0, "{canary} answers when it was taken back, {after} in the end");
    assert_eq!(gate.metric("headrace_split_requests_total", &[("target", "new"), ("outcome", "error")]), failed as f64);
    assert!(failed > 0);
}

#[test]
fn a_canary_without_errors_gets_everything() {
    let (old, new) = (mock(MockConfig::default()), mock(MockConfig::default()));
    let gate = gate(ROLLOUT, &old, &new);
    let load = Load::on(&gate, 8);
    eventually("the canary serves everything", || events(&gate, "completed") == 1.0);
    assert_eq!((share(&gate, "old"), share(&gate, "new")), (0.0, 10_000.0));
    // A reload that does not touch the split changes nothing.
    gate.gateway.reload(config(&text(&old.url(), &new.url(), &(ROLLOUT.to_owned() + "batching = { max_items = 8 }")), "")).unwrap();
    assert_eq!(share(&gate, "new"), 10_000.0);
    let before = answers(&gate, "new");
    eventually("it goes on", || answers(&gate, "new") > before + 100.0);
    assert_eq!(load.end(), 0);
    assert_eq!((events(&gate, "step"), events(&gate, "rolled_back")), (3.0, 0.0), "10, 30 and 60");
}

/// Asks until the canary is taken back, and hands out what the admin page says of it then.
fn taken_back(gate: &Gate, more: &'static str) -> serde_json::Value {
    let load = Load::asking(gate, 8, more);
    eventually("the canary is taken back", || events(gate, "rolled_back") == 1.0);
    assert_eq!(load.end(), 0, "no client has seen an error");
    assert_eq!((share(gate, "old"), share(gate, "new")), (10_000.0, 0.0));
    let shown: serde_json::Value = serde_json::from_str(Client::tcp(gate.gateway.admin_addr()).ask(get("/rollouts/m")).text()).unwrap();
    assert_eq!(shown["rollout"]["cause"], "worse than the baseline by its metric");
    let evidence = &shown["rollout"]["evidence"];
    assert!(evidence["metric"].as_f64().unwrap() >= evidence["enough"].as_f64().unwrap(), "{shown}");
    shown["rollout"]["metric"].clone()
}

fn with_metric(metric: &str) -> String {
    ROLLOUT.replace("max_latency_increase = 0", &format!("max_latency_increase = 0, metric = {metric}"))
}

fn measured(gate: &Gate, target: &str, outcome: &str) -> f64 {
    gate.metric("headrace_split_measured_total", &[("model", "m"), ("target", target), ("outcome", outcome)])
}

#[test]
fn a_canary_with_lower_scores_is_taken_back() {
    let scored = |score: &'static str| {
        Upstream::new(move |_, _| {
            let answer = String::from_utf8(ok("{}")).unwrap();
            Reply::Bytes(answer.replacen("\r\n", &format!("\r\nx-quality-score: {score}\r\n"), 1).into_bytes())
        })
    };
    let (old, new) = (scored("0.93"), scored("0.41"));
    let model = with_metric("{ header = \"X-Quality-Score\", below = 0.7 }");
    let gate = Gate::with(2, config(&text(&old.url(), &new.url(), &model), ""), StartOptions::default());
    let metric = taken_back(&gate, "\"max_tokens\":1");
    assert_eq!(metric["bad"], "header x-quality-score below 0.7");
    assert_eq!((&metric["baseline"]["bad"], metric["canary"]["bad"] == metric["canary"]["measured"]), (&0.into(), true), "{metric}");
    gate.comes_to_rest();
    assert_eq!((measured(&gate, "old", "bad"), measured(&gate, "new", "good")), (0.0, 0.0));
    assert_eq!((measured(&gate, "old", "good"), measured(&gate, "new", "bad")), (answers(&gate, "old"), answers(&gate, "new")));
}

#[test]
fn a_canary_whose_streams_are_cut_short_is_taken_back() {
    // Five tokens suffice the old model for what it has to say, the new one goes on until it is stopped.
    let (old, new) =
        (mock(MockConfig { chat_events: 3, ..MockConfig::default() }), mock(MockConfig { chat_events: 9, ..MockConfig::default() }));
    let gate = gate(&with_metric("{ finish = [\"length\"] }"), &old, &new);
    let metric = taken_back(&gate, "\"stream\":true,\"max_tokens\":5");
    assert_eq!(metric["bad"], "finish length");
    gate.comes_to_rest();
    assert_eq!((measured(&gate, "old", "bad"), measured(&gate, "new", "good")), (0.0, 0.0));
    assert!(measured(&gate, "new", "bad") > 0.0 && measured(&gate, "old", "good") > 0.0);
}

#[test]
fn a_rollout_waits_for_answers_that_its_metric_can_measure() {
    let (old, new) = (mock(MockConfig::default()), mock(MockConfig::default()));
    let gate = gate(&with_metric("{ finish = [\"length\"] }"), &old, &new);
    let load = Load::on(&gate, 8);
    eventually("it is told that nothing can be measured", || events(&gate, "unmeasured") == 1.0);
    let before = answers(&gate, "new");
    eventually("the canary has answered enough for another step", || answers(&gate, "new") > before + 120.0);
    assert_eq!((share(&gate, "new"), events(&gate, "step"), events(&gate, "unmeasured")), (1000.0, 1.0, 1.0));
    assert_eq!(load.end(), 0);
}

#[test]
fn a_split_has_its_shares_merged_or_not_and_a_person_moves_them() {
    let (old, new) = (mock(MockConfig::default()), mock(MockConfig::default()));
    let gate = gate("targets = [{ upstream = \"old\", weight = 3 }, { upstream = \"new\" }]", &old, &new);
    let ask = |count: usize| {
        let mut client = gate.client();
        (0..count).for_each(|request| {
            let text = format!("request {request}");
            client.ask(embed(&text)).is_embedding_of(&text);
        });
    };
    ask(400);
    let first = answers(&gate, "new");
    assert!((60.0..140.0).contains(&first), "{first} of 400 when a quarter is right");
    assert!(old.stats().unwrap().calls > 0 && new.stats().unwrap().calls > 0);

    let mut admin = Client::tcp(gate.gateway.admin_addr());
    let mut order = |body: &str| admin.ask(post("/rollouts/m", body)).status;
    assert_eq!(order(r#"{"action":"promote","target":"new"}"#), 200);
    ask(50);
    assert_eq!(answers(&gate, "new"), first + 50.0);
    assert_eq!(order(r#"{"action":"weight","target":"new","percent":0}"#), 200);
    ask(50);
    assert_eq!(answers(&gate, "new"), first + 50.0);
    assert_eq!(order(r#"{"action":"abort"}"#), 200);
    assert_eq!((share(&gate, "old"), share(&gate, "new")), (7500.0, 2500.0));
    for bad in [r#"{"action":"start"}"#, r#"{"action":"promote"}"#, r#"{"action":"weight","target":"new","percent":101}"#, "{}", "no"] {
        assert_eq!(order(bad), 400, "{bad}");
    }
    assert_eq!(order(r#"{"action":"promote","target":"nobody"}"#), 400);
    let mut elsewhere = Client::tcp(gate.gateway.admin_addr());
    assert_eq!(elsewhere.ask(post("/rollouts/other", r#"{"action":"abort"}"#)).status, 404);
    let page = post("/rollouts/m", r#"{"action":"abort"}"#).replacen("\r\n", "\r\norigin: http://evil.example\r\n", 1);
    assert_eq!(elsewhere.ask(page).status, 403, "a page in a browser gives no orders");
    assert_eq!(elsewhere.ask(get("/rollouts/other")).status, 404);
}

#[test]
fn who_is_sticky_keeps_their_target() {
    let (old, new) = (mock(MockConfig::default()), mock(MockConfig::default()));
    let model = "targets = [{ upstream = \"old\" }, { upstream = \"new\" }]\nsticky = { header = \"X-User\" }";
    let gate = gate(model, &old, &new);
    let mut moved = 0;
    for user in 0..20 {
        let before = answers(&gate, "new");
        for request in 0..5 {
            // Other connections are other shards.
            let request = embed(&format!("{request}")).replacen("\r\n", &format!("\r\nx-uSer: user-{user}\r\n"), 1);
            assert_eq!(gate.client().ask(request).status, 200);
        }
        let of_new = answers(&gate, "new") - before;
        assert!(of_new == 0.0 || of_new == 5.0, "user {user}: {of_new} of 5");
        moved += u32::from(of_new > 0.0);
    }
    assert!((3..=17).contains(&moved), "{moved} of 20");
}

#[test]
fn a_shadow_gets_copies_and_whatever_it_does_nobody_sees() {
    let door = Door::default();
    let of_script = door.clone();
    let number = AtomicU64::new(0);
    let shadow = Upstream::new(move |seen, _| match number.fetch_add(1, Ordering::Relaxed) % 4 {
        0 => Reply::Bytes(ok(&seen.body)),
        1 => Reply::Bytes(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_vec()),
        2 => Reply::Bytes(b"nonsense\r\n\r\n".to_vec()),
        _ => {
            of_script.pass();
            Reply::Bytes(ok(""))
        }
    });
    let old = mock(MockConfig::default());
    let model = "upstream = \"old\"\nshadow = { upstream = \"new\", max_in_flight = 4 }";
    let gate = Gate::with(2, config(&text(&old.url(), &shadow.url(), model), ""), StartOptions::default());
    let mut client = gate.client();
    for request in 0..40 {
        let text = format!("copied {request}");
        client.ask(embed(&text)).is_embedding_of(&text);
    }
    let copies = |outcome: &str| gate.metric("headrace_shadow_requests_total", &[("model", "m"), ("outcome", outcome)]);
    eventually("all places are taken by copies without an answer", || {
        let text = "one more";
        client.ask(embed(text)).is_embedding_of(text);
        copies("full") > 0.0
    });
    assert!(copies("ok") > 0.0 && copies("error") > 0.0);
    let seen = shadow.seen();
    assert!(seen.iter().all(|copy| copy.field("x-headrace-shadow") == Some("1")), "{:?}", seen[0].fields);
    assert!(seen.iter().any(|copy| copy.body.windows(8).any(|bytes| bytes == b"copied 0")));
    let samples = checker::check(&gate.gateway.metrics());
    assert_eq!(sum(&samples, "headrace_requests_total", &[("status", "200")]), sum(&samples, "headrace_requests_total", &[]));
    drop(client);
    // Copies without an answer hold up no end.
    assert_eq!(gate.gateway.drain().unwrap(), headrace::control::Ended::Clean);
    door.open();
}
