//! The keys that say how endpoints are chosen.

use std::time::Duration;

use super::{bad, good, with};
use crate::config::{Balance, Engine, HashKey, PrefixAffinity, Scrape, memory};

#[test]
fn everything_about_the_choice_can_be_set() {
    let config = good(
        r#"
        [server]
        zone = "rack-1"
        [[upstreams]]
        name = "chat"
        balance = "consistent_hash"
        hash = { header = "X-User" }
        affinity = { header = "X-Session-ID" }
        engine = "triton"
        scrape = { path = "/m", interval = "2s", port = 8002 }
        prefix_affinity = { max_entries = 2048, max_bytes = "64KiB", load_factor = 2 }
        zone_spill = 3
        endpoints = [{ url = "http://a", zone = "rack-1" }, { url = "http://b", zone = "rack-2", weight = 3 }]
        [[upstreams]]
        name = "infinity"
        endpoints = ["http://a"]
        balance = "p2c"
        engine = "infinity"
        prefix_affinity = {}
        [[upstreams]]
        name = "quiet"
        endpoints = ["http://a"]
        balance = "consistent_hash"
        hash.by = "credential"
        engine = "tei"
        scrape.interval = "0s"
        [[routes]]
        path = "/"
        upstream = "chat"
        "#,
    );
    assert_eq!(config.server.zone.as_deref(), Some("rack-1"));
    let [chat, infinity, quiet] = config.upstreams.as_slice() else { panic!("three upstreams") };
    assert_eq!((chat.balance, &chat.steering.hash), (Balance::ConsistentHash, &HashKey::Header("x-user".to_owned())));
    assert_eq!(chat.steering.affinity.as_deref(), Some("x-session-id"));
    assert_eq!(chat.steering.engine, Some(Engine::Triton));
    assert_eq!(chat.steering.scrape, Some(Scrape { path: "/m".to_owned(), interval: Duration::from_secs(2), port: Some(8002) }));
    assert_eq!(chat.steering.prefix_affinity, Some(PrefixAffinity { max_entries: 2048, max_bytes: 64 << 10, load_factor: 2.0 }));
    assert_eq!(chat.steering.zone_spill, 3);
    assert_eq!(chat.endpoints[1].zone.as_deref(), Some("rack-2"));
    assert_eq!(infinity.balance, Balance::P2c);
    assert_eq!(infinity.steering.scrape, Some(Scrape { path: "/models".to_owned(), interval: Duration::from_millis(500), port: None }));
    let usual = PrefixAffinity { max_entries: 65_536, max_bytes: 1 << 20, load_factor: 1.25 };
    assert_eq!(infinity.steering.prefix_affinity, Some(usual));
    assert_eq!(usual.entries(), 65_536, "the two bounds agree");
    assert_eq!((&quiet.steering.hash, quiet.steering.scrape.as_ref().unwrap().interval), (&HashKey::Credential, Duration::ZERO));
    // What the index may take is part of the sum.
    let line = memory(&config, 3).lines.into_iter().find(|line| line.what.starts_with("prompt index")).unwrap();
    assert_eq!((line.count, line.total_bytes), (3 * (2048 + 65_536), 3 * (2048 + 65_536) * 16));
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    for (lines, told) in [
        ("balance = \"p2\"", "`upstreams.balance` cannot be \"p2\""),
        ("hash = { header = \"x\" }", "`upstreams.hash` is there, but `balance` is \"least_in_flight\""),
        ("balance = \"consistent_hash\"\nhash = {}", "`upstreams.hash` says nothing"),
        ("balance = \"consistent_hash\"\nhash = { header = \"x\", by = \"client_ip\" }", "`upstreams.hash` has both"),
        ("balance = \"consistent_hash\"\nhash = { by = \"ip\" }", "`upstreams.hash.by` cannot be \"ip\""),
        ("balance = \"consistent_hash\"\nhash = { header = \"a b\" }", "`upstreams.hash.header` cannot be \"a b\""),
        ("affinity = {}", "`upstreams.affinity.header` is missing"),
        ("affinity = { header = \"\" }", "`upstreams.affinity.header` cannot be \"\""),
        ("affinity = { cookie = \"x\" }", "unknown key `upstreams.affinity.cookie`"),
        ("engine = \"vlm\"", "`upstreams.engine` cannot be \"vlm\""),
        ("scrape = { interval = \"1s\" }", "`upstreams.scrape` is there without `upstreams.engine`"),
        ("engine = \"vllm\"\nscrape = { interval = \"1ms\" }", "`upstreams.scrape.interval` cannot be \"1ms\""),
        ("engine = \"vllm\"\nscrape = { path = \"metrics\" }", "`upstreams.scrape.path` cannot be \"metrics\""),
        ("engine = \"vllm\"\nscrape = { port = 0 }", "`upstreams.scrape.port` cannot be 0"),
        ("prefix_affinity = { max_entries = 5 }", "`upstreams.prefix_affinity.max_entries` cannot be 5"),
        ("prefix_affinity = { max_bytes = \"1KiB\" }", "`upstreams.prefix_affinity.max_bytes` cannot be \"1KiB\""),
        ("prefix_affinity = { load_factor = 0.9 }", "`upstreams.prefix_affinity.load_factor` cannot be 0.9"),
        ("prefix_affinity = true", "`upstreams.prefix_affinity` must be a table"),
        ("zone_spill = 0", "`upstreams.zone_spill` cannot be 0"),
    ] {
        let found = bad(&with(lines, "", ""));
        assert!(found.iter().any(|mistake| mistake.contains(told)), "{lines}: {found:?}");
    }
    assert!(bad(&with("", "", "[server]\nzone = \"a b\""))[0].contains("`server.zone` cannot be \"a b\""));
    let many: Vec<String> = (0..256).map(|at| format!("\"http://e{at}\"")).collect();
    let text = with("prefix_affinity = {}", "", "").replace("\"http://127.0.0.1:8000\"", &many.join(", "));
    assert!(bad(&text)[0].contains("an upstream with `prefix_affinity` has 256 endpoints"), "{:?}", bad(&text));
}
