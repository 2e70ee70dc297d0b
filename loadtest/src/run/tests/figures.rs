//! From readings to figures, medians, ratios and verdicts.

use std::collections::BTreeMap;

use serde_json::json;

use crate::run::metric::Metric;
use crate::run::results::{CaseResult, RoundFigures, Verdict};
use crate::run::sample::{Usage, add_differences, figures};
use crate::run::scenario::{Bound, Target};
use crate::run::stats::{Summary, ratios};

const USAGE: Usage = Usage {
    cpu_ns: 30_000_000,
    wall_ns: 60_000_000,
    rss_bytes: 9 << 20,
    rss_bytes_last: 5 << 20,
    pss_bytes: Some(4 << 20),
    rss_bytes_start: 1 << 20,
};

#[test]
fn medians() {
    let summary = |median, min, max| Some(Summary { median, min, max });
    assert_eq!(Summary::of([]), None);
    assert_eq!(Summary::of([3.0]), summary(3.0, 3.0, 3.0));
    assert_eq!(Summary::of([5.0, 1.0, 2.0]), summary(2.0, 1.0, 5.0));
    assert_eq!(Summary::of([4.0, 1.0, 2.0, 100.0]), summary(3.0, 1.0, 100.0));
    assert_eq!(Summary::of([f64::NAN, 2.0, f64::INFINITY]), summary(2.0, 2.0, 2.0), "what is no number is no figure");
}

#[test]
fn ratios_are_taken_within_a_round() {
    let own = [Some(1.0), None, Some(9.0), Some(4.0), Some(5.0)];
    let reference = [Some(2.0), Some(1.0), Some(3.0), None, Some(0.0)];
    assert_eq!(ratios(&own, &reference).collect::<Vec<_>>(), [0.5, 3.0]);
}

#[test]
fn a_round_of_requests() {
    let report = json!({
        "done": 900, "errors": 100, "wrong": 2, "requests_per_second": 4500.0, "elapsed_s": 0.2, "closed_by_peer": 3,
        "latency": {"p50_us": 10.0, "p99_us": 20.0, "p999_us": 30.0}, "generator_cpu_us_per_request": 4.5,
        "stream": null, "idle": {"opened": 4, "failed": 1, "closed_by_peer": 2},
    });
    let found = figures(&report, Some(USAGE)).unwrap();
    for (metric, value) in [
        (Metric::CpuUs, 30.0),
        (Metric::RequestsPerSecond, 4500.0),
        (Metric::P99Us, 20.0),
        (Metric::Errors, 101.0),
        (Metric::Wrong, 2.0),
        (Metric::ClosedByPeer, 5.0),
        (Metric::CoresBusy, 0.5),
        (Metric::RssMib, 9.0),
        (Metric::PssMib, 4.0),
        (Metric::IdleKib, 1024.0),
    ] {
        assert_eq!(found.get(&metric), Some(&value), "{metric:?}");
    }
    assert!(!found.contains_key(&Metric::EventsPerSecond));
    assert!(!figures(&report, None).unwrap().contains_key(&Metric::CpuUs), "the direct contender has no processor time");
}

#[test]
fn a_round_of_streams() {
    let times = json!({"p50_us": 5.0, "p99_us": 50.0});
    let report = json!({
        "done": 10, "errors": 0, "wrong": 0, "elapsed_s": 2.0,
        "stream": {"streams": 10, "events": 3000, "missing": 1, "out_of_order": 2, "cut": 3, "ttft": times, "gap": times, "added": times},
    });
    let found = figures(&report, Some(USAGE)).unwrap();
    for (metric, value) in [
        (Metric::EventsPerSecond, 1500.0),
        (Metric::CpuUsPerEvent, 10.0),
        (Metric::EventsLost, 6.0),
        (Metric::EventP99Us, 50.0),
        (Metric::TtftP99Us, 50.0),
    ] {
        assert_eq!(found.get(&metric), Some(&value), "{metric:?}");
    }
}

#[test]
fn no_answer_is_a_failure_and_says_why() {
    let report = json!({"done": 0, "errors": 7, "statuses": {"502": 7}, "failures": {}});
    assert_eq!(figures(&report, None).unwrap_err(), "no request was answered: {\"502\":7}");
    assert!(figures(&json!({}), None).is_err());
    let idle = json!({"done": 0, "errors": 0, "idle": {"opened": 10}, "requests_per_second": 0.0, "latency": {"p50_us": 0.0}});
    let found = figures(&idle, Some(USAGE)).unwrap();
    assert!(
        found.contains_key(&Metric::IdleKib) && found.contains_key(&Metric::CoresBusy),
        "silent connections are a load without answers"
    );
    assert!(!found.contains_key(&Metric::P50Us) && !found.contains_key(&Metric::RequestsPerSecond), "{found:?}");
}

#[test]
fn what_is_added_is_above_direct() {
    let mut own = BTreeMap::from([(Metric::P50Us, 150.0), (Metric::EventP99Us, 30.0)]);
    add_differences(&mut own, &BTreeMap::from([(Metric::P50Us, 20.0)]));
    assert_eq!(own.get(&Metric::P50AddedUs), Some(&130.0));
    assert!(!own.contains_key(&Metric::EventP99AddedUs));
}

fn rounds(values: &[(Metric, &[f64])]) -> Vec<RoundFigures> {
    let count = values.first().map_or(0, |(_, of)| of.len());
    (0..count).map(|at| Some(values.iter().map(|(metric, of)| (*metric, of[at])).collect())).collect()
}

#[test]
fn verdicts() {
    let names = ["nginx", "ours", "gone"].map(str::to_owned);
    let all = [
        rounds(&[(Metric::CpuUs, &[10.0, 20.0, 10.0]), (Metric::Errors, &[0.0, 0.0, 0.0])]),
        rounds(&[(Metric::CpuUs, &[6.0, 8.0, 7.0]), (Metric::Errors, &[0.0, 5.0, 0.0])]),
        vec![None, None, None],
    ];
    let cases = [CaseResult::new("8", &names, &all, "nginx")];
    let judge = |contender: &str, metric, against: Option<&str>, bound| {
        let target = Target { contender: contender.to_owned(), metric, against: against.map(str::to_owned), case: "8".to_owned(), bound };
        let verdict = Verdict::new(&target, &cases);
        (verdict.value.map(|value| value.median), verdict.met)
    };
    let against = Some("nginx");
    assert_eq!(judge("ours", Metric::CpuUs, against, Bound::AtMost(0.6)), (Some(0.6), true));
    assert_eq!(judge("ours", Metric::CpuUs, against, Bound::AtMost(0.59)), (Some(0.6), false));
    assert_eq!(judge("ours", Metric::CpuUs, None, Bound::AtLeast(7.0)), (Some(7.0), true));
    assert_eq!(judge("ours", Metric::Errors, None, Bound::AtMost(0.0)), (Some(5.0), false), "one bad round in three must show");
    assert_eq!(judge("gone", Metric::CpuUs, None, Bound::AtMost(1e9)), (None, false), "what was not measured is not met");
}
