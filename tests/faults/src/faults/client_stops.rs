//! Clients that do not read, leave in the middle of an answer, close their sending side, or send slowly.

use std::net::Shutdown;
use std::time::Duration;

use super::{Fault, Stop};
use crate::ask::{Ask, WAYS, Way};
use crate::client::{Client, Got};
use crate::script::{Script, Shape};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "client-stops",
    what: "clients that never read an 8 MiB answer, reset in its middle, half-close behind their request, send byte by byte, \
           trickle a model call's body, or stop sending in the head or the body",
    promise: "who does not read is cut after `write_timeout` and its upstream call with it; who sends slowly within the times is answered, \
              who trickles or stops gets 408; a half-closed client is answered or closed, never half answered",
    both: true,
    stage: None,
    run,
};

const LARGE: Script = Script { size: 8 << 20, ..Script::shaped(Shape::Chunked) };

fn run(stage: &Stage) -> Result<String, Stop> {
    never_read(stage);
    stage.beside(2, || {
        stage.each(8, 64, |_, index| leaves(stage, index));
        stage.each(8, 48, |_, index| half_closes(stage, index));
        stage.each(12, 12, |client, index| drips(stage, client, WAYS[index % 3]));
        stage.each(8, 8, |client, index| trickles(stage, client, WAYS[1 + index % 2]));
        stage.each(12, 12, |client, index| stops(stage, client, WAYS[index % 3], index < 6));
    });
    Ok(String::new())
}

fn never_read(stage: &Stage) {
    let mut clients = Vec::new();
    for _ in 0..24 {
        stage.tally.begin();
        let Ok(mut client) = Client::connect_small(stage.gateway.addr) else { continue };
        client.send(&Ask::new(Way::Route, LARGE).bytes());
        stage.tally.cancelled();
        clients.push(client);
    }
    // They are still there, unread; the gateway has let go of them.
    if !stage.eventually(|| stage.metric("headrace_upstream_calls_in_flight", &[]) == 0.0) {
        stage.tally.broken("clients that do not read hold their upstream calls".to_owned());
    }
}

fn leaves(stage: &Stage, index: usize) {
    stage.tally.begin();
    let Ok(mut client) = Client::connect_small(stage.gateway.addr) else { return };
    let dripping = Script { drip: 100, size: 4000, ..Script::shaped(Shape::Events) };
    let (way, script) = if index.is_multiple_of(2) { (Way::Route, LARGE) } else { (Way::Chat, dripping) };
    client.send(&Ask::new(way, script).bytes());
    let mut some = [0; 300];
    let _ = std::io::Read::read_exact(&mut client.stream, &mut some);
    if index % 4 < 2 {
        client.reset();
    }
    stage.tally.cancelled();
}

fn half_closes(stage: &Stage, index: usize) {
    let ask = Ask::honest(WAYS[index % 3]);
    stage.tally.begin();
    let Ok(mut client) = Client::connect(stage.gateway.addr) else { return };
    client.send(&ask.bytes());
    let _ = client.stream.shutdown(Shutdown::Write);
    match client.answer(false) {
        Got::Closed => stage.tally.cancelled(),
        got => drop(stage.tally.judge(&ask, &got, Right::ANSWERED)),
    }
}

fn drips(stage: &Stage, client: &mut Option<Client>, way: Way) {
    let ask = Ask::honest(way);
    stage.tally.begin();
    let got = stage.connected(client).map_or(Got::Closed, |client| {
        for byte in ask.bytes() {
            client.send(&[byte]);
            std::thread::sleep(Duration::from_millis(3));
        }
        client.answer(false)
    });
    stage.tally.judge(&ask, &got, Right::ANSWERED);
}

/// Never silent for long enough to be cut for it: without a least pace what such a body reserves would be held for ever.
fn trickles(stage: &Stage, client: &mut Option<Client>, way: Way) {
    let ask = Ask::honest(way);
    let (head, body) = ask.parts();
    stage.tally.begin();
    let got = stage.connected(client).map_or(Got::Closed, |client| {
        client.send(&head);
        for byte in &body[..12] {
            client.send(&[*byte]);
            std::thread::sleep(Duration::from_millis(150));
        }
        client.answer(false)
    });
    stage.tally.judge(&ask, &got, Right::failed(&["body_timeout"]));
}

fn stops(stage: &Stage, client: &mut Option<Client>, way: Way, in_head: bool) {
    let ask = Ask::honest(way);
    let (head, body) = ask.parts();
    let part = if in_head { head[..head.len() - 2].to_vec() } else { [&head[..], &body[..body.len() - 1]].concat() };
    stage.tally.begin();
    let got = stage.connected(client).map_or(Got::Closed, |client| {
        client.send(&part);
        client.answer(false)
    });
    stage.tally.judge(&ask, &got, Right::failed(if in_head { &["header_timeout"] } else { &["body_timeout"] }));
}
