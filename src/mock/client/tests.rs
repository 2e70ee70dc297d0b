//! The template's holes, and that the checker tells somebody else's answer from ours: "0 wrong" means nothing otherwise.

use std::time::Duration;

use super::check::Checker;
use super::template::Template;
use super::{LoadBody, LoadConfig};
use crate::mock::{vector, write_base64, write_numbers};
use crate::sys::net::Address;

fn template(items: u32, base64: bool) -> Template {
    let address = Address::Unix("/unused".into());
    let mut config = LoadConfig::embeddings(address, "m \"x\"", 1, Duration::ZERO);
    config.body = LoadBody::Embeddings { model: "m \"x\"".to_owned(), items, input_bytes: 24, base64, dims: 4 };
    Template::new(&config)
}

/// An answer whose element with index `i` holds the vector of item `from` of request `unique`, for each (i, from, unique).
fn answer(template: &Template, elements: &[(usize, usize, u64)]) -> Vec<u8> {
    let (mut body, mut item) = (b"{\"data\":[".to_vec(), Vec::new());
    for (at, (index, from, unique)) in elements.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        body.extend_from_slice(format!("{comma}{{\"object\":\"embedding\",\"index\":{index},\"embedding\": ").as_bytes());
        template.write_item(*from, *unique, &mut item);
        if template.base64 {
            write_base64(&mut body, &item, 4)
        } else {
            write_numbers(&mut body, &item, 4)
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

#[test]
fn a_request_is_well_formed_and_unique() {
    for (items, base64) in [(1, false), (12, true)] {
        let template = template(items, base64);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        template.write(0x0123_4567_89ab_cdef, &mut one);
        template.write(u64::MAX, &mut two);
        assert_eq!(one.len(), two.len());
        let text = String::from_utf8(one).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["model"], "m \"x\"");
        let texts: Vec<&str> = body["input"]
            .as_str()
            .map_or_else(|| body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect(), |text| vec![text]);
        assert_eq!(texts.len(), items as usize);
        for (at, text) in texts.iter().enumerate() {
            assert!(text.starts_with(&format!("0123456789abcdef-{at}")) && text.len() == 24, "{text}");
            let mut item = Vec::new();
            template.write_item(at, 0x0123_4567_89ab_cdef, &mut item);
            assert_eq!(item, text.as_bytes(), "what is checked is what was sent");
        }
    }
}

#[test]
fn only_our_own_answer_is_right() {
    for base64 in [false, true] {
        let template = template(2, base64);
        for (elements, right, why) in [
            (&[(0, 0, 7), (1, 1, 7)][..], true, "ours"),
            (&[(1, 1, 7), (0, 0, 7)], true, "ours in another order"),
            (&[(0, 0, 8), (1, 1, 8)], false, "another request's"),
            (&[(0, 0, 7), (1, 1, 8)], false, "one of them another's"),
            (&[(0, 1, 7), (1, 0, 7)], false, "our two swapped"),
            (&[(0, 0, 7), (0, 0, 7)], false, "an index twice"),
            (&[(0, 0, 7)], false, "one too few"),
            (&[(0, 0, 7), (1, 1, 7), (2, 1, 7)], false, "one too many"),
            (&[(0, 0, 7), (2, 1, 7)], false, "an index nobody asked for"),
            (&[], false, "none"),
        ] {
            assert_eq!(Checker::default().check(&answer(&template, elements), &template, 7), right, "{why}, base64 {base64}");
        }
        assert!(!Checker::default().check(b"{\"error\":{}}", &template, 7));
        assert!(!Checker::default().check(b"", &template, 7));
    }
}

#[test]
fn numbers_in_another_spelling_are_compared_by_value() {
    let template = template(1, false);
    let mut item = Vec::new();
    template.write_item(0, 7, &mut item);
    let spelled = |numbers: &[f32]| {
        let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:e}")).collect();
        format!("{{\"data\":[{{\"index\":0,\"embedding\" : [ {} ]}}]}}", numbers.join(" , ")).into_bytes()
    };
    let mut numbers = vector(&item, 4);
    assert!(Checker::default().check(&spelled(&numbers), &template, 7));
    numbers[3] += 0.000_002;
    assert!(!Checker::default().check(&spelled(&numbers), &template, 7));
}
