//! Models with several targets, as a shard counts them: who is blamed, and what a rollout's metric measures.

use std::time::Duration;

use super::world::{End, Reply, World, ok, post};

const SPLIT: &str = r#"
[[upstreams]]
name = "old"
endpoints = ["$UP"]

[[upstreams]]
name = "new"
endpoints = ["$TWIN"]

[[upstreams]]
name = "other"
endpoints = ["$OTHER"]

[[models]]
name = "m"
targets = [{ upstream = "old" }, { upstream = "new" }]
rollout = { canary = "new", metric = $METRIC }
fallback = ["spare"]

[[models]]
name = "spare"
upstream = "other"
"#;
const SCORE: &str = r#"{ header = "X-Score", below = 0.7 }"#;
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const STEP: Duration = Duration::from_millis(100);

fn world(metric: &str, script: impl Fn(usize) -> Reply + 'static) -> World {
    World::in_virtual_time(&SPLIT.replace("$METRIC", metric), move |_, number| script(number))
}

/// Errors and good answers of the target, and what was measured of it as good and as bad. The shard has no shares here: the first
/// target takes all.
fn counted(world: &World) -> [f64; 4] {
    let requests = |outcome: &str| world.sum("headrace_split_requests_total", &format!("target=\"old\",outcome=\"{outcome}\""));
    let measured = |outcome: &str| world.sum("headrace_split_measured_total", &format!("target=\"old\",outcome=\"{outcome}\""));
    [requests("error"), requests("ok"), measured("good"), measured("bad")]
}

fn chat() -> String {
    let body = r#"{"model":"m","stream":true,"messages":[]}"#;
    post("/v1/chat/completions", body).replacen("\r\n", "\r\nconnection: close\r\n", 1)
}

fn scored(status: &str, score: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nx-score: {score}\r\ncontent-length: 2\r\n\r\n{{}}").into_bytes()
}

#[test]
fn a_target_that_fails_is_blamed_though_a_fallback_answers() {
    // What the fallback answers says nothing of the target, by whatever metric.
    let world = world(SCORE, |number| Reply::Bytes(if number == 0 { scored("500 Oh", "0.1") } else { scored("200 OK", "0.1") }));
    let answer = world.transcript(&chat());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\nx-headrace-fallback: spare\r\n"), "{answer}");
    assert_eq!(counted(&world), [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(world.sum("headrace_fallbacks_total", "model=\"m\""), 1.0);
}

#[test]
fn an_answer_is_measured_by_a_field_of_its_head() {
    for (answer, wanted) in [
        (scored("200 OK", "0.7"), [0.0, 1.0, 1.0, 0.0]),
        (scored("200 OK", "0.69"), [0.0, 1.0, 0.0, 1.0]),
        (scored("200 OK", "n/a"), [0.0, 1.0, 0.0, 0.0]),
        (scored("404 No", "0.1"), [0.0, 0.0, 0.0, 0.0]),
        (ok("{}"), [0.0, 1.0, 0.0, 0.0]),
    ] {
        let text = String::from_utf8_lossy(&answer).into_owned();
        let world = world(SCORE, move |_| Reply::Bytes(answer.clone()));
        world.transcript(&chat());
        assert_eq!(counted(&world), wanted, "{text}");
    }
}

fn event(data: &str) -> String {
    let text = format!("data: {data}\n\n");
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A first token after 100 ms, a second 100 ms later, and with it the end and the bill.
fn stream(finish: &str, tokens: u32) -> Vec<(Duration, String)> {
    let token = event(r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#);
    let end = event(&format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"{finish}"}}]}}"#));
    let usage = event(&format!(r#"{{"choices":[],"usage":{{"prompt_tokens":7,"completion_tokens":{tokens}}}}}"#));
    vec![(Duration::ZERO, HEAD.to_owned()), (STEP, token.clone()), (STEP, format!("{token}{end}{usage}{}0\r\n\r\n", event("[DONE]")))]
}

#[test]
fn a_stream_is_measured_by_its_times_its_tokens_and_its_end() {
    let (good, bad, unknown) = ([1.0, 0.0], [0.0, 1.0], [0.0, 0.0]);
    let whole = || (stream("length", 11), End::Whole);
    let mut cut = whole();
    cut.0.truncate(2);
    cut.1 = End::Close;
    let silent = stream("stop", 11).into_iter().map(|(time, text)| (time, text.replace("usage", "usages"))).collect();
    for (metric, (pieces, end), wanted) in [
        ("{ name = \"ttft_ms\", above = 150 }", whole(), good),
        ("{ name = \"ttft_ms\", above = 50 }", whole(), bad),
        // The first event tells, whatever becomes of the rest.
        ("{ name = \"ttft_ms\", above = 50 }", cut.clone(), bad),
        // Ten tokens in the 100 ms behind the first.
        ("{ name = \"tokens_per_second\", below = 90 }", whole(), good),
        ("{ name = \"tokens_per_second\", below = 110 }", whole(), bad),
        ("{ name = \"tokens_per_second\", below = 110 }", (silent, End::Whole), unknown),
        ("{ name = \"output_tokens\", below = 1 }", whole(), good),
        ("{ name = \"output_tokens\", below = 1 }", (stream("stop", 0), End::Whole), bad),
        ("{ name = \"output_tokens\", below = 1 }", cut.clone(), unknown),
        ("{ finish = [\"length\", \"content_filter\"] }", whole(), bad),
        ("{ finish = [\"length\", \"content_filter\"] }", (stream("stop", 2), End::Whole), good),
        ("{ finish = [\"length\", \"content_filter\"] }", cut, unknown),
        (SCORE, whole(), unknown),
    ] {
        let world = world(metric, move |_| Reply::Pieces(pieces.clone(), end));
        world.transcript(&chat());
        let [.., is_good, is_bad] = counted(&world);
        assert_eq!([is_good, is_bad], wanted, "{metric}");
    }
}

#[test]
fn an_error_told_within_a_stream_is_an_end_like_others() {
    let mut pieces = stream("stop", 2);
    pieces[2].1 = format!("{}{}0\r\n\r\n", event(r#"{"error":{"type":"internal_error","message":"oh"}}"#), event("[DONE]"));
    let world = world("{ finish = [\"error\"] }", move |_| Reply::Pieces(pieces.clone(), End::Whole));
    world.transcript(&chat());
    assert_eq!(counted(&world), [0.0, 1.0, 0.0, 1.0], "its status was 200: only the metric knows");
}
