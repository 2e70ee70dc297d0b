//! What a seed makes of the world: sizes, speeds and how much goes wrong.

use crate::rng::Rng;
use headrace::batch::{HomeLimits, LaneRules, PlantedBug};
use headrace::config::BatchingMode;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) shards: usize,
    pub(crate) exchanges: u32,
    /// Mean time between arrivals.
    pub(crate) gap: Duration,
    /// Chance that the next client comes at the same moment.
    pub(crate) burst: f64,
    pub(crate) variants: u64,
    pub(crate) items_max: u64,
    pub(crate) multi: f64,
    pub(crate) rules: LaneRules,
    pub(crate) limits: HomeLimits,
    pub(crate) timeout: (Duration, Duration),
    pub(crate) cancel: f64,
    pub(crate) upstream: UpstreamWeather,
}

#[derive(Clone, Debug)]
pub(crate) struct UpstreamWeather {
    pub(crate) call_cost: Duration,
    pub(crate) item_cost: Duration,
    pub(crate) noise: f64,
    /// Calls computed at once.
    pub(crate) at_once: usize,
    /// Takes at most this many items a call, and says so in this way.
    pub(crate) item_limit: Option<(u64, Told)>,
    pub(crate) poison: f64,
    pub(crate) crash: f64,
    pub(crate) refuse: f64,
    pub(crate) error: f64,
    pub(crate) unsent: f64,
    pub(crate) broken: f64,
    pub(crate) silent: f64,
    pub(crate) too_large: f64,
    pub(crate) wrong: f64,
    /// Every call is refused with 404.
    pub(crate) unknown_model: bool,
    /// An outcome comes although the call was aborted.
    pub(crate) late: f64,
    pub(crate) shuffles: bool,
    pub(crate) hints: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Tei,
    Status413,
    Triton,
}

impl Weather {
    pub(crate) fn new(seed: u64) -> Weather {
        let mut rng = Rng::new(seed ^ 0xfeed);
        let calm = rng.chance(0.25);
        let call_us = rng.between(500, 10_000);
        let max_items = rng.pick(&[1u32, 2, 4, 8, 32, 32]);
        let mode = rng.pick(&[BatchingMode::Exclusive, BatchingMode::Exclusive, BatchingMode::Batching]);
        let small = !calm && rng.chance(0.2);
        let timeout = if !calm && rng.chance(0.3) { (2, 60) } else { (200_000, 300_000) };
        Weather {
            shards: rng.between(1, 4) as usize,
            exchanges: rng.between(40, 200) as u32,
            gap: Duration::from_micros(rng.pick(&[call_us / 16, call_us / 8, call_us, call_us * 3]) + 1),
            burst: rng.pick(&[0.0, 0.3, 0.9]),
            variants: rng.pick(&[1, 1, 2, 6]),
            items_max: rng.pick(&[3, 12, 80]),
            multi: rng.pick(&[0.0, 0.2, 0.6]),
            rules: LaneRules {
                mode: if rng.chance(0.03) { BatchingMode::Off } else { mode },
                max_items,
                max_bytes: rng.pick(&[1500, 1 << 20, 1 << 20]),
                max_delay: Duration::from_millis(rng.pick(&[0, 0, 0, 2])),
                in_flight: rng.pick(&[1, 1, 2, 3]),
                max_queue_items: if small { 12 } else { 100_000 },
                endpoints: rng.pick(&[1, 1, 2, 3]),
                fair: rng.chance(0.5),
            },
            limits: HomeLimits {
                seed,
                max_lanes: if !calm && rng.chance(0.3) { 1 } else { 64 },
                max_jobs: if small { 40 } else { 65_536 },
                max_bytes: if !calm && rng.chance(0.1) { 12_000 } else { 64 << 20 },
                max_key_bytes: 64 << 10,
                planted_bug: None,
            },
            timeout: (Duration::from_millis(timeout.0), Duration::from_millis(timeout.1)),
            cancel: if calm { 0.0 } else { rng.pick(&[0.0, 0.1, 0.6]) },
            upstream: UpstreamWeather::new(&mut rng, calm, call_us, mode),
        }
    }

    pub(crate) fn with_bug(mut self, bug: Option<PlantedBug>) -> Weather {
        self.limits.planted_bug = bug;
        self
    }

    /// Nothing fails and nobody leaves: everyone must be served, and the bills must add up.
    pub(crate) fn is_calm(&self) -> bool {
        let up = &self.upstream;
        let failures = [up.poison, up.crash, up.refuse, up.error, up.unsent, up.broken, up.silent, up.too_large, up.wrong, self.cancel];
        failures.iter().all(|chance| *chance == 0.0)
            && !up.unknown_model
            && self.timeout.0 > Duration::from_secs(1)
            && self.limits.max_jobs > 1000
            && self.limits.max_bytes > 1 << 20
    }
}

impl UpstreamWeather {
    fn new(rng: &mut Rng, calm: bool, call_us: u64, mode: BatchingMode) -> UpstreamWeather {
        let mut sometimes = |share: f64, chances: &[f64]| if !calm && rng.chance(share) { rng.pick(chances) } else { 0.0 };
        let poison = sometimes(0.4, &[0.01, 0.1]);
        let crash = sometimes(0.15, &[0.01, 0.05]);
        let refuse = sometimes(0.3, &[0.05, 0.3]);
        let error = sometimes(0.2, &[0.02, 0.1]);
        let unsent = sometimes(0.25, &[0.05, 0.3, 1.0]);
        let broken = sometimes(0.2, &[0.03, 0.2]);
        let silent = sometimes(0.15, &[0.02, 0.1]);
        let too_large = sometimes(0.1, &[0.05]);
        let wrong = sometimes(0.15, &[0.02, 0.2]);
        UpstreamWeather {
            call_cost: Duration::from_micros(call_us),
            item_cost: Duration::from_micros(rng.between(10, 300)),
            noise: rng.pick(&[0.0, 0.05, 0.2]),
            at_once: if mode == BatchingMode::Batching { 4 } else { 1 },
            item_limit: if rng.chance(0.2) {
                Some((rng.between(1, 20), rng.pick(&[Told::Tei, Told::Status413, Told::Triton])))
            } else {
                None
            },
            poison,
            crash,
            refuse,
            error,
            unsent,
            broken,
            silent,
            too_large,
            wrong,
            unknown_model: !calm && rng.chance(0.03),
            late: if calm { 0.0 } else { 0.3 },
            shuffles: rng.chance(0.5),
            hints: rng.chance(0.3),
        }
    }
}
