//! Bodies of model calls, compared with a parser that builds a tree: what is accepted is JSON, the model is the same, and the items
//! are the elements of `input`, in order.
#![cfg_attr(fuzzing, no_main)]

use headrace::json::{EmbeddingsRequest, ItemKind, scan_embeddings, scan_model};
use headrace_fuzz::kind;
use serde_json::Value;
use serde_json::value::RawValue;

headrace_fuzz::main!("json_request", target, TOKENS);

fn target(data: &[u8]) -> u64 {
    let model = scan_model(data);
    let embeddings = scan_embeddings(data);
    let tree: Option<Value> = serde_json::from_slice(data).ok();
    if let (Ok(found), Some(tree)) = (&model, &tree) {
        assert!(tree.is_object());
        assert_eq!(found.model.map(|model| model.decode(data).into_owned()).as_deref(), tree["model"].as_str());
        assert_eq!(found.stream, tree["stream"] == Value::Bool(true));
    }
    if let Ok(request) = &embeddings {
        // It does not look at `stream`, which may stand twice or hold what is no text for it.
        assert!(model.as_ref().map_or(true, |found| request.model == found.model));
        compare_items(request, data, tree.as_ref());
    }
    if model.is_ok() {
        // The grammar alone: a tree cannot hold lone surrogates, numbers beyond a double and deep nests, a span can. And texts that
        // are not UTF-8 pass in fields that are not looked at.
        let text = String::from_utf8_lossy(data);
        assert!(serde_json::from_str::<&RawValue>(&text).is_ok(), "accepted, but no JSON");
    }
    match (model, embeddings) {
        (Ok(model), Ok(found)) => {
            kind((model.model.is_some(), model.stream, found.items.len().min(9), format!("{:?}", found.kind), found.solo))
        }
        (model, embeddings) => kind((model.err().map(|error| error.reason), embeddings.err().map(|error| error.reason))),
    }
}

fn compare_items(request: &EmbeddingsRequest, data: &[u8], tree: Option<&Value>) {
    let input = request.input.of(data);
    assert!(request.items.iter().all(|item| item.start >= request.input.start && item.end() <= request.input.end()));
    assert_eq!(request.mergeable(), !request.items.is_empty());
    assert!(std::str::from_utf8(input).is_ok(), "what goes into a merged body is text");
    let Some(tree) = tree else { return };
    assert_eq!(serde_json::from_slice::<Value>(input).ok().as_ref(), Some(&tree["input"]));
    if request.mergeable() {
        let items: Vec<Value> = request.items.iter().map(|item| serde_json::from_slice(item.of(data)).expect("an item is JSON")).collect();
        let expected = match (&tree["input"], request.kind) {
            (Value::Array(all), ItemKind::Text) => all.clone(),
            (Value::Array(all), ItemKind::Tokens) if all.first().is_some_and(Value::is_array) => all.clone(),
            (one, _) => vec![one.clone()],
        };
        assert_eq!(items, expected);
    }
}

const TOKENS: &[&str] = &[
    "\"model\":",
    "\"m\"",
    "\"input\":",
    "\"stream\":true",
    "[1,2]",
    "[[1],[2,3]]",
    "[\"a\",\"b\"]",
    "\"\\u00e9\"",
    "\"\\ud800\"",
    "\"\\\"\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    "null",
    "true",
    "1e5",
    "-0",
    "1.5",
    " ",
    "\\",
    "é",
];
