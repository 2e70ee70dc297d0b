//! `headrace doctor`: looks at this machine and says what is missing and how to mend it. It changes nothing; the scripts of `tuning/`
//! do, when asked. Each finding is made by a function over the /proc and /sys below a root folder, so that tests can show it machines
//! we do not have.

mod cores;
mod finding;
mod kernel;
mod limits;
mod machine;
mod memory;
mod network;
mod nic;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::finding::{Finding, State, human};
use self::machine::Machine;
use super::Output;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Shards that will run, when it is not one per core this process may use.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) shards: Option<u32>,
    /// Look at the proc and sys below this folder: a host's from inside a container. The kernel is then not asked for a ring.
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    pub(crate) root: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

pub(crate) fn run(args: DoctorArgs) -> ExitCode {
    let findings = examine(&Machine::new(&args.root, args.shards));
    match args.output {
        Output::Human => super::say(&human(&findings)),
        Output::Json => super::say_json(&serde_json::json!({ "findings": findings })),
    }
    if findings.iter().any(|finding| finding.state == State::Problem) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Looks at everything, what matters most first.
fn examine(machine: &Machine) -> Vec<Finding> {
    const LOOKS: [fn(&Machine) -> Finding; 23] = [
        kernel::version,
        kernel::io_uring,
        kernel::seccomp,
        limits::memlock,
        limits::nofile,
        limits::cores_allowed,
        limits::quota,
        kernel::isolation,
        cores::governor,
        cores::turbo,
        cores::idle_states,
        cores::numa,
        kernel::clock,
        network::somaxconn,
        network::syn_backlog,
        network::packet_backlog,
        network::ports,
        network::reuse,
        network::slow_start,
        network::busy_poll,
        memory::transparent,
        memory::reserved,
        memory::swap,
    ];
    let mut findings: Vec<Finding> = LOOKS.iter().map(|look| look(machine)).collect();
    findings.extend(nic::all(machine));
    findings
}

#[cfg(test)]
mod tests;
