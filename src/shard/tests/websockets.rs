//! Websockets: the upgrade on both sides, the bytes behind it, and every way it can end.

use std::time::Duration;

use super::world::{End, Reply, World, ok, read_to_close};
use crate::runtime::Socket;

const CONFIG: &str = r#"
[[upstreams]]
name = "app"
endpoints = ["$UP"]

[[routes]]
path = "/ws"
upstream = "app"
websocket = true
websocket_idle_timeout = "60s"

[[routes]]
path = "/plain"
upstream = "app"
"#;
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nsec-websocket-protocol: chat\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn ask(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: g\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: chat\r\n\r\n"
    )
}

async fn read_until(socket: &Socket, end: &str) -> String {
    let mut all = String::new();
    while !all.ends_with(end) {
        all.push_str(std::str::from_utf8(&socket.recv().await.unwrap().unwrap()).unwrap());
    }
    all
}

#[test]
fn bytes_go_both_ways_once_the_server_has_agreed() {
    let world = World::in_virtual_time(CONFIG, |_, _| Reply::Echo(format!("{AGREED}hello")));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let (head, echo) = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        // Bytes that follow at once wait for the agreement.
        socket.send(format!("{}early", ask("/ws/x?y=1")).into_bytes()).await.unwrap();
        let head = read_until(&socket, "early").await;
        socket.send(b"more".to_vec()).await.unwrap();
        let echo = read_until(&socket, "more").await;
        // The client ends its side, as after a close frame, and hears the rest.
        socket.shutdown_write();
        assert_eq!(read_to_close(&socket).await, (String::new(), true));
        (head, echo)
    });
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && head.ends_with("\r\n\r\nhelloearly"), "{head}");
    assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n") && head.contains("sec-websocket-protocol: chat\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") && !head.contains("content-length"), "{head}");
    assert_eq!(echo, "more");
    let seen = world.seen.borrow()[0].head.clone();
    assert!(seen.starts_with("GET /ws/x?y=1 HTTP/1.1\r\n") && seen.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"), "{seen}");
    assert!(seen.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n") && !seen.contains("keep-alive"), "{seen}");
    assert_eq!(world.sum("headrace_requests_total", "status=\"101\""), 1.0);
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"ok\""), 1.0);
    assert_eq!(world.metric("headrace_upstream_calls_in_flight{shard=\"0\"}"), 0.0);
}

#[test]
fn what_is_not_asked_for_rightly_never_goes_up() {
    let world = World::in_virtual_time(CONFIG, |_, _| Reply::Echo(AGREED.to_owned()));
    let cases = [
        (ask("/plain"), "501", "upgrade_not_supported"),
        (ask("/nowhere"), "501", "upgrade_not_supported"),
        (ask("/ws").replace("version: 13", "version: 12"), "426", "websocket_version"),
        (ask("/ws").replace("==", "="), "400", "websocket_key"),
    ];
    for (request, status, reason) in cases {
        let (answer, _) = transcript(&world, &format!("{request}GET /plain HTTP/1.1\r\nhost: smuggled\r\n\r\n"));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(&format!("x-headrace-error: {reason}\r\n")),
            "{answer}"
        );
        assert_eq!(answer.matches("x-request-id").count(), 1, "nothing behind it is a request: {answer}");
        assert_eq!(answer.contains("sec-websocket-version: 13\r\n"), status == "426", "{answer}");
    }
    assert_eq!(world.seen.borrow().len(), 0);
}

#[test]
fn a_server_that_does_not_agree_ends_it() {
    let world = World::in_virtual_time(CONFIG, |_, number| match number {
        0 => Reply::Bytes(ok("plain")),
        1 => Reply::Bytes(AGREED.replace("s3p", "s3q").into_bytes()),
        2 => Reply::Bytes(format!("HTTP/1.1 103 Early Hints\r\n\r\n{}", AGREED.replace("Connection: Upgrade\r\n", "")).into_bytes()),
        _ => Reply::Never,
    });
    let smuggled = "GET /plain HTTP/1.1\r\nhost: smuggled\r\n\r\n";
    let (answer, _) = transcript(&world, &format!("{}{smuggled}", ask("/ws")));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n") && answer.ends_with("plain"), "{answer}");
    for _ in 0..2 {
        let (answer, _) = transcript(&world, &format!("{}{smuggled}", ask("/ws")));
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("x-headrace-error: websocket_accept\r\n"), "{answer}");
    }
    assert_eq!(world.seen.borrow().len(), 3, "what came behind was thrown away");
    let (answer, _) = transcript(&world, &ask("/ws"));
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
}

fn transcript(world: &World, bytes: &str) -> (String, Duration) {
    let (rt, address, bytes) = (world.rt.clone(), world.address.clone(), bytes.as_bytes().to_vec());
    world.run(async move {
        let begin = rt.now();
        let socket = rt.connect(&address).await.unwrap();
        socket.send(bytes).await.unwrap();
        let answer = read_to_close(&socket).await.0;
        (answer, rt.now().since(begin))
    })
}

#[test]
fn silence_on_both_sides_ends_it() {
    let world = World::in_virtual_time(CONFIG, |_, _| Reply::Echo(AGREED.to_owned()));
    let (_, took) = transcript(&world, &ask("/ws"));
    assert_eq!(took.as_secs(), 60);
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let took = world.run(async move {
        let begin = rt.now();
        let socket = rt.connect(&address).await.unwrap();
        socket.send(ask("/ws").into_bytes()).await.unwrap();
        rt.sleep_until(begin + Duration::from_secs(50)).await;
        socket.send(b"alive".to_vec()).await.unwrap();
        read_to_close(&socket).await;
        rt.now().since(begin)
    });
    assert_eq!(took.as_secs(), 110, "whatever moves begins the time anew");
}

#[test]
fn a_side_that_breaks_ends_the_other_at_once() {
    let pieces = |end| Reply::Pieces(vec![(Duration::ZERO, AGREED.to_owned()), (Duration::from_secs(1), "bytes".to_owned())], end);
    let world = World::in_virtual_time(CONFIG, move |_, number| match number {
        0 => pieces(End::Reset),
        1 => pieces(End::Close),
        _ => Reply::Echo(AGREED.to_owned()),
    });
    let (answer, took) = transcript(&world, &ask("/ws"));
    assert!(answer.starts_with("HTTP/1.1 101") && took < Duration::from_secs(2), "{took:?} {answer}");
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"transport\""), 1.0);
    // A server that ends its side: the client is told, and may end its own within a time.
    let (answer, took) = transcript(&world, &ask("/ws"));
    assert!(answer.ends_with("bytes") && took < Duration::from_secs(2), "{took:?} {answer}");
    let (rt, address, aborted) = (world.rt.clone(), world.address.clone(), world.aborted.clone());
    let took = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(ask("/ws").into_bytes()).await.unwrap();
        read_until(&socket, "\r\n\r\n").await;
        socket.reset_on_drop();
        drop(socket);
        let left = rt.now();
        while aborted.get() == 0 {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
        rt.now().since(left)
    });
    assert!(took < Duration::from_millis(20), "{took:?}");
    assert_eq!(world.metric("headrace_client_closed_total{phase=\"relay\"}"), 1.0);
}

/// Neither side can make the gateway hold more than its bound for the other.
#[test]
fn a_side_that_does_not_read_holds_the_other_back() {
    let flood: Vec<_> =
        std::iter::once((Duration::ZERO, AGREED.to_owned())).chain((0..2000).map(|_| (Duration::ZERO, "x".repeat(4000)))).collect();
    let world = World::in_virtual_time(CONFIG, move |_, _| Reply::Pieces(flood.clone(), End::Close));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let (leased, len) = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(ask("/ws").into_bytes()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_secs(30)).await;
        (rt.stats().leased_buffers, read_to_close(&socket).await.0.len())
    });
    assert!(leased < 64, "{leased}");
    assert!(len > 8_000_000, "all of it came when it was read: {len}");
}
