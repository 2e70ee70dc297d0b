//! Which cores this process may use and how much of them: the affinity mask and the cgroup quota. It changes nothing; pinning is done
//! where shards start. No unsafe here: rustix asks the kernel.

use std::path::{Path, PathBuf};

use rustix::thread::{CpuSet, sched_getaffinity};

/// Where Linux shows control groups.
const CGROUP_ROOT: &str = "sys/fs/cgroup";

/// A core's number is below this on every kernel there is (`CONFIG_NR_CPUS` ends there).
const CORES_MAX: usize = 8192;

/// The cores of the affinity mask, ascending. Empty only when the kernel does not tell.
#[must_use]
pub fn allowed_cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// The cores' worth of time the cgroup grants (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`), the least along the path to the root.
/// `None` when there is no bound.
#[must_use]
pub fn quota() -> Option<f64> {
    quota_below(Path::new("/"))
}

/// [`quota`] of a machine whose /proc and /sys stand below `root`.
#[must_use]
pub fn quota_below(root: &Path) -> Option<f64> {
    let membership = read(&root.join("proc/self/cgroup"))?;
    let tightest = |left: Option<f64>, right: Option<f64>| match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (left, right) => left.or(right),
    };
    membership.lines().map(|line| line_quota(&root.join(CGROUP_ROOT), line)).fold(None, tightest)
}

/// The shards that `server.shards = "auto"` means: one per allowed core, and not more than the quota rounded up. At least 1.
#[must_use]
pub fn shard_count() -> u32 {
    count(allowed_cores().len(), quota())
}

/// The number of shards for a count of cores and a quota.
#[must_use]
pub fn count(cores: usize, quota: Option<f64>) -> u32 {
    let cores = u32::try_from(cores.max(1)).unwrap_or(u32::MAX);
    // Counted up instead of cast: a quota beyond the cores ends at the cores, and a strange one (NaN) at 1.
    match quota {
        Some(quota) => (1..=cores).find(|count| f64::from(*count) >= quota || quota.is_nan()).unwrap_or(cores),
        None => cores,
    }
}

/// The quota of one line of /proc/self/cgroup, `0::/path` (v2) or `4:cpu,cpuacct:/path` (v1); cgroups(7).
fn line_quota(groups: &Path, line: &str) -> Option<f64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, read_quota): (PathBuf, fn(&Path) -> Option<f64>) = if controllers.is_empty() {
        (groups.to_owned(), v2_quota)
    } else if controllers.split(',').any(|one| one == "cpu") {
        (groups.join(controllers), v1_quota)
    } else {
        return None;
    };
    // In a container the path may be the host's while the mount begins at our group: then only the root is there.
    let relative = path.trim_start_matches('/');
    let mut found: Option<f64> = None;
    let mut folder = root.join(relative);
    while folder.starts_with(&root) {
        if let Some(quota) = read_quota(&folder) {
            found = Some(found.map_or(quota, |least| least.min(quota)));
        }
        if !folder.pop() {
            break;
        }
    }
    found
}

fn v2_quota(folder: &Path) -> Option<f64> {
    parse_v2(&read(&folder.join("cpu.max"))?)
}

fn v1_quota(folder: &Path) -> Option<f64> {
    ratio(read(&folder.join("cpu.cfs_quota_us"))?.trim(), read(&folder.join("cpu.cfs_period_us"))?.trim())
}

/// `cpu.max`: `max 100000` or `150000 100000`.
#[must_use]
pub fn parse_v2(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    ratio(words.next()?, words.next().unwrap_or("100000"))
}

/// `0-3,8`: which (cpuset(7), list format). `None` when it is not such a list, or names cores that no kernel has.
#[must_use]
pub fn core_list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CORES_MAX {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    // "max" (v2) and -1 (v1) mean no bound.
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[expect(clippy::disallowed_methods, reason = "read once at the start, before any shard runs")]
fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests;
