//! How fast bodies are scanned. Bytes per second are what count: everything else in the room is constant.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headrace::json::{AnswerShape, scan_answer, scan_embeddings, scan_model};
use std::hint::black_box;

fn answer(items: usize, vector: &str) -> String {
    let data: Vec<String> = (0..items).map(|index| format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#)).collect();
    format!(r#"{{"object":"list","data":[{}],"model":"m","usage":{{"prompt_tokens":7,"total_tokens":7}}}}"#, data.join(","))
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    let chat = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}],"stream":true,"model":"m"}}"#, "word ".repeat(8000));
    let small = r#"{"model":"text-embedding-3-small","input":"the quick brown fox jumps over it","encoding_format":"base64"}"#;
    let texts = format!(r#"{{"model":"m","input":[{}"x"]}}"#, format!("\"{}\",", "word ".repeat(100)).repeat(32));
    let tokens = format!(r#"{{"model":"m","input":[{}[1]]}}"#, format!("[{}1],", "12345,".repeat(500)).repeat(32));
    let mut bench = |name: &str, body: &str, scan: &mut dyn FnMut(&[u8])| {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| b.iter(|| scan(black_box(body.as_bytes()))));
    };
    bench("model_chat_40k", &chat, &mut |body| {
        black_box(scan_model(body).unwrap());
    });
    bench("embeddings_small", small, &mut |body| {
        black_box(scan_embeddings(body).unwrap());
    });
    bench("embeddings_32_texts", &texts, &mut |body| {
        black_box(scan_embeddings(body).unwrap());
    });
    bench("embeddings_32_tokens", &tokens, &mut |body| {
        black_box(scan_embeddings(body).unwrap());
    });
    let floats = format!("[{}0.1]", "-0.012345678,".repeat(1023));
    let base64 = format!("\"{}\"", "QUJD".repeat(1365));
    let mut shape = AnswerShape::default();
    bench("answer_32_floats", &answer(32, &floats), &mut |body| scan_answer(body, &mut shape).unwrap());
    bench("answer_32_base64", &answer(32, &base64), &mut |body| scan_answer(body, &mut shape).unwrap());
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
