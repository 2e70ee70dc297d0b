//! Levels with their hysteresis, and the ceiling from a pretend machine's control groups.

use std::path::Path;

use super::{ceiling, level, resident};
use crate::config::MemoryMax;
use crate::mesh::Level;

#[test]
fn levels_are_left_later_than_they_are_reached() {
    let ceiling = 1000 << 20;
    let mut now = Level::Fine;
    for (percent, wanted) in [
        (10, Level::Fine),
        (89, Level::Fine),
        (91, Level::Near),
        (86, Level::Near),
        (99, Level::Near),
        (101, Level::Full),
        (96, Level::Full),
        (94, Level::Near),
        (99, Level::Near),
        (84, Level::Fine),
        (500, Level::Full),
        (1, Level::Fine),
    ] {
        now = level(now, (ceiling / 100) * percent, ceiling);
        assert_eq!(now, wanted, "at {percent} %");
    }
}

/// A machine with these files, below a folder of its own.
fn machine(name: &str, files: &[(&str, &str)], check: impl Fn(&Path)) {
    let root = std::env::temp_dir().join(format!("headrace-memory-{}-{name}", std::process::id()));
    for (file, text) in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, text);
    }
    check(&root);
    std::fs::remove_dir_all(&root).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test makes its files")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn auto_is_four_fifths_of_the_tightest_group() {
    let v2 = [
        ("proc/self/cgroup", "0::/a/b\n"),
        ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ("sys/fs/cgroup/a/memory.max", "1000\n"),
        ("sys/fs/cgroup/memory.max", "5000\n"),
    ];
    machine("v2", &v2, |root| assert_eq!(ceiling(MemoryMax::Auto, root), Some(800)));
    let v1 = [("proc/self/cgroup", "9:pids:/\n4:memory:/gone\n0::/\n"), ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n")];
    machine("v1", &v1, |root| assert_eq!(ceiling(MemoryMax::Auto, root), Some(1600)));
    let unbound = [("proc/self/cgroup", "4:memory:/\n"), ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")];
    machine("unbound", &unbound, |root| assert_eq!(ceiling(MemoryMax::Auto, root), None));
    let nowhere = Path::new("/nonexistent");
    assert_eq!((ceiling(MemoryMax::Auto, nowhere), ceiling(MemoryMax::None, nowhere)), (None, None));
    assert_eq!(ceiling(MemoryMax::Bytes(77), nowhere), Some(77));
}

#[test]
fn this_process_has_some_memory() {
    assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
}
