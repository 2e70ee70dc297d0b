//! Tables of what is found where, and comparisons with a parser that builds a tree.

#![expect(clippy::disallowed_types, reason = "proptest's prop_oneof! shares its strategies in an Arc")]

use super::{AnswerShape, ItemKind, ScanError, Splice, scan_answer, scan_embeddings, scan_model, scan_prompt};
use crate::sys::Span;
use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use serde_json::Value;

#[test]
fn the_model_is_found_wherever_it_stands() {
    let long = format!(r#"{{"messages":[{}],"model":"m"}}"#, "{\"a\":[1]},".repeat(50) + "1");
    for (body, model, stream) in [
        (r#"{"model":"gpt-4"}"#, Some("gpt-4"), false),
        (r#" { "x" : {"model":"no"} , "stream":true, "model" : "yes" } "#, Some("yes"), true),
        (r#"{"model":"a\/b\u00e9\n","stream":false}"#, Some("a/b\u{e9}\n"), false),
        (r#"{"mod\u0065l":"m"}"#, Some("m"), false),
        (r#"{"model":""}"#, Some(""), false),
        (r#"{"stream":"true"}"#, None, false),
        ("{}", None, false),
        (&long, Some("m"), false),
    ] {
        let found = scan_model(body.as_bytes()).unwrap();
        assert_eq!(found.model.map(|model| model.decode(body.as_bytes()).into_owned()).as_deref(), model, "{body}");
        assert_eq!(found.stream, stream, "{body}");
        if let (Some(found), Some(model)) = (found.model, model) {
            assert!(found.is(body.as_bytes(), model) && !found.is(body.as_bytes(), "other"));
        }
    }
}

#[test]
fn bad_bodies_are_refused_with_a_reason_and_a_place() {
    let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(128), "]".repeat(128));
    for (body, reason, at) in [
        ("", "not_an_object", 0),
        ("[\"gpt\",true]", "not_an_object", 0),
        (r#"{"model":"a","model":"b"}"#, "duplicate_field", 19),
        (r#"{"model":null,"model":"b"}"#, "duplicate_field", 20),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "duplicate_field", 24),
        (r#"{"model":7}"#, "model_not_a_string", 9),
        (r#"{"model":null}"#, "model_not_a_string", 9),
        ("{\n\"model\":\"a\",\n!}", "not_json", 15),
        (r#"{"model":"a"} x"#, "not_json", 14),
        (r#"{"model":"a"#, "not_json", 10),
        ("{\"model\":\"\u{1}\"}", "not_json", 9),
        (&deep, "too_deep", 132),
    ] {
        let error = scan_model(body.as_bytes()).unwrap_err();
        assert_eq!((error.reason, error.at), (reason, at), "{body}");
    }
    assert_eq!(scan_model(b"{\"model\":\"\xff\"}").unwrap_err().reason, "not_json");
    assert!(scan_model(format!(r#"{{"x":{}1{}}}"#, "[".repeat(127), "]".repeat(127)).as_bytes()).is_ok());
    assert_eq!(scan_embeddings(b"{}").unwrap_err().reason, "input_missing");
    assert_eq!(scan_embeddings(br#"{"input":1,"input":2}"#).unwrap_err().reason, "duplicate_field");
    let error = ScanError { reason: "r", message: "it is bad", at: 3 };
    assert_eq!(error.to_string(), "it is bad (at byte 3)");
}

#[test]
fn inputs_are_cut_into_items() {
    for (input, items, kind) in [
        (r#""a""#, vec![r#""a""#], ItemKind::Text),
        (r#"[ "a,]" , "b\"]" ]"#, vec![r#""a,]""#, r#""b\"]""#], ItemKind::Text),
        ("[1, 2]", vec!["[1, 2]"], ItemKind::Tokens),
        ("[[1],[2 ,3]]", vec!["[1]", "[2 ,3]"], ItemKind::Tokens),
    ] {
        let body = format!(r#"{{"model":"m","input": {input} ,"x":1}}"#);
        let found = scan_embeddings(body.as_bytes()).unwrap();
        assert_eq!(
            found.items.iter().map(|item| item.of(body.as_bytes())).collect::<Vec<_>>(),
            items.iter().map(|item| item.as_bytes()).collect::<Vec<_>>()
        );
        assert_eq!((found.kind, found.mergeable(), found.input.of(body.as_bytes())), (kind, true, input.as_bytes()));
    }
}

#[test]
fn inputs_that_are_not_ours_to_cut_stay_whole() {
    let many = format!("[{}\"a\"]", "\"a\",".repeat(2048));
    for (input, reason) in [
        ("null", "input_shape"),
        ("7", "input_shape"),
        (r#"{"a":1}"#, "input_shape"),
        (r#"[{"image":"x"}]"#, "input_shape"),
        ("[1.5]", "input_shape"),
        ("[-1]", "input_shape"),
        ("[[-1]]", "input_shape"),
        ("[[]]", "input_shape"),
        ("[[[1]]]", "input_shape"),
        (r#"["a",null]"#, "input_shape"),
        (r#"[""]"#, "input_shape"),
        (r#""""#, "empty_text"),
        ("[]", "empty_input"),
        (r#"["a",1]"#, "mixed_input"),
        (r#"[1,"a"]"#, "mixed_input"),
        ("[[1],2]", "mixed_input"),
        (&many, "too_many_items"),
    ] {
        let found = scan_embeddings(format!(r#"{{"input":{input}}}"#).as_bytes()).unwrap();
        assert_eq!((found.solo, found.items.len()), (Some(reason), 0), "{input}");
    }
    let tokens = format!(r#"{{"input":[{}1]}}"#, "1,".repeat(8000));
    assert_eq!(scan_embeddings(tokens.as_bytes()).unwrap().items.len(), 1, "a long text is not many items");
}

#[test]
fn answers_are_cut_wherever_the_fields_stand() {
    let body = r#" {"usage" : {"prompt_tokens":12,"x":{"cost":0.250},"n":-1,"e":1e3,"t":"9"},"note":"\"data\":[","data":[ {"embedding":[1.0,-2e3],"index":1} , {"index" : 0,"embedding":"QUJD","o":{"index":7}} ]} "#;
    let mut shape = AnswerShape::default();
    scan_answer(body.as_bytes(), &mut shape).unwrap();
    let of = |span: crate::sys::Span| std::str::from_utf8(span.of(body.as_bytes())).unwrap();
    let elements: Vec<_> = shape.elements.iter().map(|element| (of(element.span), of(element.index), element.index_value)).collect();
    assert_eq!(
        elements,
        [(r#"{"embedding":[1.0,-2e3],"index":1}"#, "1", 1), (r#"{"index" : 0,"embedding":"QUJD","o":{"index":7}}"#, "0", 0)]
    );
    let numbers: Vec<_> = shape.numbers.iter().map(|number| (of(number.key), of(number.span), number.value, number.scale)).collect();
    assert_eq!(numbers, [("\"prompt_tokens\"", "12", 12, 0), ("\"cost\"", "0.250", 250, 3)]);
    assert!(of(shape.data).starts_with(" {\"embedding\"") && of(shape.data).ends_with("} "));
}

#[test]
fn answers_of_another_shape_are_refused() {
    let mut shape = AnswerShape::default();
    for body in [
        "",
        "[]",
        "{}",
        "null",
        r#"{"data":{}}"#,
        r#"{"data":[1]}"#,
        r#"{"data":[{}]}"#,
        r#"{"data":[{"index":-1}]}"#,
        r#"{"data":[{"index":"1"}]}"#,
        r#"{"data":[{"index":1.0}]}"#,
        r#"{"data":[{"index":0}"#,
        r#"{"data":[{"index":0}]"#,
        r#"{"data":[{"index":0}]} x"#,
        r#"{"data":[{"index":0},]}"#,
        r#"{"data":[{"index":0,"index":1}]}"#,
        r#"{"data":[],"data":[]}"#,
        r#"{"data":[{"index":0,"e":[1,2}]}]}"#,
        r#"{"data":[{"index":0,"e":"x}]}"#,
        r#"{"data":[{"index":99999999999}]}"#,
        r#"{"usage":{},"usage":{},"data":[]}"#,
        r#"{"data" [] }"#,
        r#"{data:[]}"#,
    ] {
        assert!(scan_answer(body.as_bytes(), &mut shape).is_err(), "{body}");
    }
    assert!(scan_answer(br#"{"data":[]}"#, &mut shape).is_ok());
}

#[test]
fn short_slices_are_copied_and_long_ones_shared() {
    let source = Bytes::from(vec![b'x'; 100]);
    let mut splice = Splice::new(0, 50);
    splice.copy(b"{");
    splice.slice(&source, 0..10);
    splice.slice(&source, 10..90);
    splice.number(42);
    let (pieces, len) = splice.finish();
    assert_eq!((pieces.len(), len, pieces.concat().len()), (3, 93, 93));
    assert_eq!(pieces[1].as_ptr(), source[10..].as_ptr());
    assert_eq!(&pieces[2][..], b"42");
    assert_eq!(splice.finish().1, 0);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let object = proptest::collection::btree_map(any::<String>(), inner.clone(), 0..5).prop_map(|map| map.into_iter().collect());
        prop_oneof![proptest::collection::vec(inner, 0..6).prop_map(Value::Array), object]
    })
}

proptest! {
    #[test]
    fn elements_are_those_a_tree_has(elements in proptest::collection::vec(json(), 0..8), pretty in any::<bool>()) {
        let data: Vec<Value> = elements.iter().enumerate().map(|(index, element)| serde_json::json!({"embedding": element, "index": index})).collect();
        let body = serde_json::json!({"a": elements, "data": data, "z": elements});
        let body = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
        let mut shape = AnswerShape::default();
        scan_answer(body.as_bytes(), &mut shape).unwrap();
        prop_assert_eq!(shape.elements.len(), data.len());
        for (found, right) in shape.elements.iter().zip(&data) {
            prop_assert_eq!(&serde_json::from_slice::<Value>(found.span.of(body.as_bytes())).unwrap(), right);
        }
    }

    #[test]
    fn items_are_those_a_tree_has(texts in proptest::collection::vec("[^\u{0}]{1,20}", 1..10), other in json()) {
        let body = serde_json::json!({"input": texts, "model": "m", "other": other}).to_string();
        let found = scan_embeddings(body.as_bytes()).unwrap();
        let items: Vec<String> = found.items.iter().map(|item| serde_json::from_slice(item.of(body.as_bytes())).unwrap()).collect();
        prop_assert_eq!(items, texts);
    }

    #[test]
    fn any_bytes_are_harmless(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (scan_model(&body), scan_embeddings(&body), scan_answer(&body, &mut AnswerShape::default()));
    }

    #[test]
    fn nearly_json_is_harmless_and_never_taken_for_json(body in proptest::collection::vec(proptest::sample::select(b"{}[]\",:01 \\aeinputmodl".to_vec()), 0..60), tail in any::<bool>()) {
        let body = if tail { [b"{\"input\":", &body[..], b"}"].concat() } else { body };
        if scan_embeddings(&body).is_ok() || scan_model(&body).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
        }
        let _ = scan_answer(&body, &mut AnswerShape::default());
    }
}

/// Spans of a prompt as text: what stands before, the text, how much of it is the opening.
fn prompt_of(body: &str) -> Option<(Vec<&str>, &str, &str)> {
    let spans = scan_prompt(body.as_bytes())?;
    let of = |span: Span| &body[span.range()];
    let text = of(spans.text);
    Some((spans.before.iter().flatten().copied().map(of).collect(), text, &text[..spans.opening]))
}

#[test]
fn prompts_where_they_lie() {
    let system = r#"{"role":"system","content":"S"}"#;
    let user = r#"{"role" : "user","content":"a \"user\" speaks"}"#;
    let answer = r#"{"role":"assistant","content":[{"type":"text","text":"]"}]}"#;
    let chat = format!(r#"{{"model":"m","tools":[1],"messages":[{system}, {user},{answer},{user}],"n":1}}"#);
    let text = format!("[{system}, {user},{answer},{user}");
    assert_eq!(prompt_of(&chat), Some((vec!["[1]"], text.as_str(), &text[..system.len() + user.len() + 3])));
    let message = format!(r#"{{"system":"be kind","messages":[{user}]}}"#);
    assert_eq!(prompt_of(&message), Some((vec!["\"be kind\""], &*format!("[{user}"), &*format!("[{user}"))));
    let nobody = format!(r#"{{"messages":[{system},{answer}]}}"#);
    assert_eq!(prompt_of(&nobody).unwrap().2, &format!("[{system}"), "no user: the first one opens");
    let long = "x".repeat(2000);
    let plain = format!(r#"{{"prompt":"{long}"}}"#);
    let (_, text, opening) = prompt_of(&plain).unwrap();
    assert_eq!((text.len(), opening.len()), (2001, 1024));
    assert_eq!(prompt_of(r#"{"input":"hi","instructions":"I"}"#), Some((vec!["\"I\""], "\"hi", "\"hi")));
    assert_eq!(prompt_of(r#"{"messages":[]}"#), None);
    for none in
        [r#"{"model":"m"}"#, r#"{"messages":5}"#, r#"{"messages":null}"#, r#"{"prompt":{}}"#, "{", "[]", r#"{"prompt":"a","prompt":"b"}"#]
    {
        assert_eq!(prompt_of(none), None, "{none}");
    }
    // Odd elements are walked over.
    assert_eq!(prompt_of(r#"{"prompt":["a","b"]}"#), Some((vec![], r#"["a","b""#, r#"["a""#)));
}

#[test]
fn a_next_turn_begins_with_the_last() {
    let turns = [
        r#"{"messages":[{"role":"user","content":"a"}]}"#,
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#,
    ];
    let [first, second] = turns.map(|body| prompt_of(body).unwrap());
    assert!(second.1.starts_with(first.1));
    assert_eq!(first.2, second.2);
}
