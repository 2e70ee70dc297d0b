//! Held against `serde_json`: what is taken here it takes too, with the same values; and plain JSON is taken.

#![expect(clippy::disallowed_types, reason = "proptest's prop_oneof! shares its strategies in an Arc")]

use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use serde_json::Value;

use super::{members, members_in, plain_len, slice_in};

/// Any JSON value.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[ -~]{0,3}[\\n\\t\"\\\\\u{e9}]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]{0,6}", inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Pieces that make JSON, nearly JSON, and none.
fn shards() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"model\"",
        "\"m\"",
        "\"mod\\u0065l\"",
        "\"",
        "\\",
        "\\u00e9",
        "\\u12",
        "\\x",
        "1",
        "-",
        "0",
        "01",
        "1.5",
        "1.",
        "e9",
        "E+2",
        "true",
        "false",
        "null",
        "nul",
        " ",
        "\n",
        "\t",
        "\u{1}",
        "\u{e9}",
        "\"a b\"",
        "{\"model\":\"m\"}",
        "{\"a\":[1,{}],\"model\":2}",
        "[[[]]]",
    ]);
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn wrapped() -> impl Strategy<Value = String> {
    prop_oneof![
        shards(),
        shards().prop_map(|text| format!("{{\"model\":{text}}}")),
        shards().prop_map(|text| format!("{{\"x\":[{text}],\"model\":\"m\"}}"))
    ]
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_taken_here_is_json_with_the_same_values(text in wrapped()) {
        let Some([model]) = members(text.as_bytes(), [b"model"]) else { return Ok(()) };
        let tree: Value = match serde_json::from_str(&text) {
            Ok(tree) => tree,
            // Numbers out of range are JSON all the same; a lone surrogate too.
            Err(error) => {
                let said = error.to_string();
                prop_assert!(said.contains("out of range") || said.contains("surrogate") || said.contains("hex escape"), "{text}: {said}");
                return Ok(());
            }
        };
        prop_assert!(tree.is_object());
        let found = model.map(|span| serde_json::from_slice::<Value>(span.of(text.as_bytes())).expect("a value"));
        prop_assert_eq!(found.as_ref(), tree.get("model"), "{}", text);
    }

    #[test]
    fn plain_json_is_taken(inner in value(), before in "[a-z]{1,5}", pretty in any::<bool>()) {
        let tree = serde_json::json!({ format!("x{before}"): inner.clone(), "model": inner });
        let text = if pretty { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) }.expect("it can be written");
        let found = members(text.as_bytes(), [b"model", b"missing"]);
        let Some([Some(model), None]) = found else { return Err(proptest::test_runner::TestCaseError::fail(format!("{text}: {found:?}"))) };
        // Read back, not `tree`: a float's last digit may change on its way through text.
        let read: Value = serde_json::from_str(&text).expect("it can be read");
        prop_assert_eq!(&serde_json::from_slice::<Value>(model.of(text.as_bytes())).expect("a value"), &read["model"]);
    }
}

/// `text` cut at the given places.
fn cut<'a>(text: &'a str, places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place % (text.len() + 1)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4096))]

    #[test]
    fn pieces_are_read_as_the_whole_is(text in wrapped(), places in proptest::collection::vec(any::<usize>(), 0..6)) {
        let pieces = cut(&text, &places);
        let whole = members(text.as_bytes(), [b"model"]);
        match members_in(&pieces, [b"model"]) {
            Some(found) => {
                prop_assert_eq!(Some(found), whole);
                let value = found[0].map(|span| slice_in(&pieces, span));
                prop_assert_eq!(value, found[0].map(|span| Some(span.of(text.as_bytes()))));
            }
            // Not plain as a whole, or a top-level key or the value lies across a border.
            None => prop_assert!(whole.is_none() || pieces.len() > 1),
        }
    }

    #[test]
    fn a_border_inside_what_nobody_asks_for_does_no_harm(inner in value(), places in proptest::collection::vec(any::<usize>(), 0..6)) {
        let inner = inner.to_string();
        let [before, after] = ["{\"model\":\"m\",\"x\":", "}"];
        let pieces: Vec<&[u8]> = [vec![before.as_bytes()], cut(&inner, &places), vec![after.as_bytes()]].concat();
        prop_assert_eq!(members_in(&pieces, [b"model"]), members(pieces.concat().as_slice(), [b"model"]));
        prop_assert!(members_in(&pieces, [b"model"]).is_some());
    }
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4096))]

    #[test]
    fn a_plain_run_ends_where_a_look_at_each_byte_says(
        run in "[ -!#-\\[\\]-~\u{80}-\u{2ff}]{0,90}",
        end in proptest::collection::vec(any::<u8>(), 0..10),
    ) {
        let text = [run.as_bytes(), &end].concat();
        let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(text.len());
        prop_assert_eq!(plain_len(&text), expected);
    }
}

#[test]
fn a_border_in_a_key_or_in_a_value_that_is_asked_for_is_left_to_the_slow_way() {
    for pieces in [["{\"mo", "del\":\"m\"}"], ["{\"model\":\"m", "\"}"]] {
        assert_eq!(members_in(&pieces.map(str::as_bytes), [b"model"]), None, "{pieces:?}");
    }
    let pieces = ["{\"model\"", ":", "", "\"m\"", "}"].map(str::as_bytes);
    assert_eq!(members_in(&pieces, [b"model"]).and_then(|[found]| slice_in(&pieces, found?)), Some(&b"\"m\""[..]));
}

#[test]
fn what_is_not_plain_is_left_to_the_slow_way() {
    for text in [
        "",
        "[]",
        "{",
        "{}x",
        "{\"model\":1,}",
        "{\"model\":1,\"model\":1}",
        "{\"mod\\u0065l\":1}",
        "{\"a\" 1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":-}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":[1 2]}",
        "{\"a\":[}]}",
        "{\"a\":{\"b\"}}",
        "{\"a\":tru}",
        "{a:1}",
        "{\"a\":\"",
    ] {
        assert_eq!(members(text.as_bytes(), [b"model"]), None, "{text}");
    }
    assert_eq!(members(b"{\"model\":\"\xff\"}", [b"model"]), None, "a value that is asked for is text");
}
