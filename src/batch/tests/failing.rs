//! What failures lead to, and for whom.

use super::rig::{RULES, Rig, body, body_of, embed, items_of, ms, text};
use crate::batch::{CallBody, CallOutcome, Event, Failure, LaneRules, Outcome};
use bytes::Bytes;
use std::time::Duration;

/// Refuses calls with a text that holds "bad", quoting everything it was sent.
fn picky(body: &str) -> (u16, String) {
    if body.contains("bad") { (422, format!("refused: {body}")) } else { (200, embed(body)) }
}

/// The same with FastAPI's hint at which item it was.
fn telling(body: &str) -> (u16, String) {
    match items_of(body).iter().position(|item| item.as_str().is_some_and(|text| text.contains("bad"))) {
        Some(index) => (422, format!(r#"{{"detail":[{{"loc":["body","input",{index}],"input":{body}}}]}}"#)),
        None => (200, embed(body)),
    }
}

/// 32 jobs of which those in `bad` are bad; the number of calls, once everybody has what they should.
fn isolate(bad: &[u32], upstream: fn(&str) -> (u16, String)) -> u32 {
    let mut rig = Rig::new(RULES);
    for index in 0..32 {
        rig.asks(&if bad.contains(&index) { format!("\"bad{index}\"") } else { format!("\"good{index}\"") });
    }
    let calls = rig.run(upstream);
    let answers = rig.answers();
    assert_eq!(answers.len(), 32);
    for ((_, outcome), index) in answers.iter().zip(0..) {
        if bad.contains(&index) {
            let text = text(outcome, 422);
            assert!(text.contains(&format!("\"bad{index}\"")) && !text.contains("good") && text.matches("bad").count() == 1, "{text}");
        } else {
            assert!(text(outcome, 200).contains(&format!("\"good{index}\"")));
        }
    }
    rig.is_at_rest();
    calls
}

#[test]
fn one_bad_of_32_costs_at_most_11_calls_wherever_it_is() {
    let calls: Vec<u32> = (0..32).map(|bad| isolate(&[bad], picky)).collect();
    assert_eq!(calls.iter().max(), Some(&11), "{calls:?}");
}

#[test]
fn a_hint_makes_it_three_calls() {
    assert_eq!((0..32).map(|bad| isolate(&[bad], telling)).max(), Some(3));
}

#[test]
fn many_bad_ones_cost_little_more_than_a_call_each() {
    let all: Vec<u32> = (0..32).collect();
    assert!(isolate(&all, picky) <= 32 + 15);
    assert!(isolate(&all[..16], picky) <= 32 + 15);
    assert!(isolate(&[3, 19, 30], picky) <= 32);
}

#[test]
fn new_jobs_are_not_starved_by_isolation() {
    let mut rig = Rig::new(RULES);
    for index in 0..32 {
        rig.asks(&format!("\"bad{index}\""));
    }
    let first = rig.call().unwrap();
    rig.asks(r#""late""#);
    rig.answered(&first, 500, "boom");
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let call = rig.call().unwrap();
            rig.answered(&call, 500, "boom");
            body_of(&call)
        })
        .collect();
    assert!(calls.iter().any(|call| call.contains("late")), "{calls:?}");
}

#[test]
fn a_lone_client_gets_its_own_error_as_it_is() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""bad""#);
    assert_eq!(rig.run(picky), 1);
    assert_eq!(text(&rig.answers()[0].1, 422), format!("refused: {}", body(r#""bad""#)));
}

#[test]
fn a_neighbour_that_left_is_not_quoted() {
    let mut rig = Rig::new(RULES);
    let gone = rig.asks(r#""secret bad""#);
    rig.asks(r#""b""#);
    let call = rig.call().unwrap();
    rig.leaves(gone);
    let (status, error) = picky(&body_of(&call));
    rig.answered(&call, status, &error);
    rig.run(picky);
    assert!(!text(&rig.answers()[0].1, 200).contains("secret"));
    rig.is_at_rest();
}

#[test]
fn a_told_limit_is_learned_and_kept() {
    for (status, error) in [
        (422, "batch size 10 > maximum allowed batch size 4"),
        (400, "inference request batch-size must be <= 4 for 'm'"),
        (422, r#"{"detail":"List should have at most 4 items after validation"}"#),
    ] {
        let mut rig = Rig::new(RULES);
        for index in 0..10 {
            rig.asks(&format!("\"{index}\""));
        }
        let limited = |body: &str| if items_of(body).len() > 4 { (status, error.to_owned()) } else { (200, embed(body)) };
        assert_eq!(rig.run(limited), 4, "10 refused, then 4 + 4 + 2");
        assert!(rig.answers().iter().all(|(_, outcome)| matches!(outcome, Outcome::Done { status: 200, .. })));
        rig.asks(r#"["a","b","c","d","e"]"#);
        assert_eq!(rig.run(limited), 2, "what is larger is cut at once now");
        rig.is_at_rest();
    }
}

#[test]
fn an_untold_limit_is_found_by_halving() {
    let mut rig = Rig::new(RULES);
    for index in 0..30 {
        rig.asks(&format!("\"{index}\""));
    }
    rig.run(|body| if items_of(body).len() > 6 { (413, String::new()) } else { (200, embed(body)) });
    assert!(rig.answers().iter().all(|(_, outcome)| matches!(outcome, Outcome::Done { status: 200, .. })));
    rig.is_at_rest();
}

#[test]
fn a_busy_upstream_is_left_alone_for_as_long_as_it_asks() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""a""#);
    rig.asks(r#""b""#);
    let call = rig.call().unwrap();
    let busy = |after| CallOutcome::Answered { status: 429, fields: Bytes::new(), body: Bytes::new(), retry_after: Some(after) };
    rig.outcome(&call, busy(ms(700)));
    rig.no_call();
    assert_eq!(rig.home.next_timeout(), Some(rig.now + ms(700)));
    rig.after(ms(700));
    let call = rig.call().unwrap();
    assert_eq!(body_of(&call), body(r#""a""#), "a smaller call after a refusal");
    rig.served(&call);
    rig.run(|body| (200, embed(body)));
    assert_eq!(rig.answers().len(), 2);
}

#[test]
fn a_busy_upstream_is_not_asked_for_ever() {
    let mut rig = Rig::new(LaneRules { max_items: 8, ..RULES });
    rig.asks(r#""a""#);
    let mut calls = 0;
    while rig.home.jobs() > 0 {
        if let Some(call) = rig.call() {
            calls += 1;
            rig.answered(&call, 503, "busy");
        }
        rig.after(ms(10));
    }
    assert_eq!(calls, 5);
    assert_eq!(text(&rig.answers()[0].1, 503), "busy");
}

#[test]
fn nothing_sent_goes_to_the_other_endpoint_at_once() {
    let mut rig = Rig::new(LaneRules { endpoints: 2, ..RULES });
    rig.asks(r#""a""#);
    let first = rig.call().unwrap();
    rig.outcome(&first, CallOutcome::NotSent);
    let second = rig.call().unwrap();
    assert_ne!(first.endpoint, second.endpoint);
    rig.served(&second);
    assert_eq!(rig.answers().len(), 1);
}

#[test]
fn nobody_there_is_said_after_three_tries_to_everyone_in_line() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""a""#);
    for _ in 0..3 {
        let call = rig.call().unwrap();
        rig.asks(r#""b""#);
        rig.outcome(&call, CallOutcome::NotSent);
        rig.after(ms(100));
    }
    let answers = rig.answers();
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|(_, outcome)| matches!(outcome, Outcome::Failed(Failure::UpstreamUnreachable))));
    rig.is_at_rest();
}

#[test]
fn a_read_timeout_is_never_retried() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""a""#);
    rig.asks(r#""b""#);
    let call = rig.call().unwrap();
    rig.outcome(&call, CallOutcome::TimedOut);
    rig.no_call();
    assert!(rig.answers().iter().all(|(_, outcome)| matches!(outcome, Outcome::Failed(Failure::UpstreamTimeout))));
    rig.is_at_rest();
}

#[test]
fn who_breaks_the_upstream_breaks_alone() {
    let mut rig = Rig::new(RULES);
    for index in 0..16 {
        rig.asks(&if index == 5 { "\"crash\"".to_owned() } else { format!("\"{index}\"") });
    }
    while let Some(call) = rig.call() {
        if body_of(&call).contains("crash") { rig.outcome(&call, CallOutcome::Broken) } else { rig.served(&call) }
    }
    let answers = rig.answers();
    let failed: Vec<_> = answers.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(Failure::UpstreamBroken))).collect();
    assert_eq!((answers.len(), failed.len(), failed[0].0), (16, 1, 6));
    rig.is_at_rest();
}

#[test]
fn a_wrong_count_turns_the_lane_solo_for_a_while() {
    let mut rig = Rig::new(RULES);
    let first_only = |body: &str| (200, embed(&super::rig::body(&items_of(body)[0].to_string())));
    rig.asks(r#""a""#);
    rig.asks(r#""b""#);
    assert_eq!(rig.run(first_only), 3);
    let answers = rig.answers();
    assert!(text(&answers[0].1, 200).contains("\"embedding\":\"a\"") && text(&answers[1].1, 200).contains("\"embedding\":\"b\""));
    let period = rig.events().iter().find_map(|event| if let Event::WentSolo { period, .. } = event { Some(*period) } else { None });
    assert_eq!(period, Some(Duration::from_secs(30)));
    rig.asks(r#""c""#);
    rig.asks(r#""d""#);
    let calls = [rig.call().unwrap(), rig.call().unwrap()];
    assert!(calls.iter().all(|call| matches!(call.body, CallBody::Alone { .. })), "solo, and not one at a time");
    for call in calls {
        rig.served(&call);
    }
    rig.after(ms(30_000));
    rig.asks(r#""e""#);
    rig.asks(r#""f""#);
    assert!(matches!(rig.call().unwrap().body, CallBody::Merged { .. }), "tried again");
}

#[test]
fn missing_and_doubled_indexes_are_wrong_answers() {
    for data in [
        r#"{"index":0},{"index":0}"#,
        r#"{"index":0},{"index":2}"#,
        r#"{"index":0},{}"#,
        r#"{"index":0},{"index":1},{"index":2}"#,
        "",
        "7,8",
    ] {
        let mut rig = Rig::new(RULES);
        rig.asks(r#""a""#);
        rig.asks(r#""b""#);
        let call = rig.call().unwrap();
        rig.answered(&call, 200, &format!(r#"{{"data":[{data}],"usage":{{}}}}"#));
        assert!(rig.answers().is_empty(), "{data}");
        assert_eq!(rig.run(|body| (200, embed(body))), 2);
        assert_eq!(rig.answers().len(), 2);
        rig.is_at_rest();
    }
}

#[test]
fn a_model_nobody_knows_stops_merging() {
    let mut rig = Rig::new(RULES);
    for index in 0..4 {
        rig.asks(&format!("\"{index}\""));
    }
    rig.run(|body| (404, format!("no such model: {body}")));
    assert!(rig.answers().iter().all(|(_, outcome)| text(outcome, 404).starts_with("no such model")));
    assert!(rig.events().iter().any(|event| matches!(event, Event::WentSolo { .. })));
}

#[test]
fn a_part_that_fails_fails_its_job_once() {
    let mut rig = Rig::new(LaneRules { max_items: 2, ..RULES });
    rig.asks(r#"["a","b","bad","d","e"]"#);
    rig.run(picky);
    let answers = rig.answers();
    assert_eq!(answers.len(), 1);
    text(&answers[0].1, 422);
    rig.is_at_rest();
}

#[test]
fn an_answer_that_is_too_large_is_asked_for_in_halves() {
    let mut rig = Rig::new(RULES);
    for index in 0..4 {
        rig.asks(&format!("\"{index}\""));
    }
    while let Some(call) = rig.call() {
        if items_of(&body_of(&call)).len() > 1 { rig.outcome(&call, CallOutcome::TooLarge) } else { rig.served(&call) }
    }
    assert_eq!(rig.answers().iter().filter(|(_, outcome)| matches!(outcome, Outcome::Done { .. })).count(), 4);
    rig.is_at_rest();
}
