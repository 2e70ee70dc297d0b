//! Streams as the APIs send them: their ends, their bills, their errors; and error events in each dialect.

use proptest::prelude::*;

use super::shape::{SHAPE_BYTES_MAX, Shape};
use super::{Dialect, ErrorFacts, Finish, Said, StreamError, StreamTap, Usage};

const FACTS: ErrorFacts<'_> = ErrorFacts { status: 502, reason: "upstream_broken", message: "It \"broke\"." };

#[test]
fn an_error_in_a_stream_is_an_event_of_its_dialect() {
    let event = |dialect: Dialect| {
        let mut out = Vec::new();
        dialect.write_error_event(&mut out, FACTS);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        event(Dialect::OpenAi),
        "data: {\"error\":{\"message\":\"It \\\"broke\\\".\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream_broken\"}}\n\n"
    );
    assert_eq!(
        event(Dialect::Anthropic),
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"It \\\"broke\\\".\"}}\n\n"
    );
    assert_eq!(
        event(Dialect::Responses),
        "event: error\ndata: {\"type\":\"error\",\"code\":\"upstream_broken\",\"message\":\"It \\\"broke\\\".\",\"param\":null}\n\n"
    );
}

/// An event of our own is read by our own tap as what it is.
#[test]
fn our_own_error_events_are_errors_to_the_tap() {
    for (dialect, name) in [(Dialect::OpenAi, ""), (Dialect::Anthropic, "error"), (Dialect::Responses, "error")] {
        let mut out = Vec::new();
        dialect.write_error_event(&mut out, FACTS);
        let text = String::from_utf8(out).unwrap();
        let data = text.split_once("data: ").unwrap().1.trim_end();
        assert_eq!(
            StreamTap::default().handle_event(name.as_bytes(), Some(data.as_bytes())),
            Said::Error(StreamError::Transient),
            "{text}"
        );
    }
}

fn told(events: &[(&str, &str)]) -> StreamTap {
    let mut tap = StreamTap::default();
    for (name, data) in events {
        tap.handle_event(name.as_bytes(), Some(data.as_bytes()));
    }
    tap
}

fn usage(input: u64, output: u64, cached: Option<u64>) -> Option<Usage> {
    Some(Usage { input: Some(input), output: Some(output), cached })
}

#[test]
fn a_chat_stream_tells_its_end_and_its_bill() {
    let tap = told(&[
        (
            "",
            r#"{"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}],"usage":null}"#,
        ),
        (
            "",
            r#"{"choices":[{"index":0,"delta":{"content":"{\"usage\":{\"prompt_tokens\":99}} \"finish_reason\":\"length\""},"finish_reason":null}]}"#,
        ),
    ]);
    assert!(!tap.is_over());
    assert_eq!((tap.facts().usage, tap.facts().finish), (None, None), "what is generated is not what is said about it");
    let tap = told(&[
        (
            "",
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a}"}}]},"finish_reason":null},{"index":1,"delta":{},"finish_reason":"tool_calls"}]}"#,
        ),
        (
            "",
            r#"{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46,"prompt_tokens_details":{"cached_tokens":8}}}"#,
        ),
        ("", "[DONE]"),
    ]);
    assert!(tap.facts().is_done);
    assert_eq!((tap.facts().finish, tap.facts().usage), (Some(Finish::ToolCalls), usage(12, 34, Some(8))));
}

#[test]
fn usage_in_the_chunk_that_finishes_is_found_too() {
    let tap = told(&[("", r#"{"choices":[{"text":"","finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#)]);
    assert!(tap.is_over() && !tap.facts().is_done);
    assert_eq!((tap.facts().finish, tap.facts().usage), (Some(Finish::Length), usage(1, 2, None)));
}

#[test]
fn a_stream_of_messages_tells_its_end_and_its_bill() {
    let mut tap = told(&[(
        "message_start",
        r#"{"type":"message_start","message":{"id":"m","content":[],"stop_reason":null,"usage":{"input_tokens":10,"cache_read_input_tokens":90,"cache_creation_input_tokens":5,"output_tokens":1}}}"#,
    )]);
    assert_eq!(tap.facts().usage, usage(105, 1, Some(90)));
    assert_eq!(tap.handle_event(b"ping", Some(br#"{"type": "ping"}"#)), Said::Ping);
    tap.handle_event(
        b"message_delta",
        Some(br#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":77}}"#),
    );
    assert!(!tap.facts().is_done);
    tap.handle_event(b"message_stop", Some(br#"{"type":"message_stop"}"#));
    assert!(tap.facts().is_done);
    assert_eq!((tap.facts().finish, tap.facts().usage), (Some(Finish::Length), usage(105, 77, Some(90))));
}

#[test]
fn a_stream_of_responses_tells_its_end_and_its_bill() {
    let created = r#"{"type":"response.created","sequence_number":0,"response":{"status":"in_progress","usage":null,"error":null}}"#;
    let tap = told(&[("response.created", created)]);
    assert!(!tap.is_over());
    let completed = r#"{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":2},"output_tokens":4}}}"#;
    let tap = told(&[("response.completed", completed)]);
    assert_eq!((tap.facts().finish, tap.facts().usage), (Some(Finish::Stop), usage(3, 4, Some(2))));
    let cut = r#"{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}}"#;
    assert_eq!(told(&[("response.incomplete", cut)]).facts().finish, Some(Finish::Length));
    let failed = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"}}}"#;
    assert_eq!(told(&[("response.failed", failed)]).facts().error, Some(StreamError::Transient));
    let mut tap = StreamTap::default();
    tap.handle_event(b"response.completed", None);
    assert!(tap.facts().is_done && tap.facts().usage.is_none(), "too long to be read: the end is known, the bill is not");
    assert_eq!(tap.facts().unknown_count, 1);
}

#[test]
fn errors_are_told_by_whether_another_server_could_help() {
    let cases: &[(&str, &str, StreamError)] = &[
        ("error", r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, StreamError::Transient),
        ("error", r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#, StreamError::RateLimited),
        ("error", r#"{"type":"error","error":{"type":"invalid_request_error","message":"m"}}"#, StreamError::Client),
        ("", r#"{"error":{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}}"#, StreamError::Client),
        ("", r#"{"error":{"object":"error","message":"m","type":"InternalServerError","param":null,"code":500}}"#, StreamError::Transient),
        ("", r#"{"error":{"message":"m","type":"server_error","code":null}}"#, StreamError::Transient),
        ("", r#"{"error":{"message":"m","code":429}}"#, StreamError::RateLimited),
        ("", r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#, StreamError::Client),
        ("", r#"{"error":"out of memory"}"#, StreamError::Transient),
        ("error", r#"{"type":"error","code":"rate_limit_exceeded","message":"m","param":null}"#, StreamError::RateLimited),
        ("error", "not json", StreamError::Transient),
    ];
    for (name, data, error) in cases {
        let mut tap = StreamTap::default();
        assert_eq!(tap.handle_event(name.as_bytes(), Some(data.as_bytes())), Said::Error(*error), "{data}");
        assert_eq!(tap.facts().error, Some(*error));
    }
    assert_eq!(told(&[("", r#"{"error":null,"choices":[]}"#)]).facts().error, None);
    assert_eq!(told(&[("", "not json"), ("", "[1]"), ("", "")]).facts().unknown_count, 3);
}

const CHUNK: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}],"usage":null}"#;

fn chunk(text: &str) -> String {
    CHUNK.replace('@', text)
}

#[test]
fn an_event_fits_when_only_its_text_differs() {
    let shape = Shape::of(chunk("a").as_bytes()).unwrap();
    for text in ["", "b", "a longer text, of several words", "{}[]:,'", "\u{e9}\u{1f600}"] {
        assert!(shape.fits(chunk(text).as_bytes()), "{text}");
    }
    // The second ends the string and the generation, and begins another of the same form.
    let two = r#"a"},"finish_reason":"stop"},{"index":1,"delta":{"content":"b"#;
    for text in ["\\n", two, "a\nb", "\u{0}"] {
        assert!(!shape.fits(chunk(text).as_bytes()), "{text}");
    }
    let mut torn = chunk("b").into_bytes();
    let at = torn.windows(2).position(|pair| pair == b"b\"").unwrap();
    torn[at] = 0xff;
    assert!(!shape.fits(&torn), "not UTF-8");
    assert!(!shape.fits(chunk("b").replace("null}", "\"stop\"}").as_bytes()));
    assert!(!shape.fits(&chunk("b").as_bytes()[..60]));
    assert!(!Shape::default().fits(b"") && !Shape::default().fits(b"{}"));
}

#[test]
fn a_shape_is_learned_where_text_is_generated_and_nowhere_else() {
    for data in [
        r#"{"type":"response.output_text.delta","delta":"a"}"#,
        r#"{"choices":[{"text": "a"}]}"#,
        r#"{"content":"a","stop":false}"#,
        r#"{"content":{"type":"x","text":"a"}}"#,
    ] {
        assert!(Shape::of(data.as_bytes()).unwrap().fits(data.replace("\"a\"", "\"else\"").as_bytes()), "{data}");
    }
    let long = format!("{{\"id\":\"{}\",\"content\":\"a\"}}", "x".repeat(SHAPE_BYTES_MAX));
    for data in ["", "[DONE]", "{}", r#"{"type":"ping"}"#, r#"{"a":"content"}"#, r#"{"content":null,"b":"c"}"#, r#"["content","a"]"#, &long]
    {
        assert_eq!(Shape::of(data.as_bytes()), None, "{data}");
    }
}

#[test]
fn an_event_that_says_something_is_forgotten_as_a_shape() {
    let billed = |tokens: u32| chunk("a").replace("\"usage\":null", &format!("\"usage\":{{\"completion_tokens\":{tokens}}}"));
    let tap = told(&[("", &billed(5)), ("", &billed(5)), ("", &billed(7)), ("", &billed(5))]);
    assert_eq!(tap.facts().usage.unwrap().output, Some(5), "what was learned before the second bill no longer says nothing");
}

proptest! {
    /// Whatever a stream consists of, a tap that knows its shape says what one says that reads every event.
    #[test]
    fn a_tap_that_knows_the_shape_says_what_reading_says(picks in prop::collection::vec((0..9_usize, 0..9_usize), 0..40)) {
        const TEXTS: [&str; 9] = ["", "a", "b c", "\u{e9}", "\\\"", "\\\\", "x\"},\"finish_reason\":\"stop\"},{\"delta\":{\"content\":\"y", "\n", "null"];
        let events = [
            CHUNK.to_owned(),
            CHUNK.replace("\"content\"", "\"role\":\"assistant\",\"content\""),
            CHUNK.replace("null}", "\"length\"}"),
            CHUNK.replace("\"usage\":null", "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}"),
            CHUNK.replace("\"usage\":null", "\"usage\":{\"completion_tokens\":9}"),
            r#"{"type":"@","delta":"x"}"#.to_owned(),
            r#"{"type":"error","message":"@"}"#.to_owned(),
            r#"{"error":{"type":"@"}}"#.to_owned(),
            "[DONE]".to_owned(),
        ];
        let (mut knows, mut reads) = (StreamTap::default(), StreamTap::default());
        for (event, text) in picks {
            let data = events[event].replace('@', TEXTS[text]);
            let said = knows.handle_event(b"", Some(data.as_bytes()));
            prop_assert_eq!(said, reads.read_event(b"", Some(data.as_bytes())), "{}", data);
            prop_assert_eq!(knows.facts(), reads.facts(), "{}", data);
        }
    }
}
