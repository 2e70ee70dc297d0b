//! What the tap beside an event stream costs: reading events out of arrivals, and what they say. Nothing of it touches the bytes.

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

#[path = "samples/pace.rs"]
mod pace;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headrace::http::EventReader;
use headrace::llm::StreamTap;

/// A hundred tokens as vLLM sends them.
fn tokens() -> Vec<u8> {
    let event = "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\
        \"model\":\"llama-3.1-8b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    event.repeat(100).into_bytes()
}

/// One event of 10 MiB in arrivals of 8 KiB: looked at once, not gathered, and not again from its start.
fn huge() -> Vec<u8> {
    let mut event = b"data: {\"text\":\"".to_vec();
    event.resize(10 << 20, b'x');
    event.extend_from_slice(b"\"}\n\n");
    event
}

fn read(bytes: &[u8], arrival: usize, tap: bool) -> usize {
    let (mut reader, mut said, mut count) = (EventReader::new(32 << 10), StreamTap::default(), 0);
    for mut piece in bytes.chunks(arrival) {
        while !piece.is_empty() {
            let (used, event) = reader.handle_bytes(piece);
            if let Some(event) = event {
                count += 1;
                if tap {
                    black_box(said.handle_event(event.name, event.data));
                }
            }
            piece = &piece[used..];
        }
    }
    count
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("streams");
    let (tokens, huge) = (tokens(), huge());
    let one = tokens.len() / 100;
    let cases = [
        ("events of 100 tokens, one an arrival", &tokens, one, false),
        ("100 tokens and what they say, one an arrival", &tokens, one, true),
        ("100 tokens and what they say, cut at random", &tokens, 149, true),
        ("an event of 10 MiB", &huge, 8 << 10, true),
    ];
    for (name, bytes, arrival, tap) in cases {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| read(black_box(bytes), arrival, tap)));
    }
    group.finish();
}

criterion_group!(name = benches; config = pace::short(); targets = streams);
criterion_main!(benches);
