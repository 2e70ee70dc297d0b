//! What counting costs, at every phase of every request; and what a scrape costs the control plane.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "criterion's macros; a bench that cannot go on should stop")]

#[path = "samples/pace.rs"]
mod pace;
mod samples;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use headrace::config::{ModelId, UpstreamId};
use headrace::metrics::{BatchReason, Phase, Registry, Target, UpstreamOutcome};
use headrace::policy::Operation;
use headrace::sys::Instant;

fn count(criterion: &mut Criterion) {
    let (mut registry, metrics) = Registry::new(&samples::routes::config(), 4);
    let metrics = &metrics[0];
    let (model, upstream) = (ModelId(77), UpstreamId(1));
    let mut group = criterion.benchmark_group("metrics/count");
    group.bench_function("histogram, a phase's time", |bencher| bencher.iter(|| metrics.phase(Phase::Exchange, black_box(123_456))));
    group.bench_function("counter, a request by model and status", |bencher| {
        bencher.iter(|| metrics.request(black_box(Target::Model(model)), black_box(200)));
    });
    group.bench_function("counter, a call's outcome", |bencher| {
        bencher.iter(|| metrics.upstream(black_box(upstream), 0, UpstreamOutcome::Ok));
    });
    group.bench_function("gauge up and down", |bencher| {
        bencher.iter(|| {
            black_box(metrics).exchange_begun();
            black_box(metrics).exchange_ended();
        });
    });
    group.bench_function("a batch that left", |bencher| {
        bencher.iter(|| metrics.batch_left(black_box(model), Operation::Embeddings, black_box(32), BatchReason::Idle));
    });
    group.finish();
    criterion.bench_function("metrics/scrape, 4 shards, 100 models and routes", |bencher| bencher.iter(|| registry.render(Instant::ZERO)));
}

criterion_group!(name = benches; config = pace::short(); targets = count);
criterion_main!(benches);
