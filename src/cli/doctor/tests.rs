//! Machines we do not have, as trees of files: one that is well in everything, and what is said when one thing of it changes.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests write the trees, and number them so that those of two tests do not meet"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::finding::{Finding, State, human};
use super::machine::{Ethtool, Machine, Ring, show_cores};
use super::{DoctorArgs, examine};

/// A folder of files, gone with its owner.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Tree {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("headrace-doctor-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Tree(std::env::temp_dir().join(name))
    }

    /// Four cores on one node, two NIC queues for each pair of shards' worth of work, nothing to mend.
    fn well() -> Tree {
        let tree = Tree::new();
        for line in WELL.lines().filter(|line| !line.is_empty()) {
            let (path, text) = line.split_once(" =").unwrap();
            tree.put(path, &text.trim_start().replace("\\n", "\n").replace("\\t", "\t"));
        }
        for core in 0..4 {
            let folder = format!("sys/devices/system/cpu/cpu{core}");
            tree.put(&format!("{folder}/cpufreq/scaling_governor"), "performance");
            tree.put(&format!("{folder}/cpuidle/state0/name"), "POLL");
            tree.put(&format!("{folder}/cpuidle/state0/latency"), "0");
            tree.put(&format!("{folder}/cpuidle/state1/name"), "C1");
            tree.put(&format!("{folder}/cpuidle/state1/latency"), "2");
            let nic = "sys/class/net/eth0";
            tree.put(&format!("{nic}/queues/rx-{core}/rps_cpus"), "0");
            tree.put(&format!("{nic}/queues/tx-{core}/xps_cpus"), "0");
            tree.put(&format!("{nic}/device/msi_irqs/{}", 41 + core), "msix");
            tree.put(&format!("proc/irq/{}/smp_affinity_list", 41 + core), "0-3");
            tree.put(&format!("proc/irq/{}/effective_affinity_list", 41 + core), &core.to_string());
        }
        tree
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }

    fn take(&self, path: &str) {
        let path = self.0.join(path);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }

    fn machine(&self) -> Machine {
        let mut machine = Machine::new(&self.0, None);
        machine.ring = Ring::Made;
        machine.ethtool = |_| Ethtool::Said(RINGS.replace("NOW", "1024"));
        machine
    }

    /// All findings but those that are ok.
    fn complaints(&self) -> Vec<Finding> {
        examine(&self.machine()).into_iter().filter(|finding| finding.state != State::Ok).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const RINGS: &str = "Ring parameters for eth0:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\nTX:\t\t4096\n\
    Current hardware settings:\nRX:\t\tNOW\nRX Mini:\tn/a\nTX:\t\tNOW\n";

const WELL: &str = r"
proc/sys/kernel/osrelease = 6.18.0-1-generic
proc/sys/kernel/io_uring_disabled = 0
proc/self/status = Name:\theadrace\nCpus_allowed_list:\t0-3\nSeccomp:\t0\nSeccomp_filters:\t0
proc/self/limits = Limit  Soft Limit  Hard Limit  Units\nMax open files  1048576  1048576  files\nMax locked memory  unlimited  unlimited  bytes
proc/self/cgroup = 0::/headrace
proc/interrupts =   CPU0 CPU1\n 40: 0 0 PCI-MSI 0-edge eth0-config\n 41: 9 0 PCI-MSI 1-edge eth0-0\n 42: 0 9 x eth0-1\n 43: 1 1 x eth0-2\n 44: 1 1 x eth0-3
proc/1/comm = systemd
proc/sys/net/core/somaxconn = 4096
proc/sys/net/ipv4/tcp_max_syn_backlog = 8192
proc/sys/net/ipv4/ip_local_port_range = 32768\t60999
proc/sys/net/ipv4/tcp_tw_reuse = 2
proc/sys/net/ipv4/tcp_slow_start_after_idle = 0
proc/sys/net/core/netdev_max_backlog = 1000
proc/net/softnet_stat = 00a1 00000000 00000002 0\n00b7 00000000 00000000 0
proc/sys/net/core/busy_read = 0
proc/sys/net/core/busy_poll = 0
proc/sys/vm/nr_hugepages = 0
proc/sys/vm/swappiness = 60
proc/sys/kernel/numa_balancing = 1
proc/swaps = Filename Type Size Used Priority
sys/kernel/mm/transparent_hugepage/enabled = always [madvise] never
sys/devices/system/cpu/online = 0-3
sys/devices/system/cpu/isolated =
sys/devices/system/cpu/nohz_full = (null)
sys/devices/system/cpu/intel_pstate/no_turbo = 0
sys/devices/system/node/node0/cpulist = 0-3
sys/devices/system/clocksource/clocksource0/current_clocksource = tsc
sys/fs/cgroup/headrace/cpu.max = max 100000
sys/class/net/eth0/operstate = up
sys/class/net/eth0/device/numa_node = 0
sys/class/net/lo/operstate = unknown
sys/class/net/lo/queues/rx-0/rps_cpus = 0
";

#[test]
fn nothing_is_said_against_a_machine_that_is_well() {
    let tree = Tree::well();
    assert_eq!(tree.complaints(), []);
    let findings = examine(&tree.machine());
    assert_eq!(findings.iter().filter(|finding| finding.what.starts_with("NIC")).count(), 4, "eth0 alone is a card");
}

/// One file changed, and exactly this is said.
struct Case(&'static str, &'static str, &'static str, State, &'static str, &'static str);

const CASES: &[Case] = &[
    // path, text, what, state, a word of what was found or is to be done, the script
    Case("proc/sys/kernel/osrelease", "6.1.0-18-amd64", "kernel", State::Advice, "6.6", ""),
    Case("proc/sys/kernel/osrelease", "5.15.0", "kernel", State::Advice, "5.15.0", ""),
    Case("proc/sys/kernel/osrelease", "what", "kernel", State::Advice, "cannot be read", ""),
    Case("proc/self/status", "Cpus_allowed_list:\t0-3\nSeccomp:\t1", "seccomp", State::Advice, "mode 1", ""),
    Case(
        "proc/self/limits",
        "Max open files 1024 1048576 files\nMax locked memory 8388608 8388608 bytes",
        "open files",
        State::Advice,
        "1024 (",
        "limits",
    ),
    Case(
        "proc/self/limits",
        "Max open files 256 256 files\nMax locked memory 8388608 8388608 bytes",
        "open files",
        State::Problem,
        "256",
        "limits",
    ),
    Case(
        "proc/self/limits",
        "Max open files unlimited unlimited files\nMax locked memory 65536 65536 bytes",
        "locked memory",
        State::Advice,
        "64 KiB",
        "limits",
    ),
    Case("sys/fs/cgroup/headrace/cpu.max", "150000 100000", "cgroup cpu quota", State::Advice, "so 2 shards", ""),
    Case("sys/fs/cgroup/cpu.max", "350000 100000", "cgroup cpu quota", State::Advice, "3.50", ""),
    Case("sys/devices/system/cpu/isolated", "8-11", "isolated cores", State::Advice, "CPUAffinity=8-11", "cpu-isolation"),
    Case(
        "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
        "powersave",
        "frequency governor",
        State::Advice,
        "cores 2)",
        "cpu-governor",
    ),
    Case("sys/devices/system/cpu/intel_pstate/no_turbo", "1", "turbo", State::Advice, "off", "cpu-governor"),
    Case("sys/devices/system/cpu/cpu3/cpuidle/state1/latency", "133", "idle states", State::Advice, "133 us", "cpu-governor"),
    Case("sys/devices/system/node/node1/cpulist", "4-7", "NUMA", State::Advice, "balancing", "sysctls"),
    Case("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet", "clocksource", State::Advice, "hpet", ""),
    Case("proc/sys/net/core/somaxconn", "128", "accept backlog", State::Advice, "net.core.somaxconn=4096", "sysctls"),
    Case("proc/sys/net/ipv4/tcp_max_syn_backlog", "256", "syn backlog", State::Advice, "256", "sysctls"),
    Case(
        "proc/net/softnet_stat",
        "00a1 00000010 2 0\n00b7 00000001 0 0",
        "packet backlog",
        State::Advice,
        "17 packets were lost",
        "sysctls",
    ),
    Case("proc/net/softnet_stat", "nothing", "packet backlog", State::Ok, "", ""),
    Case("proc/sys/net/ipv4/ip_local_port_range", "50000\t51000", "local ports", State::Advice, "1001 (50000", "sysctls"),
    Case("proc/sys/net/ipv4/ip_local_port_range", "nothing", "local ports", State::Advice, "cannot be read", ""),
    Case("proc/sys/net/ipv4/tcp_tw_reuse", "0", "TIME_WAIT reuse", State::Advice, "off", "sysctls"),
    Case("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1", "slow start", State::Advice, "pause", "sysctls"),
    Case("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never", "transparent pages", State::Advice, "always", "hugepages"),
    Case("proc/swaps", "Filename Type\n/dev/sda2 partition 1 0 -2", "swap", State::Advice, "swappiness 60", "sysctls"),
    Case("proc/77/comm", "irqbalance", "irqbalance", State::Advice, "runs", "irq-affinity"),
    Case("sys/class/net/eth0/device/numa_node", "1", "NIC node", State::Ok, "", ""),
];

#[test]
fn one_thing_changes_and_just_that_is_said() {
    for Case(path, text, what, state, word, script) in CASES {
        let tree = Tree::well();
        tree.put(path, text);
        let said = tree.complaints();
        if *state == State::Ok {
            assert_eq!(said, [], "{path} {text}");
            continue;
        }
        let [finding] = &said[..] else { panic!("{path} {text}: {said:#?}") };
        assert_eq!((finding.what, finding.state), (*what, *state), "{path} {text}");
        assert!(format!("{} {}", finding.found, finding.mend).contains(word), "{path} {text}: {finding:?}");
        let wanted = if script.is_empty() { String::new() } else { format!("tuning/{script}") };
        assert_eq!(finding.script.split(' ').next(), Some(wanted.as_str()), "{finding:?}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    for (path, what) in [
        ("proc/sys/kernel/osrelease", "kernel"),
        ("proc/self/limits", "open files"),
        ("proc/swaps", "swap"),
        ("proc/sys/net/core/somaxconn", "accept backlog"),
        ("sys/devices/system/clocksource", "clocksource"),
    ] {
        let tree = Tree::well();
        tree.take(path);
        assert!(tree.complaints().iter().any(|finding| finding.what == what && finding.found.contains("cannot be read")), "{path}");
    }
    // A virtual machine has none of these, and that is no fault.
    let tree = Tree::well();
    for core in 0..4 {
        tree.take(&format!("sys/devices/system/cpu/cpu{core}"));
    }
    tree.take("sys/devices/system/cpu/intel_pstate");
    tree.take("sys/class/net/eth0");
    tree.take("proc/sys/net/core/busy_read");
    tree.take("proc/sys/vm/nr_hugepages");
    assert_eq!(tree.complaints(), []);
}

#[test]
fn a_refused_ring_says_who_refused_it() {
    for (errno, disabled, word) in [
        (libc::EPERM, Some("2"), "everyone"),
        (libc::EPERM, Some("1"), "CAP_SYS_ADMIN"),
        (libc::EPERM, Some("0"), "seccomp"),
        (libc::EPERM, None, "seccomp"),
        (libc::ENOSYS, None, "not in this kernel"),
        (libc::EINVAL, Some("0"), "flags"),
        (libc::ENOMEM, Some("0"), "locked"),
        (libc::EMFILE, Some("0"), "cannot be made"),
    ] {
        let tree = Tree::well();
        match disabled {
            Some(text) => tree.put("proc/sys/kernel/io_uring_disabled", text),
            None => tree.take("proc/sys/kernel/io_uring_disabled"),
        }
        let mut machine = tree.machine();
        machine.ring = Ring::Refused(std::io::Error::from_raw_os_error(errno));
        let finding = super::kernel::io_uring(&machine);
        assert_eq!(finding.state, State::Advice);
        assert!(finding.found.contains(word), "{errno} {disabled:?}: {}", finding.found);
        assert!(!finding.mend.is_empty() && !finding.why.is_empty());
        assert_eq!(finding.script == "tuning/sysctls --io-uring", matches!(disabled, Some("1" | "2")), "{finding:?}");
    }
}

#[test]
fn a_filter_matters_only_when_the_ring_is_refused() {
    let tree = Tree::well();
    tree.put("proc/self/status", "Cpus_allowed_list:\t0-3\nSeccomp:\t2");
    assert_eq!(tree.complaints(), []);
    let mut machine = tree.machine();
    machine.ring = Ring::Refused(std::io::Error::from_raw_os_error(libc::EPERM));
    assert_eq!(super::kernel::seccomp(&machine).state, State::Advice);
}

#[test]
fn queues_and_interrupts_are_held_against_the_shards() {
    let tree = Tree::well();
    for queue in 1..4 {
        tree.take(&format!("sys/class/net/eth0/queues/rx-{queue}"));
    }
    let said = tree.complaints();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_eq!((said[0].what, said[0].script.as_str()), ("NIC queues", "tuning/irq-affinity --nic eth0"));
    tree.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,0000000f");
    assert_eq!(tree.complaints(), [], "RPS makes up for it");

    let tree = Tree::well();
    for irq in 41..45 {
        tree.put(&format!("proc/irq/{irq}/effective_affinity_list"), "2");
    }
    let said = tree.complaints();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_eq!(said[0].what, "NIC interrupts");
    assert!(said[0].found.contains("4 on cores 2"), "{}", said[0].found);
    // Fewer shards want no more.
    let mut one = Machine::new(&tree.0, Some(1));
    one.ring = Ring::Made;
    assert!(examine(&one).iter().all(|finding| finding.state == State::Ok));
}

#[test]
fn virtio_keeps_its_interrupts_one_device_above() {
    let tree = Tree::well();
    tree.take("sys/class/net/eth0/device/msi_irqs");
    // `device/..` is the folder above what the link points to.
    tree.put("sys/devices/pci/virtio2/numa_node", "-1");
    for irq in 40..45 {
        tree.put(&format!("sys/devices/pci/msi_irqs/{irq}"), "msix");
        tree.put(&format!("proc/irq/{irq}/effective_affinity_list"), "0");
    }
    tree.take("sys/class/net/eth0/device");
    std::os::unix::fs::symlink(tree.0.join("sys/devices/pci/virtio2"), tree.0.join("sys/class/net/eth0/device")).unwrap();
    let said = tree.complaints();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].found.contains("4 on cores 0"), "the control interrupt is not counted: {}", said[0].found);
}

#[test]
fn rings_that_are_small_unknown_or_not_told() {
    let tree = Tree::well();
    let said = |ethtool: fn(&str) -> Ethtool| {
        let mut machine = tree.machine();
        machine.ethtool = ethtool;
        examine(&machine).into_iter().find(|finding| finding.what == "NIC ring").unwrap()
    };
    assert_eq!(said(|_| Ethtool::Said(RINGS.replace("NOW", "256"))).script, "tuning/nic-ring --nic eth0");
    assert_eq!(said(|_| Ethtool::Said(RINGS.replace("NOW", "4096"))).state, State::Ok);
    assert_eq!(said(|_| Ethtool::Said(String::new())).state, State::Ok);
    assert_eq!(said(|_| Ethtool::Refused).state, State::Ok);
    assert!(said(|_| Ethtool::Missing).mend.contains("install ethtool"));
}

#[test]
fn shards_on_two_nodes_and_far_from_the_card() {
    let tree = Tree::well();
    tree.put("sys/devices/system/node/node0/cpulist", "0-1");
    tree.put("sys/devices/system/node/node1/cpulist", "2-3");
    let said = tree.complaints();
    let whats: Vec<&str> = said.iter().map(|finding| finding.what).collect();
    assert_eq!(whats, ["NUMA", "NIC node"], "{said:#?}");
    assert!(said[1].found.contains("cores 2-3 are far"), "{}", said[1].found);
}

#[test]
fn cores_of_a_mask_and_of_a_first_control_group() {
    let tree = Tree::well();
    tree.put("proc/self/status", "Cpus_allowed_list:\t1-2\nSeccomp:\t0");
    tree.put("proc/self/cgroup", "3:cpuset:/\n2:cpu,cpuacct:/box\n0::/");
    tree.put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "50000");
    tree.put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000");
    let machine = tree.machine();
    assert_eq!(machine.shard_cores(), [1]);
    let findings = examine(&machine);
    let found = |what: &str| findings.iter().find(|finding| finding.what == what).unwrap().found.clone();
    assert!(found("cores").contains("2 of 4"), "{}", found("cores"));
    assert!(found("cgroup cpu quota").starts_with("0.50"), "{}", found("cgroup cpu quota"));
    assert_eq!(show_cores(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
    assert_eq!(show_cores(&[]), "none");
}

#[test]
fn the_list_is_printed_with_its_sum() {
    let tree = Tree::well();
    tree.put("proc/sys/net/core/somaxconn", "128");
    let text = human(&examine(&tree.machine()));
    for part in ["advice   accept backlog", "where: /proc/sys/net/core/somaxconn", "why: bursts", "script: tuning/sysctls (shows"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.ends_with(" ok, 1 advice, 0 problems"), "{text}");
}

#[test]
fn every_finding_here_says_what_it_must() {
    let findings = examine(&Machine::new(Path::new("/"), None));
    assert!(findings.len() >= 23, "{}", findings.len());
    for finding in findings {
        assert_eq!(finding.state == State::Ok, finding.mend.is_empty(), "{finding:?}");
        assert_eq!(finding.state == State::Ok, finding.why.is_empty(), "{finding:?}");
        assert!(!finding.found.is_empty() && !finding.place.is_empty(), "{finding:?}");
    }
}

#[test]
fn a_problem_alone_makes_the_exit_code() {
    let run = |tree: &Tree| {
        let args = DoctorArgs { shards: None, root: tree.0.clone(), output: super::Output::Json };
        format!("{:?}", super::run(args))
    };
    let tree = Tree::well();
    let fine = format!("{:?}", std::process::ExitCode::SUCCESS);
    tree.put("proc/sys/net/core/somaxconn", "128");
    assert_eq!(run(&tree), fine, "advice is no failure");
    tree.put("proc/self/limits", "Max open files 256 256 files\nMax locked memory unlimited unlimited bytes");
    assert_ne!(run(&tree), fine);
}
