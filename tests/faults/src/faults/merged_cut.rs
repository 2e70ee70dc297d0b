//! The upstream dies at each byte of the answer to a merged call.

use std::sync::Barrier;

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::script::{End, Script, Shape};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "merged-cut",
    what: "the upstream ends its connection (FIN, RST) at every third byte of an answer to a call that several clients share",
    promise: "each of them gets its own item or 502 `upstream_broken`, never a part and never a neighbour's",
    both: true,
    stage: None,
    run,
};

const TOGETHER: usize = 4;
const GROUPS: usize = 2;
/// The answer to a call for four has about 500 bytes.
const LAST: usize = 520;

fn run(stage: &Stage) -> Result<String, Stop> {
    let mut scripts = Vec::new();
    for end in [End::Fin, End::Rst] {
        for shape in [Shape::Length, Shape::Chunked] {
            scripts.extend((0..LAST).step_by(3).map(|cut| Script { cut: Some(cut), end, ..Script::shaped(shape) }));
        }
    }
    let barriers: Vec<Barrier> = (0..GROUPS).map(|_| Barrier::new(TOGETHER)).collect();
    stage.beside(1, || {
        stage.crowd(TOGETHER * GROUPS, |thread| {
            let group = thread % GROUPS;
            let mut client = None;
            for script in scripts.iter().skip(group).step_by(GROUPS) {
                barriers[group].wait();
                stage.ask(&mut client, &Ask::new(Way::Embed, *script), Right::failed(&["upstream_broken"]).or_answered());
            }
        });
    });
    let (items, calls) = (stage.metric("headrace_batch_items_sum", &[]), stage.metric("headrace_batch_items_count", &[]));
    Ok(format!("{:.1} items per call since the start", items / calls.max(1.0)))
}
