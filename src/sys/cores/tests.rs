//! How many shards a machine gets: affinity masks and cgroup quotas of machines we do not have.

use super::{allowed_cores, core_list, count, parse_v2, shard_count};

#[test]
fn the_quota_rounds_up_and_never_beyond_the_cores() {
    for (cores, quota, shards) in
        [(8, None, 8), (8, Some(2.0), 2), (8, Some(1.5), 2), (8, Some(0.1), 1), (2, Some(64.0), 2), (0, None, 1), (4, Some(f64::NAN), 1)]
    {
        assert_eq!(count(cores, quota), shards, "{cores} cores, quota {quota:?}");
    }
}

#[test]
fn cpu_max_is_read_as_the_kernel_writes_it() {
    assert_eq!(parse_v2("max 100000\n"), None);
    assert_eq!(parse_v2("150000 100000\n"), Some(1.5));
    assert_eq!(parse_v2("200000\n"), Some(2.0));
    assert_eq!(parse_v2(""), None);
    assert_eq!(parse_v2("100 0"), None);
}

#[test]
fn this_process_may_use_some_core() {
    assert!(!allowed_cores().is_empty());
    assert!(shard_count() >= 1);
}

#[test]
fn core_lists_are_read() {
    for (text, cores) in [
        ("0-3,8\n", Some(&[0, 1, 2, 3, 8][..])),
        ("0", Some(&[0])),
        ("3-1", None),
        ("", None),
        ("8192", None),
        ("0-18446744073709551615", None),
    ] {
        assert_eq!(core_list(text).as_deref(), cores, "{text:?}");
    }
}
