//! Batches across shards: formed from the jobs of all, cut apart again for each, and a poisoned one among good ones.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use headrace::mock::{MockConfig, MockHandle, MockStats};

use crate::client::{crowd, embed, join};
use crate::gate::{Gate, eventually, mock};

const MODEL: &str = r#"
[[upstreams]]
name = "gpu"
endpoints = ["$UP"]

[[models]]
name = "*"
upstream = "gpu"
"#;

const CLIENTS: usize = 64;
const REQUESTS: usize = 25;

#[test]
fn two_shards_fill_batches_together_as_one_would() {
    // A batch per shard would be half as full. A busy machine keeps client threads from coming back in time, so a pair that is
    // further apart than a tenth is measured again; the fault would show in every pair.
    let mut pairs = Vec::new();
    for _ in 0..3 {
        pairs.push((mean_batch(1), mean_batch(2)));
        if pairs.iter().any(|(one, two)| *two > one * 0.9) {
            return;
        }
    }
    panic!("items a batch on one shard and on two: {pairs:?}");
}

/// Runs the same load on so many shards and checks every answer.
fn mean_batch(shards: u32) -> f64 {
    let (upstream, gate) = stage(shards, gpu());
    let addr = gate.addr;
    let barrier = Arc::new(Barrier::new(CLIENTS));
    join(crowd(CLIENTS, move |number| {
        let mut client = crate::client::Client::tcp(addr);
        barrier.wait();
        for request in 0..REQUESTS {
            let text = format!("client {number} request {request} {}", "x".repeat((number * 7 + request * 3) % 50));
            client.ask(embed(&text)).is_embedding_of(&text);
        }
    }));
    // Answers are counted when they are sent, which a client may see a moment before.
    gate.comes_to_rest();
    assert!(gate.opened().iter().all(|opened| *opened > 0.0), "every shard has clients: {:?}", gate.opened());
    let all = (CLIENTS * REQUESTS) as f64;
    for shard in 0..shards {
        let jobs = gate.metric("headrace_batch_jobs_total", &[("origin_shard", &shard.to_string())]);
        assert!(jobs > 0.0, "shard {shard} gave jobs to batches");
    }
    assert_eq!(gate.metric("headrace_batch_jobs_total", &[]), all);
    assert_eq!(gate.metric("headrace_requests_total", &[("status", "200")]), all);
    assert_eq!(gate.metric("headrace_cross_shard_jobs_total", &[]) > 0.0, shards > 1, "one lane has one home");
    let stats = upstream.stats().unwrap();
    assert_eq!((stats.items as f64, stats.aborted, stats.errors), (all, 0, 0));
    assert_eq!(gate.metric("headrace_batches_total", &[]), stats.calls as f64);
    stats.mean_batch()
}

#[test]
fn one_poisoned_request_among_31_good_ones_fails_alone() {
    let (upstream, gate) = stage(2, MockConfig::default());
    let before = upstream.stats().unwrap();
    let plug = plug(&gate, &upstream);
    let addr = gate.addr;
    let threads = crowd(32, move |number| {
        let text = if number == 13 { "secret of 13 mock:poison".to_owned() } else { format!("secret of {number}") };
        let answer = crate::client::Client::tcp(addr).ask(embed(&text));
        (text, answer)
    });
    eventually("all 32 wait", || gate.metric("headrace_queued_items", &[]) == 32.0);
    drop(plug);
    for (number, (text, answer)) in join(threads).into_iter().enumerate() {
        if number == 13 {
            assert_eq!(answer.status, 400, "{}", answer.text());
            let quoted = answer.text().matches("secret of").count();
            assert_eq!(answer.text().matches("secret of 13").count(), quoted, "it quotes nobody else: {}", answer.text());
        } else {
            answer.is_embedding_of(&text);
        }
    }
    let calls = upstream.stats().unwrap().since(&before).requests - 1;
    assert!(calls <= 11, "one of 32 is found with 11 calls, not {calls}");
    gate.comes_to_rest();
}

/// Shares hold across shards: jobs come with whose they are to the lane's home, wherever their clients are.
#[test]
fn tenants_share_a_lane_whichever_shards_they_are_on() {
    let upstream = mock(MockConfig::default());
    let config = MODEL.replace("upstream = \"gpu\"", "upstream = \"gpu\"\nbatching = { max_items = 4, max_queue_items = 8 }");
    let gate = Gate::new(2, &format!("[admission]\ntenant_header = \"x-tenant\"\n{config}"), &upstream.url());
    let addr = gate.addr;
    let ask = move |tenant: &str, number: usize| {
        let text = format!("{tenant} {number}");
        let request = embed(&text).replacen("\r\n", &format!("\r\nx-tenant: {tenant}\r\n"), 1);
        (crate::client::Client::tcp(addr).ask(request), text)
    };
    let plug = plug(&gate, &upstream);
    let flood = crowd(8, move |number| ask("flood", number));
    eventually("the lane is full", || gate.metric("headrace_queued_items", &[]) == 8.0);
    let light = crowd(3, move |number| ask("light", number));
    eventually("the flood gives way", || gate.metric("headrace_shed_total", &[("reason", "tenant_share")]) == 3.0);
    drop(plug);
    for (answer, text) in join(light) {
        answer.is_embedding_of(&text);
    }
    let mut refused = 0;
    for (answer, text) in join(flood) {
        if answer.status == 429 {
            assert_eq!(answer.field("x-headrace-error"), Some("tenant_share"), "{}", answer.head);
            refused += 1;
        } else {
            answer.is_embedding_of(&text);
        }
    }
    assert_eq!(refused, 3);
    gate.comes_to_rest();
}

fn gpu() -> MockConfig {
    MockConfig { cost_base: Duration::from_millis(5), cost_per_item: Duration::from_micros(100), ..MockConfig::default() }
}

pub(crate) fn stage(shards: u32, config: MockConfig) -> (MockHandle, Gate) {
    let upstream = mock(config);
    let gate = Gate::new(shards, MODEL, &upstream.url());
    (upstream, gate)
}

/// Occupies the model until it is dropped: a request that the mock never answers. What comes meanwhile waits in the lane.
pub(crate) fn plug(gate: &Gate, upstream: &MockHandle) -> crate::client::Client {
    let before: MockStats = upstream.stats().unwrap();
    let mut client = gate.client();
    client.send(embed("mock:stall"));
    eventually("the plug is in", || upstream.stats().unwrap().in_flight == before.in_flight + 1);
    client
}
