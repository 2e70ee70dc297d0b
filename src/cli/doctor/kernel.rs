//! Findings about the kernel: its version, io_uring and who may refuse it, the clock, cores taken from the scheduler.

use super::finding::Finding;
use super::machine::{Machine, Ring, show_cores};

const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

/// 6.1 brings `DEFER_TASKRUN`, 6.6 `NO_SQARRAY`; buffer rings are there since 5.19.
pub(super) fn version(machine: &Machine) -> Finding {
    const WHAT: &str = "kernel";
    const PLACE: &str = "/proc/sys/kernel/osrelease";
    let Some(release) = machine.text(PLACE) else { return Finding::unread(WHAT, PLACE) };
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {release}");
    match version {
        (0, _) => Finding::unread(WHAT, PLACE),
        version if version >= (6, 6) => Finding::ok(WHAT, PLACE, found),
        _ => Finding::advice(
            WHAT,
            PLACE,
            found,
            "the io_uring driver needs flags of 6.6; until then the epoll driver serves",
            "use Linux 6.6 or newer",
        ),
    }
}

pub(super) fn io_uring(machine: &Machine) -> Finding {
    const WHAT: &str = "io_uring";
    const PLACE: &str = "io_uring_setup(2)";
    const WHY: &str = "the epoll driver serves in its place: more system calls and more processor time per request";
    const LIFT: &str = "sysctl -w kernel.io_uring_disabled=0";
    const SYSCTLS: &str = "sysctls --io-uring";
    let disabled = machine.text(DISABLED);
    let by_sysctl = |found: &str, mend: &str| Finding::advice(WHAT, DISABLED, found, WHY, mend).by(SYSCTLS);
    let error = match (&machine.ring, disabled.as_deref()) {
        (Ring::Made, _) => return Finding::ok(WHAT, PLACE, "a ring with our flags can be made"),
        (_, Some("2")) => return by_sysctl("switched off for everyone", LIFT),
        (_, Some("1")) => {
            return by_sysctl(
                "switched off for processes without CAP_SYS_ADMIN",
                &format!("{LIFT}, or put this process into kernel.io_uring_group"),
            );
        }
        (Ring::Unasked, Some(_)) => return Finding::ok(WHAT, DISABLED, "not switched off; a ring was not asked for on another root"),
        (Ring::Unasked, None) => return Finding::unread(WHAT, DISABLED),
        (Ring::Refused(error), _) => error,
    };
    let (found, mend) = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => (
            "refused, most likely by a seccomp profile (the default ones of Docker and containerd do)".to_owned(),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile (deploy/seccomp-io_uring)",
        ),
        Some(libc::ENOSYS) => ("not in this kernel".to_owned(), "use a kernel with io_uring"),
        Some(libc::EINVAL) => ("this kernel does not know our ring flags".to_owned(), "use Linux 6.6 or newer"),
        Some(libc::ENOMEM) => {
            let finding = Finding::advice(WHAT, PLACE, "no memory may be locked for a ring", WHY, "raise RLIMIT_MEMLOCK");
            return finding.by("limits");
        }
        _ => (format!("a ring cannot be made: {error}"), "run `headrace serve --io uring` to see which shard is refused it, and why"),
    };
    Finding::advice(WHAT, PLACE, found, WHY, mend)
}

/// `Seccomp:` of /proc/self/status: 0 none, 1 strict, 2 a filter (proc(5)).
pub(super) fn seccomp(machine: &Machine) -> Finding {
    const WHAT: &str = "seccomp";
    const PLACE: &str = "/proc/self/status, Seccomp";
    const WHY: &str = "a profile that refuses io_uring leaves the epoll driver";
    match (machine.status("Seccomp").as_deref(), &machine.ring) {
        (Some("0"), _) => Finding::ok(WHAT, PLACE, "no filter"),
        (Some("2"), Ring::Made) => Finding::ok(WHAT, PLACE, "a filter is set, and it lets io_uring through"),
        (Some("2"), _) => {
            let mend = "if io_uring is refused above, allow its three calls in the profile (deploy/seccomp-io_uring)";
            Finding::advice(WHAT, PLACE, "a filter is set", WHY, mend)
        }
        (Some(mode), _) => Finding::advice(WHAT, PLACE, format!("mode {mode}"), WHY, "run without strict seccomp"),
        (None, _) => Finding::unread(WHAT, PLACE),
    }
}

/// The clocks that a program reads without a system call; others cost a microsecond a reading, or the hypervisor's time.
pub(super) fn clock(machine: &Machine) -> Finding {
    const WHAT: &str = "clocksource";
    const FAST: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
    const PLACE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match machine.text(PLACE) {
        Some(clock) if FAST.contains(&clock.as_str()) => Finding::ok(WHAT, PLACE, clock),
        Some(clock) => Finding::advice(
            WHAT,
            PLACE,
            clock,
            "each reading of the clock is a system call, and a shard reads it every turn",
            "find out why the kernel gave the TSC up (dmesg | grep -i tsc); boot with tsc=reliable only if the board's TSCs agree",
        ),
        None => Finding::unread(WHAT, PLACE),
    }
}

/// `isolcpus=` takes cores out of the mask that processes inherit: shards get them only by being sent there.
pub(super) fn isolation(machine: &Machine) -> Finding {
    const WHAT: &str = "isolated cores";
    const PLACE: &str = "/sys/devices/system/cpu/isolated";
    let isolated = machine.cores_in(PLACE).unwrap_or_default();
    let tickless = machine.cores_in("/sys/devices/system/cpu/nohz_full").unwrap_or_default();
    let shards = machine.shard_cores();
    let found = format!("isolcpus {}, nohz_full {}", show_cores(&isolated), show_cores(&tickless));
    if isolated.is_empty() || shards.iter().any(|core| isolated.contains(core)) {
        return Finding::ok(WHAT, PLACE, found);
    }
    Finding::advice(
        WHAT,
        PLACE,
        format!("{found}, and no shard runs on one (shards: {})", show_cores(&shards)),
        "isolated cores are not in the mask that a process inherits, so they stand idle",
        &format!("give them to headrace: CPUAffinity={} in its unit, or taskset", show_cores(&isolated)),
    )
    .by("cpu-isolation")
}
