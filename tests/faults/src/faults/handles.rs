//! The process may open no more handles.

use std::time::Duration;

use super::{Fault, Stop};
use crate::ask::{Ask, WAYS, Way};
use crate::client::Client;
use crate::stage::{CONFIG, Common, Stage};
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "handles",
    what: "a limit of 64 open handles; 120 clients come and ask, then 80 come and stay while 4 that are inside ask",
    promise: "who is accepted is answered, or told 503 `upstream_unreachable` when no connection could be opened; the others wait in the \
              backlog and have their turn; no busy loop; when clients leave all is as before",
    both: true,
    stage: Some(stage),
    run,
};

/// From the start: accepts that are under way keep the limit they began with.
const LIMITED: &str = "ulimit -n 64; exec \"$@\"";

fn stage(common: &Common) -> Result<Stage, Stop> {
    Ok(Stage::with(common, CONFIG, LIMITED, None, 8)?)
}

fn run(stage: &Stage) -> Result<String, Stop> {
    let right = Right::failed(&["upstream_unreachable"]).or_answered();
    stage.crowd(120, |thread| {
        for round in 0..3 {
            // A connection each, so that everybody has to be accepted.
            let mut client = None;
            stage.ask(&mut client, &Ask::honest(WAYS[(thread + round) % 3]), right);
        }
    });
    // These have their connection; where to, when there is no handle for one more?
    let mut inside: Vec<Option<Client>> = (0..4).map(|_| None).collect();
    for client in &mut inside {
        stage.honest(client, Way::Route);
    }
    let idle: Vec<Client> = (0..80).filter_map(|_| Client::connect(stage.gateway.addr).ok()).collect();
    let before = stage.gateway.cpu();
    // Meanwhile the pools let their connections go, and those in the backlog take the handles.
    std::thread::sleep(Duration::from_secs(2));
    let used = stage.gateway.cpu().saturating_sub(before);
    if used > BUSY {
        stage.tally.broken(format!("it used {used} hundredths of a second in two seconds without handles and without work"));
    }
    for (number, client) in inside.iter_mut().enumerate() {
        stage.ask(client, &Ask::honest(WAYS[number % 3]), right);
    }
    drop((idle, inside));
    stage.each(8, 96, |client, index| {
        stage.honest(client, WAYS[index % 3]);
    });
    Ok(format!("{used} ms of processor time in two seconds without handles", used = used * 10))
}

/// Hundredths of a second.
const BUSY: u64 = 40;
