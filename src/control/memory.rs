//! Keeps the process below its ceiling on memory: reads how much is resident, ten times a second, and tells the shards how near that is
//! to `server.memory_max`. What they then refuse is their matter (`shard/admit.rs`).
//!
//! What counts is what the kernel counts, all of it: held bodies, buffers, lanes, connections, and what the allocator keeps. A ceiling
//! of the process must hold for what it really has, not for what somebody thought of counting.
//!
//! ```text
//!            90 % of the ceiling            100 %
//!   fine ------------------------> near ------------> full
//!      <-------------------------       <------------
//!            85 %                           95 %
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::plane::Plane;
use crate::config::MemoryMax;
use crate::config::units::show_size_rounded;
use crate::mesh::Level;
use crate::sys::{GiveBack, give_back_memory};

/// Looks until it is dropped.
pub(super) async fn watch(plane: Arc<Plane>) {
    let mut known: Option<(MemoryMax, Option<u64>)> = None;
    loop {
        let wanted = plane.memory_max();
        let ceiling = match known {
            Some((max, ceiling)) if max == wanted => ceiling,
            _ => ceiling(wanted, Path::new("/")),
        };
        known = Some((wanted, ceiling));
        let before = plane.pressure().level();
        let level = match (ceiling, resident()) {
            (Some(ceiling), Some(resident)) => {
                let level = level(before, resident, ceiling);
                tell(before, level, resident, ceiling);
                level
            }
            _ => Level::Fine,
        };
        plane.pressure().set(level);
        plane.note_ceiling(ceiling);
        // Without a ceiling only a reload can change anything.
        tokio::time::sleep(if ceiling.is_some() { LOOK_EVERY } else { LOOK_IDLY }).await;
    }
}

/// Gives back, once a second, what scrapes and reloads left behind on this thread; until it is dropped.
pub(super) async fn tidy() {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        give_back_memory(GiveBack::All);
    }
}

fn tell(before: Level, level: Level, resident: u64, ceiling: u64) {
    let (resident, ceiling) = (show_size_rounded(resident), show_size_rounded(ceiling));
    match level {
        _ if level == before => {}
        Level::Fine => tracing::info!("memory is below its ceiling again: {resident} of {ceiling}"),
        Level::Near => tracing::warn!("memory is near its ceiling, {resident} of {ceiling}: bodies that would be held are refused"),
        Level::Full => tracing::error!("memory is at its ceiling, {resident} of {ceiling}: all requests are refused"),
    }
}

/// The level after `before` at this much of the ceiling. It is left later than it was reached: else it would change with every request.
fn level(before: Level, resident: u64, ceiling: u64) -> Level {
    let is_beyond = |percent: u64| resident / 100 * 100 >= ceiling / 100 * percent;
    let (full, near) = match before {
        Level::Fine => (100, 90),
        Level::Near => (100, 85),
        Level::Full => (95, 85),
    };
    if is_beyond(full) {
        Level::Full
    } else if is_beyond(near) {
        Level::Near
    } else {
        Level::Fine
    }
}

/// The ceiling in bytes that a configuration means on the machine whose /proc and /sys stand below `root`; `None`: there is none.
fn ceiling(max: MemoryMax, root: &Path) -> Option<u64> {
    match max {
        MemoryMax::None => None,
        MemoryMax::Bytes(bytes) => Some(bytes),
        MemoryMax::Auto => cgroup_max(root).map(|bytes| bytes / 5 * 4),
    }
}

/// The least `memory.max` (v2; v1: `memory.limit_in_bytes`) of this process's control group and those it lies in; cgroups(7).
fn cgroup_max(root: &Path) -> Option<u64> {
    let groups = root.join("sys/fs/cgroup");
    let membership = read(&root.join("proc/self/cgroup"))?;
    membership.lines().filter_map(|line| line_max(&groups, line)).min()
}

fn line_max(groups: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (top, file): (PathBuf, &str) = if controllers.is_empty() {
        (groups.to_owned(), "memory.max")
    } else if controllers.split(',').any(|one| one == "memory") {
        (groups.join(controllers), "memory.limit_in_bytes")
    } else {
        return None;
    };
    // In a container the path may be the host's while the mount begins at our group: then only the root is there.
    let folder = top.join(path.trim_start_matches('/'));
    let found = folder.ancestors().take_while(|folder| folder.starts_with(&top)).filter_map(|folder| read(&folder.join(file)));
    // "max" (v2) and a number near 2^63 (v1) mean no bound.
    found.filter_map(|text| text.trim().parse().ok()).filter(|bytes| (1..NO_BOUND).contains(bytes)).min()
}

/// Resident memory of this process in bytes (proc(5)).
pub(super) fn resident() -> Option<u64> {
    let text = read(Path::new("/proc/self/status"))?;
    let kib: u64 = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[expect(clippy::disallowed_methods, reason = "control may ask the system for files; these are not on a disk")]
fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

const TIDY_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_IDLY: Duration = Duration::from_secs(1);
const NO_BOUND: u64 = 1 << 60;

#[cfg(test)]
mod tests;
