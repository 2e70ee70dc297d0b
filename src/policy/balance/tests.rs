//! Where calls go and why, one module per rule.

mod placing;
mod prompts;
mod reports;

use crate::config::{Config, check};
use crate::policy::{Ask, Balancer, Choice, Why, Wish};
use crate::sys::Instant;

const ALL: &dyn Fn(u32) -> bool = &|_| true;

/// The only upstream of a configuration with these lines, at a gateway in this zone.
fn balancer(zone: Option<&str>, upstream: &str) -> Balancer {
    Balancer::for_upstream(&config(upstream).upstreams[0], zone)
}

fn config(upstream: &str) -> Config {
    let text = format!("[[upstreams]]\nname = \"up\"\n{upstream}\n[[routes]]\npath = \"/\"\nupstream = \"up\"\n");
    check("test.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

const FOUR: &str = "endpoints = [\"http://a\", \"http://b\", \"http://c\", \"http://d\"]";

fn four(more: &str) -> Balancer {
    balancer(None, &format!("{FOUR}\n{more}"))
}

fn choose(balancer: &mut Balancer, wish: &Wish) -> Choice {
    choose_at(balancer, wish, Instant::ZERO)
}

fn choose_at(balancer: &mut Balancer, wish: &Wish, now: Instant) -> Choice {
    balancer.choose(&Ask { wish: Some(wish), now, ..Ask::default() }, ALL).unwrap()
}

fn begin(balancer: &mut Balancer, endpoint: u32, calls: u32) {
    (0..calls).for_each(|_| balancer.begin(endpoint));
}

fn keyed(key: u64) -> Wish {
    Wish { key: Some(key), ..Wish::default() }
}

fn session(session: u64) -> Wish {
    Wish { session: Some(session), ..Wish::default() }
}

#[test]
fn an_upstream_that_asks_for_nothing_is_plain() {
    assert!(!four("").is_steered());
    assert!(!four("balance = \"round_robin\"").is_steered());
    let near = "endpoints = [{ url = \"http://a\", zone = \"x\" }, \"http://b\"]";
    assert!(!balancer(Some("x"), near).is_steered(), "all are near");
    assert!(!balancer(None, near).is_steered(), "no zone of our own");
    assert!(balancer(Some("y"), near).is_steered());
    for asking in
        ["balance = \"p2c\"", "balance = \"consistent_hash\"", "affinity = { header = \"x\" }", "engine = \"vllm\"", "prefix_affinity = {}"]
    {
        assert!(four(asking).is_steered(), "{asking}");
    }
}

/// Whatever is configured: the endpoint that just failed is the last resort, and an unusable one is none.
#[test]
fn every_way_avoids_and_ends_with_the_last_resort() {
    for asking in
        ["balance = \"p2c\"", "balance = \"consistent_hash\"", "affinity = { header = \"x\" }", "engine = \"vllm\"", "prefix_affinity = {}"]
    {
        let mut balancer = four(asking);
        let prompt = crate::policy::Prompt::new(1, [], &[b'x'; 2000], 300);
        let wish = Wish { key: Some(1), session: None, model: Some(5), prompt: Some(prompt) };
        for avoid in 0..4 {
            for random in 0..50_u64 {
                let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let ask = Ask { avoid: Some(avoid), wish: Some(&wish), now: Instant::ZERO, random };
                assert_ne!(balancer.choose(&ask, ALL).unwrap().endpoint, avoid, "{asking}");
                let only = balancer.choose(&ask, &|endpoint| endpoint == avoid);
                assert_eq!(only, Some(Choice { endpoint: avoid, why: Why::LastResort }), "{asking}");
                let other = balancer.choose(&ask, &|endpoint| endpoint == (avoid + 1) % 4).unwrap();
                assert_eq!(other.endpoint, (avoid + 1) % 4, "{asking}");
                assert_eq!(balancer.choose(&ask, &|_| false), None, "{asking}");
            }
        }
    }
}

/// Telling changes nothing, and tells what then happens.
#[test]
fn an_explanation_is_what_happens() {
    for asking in [
        "balance = \"p2c\"",
        "balance = \"consistent_hash\"",
        "affinity = { header = \"x\" }",
        "balance = \"round_robin\"\nengine = \"tgi\"",
    ] {
        let mut balancer = four(asking);
        begin(&mut balancer, 2, 3);
        for key in 0..40 {
            let wish = Wish { key: Some(key), session: (key % 3 == 0).then_some(key), ..Wish::default() };
            let ask = Ask { wish: Some(&wish), random: key << 60 | key << 29, ..Ask::default() };
            let told = balancer.explain(&ask, ALL);
            assert_eq!(told.choice, balancer.choose(&ask, ALL), "{asking}");
            assert_eq!((told.candidates.len(), told.candidates[2].in_flight), (4, 3));
        }
    }
}
