//! What a contender has used, from /proc: processor time of all its processes and threads to the nanosecond, and its memory. Which processes
//! are its own: those of its process group and all their descendants.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Processor time so far, thread by thread, with the coarse sum beside it that also knows threads that have ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct CpuReading {
    threads: BTreeMap<u32, u64>,
    ticks: u64,
}

/// Nanoseconds of one clock tick in /proc/PID/stat: USER_HZ is 100 on every Linux this runs on.
const TICK_NS: u64 = 10_000_000;

impl CpuReading {
    pub(crate) fn take(proc: &Path, pids: &[u32]) -> CpuReading {
        let mut reading = CpuReading::default();
        for pid in pids {
            let folder = proc.join(pid.to_string());
            reading.ticks += read(&folder.join("stat")).and_then(|text| Stat::parse(&text)).map_or(0, |stat| stat.ticks);
            for thread in numbers(&folder.join("task")) {
                let place = folder.join("task").join(thread.to_string()).join("schedstat");
                if let Some(ns) = read(&place).and_then(|text| text.split(' ').next()?.parse().ok()) {
                    reading.threads.insert(thread, ns);
                }
            }
        }
        reading
    }

    /// Nanoseconds used since `earlier`. Threads that ended in between took their exact figure with them; then the coarse sum counts.
    pub(crate) fn ns_since(&self, earlier: &CpuReading) -> u64 {
        let lost = earlier.threads.keys().any(|thread| !self.threads.contains_key(thread));
        let fine: u64 = self.threads.iter().map(|(thread, ns)| ns.saturating_sub(earlier.threads.get(thread).copied().unwrap_or(0))).sum();
        let coarse = self.ticks.saturating_sub(earlier.ticks) * TICK_NS;
        if lost { fine.max(coarse) } else { fine }
    }
}

/// Resident memory in bytes of all these processes.
pub(crate) fn rss_bytes(proc: &Path, pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| kib_field(&read(&proc.join(pid.to_string()).join("status"))?, "VmRSS:")).sum::<u64>() * 1024
}

/// The same with shared pages divided among those who share them. It makes the kernel walk every page, so not while latency counts.
pub(crate) fn pss_bytes(proc: &Path, pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| kib_field(&read(&proc.join(pid.to_string()).join("smaps_rollup"))?, "Pss:")).sum::<u64>() * 1024
}

/// The processes of the group `leader` leads, and all descendants of any of them.
pub(crate) fn family(proc: &Path, leader: u32) -> Vec<u32> {
    let stats: Vec<Stat> = numbers(proc).filter_map(|pid| Stat::parse(&read(&proc.join(pid.to_string()).join("stat"))?)).collect();
    let mut family: Vec<u32> = stats.iter().filter(|stat| stat.group == leader || stat.pid == leader).map(|stat| stat.pid).collect();
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        let children: Vec<u32> =
            stats.iter().filter(|stat| stat.parent == parent && !family.contains(&stat.pid)).map(|stat| stat.pid).collect();
        family.extend(children);
        at += 1;
    }
    family
}

/// What /proc/PID/stat says, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// utime + stime + those of children that were waited for.
    pub(crate) ticks: u64,
}

impl Stat {
    /// The command's name stands in brackets and may hold blanks and brackets, so fields are counted from the last bracket on.
    pub(crate) fn parse(text: &str) -> Option<Stat> {
        let (head, tail) = text.rsplit_once(')')?;
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            pid: head.split(' ').next()?.parse().ok()?,
            parent: u32::try_from(field(4)?).ok()?,
            group: u32::try_from(field(5)?).ok()?,
            ticks: (14..=17).map(field).sum::<Option<u64>>()?,
        })
    }
}

/// The number of `Name:    123 kB`.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The entries of a folder that are numbers; a folder that has gone has none.
fn numbers(folder: &Path) -> impl Iterator<Item = u32> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// `None` when the process has gone in the meantime.
fn read(place: &Path) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the runner is a tool, not a shard; /proc does not block")]
    fs::read_to_string(place).ok()
}

/// Where the kernel shows processes.
pub(crate) fn proc() -> PathBuf {
    PathBuf::from("/proc")
}
