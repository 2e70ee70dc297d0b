//! The results for documents: one block per scenario, one for all targets, one for the circumstances. Putting them into files is `docs`'
//! business.

use std::fmt::Write;

use super::results::{Results, ScenarioResult};
use super::show;

/// The blocks that are no scenario's.
pub(crate) const TARGETS: &str = "targets";
pub(crate) const CIRCUMSTANCES: &str = "circumstances";

/// Every block, under its name.
pub(crate) fn blocks(results: &Results) -> Vec<(String, String)> {
    let mut blocks = vec![(CIRCUMSTANCES.to_owned(), circumstances(results)), (TARGETS.to_owned(), targets(results))];
    blocks.extend(results.scenarios.iter().map(|scenario| (scenario.name.clone(), of_scenario(scenario, results))));
    blocks
}

/// All blocks in one text.
pub(crate) fn text(results: &Results) -> String {
    let blocks = blocks(results).into_iter().map(|(name, text)| format!("## {name}\n\n{text}"));
    blocks.collect::<Vec<_>>().join("\n")
}

fn circumstances(results: &Results) -> String {
    format!("{}. Command: `{}`.\n", show::circumstances(results), results.command)
}

fn of_scenario(scenario: &ScenarioResult, results: &Results) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}. {}; medians, in brackets the lowest and the highest round.\n", scenario.shows, scenario.setting);
    let mut headings = show::headings(scenario);
    if let Some(first) = headings.first_mut() {
        "contender".clone_into(first);
    }
    headings.insert(0, "case".to_owned());
    row(&headings, &mut out);
    row(&headings.iter().enumerate().map(|(at, _)| if at < 2 { "---" } else { "---:" }.to_owned()).collect::<Vec<_>>(), &mut out);
    for case in &scenario.cases {
        for cells in show::case_rows(scenario, case) {
            row(&std::iter::once(case.name.clone()).chain(cells).collect::<Vec<_>>(), &mut out);
        }
    }
    let versions: Vec<String> =
        scenario.contenders.iter().filter(|one| !one.version.is_empty()).map(|one| format!("{} {}", one.name, one.version)).collect();
    if !versions.is_empty() {
        let _ = writeln!(out, "\nVersions: {}.", versions.join(", "));
    }
    for (name, why) in show::absent(scenario) {
        let _ = writeln!(out, "\n{name} took no part, or not to the end: {}", escape(why));
    }
    let _ = writeln!(out, "\nMeasured {}, with `{}`.", show::circumstances(results), results.command);
    out
}

fn targets(results: &Results) -> String {
    let mut out = String::new();
    row(&["scenario", "promise", "measured", "outcome"].map(str::to_owned), &mut out);
    row(&["---", "---", "---:", "---"].map(str::to_owned), &mut out);
    for scenario in &results.scenarios {
        for verdict in &scenario.verdicts {
            let value = show::measured(verdict);
            row(&[scenario.name.clone(), show::promise(verdict), value, show::outcome(verdict).to_owned()], &mut out);
        }
    }
    out
}

fn row(cells: &[String], out: &mut String) {
    let cells: Vec<String> = cells.iter().map(|cell| escape(cell)).collect();
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

/// A bar would begin another cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
