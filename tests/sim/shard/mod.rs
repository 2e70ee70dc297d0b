//! The whole shard under the pretend kernel: two gateway shards with a real mesh between them, clients before and upstreams behind
//! them, all faults of kernel and peers drawn from one seed, virtual time. `world` puts it together and moves it, `audit` keeps the
//! books and says what must hold. The lanes alone, with harder weather for them, are the business of the modules beside this one.
//!
//! `HEADRACE_SEEDS=n` runs n seeds, `HEADRACE_SEED=n` replays one and prints its weather. A failure names its seed and its step.

mod audit;
mod clients;
mod drill;
mod requests;
mod samples;
mod upstream;
mod weather;
mod wire;
mod world;

use crate::number;
use audit::{Book, Seen};
use drill::Bug;
use headrace::runtime::driver::sim::{Fault, Faults, SimKernel};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use weather::{Habits, UpstreamWeather, Weather};
use world::World;

/// What every actor of a run knows.
#[derive(Clone)]
pub(crate) struct Ctx {
    pub(crate) kernel: SimKernel,
    pub(crate) book: Rc<RefCell<Book>>,
    pub(crate) weather: Rc<Weather>,
    pub(crate) planted: Option<Bug>,
}

/// One run, told.
struct Report {
    problems: Vec<String>,
    seen: Seen,
    steps: u64,
    trace: u64,
}

fn run(seed: u64, planted: Option<Bug>) -> Report {
    run_in(seed, Weather::new(seed), planted)
}

fn run_in(seed: u64, weather: Weather, planted: Option<Bug>) -> Report {
    let mut world = World::new(seed, weather, planted);
    let ctx = world.ctx().clone();
    if let Err(stuck) = world.run() {
        ctx.book.borrow_mut().problem(stuck);
    }
    let steps = world.steps();
    let left = world.finish();
    let mut book = ctx.book.borrow_mut();
    left.into_iter().for_each(|left| book.problem(left));
    Report { problems: std::mem::take(&mut book.problems), seen: book.seen.clone(), steps, trace: ctx.kernel.trace() }
}

fn check(seed: u64, seen: &mut Seen) {
    let report = catch_unwind(AssertUnwindSafe(|| run(seed, None))).unwrap_or_else(|panic| {
        println!("seed {seed} panics; replay with HEADRACE_SEED={seed} cargo test --test sim shard");
        resume_unwind(panic)
    });
    seen.add(&report.seen);
    if !report.problems.is_empty() {
        let weather = Weather::new(seed);
        let faults = weather::told(&weather.faults);
        let weather = weather.told();
        panic!(
            "seed {seed}, {} steps:\n  {}\n{weather}\nfaults: {faults}\nreplay with HEADRACE_SEED={seed} cargo test --test sim shard",
            report.steps,
            report.problems.join("\n  ")
        );
    }
}

#[test]
fn promises_hold_for_whole_shards() {
    let mut seen = Seen::default();
    if let Some(seed) = number("HEADRACE_SEED") {
        println!("{}", Weather::new(seed).told());
        check(seed, &mut seen);
        println!("{seen:?}");
        return;
    }
    let seeds = number("HEADRACE_SEEDS").unwrap_or(SEEDS);
    (0..seeds).for_each(|seed| check(seed, &mut seen));
    println!("{seen:?}");
    if seeds >= SEEDS {
        let missing: Vec<_> = SOMETIMES.iter().filter(|what| seen.times(what) == 0).collect();
        assert!(missing.is_empty(), "never in {seeds} seeds: {missing:?}");
        for fault in Fault::ALL {
            assert!(seen.times(world::fault_name(fault)) > 0, "{fault:?} never struck in {seeds} seeds");
        }
    }
}

#[test]
fn one_seed_of_whole_shards_is_one_story() {
    for seed in 0..12 {
        let (one, other) = (run(seed, None), run(seed, None));
        assert_eq!((one.trace, one.steps), (other.trace, other.steps), "seed {seed}");
        assert_ne!(one.trace, run(seed + 1, None).trace, "seeds {seed} and the next");
    }
}

/// Weather in which nothing goes wrong but what a test wants.
fn fair(habits: Habits) -> Weather {
    let weather = Weather::new(0);
    assert!(weather.gentle && weather.drain.is_none());
    Weather { faults: Faults::calm(), upstream: UpstreamWeather::default(), habits, ..weather }
}

/// A shard panicked: the head of an interim answer that came while the body was streamed up was taken for the answer's.
#[test]
fn an_interim_answer_to_half_a_body_is_not_the_answer() {
    for seed in 0..20 {
        let mut weather = fair(Habits {
            kinds: [0, 0, 1, 0, 0],
            bursts_max: 2,
            pipelined_max: 2,
            items_max: 1,
            lanes: 1,
            pieces: 1.0,
            ..Habits::default()
        });
        weather.upstream.interim = 1.0;
        let report = run_in(seed, weather, None);
        assert_eq!(report.problems, [""; 0], "seed {seed}");
    }
}

/// Found with seed 621: when the completion of a request's last send came after its answer, the answer was taken for one that came
/// before its time; the client's connection was closed and what it had sent ahead was lost.
#[test]
fn a_late_send_completion_is_no_early_answer() {
    for seed in 0..20 {
        let mut weather =
            fair(Habits { kinds: [0, 0, 1, 0, 0], bursts_max: 2, pipelined_max: 4, items_max: 1, lanes: 1, ..Habits::default() });
        weather.faults = Faults::calm().with(Fault::LateCompletion, 6000);
        let report = run_in(seed, weather, None);
        assert_eq!(report.problems, [""; 0], "seed {seed}");
    }
}

/// Seeds of a plain run.
const SEEDS: u64 = 1000;

/// What a run must reach, or it shows nothing.
const SOMETIMES: &[&str] = &[
    "one item served",
    "several items served",
    "never coalesced and served",
    "post served",
    "get served",
    "models listed",
    "HTTP/1.0 served",
    "answer until close",
    "pipelined",
    "connection used again",
    "merged call",
    "poison told",
    "poison forwarded",
    "isolation",
    "lane went solo",
    "coalesced again",
    "answered early",
    "100 Continue",
    "429",
    "500",
    "502",
    "503",
    "504",
    "408",
    "refused head",
    "upstream_unreachable",
    "upstream_broken",
    "upstream_timeout",
    "deadline_exceeded",
    "queue_full",
    "inbox_full",
    "cut",
    "left",
    "nonsense cut",
    "nonsense left",
    "no connection",
    "job crossed",
    "doorbell rung",
    "reloaded",
    "drained in the middle",
    "call again",
    "sent again after a stale connection",
    "upstream_overloaded",
];
