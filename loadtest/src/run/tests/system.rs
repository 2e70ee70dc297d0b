//! What is read of this machine, and answers read by hand.

use std::path::Path;
use std::process;

use crate::run::host::show_date;
use crate::run::probe;
use crate::run::usage::{self, CpuReading, Stat};

/// Another process, not this one: a test thread that ends takes its time with it.
#[test]
fn a_process_that_works_is_read() {
    let mut child = process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let (proc, pids) = (usage::proc(), [child.id()]);
    let before = CpuReading::take(&proc, &pids);
    // Until the shell works and the exact count moves; it does not where the kernel has none, and then the test says so by failing.
    let (mut after, mut rss, mut pss) = (before.clone(), 0, 0);
    for _ in 0..100_000 {
        after = CpuReading::take(&proc, &pids);
        (rss, pss) = (usage::rss_bytes(&proc, &pids), usage::pss_bytes(&proc, &pids));
        if after.ns_since(&before) > 0 && rss > 100_000 {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(after.ns_since(&before) > 0);
    assert_eq!(before.ns_since(&after), 0, "time does not run backwards");
    assert!(rss > 100_000 && pss > 0, "{rss} {pss}");
}

#[test]
fn a_family_is_the_group_and_its_children() {
    // The test's own group has its parent in it where it was started without job control, so only what must be there is asked for.
    assert!(usage::family(&usage::proc(), process::id()).contains(&process::id()));
    assert!(usage::family(&usage::proc(), u32::MAX).is_empty());
    assert!(usage::family(Path::new("/nowhere"), 1).is_empty());
}

#[test]
fn a_stat_line_with_an_awkward_name() {
    let line = "77 (a (b) c) R 5 6 7 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 9 8 7";
    assert_eq!(Stat::parse(line), Some(Stat { pid: 77, parent: 5, group: 6, ticks: 127 }));
    assert_eq!(Stat::parse("77 (cut) R 5"), None);
    assert_eq!(Stat::parse(""), None);
}

#[test]
fn dates() {
    assert_eq!(show_date(0), "1970-01-01 00:00 UTC");
    assert_eq!(show_date(951_782_400), "2000-02-29 00:00 UTC");
    assert_eq!(show_date(1_795_370_700), "2026-11-22 18:05 UTC");
    assert_eq!(show_date(4_107_542_399), "2100-02-28 23:59 UTC");
}

#[test]
fn answers_are_judged() {
    let answer = |text: &str| probe::parse(text.as_bytes());
    let good = answer("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody").unwrap();
    assert_eq!((good.status, good.body.as_slice()), (200, &b"body"[..]));
    assert!(good.judge(None).is_ok() && good.judge(Some(&good)).is_ok());
    let other = answer("HTTP/1.1 200 OK\r\n\r\nanother").unwrap();
    assert!(other.judge(Some(&good)).unwrap_err().contains("where the upstream answers"));
    for bad in ["HTTP/1.1 502 Bad\r\n\r\nbody", "HTTP/1.1 200 OK\r\n\r\n"] {
        assert!(answer(bad).unwrap().judge(None).is_err(), "{bad:?}");
    }
    assert!(answer("HTTP/1.1 200 OK\r\nA: b\r\n").is_none() && answer("SSH-2.0").is_none());
}
