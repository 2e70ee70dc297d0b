//! What the home costs per item: 32 single jobs in, one call out, the answer cut, 32 answers out. The scan of the requests is not
//! in it (`benches/json.rs`).

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a bench that cannot go on should stop")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headrace::batch::{CallOutcome, Home, HomeLimits, Job, LaneRules, Operation, Ticket, lane_hash};
use headrace::config::{BatchingMode, ModelId};
use headrace::json::scan_embeddings;
use headrace::sys::{Instant, Span};
use std::hint::black_box;
use std::time::Duration;

const RULES: LaneRules = LaneRules {
    mode: BatchingMode::Exclusive,
    max_items: 32,
    max_bytes: 2 << 20,
    max_delay: Duration::ZERO,
    in_flight: 1,
    max_queue_items: 4096,
    endpoints: 1,
};

fn job(body: &str) -> Job {
    let head = "content-type: application/json\r\n\r\n";
    let mut job = Job {
        ticket: Ticket { shard: 0, slot: 0, generation: 0 },
        generation: 1,
        model: ModelId(0),
        operation: Operation::Embeddings,
        priority: 0,
        hash: 0,
        credential: Bytes::new(),
        message: Bytes::from(format!("{head}{body}")),
        body: Span::new(head.len()..head.len() + body.len()),
        request: scan_embeddings(body.as_bytes()).unwrap(),
        arrived: Instant::ZERO,
        deadline: Instant::FAR,
    };
    job.hash = lane_hash(1, &job.key());
    job
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    group.throughput(Throughput::Elements(32));
    let vectors = [
        ("tiny", "[1.5]".to_owned()),
        ("base64_1024", format!("\"{}\"", "QUJD".repeat(1365))),
        ("floats_1024", format!("[{}0.1]", "-0.012345678,".repeat(1023))),
    ];
    for (name, vector) in vectors {
        let data: Vec<String> = (0..32).map(|index| format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#)).collect();
        let answer =
            format!(r#"{{"object":"list","data":[{}],"model":"m","usage":{{"prompt_tokens":700,"total_tokens":700}}}}"#, data.join(","));
        let answer = Bytes::from(answer);
        let template = job(r#"{"model":"m","input":"the quick brown fox jumps over it","encoding_format":"base64"}"#);
        let mut home = Home::new(HomeLimits::default());
        let mut now = Instant::ZERO;
        group.bench_function(format!("round_of_32_{name}"), |b| {
            b.iter(|| {
                for slot in 0..32 {
                    let mut job = template.clone();
                    job.ticket.slot = slot;
                    home.handle_job(job, &RULES, now);
                }
                let call = home.poll_call(now).unwrap();
                now = now + Duration::from_millis(5);
                let outcome = CallOutcome::Answered { status: 200, fields: Bytes::new(), body: answer.clone(), retry_after: None };
                home.handle_outcome(call.id, outcome, now);
                while let Some(answer) = home.poll_answer() {
                    black_box(answer);
                }
                while let Some(event) = home.poll_event() {
                    black_box(event);
                }
                black_box(home.next_timeout());
            });
        });
        group.bench_function(format!("one_alone_{name}"), |b| {
            b.iter(|| {
                home.handle_job(template.clone(), &RULES, now);
                let call = home.poll_call(now).unwrap();
                now = now + Duration::from_millis(5);
                let outcome = CallOutcome::Answered { status: 200, fields: Bytes::new(), body: answer.clone(), retry_after: None };
                home.handle_outcome(call.id, outcome, now);
                black_box(home.poll_answer());
                while home.poll_event().is_some() {}
            });
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
