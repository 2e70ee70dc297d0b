//! Answers of embedding servers: what is cut out lies inside, in order and without overlap; on well-formed JSON it is what a tree
//! says.
#![cfg_attr(fuzzing, no_main)]

use headrace::json::{AnswerShape, scan_answer};
use headrace_fuzz::kind;
use serde_json::Value;

headrace_fuzz::main!("json_answer", target, TOKENS);

fn target(data: &[u8]) -> u64 {
    let mut shape = AnswerShape::default();
    if let Err(error) = scan_answer(data, &mut shape) {
        return kind(error.reason);
    }
    let mut place = shape.data.start as usize;
    for element in &shape.elements {
        assert!(element.span.start as usize >= place && element.span.end() <= shape.data.end());
        assert!(element.index.start >= element.span.start && element.index.end() <= element.span.end());
        assert_eq!(std::str::from_utf8(element.index.of(data)).ok().and_then(|text| text.parse().ok()), Some(element.index_value));
        place = element.span.end();
    }
    for number in &shape.numbers {
        let usage = shape.usage.expect("numbers lie in usage");
        assert!(number.span.start >= usage.start && number.span.end() <= usage.end() && number.key.end() <= number.span.start as usize);
    }
    // A tree takes `"\u0069ndex"` for `"index"`; the cutter looks for the plain spelling only.
    let plain = !data.windows(2).any(|two| two == b"\\u");
    if let Some(tree) = serde_json::from_slice::<Value>(data).ok().filter(|_| plain) {
        let all = tree["data"].as_array().expect("data is an array");
        assert_eq!(all.len(), shape.elements.len());
        for (value, element) in all.iter().zip(&shape.elements) {
            assert_eq!(value["index"].as_u64(), Some(u64::from(element.index_value)));
            assert_eq!(serde_json::from_slice::<Value>(element.span.of(data)).ok().as_ref(), Some(value));
        }
        assert_eq!(tree.get("usage").is_some(), shape.usage.is_some());
    }
    kind((shape.elements.len().min(9), shape.numbers.len().min(9), shape.usage.is_some()))
}

const TOKENS: &[&str] = &[
    "\"data\":",
    "\"index\":",
    "\"usage\":",
    "\"embedding\":",
    "\"prompt_tokens\":3",
    "{\"index\":0}",
    "{\"index\":1,\"embedding\":[0.5,-1e-3]}",
    "\"AAAA\"",
    "{}",
    "[]",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"\\\"\"",
    "\\u0022",
    "4294967296",
    "1.50",
    "-1",
    "1e9",
    "null",
];
