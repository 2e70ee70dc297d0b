//! What the http room costs per request: parse a head, write it on, walk over a chunked body. No sockets.

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headrace::http::{
    BodyDecoder, CHUNK_END, Framing, HeadLimits, LAST_CHUNK, Method, RequestEdit, RequestHead, ResponseEdit, ResponseHead, Version,
    write_chunk_header, write_request_fields, write_request_line, write_response_head,
};

/// What the OpenAI Python client sends, less its telemetry.
const REQUEST: &[u8] =
    b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\
    Accept: application/json\r\nContent-Type: application/json\r\nUser-Agent: OpenAI/Python 1.99.1\r\nX-Stainless-Lang: python\r\n\
    X-Stainless-Retry-Count: 0\r\nAuthorization: Bearer sk-0123456789abcdef0123456789abcdef\r\nContent-Length: 70\r\n\r\n";
/// What a load generator sends.
const SMALL: &[u8] =
    b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: 70\r\n\r\n";
/// What uvicorn answers.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ndate: Tue, 01 Sep 2026 08:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: 6021\r\n\
    content-type: application/json\r\n\r\n";

fn heads(c: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut group = c.benchmark_group("head");
    for (name, bytes) in [("parse_request_11_fields", REQUEST), ("parse_request_3_fields", SMALL)] {
        let mut head = RequestHead::new();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| head.parse(black_box(bytes), &mut 0, &limits)));
    }
    let mut head = ResponseHead::new();
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("parse_response_4_fields", |b| b.iter(|| head.parse(black_box(RESPONSE), &mut 0, &limits, Method::Post)));
    group.finish();
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    let mut head = RequestHead::new();
    assert!(head.parse(REQUEST, &mut 0, &HeadLimits::default()).is_ok());
    let edit = RequestEdit {
        framing: Framing::Length(70),
        client_addr: "127.0.0.1",
        proto: "http",
        trust_forwarded: false,
        request_id: b"0123456789abcdef",
        forward_authorization: false,
        strip_coalesce: true,
    };
    let mut out = Vec::with_capacity(4096);
    group.bench_function("request_11_fields", |b| {
        b.iter(|| {
            out.clear();
            write_request_line(&mut out, &head, black_box(REQUEST), "127.0.0.1:8000");
            write_request_fields(&mut out, &head, REQUEST, &edit);
            out.len()
        });
    });
    let mut answer = ResponseHead::new();
    assert!(answer.parse(RESPONSE, &mut 0, &HeadLimits::answers(), Method::Post).is_ok());
    let edit = ResponseEdit {
        framing: answer.framing,
        close: false,
        client_version: Version::Http11,
        extra: &[("x-request-id", b"0123456789abcdef")],
    };
    group.bench_function("response_4_fields", |b| {
        b.iter(|| {
            out.clear();
            write_response_head(&mut out, &answer, black_box(RESPONSE), &edit);
            out.len()
        });
    });
    group.finish();
}

fn chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked");
    for (name, chunk_bytes, chunk_count) in [("decode_tokens_200_x_100", 200, 100), ("decode_blocks_16k_x_4", 16 * 1024, 4)] {
        let mut bytes = Vec::new();
        for _ in 0..chunk_count {
            write_chunk_header(&mut bytes, chunk_bytes);
            bytes.resize(bytes.len() + chunk_bytes, b'x');
            bytes.extend_from_slice(CHUNK_END);
        }
        bytes.extend_from_slice(LAST_CHUNK);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut decoder = BodyDecoder::for_response(Framing::Chunked);
                let (mut at, mut body_bytes) = (0, 0);
                while !decoder.is_done() {
                    let Ok(step) = decoder.handle_bytes(black_box(&bytes[at..])) else { break };
                    at += step.consumed;
                    body_bytes += step.data.len();
                }
                body_bytes
            });
        });
    }
    group.finish();
}

criterion_group!(benches, heads, writes, chunks);
criterion_main!(benches);
