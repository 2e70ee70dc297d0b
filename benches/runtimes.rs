//! The bare proxy loop on our runtime (io_uring and epoll drivers), on monoio and on glommio: what the ground itself costs. The loops
//! are in `runtimes/`; they have no features and do the same HTTP work.
//!
//! Each proxy is a process of its own on the first core; the light upstream and the clients share the second. Rounds are interleaved,
//! the medians are printed: CPU per request (/proc, all threads of the proxy), requests per second, the clients' p50.
//!
//! Concluded (docs/PERFORMANCE.md has the table): from 8 connections on our ring costs least. monoio's defaults take 14 to 45 % more, monoio
//! with `DEFER_TASKRUN` 4 to 12 %, our epoll driver 11 to 17 %, glommio about four times as much. So the loop stays our own, by a margin that
//! its other gains (spinning, leased buffers, the simulation) must help to carry.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own: it reads /proc and prints a table")]

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use headrace_runtimes::{glommio, load, monoio, ours};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

/// As in the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMES: [&str; 5] = ["ours, io_uring", "ours, epoll", "monoio", "monoio, DEFER_TASKRUN", "glommio"];
const CONNECTIONS: [usize; 4] = [1, 8, 64, 256];

/// A proxy that runs. Dropping it ends it.
struct Proxy {
    child: Child,
    address: SocketAddr,
}

/// What was measured of one proxy in one round.
#[derive(Clone, Copy, Default)]
struct Figures {
    cpu_us: f64,
    per_second: f64,
    p50_us: f64,
    wrong: u64,
}

struct Plan {
    rounds: usize,
    warm: Duration,
    time: Duration,
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("--serve") => serve(&args[1], &args[2]),
        _ => compare(args.iter().any(|arg| arg == "--quick")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runtimes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(name: &str, upstream: &str) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    pin(0)?;
    let upstream = upstream.parse().map_err(io::Error::other)?;
    match NAMES.iter().position(|known| *known == name) {
        Some(0) => ours::serve(true, upstream),
        Some(1) => ours::serve(false, upstream),
        Some(2) => monoio::serve(false, upstream),
        Some(3) => monoio::serve(true, upstream),
        Some(4) => glommio::serve(upstream),
        _ => Err(io::Error::other(format!("no runtime {name}; there are {NAMES:?}"))),
    }
}

fn compare(quick: bool) -> io::Result<()> {
    let plan = if quick {
        Plan { rounds: 3, warm: Duration::from_millis(100), time: Duration::from_millis(300) }
    } else {
        Plan { rounds: 5, warm: Duration::from_millis(150), time: Duration::from_millis(550) }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return Err(io::Error::other("needs two cores: one for the proxy, one for its peers"));
    }
    pin(1)?;
    let rt = ours::runtime(true);
    let upstream = load::start_upstream(&rt)?;
    let mut proxies = Vec::new();
    for name in NAMES {
        match Proxy::start(name, upstream) {
            Ok(proxy) => proxies.push((name, proxy)),
            Err(error) => println!("{name}: left out, it does not start here: {error}"),
        }
    }
    println!("| connections | proxy | CPU us per request | against ours | requests/s | p50 us | wrong |\n|---|---|---|---|---|---|---|");
    let mut wrong = 0;
    for connections in CONNECTIONS {
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); proxies.len()];
        for _ in 0..plan.rounds {
            for (index, (_, proxy)) in proxies.iter().enumerate() {
                rounds[index].push(measure(&rt, proxy, connections, &plan)?);
            }
        }
        let medians: Vec<Figures> = rounds.iter().map(|figures| median(figures)).collect();
        let first = medians.first().map_or(1.0, |figures| figures.cpu_us);
        for ((name, _), figures) in proxies.iter().zip(&medians) {
            let Figures { cpu_us, per_second, p50_us, wrong: bad } = figures;
            println!("| {connections} | {name} | {cpu_us:.2} | {:.2} | {per_second:.0} | {p50_us:.0} | {bad} |", cpu_us / first);
            wrong += bad;
        }
    }
    if wrong == 0 { Ok(()) } else { Err(io::Error::other(format!("{wrong} wrong answers or broken connections"))) }
}

fn measure(rt: &headrace::runtime::Rt, proxy: &Proxy, connections: usize, plan: &Plan) -> io::Result<Figures> {
    let marks = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let (own, pid) = (std::rc::Rc::clone(&marks), proxy.child.id());
    let seen = load::round(rt, proxy.address, connections, plan.warm, plan.time, move || own.borrow_mut().push(cpu_ns(pid)))?;
    let marks = marks.borrow();
    let (&[begin, end], answers) = (marks.as_slice(), seen.answers.max(1)) else {
        return Err(io::Error::other("the round did not come to its end"));
    };
    #[expect(clippy::cast_precision_loss, reason = "figures for a person")]
    let (cpu, answers) = (end.saturating_sub(begin) as f64, answers as f64);
    Ok(Figures {
        cpu_us: cpu / 1000.0 / answers,
        per_second: answers / seen.time.as_secs_f64(),
        p50_us: seen.p50.as_secs_f64() * 1e6,
        wrong: seen.wrong,
    })
}

/// Nanoseconds on a processor, of all threads of a process (io_uring's workers are threads of it).
fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of_task = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(of_task).sum()
}

fn median(figures: &[Figures]) -> Figures {
    let middle = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Figures {
        cpu_us: middle(|one| one.cpu_us),
        per_second: middle(|one| one.per_second),
        p50_us: middle(|one| one.p50_us),
        wrong: figures.iter().map(|one| one.wrong).sum(),
    }
}

fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

impl Proxy {
    fn start(name: &str, upstream: SocketAddr) -> io::Result<Proxy> {
        let mut child = Command::new(env::current_exe()?)
            .args(["--serve", name, &upstream.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        match line.trim().parse() {
            Ok(address) => Ok(Proxy { child, address }),
            Err(_) => {
                child.kill()?;
                Err(io::Error::other(format!("it ended before it listened: {}", child.wait()?)))
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
