//! The faults, one file each, all of one shape: a `FAULT` that names it, says what is promised, and runs it on a stage. Another one
//! is another file and a line in [`FAULTS`]; docs/faults.md is printed from here by `--list`.

mod answer_cut;
mod batch_answers;
mod client_dies;
mod client_stops;
mod early_answer;
mod framing;
mod handles;
mod interim;
mod kill;
mod leavers;
mod log_full;
mod merged_cut;
mod pause;
mod pipelining;
mod reload;
mod slow_readers;
mod slow_upstream;
mod slowloris;
mod stopped;
mod store_full;
mod unasked;

use crate::stage::{Common, Stage};

pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) promise: &'static str,
    /// Whether it may end differently on the other driver; where not, one is enough.
    pub(crate) both: bool,
    /// A stage of its own, where the usual one does not do.
    pub(crate) stage: Option<Make>,
    /// Returns what is worth telling beside the counts.
    pub(crate) run: fn(&Stage) -> Result<String, Stop>,
}

type Make = fn(&Common) -> Result<Stage, Stop>;

/// Why a fault has no counts.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This machine or this build cannot have it.
    Skipped(String),
    Failed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::Failed(why)
    }
}

pub(crate) const FAULTS: [Fault; 21] = [
    answer_cut::FAULT,
    merged_cut::FAULT,
    batch_answers::FAULT,
    framing::FAULT,
    early_answer::FAULT,
    unasked::FAULT,
    interim::FAULT,
    slow_upstream::FAULT,
    client_dies::FAULT,
    client_stops::FAULT,
    pipelining::FAULT,
    leavers::FAULT,
    slowloris::FAULT,
    slow_readers::FAULT,
    handles::FAULT,
    kill::FAULT,
    stopped::FAULT,
    reload::FAULT,
    log_full::FAULT,
    store_full::FAULT,
    pause::FAULT,
];
