//! Servers that fail: one that dies and returns, one of two that is dead, idle connections it closed, one that takes no connections.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use headrace::mock::MockConfig;

use crate::client::{Client, crowd, embed, get, join, post};
use crate::gate::{Gate, eventually, mock, mock_at};
use crate::upstream::{Reply, Upstream, ok};

const BOTH: &str = r#"
[[upstreams]]
name = "up"
endpoints = [$UP]
connect_timeout = "200ms"

[[models]]
name = "*"
upstream = "up"

[[routes]]
path = "/files"
upstream = "up"

[[routes]]
path = "/health"
upstream = "up"
"#;

fn quoted(urls: &[&str]) -> String {
    urls.iter().map(|url| format!("{url:?}")).collect::<Vec<_>>().join(", ")
}

/// An address that refuses connections: bound, so that nobody else gets it, and not listening.
fn dead() -> (socket2::Socket, String) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, format!("http://{addr}"))
}

#[test]
fn an_upstream_that_dies_and_returns_is_used_again() {
    let upstream = mock(MockConfig::default());
    let gate = Gate::new(2, BOTH, &quoted(&[&upstream.url()]));
    let mut clients: Vec<Client> = (0..8).map(|_| gate.client()).collect();
    for client in &mut clients {
        client.ask(embed("alive")).is_embedding_of("alive");
        assert_eq!(client.ask(get("/health")).status, 200);
    }
    let address = upstream.address().clone();
    upstream.stop();
    for client in &mut clients {
        let answer = client.ask(get("/health"));
        assert_eq!((answer.status, answer.field("x-headrace-error")), (503, Some("upstream_unreachable")), "{}", answer.head);
        assert!(answer.field("retry-after").is_some());
    }
    let upstream = mock_at(MockConfig::default(), &address).unwrap();
    for client in &mut clients {
        eventually("it is used again", || client.ask(get("/health")).status == 200);
        client.ask(embed("again")).is_embedding_of("again");
    }
    drop(clients);
    gate.comes_to_rest();
    drop(upstream);
}

#[test]
fn a_dead_endpoint_of_two_costs_no_client_an_error() {
    let upstream = mock(MockConfig::default());
    let (_held, nowhere) = dead();
    let gate = Gate::new(2, BOTH, &quoted(&[&nowhere, &upstream.url()]));
    let addr = gate.addr;
    join(crowd(16, move |number| {
        let mut client = Client::tcp(addr);
        for request in 0..10 {
            let text = format!("two endpoints {number} {request}");
            client.ask(embed(&text)).is_embedding_of(&text);
            assert_eq!(client.ask(get("/health")).status, 200);
            let chat = post("/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#);
            assert_eq!(client.ask(chat).status, 200);
        }
    }));
    assert!(gate.metric("headrace_upstream_requests_total", &[("outcome", "connect_failed")]) > 0.0, "the dead one was tried");
    gate.comes_to_rest();
}

#[test]
fn an_endpoint_that_takes_no_connections_is_given_up_after_the_connect_timeout() {
    let upstream = mock(MockConfig::default());
    let hole = BlackHole::new();
    let alone = Gate::new(1, BOTH, &quoted(&[&hole.url()]));
    let answer = alone.client().ask(get("/health"));
    assert_eq!((answer.status, answer.field("x-headrace-error")), (503, Some("upstream_unreachable")), "{}", answer.head);
    assert!(alone.metric("headrace_upstream_requests_total", &[("outcome", "connect_timeout")]) > 0.0);
    alone.comes_to_rest();

    let gate = Gate::new(2, BOTH, &quoted(&[&hole.url(), &upstream.url()]));
    let addr = gate.addr;
    join(crowd(8, move |number| {
        let text = format!("beside the hole {number}");
        let mut client = Client::tcp(addr);
        client.ask(embed(&text)).is_embedding_of(&text);
        assert_eq!(client.ask(get("/health")).status, 200);
    }));
    gate.comes_to_rest();
}

/// A listener whose queue is full and that nobody empties: the kernel drops what knocks.
struct BlackHole {
    listener: TcpListener,
    _fill: Vec<socket2::Socket>,
}

impl BlackHole {
    fn new() -> BlackHole {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr().unwrap();
        let fill = (0..8)
            .map(|_| {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&addr.into());
                socket
            })
            .collect();
        assert!(TcpStream::connect_timeout(&addr, Duration::from_millis(300)).is_err(), "the hole is open");
        BlackHole { listener, _fill: fill }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }
}

#[test]
fn connections_that_the_server_closes_as_idle_cost_no_request() {
    // It promises to keep the connection and closes it: after each third answer in good order.
    let up = Upstream::new(|seen, number| {
        let answer = ok(&seen.body);
        if number % 3 == 2 { Reply::ThenClose(answer) } else { Reply::Bytes(answer) }
    });
    let gate = Gate::new(2, BOTH, &quoted(&[&up.url()]));
    let addr = gate.addr;
    join(crowd(8, move |number| {
        let mut client = Client::tcp(addr);
        for request in 0..50 {
            let text = format!("{number}/{request}");
            let answer = client.ask(post("/files/a", &text));
            assert_eq!((answer.status, answer.text()), (200, text.as_str()), "{}", answer.head);
        }
    }));
    gate.comes_to_rest();
    assert_eq!(gate.metric("headrace_requests_total", &[("status", "200")]), 400.0);
}
