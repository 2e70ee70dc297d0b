//! What is counted, by room, in the order of a request. Each case is made ready once and then done again and again; what it does must
//! leave things as they were.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use headrace::config::Balance;
use headrace::http::{
    BodyDecoder, CHUNK_END, Framing, HeadLimits, LAST_CHUNK, Method, RequestEdit, RequestHead, ResponseEdit, ResponseHead, Version,
    write_chunk_header, write_request_fields, write_request_line, write_response_head,
};
use headrace::json::{AnswerShape, Splice, scan_answer, scan_embeddings, scan_model};
use headrace::mesh::{FlagBell, Inbox, Mesh, ShardId};
use headrace::metrics::{Phase, Registry, Target};
use headrace::policy::{Balancer, Router, normal_form};
use headrace::runtime::Rt;
use headrace::sys::BufferPool;

use crate::exchange;
use crate::samples::{self, rounds::Rounds, routes};
use crate::script::Script;

/// One thing that is counted.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) make: fn() -> Box<dyn FnMut()>,
}

macro_rules! cases {
    ($($name:ident: $make:expr,)+) => {
        pub(crate) const CASES: &[Case] = &[$(Case { name: stringify!($name), make: || $make },)+];
    };
}

cases! {
    http_request_head_small: parse_request(samples::REQUEST_SMALL),
    http_request_head_client: parse_request(samples::REQUEST_CLIENT),
    http_request_head_browser: parse_request(samples::REQUEST_BROWSER),
    http_request_head_written: write_request(samples::REQUEST_CLIENT),
    http_response_head_parsed: parse_response(),
    http_response_head_written: write_response(),
    http_chunked_100_tokens: decode_chunks(),
    json_model_70b: scan(samples::chat(70), |body| _ = black_box(scan_model(body).unwrap())),
    json_model_2k: scan(samples::chat(2 << 10), |body| _ = black_box(scan_model(body).unwrap())),
    json_model_40k: scan(samples::chat(40 << 10), |body| _ = black_box(scan_model(body).unwrap())),
    json_embeddings_70b: scan(samples::texts(70), |body| _ = black_box(scan_embeddings(body).unwrap())),
    json_embeddings_2k: scan(samples::texts(2 << 10), |body| _ = black_box(scan_embeddings(body).unwrap())),
    json_answer_8_base64: scan_answers(&samples::base64(384)),
    json_answer_8_floats: scan_answers(&samples::floats(384)),
    json_splice_32_items: splice(),
    policy_resolve_model: resolve(|router| _ = black_box(router.resolve_model(black_box(routes::MODEL)).unwrap())),
    policy_resolve_path: resolve(|router| _ = black_box(router.resolve_path(black_box(routes::PATH)).unwrap())),
    policy_normal_form: normal(routes::PATH),
    policy_normal_form_odd: normal(routes::ODD_PATH),
    policy_balance_8_least: balance(Balance::LeastInFlight),
    policy_balance_8_round: balance(Balance::RoundRobin),
    batch_job_waits_and_leaves: waits_and_leaves(),
    batch_round_of_1: rounds(1, &samples::base64(384)),
    batch_round_of_32: rounds(32, &samples::base64(384)),
    batch_round_of_32_floats: rounds(32, &samples::floats(384)),
    mesh_push_and_pop: push_and_pop(),
    mesh_send_flush_pop: send_flush_pop(),
    metrics_phase: count(|metrics| metrics.phase(Phase::Exchange, black_box(123_456))),
    metrics_request: count(|metrics| metrics.request(black_box(Target::None), black_box(200))),
    runtime_timer_set_and_dropped: timer(),
    exchange_forward_by_route: exchange::forward_by_route(),
    exchange_forward_by_model_70b: exchange::forward_by_model(70),
    exchange_forward_by_model_16k: exchange::forward_by_model(16 << 10),
    exchange_embedding_alone: exchange::embedding_alone(),
    exchange_embeddings_32: exchange::embeddings_32(),
}

fn parse_request(bytes: &'static [u8]) -> Box<dyn FnMut()> {
    let (mut head, limits) = (RequestHead::new(), HeadLimits::default());
    Box::new(move || assert!(head.parse(black_box(bytes), &mut 0, &limits).is_ok()))
}

fn write_request(bytes: &'static [u8]) -> Box<dyn FnMut()> {
    let mut head = RequestHead::new();
    assert!(head.parse(bytes, &mut 0, &HeadLimits::default()).is_ok());
    let edit = RequestEdit {
        framing: Framing::Length(70),
        client_addr: "127.0.0.1",
        proto: "http",
        trust_forwarded: false,
        request_id: b"hr-0123456789abcdef",
        forward_authorization: false,
        strip_coalesce: true,
    };
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        write_request_line(&mut out, &head, black_box(bytes), "127.0.0.1:8000");
        write_request_fields(&mut out, &head, bytes, &edit);
        black_box(out.len());
    })
}

fn parse_response() -> Box<dyn FnMut()> {
    let (mut head, limits) = (ResponseHead::new(), HeadLimits::answers());
    Box::new(move || assert!(head.parse(black_box(samples::RESPONSE), &mut 0, &limits, Method::Post).is_ok()))
}

fn write_response() -> Box<dyn FnMut()> {
    let mut head = ResponseHead::new();
    assert!(head.parse(samples::RESPONSE, &mut 0, &HeadLimits::answers(), Method::Post).is_ok());
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let extra: &[(&str, &[u8])] = &[("x-request-id", b"hr-0123456789abcdef")];
        let edit = ResponseEdit { framing: head.framing, close: false, client_version: Version::Http11, extra };
        write_response_head(&mut out, &head, black_box(samples::RESPONSE), &edit);
        black_box(out.len());
    })
}

/// A stream of tokens, 200 bytes of event each.
fn decode_chunks() -> Box<dyn FnMut()> {
    let mut bytes = Vec::new();
    for _ in 0..100 {
        write_chunk_header(&mut bytes, 200);
        bytes.resize(bytes.len() + 200, b'x');
        bytes.extend_from_slice(CHUNK_END);
    }
    bytes.extend_from_slice(LAST_CHUNK);
    Box::new(move || {
        let mut decoder = BodyDecoder::for_response(Framing::Chunked);
        let mut at = 0;
        while !decoder.is_done() {
            at += black_box(decoder.handle_bytes(black_box(&bytes[at..])).unwrap()).consumed;
        }
    })
}

fn scan(body: String, scan: fn(&[u8])) -> Box<dyn FnMut()> {
    Box::new(move || scan(black_box(body.as_bytes())))
}

fn scan_answers(vector: &str) -> Box<dyn FnMut()> {
    let (body, mut shape) = (samples::answer(8, vector), AnswerShape::default());
    Box::new(move || scan_answer(black_box(body.as_bytes()), &mut shape).unwrap())
}

/// What merging does: 32 short texts copied, with glue between them.
fn splice() -> Box<dyn FnMut()> {
    let source = Bytes::from(samples::texts(70));
    Box::new(move || {
        let mut splice = Splice::new(32 * 80, usize::MAX);
        for _ in 0..32 {
            splice.copy(b",");
            splice.slice(black_box(&source), 10..60);
        }
        black_box(splice.finish());
    })
}

fn resolve(look: fn(&Router)) -> Box<dyn FnMut()> {
    let router = Router::new(&routes::config());
    Box::new(move || look(black_box(&router)))
}

fn normal(path: &'static [u8]) -> Box<dyn FnMut()> {
    let mut scratch = Vec::with_capacity(128);
    Box::new(move || _ = black_box(normal_form(black_box(path), &mut scratch).unwrap()))
}

fn balance(balance: Balance) -> Box<dyn FnMut()> {
    let mut balancer = Balancer::new(balance, [1; 8]);
    Box::new(move || {
        let endpoint = balancer.pick(None, |endpoint| black_box(endpoint) != 3).unwrap();
        balancer.begin(endpoint);
        balancer.end(endpoint);
    })
}

fn waits_and_leaves() -> Box<dyn FnMut()> {
    let mut rounds = Rounds::new(1, "[1.5]");
    rounds.occupy();
    Box::new(move || rounds.wait_and_leave())
}

fn rounds(jobs: u32, vector: &str) -> Box<dyn FnMut()> {
    let mut rounds = Rounds::new(jobs, vector);
    Box::new(move || rounds.round())
}

/// As large as a shard's message.
type Message = [u64; 3];

fn push_and_pop() -> Box<dyn FnMut()> {
    let (inbox, sender) = Inbox::<Message>::new(4096, Box::new(FlagBell::default()));
    Box::new(move || {
        assert!(sender.send(black_box([7; 3])).is_ok());
        black_box(inbox.pop());
    })
}

/// To a peer of four that sleeps: its doorbell is rung.
fn send_flush_pop() -> Box<dyn FnMut()> {
    let mesh = Mesh::<Message>::new(4096, (0..4).map(|_| -> headrace::mesh::Bell { Box::new(FlagBell::default()) }));
    let ports = mesh.into_ports();
    Box::new(move || {
        assert!(ports[1].try_sleep());
        assert!(ports[0].send(ShardId(1), black_box([7; 3])).is_ok());
        assert_eq!(ports[0].flush(), 1);
        ports[1].wake();
        black_box(ports[1].pop());
    })
}

fn count(count: fn(&headrace::metrics::ShardMetrics)) -> Box<dyn FnMut()> {
    let (registry, mut metrics) = Registry::new(&routes::config(), 1);
    let metrics = metrics.remove(0);
    Box::new(move || {
        black_box(&registry);
        count(black_box(&metrics));
    })
}

/// A task is woken, sets a time limit as every exchange does, and drops it before it comes.
fn timer() -> Box<dyn FnMut()> {
    let script = Script::new(Vec::new());
    let rt = Rt::new(Box::new(script.driver(BufferPool::new(2, 4096).unwrap())), script.clock());
    let polled = Rc::new(Cell::new(0u32));
    let (own, count) = (rt.clone(), Rc::clone(&polled));
    let task = rt.spawn(async move {
        poll_fn(|context| {
            let mut sleep = pin!(own.sleep_until(own.now() + Duration::from_secs(30)));
            assert!(sleep.as_mut().poll(context).is_pending());
            count.set(count.get() + 1);
            Poll::<()>::Pending
        })
        .await;
        pending::<()>().await;
    });
    Box::new(move || {
        let before = polled.get();
        rt.wake(task);
        rt.run_tasks();
        assert_eq!(polled.get(), before + 1);
    })
}
