//! When calls leave, what is in them, and what leavers change.

use super::rig::{RULES, Rig, body, body_of, job, ms, text};
use crate::batch::{CallBody, Event, Failure, HomeLimits, LaneRules, LeaveReason, Outcome};
use crate::config::BatchingMode;
use bytes::Bytes;

#[test]
fn a_lone_request_leaves_at_once_and_unchanged() {
    let mut rig = Rig::new(RULES);
    rig.sends(r#" {"input" : "a", "x":[1e2], "model":"m"}"#);
    let call = rig.call().unwrap();
    let CallBody::Alone { message } = &call.body else { panic!("rewritten") };
    assert!(message.ends_with(br#" {"input" : "a", "x":[1e2], "model":"m"}"#));
    rig.answered(&call, 200, "whatever it says");
    let answers = rig.full_answers();
    assert_eq!(text(&answers[0].outcome, 200), "whatever it says");
    assert_eq!((answers[0].batch_items, answers[0].waited), (1, ms(0)));
    rig.is_at_rest();
}

#[test]
fn jobs_of_one_turn_share_a_call() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""a""#);
    rig.asks(r#"["b","c"]"#);
    let call = rig.call().unwrap();
    assert_eq!(body_of(&call), body(r#"["a","b","c"]"#));
    rig.no_call();
    rig.served(&call);
    let answers = rig.answers();
    let envelope = |data: &str, tokens| {
        format!(r#"{{"object":"list","data":[{data}],"model":"m","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#)
    };
    assert_eq!(text(&answers[0].1, 200), envelope(r#"{"object":"embedding","index":0,"embedding":"a"}"#, 1));
    let two = r#"{"object":"embedding","index":0,"embedding":"b"},{"object":"embedding","index":1,"embedding":"c"}"#;
    assert_eq!(text(&answers[1].1, 200), envelope(two, 2));
    let Outcome::Done { fields, .. } = &answers[0].1 else { panic!() };
    assert_eq!(fields, &Bytes::from_static(b"content-type: application/json\r\n"));
    rig.is_at_rest();
}

#[test]
fn the_busy_time_is_the_window() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""a""#);
    let first = rig.call().unwrap();
    for input in [r#""b""#, r#""c""#, r#""d""#] {
        rig.after(ms(1));
        rig.asks(input);
        rig.no_call();
    }
    rig.served(&first);
    let second = rig.call().unwrap();
    assert_eq!(body_of(&second), body(r#"["b","c","d"]"#));
    rig.served(&second);
    assert_eq!(rig.answers().len(), 4);
    rig.is_at_rest();
}

#[test]
fn texts_and_tokens_and_other_fields_do_not_mix() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""a""#);
    rig.asks("[1,2]");
    rig.sends(r#"{"model":"m","input":"a","user":2}"#);
    for _ in 0..3 {
        assert!(matches!(rig.call().unwrap().body, CallBody::Alone { .. }));
    }
    rig.no_call();
    assert_eq!(rig.home.lanes(), 3);
}

#[test]
fn equal_hashes_of_different_keys_do_not_mix() {
    let mut rig = Rig::new(RULES);
    for (slot, credential) in [(1, "Bearer a"), (2, "Bearer b")] {
        let mut job = job(slot, &body(r#""a""#), rig.now);
        job.credential = Bytes::from_static(credential.as_bytes());
        job.hash = 99;
        rig.home.handle_job(job, &RULES, rig.now);
    }
    assert!(matches!(rig.call().unwrap().body, CallBody::Alone { .. }));
    assert!(matches!(rig.call().unwrap().body, CallBody::Alone { .. }));
}

#[test]
fn a_full_batch_takes_a_free_slot_and_half_a_one_waits() {
    let mut rig = Rig::new(LaneRules { in_flight: 2, max_items: 2, ..RULES });
    rig.asks(r#""a""#);
    let first = rig.call().unwrap();
    rig.asks(r#""b""#);
    rig.no_call();
    rig.asks(r#""c""#);
    assert_eq!(body_of(&rig.call().unwrap()), body(r#"["b","c"]"#));
    rig.asks(r#""d""#);
    rig.asks(r#""e""#);
    rig.no_call();
    rig.served(&first);
    let reasons: Vec<_> = rig
        .events()
        .into_iter()
        .filter_map(|event| if let Event::BatchLeft { reason, .. } = event { Some(reason) } else { None })
        .collect();
    assert_eq!(reasons, [LeaveReason::Idle, LeaveReason::Full]);
    assert_eq!(body_of(&rig.call().unwrap()), body(r#"["d","e"]"#));
}

#[test]
fn a_batching_upstream_gets_what_there_is_while_there_is_a_slot() {
    let mut rig = Rig::new(LaneRules { mode: BatchingMode::Batching, in_flight: 2, ..RULES });
    rig.asks(r#""a""#);
    rig.call().unwrap();
    rig.asks(r#""b""#);
    rig.call().unwrap();
    rig.asks(r#""c""#);
    rig.no_call();
}

#[test]
fn max_delay_is_a_ceiling_below_the_limit() {
    let mut rig = Rig::new(LaneRules { in_flight: 2, max_delay: ms(3), ..RULES });
    rig.asks(r#""a""#);
    rig.call().unwrap();
    rig.asks(r#""b""#);
    rig.no_call();
    assert_eq!(rig.home.next_timeout(), Some(rig.now + ms(3)));
    rig.after(ms(3));
    rig.call().unwrap();
}

#[test]
fn once_the_cost_is_known_the_next_batch_leaves_just_in_time() {
    let mut rig = Rig::new(LaneRules { in_flight: 2, ..RULES });
    for _ in 0..20 {
        rig.asks(r#""a""#);
        let call = rig.call().unwrap();
        rig.after(ms(8));
        rig.served(&call);
    }
    rig.asks(r#""b""#);
    let running = rig.call().unwrap();
    rig.after(ms(2));
    rig.asks(r#""c""#);
    rig.no_call();
    let at = rig.home.next_timeout().unwrap();
    let before_end = (rig.now + ms(6)).since(at);
    assert!(before_end > ms(0) && before_end <= ms(1), "woken {before_end:?} before the end");
    rig.after(at.since(rig.now));
    rig.call().unwrap();
    rig.served(&running);
    assert!(rig.events().iter().any(|event| matches!(event, Event::BatchLeft { reason: LeaveReason::JustInTime, .. })));
}

#[test]
fn an_estimate_that_is_wrong_is_not_used() {
    let mut rig = Rig::new(LaneRules { in_flight: 2, ..RULES });
    for round in 0..20 {
        rig.asks(r#""a""#);
        let call = rig.call().unwrap();
        rig.after(ms(if round % 2 == 0 { 2 } else { 30 }));
        rig.served(&call);
    }
    rig.asks(r#""b""#);
    rig.call().unwrap();
    rig.asks(r#""c""#);
    rig.no_call();
    rig.after(ms(1000));
    rig.no_call();
}

#[test]
fn endpoints_have_their_own_slots() {
    let mut rig = Rig::new(LaneRules { endpoints: 2, ..RULES });
    rig.asks(r#""a""#);
    let first = rig.call().unwrap();
    rig.asks(r#""b""#);
    let second = rig.call().unwrap();
    assert_ne!(first.endpoint, second.endpoint);
    rig.asks(r#""c""#);
    rig.no_call();
    rig.served(&second);
    assert_eq!(rig.call().unwrap().endpoint, second.endpoint);
}

#[test]
fn a_leaver_in_the_queue_costs_nothing() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""a""#);
    let first = rig.call().unwrap();
    let gone = rig.asks(r#""b""#);
    rig.asks(r#""c""#);
    rig.leaves(gone);
    rig.served(&first);
    let second = rig.call().unwrap();
    assert_eq!(body_of(&second), body(r#""c""#));
    rig.served(&second);
    assert_eq!(rig.answers().len(), 2);
    rig.is_at_rest();
}

#[test]
fn a_leaver_in_a_call_changes_nothing_for_the_others_and_the_last_one_aborts_it() {
    let mut rig = Rig::new(RULES);
    let tickets = [r#""a""#, r#""b""#, r#""c""#].map(|input| rig.asks(input));
    let call = rig.call().unwrap();
    rig.leaves(tickets[0]);
    rig.leaves(tickets[1]);
    assert_eq!(rig.home.poll_abort(), None);
    rig.leaves(tickets[2]);
    assert_eq!(rig.home.poll_abort(), Some(call.id));
    rig.asks(r#""d""#);
    rig.call().unwrap();
    rig.served(&call);
    assert!(rig.answers().is_empty(), "the late answer of an aborted call is nobody's");
}

#[test]
fn a_job_larger_than_a_call_is_cut_and_put_together_again() {
    let mut rig = Rig::new(LaneRules { max_items: 2, ..RULES });
    rig.asks(r#"["a","bb","ccc","dddd","eeeee"]"#);
    rig.asks(r#""x""#);
    let mut calls = Vec::new();
    while let Some(call) = rig.call() {
        calls.push(body_of(&call));
        rig.served(&call);
    }
    assert_eq!(calls, [body(r#"["a","bb"]"#), body(r#"["ccc","dddd"]"#), body(r#"["eeeee","x"]"#)]);
    let answers = rig.answers();
    let whole = super::rig::embed(&body(r#"["a","bb","ccc","dddd","eeeee"]"#));
    assert_eq!(text(&answers[0].1, 200), whole, "cut or not, the answer is the same, its bill included");
    rig.is_at_rest();
}

#[test]
fn what_cannot_be_merged_goes_alone_past_the_queue() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""a""#);
    rig.call().unwrap();
    rig.asks(r#"[{"image":"x"}]"#);
    let call = rig.call().unwrap();
    rig.answered(&call, 422, "no images here");
    assert_eq!(text(&rig.answers()[0].1, 422), "no images here");
}

#[test]
fn full_queues_and_homes_shed_and_say_when_to_come_back() {
    let mut rig = Rig::with(LaneRules { max_queue_items: 2, ..RULES }, HomeLimits { max_jobs: 4, ..HomeLimits::default() });
    rig.asks(r#""a""#);
    rig.call().unwrap();
    rig.asks(r#""b""#);
    rig.asks(r#""c""#);
    let shed = rig.asks(r#""d""#);
    rig.sends(r#"{"model":"m","input":"e"}"#);
    let also = rig.sends(r#"{"model":"m","input":"f"}"#);
    let answers = rig.answers();
    assert_eq!(answers.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [shed, also]);
    assert!(answers.iter().all(|(_, outcome)| matches!(outcome, Outcome::Failed(Failure::QueueFull { .. }))));
}

/// One item a call, one second a call, a minute for each job: who is the sixtieth in line or later is told at once.
#[test]
fn who_would_be_late_behind_the_queue_is_told_at_once() {
    let mut rig = Rig::new(LaneRules { max_items: 1, ..RULES });
    for _ in 0..5 {
        rig.asks(r#""a""#);
        let call = rig.call().unwrap();
        rig.after(ms(1000));
        rig.served(&call);
    }
    rig.answers();
    rig.asks(r#""b""#);
    let running = rig.call().unwrap();
    let tickets: Vec<u32> = (0..70).map(|_| rig.asks(r#""c""#)).collect();
    let refused = rig.answers();
    assert!((9..13).contains(&refused.len()), "{}", refused.len());
    assert_eq!(refused.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), tickets[70 - refused.len()..], "the last ones, no others");
    for (_, outcome) in &refused {
        let Outcome::Failed(Failure::PredictedLate { retry_after }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(*retry_after, ms(30_000), "as long as anybody is told at most");
    }
    rig.served(&running);
}

#[test]
fn idle_lanes_are_forgotten_and_busy_ones_are_not() {
    let mut rig = Rig::with(RULES, HomeLimits { max_lanes: 2, ..HomeLimits::default() });
    for user in 0..50 {
        rig.sends(&format!(r#"{{"model":"m","input":"a","user":{user}}}"#));
        let call = rig.call().unwrap();
        rig.served(&call);
        assert!(rig.home.lanes() <= 2);
    }
    for user in 50..53 {
        rig.sends(&format!(r#"{{"model":"m","input":"a","user":{user}}}"#));
        rig.call().unwrap();
    }
    assert_eq!(rig.events().iter().filter(|event| **event == Event::LanesFull).count(), 1);
}

#[test]
fn the_deadline_ends_a_job_queued_or_sent() {
    let mut rig = Rig::new(RULES);
    rig.asks(r#""a""#);
    let call = rig.call().unwrap();
    rig.asks(r#""b""#);
    rig.after(ms(60_000));
    let answers = rig.answers();
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|(_, outcome)| matches!(outcome, Outcome::Failed(Failure::DeadlineExceeded))));
    assert_eq!(rig.home.poll_abort(), Some(call.id));
    rig.is_at_rest();
}
