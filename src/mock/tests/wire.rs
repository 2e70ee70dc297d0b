//! What a client of the mock sees, byte by byte, over loopback and with both drivers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Io;
use crate::mock::{Mock, MockConfig, own_runtime, reply, token_item, vector};
use crate::runtime::{RealClock, Rt, Socket};
use crate::sys::EventFd;
use crate::sys::net::Address;

/// A mock and its only client in one runtime.
pub(super) struct Scene {
    pub(super) rt: Rt,
    pub(super) mock: Mock,
    pub(super) address: Address,
}

/// Runs `test` once per driver that this host grants.
pub(super) fn scenes(config: &MockConfig, test: impl Fn(&Scene)) {
    for io in [Io::Epoll, Io::Uring] {
        let rt = match own_runtime(io, RealClock::start(), &EventFd::new().unwrap()) {
            Ok(rt) => rt,
            Err(error) if io == Io::Uring => {
                eprintln!("io_uring is refused here, only epoll is tested: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let listener = rt.listen(&Address::Tcp("127.0.0.1:0".parse().unwrap()), 64).unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let mock = Mock::new(config.clone());
        let (serving, rt2) = (mock.clone(), rt.clone());
        rt.spawn(async move { serving.serve(rt2, listener).await });
        let scene = Scene { rt, mock, address };
        test(&scene);
        scene.rt.shut_down();
    }
}

/// An answer, taken apart by a reader that knows only the two framings the mock uses.
#[derive(Debug)]
struct Seen {
    status: u16,
    head: String,
    body: String,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn of(text: &str) -> Seen {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if head.contains("transfer-encoding: chunked") { dechunk(body) } else { body.to_owned() };
        Seen { status, head: head.to_owned(), body }
    }
}

fn dechunk(mut text: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&rest[..size]);
        text = rest[size..].strip_prefix("\r\n").unwrap();
    }
    assert!(text.is_empty(), "bytes behind the last chunk: {text:?}");
    out
}

async fn read_to_end(socket: &Socket) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(lease)) = socket.recv().await {
        bytes.extend_from_slice(&lease);
    }
    String::from_utf8(bytes).unwrap()
}

impl Scene {
    /// Sends `text` and returns everything until the mock closes.
    fn say(&self, text: String) -> String {
        let (rt, address) = (self.rt.clone(), self.address.clone());
        let work = async move {
            let socket = rt.connect(&address).await.unwrap();
            socket.start_send(text.into_bytes());
            read_to_end(&socket).await
        };
        self.rt.block_on(work).unwrap()
    }

    fn post(&self, path: &str, body: &str) -> Seen {
        let length = body.len();
        Seen::of(&self.say(format!("POST {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")))
    }

    fn embed(&self, input: &Value) -> Seen {
        self.post("/v1/embeddings", &json!({"model": "m", "input": input}).to_string())
    }

    fn get(&self, path: &str) -> Seen {
        Seen::of(&self.say(format!("GET {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n")))
    }
}

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn all_four_forms_of_input_get_the_vectors_of_their_items() {
    scenes(&MockConfig::default(), |scene| {
        let esc = "tab\tquote\" grüß \u{1f600}";
        for (input, items, tokens) in [
            (json!("hello"), vec![b"hello".to_vec()], 5),
            (json!(["a", "bb", esc]), vec![b"a".to_vec(), b"bb".to_vec(), esc.as_bytes().to_vec()], 3 + esc.len()),
            (json!([1, 22, 333]), vec![token_item(&[1, 22, 333])], 3),
            (json!([[1], [22, 333]]), vec![token_item(&[1]), token_item(&[22, 333])], 3),
        ] {
            let seen = scene.embed(&input);
            assert_eq!(seen.status, 200, "{seen:?}");
            assert!(seen.head.contains("server: headrace-mock"));
            let answer = seen.json();
            assert_eq!(answer["data"].as_array().unwrap().len(), items.len());
            for (at, item) in items.iter().enumerate() {
                assert_eq!(answer["data"][at]["index"], at);
                assert_eq!(numbers(&answer["data"][at]["embedding"]), vector(item, 8), "{input}");
            }
            assert_eq!(answer["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
        }
        let stats = scene.mock.stats();
        assert_eq!((stats.calls, stats.items, stats.largest_batch, stats.in_flight, stats.errors), (4, 7, 3, 0, 0));
    });
}

#[test]
fn spaces_between_tokens_do_not_matter_and_escapes_are_decoded() {
    scenes(&MockConfig::default(), |scene| {
        let seen = scene.post("/v1/embeddings", "{ \"input\" : [ 1 ,\n 2 ] }");
        assert_eq!(numbers(&seen.json()["data"][0]["embedding"]), vector(b"[1,2]", 8));
        let seen = scene.post("/v1/embeddings", r#"{"input":"\u0061\ud83d\ude00"}"#);
        assert_eq!(numbers(&seen.json()["data"][0]["embedding"]), vector("a\u{1f600}".as_bytes(), 8));
        let seen = scene.post("/v1/embeddings", r#"{"input":"\ud83d"}"#);
        assert_eq!(seen.status, 400, "half a surrogate pair is no text");
    });
}

#[test]
fn base64_and_dimensions_as_asked() {
    scenes(&MockConfig { dims: 3, ..MockConfig::default() }, |scene| {
        let body = json!({"model": "m", "input": "hello", "encoding_format": "base64", "dimensions": 4});
        let answer = scene.post("/v1/embeddings", &body.to_string()).json();
        assert_eq!(answer["data"][0]["embedding"], "rMWnNmzuZL/GFWM/HH7XvQ==");
        let body = json!({"input": "hello", "encoding_format": "float"});
        assert_eq!(numbers(&scene.post("/v1/embeddings", &body.to_string()).json()["data"][0]["embedding"]), vector(b"hello", 3));
        for bad in [
            json!({"input": "x", "dimensions": 0}),
            json!({"input": "x", "dimensions": 5000}),
            json!({"input": "x", "encoding_format": "int8"}),
        ] {
            assert_eq!(scene.post("/v1/embeddings", &bad.to_string()).status, 400, "{bad}");
        }
    });
}

#[test]
fn what_cannot_be_answered_is_refused() {
    scenes(&MockConfig::default(), |scene| {
        for body in ["", "x", "[]", "{}", r#"{"input":""}"#, r#"{"input":[]}"#, r#"{"input":["a",1]}"#, r#"{"input":null}"#] {
            let seen = scene.post("/v1/embeddings", body);
            assert_eq!(seen.status, 400, "{body}");
            assert_eq!(seen.json()["error"]["code"], 400);
        }
        assert_eq!(scene.post("/v1/nothing", "{}").status, 404);
        assert_eq!(scene.get("/v1/embeddings").status, 405);
        assert_eq!(scene.post("/health", "").status, 405);
        let seen = Seen::of(&scene.say("GET / HTTP/1.1\r\n\r\n".to_owned()));
        assert_eq!((seen.status, seen.head.contains("connection: close")), (400, true), "no host");
        let seen = Seen::of(&scene.say("POST /v1/embeddings HTTP/1.1\r\nhost: m\r\ncontent-length: 99999999999\r\n\r\n".to_owned()));
        assert_eq!(seen.status, 413);
        assert_eq!(scene.mock.stats().calls, 0);
    });
}

#[test]
fn models_health_stats_and_echo() {
    scenes(&MockConfig { name: "tiny \"quoted\"".to_owned(), ..MockConfig::default() }, |scene| {
        let models = scene.get("/v1/models").json();
        assert_eq!((&models["data"][0]["id"], &models["data"][0]["owned_by"]), (&"tiny \"quoted\"".into(), &"headrace-mock".into()));
        assert_eq!(scene.get("/health").json()["status"], "ok");
        assert_eq!(scene.embed(&json!("x")).json()["model"], "tiny \"quoted\"");
        let stats = scene.get("/mock/stats").json();
        assert_eq!((&stats["requests"], &stats["calls"], &stats["items"]), (&4.into(), &1.into(), &1.into()));
        assert_eq!(scene.post("/mock/echo", "\u{1}any bytes").body, "\u{1}any bytes");
        let big = "y".repeat(300_000);
        assert!(scene.post("/mock/echo", &big).body == big);
        let head = scene.say("HEAD /health HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n".to_owned());
        assert!(head.contains("content-length: 40\r\n") && head.ends_with("\r\n\r\n"), "{head:?}");
    });
}

#[test]
fn too_large_a_batch_is_refused_in_the_words_of_tei() {
    scenes(&MockConfig { max_batch: Some(2), ..MockConfig::default() }, |scene| {
        assert_eq!(scene.embed(&json!(["a", "b"])).status, 200);
        let seen = scene.embed(&json!(["a", "b", "c"]));
        assert_eq!(seen.status, 422);
        assert_eq!(seen.json()["message"], "batch size 3 > maximum allowed batch size 2");
    });
}

#[test]
fn a_poisoned_call_fails_and_its_error_quotes_all_of_the_input() {
    scenes(&MockConfig::default(), |scene| {
        let input = json!(["my secret neighbour", "mock:poison", "another"]);
        let seen = scene.embed(&input);
        assert_eq!(seen.status, 400);
        assert_eq!(seen.json()["detail"][0]["input"], input);
        let stats = scene.mock.stats();
        assert_eq!((stats.calls, stats.errors), (0, 1));
    });
}

#[test]
fn faults_that_are_asked_for() {
    scenes(&MockConfig::default(), |scene| {
        for (mark, status) in [("mock:429", 429), ("mock:503", 503), ("mock:500", 500)] {
            let seen = scene.embed(&json!(["a", mark]));
            assert_eq!(seen.status, status);
            assert_eq!(seen.head.contains("retry-after: 1"), status == 429);
            assert_eq!(seen.json()["error"]["code"], status);
        }
        assert_eq!(scene.embed(&json!(["a", "b mock:wrong-count"])).json()["data"].as_array().unwrap().len(), 1);
        let reversed = scene.embed(&json!(["a", "mock:reversed"])).json();
        assert_eq!((&reversed["data"][0]["index"], &reversed["data"][1]["index"]), (&1.into(), &0.into()));
        assert_eq!(numbers(&reversed["data"][1]["embedding"]), vector(b"a", 8));
        let cut = scene.embed(&json!("mock:close-mid-body"));
        let length: usize = cut.head.split_once("content-length: ").unwrap().1.lines().next().unwrap().parse().unwrap();
        assert_eq!(cut.body.len(), length / 2);
    });
}

#[test]
fn random_errors_follow_their_seed() {
    let statuses = |seed| {
        let config = MockConfig { error_rate: 0.5, seed, ..MockConfig::default() };
        let seen = std::cell::RefCell::new(Vec::new());
        scenes(&config, |scene| {
            let statuses: Vec<u16> = (0..24).map(|_| scene.embed(&json!("x")).status).collect();
            seen.borrow_mut().push(statuses);
        });
        seen.into_inner()
    };
    let (one, two) = (statuses(1), statuses(2));
    assert!(one.iter().all(|run| *run == one[0]), "drivers do not matter");
    assert!(one[0].contains(&200) && one[0].contains(&503), "{one:?}");
    assert_ne!(one[0], two[0]);
}

#[test]
fn one_connection_serves_many_requests_also_chunked_pipelined_and_in_pieces() {
    scenes(&MockConfig::default(), |scene| {
        let head = "POST /mock/echo HTTP/1.1\r\nhost: m\r\n";
        let wire = format!(
            "{head}content-length: 3\r\n\r\none{head}transfer-encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n\
             {head}content-length: 5\r\nconnection: close\r\n\r\nthree"
        );
        let whole = scene.say(wire.clone());
        assert_eq!(whole.matches("HTTP/1.1 200 OK").count(), 3);
        for word in ["one", "two", "three"] {
            assert!(whole.contains(&format!("\r\n\r\n{word}")), "{whole}");
        }
        let (rt, address) = (scene.rt.clone(), scene.address.clone());
        let pieces = async move {
            let socket = rt.connect(&address).await.unwrap();
            for piece in wire.as_bytes().chunks(7) {
                socket.send(piece.to_vec()).await.unwrap();
            }
            read_to_end(&socket).await
        };
        assert_eq!(scene.rt.block_on(pieces).unwrap(), whole);
    });
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on() {
    scenes(&MockConfig::default(), |scene| {
        let (rt, address) = (scene.rt.clone(), scene.address.clone());
        let talk = async move {
            let socket = rt.connect(&address).await.unwrap();
            let head = "POST /mock/echo HTTP/1.1\r\nhost: m\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
            socket.send(head.as_bytes().to_vec()).await.unwrap();
            let mut first = Vec::new();
            while !first.ends_with(b"\r\n\r\n") {
                first.extend_from_slice(&socket.recv().await.unwrap().unwrap());
            }
            socket.send(b"ok".to_vec()).await.unwrap();
            (first, read_to_end(&socket).await)
        };
        let (first, rest) = scene.rt.block_on(talk).unwrap();
        assert_eq!(first, b"HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(Seen::of(&rest).body, "ok");
    });
}

#[test]
fn a_client_that_leaves_aborts_its_call_and_frees_the_gpu() {
    let hour = Duration::from_secs(3600);
    for (path, body) in [
        ("/v1/embeddings", json!({"input": "x"})),
        ("/v1/embeddings", json!({"input": "mock:stall"})),
        ("/v1/chat/completions", json!({"messages": [{"content": "x"}]})),
        ("/v1/chat/completions", json!({"stream": true, "messages": [{"content": "x"}]})),
    ] {
        let config = MockConfig { cost_base: hour, chat_delay: hour, ..MockConfig::default() };
        scenes(&config, |scene| {
            let (rt, address, mock, body_text) = (scene.rt.clone(), scene.address.clone(), scene.mock.clone(), body.to_string());
            let leave = async move {
                let socket = rt.connect(&address).await.unwrap();
                let wire = format!("POST {path} HTTP/1.1\r\nhost: m\r\ncontent-length: {}\r\n\r\n{body_text}", body_text.len());
                socket.send(wire.into_bytes()).await.unwrap();
                let limit = rt.now() + Duration::from_secs(20);
                while mock.stats().in_flight == 0 && rt.now() < limit {
                    rt.sleep_until(rt.now() + Duration::from_micros(100)).await;
                }
                let begun = mock.stats();
                drop(socket);
                while mock.stats().aborted == 0 && rt.now() < limit {
                    rt.sleep_until(rt.now() + Duration::from_micros(100)).await;
                }
                (begun, mock.stats())
            };
            let (begun, after) = scene.rt.block_on(leave).unwrap();
            assert_eq!((begun.in_flight, begun.aborted), (1, 0), "{path} {body}");
            assert_eq!((after.in_flight, after.aborted, after.connections), (0, 1, 0));
            assert!(scene.mock.0.gpu.get().busy_until() <= scene.rt.now(), "the GPU is free again");
        });
    }
}

#[test]
fn a_chat_answers_whole() {
    scenes(&MockConfig { chat_events: 4, ..MockConfig::default() }, |scene| {
        let body = json!({"model": "m", "messages": [{"role": "system", "content": "no"}, {"role": "user", "content": "how are \"you\""}]});
        let answer = scene.post("/v1/chat/completions", &body.to_string()).json();
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["choices"][0]["message"]["content"], reply("how are \"you\"", 4));
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["usage"], json!({"prompt_tokens": 13, "completion_tokens": 4, "total_tokens": 17}));
        let parts = json!({"max_tokens": 2, "messages": [{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]});
        let answer = scene.post("/v1/chat/completions", &parts.to_string()).json();
        assert_eq!(
            (&answer["choices"][0]["message"]["content"], &answer["choices"][0]["finish_reason"]),
            (&"a b".into(), &"length".into())
        );
        for bad in ["{}", r#"{"messages":[]}"#, r#"{"messages":[{"role":"user"}]}"#, r#"{"messages":[{"content":5}]}"#] {
            assert_eq!(scene.post("/v1/chat/completions", bad).status, 400, "{bad}");
        }
        assert_eq!(scene.post("/v1/chat/completions", r#"{"messages":[{"content":"mock:429"}]}"#).status, 429);
    });
}

#[test]
fn a_chat_streams_events_and_ends_with_done() {
    for delay in [Duration::ZERO, Duration::from_millis(1)] {
        scenes(&MockConfig { chat_events: 3, chat_delay: delay, ..MockConfig::default() }, |scene| {
            let body = json!({"stream": true, "stream_options": {"include_usage": true}, "messages": [{"content": "hello you"}]});
            let seen = scene.post("/v1/chat/completions", &body.to_string());
            assert!(seen.head.contains("content-type: text/event-stream") && seen.head.contains("transfer-encoding: chunked"));
            let lines: Vec<&str> = seen.body.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
            let (done, events) = lines.split_last().unwrap();
            assert_eq!(*done, "[DONE]");
            let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
            let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
            assert_eq!(text, "hello you hello");
            assert_eq!(events.len(), 1 + 3 + 1 + 1, "role, three words, the reason, the usage");
            assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
            assert_eq!(events[4]["choices"][0]["finish_reason"], "stop");
            assert_eq!((&events[5]["choices"], &events[5]["usage"]["completion_tokens"]), (&json!([]), &3.into()));
            assert_eq!(scene.mock.stats().in_flight, 0);
        });
    }
}

#[test]
fn a_stream_to_http_1_0_is_bare_and_a_cut_one_has_no_end() {
    scenes(&MockConfig { chat_events: 4, ..MockConfig::default() }, |scene| {
        let body = r#"{"stream":true,"messages":[{"content":"x"}]}"#;
        let old = scene.say(format!("POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        assert!(!old.contains("chunked") && old.ends_with("data: [DONE]\n\n"), "{old}");
        let body = r#"{"stream":true,"messages":[{"content":"mock:close-mid-body"}]}"#;
        let cut = scene.say(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        assert!(cut.contains("chunked") && !cut.contains("[DONE]") && !cut.ends_with("0\r\n\r\n"), "{cut}");
        assert_eq!(cut.matches("\"content\":\"").count(), 3, "the role's and two of four");
    });
}
