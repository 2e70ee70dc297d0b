//! `[admission]`, `upstreams.concurrency`, `server.memory_max`: defaults, bounds, and what is fine alone and wrong together.

use std::time::Duration;

use super::{bad, good, with};
use crate::config::{Concurrency, ConcurrencyLimit, MemoryKind, MemoryMax, memory};

const OFF: &str = "batching = { mode = \"off\" }";

fn concurrency(inner: &str) -> Concurrency {
    good(&with(&format!("concurrency = {{ {inner} }}"), OFF, "")).upstreams[0].concurrency.clone().unwrap()
}

#[test]
fn what_is_left_out_has_its_default() {
    let fixed = concurrency("limit = 64");
    assert_eq!(fixed.limit, ConcurrencyLimit::Fixed(64));
    assert_eq!((fixed.queue_max, fixed.queue_timeout), (1024, Duration::from_secs(10)));
    assert_eq!(concurrency("limit = \"adaptive\"").limit, ConcurrencyLimit::Adaptive { min: 1, max: 1024 });
    assert_eq!(concurrency("limit = \"adaptive\", min = 2000").limit, ConcurrencyLimit::Adaptive { min: 2000, max: 2000 });
    let all = concurrency("limit = \"adaptive\", min = 4, max = 64, queue_max = 0, queue_timeout = \"250ms\"");
    assert_eq!(all.limit, ConcurrencyLimit::Adaptive { min: 4, max: 64 });
    assert_eq!((all.queue_max, all.queue_timeout), (0, Duration::from_millis(250)));
}

#[test]
fn fields_are_named_in_lower_case() {
    let config = good(&with("", "", "[admission]\npriority_header = \"X-Priority\"\ntenant_header = \"x-tenant\""));
    assert_eq!(config.admission.priority_header.as_deref(), Some("x-priority"));
    assert_eq!(config.admission.tenant_header.as_deref(), Some("x-tenant"));
    for name in ["", "x tenant", "x-tenant:", "ä"] {
        let found = bad(&with("", "", &format!("[admission]\ntenant_header = {name:?}")));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
    }
}

#[test]
fn limits_that_cannot_be() {
    for (inner, word) in [
        ("limit = 0", "cannot be 0"),
        ("limit = 1_000_001", "cannot be 1000001"),
        ("limit = \"learned\"", "cannot be \"learned\""),
        ("limit = 8, min = 4", "this one is fixed"),
        ("limit = \"adaptive\", min = 9, max = 8", "less than `min`"),
        ("limit = 8, queue_max = 65_537", "cannot be 65537"),
        ("limit = 8, queue_timeout = \"0s\"", "cannot be \"0s\""),
        ("queue_max = 8", "`upstreams.concurrency.limit` is missing"),
        ("limit = 8, quue_max = 8", "unknown key"),
    ] {
        let found = bad(&with(&format!("concurrency = {{ {inner} }}"), OFF, ""));
        assert!(found.len() == 1 && found[0].contains(word), "{inner}: {found:?}");
    }
}

#[test]
fn a_limit_is_not_learned_of_an_upstream_that_computes_one_call_at_a_time() {
    let found = bad(&with("concurrency = { limit = \"adaptive\" }", "", ""));
    assert!(found.len() == 1 && found[0].contains("computes one call at a time"), "{found:?}");
    good(&with("concurrency = { limit = \"adaptive\" }", "batching = { mode = \"batching\" }", ""));
    good(&with("concurrency = { limit = 8 }", "", ""));
}

#[test]
fn the_ceiling_on_memory() {
    let of = |value: &str| good(&with("", "", &format!("[server]\nmemory_max = {value:?}"))).server.memory_max;
    assert_eq!((of("auto"), of("none"), of("1GiB")), (MemoryMax::Auto, MemoryMax::None, MemoryMax::Bytes(1 << 30)));
    for value in ["1MiB", "much", "80%", "1024"] {
        assert_eq!(bad(&with("", "", &format!("[server]\nmemory_max = {value:?}"))).len(), 1, "{value}");
    }
}

#[test]
fn the_queue_is_in_the_memory_sum() {
    let sum = memory(&good(&with("concurrency = { limit = 8, queue_max = 100 }", "", "")), 3);
    let line = sum.lines.iter().find(|line| line.what.starts_with("requests waiting for a place")).unwrap();
    assert_eq!((line.kind, line.count), (MemoryKind::Load, 300));
}
