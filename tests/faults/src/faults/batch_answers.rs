//! The upstream answers a merged call with 200 and the wrong elements.

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::script::{Odd, Script};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "batch-answers",
    what: "a merged call's elements come shuffled, one short, one too many, with an index twice or out of range",
    promise: "shuffled ones are sorted by index; from any other nobody gets anything: all are asked again alone, and answered",
    both: true,
    stage: None,
    run,
};

fn run(stage: &Stage) -> Result<String, Stop> {
    let odds = [Odd::Shuffled, Odd::OneShort, Odd::OneMore, Odd::SameIndex, Odd::FarIndex];
    stage.beside(2, || {
        stage.crowd(16, |thread| {
            let mut client = None;
            for round in 0..60 {
                let odd = odds[(round / 4 + thread / 8) % odds.len()];
                stage.ask(&mut client, &Ask::new(Way::Embed, Script::odd(odd)), Right::ANSWERED);
            }
        });
    });
    Ok(format!("{} lanes went solo since the start", stage.metric("headrace_lanes_solo_total", &[])))
}
