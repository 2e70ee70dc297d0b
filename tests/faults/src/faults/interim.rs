//! Games with interim answers, from both sides.

use super::{Fault, Stop};
use crate::ask::{Ask, WAYS, Way};
use crate::client::Got;
use crate::script::{Odd, Script};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "interim",
    what: "100 before the answer, eight and nine of them, 103, 101 unasked; clients that wait for 100, do not wait, or never send on",
    promise: "up to eight are passed over, more are 502 `too_many_interim_answers`, 101 is 502; who waits for 100 gets it from the \
              gateway; who then sends nothing gets 408",
    both: true,
    stage: None,
    run,
};

fn run(stage: &Stage) -> Result<String, Stop> {
    let cases = [
        (Odd::Interim(1), Right::ANSWERED),
        (Odd::Interim(8), Right::ANSWERED),
        (Odd::Hints, Right::ANSWERED),
        (Odd::Interim(9), Right::failed(&["too_many_interim_answers", "upstream_broken"])),
        (Odd::Switching, Right::failed(&["switching_unasked", "upstream_broken"])),
    ];
    stage.beside(2, || {
        stage.each(4, 300, |client, index| {
            let (odd, right) = cases[index % cases.len()];
            stage.ask(client, &Ask::new(WAYS[index % 3], Script::odd(odd)), right);
            stage.honest(client, WAYS[index % 3]);
        });
        stage.each(4, 120, |client, index| {
            let ask = Ask { expect: true, chunked: index % 2 == 0, ..Ask::honest(WAYS[index % 3]) };
            if index % 5 == 0 {
                stage.ask(client, &ask, Right::ANSWERED);
            } else {
                waits(stage, client, &ask);
            }
        });
        // Each takes the time for a body.
        stage.each(9, 9, |client, index| {
            let ask = Ask { expect: true, ..Ask::honest(WAYS[index % 3]) };
            stage.tally.begin();
            let got = stage.connected(client).map_or(Got::Closed, |client| {
                client.send(&ask.parts().0);
                client.answer(false)
            });
            stage.tally.judge(&ask, &got, Right::failed(&["body_timeout"]));
            stage.honest(client, Way::Route);
        });
    });
    Ok(String::new())
}

/// A client that sends its body when it was told to.
fn waits(stage: &Stage, client: &mut Option<crate::client::Client>, ask: &Ask) {
    let (head, body) = ask.parts();
    stage.tally.begin();
    let got = stage.connected(client).map_or(Got::Closed, |client| {
        client.send(&head);
        if !client.interim() {
            stage.tally.broken(format!("no 100 came for {}", ask.token));
        }
        client.send(&body);
        client.answer(false)
    });
    stage.tally.judge(ask, &got, Right::ANSWERED);
}
