//! An upstream with a limit: who goes, who waits, who is turned away and with which words.

use std::time::Duration;

use super::world::{Reply, Seen, World, ok, read_to_end};
use crate::mesh::{Level, Pressure};
use crate::runtime::Socket;

const LIMITED: &str = r#"
[admission]
priority_header = "x-priority"
tenant_header = "x-tenant"

[[upstreams]]
name = "up"
endpoints = ["$UP"]
concurrency = { limit = 2, $MORE }

[[routes]]
path = "/"
upstream = "up"
"#;

fn limited(more: &str, script: impl Fn(&Seen, usize) -> Reply + 'static) -> World {
    World::new(&LIMITED.replace("$MORE", more), script)
}

/// A client that has asked and reads nothing yet.
fn ask(world: &World, path: &str, fields: &str) -> Socket {
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let request = format!("POST {path} HTTP/1.1\r\nhost: g\r\n{fields}connection: close\r\ncontent-length: 2\r\n\r\n{{}}");
    world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(request.into_bytes()).await.unwrap();
        socket
    })
}

fn answer(world: &World, socket: Socket) -> String {
    world.run(async move { String::from_utf8_lossy(&read_to_end(&socket).await).into_owned() })
}

/// Turns until it is so.
fn until(world: &World, what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        let rt = world.rt.clone();
        world.run(async move { rt.sleep_until(rt.now() + Duration::from_millis(1)).await });
    }
    panic!("not so after many turns: {what}");
}

fn waiting(world: &World) -> f64 {
    world.metric("headrace_admission_waiting{upstream=\"up\"}")
}

fn waits(world: &World, count: usize) {
    until(world, &format!("{count} wait"), || waiting(world) == count as f64);
}

fn paths(world: &World) -> Vec<String> {
    world.seen.borrow().iter().map(|seen| seen.head.split(' ').nth(1).unwrap().to_owned()).collect()
}

fn at_rest(world: &World) {
    until(world, "all places are free", || waiting(world) == 0.0 && world.metric("headrace_admission_in_flight{upstream=\"up\"}") == 0.0);
}

#[test]
fn no_more_than_the_limit_go_and_the_others_wait_their_turn() {
    let world = limited("queue_timeout = \"60s\"", |_, _| Reply::Never);
    let mut clients: Vec<Socket> = (0..6).map(|number| ask(&world, &format!("/{number}"), "")).collect();
    waits(&world, 4);
    assert_eq!(paths(&world), ["/0", "/1"]);
    // Each that leaves gives its place to the next; one that leaves the line gives nothing.
    drop(clients.remove(3));
    waits(&world, 3);
    drop(clients.remove(0));
    until(&world, "the third goes", || world.seen.borrow().len() == 3);
    drop(clients.drain(..2));
    until(&world, "all go", || world.seen.borrow().len() == 5);
    assert_eq!(paths(&world), ["/0", "/1", "/2", "/4", "/5"], "in the order they came");
    drop(clients);
    at_rest(&world);
    assert_eq!(world.metric("headrace_admission_wait_seconds_count{upstream=\"up\"}"), 3.0);
    assert_eq!(world.metric("headrace_client_closed_total{phase=\"admit\"}"), 1.0);
}

#[test]
fn an_answer_gives_the_place_back_and_so_does_a_failure() {
    let world = limited("queue_timeout = \"60s\"", |_, number| match number % 3 {
        0 => Reply::After(Duration::from_millis(5), ok("fine")),
        1 => Reply::ThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut".to_vec()),
        _ => Reply::ThenClose(b"rubbish\r\n\r\n".to_vec()),
    });
    let clients: Vec<Socket> = (0..12).map(|_| ask(&world, "/", "")).collect();
    let answers: Vec<String> = clients.into_iter().map(|client| answer(&world, client)).collect();
    let count = |start: &str| answers.iter().filter(|answer| answer.starts_with(start)).count();
    assert_eq!((count("HTTP/1.1 200"), count("HTTP/1.1 502")), (8, 4), "{answers:?}");
    at_rest(&world);
}

#[test]
fn who_waits_for_too_long_is_told_so() {
    let world = limited("queue_timeout = \"50ms\"", |_, _| Reply::Never);
    let clients = [ask(&world, "/0", ""), ask(&world, "/1", "")];
    let late = ask(&world, "/2", "");
    let answer = answer(&world, late);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("x-headrace-error: queue_timeout\r\n") && answer.contains("retry-after: 1\r\n"), "{answer}");
    assert_eq!(world.metric("headrace_shed_total{reason=\"queue_timeout\"}"), 1.0);
    drop(clients);
    at_rest(&world);
    assert_eq!(world.seen.borrow().len(), 2);
}

#[test]
fn a_full_queue_is_an_overload_or_a_tenants_own_doing() {
    let world = limited("queue_max = 2, queue_timeout = \"60s\"", |_, _| Reply::Never);
    let alike = |number: usize| ask(&world, &format!("/{number}"), "x-tenant: flood\r\n");
    let clients: Vec<Socket> = (0..4).map(alike).collect();
    waits(&world, 2);
    // All of one tenant: nobody is wronged, there is just too much.
    let fifth = answer(&world, ask(&world, "/5", "x-tenant: flood\r\n"));
    assert!(fifth.starts_with("HTTP/1.1 503 ") && fifth.contains("x-headrace-error: upstream_full\r\n"), "{fifth}");
    assert!(fifth.contains("retry-after: "), "{fifth}");
    // Another one comes: it gets the place of the newest of those that wait.
    let other = ask(&world, "/other", "x-tenant: other\r\n");
    let mut clients = clients.into_iter();
    let held: Vec<Socket> = clients.by_ref().take(3).collect();
    let put_out = answer(&world, clients.next().unwrap());
    assert!(put_out.starts_with("HTTP/1.1 429 ") && put_out.contains("x-headrace-error: tenant_share\r\n"), "{put_out}");
    drop(held);
    until(&world, "the other goes", || paths(&world).contains(&"/other".to_owned()));
    drop(other);
    at_rest(&world);
}

#[test]
fn without_a_queue_who_finds_no_place_is_refused() {
    let world = limited("queue_max = 0", |_, _| Reply::Never);
    let clients = [ask(&world, "/0", ""), ask(&world, "/1", "")];
    until(&world, "they go", || world.seen.borrow().len() == 2);
    let third = answer(&world, ask(&world, "/2", ""));
    assert!(third.contains("x-headrace-error: upstream_full\r\n"), "{third}");
    drop(clients);
    at_rest(&world);
}

#[test]
fn the_more_urgent_go_first_and_tenants_take_turns() {
    let world = limited("queue_timeout = \"60s\"", |_, number| if number < 2 { Reply::Never } else { Reply::Bytes(ok("")) });
    let asked = [
        ("/first", ""),
        ("/second", ""),
        ("/low", "x-priority: low\r\n"),
        ("/a1", "x-tenant: a\r\n"),
        ("/a2", "x-tenant: a\r\nx-priority: of no such word\r\n"),
        ("/b1", "authorization: Bearer b\r\n"),
        ("/high", "x-priority: HIGH\r\nx-tenant: a\r\n"),
    ];
    let mut clients: Vec<Socket> = asked.iter().map(|(path, fields)| ask(&world, path, fields)).collect();
    waits(&world, 5);
    drop(clients.drain(..2));
    for client in clients {
        assert!(answer(&world, client).starts_with("HTTP/1.1 200 "));
    }
    let order = paths(&world);
    let at = |path: &str| order.iter().position(|seen| seen == path).unwrap();
    // The line was begun by a low one, whose class has its turn first; of those behind it the high one is next.
    assert!(at("/high") <= 3, "{order:?}");
    assert!(at("/b1") < at("/a2"), "{order:?}");
    at_rest(&world);
}

#[test]
fn a_learned_limit_goes_down_when_the_upstream_says_it_has_too_much_to_do() {
    let config = LIMITED.replace("limit = 2, $MORE", "limit = \"adaptive\"");
    let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec();
    let world = World::new(&config, move |_, _| Reply::Bytes(busy.clone()));
    let shown = "headrace_admission_limit{upstream=\"up\"}";
    until(&world, "the limit is shown", || world.metric(shown) == 20.0);
    for _ in 0..5 {
        assert!(answer(&world, ask(&world, "/", "")).starts_with("HTTP/1.1 503 "));
    }
    until(&world, "it is shown anew", || world.metric(shown) < 13.0);
    at_rest(&world);
}

const LANE: &str = r#"
    [admission]
    priority_header = "x-priority"
    tenant_header = "x-tenant"
    [[upstreams]]
    name = "gpu"
    endpoints = ["$UP"]
    [[models]]
    name = "m"
    upstream = "gpu"
    batching = { max_items = 4, max_queue_items = 40 }
"#;

/// What an upstream answers for as many texts as it is asked for.
fn embeddings(seen: &Seen) -> Vec<u8> {
    let data: Vec<_> =
        (0..).zip(texts(seen)).map(|(index, _)| serde_json::json!({"index": index, "embedding": [index]})).collect::<Vec<_>>();
    let data = serde_json::json!({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9}});
    ok(&data.to_string())
}

fn texts(seen: &Seen) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    match &body["input"] {
        serde_json::Value::Array(all) => all.iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    }
}

fn embed(world: &World, text: &str, fields: &str) -> Socket {
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let body = format!(r#"{{"model":"m","input":"{text}"}}"#);
    let head = format!("POST /v1/embeddings HTTP/1.1\r\nhost: g\r\n{fields}connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send((head + &body).into_bytes()).await.unwrap();
        socket
    })
}

/// Behind a call that runs, one tenant has forty waiting and the lane is full: another's are in the very next call, the flood pays for
/// their places, and what is urgent goes before both.
#[test]
fn a_tenant_that_floods_a_lane_does_not_keep_the_others_out() {
    let world = World::new(LANE, |seen, number| if number == 0 { Reply::Never } else { Reply::Bytes(embeddings(seen)) });
    let plug = embed(&world, "plug", "");
    until(&world, "the model is busy", || world.seen.borrow().len() == 1);
    let flood: Vec<Socket> = (0..40).map(|number| embed(&world, &format!("flood{number}"), "x-tenant: flood\r\n")).collect();
    until(&world, "they wait", || world.shard.home.borrow().queued_items() == 40);
    let others = ["x-tenant: light\r\n", "x-tenant: light\r\nx-priority: 9\r\n", "x-tenant: flood\r\nx-priority: 0\r\n"];
    let others: Vec<Socket> = others.into_iter().zip(["light", "low", "high"]).map(|(fields, text)| embed(&world, text, fields)).collect();
    until(&world, "places are given up", || world.metric("headrace_shed_total{reason=\"tenant_share\"}") > 0.0);
    drop(plug);
    for other in others {
        let answer = answer(&world, other);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let answers: Vec<String> = flood.into_iter().map(|client| answer(&world, client)).collect();
    let count = |text: &str| answers.iter().filter(|answer| answer.contains(text)).count();
    assert_eq!(count("HTTP/1.1 200 ") + count("x-headrace-error: tenant_share\r\n") + count("x-headrace-error: queue_full\r\n"), 40);
    assert!((37..40).contains(&count("HTTP/1.1 200 ")), "{answers:?}");
    let refused = answers.iter().find(|answer| answer.contains("tenant_share")).unwrap();
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: "), "{refused}");
    let calls: Vec<Vec<String>> = world.seen.borrow().iter().map(texts).collect();
    let call_of = |text: &str| calls.iter().position(|call| call.iter().any(|one| one == text)).unwrap();
    assert!(call_of("high") == 1 && call_of("light") == 1, "{calls:?}");
    assert!(call_of("low") <= 8, "the least urgent wait, but not for ever: {calls:?}");
}

/// A websocket has a place for as long as it lives; who asks for one beyond the limit waits.
#[test]
fn a_websocket_holds_its_place_until_it_ends() {
    const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let config = LIMITED.replace("path = \"/\"", "path = \"/\"\nwebsocket = true").replace("$MORE", "queue_timeout = \"50ms\"");
    let world = World::new(&config, |seen, _| match seen.head.contains("upgrade: websocket") {
        true => Reply::Echo(AGREED.to_owned()),
        false => Reply::Bytes(ok("plain")),
    });
    let open = || {
        let (rt, address) = (world.rt.clone(), world.address.clone());
        world.run(async move {
            let socket = rt.connect(&address).await.unwrap();
            let head = "GET /ws HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            socket.send(head.as_bytes().to_vec()).await.unwrap();
            let first = socket.recv().await.unwrap().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (socket, first.unwrap_or_default())
        })
    };
    let (one, two) = (open(), open());
    assert!(one.1.starts_with("HTTP/1.1 101 ") && two.1.starts_with("HTTP/1.1 101 "), "{} {}", one.1, two.1);
    assert_eq!(world.metric("headrace_admission_in_flight{upstream=\"up\"}"), 2.0);
    let (_, refused) = open();
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("x-headrace-error: queue_timeout\r\n"), "{refused}");
    let plain = answer(&world, ask(&world, "/", ""));
    assert!(plain.contains("x-headrace-error: queue_timeout\r\n"), "websockets and requests share the places: {plain}");
    drop(one);
    until(&world, "its place is free", || world.metric("headrace_admission_in_flight{upstream=\"up\"}") == 1.0);
    assert!(answer(&world, ask(&world, "/", "")).starts_with("HTTP/1.1 200 "));
    drop(two);
    at_rest(&world);
}

/// Memory, as control tells it: bodies first, then everything; and back.
#[test]
fn short_memory_refuses_bodies_first_and_then_everything() {
    let config = r#"
        [[upstreams]]
        name = "up"
        endpoints = ["$UP"]
        [[models]]
        name = "m"
        upstream = "up"
        batching = { mode = "off" }
        [[routes]]
        path = "/files"
        upstream = "up"
    "#;
    let world = World::new(config, |_, _| Reply::Bytes(ok("fine")));
    let pressure: Pressure = world.shard.port.pressure_board();
    let status = |path: &str, len: usize| {
        let (rt, address) = (world.rt.clone(), world.address.clone());
        let body = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "y".repeat(len));
        let head = format!("POST {path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = world.run(async move {
            let socket = rt.connect(&address).await.unwrap();
            socket.start_send(format!("{head}{body}").into_bytes());
            String::from_utf8_lossy(&read_to_end(&socket).await).into_owned()
        });
        let reason = answer.split_once("x-headrace-error: ").map_or("", |(_, rest)| rest.split("\r\n").next().unwrap());
        (answer[9..12].to_owned(), reason.to_owned())
    };
    let (fine, full) = (("200".to_owned(), String::new()), ("503".to_owned(), "memory_full".to_owned()));
    let (small, large) = (10, 100_000);
    let chat = "/v1/chat/completions";
    for (level, model_small, model_large, file_large) in [
        (Level::Fine, &fine, &fine, &fine),
        (Level::Near, &fine, &full, &fine),
        (Level::Full, &full, &full, &full),
        (Level::Fine, &fine, &fine, &fine),
    ] {
        pressure.set(level);
        assert_eq!(status(chat, small), *model_small, "{level:?}: it has arrived whole");
        assert_eq!(status(chat, large), *model_large, "{level:?}: it would be held");
        assert_eq!(status("/files", large), *file_large, "{level:?}: it is passed on as it comes");
    }
    assert_eq!(world.metric("headrace_shed_total{reason=\"memory_full\"}"), 4.0);
    assert_eq!(world.shard.held_bytes.get(), 0);
}

/// A body that was being gathered when memory ran out is given up.
#[test]
fn a_body_half_read_is_given_up_when_memory_is_full() {
    let config = "[[upstreams]]\nname = \"up\"\nendpoints = [\"$UP\"]\n[[models]]\nname = \"m\"\nupstream = \"up\"\n";
    let world = World::new(config, |_, _| Reply::Bytes(ok("fine")));
    let pressure = world.shard.port.pressure_board();
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let answer = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 50000\r\n\r\n{\"model\":".to_vec()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_millis(20)).await;
        pressure.set(Level::Full);
        socket.send(b"\"m\",".to_vec()).await.unwrap();
        read_to_end(&socket).await
    });
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("x-headrace-error: memory_full\r\n"), "{answer}");
    assert_eq!(world.shard.held_bytes.get(), 0);
}
