//! Clients die at each byte of their request.

use std::sync::Mutex;

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::client::Client;
use crate::script::Script;
use crate::stage::Stage;

pub(crate) const FAULT: Fault = Fault {
    name: "client-dies",
    what: "clients end their connection (FIN, RST) after each byte of a request: a route's with a length and in chunks, a chat, an \
           embedding",
    promise: "no half request becomes a whole one upstream; nothing is left behind; others are served",
    both: true,
    stage: None,
    run,
};

fn run(stage: &Stage) -> Result<String, Stop> {
    let kinds = [(Way::Route, false), (Way::Route, true), (Way::Chat, false), (Way::Embed, false)];
    let mut cases = Vec::new();
    for (way, chunked) in kinds {
        let len = Ask { chunked, ..Ask::honest(way) }.bytes().len();
        cases.extend((1..=len).flat_map(|cut| [false, true].map(|reset| (way, chunked, cut, reset))));
    }
    let halves = Mutex::new(Vec::new());
    stage.beside(3, || {
        stage.each(8, cases.len(), |_, index| {
            let (way, chunked, cut, reset) = cases[index];
            let ask = Ask { chunked, ..Ask::new(way, Script::HONEST) };
            let bytes = ask.bytes();
            stage.tally.begin();
            let Ok(mut client) = Client::connect(stage.gateway.addr) else { return };
            client.send(&bytes[..cut]);
            if reset {
                client.reset();
            }
            stage.tally.cancelled();
            if cut < bytes.len()
                && let Ok(mut halves) = halves.lock()
            {
                halves.push(ask.token);
            }
        });
    });
    stage.eventually(|| stage.metric("headrace_connections", &[]) == 0.0);
    let halves = halves.into_inner().unwrap_or_default();
    let whole = halves.iter().filter(|token| stage.upstream.seen(token) > 0).count();
    if whole > 0 {
        stage.tally.broken(format!("{whole} half requests reached the upstream as whole ones"));
    }
    Ok(format!("{} half requests, none whole upstream", halves.len()))
}
