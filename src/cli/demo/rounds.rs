//! The demo's measuring: short rounds, both paths in turn and in changing order, so that what else the machine does falls on both;
//! medians, so that one bad round does not show.

use std::time::Duration;

use crate::mock::client::{LoadConfig, LoadReport, run};
use crate::mock::{MockHandle, MockStats};
use crate::sys::net::Address;

/// How much to measure.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub(super) clients: Vec<u32>,
    pub(super) rounds: u32,
    /// Of one path in one round; clients that wait for an answer then still get it.
    pub(super) round: Duration,
}

impl Default for Plan {
    /// About ten seconds in all.
    fn default() -> Plan {
        Plan { clients: vec![1, 32, 128], rounds: 3, round: Duration::from_millis(400) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Direct,
    Headrace,
}

/// One line of the table.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Cell {
    pub(super) clients: u32,
    pub(super) way: Way,
    /// Medians over the rounds.
    pub(super) requests_per_second: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    /// Items per call that the mock saw.
    pub(super) mean_batch: f64,
    /// Sums over the rounds.
    pub(super) checked: u64,
    pub(super) wrong: u64,
    pub(super) errors: u64,
}

/// One path in one round.
struct Sample {
    report: LoadReport,
    seen: MockStats,
}

/// Measures everything; `tell` is given a word on where it stands.
pub(super) fn measure(plan: &Plan, mock: &MockHandle, gateway: &Address, tell: impl Fn(&str)) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    for clients in &plan.clients {
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for round in 0..plan.rounds {
            tell(&format!("{clients} clients, round {} of {}", round + 1, plan.rounds));
            let mut ways = [Way::Direct, Way::Headrace];
            if round % 2 == 1 {
                ways.reverse();
            }
            for way in ways {
                match way {
                    Way::Direct => direct.push(sample(plan, *clients, mock, mock.address())?),
                    Way::Headrace => through.push(sample(plan, *clients, mock, gateway)?),
                }
            }
        }
        cells.push(cell(*clients, Way::Direct, &direct));
        cells.push(cell(*clients, Way::Headrace, &through));
    }
    Ok(cells)
}

fn sample(plan: &Plan, clients: u32, mock: &MockHandle, address: &Address) -> Result<Sample, String> {
    let before = mock.stats().map_err(|error| error.to_string())?;
    let report = run(&LoadConfig::embeddings(address.clone(), "mock", clients, plan.round)).map_err(|error| error.to_string())?;
    let after = mock.stats().map_err(|error| error.to_string())?;
    Ok(Sample { report, seen: after.since(&before) })
}

fn cell(clients: u32, way: Way, samples: &[Sample]) -> Cell {
    let reports = || samples.iter().map(|sample| &sample.report);
    let time_at = |quantile: f64| Duration::from_secs_f64(median(reports().map(|report| report.latency_at(quantile).as_secs_f64())));
    Cell {
        clients,
        way,
        requests_per_second: median(reports().map(LoadReport::requests_per_second)),
        p50: time_at(0.5),
        p99: time_at(0.99),
        mean_batch: median(samples.iter().map(|sample| sample.seen.mean_batch())),
        checked: reports().map(|report| report.checked).sum(),
        wrong: reports().map(|report| report.wrong).sum(),
        errors: reports().map(LoadReport::errors).sum(),
    }
}

/// The middle one; of an even count the upper of the two. 0 of nothing.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
