//! The runtime's sockets under thousands of seeds: clients, relays and a server in one virtual world, every byte checked against
//! the connection it belongs to, everything given back at the end. And the drill: planted faults must be caught.

mod drill;
mod sockets;
mod world;

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use world::{Outcome, World, run};

use super::{Bounds, Simulation, Stuck};
use crate::runtime::Alone;
use crate::runtime::driver::sim::{Fault, Faults, SimKernel};
use crate::sys::{BufferPool, Instant};

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
    for seed in seeds() {
        let report = run(seed, World::new(Faults::drawn(seed, &Faults::rough())));
        assert_eq!(report.problems, [""; 0], "seed {seed}");
        assert!(report.outcomes.iter().all(|outcome| *outcome == Outcome::Whole), "seed {seed}: {:?}", report.outcomes);
    }
}

#[test]
fn in_a_storm_a_cut_answer_looks_cut_and_everything_is_given_back() {
    let mut reached = [0u64; Fault::ALL.len()];
    let mut tally = [0u32; 3];
    for seed in seeds() {
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
    if seeds().count() < 500 {
        return;
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

#[test]
fn a_world_in_which_nothing_can_happen_is_a_deadlock() {
    let mut simulation = Simulation::new(SimKernel::new(1, Faults::calm()));
    let (_, rt, _) = simulation.add("waits", BufferPool::new(2, 64).unwrap());
    rt.spawn(std::future::pending());
    let stuck = simulation.run(|| false);
    assert!(matches!(stuck, Err(Stuck::Deadlock(_))), "{stuck:?}");
    assert_eq!(simulation.finish(), [""; 0]);
}

#[test]
fn a_member_that_runs_while_time_stands_still_is_a_livelock() {
    let mut simulation = Simulation::new(SimKernel::new(1, Faults::calm()));
    simulation.set_bounds(Bounds { steps_per_moment_max: 50, ..Bounds::default() });
    let (_, rt, _) = simulation.add("spins", BufferPool::new(2, 64).unwrap());
    let own = rt.clone();
    rt.spawn(async move {
        loop {
            own.yield_now().await;
        }
    });
    let stuck = simulation.run(|| false);
    assert!(matches!(stuck, Err(Stuck::Livelock(_))), "{stuck:?}");
}

#[test]
fn time_passes_only_when_nobody_can_run_and_a_timer_is_never_early() {
    let kernel = SimKernel::new(1, Faults::calm());
    let mut simulation = Simulation::new(kernel.clone());
    let woken = Rc::new(Cell::new(0));
    for name in ["one", "two"] {
        let (_, rt, _) = simulation.add(name, BufferPool::new(2, 64).unwrap());
        let (own, woken) = (rt.clone(), Rc::clone(&woken));
        rt.spawn(async move {
            own.sleep_until(Instant::ZERO + Duration::from_hours(3)).await;
            assert!(own.now().since(Instant::ZERO) >= Duration::from_hours(3));
            woken.set(woken.get() + 1);
        });
    }
    simulation.run(|| woken.get() == 2).unwrap();
    assert!(kernel.now().since(Instant::ZERO) < Duration::from_secs(3 * 3600 + 1));
    assert_eq!(simulation.finish(), [""; 0]);
}

#[test]
fn a_bell_lets_a_sleeping_member_step_and_a_stall_keeps_it_from_it() {
    let kernel = SimKernel::new(1, Faults::calm());
    let mut simulation = Simulation::new(kernel.clone());
    let (member, rt, bell) = simulation.add("sleeps", BufferPool::new(2, 64).unwrap());
    let steps = Rc::new(Cell::new(0));
    let count = Rc::clone(&steps);
    simulation.set_step(member, move || {
        count.set(count.get() + 1);
        rt.run_tasks();
        rt.wait(None, &Alone)
    });
    simulation.run_for(Duration::from_secs(1)).unwrap();
    let asleep = steps.get();
    simulation.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(steps.get(), asleep, "nobody rang");
    bell.ring();
    simulation.run_for(Duration::from_secs(1)).unwrap();
    assert!(steps.get() > asleep, "the ring is remembered and ends the sleep");
    let awake = steps.get();
    simulation.stall(member, Duration::from_secs(5));
    bell.ring();
    simulation.run_for(Duration::from_secs(4)).unwrap();
    assert_eq!(steps.get(), awake, "stalled");
    simulation.run_for(Duration::from_secs(2)).unwrap();
    assert!(steps.get() > awake, "and going again");
    assert_eq!(simulation.finish(), [""; 0]);
}

/// Each seed takes some milliseconds in a debug build. `HEADRACE_SIM_SEEDS=5000` runs more, `HEADRACE_SIM_SEED=23` one.
fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("HEADRACE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HEADRACE_SIM_SEEDS").unwrap_or(500),
    }
}
