//! Answers whose framing is a lie, has two readings, or is no HTTP at all.

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::script::{End, Odd, Script, Shape};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "framing",
    what: "Content-Length too short, too long, twice, beside chunked; broken chunks; heads that are no HTTP; bodies behind 204 and HEAD; an \
           upstream that half-closes",
    promise: "two readings or none: 502 with the rule's name. A length too long: a cut answer. What follows a whole answer never reaches \
              anybody, and its connection is not used again",
    both: true,
    stage: None,
    run,
};

const ROUNDS: usize = 24;

fn run(stage: &Stage) -> Result<String, Stop> {
    let odd = Script::odd;
    let cases: Vec<(Way, &'static str, Script, Right<'static>)> = vec![
        (Way::Route, "POST", odd(Odd::Short), Right::ANSWERED),
        (Way::Chat, "POST", odd(Odd::Short), Right::ANSWERED),
        (Way::Route, "POST", Script { end: End::Fin, ..odd(Odd::Long) }, Right::CUT),
        (Way::Chat, "POST", Script { end: End::Rst, ..odd(Odd::Long) }, Right::CUT),
        (Way::Embed, "POST", Script { end: End::Fin, ..odd(Odd::Long) }, Right::failed(&["upstream_broken"])),
        (Way::Route, "POST", odd(Odd::TwoLengths), Right::failed(&["two_lengths"])),
        (Way::Embed, "POST", odd(Odd::TwoLengths), Right::failed(&["upstream_broken"])),
        (Way::Route, "POST", odd(Odd::TwiceTheLength), Right::ANSWERED),
        (Way::Embed, "POST", odd(Odd::TwiceTheLength), Right::ANSWERED),
        (Way::Route, "POST", odd(Odd::LengthAndCoding), Right::failed(&["length_and_coding"])),
        (Way::Embed, "POST", odd(Odd::LengthAndCoding), Right::failed(&["upstream_broken"])),
        (Way::Route, "POST", Script { odd: Odd::BadChunk, ..Script::shaped(Shape::Chunked) }, Right::CUT),
        // Before the first event nothing was promised yet, behind it the stream is cut.
        (Way::Chat, "POST", Script { odd: Odd::BadChunk, ..Script::shaped(Shape::Events) }, Right::failed(&["chunk_size"]).or_cut()),
        (Way::Embed, "POST", Script { odd: Odd::BadChunk, ..Script::shaped(Shape::Chunked) }, Right::failed(&["upstream_broken"])),
        (Way::Route, "POST", odd(Odd::Garbage), Right::failed(&["version"])),
        (Way::Embed, "POST", odd(Odd::Garbage), Right::failed(&["upstream_broken"])),
        (Way::Route, "GET", odd(Odd::BadStatus), Right::failed(&["status_code"])),
        (Way::Route, "POST", odd(Odd::Nul), Right::failed(&["field_value"])),
        (Way::Embed, "POST", odd(Odd::Nul), Right::failed(&["upstream_broken"])),
        (Way::Route, "POST", odd(Odd::NoContent), Right::ANSWERED),
        (Way::Route, "HEAD", Script::HONEST, Right::ANSWERED),
        (Way::Route, "POST", Script::shaped(Shape::UntilClose), Right::ANSWERED),
        (Way::Embed, "POST", Script::shaped(Shape::UntilClose), Right::ANSWERED),
        (Way::Embed, "POST", Script::shaped(Shape::Chunked), Right::ANSWERED),
        // Behind a whole answer the upstream closes its sending side and swallows whatever comes.
        (Way::Route, "POST", Script { end: End::Half, ..Script::HONEST }, Right::ANSWERED),
        (Way::Embed, "POST", Script { end: End::Half, ..Script::HONEST }, Right::ANSWERED),
        (
            Way::Chat,
            "POST",
            Script { end: End::Half, cut: Some(140), ..Script::shaped(Shape::Events) },
            Right::failed(&["upstream_broken"]).or_cut(),
        ),
    ];
    stage.beside(2, || {
        stage.each(6, cases.len() * ROUNDS, |client, index| {
            let (way, method, script, right) = cases[index % cases.len()];
            stage.ask(client, &Ask { method, ..Ask::new(way, script) }, right);
            stage.honest(client, way);
        });
    });
    // Few of these: a head of more than a mebibyte, and an answer that stands still until the whole call's time is over.
    stage.each(8, 8, |client, index| {
        let (script, right) = match index % 2 {
            0 => (odd(Odd::HugeHead), Right::failed(&["head_too_long"])),
            _ => (odd(Odd::Long), Right::CUT),
        };
        stage.ask(client, &Ask::new(Way::Route, script), right);
        stage.honest(client, Way::Route);
    });
    Ok(String::new())
}
