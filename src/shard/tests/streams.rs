//! Event streams: what the client sees of them, whole, cut, or beginning with an error.

use std::time::Duration;

use super::world::{CHAT, End, Reply, World, ok, post, read_to_close};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_millis(20);

fn two_endpoints() -> String {
    CHAT.replace("[\"$UP\"]", "[\"$UP\", \"$OTHER\"]")
}

/// A chunk that is one event with this data.
fn event(data: &str) -> String {
    chunk(&format!("data: {data}\n\n"))
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn token(text: &str) -> String {
    event(&format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#))
}

fn chat() -> String {
    post("/v1/chat/completions", r#"{"model":"m","stream":true,"messages":[]}"#)
}

/// The body of a chunked answer, and whether its last chunk came.
fn body(answer: &str) -> (String, bool) {
    let mut rest = answer.split_once("\r\n\r\n").unwrap().1;
    let mut body = String::new();
    while let Some((len, more)) = rest.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).unwrap();
        if len == 0 {
            return (body, true);
        }
        body.push_str(&more[..len]);
        rest = &more[len + 2..];
    }
    (body, false)
}

fn ask(world: &World, bytes: &str) -> (String, bool) {
    let (rt, address, bytes) = (world.rt.clone(), world.address.clone(), bytes.as_bytes().to_vec());
    world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(bytes).await.unwrap();
        read_to_close(&socket).await
    })
}

#[test]
fn a_stream_goes_on_as_it_is_and_is_counted() {
    let usage = event(r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#);
    let end = format!("{}{usage}{}0\r\n\r\n", event(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#), event("[DONE]"));
    let pieces = vec![
        (NOW, HEAD.to_owned()),
        (SOON, token("a")),
        (SOON, token("b")[..9].to_owned()),
        (SOON, token("b")[9..].to_owned()),
        (SOON, end),
    ];
    let sent: String = pieces[1..].iter().map(|(_, piece)| piece.as_str()).collect();
    let expected = body(&format!("\r\n\r\n{sent}")).0;
    let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), End::Whole));
    let (answer, in_order) = ask(&world, &chat());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && in_order, "{answer}");
    assert_eq!(body(&answer), (expected, true));
    assert_eq!(world.metric("headrace_streams_total{route=\"\",model=\"m\",outcome=\"complete\"}"), 1.0);
    assert_eq!(world.metric("headrace_stream_tokens_total{route=\"\",model=\"m\",kind=\"input\"}"), 7.0);
    assert_eq!(world.metric("headrace_stream_tokens_total{route=\"\",model=\"m\",kind=\"output\"}"), 2.0);
    let ttft = world.metric("headrace_stream_ttft_seconds_sum{route=\"\",model=\"m\"}");
    assert!((0.02..0.03).contains(&ttft), "{ttft}");
    assert_eq!(world.metric("headrace_stream_itl_seconds_count{route=\"\",model=\"m\"}"), 2.0, "one for b, one for the end");
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"ok\""), 1.0);
}

/// No timer and no full buffer is waited for: each piece is here before the next is sent.
#[test]
fn each_event_is_passed_on_before_the_next_comes() {
    let second = Duration::from_secs(1);
    let pieces: Vec<_> = [HEAD.to_owned()].into_iter().chain((0..5).map(|n| token(&n.to_string()))).map(|piece| (second, piece)).collect();
    let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), End::Silence));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let times = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        let begin = rt.now();
        socket.send(chat().into_bytes()).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..5 {
            let lease = socket.recv().await.unwrap().unwrap();
            assert!(lease.ends_with(b"\n\n\r\n"));
            times.push(rt.now().since(begin));
        }
        times
    });
    for (time, number) in times.iter().zip(2..) {
        assert!(*time < second * number + SOON, "{times:?}");
    }
}

#[test]
fn a_stream_that_dies_ends_with_an_error_event_and_no_clean_end() {
    for (end, cut) in [(End::Close, ""), (End::Reset, ""), (End::Close, "data: {\"half"), (End::Close, "event: x\n")] {
        let pieces = vec![
            (NOW, format!("{HEAD}{}", token("a"))),
            (SOON, format!("{}{}", token("b"), if cut.is_empty() { String::new() } else { chunk(cut) })),
        ];
        // A reset right behind the bytes may overtake them, as it may in a real network.
        let pieces = if end == End::Reset { pieces.into_iter().chain([(SOON, String::new())]).collect() } else { pieces };
        let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), end));
        let (answer, in_order) = ask(&world, &chat());
        let (body, whole) = body(&answer);
        assert!(!whole && in_order, "cut, and not by a reset that would destroy what was said: {answer}");
        let last = body.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with("data: {\"error\":{\"message\":\"The model server closed") && body.ends_with("}\n\n"), "{body}");
        assert!(last.contains("\"code\":\"upstream_broken\"") && !body.contains("[DONE]"), "{body}");
        assert_eq!(world.metric("headrace_streams_total{route=\"\",model=\"m\",outcome=\"died\"}"), 1.0);
        assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"transport\""), 1.0);
        assert_eq!(world.metric("headrace_requests_total{route=\"\",model=\"m\",status=\"502\"}"), 1.0);
    }
}

#[test]
fn the_error_event_wears_the_clients_dialect() {
    let first = format!("{HEAD}{}", chunk("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n"));
    let cut = first.clone();
    let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(vec![(NOW, cut.clone())], End::Close));
    let (answer, _) = ask(&world, &post("/v1/messages", r#"{"model":"m","stream":true}"#));
    assert!(body(&answer).0.contains("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""), "{answer}");
    let (answer, _) = ask(&world, &post("/v1/responses", r#"{"model":"m","stream":true}"#));
    assert!(body(&answer).0.contains("event: error\ndata: {\"type\":\"error\",\"code\":\"upstream_broken\""), "{answer}");
    // A route's stream ends in the same way.
    let (answer, _) = ask(&world, &post("/plain/events", ""));
    assert!(!body(&answer).1 && body(&answer).0.contains("data: {\"error\":"), "{answer}");
}

#[test]
fn a_stream_that_ends_with_its_connection_is_whole_only_when_it_says_so() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    for (last, whole) in [("data: [DONE]\n\n", true), ("data: [DONE]", true), ("data: {\"choices\":[]}\n\n", false)] {
        let pieces = vec![(NOW, format!("{head}data: {{}}\n\n{last}"))];
        let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), End::Close));
        let (answer, _) = ask(&world, &chat());
        assert_eq!(body(&answer).1, whole, "{answer}");
        assert_eq!(answer.contains("upstream_broken"), !whole, "{answer}");
        let (answer, _) = ask(&world, &post("/plain", ""));
        assert!(body(&answer).1, "what a route's stream says at its end is not known: {answer}");
    }
}

#[test]
fn an_old_client_hears_the_error_and_the_close() {
    let pieces = vec![(NOW, format!("{HEAD}{}", token("a")))];
    let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), End::Close));
    let body = r#"{"model":"m","stream":true}"#;
    let (answer, _) =
        ask(&world, &format!("POST /v1/chat/completions HTTP/1.0\r\nhost: g\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    assert!(!answer.contains("transfer-encoding") && answer.contains("\n\ndata: {\"error\":"), "{answer}");
}

const OVERLOADED: &str = r#"{"error":{"message":"busy","type":"server_error","code":503}}"#;

#[test]
fn a_first_event_that_is_an_error_is_tried_elsewhere() {
    let refused = format!("{HEAD}{}{}0\r\n\r\n", event(OVERLOADED), event("[DONE]"));
    let good = format!("{HEAD}{}{}0\r\n\r\n", token("a"), event("[DONE]"));
    let script = move |number: usize| Reply::Pieces(vec![(NOW, if number == 0 { refused.clone() } else { good.clone() })], End::Whole);
    let world = World::in_virtual_time(&two_endpoints(), move |_, number| script(number));
    let (answer, _) = ask(&world, &chat());
    assert!(body(&answer).1 && answer.contains("\"content\":\"a\"") && !answer.contains("busy"), "{answer}");
    assert_eq!(world.seen.borrow().len(), 2);
    assert_eq!(world.sum("headrace_upstream_retries_total", "gpu"), 1.0);
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"server_error\""), 1.0);
    assert_eq!(world.sum("headrace_streams_total", "model=\"m\""), 1.0, "what was tried and not passed on is no stream");
}

/// The comment in front of it is held back with it, and so is a part of an event.
#[test]
fn what_comes_before_the_first_event_does_not_commit() {
    let refused = vec![
        (NOW, HEAD.to_owned()),
        (SOON, chunk(": working\n\n")),
        (SOON, chunk("data: {\"error\"")),
        (SOON, chunk(":{\"code\":429}}\r\n\r\n")),
    ];
    let good = vec![(NOW, format!("{HEAD}{}0\r\n\r\n", token("a")))];
    let world = World::in_virtual_time(&two_endpoints(), move |_, number| {
        if number == 0 { Reply::Pieces(refused.clone(), End::Silence) } else { Reply::Pieces(good.clone(), End::Whole) }
    });
    let (answer, _) = ask(&world, &chat());
    assert!(body(&answer).1 && answer.contains("\"content\":\"a\"") && !answer.contains("working"), "{answer}");
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"rate_limited\""), 1.0);
    assert_eq!(world.aborted.get(), 1, "the refused stream's connection is closed");
}

#[test]
fn an_error_that_every_server_would_tell_is_passed_on_as_it_came() {
    let told = event(r#"{"error":{"message":"too long","type":"BadRequestError","code":400}}"#);
    let pieces = vec![(NOW, format!("{HEAD}{told}{}0\r\n\r\n", event("[DONE]")))];
    let world = World::in_virtual_time(&two_endpoints(), move |_, _| Reply::Pieces(pieces.clone(), End::Whole));
    let (answer, _) = ask(&world, &chat());
    assert!(answer.starts_with("HTTP/1.1 200") && body(&answer).1 && answer.contains("too long") && answer.contains("[DONE]"), "{answer}");
    assert_eq!(world.seen.borrow().len(), 1);
    assert_eq!(world.sum("headrace_streams_total", "outcome=\"error\""), 1.0);
    assert_eq!(world.sum("headrace_upstream_requests_total", "outcome=\"client_error\""), 1.0);
}

#[test]
fn without_another_endpoint_the_servers_own_error_is_passed_on() {
    let pieces = vec![(NOW, format!("{HEAD}{}{}0\r\n\r\n", event(OVERLOADED), event("[DONE]")))];
    let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), End::Whole));
    let (answer, _) = ask(&world, &chat());
    assert!(body(&answer).1 && answer.contains("busy"), "{answer}");
    assert_eq!(world.seen.borrow().len(), 1, "the same server is not asked again at once");
}

#[test]
fn a_death_before_the_first_event_is_a_real_status() {
    for text in ["", "data: {\"half", ": comment\n\n"] {
        let pieces = vec![(NOW, format!("{HEAD}{}", if text.is_empty() { String::new() } else { chunk(text) }))];
        let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), End::Close));
        let (answer, _) = ask(&world, &chat());
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("x-headrace-error: upstream_broken\r\n"), "{answer}");
        assert!(answer.contains("application/json"), "{answer}");
    }
}

#[test]
fn what_is_no_event_stream_is_relayed_as_ever() {
    let world = World::in_virtual_time(CHAT, |_, number| match number {
        // A stream request answered with JSON keeps its type and its status.
        0 => Reply::Bytes(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
        // A compressed stream cannot be read; a promised length cannot be added to.
        1 => Reply::Bytes(
            format!("{}{}0\r\n\r\n", HEAD.replace("\r\n\r\n", "\r\ncontent-encoding: gzip\r\n\r\n"), chunk("zzzz")).into_bytes(),
        ),
        2 => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\ndata: a\n\n".to_vec()),
        3 => Reply::Bytes(format!("{HEAD}0\r\n\r\n").into_bytes()),
        _ => Reply::Bytes(ok("{}")),
    });
    let (answer, _) = ask(&world, &chat());
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("content-type: application/json\r\n"), "{answer}");
    assert_eq!(body(&ask(&world, &chat()).0), ("zzzz".to_owned(), true));
    assert!(ask(&world, &chat()).0.ends_with("data: a\n\n"));
    assert_eq!(body(&ask(&world, &chat()).0), (String::new(), true), "a stream without events is whole");
    assert!(ask(&world, &chat()).0.ends_with("{}"));
}

#[test]
fn a_quiet_stream_gets_signs_of_life_where_that_is_asked_for() {
    let minute = Duration::from_mins(1);
    let pieces = vec![
        (NOW, HEAD.to_owned()),
        (minute, token("a")),
        (minute, chunk("data: x")),
        (minute, format!("{}{}0\r\n\r\n", chunk("\n\n"), event("[DONE]"))),
    ];
    let config = CHAT.replace("name = \"m\"", "name = \"m\"\nstream_comments = \"25s\"");
    let script = pieces.clone();
    let world = World::in_virtual_time(&config, move |_, _| Reply::Pieces(script.clone(), End::Whole));
    let (body, whole) = body(&ask(&world, &chat()).0);
    let token_a = token("a");
    let token_a = token_a.split("\r\n").nth(1).unwrap();
    let life = ": keep-alive\n\n";
    // None while an event is half here: the third minute.
    assert_eq!((body, whole), (format!("{life}{life}{token_a}{life}{life}data: x\n\ndata: [DONE]\n\n"), true));
    let (answer, _) = ask(&world, &post("/v1/messages", r#"{"model":"m"}"#));
    assert!(answer.contains("event: ping\ndata: {\"type\": \"ping\"}\n\n"), "{answer}");
    let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), End::Whole));
    assert!(!ask(&world, &chat()).0.contains("keep-alive"), "off by default");
}

/// A server that sends faster than the client reads is held back, and so is what we keep.
#[test]
fn a_client_that_reads_slowly_holds_the_server_back() {
    let event = token(&"x".repeat(2000));
    let pieces: Vec<_> = std::iter::once((NOW, HEAD.to_owned())).chain((0..2000).map(|_| (NOW, event.clone()))).collect();
    let world = World::in_virtual_time(CHAT, move |_, _| Reply::Pieces(pieces.clone(), End::Close));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let (len, leased) = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(chat().into_bytes()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_secs(5)).await;
        let leased = rt.stats().leased_buffers;
        (read_to_close(&socket).await.0.len(), leased)
    });
    assert!(leased < 64, "{leased}");
    assert!(len > 2000 * 2000, "all of it came: {len}");
}
