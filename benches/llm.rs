//! What an error costs that the gateway answers itself: the envelope in the client's dialect. Under a flood this is the hot path.

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

#[path = "samples/pace.rs"]
mod pace;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use headrace::llm::{Dialect, ErrorFacts};

fn envelopes(criterion: &mut Criterion) {
    let message = "the queue of this model is full; ask again after the time in `retry-after`";
    let facts = ErrorFacts { status: 429, reason: "lane_full", message };
    let mut group = criterion.benchmark_group("llm/error");
    let mut out = Vec::with_capacity(1024);
    for (name, dialect) in [("OpenAI's", Dialect::OpenAi), ("Anthropic's", Dialect::Anthropic)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                dialect.write_error(&mut out, black_box(facts));
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = pace::short(); targets = envelopes);
criterion_main!(benches);
