//! Clients that leave at any moment, beside others whose calls they share.

use std::time::Duration;

use super::{Fault, Stop};
use crate::ask::{Ask, WAYS};
use crate::client::Client;
use crate::script::{Odd, Script};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "leavers",
    what: "half of 32 clients leave (FIN, RST) 0 to 7 ms after their request, while calls take 4 ms: queued, sent, being answered",
    promise: "who stays gets its own answer; what a leaver was due reaches nobody",
    both: true,
    stage: None,
    run,
};

fn run(stage: &Stage) -> Result<String, Stop> {
    stage.crowd(32, |thread| {
        let mut kept = None;
        for round in 0..60 {
            // Neighbours in time share a lane, so leavers and others share calls.
            let ask = Ask::new(WAYS[if round % 3 == 0 { thread % 3 } else { 2 }], Script::odd(Odd::Slow(4)));
            if (thread + round) % 2 == 0 {
                stage.ask(&mut kept, &ask, Right::ANSWERED);
                continue;
            }
            stage.tally.begin();
            let Ok(mut client) = Client::connect(stage.gateway.addr) else { continue };
            client.send(&ask.bytes());
            std::thread::sleep(Duration::from_micros(((thread * 7 + round * 13) % 70 * 100) as u64));
            if round % 4 < 2 {
                client.reset();
            }
            stage.tally.cancelled();
        }
    });
    Ok(String::new())
}
