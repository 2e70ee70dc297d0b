//! The results as a picture: per scenario a panel, per case a group of bars, each bar the ratio to the reference with a whisker from the
//! lowest to the highest round. Where a metric has no ratio, bars show its value.

use std::fmt::Write;

use super::metric::Metric;
use super::results::{Figures, Results, ScenarioResult};
use super::show;
use super::stats::Summary;

const WIDTH: f64 = 900.0;
const PANEL: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 64.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - 20.0;
const PLOT_HEIGHT: f64 = 170.0;
/// Told apart by people who see few colours, too.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d5d5d", "#b8a800"];

pub(crate) fn picture(results: &Results) -> String {
    let mut out = String::new();
    let height = PANEL * count(results.scenarios.len()) + 30.0;
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">"#
    );
    let _ = writeln!(out, r##"<rect width="100%" height="100%" fill="#ffffff"/>"##);
    // A contender keeps its colour from panel to panel.
    let mut names: Vec<&str> = Vec::new();
    for one in results.scenarios.iter().flat_map(|scenario| &scenario.contenders) {
        if !names.contains(&one.name.as_str()) {
            names.push(&one.name);
        }
    }
    for (at, scenario) in results.scenarios.iter().enumerate() {
        let _ = writeln!(out, r#"<g transform="translate(0 {})">"#, PANEL * count(at));
        panel(scenario, &names, &mut out);
        out.push_str("</g>\n");
    }
    let _ = writeln!(
        out,
        r##"<text x="{LEFT}" y="{}" fill="#555555" font-size="10">{}</text>"##,
        height - 10.0,
        escape(&show::circumstances(results))
    );
    out.push_str("</svg>\n");
    out
}

fn panel(scenario: &ScenarioResult, names: &[&str], out: &mut String) {
    let Some(metric) = scenario.columns.first().copied() else { return };
    let against = if metric.has_ratio() { format!(", ratio to {}", scenario.reference) } else { String::new() };
    let _ = writeln!(out, r#"<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{}</text>"#, escape(&scenario.name));
    let _ = writeln!(out, r##"<text x="{LEFT}" y="36" fill="#555555">{}{}</text>"##, escape(metric.title()), escape(&against));
    let bars = |one: &Figures| bar(one, metric);
    let top = scenario.cases.iter().flat_map(|case| case.contenders.iter().filter_map(bars)).map(|bar| bar.max).fold(1e-9, f64::max);
    let step = grid_step(top);
    let high = (top / step).ceil() * step;
    let y = |value: f64| TOP + PLOT_HEIGHT * (1.0 - value / high);
    let mut line = 0.0;
    while line <= high + step / 2.0 {
        let _ = writeln!(
            out,
            r##"<line x1="{LEFT}" x2="{:.1}" y1="{:.1}" y2="{:.1}" stroke="#dddddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
            LEFT + PLOT_WIDTH,
            y(line),
            y(line),
            LEFT - 6.0,
            y(line) + 4.0,
            show::number(line)
        );
        line += step;
    }
    let group = PLOT_WIDTH / count(scenario.cases.len().max(1));
    for (at, case) in scenario.cases.iter().enumerate() {
        let left = LEFT + group * count(at);
        let _ = writeln!(
            out,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            left + group / 2.0,
            TOP + PLOT_HEIGHT + 16.0,
            escape(&case.name)
        );
        let width = group * 0.8 / count(case.contenders.len().max(1));
        for (number, one) in case.contenders.iter().enumerate() {
            let Some(value) = bars(one) else { continue };
            let x = left + group * 0.1 + width * count(number);
            draw_bar(&Bar { x, width, colour: colour(names, &one.contender), name: &one.contender, value }, y, out);
        }
    }
    legend(scenario, names, out);
}

struct Bar<'a> {
    x: f64,
    width: f64,
    colour: &'static str,
    name: &'a str,
    value: Summary,
}

fn draw_bar(bar: &Bar<'_>, y: impl Fn(f64) -> f64, out: &mut String) {
    let Bar { x, width, colour, name, value } = bar;
    let (top, base, middle) = (y(value.median), y(0.0), x + width / 2.0);
    let said = format!("{name}: {}", show::summary(*value));
    let _ = writeln!(
        out,
        r#"<rect x="{x:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{colour}"><title>{}</title></rect>"#,
        width * 0.9,
        base - top,
        escape(&said)
    );
    let _ =
        writeln!(out, r##"<line x1="{middle:.1}" x2="{middle:.1}" y1="{:.1}" y2="{:.1}" stroke="#222222"/>"##, y(value.min), y(value.max));
    let _ = writeln!(
        out,
        r#"<text x="{middle:.1}" y="{:.1}" text-anchor="middle" font-size="10">{}</text>"#,
        y(value.max) - 3.0,
        show::number(value.median)
    );
}

fn legend(scenario: &ScenarioResult, names: &[&str], out: &mut String) {
    let Some(case) = scenario.cases.first() else { return };
    let mut x = LEFT;
    for one in &case.contenders {
        let y = TOP + PLOT_HEIGHT + 34.0;
        let failed = if bar_anywhere(scenario, &one.contender) { "" } else { " (no figures)" };
        let name = format!("{}{failed}", one.contender);
        let _ = writeln!(
            out,
            r#"<rect x="{x:.1}" y="{:.1}" width="10" height="10" fill="{}"/><text x="{:.1}" y="{y:.1}">{}</text>"#,
            y - 9.0,
            colour(names, &one.contender),
            x + 14.0,
            escape(&name)
        );
        x += 30.0 + 7.0 * count(name.chars().count());
    }
}

fn bar_anywhere(scenario: &ScenarioResult, contender: &str) -> bool {
    let Some(metric) = scenario.columns.first() else { return false };
    scenario.cases.iter().filter_map(|case| case.of(contender)).any(|one| bar(one, *metric).is_some())
}

/// The ratio where the metric has one.
fn bar(one: &Figures, metric: Metric) -> Option<Summary> {
    let figure = one.figure(metric)?;
    if metric.has_ratio() { figure.ratio } else { Some(figure.summary) }
}

/// 1, 2 or 5 times a power of ten, so that there are four to ten lines.
fn grid_step(top: f64) -> f64 {
    let power = 10f64.powf((top / 4.0).log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|factor| factor * power).find(|step| top / step >= 4.0).unwrap_or(power)
}

fn colour(names: &[&str], name: &str) -> &'static str {
    let at = names.iter().position(|one| *one == name).unwrap_or(0);
    COLOURS.get(at % COLOURS.len()).copied().unwrap_or("#000000")
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
