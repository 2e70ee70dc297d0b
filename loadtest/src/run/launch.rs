//! `headrace-loadtest launch`: the last steps before another program takes this process over. They bind it to its cores, tie its life to
//! the runner's, and raise its limit of open files; then it is that program. It exists because the steps must be taken by the child itself.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// Cores it may use.
    #[arg(long, value_delimiter = ',', required = true)]
    cores: Vec<usize>,
    /// The process that must outlive it.
    #[arg(long)]
    parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) fn launch(args: &LaunchArgs) -> ExitCode {
    let error = become_it(args);
    super::complain(&format!("launch: {error}"));
    ExitCode::FAILURE
}

/// Returns only when it fails.
fn become_it(args: &LaunchArgs) -> String {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return format!("its life cannot be tied to the runner's: {error}");
    }
    // The runner may have gone before the tie was made.
    if getppid() != Pid::from_raw(args.parent) {
        return "the runner has gone".to_owned();
    }
    let mut set = CpuSet::new();
    args.cores.iter().for_each(|core| set.set(*core));
    if let Err(error) = sched_setaffinity(None, &set) {
        return format!("cores {:?}: {error}", args.cores);
    }
    raise_open_files();
    let Some((program, rest)) = args.command.split_first() else { return "no program".to_owned() };
    let error = Command::new(program).args(rest).exec();
    format!("{program}: {error}")
}

/// Ten thousand connections need twice as many files at a proxy. Root may raise the hard limit too; a limit that cannot be raised shows as
/// refused connections.
pub(crate) fn raise_open_files() {
    const WANTED: u64 = 65_536;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current >= WANTED) {
        return;
    }
    let most = now.maximum.map_or(WANTED, |most| most.max(WANTED));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(WANTED), maximum: Some(most) }).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
}
