//! The upstream dies at each byte of its answer: status line, fields, body, chunk headers, events.

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::script::{End, Script, Shape};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "answer-cut",
    what: "the upstream ends its connection (FIN, RST) after each byte of an answer with a length, in chunks, until close, as events",
    promise: "502 `upstream_broken` before the head is whole, a visibly cut answer after; never a clean end. A POST reaches the upstream \
              once, or twice when a pooled connection died without a byte of an answer",
    both: true,
    stage: None,
    run,
};

struct Case {
    ask: Ask,
    right: Right<'static>,
}

fn run(stage: &Stage) -> Result<String, Stop> {
    let mut cases = Vec::new();
    for end in [End::Fin, End::Rst] {
        for (shape, way, http10) in [
            (Shape::Length, Way::Route, false),
            (Shape::Length, Way::Chat, false),
            (Shape::Chunked, Way::Route, false),
            (Shape::Chunked, Way::Route, true),
            (Shape::UntilClose, Way::Route, false),
            (Shape::Events, Way::Chat, false),
        ] {
            add(&mut cases, Script { end, ..Script::shaped(shape) }, way, http10);
        }
    }
    stage.beside(2, || {
        stage.each(8, cases.len(), |client, index| {
            let Case { ask, right } = &cases[index];
            stage.ask(client, ask, *right);
            stage.honest(client, Way::Route);
        });
    });
    for Case { ask, .. } in &cases {
        let most = if ask.script.cut == Some(0) { 2 } else { 1 };
        let seen = stage.upstream.seen(&ask.token);
        if seen > most {
            stage.tally.broken(format!("the upstream was asked {seen} times: POST {} {}", ask.script, ask.token));
        }
    }
    Ok(String::new())
}

fn add(cases: &mut Vec<Case>, script: Script, way: Way, http10: bool) {
    let sample = Ask::new(way, script);
    let (wire, head_len) = script.wire(&script.body(&sample.token));
    for cut in 0..=wire.len() {
        let right = match (script.shape, script.end) {
            _ if cut < head_len => Right::failed(&["upstream_broken"]),
            // A body until close that ends in good order is whole: nobody could tell.
            (Shape::UntilClose, End::Fin) if cut < wire.len() => continue,
            (Shape::UntilClose, End::Rst) => Right::CUT,
            _ if cut == wire.len() => Right::ANSWERED,
            // Before the first event nothing is committed: an error of the gateway is as good.
            (Shape::Events, _) => Right::failed(&["upstream_broken"]).or_cut(),
            _ => Right::CUT,
        };
        cases.push(Case { ask: Ask { http10, ..Ask::new(way, Script { cut: Some(cut), ..script }) }, right });
    }
}
