//! What was found about one thing of a machine, and how a list of findings is printed. What is looked at, and what is good, is
//! settled in the files beside this one.

use std::fmt::Write;

use serde::Serialize;

/// What was found about one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) state: State,
    /// What is there.
    pub(crate) found: String,
    /// Where it was read.
    #[serde(rename = "where")]
    pub(crate) place: String,
    /// What it costs to leave it so; empty when there is nothing to mend, as are the next two.
    pub(crate) why: String,
    pub(crate) mend: String,
    /// The command of `tuning/` that mends it, where there is one.
    pub(crate) script: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Ok,
    /// It works, but slower or with less room.
    Advice,
    /// It will fail under load, or at once.
    Problem,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Advice => "advice",
            State::Problem => "problem",
        }
    }
}

impl Finding {
    pub(super) fn ok(what: &'static str, place: impl Into<String>, found: impl Into<String>) -> Finding {
        let (why, mend, script) = (String::new(), String::new(), String::new());
        Finding { what, state: State::Ok, found: found.into(), place: place.into(), why, mend, script }
    }

    pub(super) fn advice(what: &'static str, place: impl Into<String>, found: impl Into<String>, why: &str, mend: &str) -> Finding {
        Finding { state: State::Advice, why: why.to_owned(), mend: mend.to_owned(), ..Finding::ok(what, place, found) }
    }

    pub(super) fn problem(what: &'static str, place: impl Into<String>, found: impl Into<String>, why: &str, mend: &str) -> Finding {
        Finding { state: State::Problem, ..Finding::advice(what, place, found, why, mend) }
    }

    /// The finding of something that could not be looked at.
    pub(super) fn unread(what: &'static str, place: impl Into<String>) -> Finding {
        Finding::advice(what, place, "cannot be read here", "nobody can say whether it is right", "mount /proc and /sys")
    }

    /// Names what mends it: a script of `tuning/` with its arguments.
    pub(super) fn by(self, script: &str) -> Finding {
        Finding { script: format!("tuning/{script}"), ..self }
    }
}

/// For people: one line for what is well, the rest with where, why and how to mend it, and a sum at the end.
pub(super) fn human(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let _ = writeln!(out, "{:<8} {:<20} {}", finding.state.name(), finding.what, finding.found);
        if finding.state == State::Ok {
            continue;
        }
        let script = if finding.script.is_empty() { String::new() } else { format!("{} (shows; changes with --apply)", finding.script) };
        for (name, text) in [("where", &finding.place), ("why", &finding.why), ("mend", &finding.mend), ("script", &script)] {
            if !text.is_empty() {
                let _ = writeln!(out, "{:<29} {name}: {text}", "");
            }
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let _ = write!(out, "{} ok, {} advice, {} problems", count(State::Ok), count(State::Advice), count(State::Problem));
    out
}
