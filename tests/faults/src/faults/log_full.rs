//! The disk is full where the log goes.

use std::fs;

use rustix::process::Signal;

use super::{Fault, Stop};
use crate::ask::WAYS;
use crate::stage::{CONFIG, Common, Stage};

pub(crate) const FAULT: Fault = Fault {
    name: "log-full",
    what: "every line of the log fails with ENOSPC (stderr is /dev/full), while configurations are taken and refused and clients ask",
    promise: "nobody notices: the log is lost, requests are not",
    both: false,
    stage: Some(stage),
    run,
};

fn stage(common: &Common) -> Result<Stage, Stop> {
    if !std::path::Path::new("/dev/full").exists() {
        return Err(Stop::Skipped("there is no /dev/full here".to_owned()));
    }
    Ok(Stage::with(common, CONFIG, "", Some("/dev/full"), 64)?)
}

fn run(stage: &Stage) -> Result<String, Stop> {
    let file = stage.gateway.config_file();
    let text = fs::read_to_string(&file).unwrap_or_default();
    let reloads = || stage.metric("headrace_config_reloads_total", &[]);
    stage.beside(4, || {
        for round in 0..10 {
            // Every other one is a mistake, about which there is much to say.
            let more = if round % 2 == 0 { "upstream = \"nowhere\"" } else { "upstream = \"up\"" };
            let _ = fs::write(&file, format!("{text}\n[[models]]\nname = \"more-{round}\"\n{more}\n"));
            let before = reloads();
            stage.gateway.signal(Signal::HUP);
            if !stage.eventually(|| reloads() > before) {
                stage.tally.broken("a reload was never told".to_owned());
            }
        }
        stage.each(4, 60, |client, index| {
            stage.honest(client, WAYS[index % 3]);
        });
    });
    Ok(String::new())
}
