//! Streams as the APIs send them: their ends, their bills, their errors; and error events in each dialect.

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
