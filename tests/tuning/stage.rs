//! Where the scripts run in tests: a folder that holds a tree of /proc and /sys and the state to undo from, and, where the machine
//! allows it, namespaces of their own. What the scripts must do is in the files beside this one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Every script that changes something, with the arguments it needs to look at a tree.
pub(crate) const KNOBS: [&str; 9] =
    ["sysctls", "irq-affinity", "cpu-isolation", "cpu-governor", "busy-poll", "hugepages", "nic-ring", "nic-coalescing", "limits"];

/// A scratch folder, gone with its owner.
pub(crate) struct Stage {
    pub(crate) folder: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("headrace-tuning-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let stage = Stage { folder: std::env::temp_dir().join(name) };
        stage.put("proc/sys/kernel/random/boot_id", "first-boot");
        stage
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(crate) fn holds(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    }

    pub(crate) fn undo_file(&self, knob: &str) -> PathBuf {
        self.root().join("var/lib/headrace/tuning").join(format!("{knob}.undo"))
    }

    /// A script on the tree.
    pub(crate) fn run(&self, knob: &str, arguments: &[&str]) -> Ran {
        self.run_with(knob, arguments, |_| {})
    }

    pub(crate) fn run_with(&self, knob: &str, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Ran {
        let mut command = Command::new(script(knob));
        command.arg("--root").arg(self.root()).args(arguments);
        prepare(&mut command);
        Ran::of(command.output().unwrap())
    }

    /// A folder to be the whole PATH, with the tools the scripts use but for those of `without`.
    pub(crate) fn tools(&self, without: &[&str]) -> PathBuf {
        const TOOLS: [&str; 25] = [
            "bash",
            "env",
            "basename",
            "dirname",
            "cat",
            "tr",
            "sed",
            "head",
            "mkdir",
            "rm",
            "rmdir",
            "seq",
            "find",
            "sort",
            "wc",
            "grep",
            "paste",
            "comm",
            "pgrep",
            "ethtool",
            "ip",
            "mount",
            "unshare",
            "systemctl",
            "true",
        ];
        let folder = self.folder.join("tools");
        std::fs::create_dir_all(&folder).unwrap();
        for tool in TOOLS.iter().filter(|tool| !without.contains(tool)) {
            let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];
            if let Some(found) = places.iter().map(|place| Path::new(place).join(tool)).find(|path| path.exists()) {
                std::os::unix::fs::symlink(found, folder.join(tool)).unwrap();
            }
        }
        folder
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a script did.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) complaints: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), complaints: text(output.stderr) }
    }

    /// It went well and said this.
    #[track_caller]
    pub(crate) fn well(&self, said: &str) -> &Ran {
        self.ended(0, said)
    }

    #[track_caller]
    pub(crate) fn ended(&self, code: i32, said: &str) -> &Ran {
        let all = format!("{}{}", self.out, self.complaints);
        assert!(self.code == Some(code) && all.contains(said), "wanted {code} and {said:?}, not {:?}:\n{all}", self.code);
        self
    }
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name)
}

/// Runs bash lines in network and mount namespaces of their own, with a /sys that shows that network. `None` where that is refused.
pub(crate) fn in_namespaces(lines: &str) -> Option<Ran> {
    const PRELUDE: &str = "set -euo pipefail; mount --make-rprivate /; mount -t sysfs sysfs /sys";
    let run = |lines: &str| Command::new("unshare").args(["--net", "--mount", "--", "bash", "-c", lines]).output();
    if !run(PRELUDE).is_ok_and(|output| output.status.success()) {
        return None;
    }
    Some(Ran::of(run(&format!("{PRELUDE}\n{lines}")).unwrap()))
}

/// Said past the test harness, which would swallow it: what was not tested, and why.
pub(crate) fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped {name}: {why}");
}
