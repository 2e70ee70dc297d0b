//! The upstream answers while the request's body is still on its way.

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::script::{End, Odd, Script};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "early-answer",
    what: "the upstream answers at the head of a 300 KiB upload (length or chunks) and then keeps, closes or resets the connection",
    promise: "the client gets that answer whole; no byte of the rest of the body is taken for a request; neither connection is used again",
    both: true,
    stage: None,
    run,
};

fn run(stage: &Stage) -> Result<String, Stop> {
    let ends = [End::Keep, End::Fin, End::Rst];
    stage.beside(2, || {
        stage.each(8, 96, |client, index| {
            let script = Script { end: ends[index % 3], ..Script::odd(Odd::Early) };
            let ask = Ask { upload: 300 << 10, chunked: index % 2 == 0, ..Ask::new(Way::Route, script) };
            // A reset may overtake the answer on its way to the gateway.
            let right = if script.end == End::Keep { Right::ANSWERED } else { Right::failed(&["upstream_broken"]).or_answered().or_cut() };
            stage.ask(client, &ask, right);
            stage.honest(client, Way::Route);
        });
    });
    Ok(String::new())
}
