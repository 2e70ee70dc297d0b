//! What the home costs per item: so many single jobs in, one call out, the answer cut, as many answers out; and the rule's look at a
//! job that must wait. The scan of the requests is not in it (`benches/json.rs`), nor are the mesh and the sockets.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "criterion's macros; a bench that cannot go on should stop")]

#[path = "samples/pace.rs"]
mod pace;
mod samples;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use samples::rounds::Rounds;

/// As in the program: jobs, calls and answers allocate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn round(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch/merge, call, split");
    for (name, vector) in [("tiny", "[1.5]".to_owned()), ("floats", samples::floats(1024)), ("base64", samples::base64(1024))] {
        for jobs in [1, 8, 32] {
            let mut rounds = Rounds::new(jobs, &vector);
            group.throughput(Throughput::Elements(u64::from(jobs)));
            group.bench_function(format!("{jobs} items, {name}"), |bencher| bencher.iter(|| rounds.round()));
        }
    }
    group.finish();
}

fn rule(criterion: &mut Criterion) {
    let mut rounds = Rounds::new(1, "[1.5]");
    rounds.occupy();
    criterion.bench_function("batch/a job waits and leaves", |bencher| bencher.iter(|| rounds.wait_and_leave()));
}

criterion_group!(name = benches; config = pace::short(); targets = round, rule);
criterion_main!(benches);
