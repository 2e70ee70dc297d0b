//! What the choice of an endpoint costs, per policy, among 4 and 64; and what a prompt costs to hash and to find.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "criterion's macros; a bench that cannot go on should stop")]

#[path = "samples/pace.rs"]
mod pace;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use headrace::config::check;
use headrace::policy::{Ask, Balancer, Prompt, Report, Wish, hash_bytes};
use headrace::sys::Instant;

fn balancer(endpoints: usize, zone: Option<&str>, lines: &str) -> Balancer {
    let list: Vec<String> =
        (0..endpoints).map(|at| format!("{{ url = \"http://10.0.0.{at}:8000\", zone = \"{}\" }}", ["a", "b"][at % 2])).collect();
    let text =
        format!("[[upstreams]]\nname = \"up\"\n{lines}\nendpoints = [{}]\n[[routes]]\npath = \"/\"\nupstream = \"up\"\n", list.join(", "));
    let config = check("bench.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    Balancer::for_upstream(&config.upstreams[0], zone)
}

/// Text that no other number has.
fn text(number: u64, len: usize) -> Vec<u8> {
    (0_u64..).flat_map(|at| hash_bytes(number, &at.to_le_bytes()).to_le_bytes()).take(len).collect()
}

fn wish(number: u64) -> Wish {
    Wish {
        key: Some(hash_bytes(1, &number.to_le_bytes())),
        session: None,
        model: Some(7),
        prompt: Some(Prompt::new(1, [], &text(number, 16 << 10), 2000)),
    }
}

fn choices(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy/choose");
    let wishes: Vec<Wish> = (0..64).map(wish).collect();
    let sessions: Vec<Wish> = wishes.iter().map(|wish| Wish { session: wish.key, ..wish.clone() }).collect();
    for (name, zone, lines) in [
        ("least in flight", None, ""),
        ("round robin", None, "balance = \"round_robin\""),
        ("two choices", None, "balance = \"p2c\""),
        ("consistent hash", None, "balance = \"consistent_hash\""),
        ("session", None, "affinity = { header = \"x\" }"),
        ("zones", Some("a"), ""),
        ("reported load", None, "engine = \"vllm\""),
        ("known prompt of 16 KiB", None, "prefix_affinity = {}"),
    ] {
        for endpoints in [4_usize, 64] {
            let mut balancer = balancer(endpoints, zone, lines);
            for (endpoint, wish) in (0..).zip(wishes.iter().take(endpoints)) {
                balancer.handle_prompt(wish.prompt.as_ref().unwrap(), endpoint);
                balancer.handle_report(endpoint, Report { waiting: endpoint, ..Report::default() }, Instant::ZERO);
            }
            let wishes = if name == "session" { &sessions } else { &wishes };
            let mut turn = 0;
            group.bench_function(format!("{name}, {endpoints}"), |bencher| {
                bencher.iter(|| {
                    turn = (turn + 1) % endpoints.min(wishes.len());
                    let random = (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let ask = Ask { wish: Some(&wishes[turn]), random, ..Ask::default() };
                    let choice = balancer.choose(black_box(&ask), &|endpoint| black_box(endpoint) < 1000).unwrap();
                    balancer.begin(choice.endpoint);
                    balancer.end(choice.endpoint);
                    choice
                });
            });
        }
    }
    group.finish();
}

fn prompts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy/prompt");
    for len in [1 << 10, 16 << 10, 256 << 10] {
        let text = text(3, len);
        group.bench_function(format!("{} KiB hashed", len >> 10), |bencher| bencher.iter(|| Prompt::new(1, [], black_box(&text), 500)));
    }
    let mut balancer = balancer(4, None, "prefix_affinity = {}");
    let wishes: Vec<Wish> = (0..512).map(wish).collect();
    let mut turn = 0;
    group.bench_function("16 KiB remembered", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % wishes.len();
            balancer.handle_prompt(wishes[turn].prompt.as_ref().unwrap(), 1);
        });
    });
    group.finish();
}

criterion_group!(name = benches; config = pace::short(); targets = choices, prompts);
criterion_main!(benches);
