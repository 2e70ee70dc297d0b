//! Clients that leave: nobody else notices, and nothing stays behind.

use std::time::Duration;

use headrace::mock::MockConfig;

use crate::client::{Client, crowd, embed, join, post};
use crate::coalesce::{plug, stage};
use crate::gate::eventually;

#[test]
fn fifty_of_two_hundred_leave_the_queue_and_disturb_nobody() {
    let (upstream, gate) = stage(2, MockConfig::default());
    let plug = plug(&gate, &upstream);
    let mut leavers: Vec<Client> = Vec::new();
    for number in 0..50 {
        let mut client = gate.client();
        client.send(embed(&format!("leaver {number}")));
        leavers.push(client);
    }
    let addr = gate.addr;
    let stayers = crowd(150, move |number| {
        let text = format!("stayer {number}");
        Client::tcp(addr).ask(embed(&text)).is_embedding_of(&text);
    });
    eventually("200 wait", || gate.metric("headrace_queued_items", &[]) == 200.0);
    drop(leavers);
    eventually("150 wait", || gate.metric("headrace_queued_items", &[]) == 150.0);
    drop(plug);
    join(stayers);
    gate.comes_to_rest();
    let stats = upstream.stats().unwrap();
    assert_eq!(stats.items, 150, "the model computed nothing for those who left");
    assert_eq!((stats.aborted, stats.in_flight), (1, 0), "the plug's call, whose only client left, and no other");
    assert_eq!(gate.metric("headrace_client_closed_total", &[]), 51.0);
    assert_eq!(gate.metric("headrace_requests_total", &[("status", "200")]), 150.0);
}

#[test]
fn clients_that_leave_a_batch_in_flight_do_not_end_it_for_the_others() {
    let (upstream, gate) = stage(2, MockConfig { cost_base: Duration::from_millis(150), ..MockConfig::default() });
    let plug = plug(&gate, &upstream);
    let mut leavers: Vec<Client> = Vec::new();
    for number in 0..16 {
        let mut client = gate.client();
        client.send(embed(&format!("leaver {number}")));
        leavers.push(client);
    }
    eventually("the leavers wait", || gate.metric("headrace_queued_items", &[]) == 16.0);
    let addr = gate.addr;
    let stayers = crowd(16, move |number| {
        let text = format!("stayer {number}");
        Client::tcp(addr).ask(embed(&text)).is_embedding_of(&text);
    });
    eventually("32 wait", || gate.metric("headrace_queued_items", &[]) == 32.0);
    drop(plug);
    eventually("one batch of all is computed", || upstream.stats().unwrap().calls == 1);
    drop(leavers);
    join(stayers);
    gate.comes_to_rest();
    let stats = upstream.stats().unwrap();
    assert_eq!((stats.calls, stats.items, stats.largest_batch), (1, 32, 32));
    assert_eq!((stats.aborted, stats.in_flight), (1, 0), "only the plug");
}

#[test]
fn when_all_members_of_a_batch_have_left_its_call_ends() {
    let (upstream, gate) = stage(2, MockConfig { cost_base: Duration::from_secs(3600), ..MockConfig::default() });
    let clients: Vec<Client> = (0..8)
        .map(|number| {
            let mut client = gate.client();
            client.send(embed(&format!("one of 8: {number}")));
            client
        })
        .collect();
    eventually("all are with the home", || gate.metric("headrace_batch_jobs_total", &[]) == 8.0);
    drop(clients);
    gate.comes_to_rest();
    eventually("the model is free", || upstream.stats().unwrap().in_flight == 0);
    let stats = upstream.stats().unwrap();
    assert_eq!(stats.aborted, stats.calls);
}

#[test]
fn a_client_that_leaves_a_stream_ends_the_generation() {
    let config = MockConfig { chat_events: 1_000_000, chat_delay: Duration::from_millis(5), ..MockConfig::default() };
    let (upstream, gate) = stage(2, config);
    let chat = post("/v1/chat/completions", r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello there"}]}"#);
    let mut clients: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = gate.client();
            client.send(&chat);
            client
        })
        .collect();
    eventually("all are generated", || upstream.stats().unwrap().in_flight == 8);
    clients.truncate(3);
    eventually("five have ended", || upstream.stats().unwrap().in_flight == 3);
    assert_eq!(upstream.stats().unwrap().aborted, 5);
    drop(clients);
    gate.comes_to_rest();
    eventually("all have ended", || upstream.stats().unwrap().in_flight == 0);
}
