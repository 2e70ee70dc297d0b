//! Endpoints that die and come back, and what probes say of them. Under load with a clock in `tests/kill/run`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use headrace::mock::MockConfig;

use crate::client::{Client, crowd, embed, get, join};
use crate::gate::{Gate, any_port, eventually, mock, mock_at};
use crate::upstream::{Reply, Upstream, ok};

fn text(batching: &str, endpoints: &[String]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|url| format!("{url:?}")).collect();
    format!(
        "[[upstreams]]\nname = \"gpu\"\nendpoints = [{}]\nbreaker = {{ open = \"50ms\", open_max = \"200ms\" }}\n\
         [[models]]\nname = \"*\"\nupstream = \"gpu\"\nbatching = {{ mode = \"{batching}\" }}\n",
        endpoints.join(", ")
    )
}

/// One of three dies and comes back at the same address while 24 clients ask: each gets its own vector, always.
fn dies_and_returns(batching: &str) {
    let stays = [mock(MockConfig::default()), mock(MockConfig::default())];
    let dies = mock_at(MockConfig::default(), &any_port()).unwrap();
    let (address, url) = (dies.address().clone(), dies.url());
    let gate = Gate::new(2, &text(batching, &[stays[0].url(), url.clone(), stays[1].url()]), "");
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (addr, stopping, counted) = (gate.addr, Arc::clone(&stop), Arc::clone(&done));
    let clients = crowd(24, move |number| {
        let mut client = Client::tcp(addr);
        for request in 0.. {
            let text = format!("while it dies {number} {request}");
            client.ask(embed(&text)).is_embedding_of(&text);
            counted.fetch_add(1, Ordering::Relaxed);
            if stopping.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    let goes_on = |what: &str| {
        let seen = done.load(Ordering::Relaxed);
        eventually(what, || done.load(Ordering::Relaxed) > seen + 200);
    };
    let endpoint = url.trim_start_matches("http://");
    let transitions = |to| gate.metric("headrace_breaker_transitions_total", &[("endpoint", endpoint), ("to", to)]);
    let calls = || gate.metric("headrace_upstream_requests_total", &[("endpoint", endpoint), ("outcome", "ok")]);
    goes_on("all three serve");
    dies.stop();
    eventually("a breaker opens", || transitions("open") >= 1.0);
    goes_on("two serve");
    let back = mock_at(MockConfig::default(), &address).unwrap();
    eventually("every breaker that opened has closed", || {
        gate.metric("headrace_breaker_state", &[("endpoint", endpoint), ("state", "closed")]) == 2.0
    });
    assert!(transitions("half_open") >= 1.0 && transitions("closed") >= 1.0);
    let before = calls();
    eventually("it serves again", || calls() > before + 20.0);
    stop.store(true, Ordering::Relaxed);
    join(clients);
    gate.comes_to_rest();
    assert_eq!(gate.metric("headrace_requests_total", &[("status", "200")]), done.load(Ordering::Relaxed) as f64);
    assert_eq!(gate.metric("headrace_retries_refused_total", &[]), 0.0);
    drop(back);
}

#[test]
fn one_of_three_dies_and_returns_and_no_forwarded_call_fails() {
    dies_and_returns("off");
}

#[test]
fn one_of_three_dies_and_returns_and_no_merged_call_fails() {
    dies_and_returns("exclusive");
}

#[test]
fn probes_take_an_endpoint_out_on_every_shard_and_bring_it_back() {
    let well = Arc::new(AtomicBool::new(true));
    let of_script = Arc::clone(&well);
    let sick = Upstream::new(move |seen, _| match (seen.target.as_str(), of_script.load(Ordering::Relaxed)) {
        ("/healthz", false) => Reply::Bytes(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("/healthz", true) => Reply::Bytes(ok("fine")),
        _ => Reply::Bytes(ok("from the sick one")),
    });
    let config = "[[upstreams]]\nname = \"up\"\nendpoints = [\"$UP\"]\n\
                  health = { path = \"/healthz\", interval = \"50ms\", timeout = \"50ms\", unhealthy_after = 2, healthy_after = 1 }\n\
                  [[models]]\nname = \"m\"\nupstream = \"up\"\nbatching = { mode = \"off\" }\nfallback = [\"sorry\"]\n\
                  [[canned]]\nname = \"sorry\"\nbody = \"canned\"\n";
    let gate = Gate::new(2, config, &sick.url());
    let served_by = |gate: &Gate| -> Vec<String> {
        (0..8)
            .map(|_| {
                let answer = gate.client().ask(embed("x"));
                assert_eq!(answer.status, 200);
                assert_eq!(answer.field("x-headrace-fallback"), (answer.text() == "canned").then_some("sorry"));
                answer.text().to_owned()
            })
            .collect()
    };
    let unhealthy = || gate.metric("headrace_endpoint_unhealthy", &[]);
    assert_eq!(served_by(&gate), ["from the sick one"; 8]);
    well.store(false, Ordering::Relaxed);
    eventually("both shards know", || unhealthy() == 2.0);
    assert_eq!(served_by(&gate), ["canned"; 8], "on whichever shard");
    assert_eq!(Client::tcp(gate.gateway.admin_addr()).ask(get("/readyz")).status, 503);
    // A new configuration does not forget it.
    gate.gateway.reload(crate::gate::config(config, &sick.url())).expect("it is taken");
    assert_eq!(served_by(&gate), ["canned"; 8]);
    well.store(true, Ordering::Relaxed);
    eventually("both shards know", || unhealthy() == 0.0);
    assert_eq!(served_by(&gate), ["from the sick one"; 8]);
    let probes = |result| gate.metric("headrace_health_probes_total", &[("upstream", "up"), ("result", result)]);
    assert!(probes("failed") >= 2.0 && probes("ok") >= 1.0, "{} {}", probes("failed"), probes("ok"));
}
