//! The operator's page while clients are served, and what it says when a model server is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headrace::mock::MockConfig;

use crate::checker;
use crate::client::{Client, crowd, embed, get, join};
use crate::coalesce::stage;
use crate::gate::{Gate, eventually, mock, mock_at};

#[test]
fn the_page_answers_well_formed_under_load() {
    let (_upstream, gate) = stage(2, MockConfig::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (addr, stopping) = (gate.addr, Arc::clone(&stop));
    let clients = crowd(16, move |number| {
        let mut client = Client::tcp(addr);
        let mut asked = 0;
        while !stopping.load(Ordering::Relaxed) {
            let text = format!("meanwhile {number} {asked}");
            client.ask(embed(&text)).is_embedding_of(&text);
            asked += 1;
        }
        asked
    });
    let admin = gate.gateway.admin_addr();
    let pages = join(crowd(4, move |_| {
        let mut client = Client::tcp(admin);
        let mut last = 0.0;
        for _ in 0..15 {
            let live = client.ask(get("/livez"));
            assert_eq!((live.status, live.text()), (200, "alive\n"));
            let ready = client.ask(get("/readyz"));
            assert_eq!((ready.status, ready.text()), (200, "ready\n"));
            let metrics = client.ask(get("/metrics"));
            assert!(metrics.field("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
            let samples = checker::check(metrics.text());
            let served = crate::gate::sum(&samples, "headrace_requests_total", &[]);
            assert!(served >= last, "a counter fell from {last} to {served}");
            last = served;
        }
    }));
    assert_eq!(pages.len(), 4);
    stop.store(true, Ordering::Relaxed);
    let asked: u32 = join(clients).into_iter().sum();
    eventually("all are counted", || gate.metric("headrace_requests_total", &[("status", "200")]) == f64::from(asked));
    assert_eq!(gate.metric("headrace_request_duration_seconds_count", &[("phase", "exchange")]), f64::from(asked));
    assert_eq!(Client::tcp(admin).ask(get("/nothing")).status, 404);
    gate.comes_to_rest();
}

#[test]
fn readyz_falls_with_the_only_upstream_and_rises_with_it() {
    let upstream = mock(MockConfig::default());
    let text = "[[upstreams]]\nname = \"only\"\nendpoints = [\"$UP\"]\n[[routes]]\npath = \"/\"\nupstream = \"only\"\n";
    let gate = Gate::new(2, text, &upstream.url());
    let mut admin = Client::tcp(gate.gateway.admin_addr());
    assert_eq!(admin.ask(get("/readyz")).status, 200);
    let address = upstream.address().clone();
    upstream.stop();
    let mut client = gate.client();
    eventually("it is not ready", || {
        assert_eq!(client.ask(get("/health")).status, 503);
        let ready = admin.ask(get("/readyz"));
        assert!(ready.status == 200 || ready.text() == "no healthy endpoint: only\n", "{}", ready.text());
        ready.status == 503
    });
    assert!(gate.metric("headrace_endpoint_unhealthy", &[("upstream", "only")]) > 0.0);
    let _upstream = mock_at(MockConfig::default(), &address).unwrap();
    eventually("it is ready", || admin.ask(get("/readyz")).status == 200);
    assert_eq!(client.ask(get("/health")).status, 200);
}
