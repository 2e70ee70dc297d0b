//! The same fixed results as table, Markdown, SVG and refreshed document; the texts are beside this file. After a wanted change,
//! `HEADRACE_GOLDEN=write cargo test -p headrace-loadtest shown` writes them anew.

use std::path::Path;

use crate::run::docs::refresh;
use crate::run::host::Machine;
use crate::run::metric::Metric;
use crate::run::results::{CaseResult, FORMAT, Listed, Results, RoundFigures, ScenarioResult, Verdict};
use crate::run::scenario::{Bound, Target};
use crate::run::{markdown, progress, show, svg, table};

fn results() -> Results {
    let names = ["nginx", "ours", "gone"].map(str::to_owned);
    let round = |cpu: f64, rate: f64, errors: f64| -> RoundFigures {
        Some([(Metric::CpuUs, cpu), (Metric::RequestsPerSecond, rate), (Metric::Errors, errors)].into())
    };
    let case = |name: &str, factor: f64| {
        let all = [
            vec![round(20.0, 50_000.0, 0.0), round(22.0, 48_000.0, 0.0), round(21.0, 49_500.0, 0.0)],
            vec![round(14.0 * factor, 70_000.0, 0.0), round(15.0 * factor, 69_000.0, 3.0), round(13.0 * factor, 71_234.0, 0.0)],
            vec![None, None, None],
        ];
        CaseResult::new(name, &names, &all, "nginx")
    };
    let cases = vec![case("8", 1.0), case("64", 0.75)];
    let target = |case: &str, bound| Target {
        contender: "ours".to_owned(),
        metric: Metric::CpuUs,
        against: Some("nginx".to_owned()),
        case: case.to_owned(),
        bound,
    };
    let lost = Target { contender: "gone".to_owned(), metric: Metric::P99Us, against: None, ..target("8", Bound::AtLeast(1500.0)) };
    let targets = [target("8", Bound::AtMost(0.7)), target("64", Bound::AtMost(0.5)), lost];
    let listed = |name: &str, version: &str, fault: Option<&str>| Listed {
        name: name.to_owned(),
        version: version.to_owned(),
        fault: fault.map(str::to_owned),
    };
    Results {
        format: FORMAT,
        date: "2026-11-22 18:03 UTC".to_owned(),
        command: "loadtest/compare --quick".to_owned(),
        commit: "0123456789".to_owned(),
        machine: Machine { cores: 2, processor: "Example & Co <CPU>".to_owned(), kernel: "6.18.0".to_owned() },
        scenarios: vec![ScenarioResult {
            name: "example".to_owned(),
            shows: "An example".to_owned(),
            setting: "3 rounds of 1s".to_owned(),
            columns: vec![Metric::CpuUs, Metric::RequestsPerSecond, Metric::Errors],
            reference: "nginx".to_owned(),
            contenders: vec![listed("nginx", "1.22", None), listed("ours", "0.1", None), listed("gone", "", Some("not | installed"))],
            verdicts: targets.iter().map(|target| Verdict::new(target, &cases)).collect(),
            cases,
        }],
    }
}

fn golden(name: &str, text: &str) {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/run/tests").join(name);
    if std::env::var("HEADRACE_GOLDEN").as_deref() == Ok("write") {
        super::super::write(&place, text).unwrap();
    }
    assert_eq!(text, super::super::read(&place).unwrap(), "{name}");
}

#[test]
fn tables_and_pictures() {
    let results = results();
    golden("table.txt", &table::text(&results));
    golden("results.md", &markdown::text(&results));
    golden("results.svg", &svg::picture(&results));
}

#[test]
fn nothing_is_dropped_in_silence() {
    let results = results();
    let faults = results.scenarios.iter().flat_map(ScenarioResult::faults).collect::<Vec<_>>();
    assert_eq!(faults, ["gone: not | installed", "ours at 8: errors 3", "ours at 64: errors 3"]);
    for text in [table::text(&results), markdown::text(&results), svg::picture(&results)] {
        assert!(text.contains("gone"), "{text}");
    }
}

#[test]
fn stored_results_come_back() {
    let results = results();
    let text = super::super::to_json(&results).unwrap();
    let back = serde_json::from_str::<Results>(&text).unwrap();
    // The last bit of a ratio may be lost on its way through text, nothing else.
    assert_eq!((table::text(&back), markdown::text(&back)), (table::text(&results), markdown::text(&results)));
    assert_eq!((back.scenarios[0].cases.len(), back.scenarios[0].contenders.len()), (2, 3));
}

#[test]
fn a_picture_is_well_formed() {
    let text = svg::picture(&results());
    let mut open = Vec::new();
    for piece in text.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap();
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match tag {
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name)),
            _ if tag.ends_with('/') => {}
            _ => open.push(name),
        }
    }
    assert!(open.is_empty() && !text.contains("NaN") && !text.contains("inf"), "{open:?}");
}

#[test]
fn numbers_have_the_digits_they_deserve() {
    for (value, text) in [
        (0.0, "0"),
        (0.123_4, "0.12"),
        (9.876, "9.88"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1_234.5, "1,234"),
        (1_234_567.0, "1,234,567"),
        (-45_000.0, "-45,000"),
        (-3.21, "-3.21"),
    ] {
        assert_eq!(show::number(value), text);
    }
}

#[test]
fn documents_are_refreshed_between_their_marks() {
    let blocks = [("a".to_owned(), "new\n".to_owned())];
    let document = "# T\n<!-- figures:a -->\nold\nolder\n<!-- /figures -->\ntext\n<!-- figures:b -->\nkept\n<!-- /figures -->\n";
    let fresh = refresh(document, &blocks).unwrap();
    assert_eq!(fresh.text, document.replace("old\nolder", "new"));
    assert_eq!(fresh.kept, ["b"]);
    assert_eq!(refresh(&fresh.text, &blocks).unwrap().text, fresh.text, "a second time changes nothing");
    for (bad, told) in [
        ("<!-- figures:a -->\n", "line 1: the block \"a\" is not closed"),
        ("x\n<!-- /figures -->\n", "line 2: closes a block that was not opened"),
        ("<!-- figures:a -->\n<!-- figures:b -->\n", "line 2: a block opens within the one of line 1"),
        ("<!-- figures:a\n", "line 1: write <!-- figures:NAME -->"),
    ] {
        assert!(refresh(bad, &blocks).unwrap_err().contains(told), "{bad:?}");
    }
}

#[test]
fn the_bar_fills() {
    assert_eq!(progress::bar(0, 4), "[........................] 0/4");
    assert_eq!(progress::bar(3, 4), "[##################......] 3/4");
    assert_eq!(progress::bar(0, 0), "[########################] 0/0");
}
