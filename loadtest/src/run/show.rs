//! Figures as text, the same in tables, Markdown and plots: as many digits as the figure deserves, faults as sums, verdicts in words.

use super::results::{CaseResult, Figures, Results, ScenarioResult, Verdict};
use super::stats::Summary;

/// Three significant digits; thousands in groups.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if size >= 1_000.0 {
        return grouped(&format!("{value:.0}"));
    }
    let decimals = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

/// A count.
pub(crate) fn whole(value: f64) -> String {
    grouped(&format!("{value:.0}"))
}

/// What a verdict measured.
pub(crate) fn measured(verdict: &Verdict) -> String {
    verdict.value.map_or_else(|| "-".to_owned(), |value| if verdict.metric.is_fault() { whole(value.median) } else { summary(value) })
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut out = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `12.8 (12.5-13.1)`
pub(crate) fn summary(summary: Summary) -> String {
    let Summary { median, min, max } = summary;
    let (middle, low, high) = (number(median), number(min), number(max));
    if low == middle && high == middle { middle } else { format!("{middle} ({low}-{high})") }
}

/// A row of a case's table: what each column says of one contender.
pub(crate) fn cells(scenario: &ScenarioResult, one: &Figures) -> Vec<String> {
    let fault = scenario.contenders.iter().find(|listed| listed.name == one.contender).and_then(|listed| listed.fault.as_deref());
    let mut cells = vec![one.contender.clone()];
    for (at, metric) in scenario.columns.iter().enumerate() {
        cells.push(match one.figure(*metric) {
            _ if metric.is_fault() => one.sum(*metric).map_or_else(|| "-".to_owned(), whole),
            Some(figure) => summary(figure.summary),
            None if fault.is_some() && one.figures.is_empty() => "failed".to_owned(),
            None => "-".to_owned(),
        });
        if at == 0 {
            cells.push(
                one.figure(*metric).and_then(|figure| figure.ratio).map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median)),
            );
        }
    }
    cells
}

pub(crate) fn headings(scenario: &ScenarioResult) -> Vec<String> {
    let mut headings = vec![String::new()];
    for (at, metric) in scenario.columns.iter().enumerate() {
        headings.push(metric.title().to_owned());
        if at == 0 {
            headings.push(format!("to {}", scenario.reference));
        }
    }
    headings
}

/// `headrace: CPU us/request at 64 against nginx <= 0.74`
pub(crate) fn promise(verdict: &Verdict) -> String {
    let against = verdict.against.as_ref().map(|name| format!(" against {name}")).unwrap_or_default();
    let bound = match (verdict.at_most, verdict.at_least) {
        (Some(most), _) => format!("<= {}", number(most)),
        (_, Some(least)) => format!(">= {}", number(least)),
        (None, None) => String::new(),
    };
    format!("{}: {} at {}{against} {bound}", verdict.contender, verdict.metric.title(), verdict.case)
}

pub(crate) fn outcome(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict { value: None, .. } => "NOT MEASURED",
        Verdict { met: true, .. } => "met",
        _ => "MISSED",
    }
}

/// What a scenario's table shows: the name, then the rows.
pub(crate) fn case_rows(scenario: &ScenarioResult, case: &CaseResult) -> Vec<Vec<String>> {
    case.contenders.iter().map(|one| cells(scenario, one)).collect()
}

/// Where and when, in one line.
pub(crate) fn circumstances(results: &Results) -> String {
    let machine = &results.machine;
    format!("{}, commit {}, {} cores of {}, Linux {}", results.date, results.commit, machine.cores, machine.processor, machine.kernel)
}

/// Contenders that took no part, or not to the end.
pub(crate) fn absent(scenario: &ScenarioResult) -> impl Iterator<Item = (&str, &str)> {
    scenario.contenders.iter().filter_map(|one| Some((one.name.as_str(), one.fault.as_deref()?)))
}
