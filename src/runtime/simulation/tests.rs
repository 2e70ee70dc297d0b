//! The runtime's sockets under thousands of seeds: clients, relays and a server in one virtual world, every byte checked against
//! the connection it belongs to, everything given back at the end. And the drill: planted faults must be caught.

mod drill;
mod world;

use world::{Outcome, World, run};

use crate::runtime::driver::sim::{Fault, Faults};

#[test]
fn in_calm_weather_every_byte_comes_back() {
    for seed in 0..20 {
        let report = run(seed, World::new(Faults::calm()));
        assert_eq!(report.problems, [""; 0], "seed {seed}");
        assert!(report.outcomes.iter().all(|outcome| *outcome == Outcome::Whole), "seed {seed}: {:?}", report.outcomes);
    }
}

#[test]
fn rough_weather_loses_nothing() {
    for seed in 0..SEEDS {
        let report = run(seed, World::new(Faults::drawn(seed, &Faults::rough())));
        assert_eq!(report.problems, [""; 0], "seed {seed}");
        assert!(report.outcomes.iter().all(|outcome| *outcome == Outcome::Whole), "seed {seed}: {:?}", report.outcomes);
    }
}

#[test]
fn in_a_storm_a_cut_answer_looks_cut_and_everything_is_given_back() {
    let mut reached = [0u64; Fault::ALL.len()];
    let mut tally = [0u32; 3];
    for seed in 0..SEEDS {
        let mut world = World::new(Faults::drawn(seed, &Faults::stormy()));
        world.leaving_clients = true;
        let report = run(seed, world);
        assert_eq!(report.problems, [""; 0], "seed {seed}");
        for outcome in report.outcomes {
            tally[outcome as usize] += 1;
        }
        for (sum, count) in reached.iter_mut().zip(report.reached) {
            *sum += count;
        }
    }
    for fault in Fault::ALL {
        assert!(reached[fault.index()] > 0, "{fault:?} was never reached: the weather is too mild");
    }
    assert!(tally.iter().all(|count| *count > 100), "whole, failed and left: {tally:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| run(seed, World::new(Faults::drawn(seed, &Faults::stormy()))).trace;
    for seed in 0..30 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
        assert_ne!(trace(seed), trace(seed + 1), "seed {seed}");
    }
}

/// Each takes some milliseconds in a debug build; `HEADRACE_SIM_SEEDS` is for longer runs.
const SEEDS: u64 = 500;
