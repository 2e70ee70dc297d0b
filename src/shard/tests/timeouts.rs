//! Each time limit by itself, in virtual time: what ends, when, and what the client and the counters see.

use std::time::Duration;

use super::world::{End, Reply, World, ok, post, read_to_close};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const EVENT: &str = "a\r\ndata: {}\n\n\r\n";
const CONFIG: &str = r#"
[server]
header_timeout = "3s"
body_timeout = "5s"
idle_timeout = "7s"
write_timeout = "8s"

[[upstreams]]
name = "gpu"
endpoints = ["$UP"]
connect_timeout = "2s"
first_byte_timeout = "11s"
stream_idle_timeout = "13s"
total_timeout = "60s"

[[models]]
name = "m"
upstream = "gpu"

[[models]]
name = "patient"
upstream = "gpu"
timeouts = { first_byte = "40s", stream_idle = "30s", total = "100s" }

[[routes]]
path = "/plain"
upstream = "gpu"

[[routes]]
path = "/patient"
upstream = "gpu"
timeouts = { first_byte = "50s" }
"#;

fn chat(model: &str) -> String {
    post("/v1/chat/completions", &format!("{{\"model\":\"{model}\",\"stream\":true}}"))
}

/// What the client sees and how long that took, in whole seconds.
fn ask(world: &World, bytes: &str) -> (String, u64) {
    let (rt, address, bytes) = (world.rt.clone(), world.address.clone(), bytes.as_bytes().to_vec());
    world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        let begin = rt.now();
        socket.send(bytes).await.unwrap();
        let answer = read_to_close(&socket).await.0;
        (answer, rt.now().since(begin).as_secs())
    })
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn the_first_byte_is_waited_for_as_long_as_the_model_or_route_says() {
    let world = World::in_virtual_time(CONFIG, |_, _| Reply::Never);
    for (request, late) in [(chat("m"), 11), (chat("patient"), 40), (post("/plain", "1"), 11), (post("/patient", "1"), 50)] {
        let (answer, took) = ask(&world, &request);
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("x-headrace-error: upstream_timeout\r\n"), "{answer}");
        assert_eq!(took, late, "{request}");
    }
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"first_byte_timeout\""), 4.0);
    assert_eq!(world.seen.borrow().len(), 4, "never asked again");
}

/// The head of a stream is no first byte that counts: servers send it before they have looked at the prompt.
#[test]
fn a_streams_first_event_has_the_time_of_a_first_byte() {
    let world = World::in_virtual_time(CONFIG, |_, _| Reply::Pieces(vec![(seconds(5), HEAD.to_owned())], End::Silence));
    let (answer, took) = ask(&world, &chat("m"));
    assert!(answer.starts_with("HTTP/1.1 504 ") && took == 11, "{took} {answer}");
    let world = World::in_virtual_time(CONFIG, |_, _| {
        Reply::Pieces(vec![(seconds(5), HEAD.to_owned()), (seconds(5), format!("{EVENT}0\r\n\r\n"))], End::Whole)
    });
    let (answer, took) = ask(&world, &chat("m"));
    assert!(answer.ends_with("0\r\n\r\n") && took == 10, "{took} {answer}");
}

#[test]
fn silence_in_a_stream_ends_it_with_an_error_event() {
    let world = World::in_virtual_time(CONFIG, |_, _| {
        Reply::Pieces(vec![(seconds(0), format!("{HEAD}{EVENT}")), (seconds(10), EVENT.to_owned())], End::Silence)
    });
    for (model, late) in [("m", 10 + 13), ("patient", 10 + 30)] {
        let (answer, took) = ask(&world, &chat(model));
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.ends_with("0\r\n\r\n"), "{answer}");
        assert!(answer.contains("\"code\":\"stream_idle_timeout\"") && answer.matches("data: {}").count() == 2, "{answer}");
        assert_eq!(took, late);
    }
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"stream_idle_timeout\""), 2.0);
    assert_eq!(world.sum("headrace_streams_total", "outcome=\"idle_timeout\""), 2.0);
    assert_eq!(world.sum("headrace_requests_total", "status=\"504\""), 2.0);
    let rt = world.rt.clone();
    world.run(async move { rt.sleep_until(rt.now() + Duration::from_millis(10)).await });
    assert_eq!(world.aborted.get(), 2, "the server is told at once");
}

#[test]
fn a_whole_call_has_an_end() {
    let every = |_: &_, _| {
        Reply::Pieces(
            std::iter::once((seconds(0), HEAD.to_owned())).chain((0..200).map(|_| (seconds(1), EVENT.to_owned()))).collect(),
            End::Silence,
        )
    };
    let world = World::in_virtual_time(CONFIG, every);
    for (model, late) in [("m", 60), ("patient", 100)] {
        let (answer, took) = ask(&world, &chat(model));
        assert!(answer.contains("\"code\":\"upstream_timeout\"") && !answer.ends_with("0\r\n\r\n"), "{answer}");
        assert_eq!(took, late);
    }
    assert_eq!(world.sum("headrace_streams_total", "outcome=\"total_timeout\""), 2.0);
    // What is no stream is cut as it is.
    let drip = |_: &_, _| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n".to_owned();
        Reply::Pieces(std::iter::once((seconds(0), head)).chain((0..200).map(|_| (seconds(1), "x".to_owned()))).collect(), End::Silence)
    };
    let world = World::in_virtual_time(CONFIG, drip);
    let (answer, took) = ask(&world, &post("/plain", "1"));
    assert!(answer.contains("content-length: 500") && took == 60, "{took} {answer}");
}

/// An endpoint that never completes the handshake.
const HOLE: &str = "10.9.9.9:8000";

#[test]
fn a_connection_to_the_server_is_waited_for_in_its_own_time() {
    let config = CONFIG
        .replace("[\"$UP\"]", &format!("[\"http://{HOLE}\"]"))
        .replace("first_byte_timeout", "retry = { attempts = 1 }\nfirst_byte_timeout");
    let world = World::beside_a_hole(Some(HOLE), &config, |_, _| Reply::Never);
    for request in [chat("m"), post("/plain", "1")] {
        let (answer, took) = ask(&world, &request);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("x-headrace-error: upstream_unreachable\r\n"), "{answer}");
        assert_eq!(took, 2, "the time for connecting, not that for an answer");
    }
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"connect_timeout\""), 2.0);
    assert_eq!(world.metric("headrace_upstream_calls_in_flight{shard=\"0\"}"), 0.0);
    // One that refuses is not waited for.
    let config = CONFIG.replace("[\"$UP\"]", "[\"http://127.0.0.1:1\"]");
    let (answer, took) = ask(&World::in_virtual_time(&config, |_, _| Reply::Never), &chat("m"));
    assert!(answer.starts_with("HTTP/1.1 503 ") && took < 2, "{took} {answer}");
}

#[test]
fn who_does_not_connect_in_time_costs_its_time_and_no_answer() {
    let config = CONFIG.replace("[\"$UP\"]", &format!("[\"http://{HOLE}\", \"$UP\"]"));
    let world = World::beside_a_hole(Some(HOLE), &config, |_, _| Reply::Bytes(ok("{}")));
    let times: Vec<u64> = (0..12)
        .map(|_| {
            let (answer, took) = ask(&world, &chat("m"));
            assert!(answer.starts_with("HTTP/1.1 200 "), "nothing was sent, so it goes elsewhere: {answer}");
            took
        })
        .collect();
    let waited = times.iter().filter(|took| **took == 2).count();
    assert!(waited >= 3 && times.iter().all(|took| *took == 2 || *took == 0), "{times:?}");
    // After three failures in a row its breaker is open, but for a trial now and then.
    assert_eq!(world.sum("headrace_breaker_transitions_total", "to=\"open\"").min(1.0), 1.0);
    assert_eq!(world.seen.borrow().len(), 12);
}

#[test]
fn the_clients_own_times_are_its_own() {
    let world = World::in_virtual_time(CONFIG, |_, _| Reply::Bytes(ok("{}")));
    let (answer, took) = ask(&world, "POST /plain HTTP/1.1\r\nhost:");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("header_timeout") && took == 3, "{took} {answer}");
    let (answer, took) = ask(&world, "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 9\r\n\r\n1");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout") && (5..=6).contains(&took), "{took} {answer}");
    let (answer, took) = ask(&world, "GET /plain HTTP/1.1\r\nhost: g\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && took == 7, "{took} {answer}");
}

/// A client that takes nothing is cut; one that takes a little now and then is served to the end.
#[test]
fn a_client_that_does_not_read_is_cut_and_a_slow_one_is_served() {
    let big = "x".repeat(3_000_000);
    let len = big.len();
    let world = World::in_virtual_time(CONFIG, move |_, _| Reply::Bytes(ok(&big)));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(post("/plain", "1").into_bytes()).await.unwrap();
        rt.sleep_until(rt.now() + seconds(30)).await;
    });
    assert_eq!(world.sum("headrace_client_closed_total", "phase=\"relay\""), 1.0);
    assert_eq!(world.metric("headrace_exchanges_in_flight{shard=\"0\"}"), 0.0);
    let config = CONFIG.replace("total_timeout = \"60s\"", "total_timeout = \"24h\"");
    let big = "x".repeat(3_000_000);
    let world = World::in_virtual_time(&config, move |_, _| Reply::Bytes(ok(&big)));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let got = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(post("/plain", "1").into_bytes()).await.unwrap();
        let mut got = 0;
        while let Ok(Some(lease)) = socket.recv().await {
            got += lease.len();
            rt.sleep_until(rt.now() + Duration::from_millis(150)).await;
        }
        got
    });
    assert!(got > len, "{got}");
}
