//! Merged or not, cut or not, in order or shuffled: the answer a client gets is the one its own request would have had.

use super::rig::{RULES, Rig, body_of, embed, text};
use crate::batch::{LaneRules, Outcome};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, proptest};
use serde_json::Value;

/// What a model server says, with its elements in another order.
fn shuffled(answer: &str, order: u64) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let mut data = answer["data"].as_array().unwrap().clone();
    let len = data.len().max(1);
    data.rotate_left(usize::try_from(order).unwrap() % len);
    if order % 2 == 1 {
        data.reverse();
    }
    serde_json::json!({"usage": answer["usage"], "data": data, "id": "x"}).to_string()
}

fn inputs() -> impl Strategy<Value = Vec<Vec<String>>> {
    let text = proptest::collection::vec(any::<char>(), 0..12).prop_map(|text| format!("x{}", text.into_iter().collect::<String>()));
    proptest::collection::vec(proptest::collection::vec(text, 1..9), 1..12)
}

proptest! {
    #[test]
    fn everyone_gets_what_they_would_have_got_alone(inputs in inputs(), max_items in 1u32..10, order in 0u64..50, bytes in Just(200u64)) {
        let mut rig = Rig::new(LaneRules { max_items, max_bytes: if order % 3 == 0 { bytes } else { 1 << 20 }, ..RULES });
        let bodies: Vec<String> = inputs.iter().map(|items| super::rig::body(&serde_json::to_string(items).unwrap())).collect();
        for body in &bodies {
            rig.sends(body);
        }
        let mut billed = 0;
        while let Some(call) = rig.call() {
            let answer = shuffled(&embed(&body_of(&call)), order);
            billed += serde_json::from_str::<Value>(&answer).unwrap()["usage"]["total_tokens"].as_u64().unwrap();
            rig.answered(&call, 200, &answer);
        }
        let answers = rig.answers();
        prop_assert_eq!(answers.len(), bodies.len());
        let mut told = 0;
        for ((_, outcome), body) in answers.iter().zip(&bodies) {
            let mut got: Value = serde_json::from_str(&text(outcome, 200)).unwrap();
            let alone: Value = serde_json::from_str(&embed(body)).unwrap();
            got["data"].as_array_mut().unwrap().sort_by_key(|element| element["index"].as_u64());
            prop_assert_eq!(&got["data"], &alone["data"]);
            told += got["usage"]["total_tokens"].as_u64().unwrap();
        }
        prop_assert_eq!(told, billed);
        rig.is_at_rest();
    }

    #[test]
    fn no_answer_of_an_upstream_can_hurt(answer in proptest::collection::vec(proptest::sample::select(b"{}[]\",:0123 aindexdatusge\\".to_vec()), 0..80)) {
        let answer = String::from_utf8(answer).unwrap();
        for wrapped in [answer.clone(), format!("{{\"data\":[{{\"index\":0,{answer}}},{{\"index\":1}}]}}"), format!("{{\"data\":[{{\"index\":0}},{{\"index\":1}}],{answer}}}")] {
            let mut rig = Rig::new(RULES);
            rig.asks("\"a\"");
            rig.asks("\"b\"");
            let call = rig.call().unwrap();
            rig.answered(&call, 200, &wrapped);
            rig.run(|body| (200, embed(body)));
            let answers = rig.answers();
            prop_assert_eq!(answers.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Done { status: 200, .. })).count(), 2);
            rig.is_at_rest();
        }
    }
}
