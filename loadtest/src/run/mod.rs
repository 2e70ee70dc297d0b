//! `headrace-loadtest run`: contenders side by side, on the same work, in the same run. It reads scenario files, sets a stage for each, runs
//! the rounds and shows what came of them. Making load is the generator's business (it is started as a child, as the upstream is), and what
//! a peer needs is in its folder below `loadtest/peers`.
//!
//! - `scenario`, `peer`: what a person wrote. `stage`, `child`, `launch`, `probe`: started, pinned, asked, ended.
//! - `rounds`, `usage`, `sample`, `metric`: measured. `stats`, `results`: summed up, stored, judged.
//! - `show`, `table`, `markdown`, `svg`, `docs`: shown. `host`: clock, signals, machine. `progress`: the bar.

mod child;
mod docs;
mod host;
mod launch;
mod markdown;
mod metric;
mod peer;
mod probe;
mod progress;
mod results;
mod rounds;
mod sample;
mod scenario;
mod show;
mod stage;
mod stats;
mod svg;
mod table;
#[cfg(test)]
mod tests;
mod usage;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use host::{Interrupts, Machine};
pub(crate) use launch::{LaunchArgs, launch};
use progress::Progress;
use results::{FORMAT, Results};
use scenario::Scenario;
use stage::Grounds;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Scenario files.
    #[arg(value_name = "FILE", required_unless_present = "from")]
    scenarios: Vec<PathBuf>,
    /// Only these contenders; the first that is a process is the reference.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Only these cases.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    cases: Vec<String>,
    /// The short form of each scenario; those without one are left out.
    #[arg(long)]
    quick: bool,
    /// In place of the scenarios' rounds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// In place of the scenarios' round.
    #[arg(long, value_name = "TIME", value_parser = crate::args::duration)]
    round: Option<std::time::Duration>,
    /// Where the peers' folders are.
    #[arg(long, value_name = "FOLDER", default_value = "loadtest/peers")]
    peers: PathBuf,
    /// Where configurations and logs of this run go.
    #[arg(long, value_name = "FOLDER", default_value = "target/compare")]
    work: PathBuf,
    /// The first port to try.
    #[arg(long, value_name = "PORT", default_value_t = 22_000)]
    port: u16,
    /// Show stored results in place of measuring.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenarios", "only", "cases", "quick", "rounds", "round"])]
    from: Option<PathBuf>,
    /// Store the results.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the results.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the results as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Refresh the blocks `<!-- figures:NAME -->` of this document; may be repeated.
    #[arg(long, value_name = "FILE")]
    refresh: Vec<PathBuf>,
    /// What the results name as the command that makes them.
    #[arg(long, value_name = "TEXT")]
    command_shown: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = crate::args::Output::Human)]
    output: crate::args::Output,
}

/// Exit code 0: measured, without a fault. 1: something failed, answered wrongly or was not there; missed targets are no fault.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    let results = args.from.as_ref().map_or_else(|| measure(args), |file| stored(file));
    let shown = results.and_then(|results| show_all(args, &results).map(|()| results));
    match shown {
        Ok(results) => {
            let faults: Vec<String> = results.scenarios.iter().flat_map(results::ScenarioResult::faults).collect();
            faults.iter().for_each(|fault| complain(&format!("fault: {fault}")));
            if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            complain(&format!("headrace-loadtest run: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Reads every scenario before anything is started, so that a slip in the last one does not cost the run.
fn scenarios(args: &RunArgs) -> Result<Vec<Scenario>, String> {
    let (mut found, mut mistakes) = (Vec::new(), Vec::new());
    for file in &args.scenarios {
        match read(file).and_then(|text| Scenario::parse(file, &text)) {
            Ok(scenario) => found.push(scenario),
            Err(told) => mistakes.push(told),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes.join("\n"));
    }
    if args.quick {
        found = found.into_iter().filter_map(Scenario::quick).collect();
    }
    for scenario in &mut found {
        scenario.keep(&args.cases, &args.only);
        scenario.rounds = args.rounds.unwrap_or(scenario.rounds);
        if let Some(round) = args.round {
            scenario.round = round;
            scenario.cases.iter_mut().for_each(|case| case.round = None);
        }
    }
    found.retain(|scenario| !scenario.cases.is_empty() && scenario.has_process());
    if found.is_empty() { Err("nothing is left to measure: no such case, contender or short form".to_owned()) } else { Ok(found) }
}

fn measure(args: &RunArgs) -> Result<Results, String> {
    let scenarios = scenarios(args)?;
    check_cores(&scenarios)?;
    let signals = Interrupts::watch()?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()));
    let own = std::env::current_exe().map_err(|error| format!("this program's own place: {error}"))?;
    let grounds = Grounds {
        peers: absolute(&args.peers)?,
        bin: own.parent().map(Path::to_path_buf).unwrap_or_default(),
        work: absolute(&args.work)?,
        port: args.port,
    };
    let mut progress = Progress::new(&scenarios);
    let mut results = Results {
        format: FORMAT,
        date: host::date(),
        command: args.command_shown.clone().unwrap_or_else(|| std::env::args().collect::<Vec<_>>().join(" ")),
        commit: host::commit(&grounds.peers),
        machine: Machine::here(),
        scenarios: Vec::new(),
    };
    for scenario in &scenarios {
        let outcome = rounds::run(scenario, &grounds, &signals, &mut progress);
        results.scenarios.push(outcome.map_err(|error| format!("{}: {error}", scenario.name))?);
        // A long run that is cut keeps what it has.
        store(args, &results)?;
    }
    progress.end();
    Ok(results)
}

/// A core that is not there would look like a program that does not start.
fn check_cores(scenarios: &[Scenario]) -> Result<(), String> {
    let allowed = headrace::sys::cores::allowed_cores();
    for scenario in scenarios {
        let own = scenario.contenders.iter().filter_map(|one| one.cores.as_ref()).flatten();
        if let Some(core) = scenario.cores.shard.iter().chain(&scenario.cores.load).chain(own).find(|core| !allowed.contains(core)) {
            return Err(format!(
                "{}: core {core} is not among those this process may use ({allowed:?}); change the scenario's cores",
                scenario.name
            ));
        }
    }
    Ok(())
}

fn stored(file: &Path) -> Result<Results, String> {
    let results: Results = serde_json::from_str(&read(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
    if results.format != FORMAT {
        return Err(format!("{}: format {}, and this program reads {FORMAT}: measure anew", file.display(), results.format));
    }
    Ok(results)
}

fn show_all(args: &RunArgs, results: &Results) -> Result<(), String> {
    store(args, results)?;
    if let Some(file) = &args.svg {
        write(file, &svg::picture(results))?;
    }
    if let Some(file) = &args.markdown {
        write(file, &markdown::text(results))?;
    }
    for file in &args.refresh {
        let fresh = docs::refresh(&read(file)?, &markdown::blocks(results)).map_err(|error| format!("{}: {error}", file.display()))?;
        write(file, &fresh.text)?;
        if !fresh.kept.is_empty() {
            complain(&format!("{}: kept as they were, for this run has nothing for them: {}", file.display(), fresh.kept.join(", ")));
        }
    }
    let text = match args.output {
        crate::args::Output::Human => table::text(results),
        crate::args::Output::Json => to_json(results)?,
    };
    // A reader that has gone is no failure.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(())
}

fn store(args: &RunArgs, results: &Results) -> Result<(), String> {
    args.json.as_ref().map_or(Ok(()), |file| write(file, &to_json(results)?))
}

fn to_json(results: &Results) -> Result<String, String> {
    serde_json::to_string_pretty(results).map_err(|error| format!("results as JSON: {error}"))
}

fn read(file: &Path) -> Result<String, String> {
    #[expect(clippy::disallowed_methods, reason = "the runner is a tool, not a shard")]
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "the runner is a tool, not a shard")]
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
