//! The upstream answers while the request's body is still on its way.

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::script::{End, Odd, Script};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "early-answer",
    what: "the upstream answers at the head of a 300 KiB upload (length or chunks) and then keeps, closes or resets the connection",
    promise: "the client gets that answer whole (or 502 when its upload met a connection that another's end had closed); no \
              byte of the rest of the body is taken for a request",
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
            // An upload that goes out on a pooled connection which its neighbour has just ended cannot be sent again: it is not held.
            let broken = Right::failed(&["upstream_broken"]).or_answered();
            // And a reset may overtake the answer on its way to the gateway.
            let right = if script.end == End::Keep { broken } else { broken.or_cut() };
            stage.ask(client, &ask, right);
            stage.honest(client, Way::Route);
        });
    });
    Ok(String::new())
}
