//! `headrace doctor`: looks at this machine and says what is missing and how to mend it. It changes nothing. Each finding is made
//! from what was read by a function of its own, so that tests can show it machines we do not have.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::Output;
use crate::sys::cores;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

/// What was found about one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) state: State,
    /// What is there.
    pub(crate) found: String,
    /// How to mend it; empty when there is nothing to mend.
    pub(crate) mend: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Ok,
    /// It works, but slower or with less room.
    Warn,
    /// It will fail under load, or at once.
    Bad,
}

pub(crate) fn run(args: DoctorArgs) -> ExitCode {
    let findings = examine();
    match args.output {
        Output::Human => super::say(&human(&findings)),
        Output::Json => super::say_json(&serde_json::json!({ "findings": findings })),
    }
    if findings.iter().any(|finding| finding.state == State::Bad) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Looks at everything.
fn examine() -> Vec<Finding> {
    use rustix::process::{Resource, getrlimit};
    let release = read("/proc/sys/kernel/osrelease");
    let seccomp = read("/proc/self/status").and_then(|status| status_field(&status, "Seccomp"));
    let memlock = getrlimit(Resource::Memlock);
    let nofile = getrlimit(Resource::Nofile);
    let allowed = cores::allowed_cores().len();
    let ring = probe_ring();
    vec![
        kernel(release.as_deref()),
        io_uring(
            ring.as_ref().err().and_then(std::io::Error::raw_os_error),
            ring.is_ok(),
            read("/proc/sys/kernel/io_uring_disabled").as_deref(),
        ),
        seccomp_state(seccomp.as_deref(), ring.is_ok()),
        memlock_limit(memlock.current),
        nofile_limit(nofile.current, nofile.maximum),
        cores_allowed(allowed, cores::online_count()),
        quota(allowed, cores::quota()),
        somaxconn(read("/proc/sys/net/core/somaxconn").as_deref()),
    ]
}

/// Makes a ring as a shard makes it, and throws it away.
fn probe_ring() -> std::io::Result<()> {
    io_uring::IoUring::<io_uring::squeue::Entry, io_uring::cqueue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_no_sqarray()
        .build(8)
        .map(drop)
}

/// 6.1 brings `DEFER_TASKRUN`, 6.6 `NO_SQARRAY`; buffer rings are there since 5.19.
fn kernel(release: Option<&str>) -> Finding {
    let Some(release) = release.map(str::trim) else { return unread("kernel") };
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {release}");
    match version {
        (0, _) => unread("kernel"),
        version if version >= (6, 6) => fine("kernel", found),
        _ => warn("kernel", found, "use Linux 6.6 or newer for the io_uring driver; until then the epoll driver serves"),
    }
}

fn io_uring(errno: Option<i32>, works: bool, disabled: Option<&str>) -> Finding {
    const WHAT: &str = "io_uring";
    if works {
        return fine(WHAT, "a ring with our flags can be made".to_owned());
    }
    let disabled = disabled.map_or("", str::trim);
    let (found, mend) = match (errno, disabled) {
        (_, "2") => ("switched off for everyone".to_owned(), "sysctl -w kernel.io_uring_disabled=0; until then the epoll driver serves"),
        (_, "1") => (
            "switched off for processes without CAP_SYS_ADMIN".to_owned(),
            "sysctl -w kernel.io_uring_disabled=0, or put this process into kernel.io_uring_group; until then the epoll driver serves",
        ),
        (Some(libc::EPERM | libc::EACCES), _) => (
            "refused, most likely by a seccomp profile (the default ones of Docker and containerd do)".to_owned(),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile; until then the epoll driver serves",
        ),
        (Some(libc::ENOSYS), _) => ("not in this kernel".to_owned(), "use a kernel with io_uring; until then the epoll driver serves"),
        (Some(libc::EINVAL), _) => {
            ("this kernel does not know our ring flags".to_owned(), "use Linux 6.6 or newer; until then the epoll driver serves")
        }
        (Some(libc::ENOMEM), _) => {
            ("no memory may be locked for a ring".to_owned(), "raise RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)")
        }
        (errno, _) => {
            let error = errno.map_or_else(|| "unknown error".to_owned(), |errno| std::io::Error::from_raw_os_error(errno).to_string());
            (format!("a ring cannot be made: {error}"), "until this is mended the epoll driver serves")
        }
    };
    warn(WHAT, found, mend)
}

/// `Seccomp:` of /proc/self/status: 0 none, 1 strict, 2 a filter (proc(5)).
fn seccomp_state(mode: Option<&str>, ring_works: bool) -> Finding {
    const WHAT: &str = "seccomp";
    match (mode, ring_works) {
        (Some("0"), _) => fine(WHAT, "no filter".to_owned()),
        (Some("2"), true) => fine(WHAT, "a filter is set, and it lets io_uring through".to_owned()),
        (Some("2"), false) => {
            warn(WHAT, "a filter is set".to_owned(), "if io_uring is refused above, allow its three calls in the profile")
        }
        (Some(mode), _) => warn(WHAT, format!("mode {mode}"), "run without strict seccomp"),
        (None, _) => unread(WHAT),
    }
}

/// Rings count against the cgroup since 5.12; registered buffers still count here.
fn memlock_limit(soft: Option<u64>) -> Finding {
    const WHAT: &str = "locked memory";
    const ENOUGH: u64 = 8 << 20;
    match soft {
        None => fine(WHAT, "no limit".to_owned()),
        Some(bytes) if bytes >= ENOUGH => fine(WHAT, crate::config::units::show_size_rounded(bytes)),
        Some(bytes) => warn(
            WHAT,
            crate::config::units::show_size_rounded(bytes),
            "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity): registered buffers need it",
        ),
    }
}

fn nofile_limit(soft: Option<u64>, hard: Option<u64>) -> Finding {
    const WHAT: &str = "open files";
    const MEND: &str = "ulimit -n 1048576 (systemd: LimitNOFILE=1048576): each client and each upstream connection is one";
    let shown = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    let found = format!("{} (may be raised to {})", shown(soft), shown(hard));
    match soft {
        None => fine(WHAT, found),
        Some(limit) if limit >= 65_536 => fine(WHAT, found),
        Some(limit) if limit >= 1024 => warn(WHAT, found, MEND),
        Some(_) => Finding { what: WHAT, state: State::Bad, found, mend: MEND.to_owned() },
    }
}

fn cores_allowed(allowed: usize, online: Option<usize>) -> Finding {
    const WHAT: &str = "cores";
    match (allowed, online) {
        (0, _) => unread(WHAT),
        (allowed, Some(online)) if allowed < online => {
            fine(WHAT, format!("{allowed} of {online} may be used (affinity mask), so that many shards"))
        }
        (allowed, _) => fine(WHAT, format!("{allowed}, one shard each")),
    }
}

fn quota(allowed: usize, quota: Option<f64>) -> Finding {
    const WHAT: &str = "cgroup cpu quota";
    let Some(cpus) = quota else { return fine(WHAT, "none".to_owned()) };
    let shards = cores::count(allowed, quota);
    let cores = u32::try_from(allowed).unwrap_or(u32::MAX);
    if cpus >= f64::from(cores) {
        return fine(WHAT, format!("{cpus:.2} cores' worth of time"));
    }
    warn(
        WHAT,
        format!("{cpus:.2} cores' worth of time on {allowed} cores, so {shards} shards; the kernel stops all of them when it is used up"),
        "grant whole cores instead (cpuset, Kubernetes static CPU manager) and take the quota away",
    )
}

fn somaxconn(text: Option<&str>) -> Finding {
    const WHAT: &str = "accept backlog";
    const ENOUGH: u32 = 4096;
    match text.and_then(|text| text.trim().parse::<u32>().ok()) {
        Some(backlog) if backlog >= ENOUGH => fine(WHAT, format!("net.core.somaxconn is {backlog}")),
        Some(backlog) => {
            warn(WHAT, format!("net.core.somaxconn is {backlog}"), "sysctl -w net.core.somaxconn=4096: bursts of connections wait there")
        }
        None => unread(WHAT),
    }
}

fn human(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Bad => "bad",
        };
        let _ = writeln!(out, "{state:<5} {:<17} {}", finding.what, finding.found);
        if !finding.mend.is_empty() {
            let _ = writeln!(out, "{:<23} mend: {}", "", finding.mend);
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// A field of /proc/self/status.
fn status_field(status: &str, name: &str) -> Option<String> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
}

fn fine(what: &'static str, found: String) -> Finding {
    Finding { what, state: State::Ok, found, mend: String::new() }
}

fn warn(what: &'static str, found: String, mend: &str) -> Finding {
    Finding { what, state: State::Warn, found, mend: mend.to_owned() }
}

fn unread(what: &'static str) -> Finding {
    warn(what, "cannot be read here".to_owned(), "mount /proc and /sys")
}

#[expect(clippy::disallowed_methods, reason = "the cli reads files; nothing is being served")]
fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests;
