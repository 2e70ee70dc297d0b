//! The measurement: for each case a warm-up of everybody, then round after round, contender after contender, in an order that turns by one
//! each round so that nobody always follows the same neighbour. All contenders but the one whose round it is are stopped (SIGSTOP), so that
//! their background work burdens nobody.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::child::{Child, Program};
use super::host::{self, Interrupts};
use super::metric::Metric;
use super::progress::Progress;
use super::results::{CaseResult, Listed, RoundFigures, ScenarioResult};
use super::sample::{self, Usage};
use super::scenario::{Case, DIRECT, Scenario};
use super::stage::{Grounds, Stage, Standing};
use super::usage::{self, CpuReading};

/// Runs one scenario on its own stage.
///
/// # Errors
/// When the upstream fails or the person wants an end; a contender's failure is in the result.
pub(crate) fn run(scenario: &Scenario, grounds: &Grounds, signals: &Interrupts, progress: &mut Progress) -> Result<ScenarioResult, String> {
    progress.note(&format!("{}: starting the contenders", scenario.name));
    let mut stage = Stage::set(scenario, grounds, signals)?;
    let names: Vec<String> = stage.standing.iter().map(|one| one.name.clone()).collect();
    let reference = scenario.reference().unwrap_or_default().to_owned();
    let mut cases = Vec::new();
    for case in &scenario.cases {
        let mut run = CaseRun { scenario, case, grounds, signals };
        let rounds = run.all(&mut stage.standing, progress)?;
        cases.push(CaseResult::new(&case.name, &names, &rounds, &reference));
    }
    let listed = stage.standing.iter().map(|one| Listed { name: one.name.clone(), version: one.version.clone(), fault: one.fault.clone() });
    Ok(ScenarioResult::new(scenario, listed.collect(), cases))
}

struct CaseRun<'a> {
    scenario: &'a Scenario,
    case: &'a Case,
    grounds: &'a Grounds,
    signals: &'a Interrupts,
}

/// Beyond its duration: connecting, answers still under way, a busy machine.
const GENERATOR_GRACE: Duration = Duration::from_secs(45);
/// Between two looks at a contender's memory.
const MEMORY_STEP: Duration = Duration::from_millis(200);
/// What a contender may do about the connections of the last round before the next begins.
const SETTLE: Duration = Duration::from_millis(30);

impl CaseRun<'_> {
    /// `[contender][round]`
    fn all(&mut self, standing: &mut [Standing], progress: &mut Progress) -> Result<Vec<Vec<RoundFigures>>, String> {
        let count = standing.len();
        let mut rounds = vec![Vec::new(); count];
        for one in &mut *standing {
            if !self.scenario.warmup.is_zero() {
                progress.step(&self.scenario.name, &self.case.name, "warm-up", &one.name);
                let _ = self.round(one, self.scenario.warmup)?;
            }
        }
        for round in 0..self.scenario.rounds as usize {
            let mut of_round: Vec<RoundFigures> = vec![None; count];
            for turn in 0..count {
                let at = (turn + round) % count;
                let (Some(one), Some(place)) = (standing.get_mut(at), of_round.get_mut(at)) else { continue };
                progress.step(&self.scenario.name, &self.case.name, &format!("round {}", round + 1), &one.name);
                *place = self.round(one, self.case.round.unwrap_or(self.scenario.round))?;
            }
            self.add_differences(&mut of_round);
            for (all, one) in rounds.iter_mut().zip(of_round) {
                all.push(one);
            }
        }
        Ok(rounds)
    }

    fn add_differences(&self, of_round: &mut [RoundFigures]) {
        let direct = self.scenario.contenders.iter().position(|one| one.peer == DIRECT);
        let Some(direct) = direct.and_then(|at| of_round.get(at).cloned().flatten()) else { return };
        for (figures, contender) in of_round.iter_mut().zip(&self.scenario.contenders) {
            if let Some(figures) = figures.as_mut().filter(|_| contender.peer != DIRECT) {
                sample::add_differences(figures, &direct);
            }
        }
    }

    /// One contender's round. Its failure is noted with it; the error is for what ends the whole run.
    fn round(&self, one: &mut Standing, time: Duration) -> Result<RoundFigures, String> {
        if one.fault.is_some() {
            return Ok(None);
        }
        let outcome = self.measure(one, time);
        if let Some(child) = &one.child {
            child.freeze();
        }
        self.signals.pause(Duration::ZERO)?;
        match outcome {
            Ok(figures) => Ok(Some(figures)),
            Err(why) => {
                one.fault = Some(format!("at {}: {why}", self.case.name));
                one.child = None;
                Ok(None)
            }
        }
    }

    fn measure(&self, one: &mut Standing, time: Duration) -> Result<BTreeMap<Metric, f64>, String> {
        let proc = usage::proc();
        if let Some(child) = &one.child {
            child.thaw();
            self.signals.pause(SETTLE)?;
        }
        let pids = one.child.as_ref().map(Child::pids).unwrap_or_default();
        let (before, begun) = (CpuReading::take(&proc, &pids), host::now());
        let mut generator = self.generator(one.port, time)?;
        let mut memory = Memory { next: begun, rss: 0, last: 0, pss: None, half: begun + time / 2 };
        let waited = generator.wait(time + GENERATOR_GRACE, self.signals, || memory.look(&proc, &pids, self.wants(Metric::PssMib)));
        let wall = host::now() - begun;
        // Workers that were made meanwhile count too.
        let pids = one.child.as_ref().map(Child::pids).unwrap_or_default();
        let after = CpuReading::take(&proc, &pids);
        waited?;
        if let Some(child) = &mut one.child {
            child.alive()?;
        }
        let report: Value =
            serde_json::from_str(&generator.printed()).map_err(|_| format!("the generator gave no report{}", generator.tail()))?;
        let usage = one.child.as_ref().map(|_| Usage {
            cpu_ns: after.ns_since(&before),
            wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
            rss_bytes: memory.rss,
            rss_bytes_last: memory.last,
            pss_bytes: memory.pss,
            rss_bytes_start: one.rss_bytes_start,
        });
        sample::figures(&report, usage)
    }

    fn wants(&self, metric: Metric) -> bool {
        self.scenario.columns.contains(&metric)
    }

    fn generator(&self, port: u16, time: Duration) -> Result<Child, String> {
        let mut command = vec![
            self.grounds.bin.join("headrace-loadtest").display().to_string(),
            "--url".to_owned(),
            format!("http://127.0.0.1:{port}{}", self.scenario.load.path),
            "-d".to_owned(),
            format!("{}ms", time.as_millis()),
            "-o".to_owned(),
            "json".to_owned(),
        ];
        command.extend(self.scenario.load.args.iter().chain(&self.case.args).cloned());
        let folder = self.grounds.work.join(&self.scenario.name).join("generator");
        let cores = &self.scenario.cores.load;
        Child::start(&Program { name: "generator", command: &command, env: &BTreeMap::new(), cores, folder: &folder })
    }
}

/// A contender's memory while its load runs.
struct Memory {
    next: std::time::Instant,
    half: std::time::Instant,
    rss: u64,
    last: u64,
    pss: Option<u64>,
}

impl Memory {
    fn look(&mut self, proc: &Path, pids: &[u32], pss: bool) {
        let now = host::now();
        if pids.is_empty() || now < self.next {
            return;
        }
        self.next = now + MEMORY_STEP;
        self.last = usage::rss_bytes(proc, pids);
        self.rss = self.rss.max(self.last);
        if pss && self.pss.is_none() && now > self.half {
            self.pss = Some(usage::pss_bytes(proc, pids));
        }
    }
}
