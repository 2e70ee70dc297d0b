//! Dispatch, way 2: many clients, few calls, each its own answer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::world::{Reply, Seen, World, ok, post, read_to_end};

const MODEL: &str = r#"
[server]
debug_headers = true

[[upstreams]]
name = "gpu"
endpoints = ["$UP"]

[[models]]
name = "*"
upstream = "gpu"
"#;

/// Answers embeddings: each vector is its text's length, usage the sum of lengths.
fn embeddings(seen: &Seen) -> Vec<u8> {
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    let texts: Vec<String> = match &body["input"] {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(all) => all.iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        other => panic!("{other}"),
    };
    if texts.iter().any(|text| text == "poison") {
        let quoted = serde_json::json!({"error": {"message": format!("cannot embed {texts:?}")}}).to_string();
        return format!("HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{quoted}", quoted.len())
            .into_bytes();
    }
    let data: Vec<_> = (0..)
        .zip(&texts)
        .map(|(index, text): (usize, _)| serde_json::json!({"object": "embedding", "index": index, "embedding": [text.len(), text.len()]}))
        .collect();
    let total: usize = texts.iter().map(String::len).sum();
    let usage = serde_json::json!({"prompt_tokens": total, "total_tokens": total});
    ok(&serde_json::json!({"object": "list", "data": data, "model": "m", "usage": usage}).to_string())
}

fn ask(text: &str) -> String {
    post("/v1/embeddings", &format!("{{\"model\":\"m\",\"input\":\"{text}\"}}"))
}

#[test]
fn a_lone_request_goes_up_byte_for_byte() {
    let world = World::new(MODEL, |seen, _| Reply::Bytes(embeddings(seen)));
    let body = "{ \"model\" : \"m\",  \"input\":\"abc\" ,\"user\":\"u\"}";
    let answer = world.transcript(&post("/v1/embeddings", body));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\"embedding\":[3,3]"), "{answer}");
    assert!(answer.contains("x-headrace-batch-size: 1\r\n"), "{answer}");
    assert_eq!(world.seen.borrow()[0].body, body.as_bytes());
}

#[test]
fn requests_that_arrive_while_a_call_runs_share_the_next_and_each_gets_its_own_answer() {
    let world = World::new(MODEL, |seen, _| Reply::After(Duration::from_millis(20), embeddings(seen)));
    let done = Rc::new(Cell::new(0));
    for n in 1..=33usize {
        let (rt, address, done) = (world.rt.clone(), world.address.clone(), Rc::clone(&done));
        world.rt.spawn(async move {
            let socket = rt.connect(&address).await.unwrap();
            if n > 1 {
                rt.sleep_until(rt.now() + Duration::from_millis(5)).await;
            }
            socket.send(ask(&"x".repeat(n)).into_bytes()).await.unwrap();
            let answer = String::from_utf8(read_to_end(&socket).await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains(&format!("\"embedding\":[{n},{n}]")), "{n}: {answer}");
            assert!(answer.contains(&format!("\"prompt_tokens\":{n},")), "{n}: {answer}");
            assert!(answer.contains("\"index\":0"), "{answer}");
            done.set(done.get() + 1);
        });
    }
    let (rt, done) = (world.rt.clone(), done);
    world.run(async move {
        while done.get() < 33 {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
    });
    let calls = world.seen.borrow().len();
    assert!((2..=4).contains(&calls), "{calls} calls for 33 requests");
}

#[test]
fn one_poison_item_among_31_good_ones_fails_alone_within_11_calls() {
    let world = World::new(MODEL, |seen, number| {
        let wait = if number == 0 { 20 } else { 1 };
        Reply::After(Duration::from_millis(wait), embeddings(seen))
    });
    let done = Rc::new(Cell::new(0));
    for n in 0..33usize {
        let (rt, address, done) = (world.rt.clone(), world.address.clone(), Rc::clone(&done));
        world.rt.spawn(async move {
            let socket = rt.connect(&address).await.unwrap();
            if n > 0 {
                rt.sleep_until(rt.now() + Duration::from_millis(5)).await;
            }
            let text = if n == 17 { "poison".to_owned() } else { "y".repeat(n + 1) };
            socket.send(ask(&text).into_bytes()).await.unwrap();
            let answer = String::from_utf8(read_to_end(&socket).await).unwrap();
            if n == 17 {
                assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
                assert!(!answer.contains("yy"), "an error must not quote a neighbour: {answer}");
            } else {
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                assert!(answer.contains(&format!("\"embedding\":[{},", n + 1)), "{answer}");
            }
            done.set(done.get() + 1);
        });
    }
    let (rt, done) = (world.rt.clone(), done);
    world.run(async move {
        while done.get() < 33 {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
    });
    let calls = world.seen.borrow().len();
    assert!(calls <= 12, "the plug and at most 11: {calls}");
}

#[test]
fn a_client_that_leaves_changes_nobody_elses_answer_and_the_last_one_ends_the_call() {
    let world = World::new(MODEL, |_, _| Reply::Never);
    let (rt, address, aborted) = (world.rt.clone(), world.address.clone(), Rc::clone(&world.aborted));
    world.run(async move {
        let first = rt.connect(&address).await.unwrap();
        first.send(ask("a").into_bytes()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_millis(10)).await;
        let second = rt.connect(&address).await.unwrap();
        second.send(ask("bb").into_bytes()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_millis(10)).await;
        drop(second);
        rt.sleep_until(rt.now() + Duration::from_millis(10)).await;
        assert_eq!(aborted.get(), 0, "the first still waits");
        drop(first);
        while aborted.get() == 0 {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
    });
    world.run({
        let rt = world.rt.clone();
        async move { rt.sleep_until(rt.now() + Duration::from_millis(5)).await }
    });
    for gauge in ["tickets", "queued_items", "upstream_calls_in_flight", "exchanges_in_flight"] {
        assert_eq!(world.metric(&format!("headrace_{gauge}{{shard=\"0\"}}")), 0.0, "{gauge}");
    }
}

#[test]
fn a_call_that_is_aborted_because_nobody_waits_counts_as_cancelled() {
    let world = World::new(MODEL, |_, _| Reply::Never);
    let (rt, address, aborted) = (world.rt.clone(), world.address.clone(), Rc::clone(&world.aborted));
    world.run(async move {
        let client = rt.connect(&address).await.unwrap();
        client.send(ask("a").into_bytes()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_millis(10)).await;
        drop(client);
        while aborted.get() == 0 {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
    });
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"cancelled\""), 1.0);
}

#[test]
fn a_body_that_did_not_wait_for_its_100_leaves_the_connection_open() {
    let world = World::new(MODEL, |seen, _| Reply::Bytes(embeddings(seen)));
    let body = "{\"model\":\"m\",\"input\":\"abc\"}";
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: gate\r\nx-headrace-coalesce: never\r\nexpect: 100-continue\r\n";
    let first = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let answers = world.transcript(&(first + &ask("second")));
    assert!(answers.contains("\"embedding\":[3,3]"), "{answers}");
    assert!(answers.contains("\"embedding\":[6,6]"), "what was sent ahead is lost: {answers}");
}

#[test]
fn x_headrace_coalesce_never_opts_out() {
    let world = World::new(MODEL, |seen, _| Reply::Bytes(embeddings(seen)));
    let request = ask("abc").replace("host: gate\r\n", "host: gate\r\nx-headrace-coalesce: never\r\n");
    let answer = world.transcript(&request);
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("x-headrace-batch-size"), "{answer}");
    assert!(!world.seen.borrow()[0].head.contains("x-headrace"), "{}", world.seen.borrow()[0].head);
}

#[test]
fn a_compressed_body_is_passed_on_untouched_where_every_model_goes_one_way() {
    let world = World::new(MODEL, |_, _| Reply::Bytes(ok("{}")));
    let answer = world.transcript(&post("/v1/embeddings", "not JSON").replace("host:", "content-encoding: gzip\r\nhost:"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(world.seen.borrow()[0].body, b"not JSON");
    assert!(world.seen.borrow()[0].head.contains("content-encoding: gzip\r\n"));
}

/// A merged call carries one credential, `authorization`, which is part of the lane key; another kind of key would be left out of
/// it, or worse, be somebody else's.
#[test]
fn requests_with_an_api_key_that_travels_upstream_are_never_merged() {
    let config = MODEL.replace("endpoints = [\"$UP\"]", "endpoints = [\"$UP\"]\nforward_authorization = true");
    let world = World::new(&config, |seen, _| Reply::After(Duration::from_millis(20), embeddings(seen)));
    let done = Rc::new(Cell::new(0));
    for n in 0..8 {
        let (rt, address, done) = (world.rt.clone(), world.address.clone(), Rc::clone(&done));
        world.rt.spawn(async move {
            let socket = rt.connect(&address).await.unwrap();
            let request = ask("abc").replace("host:", &format!("x-api-key: key-{n}\r\nhost:"));
            socket.send(request.into_bytes()).await.unwrap();
            let answer = String::from_utf8(read_to_end(&socket).await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            done.set(done.get() + 1);
        });
    }
    let rt = world.rt.clone();
    world.run(async move {
        while done.get() < 8 {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
    });
    let seen = world.seen.borrow();
    assert_eq!(seen.len(), 8, "each its own call");
    for n in 0..8 {
        let with_key = seen.iter().filter(|seen| seen.head.contains(&format!("x-api-key: key-{n}\r\n")));
        assert_eq!(with_key.count(), 1, "key {n} went up once");
    }
}
