//! Findings about what this process is allowed: locked memory, open files, cores, processor time.

use super::finding::Finding;
use super::machine::{Machine, show_cores};
use crate::config::units::show_size_rounded;
use crate::sys::cores;

const LIMITS: &str = "/proc/self/limits";

/// Rings count against the cgroup since 5.12; registered buffers still count here.
pub(super) fn memlock(machine: &Machine) -> Finding {
    const WHAT: &str = "locked memory";
    const ENOUGH: u64 = 8 << 20;
    match machine.limit("Max locked memory") {
        Some((None, _)) => Finding::ok(WHAT, LIMITS, "no limit"),
        Some((Some(bytes), _)) if bytes >= ENOUGH => Finding::ok(WHAT, LIMITS, show_size_rounded(bytes)),
        Some((Some(bytes), _)) => Finding::advice(
            WHAT,
            LIMITS,
            show_size_rounded(bytes),
            "registered buffers count against it, and a shard that gets none falls back to epoll",
            "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)",
        )
        .by("limits"),
        None => Finding::unread(WHAT, LIMITS),
    }
}

pub(super) fn nofile(machine: &Machine) -> Finding {
    const WHAT: &str = "open files";
    const WHY: &str = "each client and each upstream connection is one";
    const MEND: &str = "ulimit -n 1048576 (systemd: LimitNOFILE=1048576)";
    let Some((soft, hard)) = machine.limit("Max open files") else { return Finding::unread(WHAT, LIMITS) };
    let shown = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    let found = format!("{} (may be raised to {})", shown(soft), shown(hard));
    match soft {
        None => Finding::ok(WHAT, LIMITS, found),
        Some(limit) if limit >= 65_536 => Finding::ok(WHAT, LIMITS, found),
        Some(limit) if limit >= 1024 => Finding::advice(WHAT, LIMITS, found, WHY, MEND).by("limits"),
        Some(_) => Finding::problem(WHAT, LIMITS, found, WHY, MEND).by("limits"),
    }
}

pub(super) fn cores_allowed(machine: &Machine) -> Finding {
    const WHAT: &str = "cores";
    const PLACE: &str = "/proc/self/status, Cpus_allowed_list (affinity mask and cpuset)";
    let allowed = machine.allowed();
    let online = machine.cores_in("/sys/devices/system/cpu/online").map_or(0, |cores| cores.len());
    match allowed.len() {
        0 => Finding::unread(WHAT, PLACE),
        count if count < online => {
            Finding::ok(WHAT, PLACE, format!("{count} of {online} may be used ({}), so that many shards", show_cores(&allowed)))
        }
        count => Finding::ok(WHAT, PLACE, format!("{count}, one shard each")),
    }
}

pub(super) fn quota(machine: &Machine) -> Finding {
    const WHAT: &str = "cgroup cpu quota";
    const PLACE: &str = "/sys/fs/cgroup, cpu.max (v1: cpu.cfs_quota_us)";
    let quota = machine.quota();
    let Some(cpus) = quota else { return Finding::ok(WHAT, PLACE, "none") };
    let allowed = machine.allowed().len();
    let shards = cores::count(allowed, quota);
    let cores = u32::try_from(allowed).unwrap_or(u32::MAX);
    if cpus >= f64::from(cores) {
        return Finding::ok(WHAT, PLACE, format!("{cpus:.2} cores' worth of time"));
    }
    Finding::advice(
        WHAT,
        PLACE,
        format!("{cpus:.2} cores' worth of time on {allowed} cores, so {shards} shards"),
        "the kernel stops all shards for the rest of each period (100 ms) once the time is used up",
        "grant whole cores instead (cpuset, Kubernetes static CPU manager) and take the quota away",
    )
}
