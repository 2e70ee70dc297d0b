//! How far the run is, on stderr: a bar that is drawn anew on a terminal, a line per case elsewhere.

use std::io::{IsTerminal, Write, stderr};

use super::scenario::Scenario;

pub(crate) struct Progress {
    done: usize,
    all: usize,
    terminal: bool,
    /// The case whose line is printed, where there is no terminal.
    told: String,
}

const BAR: usize = 24;

impl Progress {
    pub(crate) fn new(scenarios: &[Scenario]) -> Progress {
        let steps = |one: &Scenario| one.cases.len() * one.contenders.len() * (one.rounds as usize + usize::from(!one.warmup.is_zero()));
        Progress { done: 0, all: scenarios.iter().map(steps).sum(), terminal: stderr().is_terminal(), told: String::new() }
    }

    /// A step begins.
    pub(crate) fn step(&mut self, scenario: &str, case: &str, round: &str, contender: &str) {
        let line = bar(self.done, self.all);
        self.done += 1;
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K{line} {scenario} {case}, {round}: {contender}");
            return;
        }
        let told = format!("{scenario} {case}");
        if told != self.told {
            let _ = writeln!(stderr(), "{line} {told}");
            self.told = told;
        }
    }

    /// Something between the steps.
    pub(crate) fn note(&mut self, what: &str) {
        let _ = if self.terminal { write!(stderr(), "\r\x1b[K{} {what}", bar(self.done, self.all)) } else { writeln!(stderr(), "{what}") };
    }

    /// The bar goes; what follows is the result.
    pub(crate) fn end(&self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

pub(crate) fn bar(done: usize, all: usize) -> String {
    let filled = (done * BAR).checked_div(all).unwrap_or(BAR).min(BAR);
    format!("[{}{}] {done}/{all}", "#".repeat(filled), ".".repeat(BAR - filled))
}
