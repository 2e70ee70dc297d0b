//! How many instructions the hot functions and whole exchanges take: a regression shows here on a machine whose clock shows nothing.
//!
//! ```text
//! cargo bench --bench instructions              a table: stored, counted, difference
//! cargo bench --bench instructions -- --check   the gate of .ci/run: exit 1 when a figure grew by more than 5 %
//! cargo bench --bench instructions -- --bless   writes benches/instructions.toml
//! ... -- NAME                                   only the cases whose name holds NAME (not with --bless)
//! ```
//!
//! Each case runs in processes of its own under valgrind's callgrind: one does [`WARM`] operations, one some more. The difference is
//! what those cost when everything is warm; start, setup and end cancel out. What would differ
//! between runs is held still: no environment, arguments of one length, hashes with fixed seeds, a clock that is moved by hand, and a
//! driver that is a script (`script`). Counted are our code and the crates and the C library under it, not the kernel.
//!
//! It is not gungraun (iai-callgrind): that keeps its baseline below `target/`, where no commit shows it, and costs a second installed
//! program of the same version; all that is needed of callgrind is one number.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement that cannot go on should stop loudly")]
#![expect(clippy::disallowed_methods, reason = "a program of its own: it reads and writes its file")]
#![expect(clippy::print_stdout, reason = "it prints a table")]

mod cases;
mod compare;
mod exchange;
#[path = "../samples/mod.rs"]
mod samples;
mod script;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, thread};

use cases::{CASES, Case};
use compare::{Figures, Made, Stored, compare};

/// As in the program: what is allocated costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Operations before counting: pools fill, tables grow, a lane learns what a call costs.
const WARM: u32 = 100;
const COUNTED_MIN: u32 = 100;
const COUNTED_MAX: u32 = 100_000;
/// A figure rests on at least so many.
const INSTRUCTIONS_MIN: u64 = 2_000_000;
/// What the child is told, in figures of one width: longer arguments would move the stack.
const RUN: &str = "--run-operations";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [run, name, operations] = args.as_slice()
        && run == RUN
    {
        return run_case(name, operations.parse().unwrap());
    }
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let Some(valgrind) = valgrind_version() else {
        println!("instructions: valgrind is not there; install it (Debian: apt-get install valgrind) to count.");
        return if has("--check") || has("--bless") { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let cases: Vec<&Case> = CASES.iter().filter(|case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(*part))).collect();
    let counted = count_all(&cases);
    let made = Made { rustc: first_line("rustc", "--version"), valgrind, machine: machine() };
    if has("--bless") && wanted.is_empty() {
        let text = Stored { made, figures: counted }.to_text().unwrap();
        fs::write(file(), text).unwrap();
        println!("instructions: wrote {}", file().display());
        return ExitCode::SUCCESS;
    }
    judge(&counted, &made, &cases, has("--check"))
}

/// Prints the table; whether the gate holds.
fn judge(counted: &Figures, made: &Made, cases: &[&Case], is_gate: bool) -> ExitCode {
    let mut stored = match fs::read_to_string(file()) {
        Ok(text) => Stored::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file().display())),
        Err(error) => panic!("{}: {error}; write it with --bless", file().display()),
    };
    if cases.len() < CASES.len() {
        stored.figures.retain(|name, _| counted.contains_key(name));
    }
    let lines = compare(&stored.figures, counted);
    println!("{:<40} {:>10} {:>10}", "instructions per operation", "stored", "counted");
    lines.iter().for_each(|line| println!("{line}"));
    let failed = lines.iter().filter(|line| line.verdict.fails()).count();
    if stored.made != *made {
        println!("stored with {}, {}, {}", stored.made.rustc, stored.made.valgrind, stored.made.machine);
        println!("this is     {}, {}, {}", made.rustc, made.valgrind, made.machine);
    }
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    println!("{failed} of {} figures are not what is stored in benches/instructions.toml.", lines.len());
    println!(
        "Was it meant? Then `cargo bench --bench instructions -- --bless`, and say why in the same commit. Was it not? callgrind says"
    );
    println!("where: valgrind --tool=callgrind TARGET {RUN} NAME 1000, then callgrind_annotate.");
    if is_gate { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run_case(name: &str, operations: u32) -> ExitCode {
    let case = CASES.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"));
    let mut operation = (case.make)();
    (0..operations).for_each(|_| operation());
    ExitCode::SUCCESS
}

/// As many processes at a time as there are cores; the counts do not depend on it.
fn count_all(cases: &[&Case]) -> Figures {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let count_some = |first: usize| {
        let some = cases.iter().skip(first).step_by(threads);
        some.map(|case| (case.name.to_owned(), count_operation(case.name))).collect::<Figures>()
    };
    thread::scope(|scope| {
        let counters: Vec<_> = (0..threads).map(|first| scope.spawn(move || count_some(first))).collect();
        counters.into_iter().flat_map(|counter| counter.join().unwrap()).collect()
    })
}

/// In two steps: few operations tell how many it takes to drown what start and end cost more or less from run to run (some thousand
/// instructions: the allocator asks for the time and the process for its number).
fn count_operation(name: &str) -> u64 {
    let warm = count(name, WARM);
    let each = |operations: u32| {
        let counted = count(name, WARM + operations).saturating_sub(warm);
        (counted + u64::from(operations / 2)) / u64::from(operations)
    };
    let rough = each(COUNTED_MIN);
    let mut operations = COUNTED_MIN;
    while u64::from(operations) * rough < INSTRUCTIONS_MIN && operations < COUNTED_MAX {
        operations *= 10;
    }
    if operations == COUNTED_MIN { rough } else { each(operations) }
}

/// Instructions of a process that runs so many operations.
fn count(name: &str, operations: u32) -> u64 {
    let output = env::temp_dir().join(format!("headrace-instructions.{}.{name}.{operations:06}", std::process::id()));
    let said = Command::new("valgrind")
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .args(["--tool=callgrind", "--read-inline-info=no", "--combine-dumps=yes"])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(env::current_exe().unwrap())
        .args([RUN, name, &format!("{operations:06}")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let profile = fs::read_to_string(&output).unwrap_or_default();
    let _ = fs::remove_file(&output);
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    match total {
        Some(total) if said.status.success() => total,
        _ => panic!("{name}: {}\n{}", said.status, String::from_utf8_lossy(&said.stderr)),
    }
}

fn valgrind_version() -> Option<String> {
    let said = Command::new("valgrind").arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn first_line(program: &str, arg: &str) -> String {
    let said = Command::new(program).arg(arg).output().map(|said| said.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).lines().next().unwrap_or("unknown").to_owned()
}

/// valgrind has nothing wider than AVX2, whatever the processor has.
fn machine() -> String {
    #[cfg(target_arch = "x86_64")]
    let widest = if std::arch::is_x86_feature_detected!("avx2") { "avx2" } else { "sse" };
    #[cfg(not(target_arch = "x86_64"))]
    let widest = "its own vectors";
    format!("{} with {widest}", env::consts::ARCH)
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml")
}
