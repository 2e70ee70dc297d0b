//! A machine as /proc and /sys show it, read below a root folder so that tests can show one we do not have. It reads and takes
//! apart; what is good is settled in the files beside this one.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::cores;

/// What the findings are made from.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
    /// Shards that will run; `None`: as many as `server.shards = "auto"` means.
    shards: Option<u32>,
    /// What came of asking this kernel for a ring.
    pub(super) ring: Ring,
    /// What `ethtool -g` says about a NIC.
    pub(super) ethtool: fn(&str) -> Ethtool,
}

#[derive(Debug)]
pub(super) enum Ring {
    Made,
    Refused(io::Error),
    /// Another machine's files are looked at, and this kernel cannot speak for it.
    Unasked,
}

/// The answer of a tool that may not be there.
#[derive(Debug)]
pub(super) enum Ethtool {
    Missing,
    /// The driver has nothing to say.
    Refused,
    Said(String),
}

impl Machine {
    /// This machine, or the one whose /proc and /sys stand below `root`.
    pub(super) fn new(root: &Path, shards: Option<u32>) -> Machine {
        let here = root == Path::new("/");
        let (ring, ethtool): (Ring, fn(&str) -> Ethtool) =
            if here { (probe_ring(), ask_ethtool) } else { (Ring::Unasked, |_| Ethtool::Refused) };
        Machine { root: root.to_owned(), shards, ring, ethtool }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without blanks around it.
    #[expect(clippy::disallowed_methods, reason = "the cli reads files; nothing is being served")]
    pub(super) fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.at(path)).ok().map(|text| text.trim().to_owned())
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The cores of a file in list format; a mask that is empty gives an empty list.
    pub(super) fn cores_in(&self, path: &str) -> Option<Vec<usize>> {
        let text = self.text(path)?;
        if text.is_empty() || text == "(null)" { Some(Vec::new()) } else { cores::core_list(&text) }
    }

    /// The names in a folder that begin with `prefix`, by the number in them and then by name. Empty when there is no folder.
    pub(super) fn names(&self, folder: &str, prefix: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.at(folder)) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort_by_key(|name| (name.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap_or(0), name.clone()));
        names
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// A field of /proc/self/status.
    pub(super) fn status(&self, name: &str) -> Option<String> {
        let status = self.text("/proc/self/status")?;
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
    }

    /// The soft and the hard limit of a line of /proc/self/limits; `None` inside means no limit.
    pub(super) fn limit(&self, name: &str) -> Option<(Option<u64>, Option<u64>)> {
        let limits = self.text("/proc/self/limits")?;
        let mut words = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        let mut bound = || match words.next()? {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        };
        Some((bound()?, bound()?))
    }

    /// The cores this process may use (affinity mask and cpuset), ascending.
    pub(super) fn allowed(&self) -> Vec<usize> {
        self.status("Cpus_allowed_list").and_then(|list| cores::core_list(&list)).unwrap_or_default()
    }

    pub(super) fn quota(&self) -> Option<f64> {
        cores::quota_below(&self.root)
    }

    /// The cores of the shards: the first of those allowed, one each.
    pub(super) fn shard_cores(&self) -> Vec<usize> {
        let mut allowed = self.allowed();
        let shards = self.shards.unwrap_or_else(|| cores::count(allowed.len(), self.quota()));
        allowed.truncate(usize::try_from(shards).unwrap_or(usize::MAX));
        allowed
    }
}

/// Makes a ring as a shard makes it, and throws it away.
fn probe_ring() -> Ring {
    let ring = io_uring::IoUring::<io_uring::squeue::Entry, io_uring::cqueue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_no_sqarray()
        .build(8);
    ring.map_or_else(Ring::Refused, |_| Ring::Made)
}

fn ask_ethtool(nic: &str) -> Ethtool {
    match std::process::Command::new("ethtool").args(["-g", nic]).output() {
        Ok(output) if output.status.success() => Ethtool::Said(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(_) => Ethtool::Refused,
        Err(_) => Ethtool::Missing,
    }
}

/// Cores as people write them: `0-3, 8`.
pub(super) fn show_cores(cores: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => parts.push((core, core)),
        }
    }
    let parts: Vec<String> =
        parts.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") }).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}
