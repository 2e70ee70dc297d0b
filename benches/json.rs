//! How fast bodies are scanned and put together. Bytes per second are what count: everything else in the room is constant.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench that cannot go on should stop")]

#[path = "samples/pace.rs"]
mod pace;
mod samples;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headrace::json::{AnswerShape, Splice, scan_answer, scan_embeddings, scan_model};

/// As in the program: the splice allocates.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [(&str, usize); 4] = [("70 B", 70), ("2 KiB", 2 << 10), ("40 KiB", 40 << 10), ("220 KiB", 220 << 10)];

fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json/scan");
    let mut bench = |name: String, body: &str, scan: &mut dyn FnMut(&[u8])| {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| scan(black_box(body.as_bytes()))));
    };
    for (name, bytes) in SIZES {
        bench(format!("model in a chat, {name}"), &samples::chat(bytes), &mut |body| _ = black_box(scan_model(body).unwrap()));
    }
    for (name, bytes) in SIZES {
        bench(format!("texts, {name}"), &samples::texts(bytes), &mut |body| _ = black_box(scan_embeddings(body).unwrap()));
    }
    bench("tokens, 40 KiB".to_owned(), &samples::tokens(40 << 10), &mut |body| _ = black_box(scan_embeddings(body).unwrap()));
    let mut shape = AnswerShape::default();
    for (name, vector) in [("floats", samples::floats(1024)), ("base64", samples::base64(1024))] {
        let answer = samples::answer(32, &vector);
        bench(format!("answer, 32 vectors of 1024 as {name}"), &answer, &mut |body| scan_answer(body, &mut shape).unwrap());
    }
    group.finish();
}

/// A merged body of 32 items: copied when it is small, shared slices when it is large.
fn splice(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json/splice");
    for (name, item_bytes, share_from) in
        [("70 B copied", 70, usize::MAX), ("2 KiB copied", 2 << 10, usize::MAX), ("7 KiB shared", 7 << 10, 4 << 10)]
    {
        let source = Bytes::from(vec![b'x'; item_bytes]);
        group.throughput(Throughput::Bytes(32 * item_bytes as u64));
        group.bench_function(format!("32 items of {name}"), |bencher| {
            bencher.iter(|| {
                let mut splice = Splice::new(32 * 64, share_from);
                for _ in 0..32 {
                    splice.copy(b",");
                    splice.slice(black_box(&source), 0..item_bytes);
                }
                splice.finish()
            });
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = pace::short(); targets = scan, splice);
criterion_main!(benches);
