//! The end of a gateway: what is begun is answered, nothing new begins, and it ends in time.

use std::net::TcpStream;
use std::time::Duration;

use headrace::control::Ended;
use headrace::mock::MockConfig;

use crate::client::{Client, crowd, embed, get, join, post};
use crate::coalesce::{plug, stage};
use crate::gate::{Gate, eventually, mock};
use crate::upstream::{Door, Reply, Upstream, ok};

const ROUTE: &str = r#"
[server]
drain_timeout = "$DRAIN"

[[upstreams]]
name = "up"
endpoints = ["$UP"]

[[routes]]
path = "/"
upstream = "up"
"#;

fn refuses(gate: &Gate) {
    eventually("nobody listens", || TcpStream::connect(gate.addr).is_err());
}

#[test]
fn what_is_begun_is_answered_and_nothing_new_begins() {
    let door = Door::default();
    let of_script = door.clone();
    let up = Upstream::new(move |seen, _| {
        if seen.target == "/wait" {
            of_script.pass();
        }
        Reply::Bytes(ok(&seen.body))
    });
    let gate = Gate::new(2, &ROUTE.replace("$DRAIN", "30s"), &up.url());
    let mut idle: Vec<Client> = (0..8).map(|_| gate.client()).collect();
    for client in &mut idle {
        assert_eq!(client.ask(get("/")).status, 200);
    }
    let addr = gate.addr;
    let begun = crowd(16, move |number| {
        let mut client = Client::tcp(addr);
        let answer = client.ask(post("/wait", &number.to_string()));
        (answer, client.rest())
    });
    eventually("16 are begun", || door.came() == 16);
    gate.gateway.begin_drain();
    refuses(&gate);
    for client in &mut idle {
        assert_eq!(client.rest().expect("an end"), b"", "idle connections are closed");
    }
    let ready = Client::tcp(gate.gateway.admin_addr()).ask(get("/readyz"));
    assert_eq!((ready.status, ready.text()), (503, "draining\n"));
    assert_eq!(gate.metric("headrace_exchanges_in_flight", &[]), 16.0);
    door.open();
    for (number, (answer, rest)) in join(begun).into_iter().enumerate() {
        assert_eq!((answer.status, answer.text()), (200, number.to_string().as_str()));
        assert_eq!(answer.field("connection"), Some("close"), "{}", answer.head);
        assert_eq!(rest.expect("an end"), b"");
    }
    assert_eq!(gate.gateway.wait(), Ok(Ended::Clean));
}

#[test]
fn queued_jobs_of_every_shard_are_answered_before_the_end() {
    let (upstream, gate) = stage(2, MockConfig { cost_base: Duration::from_millis(20), ..MockConfig::default() });
    let plug = plug(&gate, &upstream);
    let addr = gate.addr;
    let waiting = crowd(80, move |number| {
        let text = format!("queued {number}");
        Client::tcp(addr).ask(embed(&text)).is_embedding_of(&text);
    });
    eventually("80 wait", || gate.metric("headrace_queued_items", &[]) == 80.0);
    gate.gateway.begin_drain();
    refuses(&gate);
    drop(plug);
    join(waiting);
    assert_eq!(gate.gateway.wait(), Ok(Ended::Clean));
    assert_eq!(upstream.stats().unwrap().items, 80);
}

#[test]
fn an_exchange_without_end_is_cut_at_the_drain_timeout() {
    let upstream = mock(MockConfig::default());
    let gate = Gate::new(2, &ROUTE.replace("$DRAIN", "300ms"), &upstream.url());
    let mut client = gate.client();
    client.send(embed("mock:stall"));
    eventually("it is begun", || upstream.stats().unwrap().in_flight == 1);
    assert_eq!(gate.gateway.drain(), Ok(Ended::Cut));
    assert!(client.try_answer().is_err(), "there was no answer to give");
    eventually("the call has ended too", || upstream.stats().unwrap().in_flight == 0);
}

#[test]
fn a_stop_under_load_ends_every_thread_and_every_connection() {
    let (upstream, gate) = stage(2, MockConfig { cost_base: Duration::from_millis(1), ..MockConfig::default() });
    let addr = gate.addr;
    let clients = crowd(16, move |number| {
        let mut client = Client::tcp(addr);
        for request in 0.. {
            let text = format!("until the end {number} {request}");
            if client.try_send(embed(&text).as_bytes()).is_err() {
                return request;
            }
            match client.try_answer() {
                Ok(answer) => answer.is_embedding_of(&text),
                Err(error) if crate::client::is_end(&error) => return request,
                Err(error) => panic!("{error}"),
            }
        }
        0
    });
    eventually("it is busy", || gate.metric("headrace_requests_total", &[("status", "200")]) > 200.0);
    assert_eq!(gate.gateway.stop(), Ok(Ended::Cut));
    assert!(join(clients).into_iter().sum::<i32>() > 200);
    eventually("no call is left", || upstream.stats().unwrap().in_flight == 0);
}
