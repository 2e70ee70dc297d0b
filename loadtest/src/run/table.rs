//! The results for a person at a terminal.

use std::fmt::Write;

use super::results::{Results, ScenarioResult};
use super::show;

pub(crate) fn text(results: &Results) -> String {
    let mut out = String::new();
    for scenario in &results.scenarios {
        of_scenario(scenario, &mut out);
    }
    let verdicts: Vec<_> =
        results.scenarios.iter().flat_map(|one| one.verdicts.iter().map(move |verdict| (one.name.as_str(), verdict))).collect();
    if !verdicts.is_empty() {
        let _ = writeln!(out, "targets");
        let mut rows = vec![["scenario", "promise", "measured", "outcome"].map(str::to_owned).to_vec()];
        for (name, verdict) in &verdicts {
            let value = show::measured(verdict);
            rows.push(vec![(*name).to_owned(), show::promise(verdict), value, show::outcome(verdict).to_owned()]);
        }
        align(&rows, 4, &mut out);
        let met = verdicts.iter().filter(|(_, verdict)| verdict.met).count();
        let _ = writeln!(out, "  {met} of {} targets met\n", verdicts.len());
    }
    let _ = writeln!(out, "{}\n{}", show::circumstances(results), results.command);
    out
}

fn of_scenario(scenario: &ScenarioResult, out: &mut String) {
    let _ = writeln!(out, "{}: {}", scenario.name, scenario.shows);
    let _ = writeln!(out, "  {}", scenario.setting);
    for case in &scenario.cases {
        let mut headings = show::headings(scenario);
        if let Some(first) = headings.first_mut() {
            first.clone_from(&case.name);
        }
        let mut rows = vec![headings];
        rows.extend(show::case_rows(scenario, case));
        align(&rows, 1, out);
    }
    for (name, why) in show::absent(scenario) {
        let _ = writeln!(out, "  {name}: {why}");
    }
    out.push('\n');
}

/// Columns as wide as their widest cell; the first `left` ones begin at the left, the others end at the right.
fn align(rows: &[Vec<String>], left: usize, out: &mut String) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: String =
            cells.map(|(at, (cell, width))| if at < left { format!("  {cell:<width$}") } else { format!("  {cell:>width$}") }).collect();
        let _ = writeln!(out, "  {}", line.trim_end());
    }
    out.push('\n');
}
