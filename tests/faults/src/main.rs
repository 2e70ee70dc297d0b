//! `headrace-faults`: everything around a gateway breaks, and every request is accounted for. It starts the real program with a
//! scripted upstream behind it, does one wrong thing after the other, prints a line of counts for each, and ends with 1 when any
//! promise of docs/faults.md was broken. One file per fault, in `faults/`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it stands outside the gateway: threads, locks, blocking sockets, the clock"
)]

mod ask;
mod client;
mod faults;
mod report;
mod script;
mod stage;
mod tally;
mod token;
mod upstream;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use faults::{FAULTS, Fault};
use report::Report;
use stage::{Common, Stage};
use upstream::Upstream;

#[derive(Debug, Parser)]
#[command(about = "Breaks everything around headrace and counts what becomes of requests")]
struct Args {
    /// The program under test.
    #[arg(long, value_name = "FILE", default_value = "target/release/headrace")]
    bin: PathBuf,
    /// Only faults whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The driver; both unless said.
    #[arg(long, value_name = "DRIVER", value_parser = ["uring", "epoll"])]
    io: Option<String>,
    /// Tell the faults and what is promised for each, as the table of docs/faults.md.
    #[arg(long)]
    list: bool,
    /// Be a scripted upstream on this address, for the faults that kill one.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    upstream: Option<String>,
    /// Let the scripted upstream swap answers: the suite must see it and fail.
    #[arg(long, hide = true)]
    swap: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        report::list(&FAULTS);
        return ExitCode::SUCCESS;
    }
    // Thousands of clients and as many upstream connections.
    let most = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    if let Some(addr) = &args.upstream {
        let Ok(_upstream) = Upstream::start(addr, false) else { return ExitCode::FAILURE };
        loop {
            std::thread::park();
        }
    }
    match std::fs::canonicalize(&args.bin) {
        Ok(bin) => run(&Args { bin, ..args }),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}: {error}; build it first, or name it with --bin", args.bin.display());
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> ExitCode {
    let mut report = Report::default();
    // Whether a driver has had its turn.
    let mut second = false;
    for io in ["uring", "epoll"].into_iter().filter(|io| args.io.as_deref().is_none_or(|only| only == *io)) {
        let common = Common { bin: args.bin.clone(), io, swaps: args.swap };
        let named = |fault: &&Fault| args.only.is_empty() || args.only.iter().any(|only| fault.name.contains(only.as_str()));
        second |= on_driver(&mut report, &common, FAULTS.iter().filter(named).filter(|fault| fault.both || !second));
    }
    if !args.swap && args.only.is_empty() {
        report.self_check(&args.bin);
    }
    if report.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All faults with one driver. False when this machine does not grant it.
fn on_driver<'a>(report: &mut Report, common: &Common, faults: impl Iterator<Item = &'a Fault>) -> bool {
    let mut shared = match Stage::usual(common) {
        Ok(stage) => stage,
        Err(why) if common.io == "uring" && why.contains("io_uring") => {
            report.note(&format!("uring: skipped, it is refused here: {}", why.trim()));
            return false;
        }
        Err(why) => {
            report.broken(&format!("{}: {why}", common.io));
            return true;
        }
    };
    for fault in faults {
        report.begin();
        let mut own = match fault.stage.map(|make| make(common)).transpose() {
            Ok(own) => own,
            Err(stop) => {
                report.stopped(common.io, fault, &stop);
                continue;
            }
        };
        let stage = own.as_mut().unwrap_or(&mut shared);
        stage.begin();
        match (fault.run)(stage) {
            Ok(remark) => report.done(common.io, fault, stage, &remark),
            Err(stop) => report.stopped(common.io, fault, &stop),
        }
    }
    if shared.gateway.end() != Some(0) {
        report.broken(&format!("{}: the gateway did not end with 0 when it was asked to", common.io));
    }
    true
}
