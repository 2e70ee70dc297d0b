//! What a run found, as it is stored and read back: every round's figure beside its median, so that a table can be made again and doubted.
//! Measuring is `rounds`' business, showing is that of `table`, `markdown` and `svg`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::host::Machine;
use super::metric::Metric;
use super::scenario::{Bound, Scenario, Target};
use super::stats::{Summary, ratios};

/// The file's shape; a reader refuses another number.
pub(crate) const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) format: u32,
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) scenarios: Vec<ScenarioResult>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ScenarioResult {
    pub(crate) name: String,
    pub(crate) shows: String,
    /// How it was measured, in words.
    pub(crate) setting: String,
    pub(crate) columns: Vec<Metric>,
    /// What the ratios are taken to.
    pub(crate) reference: String,
    pub(crate) contenders: Vec<Listed>,
    pub(crate) cases: Vec<CaseResult>,
    pub(crate) verdicts: Vec<Verdict>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Why it took no part, or no part to the end.
    pub(crate) fault: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct CaseResult {
    pub(crate) name: String,
    /// In the scenario's order.
    pub(crate) contenders: Vec<Figures>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) contender: String,
    pub(crate) figures: BTreeMap<Metric, Figure>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) rounds: Vec<Option<f64>>,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// To the reference, taken round by round.
    pub(crate) ratio: Option<Summary>,
}

/// A promise and what came of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) contender: String,
    pub(crate) metric: Metric,
    pub(crate) case: String,
    /// The value is the ratio to this contender.
    pub(crate) against: Option<String>,
    pub(crate) at_most: Option<f64>,
    pub(crate) at_least: Option<f64>,
    pub(crate) value: Option<Summary>,
    /// Without a value nothing is met.
    pub(crate) met: bool,
}

/// One contender's figures of one round; `None` where it failed.
pub(crate) type RoundFigures = Option<BTreeMap<Metric, f64>>;

impl CaseResult {
    /// `rounds[contender][round]`, in the order of `names`.
    pub(crate) fn new(case: &str, names: &[String], rounds: &[Vec<RoundFigures>], reference: &str) -> CaseResult {
        let column = |at: usize, metric: Metric| -> Vec<Option<f64>> {
            let of_one = rounds.get(at).map_or(&[][..], Vec::as_slice);
            of_one.iter().map(|round| round.as_ref().and_then(|round| round.get(&metric).copied())).collect()
        };
        let reference = names.iter().position(|name| name == reference);
        let mut contenders = Vec::new();
        for (at, (name, of_one)) in names.iter().zip(rounds).enumerate() {
            let mut metrics: Vec<Metric> = of_one.iter().flatten().flat_map(|round| round.keys().copied()).collect();
            metrics.sort_unstable();
            metrics.dedup();
            let mut figures = BTreeMap::new();
            for metric in metrics {
                let values = column(at, metric);
                let Some(summary) = Summary::of(values.iter().flatten().copied()) else { continue };
                let base = reference.filter(|_| metric.has_ratio()).map(|at| column(at, metric)).unwrap_or_default();
                let ratio = Summary::of(ratios(&values, &base));
                figures.insert(metric, Figure { rounds: values, summary, ratio });
            }
            contenders.push(Figures { contender: name.clone(), figures });
        }
        CaseResult { name: case.to_owned(), contenders }
    }

    fn has(&self, metric: Metric) -> bool {
        self.contenders.iter().any(|one| one.figure(metric).is_some())
    }

    pub(crate) fn of(&self, contender: &str) -> Option<&Figures> {
        self.contenders.iter().find(|one| one.contender == contender)
    }
}

impl Figures {
    pub(crate) fn figure(&self, metric: Metric) -> Option<&Figure> {
        self.figures.get(&metric)
    }

    /// All rounds together: for faults, where one bad round must show.
    pub(crate) fn sum(&self, metric: Metric) -> Option<f64> {
        self.figure(metric).map(|figure| figure.rounds.iter().flatten().sum())
    }
}

impl Verdict {
    pub(crate) fn new(target: &Target, cases: &[CaseResult]) -> Verdict {
        let value = cases.iter().find(|case| case.name == target.case).and_then(|case| value(target, case));
        let (at_most, at_least) = match target.bound {
            Bound::AtMost(most) => (Some(most), None),
            Bound::AtLeast(least) => (None, Some(least)),
        };
        let holds = |value: Summary| match target.bound {
            Bound::AtMost(most) => value.median <= most,
            Bound::AtLeast(least) => value.median >= least,
        };
        Verdict {
            contender: target.contender.clone(),
            metric: target.metric,
            case: target.case.clone(),
            against: target.against.clone(),
            at_most,
            at_least,
            value,
            met: value.is_some_and(holds),
        }
    }
}

/// The median over the rounds; of faults the sum.
fn value(target: &Target, case: &CaseResult) -> Option<Summary> {
    let own = case.of(&target.contender)?;
    if target.metric.is_fault() {
        let sum = own.sum(target.metric)?;
        return Some(Summary { median: sum, min: sum, max: sum });
    }
    let own = own.figure(target.metric)?;
    let Some(against) = &target.against else { return Some(own.summary) };
    Summary::of(ratios(&own.rounds, &case.of(against)?.figure(target.metric)?.rounds))
}

impl ScenarioResult {
    pub(crate) fn new(scenario: &Scenario, contenders: Vec<Listed>, cases: Vec<CaseResult>) -> ScenarioResult {
        let verdicts = scenario.targets.iter().map(|target| Verdict::new(target, &cases)).collect();
        ScenarioResult {
            name: scenario.name.clone(),
            shows: scenario.shows.clone(),
            setting: setting(scenario),
            // A column in which nobody has a figure says nothing.
            columns: scenario.columns.iter().copied().filter(|metric| cases.iter().any(|case| case.has(*metric))).collect(),
            reference: scenario.reference().unwrap_or_default().to_owned(),
            contenders,
            cases,
            verdicts,
        }
    }

    /// Anything that should not be: a contender that failed, an error, a wrong answer.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            self.contenders.iter().filter_map(|one| Some(format!("{}: {}", one.name, one.fault.as_ref()?))).collect();
        for case in &self.cases {
            for one in &case.contenders {
                for metric in [Metric::Errors, Metric::Wrong, Metric::EventsLost, Metric::ClosedByPeer] {
                    if let Some(sum) = one.sum(metric).filter(|sum| *sum > 0.0) {
                        faults.push(format!("{} at {}: {} {sum}", one.contender, case.name, metric.title()));
                    }
                }
            }
        }
        faults
    }
}

fn setting(scenario: &Scenario) -> String {
    let cores = |cores: &[usize]| {
        let list: Vec<String> = cores.iter().map(ToString::to_string).collect();
        format!("core{} {}", if list.len() == 1 { "" } else { "s" }, list.join(", "))
    };
    format!(
        "{} rounds of {:?}, interleaved; contenders on {}, generator and upstream on {}",
        scenario.rounds,
        scenario.round,
        cores(&scenario.cores.shard),
        cores(&scenario.cores.load)
    )
}
