//! Faults of calls that lanes make: the same breakers and pauses as for forwarded ones, and rules of their own for what is tried again
//! (the table in docs/resilience.md).

use std::time::Duration;

use super::world::{Reply, Seen, World, ok, post};

/// A fixed vector for the one text.
fn vector(_: &Seen) -> Vec<u8> {
    ok(
        "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[1]}],\"model\":\"m\",\"usage\":{\"prompt_tokens\":1,\"total_tokens\":1}}",
    )
}

fn config(endpoints: &str, upstream: &str) -> String {
    format!("[[upstreams]]\nname = \"up\"\nendpoints = [{endpoints}]\n{upstream}\n[[models]]\nname = \"m\"\nupstream = \"up\"\n")
}

fn ask(world: &World) -> String {
    world.transcript(&post("/v1/embeddings", "{\"model\":\"m\",\"input\":\"abc\"}"))
}

fn answer(status: &str, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{fields}content-length: 2\r\n\r\n{{}}").into_bytes()
}

#[test]
fn a_dead_endpoint_costs_no_request_and_its_breaker_opens() {
    let breaker = "breaker = { failures = 3, open = \"3600s\", open_max = \"3600s\" }\nretry = { attempts = 1 }";
    let world = World::in_virtual_time(&config("\"http://127.0.0.1:1\", \"$UP\"", breaker), |seen, _| Reply::Bytes(vector(seen)));
    for _ in 0..20 {
        let got = ask(&world);
        assert!(got.starts_with("HTTP/1.1 200 "), "nothing was sent, so it goes elsewhere, whatever `retry` says: {got}");
        // The lane's own pause after a failure is over by then.
        let rt = world.rt.clone();
        world.run(async move { rt.sleep_until(rt.now() + Duration::from_secs(1)).await });
    }
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"connect_failed\""), 3.0, "then it is left alone");
    assert_eq!(world.sum("headrace_breaker_transitions_total", "to=\"open\""), 1.0);
    assert_eq!(world.sum("headrace_retries_refused_total", "upstream"), 0.0);
    assert_eq!(world.seen.borrow().len(), 20);
}

#[test]
fn a_pause_that_a_server_asks_for_is_kept() {
    for asks in ["retry-after: 2\r\n", "date: Mon, 01 Jan 2001 00:00:00 GMT\r\nretry-after: Mon, 01 Jan 2001 00:00:02 GMT\r\n"] {
        let world = World::in_virtual_time(&config("\"$UP\"", ""), move |seen, number| match number {
            0 => Reply::Bytes(answer("503 Busy", asks)),
            _ => Reply::Bytes(vector(seen)),
        });
        let began = world.rt.now();
        let got = ask(&world);
        assert!(got.starts_with("HTTP/1.1 200 "), "it was requeued: {got}");
        let took = world.rt.now().since(began);
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(3), "{took:?}");
        assert_eq!(world.sum("headrace_endpoint_pauses_total", "upstream=\"up\""), 1.0);
        assert_eq!(world.seen.borrow().len(), 2);
    }
}

#[test]
fn a_request_alone_in_its_call_gets_a_5xx_as_it_is_and_a_broken_one_is_tried_twice() {
    let retry = "retry = { attempts = 5, on = [\"connect\", \"reset\", \"5xx\"] }\nbreaker = { failures = 100 }";
    let world = World::in_virtual_time(&config("\"$UP\"", retry), |_, _| Reply::Bytes(answer("500 Oops", "")));
    assert!(ask(&world).starts_with("HTTP/1.1 500 "));
    assert_eq!(world.seen.borrow().len(), 1);
    let world = World::in_virtual_time(&config("\"$UP\"", retry), |_, _| Reply::ThenClose(Vec::new()));
    let got = ask(&world);
    assert!(got.starts_with("HTTP/1.1 502 ") && got.contains("x-headrace-error: upstream_broken\r\n"), "{got}");
    assert_eq!(world.seen.borrow().len(), 2);
}

#[test]
fn five_refusals_are_told_to_the_client() {
    let world = World::in_virtual_time(&config("\"$UP\"", ""), |_, _| Reply::Bytes(answer("429 Slow Down", "retry-after: 1\r\n")));
    let got = ask(&world);
    assert!(got.starts_with("HTTP/1.1 429 ") && got.contains("retry-after: 1\r\n"), "{got}");
    assert_eq!(world.seen.borrow().len(), 5);
}
