//! The scripts on trees of files: shown, applied, applied again, undone.

use crate::stage::{KNOBS, Ran, Stage, script, skipped};

/// What a knob changes on a tree: path, before, after.
type Change = (&'static str, &'static str, &'static str);

/// Shows, applies twice, undoes twice; each time the tree must hold what it should.
#[track_caller]
fn there_and_back(stage: &Stage, knob: &str, arguments: &[&str], changes: &[Change]) {
    let with = |mode: &str| stage.run(knob, &[arguments, if mode.is_empty() { &[] } else { std::slice::from_ref(&mode) }].concat());
    let holds = |after: bool| {
        for (path, before, wanted) in changes {
            assert_eq!(stage.holds(path), if after { *wanted } else { *before }, "{knob} {path}");
        }
    };
    for (path, before, _) in changes {
        stage.put(path, before);
    }
    with("").well(&format!("{} to change: tuning/{knob} --apply", changes.len()));
    holds(false);
    assert!(!stage.undo_file(knob).exists(), "showing wrote {}", stage.undo_file(knob).display());
    with("--apply").well(&format!("{} changed", changes.len()));
    holds(true);
    let remembered = std::fs::read_to_string(stage.undo_file(knob)).unwrap();
    with("--apply").well("nothing to change");
    assert_eq!(std::fs::read_to_string(stage.undo_file(knob)).unwrap(), remembered, "applying again forgot what was there first");
    with("--undo").well(&format!("{} put back", changes.len()));
    holds(false);
    assert!(!stage.undo_file(knob).exists());
    with("--undo").well("nothing to undo");
}

#[test]
fn sysctls() {
    let changes: &[Change] = &[
        ("proc/sys/net/core/somaxconn", "128", "4096"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "256", "4096"),
        ("proc/sys/net/core/netdev_max_backlog", "1000", "4096"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768 60999", "15000 65000"),
        ("proc/sys/net/ipv4/tcp_tw_reuse", "2", "1"),
        ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1", "0"),
        ("proc/sys/vm/swappiness", "60", "10"),
    ];
    let stage = Stage::new();
    stage.put("proc/sys/kernel/io_uring_disabled", "2");
    there_and_back(&stage, "sysctls", &[], changes);
    assert_eq!(stage.holds("proc/sys/kernel/io_uring_disabled"), "2", "only with --io-uring");
    stage.put("sys/devices/system/node/node1/cpulist", "4-7");
    let more = [("proc/sys/kernel/io_uring_disabled", "2", "0"), ("proc/sys/kernel/numa_balancing", "1", "0")];
    there_and_back(&stage, "sysctls", &["--io-uring"], &[changes, &more].concat());
}

#[test]
fn what_is_better_already_is_left() {
    let stage = Stage::new();
    for (path, text) in [
        ("proc/sys/net/core/somaxconn", "65535"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65536"),
        ("proc/sys/net/ipv4/ip_local_port_range", "1024\t65535"),
        ("proc/sys/vm/swappiness", "1"),
    ] {
        stage.put(path, text);
    }
    stage.run("sysctls", &["--apply"]).well("nothing to change").well("tcp_tw_reuse: not here");
    assert_eq!(stage.holds("proc/sys/net/core/somaxconn"), "65535");
    assert_eq!(stage.holds("proc/sys/vm/swappiness"), "1");
}

#[test]
fn interrupts_and_queues() {
    let stage = Stage::new();
    stage.put("sys/devices/system/cpu/online", "0-3");
    stage.put("proc/interrupts", " 40: 0 0 PCI-MSI 0-edge eth0-config\n 41: 9 0 PCI-MSI 1-edge eth0-0\n 42: 0 9 PCI-MSI 2-edge eth0-1");
    for irq in 40..43 {
        stage.put(&format!("sys/class/net/eth0/device/msi_irqs/{irq}"), "msix");
        stage.put(&format!("proc/irq/{irq}/smp_affinity_list"), "0-3");
    }
    stage.put("sys/class/net/lo/queues/rx-0/rps_cpus", "0");
    // Two queue pairs for four cores: packets are handed on, and two cores share a send queue.
    there_and_back(
        &stage,
        "irq-affinity",
        &[],
        &[
            ("proc/irq/41/smp_affinity_list", "0-3", "0"),
            ("proc/irq/42/smp_affinity_list", "0-3", "1"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0", "f"),
            ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0", "f"),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0", "5"),
            ("sys/class/net/eth0/queues/tx-1/xps_cpus", "0", "a"),
        ],
    );
    assert_eq!(stage.holds("proc/irq/40/smp_affinity_list"), "0-3", "the control interrupt is nobody's business");
    assert_eq!(stage.holds("sys/class/net/lo/queues/rx-0/rps_cpus"), "0", "loopback is no card");
    // Cores beyond 32 need a second group; a mask that means the same is left.
    stage.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000000");
    stage.run("irq-affinity", &["--cores", "1,33,34", "--apply"]).well("rps_cpus: 00000000,00000000 -> 6,00000002");
    assert_eq!(stage.holds("sys/class/net/eth0/queues/rx-1/rps_cpus"), "6,00000002");
    stage.put("sys/class/net/eth0/queues/rx-1/rps_cpus", "00000006,00000002");
    stage.run("irq-affinity", &["--cores", "1,33-34"]).well("rx-1/rps_cpus: 00000006,00000002, as wanted");
}

#[test]
fn governor_turbo_and_sleep() {
    let stage = Stage::new();
    stage.put("sys/devices/system/cpu/online", "0-1");
    for (state, latency) in [("state0", "0"), ("state1", "2"), ("state2", "133")] {
        let folder = format!("sys/devices/system/cpu/cpu1/cpuidle/{state}");
        stage.put(&format!("{folder}/name"), state);
        stage.put(&format!("{folder}/latency"), latency);
        stage.put(&format!("{folder}/disable"), "0");
    }
    stage.put("sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors", "performance powersave");
    there_and_back(
        &stage,
        "cpu-governor",
        &["--turbo", "--max-idle-latency", "10"],
        &[
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave", "performance"),
            ("sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference", "balance_power", "performance"),
            ("sys/devices/system/cpu/cpu1/cpuidle/state2/disable", "0", "1"),
            ("sys/devices/system/cpu/intel_pstate/no_turbo", "1", "0"),
        ],
    );
    assert_eq!(stage.holds("sys/devices/system/cpu/cpu1/cpuidle/state1/disable"), "0");
}

#[test]
fn busy_poll_and_huge_pages() {
    let stage = Stage::new();
    stage.put("proc/sys/vm/nr_hugepages", "0");
    there_and_back(
        &stage,
        "busy-poll",
        &["--us", "30", "--nic", "eth0"],
        &[
            ("proc/sys/net/core/busy_read", "0", "30"),
            ("proc/sys/net/core/busy_poll", "0", "30"),
            ("sys/class/net/eth0/napi_defer_hard_irqs", "0", "2"),
            ("sys/class/net/eth0/gro_flush_timeout", "0", "200000"),
        ],
    );
    // A choice is shown among the others; what is kept for undoing is the one in force.
    stage.put("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never");
    stage.put("sys/kernel/mm/transparent_hugepage/defrag", "always defer [madvise] never");
    stage.run("hugepages", &["--apply"]).well("enabled: always -> madvise").well("1 changed");
    stage.run("hugepages", &["--undo"]).well("1 put back");
    assert_eq!(stage.holds("sys/kernel/mm/transparent_hugepage/enabled"), "always");
}

#[test]
fn limits_of_the_unit() {
    let stage = Stage::new();
    let folder = stage.root().join("etc/systemd/system/headrace.service.d");
    let file = folder.join("90-headrace-limits.conf");
    stage.run("limits", &[]).well("1 to change");
    assert!(!folder.exists());
    stage.run("limits", &["--apply"]).well("1 changed");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("[Service]\nLimitNOFILE=1048576\nLimitMEMLOCK=infinity\n"), "{text}");
    stage.run("limits", &["--apply"]).well("nothing to change");
    // What stands in /etc outlives a restart, and so must the means to undo it.
    stage.put("proc/sys/kernel/random/boot_id", "second-boot");
    stage.run("limits", &["--undo"]).well("2 put back");
    assert!(!folder.exists());
    // A file of the operator's own is not touched.
    stage.put("etc/systemd/system/headrace.service.d/90-headrace-limits.conf", "[Service]\nLimitNOFILE=9");
    stage.run("limits", &["--apply"]).ended(1, "is not what this script writes");
    assert!(std::fs::read_to_string(&file).unwrap().contains("LimitNOFILE=9"));
}

#[test]
fn isolation_is_shown_and_not_applied() {
    let stage = Stage::new();
    stage.put("proc/cmdline", "quiet");
    stage.put("sys/devices/system/cpu/online", "0-7");
    stage.put("sys/devices/system/cpu/isolated", "");
    stage.run("cpu-isolation", &["--cores", "2-7"]).well("isolcpus=2-7 irqaffinity=0,1");
    stage.run("cpu-isolation", &["--cores", "2-7", "--apply"]).ended(1, "cannot be applied to a running kernel");
    stage.run("cpu-isolation", &["--cores", "0-7"]).ended(2, "leaves no core");
    stage.put("sys/devices/system/cpu/isolated", "2-7");
    stage.run("cpu-isolation", &["--cores", "2-7", "--apply"]).well("as wanted");
}

#[test]
fn a_restart_undoes_what_the_kernel_forgets() {
    let stage = Stage::new();
    stage.put("proc/sys/net/core/somaxconn", "128");
    stage.run("sysctls", &["--apply"]).well("1 changed");
    stage.put("proc/sys/kernel/random/boot_id", "second-boot");
    stage.put("proc/sys/net/core/somaxconn", "256");
    stage.run("sysctls", &["--undo"]).well("before the last restart");
    assert_eq!(stage.holds("proc/sys/net/core/somaxconn"), "256", "the value of another boot was put back");
    // And applying after one begins anew.
    stage.run("sysctls", &["--apply"]).well("1 changed");
    stage.put("proc/sys/kernel/random/boot_id", "third-boot");
    stage.put("proc/sys/net/core/somaxconn", "512");
    stage.run("sysctls", &["--apply"]).well("begun anew");
    stage.run("sysctls", &["--undo"]).well("1 put back");
    assert_eq!(stage.holds("proc/sys/net/core/somaxconn"), "512");
}

/// A tool that keeps ring sizes and coalescing of one card in a file, as ethtool shows and takes them.
const ETHTOOL: &str = r#"#!/usr/bin/env bash
set -euo pipefail
[ -e "$CARD" ] || printf 'rx=256\ntx=512\nadaptive-rx=off\nrx-usecs=50\n' >"$CARD"
now() { sed -n "s/^$1=//p" "$CARD"; }
case $1 in
    -g) printf 'Ring parameters for %s:\nPre-set maximums:\nRX:\t4096\nRX Mini:\tn/a\nTX:\t1024\n' "$2"
        printf 'Current hardware settings:\nRX:\t%s\nRX Mini:\tn/a\nTX:\t%s\n' "$(now rx)" "$(now tx)" ;;
    -c) printf 'Coalesce parameters for %s:\nAdaptive RX: %s  TX: n/a\nrx-usecs:\t%s\nrx-frames:\tn/a\n' "$2" "$(now adaptive-rx)" "$(now rx-usecs)" ;;
    -G | -C) shift 2
        while [ $# -gt 0 ]; do sed -i "s/^$1=.*/$1=$2/" "$CARD"; shift 2; done ;;
esac
"#;

#[test]
fn rings_and_coalescing() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new();
    stage.put("sys/class/net/eth0/device/vendor", "0x1");
    let (tools, card) = (stage.tools(&["ethtool"]), stage.folder.join("card"));
    let program = tools.join("ethtool");
    std::fs::write(&program, ETHTOOL).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = |knob: &str, arguments: &[&str]| -> Ran {
        stage.run_with(knob, arguments, |command| {
            command.env("PATH", &tools).env("CARD", &card);
        })
    };
    let card_holds = || std::fs::read_to_string(&card).unwrap().replace('\n', " ");
    run("nic-ring", &[]).well("eth0: rx 256 -> 2048 tx 512 -> 1024");
    assert!(card_holds().starts_with("rx=256 tx=512 "), "{}", card_holds());
    run("nic-ring", &["--apply"]).well("1 changed");
    assert!(card_holds().starts_with("rx=2048 tx=1024 "), "{}", card_holds());
    run("nic-ring", &["--apply"]).well("nothing to change");
    // A second wish: what is put back is still what was there before the first.
    run("nic-ring", &["--apply", "--size", "4096"]).well("rx 2048 -> 4096");
    run("nic-ring", &["--undo"]).well("1 put back");
    assert!(card_holds().starts_with("rx=256 tx=512 "), "{}", card_holds());

    run("nic-coalescing", &["--apply"]).well("adaptive-rx off -> on");
    run("nic-coalescing", &["--apply"]).well("as wanted for throughput");
    run("nic-coalescing", &["--undo"]).well("1 put back");
    run("nic-coalescing", &["--apply", "--goal", "latency"]).well("rx-usecs 50 -> 8");
    assert!(card_holds().contains("rx-usecs=8"), "{}", card_holds());
    run("nic-coalescing", &["--undo"]).well("1 put back");
    assert!(card_holds().contains("adaptive-rx=off rx-usecs=50"), "{}", card_holds());
}

#[test]
fn without_ethtool_it_says_so() {
    let stage = Stage::new();
    stage.put("sys/class/net/eth0/device/vendor", "0x1");
    let tools = stage.tools(&["ethtool"]);
    for knob in ["nic-ring", "nic-coalescing"] {
        stage.run_with(knob, &["--apply"], |command| _ = command.env("PATH", &tools)).ended(1, "ethtool is not here; install it");
    }
}

#[test]
fn a_state_file_runs_nothing_but_ethtool() {
    let stage = Stage::new();
    let (file, trap) = (stage.undo_file("nic-ring"), stage.folder.join("trap"));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("boot\tfirst-boot\nrun\ttouch\t{}\n", trap.display())).unwrap();
    stage.run("nic-ring", &["--undo"]).ended(1, "cannot undo");
    assert!(!trap.exists());
}

#[test]
fn each_says_why_when_it_hurts_and_how_to_see_it() {
    for knob in KNOBS {
        let stage = Stage::new();
        let help = stage.run(knob, &["--help"]);
        for part in ["usage: tuning/", "Why\n", "When it hurts\n", "How to see the effect\n", "--undo"] {
            help.well(part);
        }
        stage.run(knob, &["--frobnicate"]).ended(2, "unknown argument --frobnicate");
        stage.run(knob, &["--apply", "--undo"]).ended(2, "exclude each other");
        stage.run(knob, &["--cores", "all"]).ended(2, "--cores takes a list");
        stage.run(knob, &["--nic", "../eth0"]).ended(2, "--nic takes the name");
        stage.run(knob, &["--state"]).ended(2, "--state needs a value");
    }
    for knob in ["irq-affinity", "nic-ring", "nic-coalescing"] {
        let stage = Stage::new();
        stage.put("sys/devices/system/cpu/online", "0");
        stage.put("sys/class/net/lo/mtu", "65536");
        stage.run(knob, &[]).well("no network card here");
        stage.run(knob, &["--nic", "eth7"]).ended(1, "no network device eth7 here; there is: lo");
    }
}

#[test]
fn shellcheck_has_nothing_to_say() {
    if !std::process::Command::new("shellcheck").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skipped("shellcheck is not installed");
    }
    let mut command = std::process::Command::new("shellcheck");
    command.args(["-x", "tuning/check", "tuning/lib.sh"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    Ran::of(command.args(KNOBS.map(script)).output().unwrap()).well("");
}
