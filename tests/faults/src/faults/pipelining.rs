//! Requests sent ahead of their turn, with an answer in the middle that is cut.

use super::{Fault, Stop};
use crate::ask::{Ask, WAYS, Way};
use crate::client::Client;
use crate::script::{End, Script};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "pipelining",
    what: "eight requests in one packet, all ways in turn; in every other packet the upstream cuts the fifth answer",
    promise: "answers come in order, each its own; behind a cut one nothing comes, and what was not answered was not sent upstream",
    both: true,
    stage: None,
    run,
};

const SENT: usize = 8;
const CUT_AT: usize = 4;

fn run(stage: &Stage) -> Result<String, Stop> {
    stage.beside(2, || {
        stage.each(6, 150, |_, index| {
            let cuts = index % 2 == 1;
            let mut asks: Vec<Ask> = (0..SENT).map(|number| Ask::honest(WAYS[(index + number) % 3])).collect();
            if cuts {
                asks[CUT_AT] = Ask::new(Way::Route, Script { cut: Some(120), end: End::Fin, ..Script::HONEST });
            }
            let Ok(mut client) = Client::connect(stage.gateway.addr) else {
                return stage.tally.broken("no connection".to_owned());
            };
            client.send(&asks.iter().flat_map(Ask::bytes).collect::<Vec<u8>>());
            for (number, ask) in asks.iter().enumerate() {
                stage.tally.begin();
                if cuts && number > CUT_AT {
                    // The connection is gone: nobody answers these, and nobody may have been asked.
                    stage.tally.cancelled();
                    if stage.upstream.seen(&ask.token) > 0 {
                        stage.tally.broken(format!("sent upstream behind a cut answer: {}", ask.token));
                    }
                    continue;
                }
                let right = if cuts && number == CUT_AT { Right::CUT } else { Right::ANSWERED };
                stage.tally.judge(ask, &client.answer(false), right);
            }
        });
    });
    Ok(String::new())
}
