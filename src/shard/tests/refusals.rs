//! What the gateway answers by itself: status, reason, and what happens to the connection.

use super::world::{Reply, World, ok, post};

const CONFIG: &str = r#"
[server]
max_body = "1KiB"
header_timeout = "200ms"
body_timeout = "200ms"

[[upstreams]]
name = "gpu"
endpoints = ["$UP"]

[[models]]
name = "small"
upstream = "gpu"

[[routes]]
path = "/files"
upstream = "gpu"
"#;

#[test]
fn each_refusal_has_its_status_and_its_reason() {
    let long = format!("{{\"model\":\"small\",\"input\":\"{}\"}}", "x".repeat(2000));
    let cases: &[(&str, String, &str, &str)] = &[
        ("no route", post("/nowhere", "x"), "404", "no_route"),
        ("unknown model", post("/v1/chat/completions", "{\"model\":\"big\"}"), "404", "model_not_found"),
        ("no model", post("/v1/chat/completions", "{\"messages\":[]}"), "400", "model_missing"),
        (
            "compressed",
            post("/v1/embeddings", "{}").replace("host:", "content-encoding: gzip\r\nhost:"),
            "415",
            "content_encoding",
        ),
        ("no JSON", post("/v1/chat/completions", "{\"model\":"), "400", "not_json"),
        ("two models", post("/v1/chat/completions", "{\"model\":\"small\",\"model\":\"big\"}"), "400", "duplicate_field"),
        ("body too large", post("/v1/embeddings", &long), "413", "body_too_large"),
        ("models by POST", post("/v1/models", ""), "405", "method_not_allowed"),
        ("bare LF", "GET / HTTP/1.1\nhost: g\n\n".to_owned(), "400", "bare_lf"),
        ("both lengths", post("/files", "x").replace("host", "transfer-encoding: chunked\r\nhost"), "400", ""),
        ("CONNECT", "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n".to_owned(), "405", ""),
        ("odd expectation", post("/files", "x").replace("host", "expect: magic\r\nhost"), "417", ""),
        (
            "upgrade",
            "GET /files HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".to_owned(),
            "501",
            "upgrade_not_supported",
        ),
        ("half a head", "GET / HTTP/1.1\r\nho".to_owned(), "408", "header_timeout"),
        ("half a body", post("/v1/embeddings", "{}").replace("content-length: 2", "content-length: 9"), "408", "body_timeout"),
    ];
    let world = World::new(CONFIG, |_, _| Reply::Bytes(ok("{}")));
    for (name, request, status, reason) in cases {
        let answer = world.transcript(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        assert!(answer.contains(&format!("x-headrace-error: {reason}")), "{name}: {answer}");
        assert!(answer.contains("{\"error\":{\"message\":\""), "{name}: {answer}");
    }
    assert!(world.seen.borrow().is_empty(), "nothing of them reached the upstream");
}

#[test]
fn the_models_list_names_what_is_configured() {
    let world = World::new(CONFIG, |_, _| Reply::Bytes(ok("{}")));
    let answer = world.transcript("GET /v1/models HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n");
    assert!(answer.contains("\"id\":\"small\""), "{answer}");
}

#[test]
fn an_unwanted_body_is_read_away_and_the_connection_stays() {
    let world = World::new(CONFIG, |_, _| Reply::Bytes(ok("{}")));
    let first = post("/nowhere", "0123456789").replace("connection: close\r\n", "");
    let answer = world.transcript(&format!("{first}{}", post("/files", "x")));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer}");
    assert_eq!(world.seen.borrow().len(), 1);
}

#[test]
fn anthropic_routes_wear_anthropics_envelope() {
    let world = World::new(CONFIG, |_, _| Reply::Bytes(ok("{}")));
    let answer = world.transcript(&post("/v1/messages", "{\"model\":\"big\"}"));
    assert!(answer.contains("{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\""), "{answer}");
}

#[test]
fn a_shard_holds_no_more_bodies_than_max_held_and_takes_others_again_afterwards() {
    let config = CONFIG.replace("max_body = \"1KiB\"", "max_body = \"1KiB\"\nmax_held = \"1500B\"");
    let world = World::new(&config, |_, _| Reply::Bytes(ok("{}")));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let body = format!("{{\"model\":\"small\",\"x\":\"{}\"}}", "y".repeat(980));
    let request = post("/v1/chat/completions", &body);
    let (first, rest) = (request[..request.len() - 1].to_owned(), request[request.len() - 1..].to_owned());
    let (held, refused, later) = world.run(async move {
        let holder = rt.connect(&address).await.unwrap();
        holder.send(first.into_bytes()).await.unwrap();
        rt.sleep_until(rt.now() + std::time::Duration::from_millis(20)).await;
        let second = rt.connect(&address).await.unwrap();
        second.send(request.clone().into_bytes()).await.unwrap();
        let refused = super::world::read_to_end(&second).await;
        holder.send(rest.into_bytes()).await.unwrap();
        let held = super::world::read_to_end(&holder).await;
        let third = rt.connect(&address).await.unwrap();
        third.send(request.into_bytes()).await.unwrap();
        (held, refused, super::world::read_to_end(&third).await)
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        text(&refused).starts_with("HTTP/1.1 503 ") && text(&refused).contains("x-headrace-error: memory_full\r\n"),
        "{}",
        text(&refused)
    );
    assert!(text(&held).starts_with("HTTP/1.1 200 "), "{}", text(&held));
    assert!(text(&later).starts_with("HTTP/1.1 200 "), "{}", text(&later));
    assert_eq!(world.metric("headrace_shed_total{reason=\"memory_full\"}"), 1.0);
}

#[test]
fn a_held_body_that_only_trickles_is_a_408_and_gives_back_what_it_reserved() {
    let config = CONFIG.replace("max_body = \"1KiB\"", "max_body = \"1KiB\"\nmax_held = \"1500B\"");
    let world = World::new(&config, |_, _| Reply::Bytes(ok("{}")));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let body = format!("{{\"model\":\"small\",\"x\":\"{}\"}}", "y".repeat(980));
    let request = post("/v1/chat/completions", &body);
    let (refused, later) = world.run(async move {
        let slow = rt.connect(&address).await.unwrap();
        slow.send(request.as_bytes()[..request.len() - 900].to_vec()).await.unwrap();
        // Never silent for long, and never done.
        slow.watch();
        let mut refused = loop {
            if let Some(lease) = slow.try_recv() {
                break lease.to_vec();
            }
            let _ = slow.send(b"y".to_vec()).await;
            rt.sleep_until(rt.now() + std::time::Duration::from_millis(50)).await;
        };
        refused.extend(super::world::read_to_end(&slow).await);
        let honest = rt.connect(&address).await.unwrap();
        honest.send(request.into_bytes()).await.unwrap();
        (refused, super::world::read_to_end(&honest).await)
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(text(&refused).starts_with("HTTP/1.1 408 "), "{}", text(&refused));
    assert!(text(&refused).contains("x-headrace-error: body_timeout\r\n"), "{}", text(&refused));
    assert!(text(&later).starts_with("HTTP/1.1 200 "), "{}", text(&later));
}
