//! Dispatch, way 1: what goes up, what comes down, and what happens when one of the two sides fails.

use std::time::Duration;

use super::world::{Reply, World, ok, post, read_to_end};

const ROUTE: &str = r#"
[[upstreams]]
name = "up"
endpoints = ["$UP"]
first_byte_timeout = "300ms"

[[routes]]
path = "/"
upstream = "up"
"#;

#[test]
fn a_request_goes_up_with_its_own_framing_and_the_answer_comes_down_whole() {
    let world = World::new(ROUTE, |_, _| Reply::Bytes(ok("{\"a\":1}")));
    let answer = world.transcript(&post("/x?y=1", "hello"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"a\":1}"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.contains("x-request-id: hr-"), "{answer}");
    let seen = world.seen.borrow();
    assert_eq!(seen[0].body, b"hello");
    assert!(seen[0].head.starts_with("POST /x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{}", seen[0].head);
    assert!(seen[0].head.contains("x-forwarded-for: 127.0.0.1\r\n"), "{}", seen[0].head);
    assert!(!seen[0].head.contains("connection:"), "{}", seen[0].head);
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_upstream_connection() {
    let world = World::new(ROUTE, |seen, _| Reply::Bytes(ok(&String::from_utf8_lossy(&seen.body))));
    let one = "POST /a HTTP/1.1\r\nhost: g\r\ncontent-length: 1\r\n\r\n1";
    let two = "POST /a HTTP/1.1\r\nhost: g\r\ncontent-length: 1\r\n\r\n2";
    let answer = world.transcript(&format!("{one}{two}{}", post("/a", "3")));
    let bodies: Vec<&str> = answer.split("\r\n\r\n").skip(1).map(|part| &part[..1]).collect();
    assert_eq!(bodies, ["1", "2", "3"], "{answer}");
}

#[test]
fn a_large_body_streams_both_ways_and_chunks_are_framed_anew() {
    let body = "x".repeat(300_000);
    let expected = body.clone();
    let world = World::new(ROUTE, move |seen, _| {
        assert!(seen.head.contains("transfer-encoding: chunked"), "{}", seen.head);
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        answer.extend_from_slice(&seen.body);
        Reply::Bytes(answer)
    });
    let chunk = format!("{:x};ext=1\r\n{body}\r\n0\r\n\r\n", body.len());
    let answer = world.transcript(&format!(
        "POST /big HTTP/1.1\r\nhost: g\r\nconnection: close\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
    ));
    assert!(!answer.contains("ext=1"), "chunk extensions are not forwarded");
    let count = answer.bytes().filter(|byte| *byte == b'x').count();
    assert!(count >= expected.len(), "{count}");
    assert!(answer.ends_with("0\r\n\r\n"), "the answer's end is chunked");
}

#[test]
fn an_upstream_that_closed_an_idle_connection_costs_no_request() {
    let world = World::new(ROUTE, |_, number| if number == 0 { Reply::ThenClose(ok("first")) } else { Reply::Bytes(ok("later")) });
    assert!(world.transcript(&post("/", "1")).ends_with("first"));
    assert!(world.transcript(&post("/", "2")).ends_with("later"));
    assert!(world.transcript(&post("/", "3")).ends_with("later"));
}

#[test]
fn an_upstream_that_dies_mid_answer_leaves_a_cut_answer() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this".to_vec();
    let world = World::new(ROUTE, move |_, _| Reply::ThenClose(cut.clone()));
    let answer = world.transcript("POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 1\r\n\r\n1");
    assert!(answer.contains("content-length: 100\r\n") && answer.ends_with("only this"), "{answer}");
    assert!(!answer.contains("502"), "an answer that has begun is not followed by another: {answer}");
    let text = world.registry.borrow_mut().render(world.rt.now());
    let transport = text.lines().find(|line| line.contains("headrace_upstream_requests_total") && line.contains("outcome=\"transport\""));
    assert!(transport.is_some_and(|line| line.ends_with(" 1")), "{text}");
}

#[test]
fn an_upstream_that_does_not_answer_in_time_is_a_504_and_is_not_asked_again() {
    let world = World::new(ROUTE, |_, _| Reply::Never);
    let answer = world.transcript(&post("/", "1"));
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("x-headrace-error: upstream_timeout\r\n"), "{answer}");
    assert_eq!(world.seen.borrow().len(), 1, "a read timeout is never retried");
}

#[test]
fn a_client_that_leaves_while_it_waits_ends_its_upstream_call() {
    let world = World::new(ROUTE, |_, _| Reply::Never);
    let (rt, address, aborted) = (world.rt.clone(), world.address.clone(), world.aborted.clone());
    world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(post("/", "1").into_bytes()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_millis(50)).await;
        drop(socket);
        while aborted.get() == 0 {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
    });
    assert_eq!(world.metric("headrace_client_closed_total{phase=\"call\"}"), 1.0);
    assert_eq!(world.metric("headrace_exchanges_in_flight{shard=\"0\"}"), 0.0);
}

#[test]
fn head_and_204_have_no_body_and_keep_the_connection() {
    let world = World::new(ROUTE, |seen, _| {
        if seen.head.starts_with("HEAD") {
            Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n".to_vec())
        } else {
            Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())
        }
    });
    let answer = world.transcript(
        "HEAD /a HTTP/1.1\r\nhost: g\r\n\r\nDELETE /a HTTP/1.1\r\nhost: g\r\n\r\nGET /b HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 204 No Content").count(), 2, "{answer}");
    assert!(answer.contains("content-length: 12\r\n"), "{answer}");
}

#[test]
fn interim_answers_are_passed_over_and_a_body_until_close_is_chunked_anew() {
    let bytes = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil the close".to_vec();
    let world = World::new(ROUTE, move |_, _| Reply::ThenClose(bytes.clone()));
    let answer = world.transcript(&post("/", "1"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    assert!(answer.contains("until the close") && answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[test]
fn a_server_that_is_not_there_is_a_503_that_says_so() {
    let config = ROUTE.replace("[\"$UP\"]", "[\"http://127.0.0.1:1\"]");
    let world = World::new(&config, |_, _| Reply::Never);
    let answer = world.transcript(&post("/", "1"));
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("x-headrace-error: upstream_unreachable\r\n") && answer.contains("retry-after: 1\r\n"), "{answer}");
}

#[test]
fn a_path_in_another_spelling_goes_up_in_its_normal_form() {
    let world = World::new(ROUTE, |_, _| Reply::Bytes(ok("{}")));
    assert!(world.transcript(&post("/a//b/./c?q=//", "1")).starts_with("HTTP/1.1 200"));
    assert!(world.seen.borrow()[0].head.starts_with("POST /a/b/c?q=// HTTP/1.1\r\n"), "{}", world.seen.borrow()[0].head);
}

#[test]
fn a_body_that_comes_in_two_pieces_keeps_the_connection() {
    let world = World::new(ROUTE, |_, _| Reply::Bytes(ok("whole")));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let answer = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(b"POST /a HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\n\r\n12".to_vec()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_millis(20)).await;
        socket.send(b"345GET /b HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n".to_vec()).await.unwrap();
        read_to_end(&socket).await
    });
    assert_eq!(String::from_utf8_lossy(&answer).matches("HTTP/1.1 200").count(), 2);
    assert_eq!(world.seen.borrow()[0].body, b"12345");
}

/// A peer that stands still held receive buffers across its wait; enough of them kept every other connection from receiving.
#[test]
#[expect(clippy::disallowed_methods, reason = "a socket that the kernel accepts for and nobody reads")]
fn uploads_to_a_server_that_does_not_read_leave_buffers_for_others() {
    let config = format!(
        "{ROUTE}\n[[upstreams]]\nname = \"stuck\"\nendpoints = [\"$STUCK\"]\n[[routes]]\npath = \"/stuck\"\nupstream = \"stuck\"\n"
    );
    // A listener whose connections are accepted by the kernel and never read by anybody.
    let stuck = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config.replace("$STUCK", &format!("http://{}", stuck.local_addr().unwrap()));
    let world = World::new(&config, |_, _| Reply::Bytes(ok("still here")));
    let mut uploads = Vec::new();
    for _ in 0..32 {
        let (rt, address) = (world.rt.clone(), world.address.clone());
        uploads.push(world.run(async move {
            let socket = rt.connect(&address).await.unwrap();
            socket.start_send(b"POST /stuck HTTP/1.1\r\nhost: g\r\ncontent-length: 90000000\r\n\r\n".to_vec());
            socket.start_send(vec![b'x'; 8_000_000]);
            rt.sleep_until(rt.now() + Duration::from_millis(20)).await;
            socket
        }));
    }
    assert!(world.transcript(&post("/", "1")).ends_with("still here"));
    assert!(world.rt.stats().leased_buffers < 64, "{}", world.rt.stats().leased_buffers);
    drop(uploads);
}
