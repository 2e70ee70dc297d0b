//! `tuning/check` and the doctor behind it, against the scripts: what it names must mend what it found.

use std::process::Command;

use serde_json::Value;

use crate::stage::{Ran, Stage, script};

const HEADRACE: &str = env!("CARGO_BIN_EXE_headrace");

/// A machine with much to mend, each thing by a script.
fn unwell() -> Stage {
    let stage = Stage::new();
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.12.0"),
        ("proc/sys/kernel/io_uring_disabled", "2"),
        ("proc/self/status", "Cpus_allowed_list:\t0-1\nSeccomp:\t0"),
        ("proc/self/limits", "Max open files 1048576 1048576 files\nMax locked memory unlimited unlimited bytes"),
        ("proc/self/cgroup", "0::/"),
        ("proc/interrupts", " 41: 9 0 PCI-MSI 1-edge eth0-0\n 42: 0 9 PCI-MSI 2-edge eth0-1"),
        ("proc/sys/net/core/somaxconn", "128"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "128"),
        ("proc/sys/net/ipv4/ip_local_port_range", "50000 51000"),
        ("proc/sys/net/ipv4/tcp_tw_reuse", "0"),
        ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
        ("proc/swaps", "Filename Type\n/dev/sda2 partition"),
        ("proc/sys/vm/swappiness", "60"),
        ("proc/sys/kernel/numa_balancing", "1"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
        ("sys/kernel/mm/transparent_hugepage/defrag", "[always] madvise never"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
        ("sys/devices/system/cpu/online", "0-1"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors", "performance powersave"),
        ("sys/devices/system/cpu/cpu1/cpuidle/state3/latency", "200"),
        ("sys/devices/system/cpu/cpu1/cpuidle/state3/name", "C6"),
        ("sys/devices/system/cpu/cpu1/cpuidle/state3/disable", "0"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "1"),
        ("sys/devices/system/node/node0/cpulist", "0-1"),
        ("sys/devices/system/node/node1/cpulist", "2-3"),
        ("sys/class/net/eth0/device/msi_irqs/41", "msix"),
        ("sys/class/net/eth0/device/msi_irqs/42", "msix"),
        ("proc/irq/41/smp_affinity_list", "1"),
        ("proc/irq/42/smp_affinity_list", "1"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0"),
        ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0"),
        ("sys/class/net/eth1/device/vendor", "0x1"),
        ("sys/class/net/eth1/queues/rx-0/rps_cpus", "0"),
    ] {
        stage.put(path, text);
    }
    stage
}

fn check(stage: &Stage) -> Ran {
    let mut command = Command::new(script("check"));
    command.env("HEADRACE_BIN", HEADRACE).arg("--root").arg(stage.root()).args(["-o", "json"]);
    Ran::of(command.output().unwrap())
}

/// What is not ok: what it is, and the script that is named.
fn complaints(ran: &Ran) -> Vec<(String, String)> {
    let answer: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.complaints));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_else(|| panic!("no {key}: {finding}")).to_owned();
    let findings = answer["findings"].as_array().unwrap().iter();
    findings.filter(|finding| finding["state"] != "ok").map(|finding| (text(finding, "what"), text(finding, "script"))).collect()
}

#[test]
fn what_the_doctor_names_mends_what_it_found() {
    let stage = unwell();
    let before = complaints(check(&stage).well("slow start"));
    assert!(before.len() >= 14, "{before:#?}");
    let mut scripts: Vec<&str> =
        before.iter().map(|(what, script)| script.strip_prefix("tuning/").unwrap_or_else(|| panic!("{what}: {script}"))).collect();
    scripts.sort_unstable();
    scripts.dedup();
    for call in &scripts {
        let words: Vec<&str> = call.split(' ').collect();
        stage.run(words[0], &[&words[1..], &["--apply"]].concat()).well("changed");
    }
    assert_eq!(complaints(&check(&stage)), [], "after {scripts:?}");
    // And undone, all of it is found again.
    let mut knobs: Vec<&str> = scripts.iter().map(|call| call.split(' ').next().unwrap()).collect();
    knobs.dedup();
    for knob in knobs {
        stage.run(knob, &["--undo"]).well("put back");
    }
    let whats = |list: &[(String, String)]| list.iter().map(|(what, _)| what.clone()).collect::<Vec<_>>();
    assert_eq!(whats(&complaints(&check(&stage))), whats(&before));
}

#[test]
fn without_a_program_it_says_how_to_build_one() {
    let stage = Stage::new();
    let mut command = Command::new(script("check"));
    command.env("PATH", stage.tools(&[])).env("CARGO_TARGET_DIR", stage.folder.join("none")).env_remove("HEADRACE_BIN");
    Ran::of(command.output().unwrap()).ended(1, "cargo build --release --bin headrace");
}

#[test]
fn its_exit_code_is_the_doctors() {
    let stage = unwell();
    stage.put("proc/self/limits", "Max open files 256 256 files\nMax locked memory unlimited unlimited bytes");
    check(&stage).ended(1, "\"problem\"");
}
