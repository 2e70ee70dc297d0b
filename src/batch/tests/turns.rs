//! Lanes that tell classes and tenants apart: who is in the next batch, who is refused or put out, and that nobody is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::rig::{RULES, Rig, body_of, embed, items_of, ms, text};
use crate::batch::{Call, CallOutcome, Failure, LaneRules, Outcome};
use crate::policy::Class;
use bytes::Bytes;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

const FAIR: LaneRules = LaneRules { max_items: 4, fair: true, ..RULES };

/// A call is out; what is asked now waits.
fn occupied(rules: LaneRules) -> (Rig, Call) {
    let mut rig = Rig::new(rules);
    rig.claims(Class::Normal, 0, r#""1.plug""#);
    let call = rig.call().unwrap();
    (rig, call)
}

/// Serves calls until there is none; the items of each.
fn batches(rig: &mut Rig, running: &Call) -> Vec<Vec<String>> {
    rig.served(running);
    let mut batches = Vec::new();
    while let Some(call) = rig.call().or_else(|| {
        rig.after(ms(1));
        rig.call()
    }) {
        let items = items_of(&body_of(&call));
        batches.push(items.iter().map(|item| item.as_str().unwrap().to_owned()).collect());
        rig.after(ms(5));
        rig.served(&call);
    }
    batches
}

fn refusals(rig: &mut Rig) -> Vec<(u32, Failure)> {
    let failed = |(ticket, outcome)| if let Outcome::Failed(failure) = outcome { Some((ticket, failure)) } else { None };
    rig.answers().into_iter().filter_map(failed).collect()
}

#[test]
fn without_the_rule_it_is_first_come_first_served_whoever_asks() {
    let (mut rig, call) = occupied(LaneRules { fair: false, ..FAIR });
    for number in 0..6 {
        rig.claims(Class::Low, 1, &format!("\"low{number}\""));
    }
    rig.claims(Class::High, 2, r#""high""#);
    let batches = batches(&mut rig, &call);
    assert_eq!(batches, [vec!["low0", "low1", "low2", "low3"], vec!["low4", "low5", "high"]]);
    rig.answers();
    rig.is_at_rest();
}

#[test]
fn the_more_urgent_are_in_the_next_batch_and_the_least_urgent_are_not_starved() {
    let (mut rig, call) = occupied(FAIR);
    for number in 0..8 {
        rig.claims(Class::Low, 1, &format!("\"low{number}\""));
    }
    for number in 0..40 {
        rig.claims(Class::High, 2, &format!("\"high{number}\""));
    }
    let batches = batches(&mut rig, &call);
    let high = |batch: &Vec<String>| batch.iter().filter(|item| item.starts_with("high")).count();
    assert!(high(&batches[0]) >= 3 && high(&batches[1]) >= 3, "{batches:?}");
    let first_low = batches.iter().position(|batch| batch.iter().any(|item| item.starts_with("low"))).unwrap();
    assert!(first_low <= 5, "one low one leaves for every sixteen high ones: {batches:?}");
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4; 12], "batches are full all the same");
    assert_eq!(rig.answers().len(), 49);
    rig.is_at_rest();
}

#[test]
fn a_light_tenant_is_in_the_next_batch_whatever_the_noisy_one_has_waiting() {
    let (mut rig, call) = occupied(FAIR);
    for number in 0..1000 {
        rig.claims(Class::Normal, 1, &format!("\"noisy{number}\""));
    }
    rig.claims(Class::Normal, 2, r#""light0""#);
    rig.claims(Class::Normal, 2, r#""light1""#);
    let batches = batches(&mut rig, &call);
    assert!(["light0", "light1"].iter().all(|light| batches[0].contains(&(*light).to_owned())), "{:?}", batches[0]);
    rig.answers();
    rig.is_at_rest();
}

/// A job of hundreds of items is cut, and others have their turns between its pieces.
#[test]
fn a_huge_job_does_not_keep_the_lane_to_itself() {
    let (mut rig, call) = occupied(FAIR);
    let huge: Vec<String> = (0..400).map(|number| format!("\"huge{number}\"")).collect();
    let huge = rig.claims(Class::Normal, 1, &format!("[{}]", huge.join(",")));
    let small: Vec<u32> = (0..8).map(|number| rig.claims(Class::Normal, 2, &format!("\"small{number}\""))).collect();
    let batches = batches(&mut rig, &call);
    let last = batches.iter().rposition(|batch| batch.iter().any(|item| item.starts_with("small"))).unwrap();
    assert!(last <= 5, "{last}");
    let of_huge: Vec<&String> = batches.iter().flatten().filter(|item| item.starts_with("huge")).collect();
    assert!((0..400).zip(of_huge).all(|(number, item)| *item == format!("huge{number}")), "cut in order");
    let answers: BTreeMap<u32, Outcome> = rig.answers().into_iter().collect();
    let whole: serde_json::Value = serde_json::from_str(&text(&answers[&huge], 200)).unwrap();
    assert_eq!(whole["data"].as_array().unwrap().len(), 400);
    assert!(small.iter().all(|ticket| answers.contains_key(ticket)));
    rig.is_at_rest();
}

#[test]
fn a_full_lane_makes_room_for_the_tenant_it_wrongs() {
    let (mut rig, call) = occupied(LaneRules { max_queue_items: 6, ..FAIR });
    let noisy: Vec<u32> = (0..6).map(|_| rig.claims(Class::Normal, 1, r#""noisy""#)).collect();
    let alone = rig.claims(Class::Normal, 1, r#""noisy""#);
    assert!(matches!(refusals(&mut rig)[..], [(ticket, Failure::QueueFull { .. })] if ticket == alone), "alone it wrongs nobody");
    let light = rig.claims(Class::Normal, 2, r#"["light","light"]"#);
    let out = refusals(&mut rig);
    assert_eq!(out.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), noisy[4..], "the newest of who holds all");
    assert!(out.iter().all(|(_, why)| matches!(why, Failure::TenantShare { .. })), "{out:?}");
    let again = rig.claims(Class::Normal, 1, r#""noisy""#);
    assert!(matches!(refusals(&mut rig)[..], [(ticket, Failure::TenantShare { .. })] if ticket == again));
    assert_eq!(batches(&mut rig, &call).iter().flatten().filter(|item| *item == "light").count(), 2);
    assert!(rig.answers().iter().any(|(ticket, _)| *ticket == light));
    rig.is_at_rest();
}

/// One item a call, one second a call, a minute for each job: late is who has too many of its own before it, not who comes after them.
#[test]
fn who_would_be_late_is_judged_by_its_own_turn() {
    let mut rig = Rig::new(LaneRules { max_items: 1, ..FAIR });
    for _ in 0..5 {
        rig.claims(Class::Normal, 1, r#""a""#);
        let call = rig.call().unwrap();
        rig.after(ms(1000));
        rig.served(&call);
    }
    rig.answers();
    rig.claims(Class::Normal, 1, r#""b""#);
    let running = rig.call().unwrap();
    (0..70).for_each(|_| {
        rig.claims(Class::Normal, 1, r#""c""#);
    });
    let refused = refusals(&mut rig);
    assert!((9..13).contains(&refused.len()), "{}", refused.len());
    assert!(refused.iter().all(|(_, why)| matches!(why, Failure::TenantShare { .. })), "it is their own: {refused:?}");
    rig.claims(Class::Normal, 2, r#""light""#);
    assert!(refusals(&mut rig).is_empty(), "its turn is soon");
    rig.claims(Class::Low, 2, r#""light""#);
    assert!(matches!(refusals(&mut rig)[..], [] | [(_, Failure::PredictedLate { .. })]));
    rig.served(&running);
}

#[test]
fn max_delay_counts_from_the_oldest_whoever_is_next() {
    let (mut rig, _call) = occupied(LaneRules { in_flight: 2, max_delay: ms(3), ..FAIR });
    rig.claims(Class::Low, 1, r#""low""#);
    rig.after(ms(2));
    rig.claims(Class::High, 2, r#""high""#);
    assert!(rig.call().is_none());
    assert_eq!(rig.home.next_timeout(), Some(rig.now + ms(1)));
    rig.after(ms(1));
    assert_eq!(items_of(&body_of(&rig.call().unwrap())).len(), 2);
}

#[test]
fn who_is_to_go_again_goes_before_those_who_wait() {
    let (mut rig, call) = occupied(FAIR);
    (0..4).for_each(|number| {
        rig.claims(Class::Low, 1, &format!("\"low{number}\""));
    });
    rig.served(&call);
    let first = rig
        .call()
        .or_else(|| {
            rig.after(ms(1));
            rig.call()
        })
        .unwrap();
    (0..4).for_each(|number| {
        rig.claims(Class::High, 2, &format!("\"high{number}\""));
    });
    let busy = CallOutcome::Answered { status: 503, fields: Bytes::new(), body: Bytes::new(), retry_after: None };
    rig.outcome(&first, busy);
    rig.after(ms(100));
    // The batch became smaller for the refusal.
    let again = items_of(&body_of(&rig.call().unwrap()));
    assert!(again.iter().all(|item| item.as_str().unwrap().starts_with("low")), "{again:?}");
}

#[test]
fn leavers_and_the_late_are_gone_wherever_they_wait() {
    let (mut rig, call) = occupied(FAIR);
    let big: Vec<String> = (0..9).map(|number| format!("\"b{number}\"")).collect();
    let big = format!("[{}]", big.join(","));
    let cut = rig.claims(Class::High, 1, &big);
    let whole: Vec<u32> = (0..6).map(|tenant| rig.claims(Class::Low, tenant, r#"["x","y","z"]"#)).collect();
    rig.served(&call);
    // In the call, in the line because it did not fit, in its turn: each place once.
    let next = rig
        .call()
        .or_else(|| {
            rig.after(ms(1));
            rig.call()
        })
        .unwrap();
    rig.leaves(cut);
    whole[..3].iter().for_each(|ticket| rig.leaves(*ticket));
    assert!(rig.home.queued_items() <= 9, "{}", rig.home.queued_items());
    rig.after(ms(60_000));
    assert_eq!(rig.home.jobs(), 0, "the others have waited for as long as they may");
    rig.served(&next);
    rig.answers();
    std::iter::from_fn(|| rig.home.poll_abort()).for_each(drop);
    rig.is_at_rest();
}

#[test]
fn when_nobody_is_there_everyone_hears_of_it_who_waits() {
    let (mut rig, call) = occupied(FAIR);
    (0..30).for_each(|tenant| {
        rig.claims(Class::Normal, tenant, r#""a""#);
    });
    let mut call = Some(call);
    for _ in 0..20 {
        let Some(sent) = call.take().or_else(|| rig.call()) else {
            rig.after(ms(50));
            continue;
        };
        rig.outcome(&sent, CallOutcome::NotSent);
    }
    let failed = refusals(&mut rig);
    assert_eq!(failed.len(), 31);
    assert!(failed.iter().all(|(_, why)| *why == Failure::UpstreamUnreachable));
    rig.is_at_rest();
}

/// The tickets whose items a call carries, in order.
fn tickets(call: Option<&Call>) -> Vec<u32> {
    let items = call.into_iter().flat_map(|call| items_of(&body_of(call)));
    items.map(|item| item.as_str().and_then(|text| text.split_once('.')).unwrap().0.parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whoever comes, leaves and is served: nobody is lost or answered twice, the order within a tenant and class is kept.
    #[test]
    fn nobody_is_lost_and_nobody_is_passed_by_their_own(
        cap in 1..6_u32,
        steps in proptest::collection::vec((0..5_u8, 0..3_usize, 0..3_u64, 1..9_usize), 1..120),
    ) {
        let (mut rig, call) = occupied(LaneRules { max_items: cap, max_queue_items: 30, ..FAIR });
        let mut running = Some(call);
        let mut asked: BTreeMap<u32, (usize, u64)> = BTreeMap::from([(1, (1, 0))]);
        let (mut answered, mut left, mut sent) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        // In the end all who wait are served.
        let rest = std::iter::repeat_n((3, 0, 0, 0), 1200);
        for (what, class, tenant, count) in steps.into_iter().chain(rest) {
            match what {
                0..=2 => {
                    let ticket = asked.len() as u32 + 1;
                    let items: Vec<String> = (0..count).map(|item| format!("\"{ticket}.{item}\"")).collect();
                    prop_assert_eq!(rig.claims(Class::ALL[class], tenant, &format!("[{}]", items.join(","))), ticket);
                    asked.insert(ticket, (class, tenant));
                }
                3 => {
                    if let Some(call) = running.take() {
                        rig.served(&call);
                    }
                    rig.after(ms(1));
                    running = rig.call();
                    sent.extend(tickets(running.as_ref()));
                }
                _ => {
                    let ticket = (count as u32 * 7 + class as u32) % asked.len() as u32 + 1;
                    rig.leaves(ticket);
                    left.insert(ticket);
                    if rig.home.poll_abort().is_some() {
                        running = None;
                    }
                }
            }
            for (ticket, _) in rig.answers() {
                prop_assert!(asked.contains_key(&ticket) && answered.insert(ticket), "{} is answered twice", ticket);
            }
        }
        prop_assert!(asked.keys().all(|ticket| answered.contains(ticket) || left.contains(ticket)));
        for line in asked.values().collect::<BTreeSet<_>>() {
            let of_line: Vec<u32> = sent.iter().copied().filter(|ticket| asked[ticket] == *line).collect();
            prop_assert!(of_line.is_sorted(), "{:?}: {:?}", line, of_line);
        }
        rig.is_at_rest();
    }
}

/// The lane serves a batch of four in five milliseconds. One tenant asks ten times as often as it could be served, the other for a
/// third of it: the other loses nothing, and waits for two batches at most.
#[test]
fn a_flood_of_one_tenant_leaves_the_other_its_share() {
    let mut rig = Rig::new(LaneRules { max_queue_items: 256, ..FAIR });
    let (mut light, mut served, mut longest) = (BTreeMap::new(), [0_u32; 2], ms(0));
    let mut running: Option<Call> = None;
    for step in 0..5000_u64 {
        (0..8).for_each(|_| {
            rig.claims(Class::Normal, 1, r#""flood""#);
        });
        if step % 4 == 0 {
            light.insert(rig.claims(Class::Normal, 2, r#""light""#), rig.now);
        }
        if step % 5 == 0 {
            if let Some(call) = running.take() {
                let text = embed(&body_of(&call));
                rig.answered(&call, 200, &text);
            }
            rig.after(ms(0));
            running = rig.call();
        }
        for (ticket, outcome) in rig.answers() {
            let done = matches!(outcome, Outcome::Done { .. });
            match light.remove(&ticket) {
                Some(came) => {
                    assert!(done, "{outcome:?}");
                    longest = longest.max(rig.now.since(came));
                    served[1] += 1;
                }
                None => served[0] += u32::from(done),
            }
        }
        rig.after(ms(1));
    }
    assert!(served[1] >= 1240 && longest <= ms(15), "{served:?}, {longest:?}");
    assert!(served[0] >= 2600, "and the rest is the flood's: {served:?}");
}
