//! Arguments, the loop, and what is left behind when a target panics: the input as a file and on the screen.
#![expect(clippy::disallowed_methods, reason = "a program beside the gateway: it reads files and the clock as programs do")]

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::kind;
use crate::mutate::{Random, mutate};

type Target = fn(&[u8]) -> u64;

struct Arguments {
    files: Vec<PathBuf>,
    runs: u64,
    time: Duration,
    seed: u64,
    len_max: usize,
}

/// `main` of a target. Exit code 1 and a `crash-*` file in the working folder when an input made it panic or took too long, 2 for
/// wrong arguments.
pub fn run(name: &str, target: Target, tokens: &[&str]) -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}\nusage: {name} [--runs N] [--seconds N] [--seed N] [--len N] [FILE...]");
            return ExitCode::from(2);
        }
    };
    let done = if arguments.files.is_empty() { search(name, target, tokens, &arguments) } else { replay(name, target, &arguments.files) };
    match done {
        Ok(line) => {
            println!("{name}: {line}");
            ExitCode::SUCCESS
        }
        Err(line) => {
            println!("{name}: {line}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { files: Vec::new(), runs: 100_000, time: Duration::from_secs(600), seed: 1, len_max: 4096 };
    let mut timed = false;
    let mut counted = false;
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse::<u64>().ok()).ok_or(format!("{word} takes a number"));
        match word.as_str() {
            "--runs" => (arguments.runs, counted) = (number()?, true),
            "--seconds" => (arguments.time, timed) = (Duration::from_secs(number()?), true),
            "--seed" => arguments.seed = number()?,
            "--len" => arguments.len_max = usize::try_from(number()?).map_err(|error| error.to_string())?,
            _ if word.starts_with("--") => return Err(format!("unknown: {word}")),
            _ => arguments.files.push(PathBuf::from(word)),
        }
    }
    if timed && !counted {
        arguments.runs = u64::MAX;
    }
    Ok(arguments)
}

fn replay(name: &str, target: Target, files: &[PathBuf]) -> Result<String, String> {
    for file in files {
        let data = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        once(name, target, &data)?;
    }
    Ok(format!("{} files, nothing found", files.len()))
}

fn search(name: &str, target: Target, tokens: &[&str], arguments: &Arguments) -> Result<String, String> {
    let mut kept = seeds(name)?;
    let seed_count = kept.len();
    let mut seen = HashSet::new();
    for data in &kept {
        seen.insert(once(name, target, data)?);
    }
    let mut random = Random::new(arguments.seed ^ kind(name));
    let began = Instant::now();
    let mut runs = 0;
    while runs < arguments.runs && (runs % 256 != 0 || began.elapsed() < arguments.time) {
        let mut data = kept[random.below(kept.len())].clone();
        let other = random.below(kept.len());
        mutate(&mut data, &kept[other], tokens, arguments.len_max, &mut random);
        if seen.insert(once(name, target, &data)?) {
            // At the bound the seeds stay and a random later one makes room.
            if kept.len() < KEPT_MAX {
                kept.push(data);
            } else {
                let place = seed_count + random.below(kept.len() - seed_count);
                kept[place] = data;
            }
        }
        if seen.len() > SEEN_MAX {
            seen.clear();
        }
        runs += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(format!(
        "{runs} runs in {seconds:.1} s from {seed_count} seeds (--seed {}), {} kinds of verdict, nothing found",
        arguments.seed,
        seen.len()
    ))
}

/// One input. A panic, or more than a second, is a finding.
fn once(name: &str, target: Target, data: &[u8]) -> Result<u64, String> {
    let began = Instant::now();
    let verdict = catch_unwind(AssertUnwindSafe(|| target(data)));
    let what = match verdict {
        Ok(verdict) if began.elapsed() < SLOW => return Ok(verdict),
        Ok(_) => "slow",
        Err(_) => "crash",
    };
    let file = format!("{what}-{name}-{:016x}", kind(data));
    let left = fs::write(&file, data).map_or_else(|error| error.to_string(), |()| file);
    Err(format!("{what}, input in {left}:\n{}", data.escape_ascii()))
}

fn seeds(name: &str) -> Result<Vec<Vec<u8>>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).map_err(failed)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed)?;
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(fs::read).collect::<Result<_, _>>().map_err(failed)?;
    if seeds.is_empty() { Err(format!("{}: no seeds", folder.display())) } else { Ok(seeds) }
}

const SLOW: Duration = Duration::from_secs(1);
const KEPT_MAX: usize = 4096;
const SEEN_MAX: usize = 1 << 20;
