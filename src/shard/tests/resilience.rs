//! Breaker, retries, fallback and hedging on one shard: what upstreams see, what clients get. The second upstream of the configurations
//! is a port where nobody listens.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::world::{Reply, World, ok, post, read_to_end};

const BODY: &str = "{\"model\":\"big\",\"x\":1}";

fn answer(status: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{fields}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// One model with `upstream` beside its endpoints and `model` beside its upstream.
fn config(upstream: &str, model: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"up\"\nendpoints = [\"$UP\"]\nfirst_byte_timeout = \"300ms\"\n{upstream}\n\
         [[models]]\nname = \"big\"\nupstream = \"up\"\n{model}\n\
         [[models]]\nname = \"sm\\u00E4ll \\\"one\\\"\"\nupstream = \"up\"\nbatching = {{ mode = \"off\" }}\n\
         [[models]]\nname = \"gone\"\nupstream = \"dead\"\n\
         [[upstreams]]\nname = \"dead\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
         [[canned]]\nname = \"sorry\"\nstatus = 203\nbody = '{{\"sorry\":true}}'\n"
    )
}

/// With a second endpoint, which is the same server under another address: `::ffff:127.0.0.1`.
fn twin(config: &str) -> String {
    config.replace("[\"$UP\"]", "[\"$UP\", \"$TWIN\"]")
}

const CHAT: &str = "/v1/chat/completions";
const RETRY: &str = "retry = { on = [\"connect\", \"reset\", \"5xx\", \"429\"], backoff = \"1ms\" }";

#[test]
fn a_5xx_is_tried_again_only_where_that_is_allowed_and_does_no_harm() {
    let table = [
        ("embeddings may be repeated", RETRY, "", "/v1/rerank", 3),
        ("a generation may not", RETRY, "", CHAT, 1),
        ("unless the operator says so", RETRY, "idempotent = true", CHAT, 3),
        ("answers are left alone by default", "", "", "/v1/rerank", 1),
    ];
    for (why, upstream, model, path, calls) in table {
        let world = World::new(&config(upstream, model), |_, _| Reply::Bytes(answer("500 Oops", "", "{\"a\":1}")));
        let got = world.transcript(&post(path, BODY));
        assert!(got.starts_with("HTTP/1.1 500 Oops\r\n") && got.ends_with("{\"a\":1}"), "the last one's answer: {got}");
        assert_eq!(world.seen.borrow().len(), calls, "{why}");
        assert_eq!(world.metric("headrace_upstream_retries_total{upstream=\"up\"}"), calls as f64 - 1.0, "{why}");
    }
}

#[test]
fn a_retry_that_succeeds_is_all_the_client_sees() {
    let world = World::new(&config(RETRY, ""), |_, number| match number {
        0 => Reply::ThenClose(b"HTTP/1.1 2".to_vec()),
        1 => Reply::Bytes(answer("502 Bad", "", "{}")),
        _ => Reply::Bytes(ok("{\"fine\":1}")),
    });
    let got = world.transcript(&post("/v1/rerank", BODY));
    assert!(got.starts_with("HTTP/1.1 200 ") && got.ends_with("{\"fine\":1}"), "{got}");
    assert!(world.seen.borrow().iter().all(|seen| seen.body == BODY.as_bytes()), "the same request each time");
}

#[test]
fn a_server_that_asks_for_more_time_than_there_is_patience_is_left_alone() {
    let world = World::new(&config(RETRY, ""), |_, _| Reply::Bytes(answer("429 Slow Down", "retry-after: 7\r\n", "{\"r\":1}")));
    let first = world.transcript(&post(CHAT, BODY));
    assert!(first.starts_with("HTTP/1.1 429 ") && first.contains("retry-after: 7\r\n"), "as it was said: {first}");
    // Until then the gateway answers for it.
    let second = world.transcript(&post(CHAT, BODY));
    assert!(second.starts_with("HTTP/1.1 503 ") && second.contains("x-headrace-error: upstream_paused\r\n"), "{second}");
    assert!(second.contains("retry-after: 7\r\n"), "{second}");
    assert_eq!(world.seen.borrow().len(), 1);
    assert_eq!(world.sum("headrace_endpoint_pauses_total", "upstream=\"up\""), 1.0);
    assert_eq!(world.sum("headrace_breaker_transitions_total", "to=\"open\""), 0.0, "it is not broken");
}

#[test]
fn a_pause_may_be_a_date() {
    // By the server's own clock, whatever ours says; and by ours, which is at the year's first moment.
    let by_date = "date: Mon, 01 Jan 2001 00:00:00 GMT\r\nretry-after: Mon, 01 Jan 2001 00:00:09 GMT\r\n";
    for fields in [by_date, "retry-after: Thu, 01 Jan 2026 00:00:09 GMT\r\n"] {
        let world = World::in_virtual_time(&config("", ""), |_, number| match number {
            0 => Reply::Bytes(answer("503 Busy", fields, "{}")),
            _ => Reply::Bytes(ok("{\"fine\":1}")),
        });
        assert!(world.transcript(&post(CHAT, BODY)).contains(fields), "as it was said");
        let paused = world.transcript(&post(CHAT, BODY));
        assert!(paused.contains("x-headrace-error: upstream_paused\r\n") && paused.contains("retry-after: 9\r\n"), "{paused}");
        let rt = world.rt.clone();
        world.run(async move { rt.sleep_until(rt.now() + Duration::from_secs(9)).await });
        let after = world.transcript(&post(CHAT, BODY));
        assert!(after.ends_with("{\"fine\":1}"), "{after}");
    }
    let over = "retry-after: Mon, 01 Jan 2001 00:00:00 GMT\r\n";
    let world = World::in_virtual_time(&config("", ""), move |_, _| Reply::Bytes(answer("503 Busy", over, "{}")));
    for _ in 0..2 {
        assert!(world.transcript(&post(CHAT, BODY)).starts_with("HTTP/1.1 503 Busy\r\n"), "a date that is over asks for nothing");
    }
    assert_eq!(world.sum("headrace_endpoint_pauses_total", "upstream=\"up\""), 0.0);
}

#[test]
fn a_pause_that_is_short_is_waited_for() {
    let world = World::new(&config(RETRY, ""), |_, number| match number {
        0 => Reply::Bytes(answer("429 Slow Down", "retry-after-ms: 40\r\n", "{}")),
        _ => Reply::Bytes(ok("{\"fine\":1}")),
    });
    let began = world.rt.now();
    let got = world.transcript(&post(CHAT, BODY));
    assert!(got.ends_with("{\"fine\":1}"), "{got}");
    assert!(world.rt.now().since(began) >= Duration::from_millis(40));
}

#[test]
fn a_limit_of_one_clients_credential_pauses_nobody_else() {
    let world =
        World::new(&config("forward_authorization = true", ""), |_, _| Reply::Bytes(answer("429 Slow Down", "retry-after: 7\r\n", "{}")));
    for _ in 0..2 {
        let got = world.transcript(&post(CHAT, BODY));
        assert!(got.starts_with("HTTP/1.1 429 "), "{got}");
    }
    assert_eq!(world.seen.borrow().len(), 2);
}

#[test]
fn a_client_that_leaves_during_the_wait_is_not_called_for_again() {
    let retry = "retry = { on = [\"5xx\"], backoff = \"3600s\", backoff_max = \"3600s\" }\ntotal_timeout = \"24h\"";
    let world = World::new(&config(retry, ""), |_, _| Reply::Bytes(answer("500 Oops", "", "{}")));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let (seen, shard) = (Rc::clone(&world.seen), Rc::clone(&world.shard));
    world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(post("/v1/rerank", BODY).into_bytes()).await.unwrap();
        while seen.borrow().is_empty() {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
        rt.sleep_until(rt.now() + Duration::from_millis(5)).await;
        drop(socket);
        while !shard.is_empty() {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
    });
    assert_eq!(world.seen.borrow().len(), 1);
    assert_eq!(world.metric("headrace_client_closed_total{phase=\"call\"}"), 1.0);
}

#[test]
fn a_dead_upstream_leads_to_the_next_model_under_its_own_name() {
    let chain = "fallback = [\"gone\", \"sm\\u00E4ll \\\"one\\\"\", \"sorry\"]";
    let world =
        World::new(&config("", chain).replacen("upstream = \"up\"", "upstream = \"dead\"", 1), |_, _| Reply::Bytes(ok("{\"s\":1}")));
    for path in [CHAT, "/v1/rerank"] {
        let got = world.transcript(&post(path, BODY));
        assert!(got.starts_with("HTTP/1.1 200 ") && got.ends_with("{\"s\":1}"), "{got}");
        assert!(got.contains("x-headrace-fallback: sm\u{e4}ll \"one\"\r\n"), "{got}");
    }
    for seen in world.seen.borrow().iter() {
        assert_eq!(seen.body, "{\"model\":\"sm\u{e4}ll \\\"one\\\"\",\"x\":1}".as_bytes(), "the rest as it came");
        assert!(!seen.head.contains("x-headrace"), "{}", seen.head);
    }
    // Both links were needed, twice.
    assert_eq!(world.metric("headrace_fallbacks_total{model=\"big\",reason=\"unreachable\"}"), 4.0);
    assert_eq!(world.sum("headrace_requests_total", "model=\"big\""), 2.0, "counted as what was asked for");
}

#[test]
fn a_merged_call_falls_back_too() {
    let chain = "fallback = [\"sm\\u00E4ll \\\"one\\\"\"]";
    let world =
        World::new(&config("", chain).replacen("upstream = \"up\"", "upstream = \"dead\"", 1), |_, _| Reply::Bytes(ok("{\"e\":1}")));
    let got = world.transcript(&post("/v1/embeddings", "{\"model\":\"big\",\"input\":\"a\"}"));
    assert!(got.ends_with("{\"e\":1}") && got.contains("x-headrace-fallback: "), "{got}");
    assert_eq!(world.seen.borrow()[0].body, "{\"model\":\"sm\u{e4}ll \\\"one\\\"\",\"input\":\"a\"}".as_bytes());
}

#[test]
fn errors_and_time_outs_end_in_the_canned_answer_and_client_errors_do_not() {
    type Script = fn(usize) -> Reply;
    let table: [(&str, Script, &str); 5] = [
        ("error", |_| Reply::Bytes(answer("503 No", "", "{}")), "203"),
        ("timeout", |_| Reply::Never, "203"),
        ("context_length", |_| Reply::Bytes(answer("400 Bad", "", "{\"error\":{\"code\":\"context_length_exceeded\"}}")), "203"),
        ("", |_| Reply::Bytes(answer("400 Bad", "", "{\"error\":\"no such field\"}")), "400"),
        ("", |_| Reply::Bytes(answer("404 Not Found", "", "{}")), "404"),
    ];
    for (reason, script, status) in table {
        let world = World::new(&config("", "fallback = [\"sorry\"]"), move |_, number| script(number));
        let got = world.transcript(&post(CHAT, BODY));
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{reason}: {got}");
        assert_eq!(got.contains("x-headrace-fallback: sorry\r\n"), status == "203", "{got}");
        assert_eq!(got.ends_with("{\"sorry\":true}"), status == "203", "{got}");
        assert_eq!(world.sum("headrace_fallbacks_total", &format!("reason=\"{reason}\"")), f64::from(u8::from(status == "203")));
        assert_eq!(world.sum("headrace_breaker_transitions_total", "to=\"open\""), 0.0);
    }
}

#[test]
fn an_error_in_pieces_is_looked_at_whole_and_passed_on_as_it_came() {
    let chunked = b"HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{\"a\":12\r\n".to_vec();
    let world =
        World::new(&config("", "fallback = [\"sorry\"]"), move |_, _| Reply::Bytes([chunked.as_slice(), b"1\r\n}\r\n0\r\n\r\n"].concat()));
    let got = world.transcript(&post(CHAT, BODY));
    assert!(got.starts_with("HTTP/1.1 400 ") && got.contains("{\"a\":12") && got.ends_with("0\r\n\r\n"), "{got}");
}

#[test]
fn a_fallback_is_steered_by_what_its_own_upstream_asks_for() {
    let config = r#"
[[upstreams]]
name = "dead"
endpoints = ["http://127.0.0.1:1"]
affinity = { header = "x-other" }
[[upstreams]]
name = "spare"
endpoints = ["$UP", "$OTHER"]
AFFINITY
[[models]]
name = "big"
upstream = "dead"
fallback = ["small"]
[[models]]
name = "small"
upstream = "spare"
"#;
    let host = |head: &str| head.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned)).unwrap();
    // By a field of the head, and by the beginning of the prompt.
    for (affinity, by_field) in [("affinity = { header = \"x-session\" }", true), ("prefix_affinity = {}", false)] {
        let world = World::new(&config.replace("AFFINITY", affinity), |_, _| Reply::Bytes(ok("{}")));
        let mut places = std::collections::BTreeMap::<usize, Vec<String>>::new();
        for _ in 0..3 {
            for session in 0..12 {
                let text = format!("{session} ").repeat(400);
                let body = format!("{{\"model\":\"big\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}");
                let field = if by_field { format!("x-session: s{session}\r\n") } else { String::new() };
                let request = post(CHAT, &body).replacen("host: gate\r\n", &format!("host: gate\r\n{field}"), 1);
                let got = world.transcript(&request);
                assert!(got.contains("x-headrace-fallback: small\r\n"), "{got}");
                places.entry(session).or_default().push(host(&world.seen.borrow().last().unwrap().head));
            }
        }
        assert!(places.values().all(|at| at.iter().all(|one| *one == at[0])), "{affinity}: each stays where it is: {places:?}");
        let mut firsts: Vec<&String> = places.values().map(|at| &at[0]).collect();
        firsts.sort();
        firsts.dedup();
        assert_eq!(firsts.len(), 2, "{affinity}: over both endpoints");
    }
}

#[test]
fn the_last_links_answer_is_the_clients() {
    let world = World::new(&config("", "fallback = [\"sm\\u00E4ll \\\"one\\\"\"]"), |seen, _| {
        let small = String::from_utf8_lossy(&seen.body).contains("one");
        Reply::Bytes(answer(if small { "502 Small" } else { "500 Big" }, "", if small { "{\"s\":1}" } else { "{\"b\":1}" }))
    });
    let got = world.transcript(&post(CHAT, BODY));
    assert!(got.starts_with("HTTP/1.1 502 Small\r\n") && got.ends_with("{\"s\":1}"), "{got}");
}

#[test]
fn an_open_breaker_does_not_wait_where_there_is_a_fallback() {
    let world =
        World::new(&config("breaker = { failures = 2, open = \"3600s\", open_max = \"3600s\" }", "fallback = [\"sorry\"]"), |_, _| {
            Reply::ThenClose(Vec::new())
        });
    for _ in 0..5 {
        let got = world.transcript(&post(CHAT, BODY));
        assert!(got.starts_with("HTTP/1.1 203 "), "{got}");
    }
    assert_eq!(world.seen.borrow().len(), 2, "then it is not asked any more");
    assert_eq!(world.sum("headrace_breaker_transitions_total", "to=\"open\""), 1.0);
    assert_eq!(world.sum("headrace_breaker_state", "state=\"open\""), 1.0);
    assert!(world.sum("headrace_endpoint_unhealthy", "upstream=\"up\"") > 0.0);
}

#[test]
fn a_breaker_opens_lets_one_through_and_closes() {
    let broken = Rc::new(Cell::new(true));
    let of_script = Rc::clone(&broken);
    let breaker = "breaker = { failures = 3, open = \"20ms\" }\nretry = { attempts = 1 }";
    let world = World::new(&config(breaker, ""), move |_, _| match of_script.get() {
        true => Reply::ThenClose(Vec::new()),
        false => Reply::Bytes(ok("{}")),
    });
    for _ in 0..3 {
        assert!(world.transcript(&post(CHAT, BODY)).starts_with("HTTP/1.1 502 "));
    }
    broken.set(false);
    let rt = world.rt.clone();
    world.run(async move { rt.sleep_until(rt.now() + Duration::from_millis(40)).await });
    assert!(world.transcript(&post(CHAT, BODY)).starts_with("HTTP/1.1 200 "));
    for to in ["open", "half_open", "closed"] {
        assert_eq!(world.sum("headrace_breaker_transitions_total", &format!("to=\"{to}\"")), 1.0, "{to}");
    }
    assert_eq!(world.sum("headrace_endpoint_unhealthy", "upstream=\"up\""), 0.0);
}

#[test]
fn a_long_answer_does_not_keep_a_trials_place() {
    let broken = Rc::new(Cell::new(true));
    let of_script = Rc::clone(&broken);
    let breaker = "breaker = { failures = 1, open = \"20ms\" }\nretry = { attempts = 1 }";
    // Its answers begin and never end.
    let world = World::new(&config(breaker, ""), move |_, _| match of_script.get() {
        true => Reply::ThenClose(Vec::new()),
        false => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec()),
    });
    assert!(world.transcript(&post(CHAT, BODY)).starts_with("HTTP/1.1 502 "));
    broken.set(false);
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let socket = world.run(async move {
        rt.sleep_until(rt.now() + Duration::from_millis(40)).await;
        let socket = rt.connect(&address).await.unwrap();
        socket.send(post(CHAT, BODY).into_bytes()).await.unwrap();
        assert!(socket.recv().await.unwrap().is_some(), "the head is here");
        socket
    });
    assert_eq!(world.sum("headrace_breaker_transitions_total", "to=\"closed\""), 1.0);
    drop(socket);
}

#[test]
fn a_slow_call_is_doubled_and_the_first_answer_wins() {
    // Both endpoints are the same server under two names; its first call never ends.
    let config = config("", "hedge = { after = \"20ms\", max = \"100%\" }\nbatching = { mode = \"off\" }");
    let world = World::new(&twin(&config), |_, number| match number {
        0 => Reply::Never,
        _ => Reply::Bytes(ok("{\"second\":1}")),
    });
    let got = world.transcript(&post("/v1/embeddings", "{\"model\":\"big\",\"input\":\"a\"}"));
    assert!(got.starts_with("HTTP/1.1 200 ") && got.ends_with("{\"second\":1}"), "{got}");
    assert_eq!(world.metric("headrace_hedges_total{model=\"big\",result=\"sent\"}"), 1.0);
    assert_eq!(world.metric("headrace_hedges_total{model=\"big\",result=\"won\"}"), 1.0);
    let (rt, aborted) = (world.rt.clone(), Rc::clone(&world.aborted));
    world.run(async move {
        while aborted.get() == 0 {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
    });
    assert_eq!(world.metric("headrace_upstream_calls_in_flight{shard=\"0\"}"), 0.0);
}

#[test]
fn a_generation_or_a_stream_is_not_doubled() {
    for (model, body) in [
        ("hedge = { after = \"1ms\", max = \"100%\" }", BODY),
        ("hedge = { after = \"1ms\", max = \"100%\" }\nidempotent = true", "{\"model\":\"big\",\"stream\":true}"),
    ] {
        let world = World::new(&twin(&config("", model)), |_, _| Reply::After(Duration::from_millis(30), ok("{}")));
        let (rt, address) = (world.rt.clone(), world.address.clone());
        let got = world.run(async move {
            let socket = rt.connect(&address).await.unwrap();
            socket.send(post(CHAT, body).into_bytes()).await.unwrap();
            read_to_end(&socket).await
        });
        assert!(got.starts_with(b"HTTP/1.1 200 "));
        assert_eq!(world.seen.borrow().len(), 1);
    }
}
