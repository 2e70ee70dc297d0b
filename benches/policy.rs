//! What it costs to say where a request belongs: normal form, route, model, operation, endpoint, health. 100 models and 100 routes.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "criterion's macros; a bench that cannot go on should stop")]

#[path = "samples/pace.rs"]
mod pace;
mod samples;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use headrace::config::Balance;
use headrace::policy::{Attempt, Balancer, Failure, Health, Operation, Router, decide, normal_form};
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
            let health = Health::new(endpoints);
            group.bench_function(format!("{name} of {endpoints}"), |bencher| {
                bencher.iter(|| {
                    let picked = balancer.pick(None, |endpoint| health.is_usable(endpoint, black_box(Instant::ZERO))).unwrap();
                    balancer.begin(picked);
                    balancer.end(picked);
                    picked
                });
            });
        }
    }
    let mut health = Health::new(8);
    group.bench_function("a success", |bencher| bencher.iter(|| health.handle_success(black_box(5))));
    let attempt = Attempt { calls: 1, resent: false, answer_begun: false, body_held: true, idempotent: false };
    group.bench_function("retry decided", |bencher| bencher.iter(|| decide(black_box(Failure::StaleConnection), black_box(attempt))));
    group.finish();
}

criterion_group!(name = benches; config = pace::short(); targets = route, endpoint);
criterion_main!(benches);
