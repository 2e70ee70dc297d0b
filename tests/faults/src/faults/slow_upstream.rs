//! Upstreams that are slow, stand still, or stop listening.

use super::{Fault, Stop};
use crate::ask::{Ask, WAYS, Way};
use crate::script::{End, Odd, Script, Shape};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "slow-upstream",
    what: "answers byte by byte; no answer; an answer that stands still; an upload that is never read; death (FIN, RST) after 0, 1, \
           1,000 and 50,000 bytes of an upload",
    promise: "slow answers arrive whole; silence is 504 `upstream_timeout`, in the middle of an answer a cut; death is 502 \
              `upstream_broken`; others are served meanwhile",
    both: true,
    stage: None,
    run,
};

fn run(stage: &Stage) -> Result<String, Stop> {
    let late = Right::failed(&["upstream_timeout"]);
    let dead = Right::failed(&["upstream_broken"]);
    let silent = Script { cut: Some(0), end: End::Hang, ..Script::HONEST };
    let mut cases: Vec<(Ask, Right<'static>)> = Vec::new();
    for shape in [Shape::Length, Shape::Chunked, Shape::UntilClose] {
        cases.extend(WAYS.map(|way| (Ask::new(way, Script { drip: 200, ..Script::shaped(shape) }), Right::ANSWERED)));
    }
    cases.push((Ask::new(Way::Chat, Script { drip: 200, ..Script::shaped(Shape::Events) }), Right::ANSWERED));
    for way in WAYS {
        // Those that share a lane may have waited for each other until their own time was over.
        let right = if way == Way::Embed { Right::failed(&["upstream_timeout", "deadline_exceeded"]) } else { late };
        cases.extend((0..3).map(|_| (Ask::new(way, silent), right)));
    }
    // In the first chunk, and with nothing but the last line end missing.
    for script in [Script::shaped(Shape::Chunked), Script::shaped(Shape::Events)] {
        let (wire, head_len) = script.wire(&script.body(&Ask::honest(Way::Route).token));
        for cut in [head_len + 6, wire.len() - 2] {
            // A stream's status line waits for its first event.
            let right = if matches!(script.shape, Shape::Events) { late.or_cut() } else { Right::CUT };
            cases.push((Ask::new(Way::Route, Script { cut: Some(cut), end: End::Hang, ..script }), right));
        }
    }
    for upload in [40, 300 << 10, 8 << 20] {
        cases.push((Ask { upload, ..Ask::new(Way::Route, Script::odd(Odd::NeverReads)) }, late));
    }
    // Ended within the time of those that stand still, so that all of them together take no longer than one.
    for end in [End::Fin, End::Rst] {
        for count in [0, 1, 1000, 50_000] {
            for chunked in [false, true] {
                let script = Script { end, ..Script::odd(Odd::DiesReading(count)) };
                cases.push((Ask { upload: 100_000, chunked, ..Ask::new(Way::Route, script) }, dead));
            }
        }
    }
    stage.beside(3, || {
        stage.each(cases.len(), cases.len(), |client, index| {
            let (ask, right) = &cases[index];
            stage.ask(client, ask, *right);
            stage.honest(client, ask.way);
        });
    });
    Ok(String::new())
}
