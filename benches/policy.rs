//! What it costs to say where a request belongs: normal form, route, model, operation, endpoint, health. 100 models and 100 routes.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "criterion's macros; a bench that cannot go on should stop")]

#[path = "samples/pace.rs"]
mod pace;
mod samples;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use headrace::config::{Balance, Resilience, RetryRules};
use headrace::policy::{Attempt, Balancer, CallEnd, Ended, Failure, Health, Operation, Router, decide, normal_form};
use headrace::sys::Instant;
use samples::routes::{MODEL, ODD_PATH, PATH, config};

fn route(criterion: &mut Criterion) {
    let router = Router::new(&config());
    let mut group = criterion.benchmark_group("policy/route");
    let mut scratch = Vec::with_capacity(128);
    for (name, path) in [("normal form of a plain path", PATH), ("normal form of an odd one", ODD_PATH)] {
        group.bench_function(name, |bencher| bencher.iter(|| normal_form(black_box(path), &mut scratch).unwrap().len()));
    }
    group.bench_function("path among 100 routes", |bencher| bencher.iter(|| router.resolve_path(black_box(PATH)).unwrap()));
    group.bench_function("path of no route", |bencher| bencher.iter(|| router.resolve_path(black_box(b"/v1/embeddings"))));
    group.bench_function("model among 100", |bencher| bencher.iter(|| router.resolve_model(black_box(MODEL)).unwrap()));
    group.bench_function("operation", |bencher| bencher.iter(|| Operation::from_path(black_box(b"/v1/embeddings")).unwrap()));
    group.finish();
}

fn endpoint(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy/endpoint");
    for (name, balance) in [("least in flight", Balance::LeastInFlight), ("round robin", Balance::RoundRobin)] {
        for endpoints in [1u32, 8, 64] {
            let mut balancer = Balancer::new(balance, (0..endpoints).map(|_| 1));
            let health = Health::new(&Resilience::default(), endpoints, 1);
            group.bench_function(format!("{name} of {endpoints}"), |bencher| {
                bencher.iter(|| {
                    let view = health.view(black_box(Instant::ZERO));
                    let picked = balancer.pick(None, |endpoint| view.is_usable(endpoint)).unwrap();
                    balancer.begin(picked);
                    balancer.end(picked);
                    picked
                });
            });
        }
    }
    let mut health = Health::new(&Resilience::default(), 8, 1);
    let ended = Ended { end: CallEnd::Good, began: Instant::ZERO, latency: None, jitter: 0 };
    group.bench_function("a success", |bencher| bencher.iter(|| health.handle_end(black_box(5), black_box(ended), Instant::ZERO)));
    let attempt =
        Attempt { calls: 1, resent: false, answer_begun: false, body_held: true, idempotent: false, rules: RetryRules::default() };
    group.bench_function("retry decided", |bencher| bencher.iter(|| decide(black_box(Failure::StaleConnection), black_box(attempt))));
    group.finish();
}

criterion_group!(name = benches; config = pace::short(); targets = route, endpoint);
criterion_main!(benches);
