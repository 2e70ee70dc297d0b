//! Clients that leave, in each phase and in each way: the server hears of it at once, and it is counted.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::world::{CHAT, End, Reply, World, ok, post, read_to_close, read_to_end};
use crate::runtime::Socket;
use crate::sys::net::Address;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const EVENT: &str = "a\r\ndata: {}\n\n\r\n";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Fin,
    HalfClose,
    Reset,
}

const WAYS: [Way; 3] = [Way::Fin, Way::HalfClose, Way::Reset];

fn chat() -> String {
    post("/v1/chat/completions", r#"{"model":"m","stream":true}"#)
}

fn embed() -> String {
    post("/v1/embeddings", r#"{"model":"m","input":"x"}"#)
}

/// Sends a request, waits, leaves, and says how long it takes until the server's side of the call is closed.
fn leave(world: &World, request: String, way: Way) -> Duration {
    let (rt, address, aborted) = (world.rt.clone(), world.address.clone(), world.aborted.clone());
    let before = aborted.get();
    world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(request.into_bytes()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_millis(500)).await;
        let left = rt.now();
        let kept = match way {
            Way::HalfClose => {
                socket.shutdown_write();
                Some(socket)
            }
            Way::Reset => {
                socket.reset_on_drop();
                drop(socket);
                None
            }
            Way::Fin => {
                drop(socket);
                None
            }
        };
        while aborted.get() == before {
            rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
        }
        drop(kept);
        rt.now().since(left)
    })
}

fn check(world: &World, request: fn() -> String, phase: &str) {
    for (count, way) in (1..).zip(WAYS) {
        let took = leave(world, request(), way);
        assert!(took < Duration::from_millis(20), "{phase} {way:?}: {took:?}");
        assert_eq!(world.metric(&format!("headrace_client_closed_total{{phase=\"{phase}\"}}")), f64::from(count), "{way:?}");
        assert_eq!(world.metric("headrace_exchanges_in_flight{shard=\"0\"}"), 0.0);
        assert_eq!(world.metric("headrace_upstream_calls_in_flight{shard=\"0\"}"), 0.0);
    }
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"cancelled\""), 3.0);
    assert_eq!(world.sum("headrace_requests_total", "status=\"499\""), 3.0);
}

#[test]
fn while_the_head_is_awaited() {
    check(&World::in_virtual_time(CHAT, |_, _| Reply::Never), chat, "call");
}

#[test]
fn while_the_first_event_is_awaited() {
    let world = World::in_virtual_time(CHAT, |_, _| Reply::Pieces(vec![(Duration::ZERO, HEAD.to_owned())], End::Silence));
    check(&world, chat, "call");
}

#[test]
fn while_a_stream_is_quiet() {
    let world = World::in_virtual_time(CHAT, |_, _| Reply::Pieces(vec![(Duration::ZERO, format!("{HEAD}{EVENT}"))], End::Silence));
    check(&world, chat, "relay");
    assert_eq!(world.sum("headrace_streams_total", "outcome=\"client_closed\""), 3.0);
}

#[test]
fn while_a_stream_flows() {
    let pieces = || {
        let events = (0..100_000).map(|_| (Duration::from_millis(1), EVENT.to_owned()));
        std::iter::once((Duration::ZERO, HEAD.to_owned())).chain(events).collect()
    };
    check(&World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces(), End::Silence)), chat, "relay");
}

#[test]
fn while_a_batch_is_awaited() {
    check(&World::in_virtual_time(CHAT, |_, _| Reply::Never), embed, "dispatch");
}

#[test]
fn while_a_plain_answer_is_passed_on() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx".to_owned();
    let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(vec![(Duration::ZERO, head.clone())], End::Silence));
    check(&world, || post("/plain", "1"), "relay");
}

/// A client that does not read is noticed to be gone all the same.
#[test]
fn while_nothing_of_a_stream_is_read() {
    let event = format!("{:x}\r\ndata: {}\n\n\r\n", 4008, "x".repeat(4000));
    let pieces: Vec<_> =
        std::iter::once((Duration::ZERO, HEAD.to_owned())).chain((0..5000).map(|_| (Duration::ZERO, event.clone()))).collect();
    let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), End::Silence));
    for way in [Way::Fin, Way::Reset] {
        let took = leave(&world, chat(), way);
        assert!(took < Duration::from_millis(50), "{way:?}: {took:?}");
    }
    assert_eq!(world.sum("headrace_client_closed_total", "relay"), 2.0);
}

#[test]
fn a_client_that_ends_its_side_is_served_where_that_is_allowed() {
    let answers = |_: &_, number| match number {
        0 => Reply::After(Duration::from_secs(1), ok("late")),
        1 => Reply::Pieces(
            vec![
                (Duration::from_secs(1), format!("{HEAD}{EVENT}")),
                (Duration::from_secs(1), format!("{EVENT}e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")),
            ],
            End::Whole,
        ),
        _ => Reply::Pieces(
            vec![(Duration::ZERO, HEAD.to_owned())]
                .into_iter()
                .chain((0..1000).map(|_| (Duration::from_secs(1), EVENT.to_owned())))
                .collect(),
            End::Silence,
        ),
    };
    let world = World::in_virtual_time(&format!("[server]\nhalf_close = true\n{CHAT}"), answers);
    for request in [post("/plain", "1"), chat()] {
        let (rt, address) = (world.rt.clone(), world.address.clone());
        let answer = world.run(async move {
            let socket = rt.connect(&address).await.unwrap();
            socket.send(request.into_bytes()).await.unwrap();
            socket.shutdown_write();
            read_to_close(&socket).await.0
        });
        assert!(answer.ends_with("late") || answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    assert_eq!(world.sum("headrace_client_closed_total", ""), 0.0);
    // One that ends its side and then leaves is found out when something is sent to it.
    let (rt, address, aborted) = (world.rt.clone(), world.address.clone(), world.aborted.clone());
    let took = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(chat().into_bytes()).await.unwrap();
        socket.shutdown_write();
        rt.sleep_until(rt.now() + Duration::from_millis(2500)).await;
        drop(socket);
        let left = rt.now();
        while aborted.get() == 0 {
            rt.sleep_until(rt.now() + Duration::from_millis(10)).await;
        }
        rt.now().since(left)
    });
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(world.metric("headrace_client_closed_total{phase=\"relay\"}"), 1.0);
}

/// The end of an answer that was not waited for and could not be sent.
#[test]
fn an_answers_end_that_could_not_be_sent_is_not_forgotten() {
    let world = World::in_virtual_time(CHAT, |_, _| Reply::After(Duration::from_millis(10), ok("small")));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(b"GET /plain HTTP/1.1\r\nhost: g\r\n\r\n".to_vec()).await.unwrap();
        // So that the reset and the answer pass each other.
        rt.sleep_until(rt.now() + Duration::from_micros(10_100)).await;
        socket.reset_on_drop();
        drop(socket);
        rt.sleep_until(rt.now() + Duration::from_millis(100)).await;
    });
    assert_eq!(world.metric("headrace_exchanges_in_flight{shard=\"0\"}"), 0.0);
    let (closed, answered) = (world.sum("headrace_client_closed_total", ""), world.sum("headrace_requests_total", "status=\"200\""));
    assert!(closed + answered >= 1.0, "{closed} {answered}");
}

/// The server closes the idle connection when the request's head is on its way and its body was not sent yet.
#[test]
fn a_streamed_request_whose_body_was_not_begun_is_sent_again_on_a_fresh_connection() {
    let world = World::in_virtual_time(&CHAT.replace("$UP", "$HAND").replace("$HAND", "http://127.0.0.1:7777"), |_, _| Reply::Never);
    let heads = Rc::new(Cell::new(0));
    let (rt, count) = (world.rt.clone(), Rc::clone(&heads));
    let listener = rt.listen(&Address::Tcp("127.0.0.1:7777".parse().unwrap()), 8).unwrap();
    let outer = rt.clone();
    rt.spawn(async move {
        while let Ok(socket) = listener.accept().await {
            let count = Rc::clone(&count);
            outer.spawn(async move { by_hand(&socket, &count).await });
        }
    });
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let answer = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(b"GET /plain HTTP/1.1\r\nhost: g\r\n\r\n".to_vec()).await.unwrap();
        assert!(socket.recv().await.unwrap().unwrap().ends_with(b"ok"));
        socket.send(b"POST /plain HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: 4\r\n\r\n".to_vec()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_millis(100)).await;
        socket.send(b"body".to_vec()).await.unwrap();
        String::from_utf8_lossy(&read_to_end(&socket).await).into_owned()
    });
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
    assert_eq!(heads.get(), 3, "the GET, the POST that met a closed connection, the POST again");
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"stale_connection\""), 1.0);
}

/// Answers the first request of a connection, once its body is here, and closes on the second's head.
async fn by_hand(socket: &Socket, heads: &Cell<u32>) {
    let mut input = Vec::new();
    for number in 0.. {
        while !input.windows(4).any(|window| window == b"\r\n\r\n") {
            let Ok(Some(lease)) = socket.recv().await else { return };
            input.extend_from_slice(&lease);
        }
        heads.set(heads.get() + 1);
        if number == 1 {
            return;
        }
        while input.starts_with(b"POST") && !input.ends_with(b"body") {
            let Ok(Some(lease)) = socket.recv().await else { return };
            input.extend_from_slice(&lease);
        }
        input.clear();
        let _ = socket.send(ok("ok")).await;
    }
}
