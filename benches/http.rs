//! What the http room costs per request: parse a head, write it on, walk over a chunked body. No sockets.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench that cannot go on should stop")]

#[path = "samples/pace.rs"]
mod pace;
mod samples;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headrace::http::{
    BodyDecoder, CHUNK_END, Framing, HeadLimits, LAST_CHUNK, Method, RequestEdit, RequestHead, ResponseEdit, ResponseHead, Version,
    write_chunk_header, write_request_fields, write_request_line, write_response_head,
};
use samples::{REQUEST_BROWSER, REQUEST_CLIENT, REQUEST_SMALL, RESPONSE};

fn parse(criterion: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut group = criterion.benchmark_group("http/parse");
    let heads = [("request, 3 fields", REQUEST_SMALL), ("request, 10 fields", REQUEST_CLIENT), ("request, a browser's", REQUEST_BROWSER)];
    for (name, bytes) in heads {
        let mut head = RequestHead::new();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| head.parse(black_box(bytes), &mut 0, &limits)));
    }
    let mut head = ResponseHead::new();
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response, 4 fields", |bencher| bencher.iter(|| head.parse(black_box(RESPONSE), &mut 0, &limits, Method::Post)));
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http/write");
    let edit = RequestEdit {
        framing: Framing::Length(70),
        client_addr: "127.0.0.1",
        proto: "http",
        trust_forwarded: false,
        request_id: b"hr-0123456789abcdef",
        forward_authorization: false,
        strip_coalesce: true,
    };
    let mut out = Vec::with_capacity(8192);
    for (name, bytes) in
        [("request, 3 fields", REQUEST_SMALL), ("request, 10 fields", REQUEST_CLIENT), ("request, a browser's", REQUEST_BROWSER)]
    {
        let mut head = RequestHead::new();
        head.parse(bytes, &mut 0, &HeadLimits::default()).unwrap();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                write_request_line(&mut out, &head, black_box(bytes), "127.0.0.1:8000");
                write_request_fields(&mut out, &head, bytes, &edit);
                out.len()
            });
        });
    }
    let mut answer = ResponseHead::new();
    answer.parse(RESPONSE, &mut 0, &HeadLimits::answers(), Method::Post).unwrap();
    let extra: &[(&str, &[u8])] = &[("x-request-id", b"hr-0123456789abcdef")];
    let edit = ResponseEdit { framing: answer.framing, close: false, client_version: Version::Http11, extra };
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response, 4 fields", |bencher| {
        bencher.iter(|| {
            out.clear();
            write_response_head(&mut out, &answer, black_box(RESPONSE), &edit);
            out.len()
        });
    });
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http/decode");
    for (name, chunk_bytes, chunk_count) in [("100 chunks of 200 B", 200, 100), ("4 chunks of 16 KiB", 16 * 1024, 4)] {
        let mut bytes = Vec::new();
        for _ in 0..chunk_count {
            write_chunk_header(&mut bytes, chunk_bytes);
            bytes.resize(bytes.len() + chunk_bytes, b'x');
            bytes.extend_from_slice(CHUNK_END);
        }
        bytes.extend_from_slice(LAST_CHUNK);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut decoder = BodyDecoder::for_response(Framing::Chunked);
                let (mut at, mut body_bytes) = (0, 0);
                while !decoder.is_done() {
                    let step = decoder.handle_bytes(black_box(&bytes[at..])).unwrap();
                    at += step.consumed;
                    body_bytes += step.data.len();
                }
                body_bytes
            });
        });
    }
    let answer = vec![b'x'; 8192];
    group.throughput(Throughput::Bytes(answer.len() as u64));
    group.bench_function("8 KiB by content-length", |bencher| {
        bencher.iter(|| {
            let mut decoder = BodyDecoder::for_response(Framing::Length(8192));
            black_box(decoder.handle_bytes(black_box(&answer))).unwrap().consumed
        });
    });
    group.finish();
}

criterion_group!(name = benches; config = pace::short(); targets = parse, write, decode);
criterion_main!(benches);
