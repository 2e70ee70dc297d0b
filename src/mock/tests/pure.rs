//! The cost machine, the vectors, the marks.

use std::time::Duration;

use crate::mock::{Gpu, Mark, MockStats, reply, token_item, vector, write_base64, write_numbers};
use crate::sys::Instant;

const MS: Duration = Duration::from_millis(1);

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

#[test]
fn calls_are_computed_one_after_the_other_in_the_order_they_came() {
    let mut gpu = Gpu::new(5 * MS, MS / 10);
    // (now, items, begins, done) in ms; the second and third wait for those before, the fourth finds the GPU idle.
    for (now, items, begins, done) in [(100, 10, 100, 106), (101, 20, 106, 113), (101, 10, 113, 119), (500, 0, 500, 505)] {
        let call = gpu.admit(at(now), items);
        assert_eq!((call.begins_at, call.done_at), (at(begins), at(done)));
    }
    assert_eq!(gpu.busy_until(), at(505));
}

#[test]
fn n_calls_take_at_least_n_times_their_cost() {
    let mut gpu = Gpu::new(5 * MS, MS / 10);
    let items = [1u32, 32, 7, 1, 1, 128];
    let last = items.iter().map(|items| gpu.admit(at(0), *items).done_at).max().unwrap();
    let sum: u32 = items.iter().sum();
    assert_eq!(last.since(at(0)), 5 * MS * 6 + MS / 10 * sum);
}

#[test]
fn a_free_gpu_answers_at_once() {
    let mut gpu = Gpu::new(Duration::ZERO, Duration::ZERO);
    assert_eq!(gpu.admit(at(7), 1_000_000).done_at, at(7));
}

#[test]
fn costs_beyond_time_saturate() {
    let mut gpu = Gpu::new(Duration::MAX, Duration::MAX);
    assert_eq!(gpu.admit(at(7), u32::MAX).done_at, Instant::FAR);
}

#[test]
fn an_abandoned_call_frees_its_time_when_it_stands_last() {
    let mut gpu = Gpu::new(10 * MS, Duration::ZERO);
    let (first, second) = (gpu.admit(at(0), 1), gpu.admit(at(0), 1));
    // In the middle of the line: those behind it keep the moment they were told.
    gpu.abandon(at(1), first);
    assert_eq!(gpu.busy_until(), at(20));
    // Not begun yet: all of it is free again.
    gpu.abandon(at(2), second);
    assert_eq!(gpu.busy_until(), at(10));
    // Running: the rest is free.
    let third = gpu.admit(at(10), 1);
    gpu.abandon(at(14), third);
    assert_eq!(gpu.busy_until(), at(14));
    // Over already: nothing is won.
    let fourth = gpu.admit(at(14), 1);
    gpu.abandon(at(99), fourth);
    assert_eq!(gpu.busy_until(), at(24));
}

/// Computed by a second implementation (Python) from the text at the head of `vector`.
const VECTORS: &[(&[u8], [f32; 4], &str, &str)] = &[
    (b"", [0.0, 0.397708, 0.532128, 0.904260], "AAAAAGKgyz6KOQg/lX1nPw==", "AAAAAGKgyz4="),
    (b"a", [0.000001, -0.219407, 0.414460, -0.784499], "vTeGNTusYL4aNNQ+7dRIvw==", "vTeGNTusYL4="),
    (b"hello", [0.000005, -0.894263, 0.887051, -0.105221], "rMWnNmzuZL/GFWM/HH7XvQ==", "rMWnNmzuZL8="),
    (b"eight by", [0.000008, -0.149837, -0.970060, 0.106677], "vTcGN99uGb7aVXi/eXnaPQ==", "vTcGN99uGb4="),
    (b"nine byte", [0.000009, 0.329019, 0.573494, -0.102307], "tf4WNy51qD6B0BI/VYbRvQ==", "tf4WNy51qD4="),
    ("grüß".as_bytes(), [0.000006, -0.243185, 0.787005, 0.450899], "nFPJNn0Feb4peUk/PNzmPg==", "nFPJNn0Feb4="),
    (b"[1,2,3]", [0.000007, -0.243256, 0.454808, 0.511696], "i+HqNhoYeb6Y3Og+gv4CPw==", "i+HqNhoYeb4="),
];

#[test]
fn vectors_are_those_of_the_recipe_in_every_form() {
    for (item, numbers, four, two) in VECTORS {
        assert_eq!(vector(item, 4), numbers, "{item:?}");
        let mut text = Vec::new();
        write_numbers(&mut text, item, 4);
        assert_eq!(serde_json::from_slice::<Vec<f32>>(&text).unwrap(), numbers, "the text is read back to the same numbers");
        for (dims, base64) in [(4, four), (2, two)] {
            let mut text = Vec::new();
            write_base64(&mut text, item, dims);
            assert_eq!(String::from_utf8(text).unwrap(), format!("\"{base64}\""), "{item:?}");
        }
        assert_eq!(vector(item, 64)[..4], numbers[..], "more elements do not change the first");
    }
}

#[test]
fn vectors_of_near_texts_differ() {
    let mut seen: Vec<Vec<u32>> = Vec::new();
    let texts = (0..2000).map(|n| format!("text {n}")).chain((0..40).map(|n| "x".repeat(n)));
    for text in texts {
        seen.push(vector(text.as_bytes(), 8).into_iter().map(f32::to_bits).collect());
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
    assert_ne!(vector(b"\0", 8)[1..], vector(b"", 8)[1..], "padding is not content");
}

#[test]
fn a_token_list_has_one_spelling() {
    assert_eq!(token_item(&[1, 20, 4_000_000_000]), b"[1,20,4000000000]");
    assert_eq!(token_item(&[]), b"[]");
}

#[test]
fn marks() {
    for (text, mark) in [
        ("hello", None),
        ("mock:", None),
        ("mock:unknown then mock:503.", Some(Mark::Unavailable)),
        ("xmock:poisoned", Some(Mark::Poison)),
        ("mock:stall", Some(Mark::Stall)),
        ("mock:close-mid-body", Some(Mark::CloseMidBody)),
        ("a mock:429 mock:500", Some(Mark::TooMany)),
        ("mock:500", Some(Mark::Broken)),
        ("[\"a\",\"mock:wrong-count\"]", Some(Mark::WrongCount)),
        ("mock:reversed", Some(Mark::Reversed)),
    ] {
        assert_eq!(Mark::find(text.as_bytes()), mark, "{text}");
    }
}

#[test]
fn a_chat_answer_repeats_the_last_message() {
    for (last, events, text) in [("how are you", 5, "how are you how are"), ("one", 2, "one one"), (" ", 2, "mock mock"), ("x", 0, "")] {
        assert_eq!(reply(last, events), text);
    }
}

#[test]
fn statistics_subtract() {
    let before = MockStats { calls: 2, items: 10, largest_batch: 8, cpu: MS, ..MockStats::default() };
    let now = MockStats { calls: 4, items: 20, largest_batch: 8, cpu: 3 * MS, in_flight: 1, ..MockStats::default() };
    let between = now.since(&before);
    assert_eq!((between.calls, between.items, between.in_flight, between.cpu), (2, 10, 1, 2 * MS));
    assert!((between.mean_batch() - 5.0).abs() < 1e-9);
    assert!(MockStats::default().mean_batch().abs() < 1e-9, "no calls, no mean");
    let mut json = Vec::new();
    now.write_json(&mut json);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&json["calls"], &json["largest_batch"], &json["cpu_us"]), (&4.into(), &8.into(), &3000.into()));
}
