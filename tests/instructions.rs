//! The judgement of the instruction-count gate (`benches/instructions`): what it lets pass and what not, and that the file of stored
//! figures can be read. Counting itself needs valgrind and is a step of `.ci/run`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on should stop loudly")]

#[path = "../benches/instructions/compare.rs"]
mod compare;

use compare::{Figures, Made, Stored, Verdict, compare};

fn figures(all: &[(&str, u64)]) -> Figures {
    all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn verdicts(stored: &[(&str, u64)], counted: &[(&str, u64)]) -> Vec<Verdict> {
    compare(&figures(stored), &figures(counted)).into_iter().map(|line| line.verdict).collect()
}

#[test]
fn up_to_five_per_cent_either_way_is_the_same() {
    for counted in [9500, 9999, 10_000, 10_500] {
        assert_eq!(verdicts(&[("a", 10_000)], &[("a", counted)]), [Verdict::Same], "{counted}");
    }
}

#[test]
fn what_grew_by_more_fails_and_what_fell_by_more_is_told() {
    let lines = compare(&figures(&[("a", 10_000), ("b", 10_000)]), &figures(&[("a", 10_501), ("b", 9499)]));
    assert_eq!(lines.iter().map(|line| line.verdict).collect::<Vec<_>>(), [Verdict::Grew, Verdict::Fell]);
    assert!(lines[0].verdict.fails());
    assert!(!lines[1].verdict.fails());
    assert!(lines[0].to_string().contains("+5.01 %  GREW"), "{}", lines[0]);
    assert!(lines[1].to_string().contains("-5.01 %  fell"), "{}", lines[1]);
}

#[test]
fn a_case_without_a_figure_and_a_figure_without_a_case_fail() {
    let lines = compare(&figures(&[("kept", 5), ("gone", 5)]), &figures(&[("kept", 5), ("new", 5)]));
    let seen: Vec<(&str, Verdict)> = lines.iter().map(|line| (line.name.as_str(), line.verdict)).collect();
    assert_eq!(seen, [("gone", Verdict::Gone), ("kept", Verdict::Same), ("new", Verdict::New)]);
    assert_eq!(lines.iter().filter(|line| line.verdict.fails()).count(), 2);
}

#[test]
fn a_figure_of_nothing_is_no_licence() {
    assert_eq!(verdicts(&[("a", 0)], &[("a", 1)]), [Verdict::Grew]);
    assert_eq!(verdicts(&[("a", 0)], &[("a", 0)]), [Verdict::Same]);
}

#[test]
fn the_file_is_what_was_written() {
    let made = Made { rustc: "rustc 1".to_owned(), valgrind: "valgrind-3".to_owned(), machine: "x86_64".to_owned() };
    let stored = Stored { made, figures: figures(&[("http_head", 812), ("json_scan", 7)]) };
    assert_eq!(Stored::parse(&stored.to_text().unwrap()).unwrap(), stored);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");
    let ours = Stored::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(ours.figures.len() > 20, "{} figures", ours.figures.len());
}
