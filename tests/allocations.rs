//! What a request costs the allocator when everything is warm: on the forward path nothing, on the coalescing path a number that must
//! not grow. Whole exchanges of a real shard on a scripted driver (those of `benches/instructions`), so all of ours is in it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "../benches/instructions/exchange.rs"]
mod exchange;
#[path = "../benches/samples/mod.rs"]
mod samples;
#[path = "../benches/instructions/script.rs"]
mod script;

/// Allocations (growing in place included) over `ROUNDS` rounds, after as many to warm up.
fn allocations(mut round: Box<dyn FnMut()>) -> u64 {
    for _ in 0..ROUNDS {
        round();
    }
    allocation_counter::measure(|| (0..ROUNDS).for_each(|_| round())).count_total
}

const ROUNDS: u32 = 300;

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(Box::new(|| drop(std::hint::black_box(Box::new(1))))), u64::from(ROUNDS));
}

#[test]
fn a_forwarded_request_allocates_nothing() {
    assert_eq!(allocations(exchange::forward_by_route()), 0, "by route");
    assert_eq!(allocations(exchange::forward_by_model(70)), 0, "by model");
}

#[test]
fn coalesced_requests_allocate_little() {
    let each = |count: u64, requests: u64| count / (u64::from(ROUNDS) * requests);
    let alone = each(allocations(exchange::embedding_alone()), 1);
    assert!(alone <= ALONE_MAX, "a lone one: {alone}");
    let merged = each(allocations(exchange::embeddings_32()), 32);
    assert!(merged <= MERGED_MAX, "one of 32: {merged}");
}

/// As counted when this was written; lower them when the code gets better.
const ALONE_MAX: u64 = 7;
const MERGED_MAX: u64 = 1;
