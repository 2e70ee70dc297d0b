//! New configurations under load: nobody is failed, all of the new one holds or none of it, and counters only rise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use headrace::control::{ReloadError, StartOptions};
use headrace::mock::MockConfig;

use crate::checker::{self, Samples};
use crate::client::{Client, crowd, embed, get, join};
use crate::gate::{Gate, config, eventually, mock, scratch};

/// The models `m` and `model-0` to `model-<count>`.
fn text(count: usize) -> String {
    let models = (0..count).map(|number| format!("[[models]]\nname = \"model-{number}\"\nupstream = \"gpu\"\n"));
    let upstream = "[[upstreams]]\nname = \"gpu\"\nendpoints = [\"$UP\"]\n[[models]]\nname = \"m\"\nupstream = \"gpu\"\n";
    upstream.to_owned() + &models.collect::<String>()
}

/// Every counter of `before` is in `after`, not smaller.
fn only_rises(before: &Samples, after: &Samples) {
    let counts = |name: &str| ["_total", "_count", "_bucket", "_sum"].iter().any(|end| name.ends_with(end));
    for ((name, labels), value) in before.iter().filter(|((name, _), _)| counts(name)) {
        let now = after.get(&(name.clone(), labels.clone()));
        assert!(now.is_some_and(|now| now >= value), "{name}{labels:?} was {value}, is {now:?}");
    }
}

#[test]
fn fifty_reloads_under_load_fail_nobody() {
    let upstream = mock(MockConfig::default());
    let gate = Gate::new(2, &text(0), &upstream.url());
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (addr, stopping, counted) = (gate.addr, Arc::clone(&stop), Arc::clone(&done));
    let clients = crowd(32, move |number| {
        let mut client = Client::tcp(addr);
        for request in 0.. {
            let text = format!("through all reloads {number} {request}");
            client.ask(embed(&text)).is_embedding_of(&text);
            counted.fetch_add(1, Ordering::Relaxed);
            if stopping.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    let mut before = checker::check(&gate.gateway.metrics());
    for reload in 1..=50 {
        let seen = done.load(Ordering::Relaxed);
        gate.gateway.reload(config(&text(reload), &upstream.url())).expect("it is taken");
        eventually("clients go on", || done.load(Ordering::Relaxed) >= seen + 32);
        let after = checker::check(&gate.gateway.metrics());
        only_rises(&before, &after);
        before = after;
        let newest = format!("model-{}", reload - 1);
        eventually("the new model is there", || gate.client().ask(get("/v1/models")).text().contains(&newest));
    }
    stop.store(true, Ordering::Relaxed);
    join(clients);
    gate.comes_to_rest();
    let served = done.load(Ordering::Relaxed) as f64;
    assert_eq!(gate.metric("headrace_requests_total", &[("model", "m"), ("status", "200")]), served);
    assert_eq!(gate.metric("headrace_config_reloads_total", &[("result", "ok")]), 50.0);
    let mut client = gate.client();
    let body = r#"{"model":"model-49","input":"new"}"#;
    client.ask(crate::client::post("/v1/embeddings", body)).is_embedding_of("new");
    drop(client);
    gate.comes_to_rest();
    eventually("former configurations are let go", || gate.metric("headrace_config_snapshots", &[]) == 1.0);
}

#[test]
fn former_configurations_are_let_go_under_load_that_never_pauses() {
    let upstream = mock(MockConfig { cost_base: std::time::Duration::from_millis(2), ..MockConfig::default() });
    let gate = Gate::new(1, &text(0), &upstream.url());
    let stop = Arc::new(AtomicBool::new(false));
    let (addr, stopping) = (gate.addr, Arc::clone(&stop));
    let clients = crowd(16, move |number| {
        let mut client = Client::tcp(addr);
        while !stopping.load(Ordering::Relaxed) {
            let text = format!("no pause {number}");
            client.ask(embed(&text)).is_embedding_of(&text);
        }
    });
    for reload in 1..=3 {
        gate.gateway.reload(config(&text(reload), &upstream.url())).expect("it is taken");
    }
    eventually("former configurations are let go", || gate.metric("headrace_config_snapshots", &[]) == 1.0);
    stop.store(true, Ordering::Relaxed);
    join(clients);
}

#[test]
fn a_body_that_ends_long_after_a_reload_is_answered_though_its_home_let_the_former_configuration_go() {
    let upstream = mock(MockConfig::default());
    let gate = Gate::new(2, &text(0), &upstream.url());
    // All on shard 0, with lanes of their own: some of those are at home on shard 1, which itself has nothing begun.
    let on_shard_0 = || gate.opened()[0];
    let mut clients: Vec<(Client, String)> = Vec::new();
    // Those of shard 1 stay open for so long: it would be given everybody else if it had less to do.
    let mut others: Vec<Client> = Vec::new();
    eventually("12 clients of shard 0", || {
        let before = on_shard_0();
        let mut client = gate.client();
        assert_eq!(client.ask(get("/v1/models")).status, 200);
        if on_shard_0() > before {
            let body = format!(r#"{{"model":"m","user":"{}","input":"slowly"}}"#, clients.len());
            clients.push((client, crate::client::post("/v1/embeddings", &body)));
        } else {
            others.push(client);
        }
        clients.len() == 12
    });
    drop(others);
    for (client, request) in &mut clients {
        client.send(&request[..request.len() - 10]);
    }
    eventually("all are begun", || gate.metric("headrace_exchanges_in_flight", &[]) == 12.0);
    gate.gateway.reload(config(&text(1), &upstream.url())).expect("it is taken");
    // Housekeeping sets this counter once a second; after some rounds what nobody there needs is gone.
    for _ in 0..5 {
        let turns = || gate.metric("headrace_turns_total", &[("shard", "1")]);
        let before = turns();
        eventually("a round of housekeeping", || turns() > before);
    }
    for (client, request) in &mut clients {
        client.send(&request[request.len() - 10..]);
    }
    for (client, _) in &mut clients {
        client.answer().is_embedding_of("slowly");
    }
    drop(clients);
    gate.comes_to_rest();
}

#[test]
fn a_raised_bound_on_connections_holds_for_those_that_wait_for_room_and_for_their_answers() {
    let upstream = mock(MockConfig::default());
    let bound = |most: u32| config(&format!("[server]\nmax_connections = {most}\n{}", text(0)), &upstream.url());
    let gate = Gate::with(1, bound(2), StartOptions::default());
    let clients: Vec<Client> = (0..10)
        .map(|_| {
            let mut client = gate.client();
            client.send(embed("mock:stall"));
            client
        })
        .collect();
    eventually("as many as may wait for answers", || gate.metric("headrace_tickets", &[]) == 2.0);
    gate.gateway.reload(bound(20)).expect("it is taken");
    eventually("all wait for answers", || gate.metric("headrace_tickets", &[]) == 10.0);
    drop(clients);
    gate.comes_to_rest();
}

#[test]
fn a_configuration_that_cannot_be_taken_changes_nothing() {
    let upstream = mock(MockConfig::default());
    let file = scratch("reload.toml");
    std::fs::write(&file, "[[upstreams]]\nname = \"gpu\"\nendpoints = []\nmodles = 1\n").unwrap();
    let options = StartOptions { config_path: Some(file.clone()), ..StartOptions::default() };
    let gate = Gate::with(2, config(&text(1), &upstream.url()), options);
    let mut client = gate.client();
    client.ask(embed("before")).is_embedding_of("before");
    assert!(matches!(gate.gateway.reload_file(), Err(ReloadError::Load(_))));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(gate.gateway.reload_file(), Err(ReloadError::Load(_))));
    let mut other = config(&text(2), &upstream.url());
    other.server.receive_buffers *= 2;
    assert!(matches!(gate.gateway.reload(other), Err(ReloadError::NeedsRestart(keys)) if keys == ["server.receive_buffers"]));
    client.ask(embed("after")).is_embedding_of("after");
    let models = client.ask(get("/v1/models"));
    assert!(models.text().contains("model-0") && !models.text().contains("model-1"), "{}", models.text());
    assert_eq!(gate.metric("headrace_config_reloads_total", &[("result", "failed")]), 3.0);
    assert_eq!(gate.metric("headrace_config_last_reload_successful", &[]), 0.0);
}
