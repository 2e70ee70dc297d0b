//! The scripts on a real kernel: in network and mount namespaces of their own, so that nothing of the host changes.

use crate::stage::{Stage, in_namespaces, script, skipped};

const REFUSED: &str = "this process may not make network and mount namespaces (it needs CAP_SYS_ADMIN)";

#[test]
fn settings_of_a_network_namespace() {
    let stage = Stage::new();
    // Swapping and balancing are the whole machine's: files of ours stand in their place.
    stage.put("swappiness", "60");
    let lines = format!(
        r#"
        mount --bind {root}/swappiness /proc/sys/vm/swappiness
        if [ -e /proc/sys/kernel/numa_balancing ]; then mount --bind {root}/swappiness /proc/sys/kernel/numa_balancing; fi
        cd /proc/sys/net
        echo 128 >core/somaxconn; echo 32768 60999 >ipv4/ip_local_port_range
        echo 2 >ipv4/tcp_tw_reuse; echo 1 >ipv4/tcp_slow_start_after_idle
        look() {{ echo "$1:" $(cat core/somaxconn ipv4/ip_local_port_range ipv4/tcp_tw_reuse ipv4/tcp_slow_start_after_idle); }}
        look before
        {sysctls} --state {root}/state
        look shown
        {sysctls} --state {root}/state --apply
        look applied
        {sysctls} --state {root}/state --apply
        {sysctls} --state {root}/state --undo
        look undone
        "#,
        root = stage.root().display(),
        sysctls = script("sysctls").display(),
    );
    let Some(ran) = in_namespaces(&lines) else { return skipped(REFUSED) };
    for said in ["before: 128 32768 60999 2 1", "shown: 128 32768 60999 2 1", "applied: 4096 15000 65000 1 0", "nothing to change"] {
        ran.well(said);
    }
    ran.well("undone: 128 32768 60999 2 1");
    assert_eq!(stage.holds("swappiness"), "60");
}

#[test]
fn queues_of_a_device() {
    let stage = Stage::new();
    // Four queue pairs, and one core: RPS off, XPS to it. Then a core that no machine has: the kernel refuses, and that is told.
    let lines = format!(
        r#"
        ip link add one numrxqueues 4 numtxqueues 4 type veth peer two numrxqueues 4 numtxqueues 4
        cd /sys/class/net/one
        echo 1 >queues/rx-3/rps_cpus
        look() {{ echo "$1:" $(cat queues/rx-*/rps_cpus queues/tx-*/xps_cpus napi_defer_hard_irqs gro_flush_timeout | tr -d ,); }}
        look before
        {irq} --nic one --cores 0 --state {root}/state --apply
        {poll} --nic one --state {root}/state --apply
        look applied
        {irq} --nic one --cores 0 --state {root}/state --apply
        {poll} --state {root}/state --undo
        {irq} --state {root}/state --undo
        look undone
        {irq} --nic one --cores 4000-4007 --state {root}/state --apply || echo "ended: $?"
        {irq} --state {root}/state --undo
        look again
        "#,
        root = stage.root().display(),
        irq = script("irq-affinity").display(),
        poll = script("busy-poll").display(),
    );
    let Some(ran) = in_namespaces(&lines) else { return skipped(REFUSED) };
    if ran.complaints.contains("ip: command not found") || ran.complaints.contains("Unknown device type") {
        return skipped("no `ip` here, or no veth in this kernel");
    }
    for said in ["before: 0 0 0 1 0 0 0 0 0 0", "applied: 0 0 0 0 1 0 0 0 2 200000", "the kernel refuses", "ended: 1"] {
        ran.well(said);
    }
    ran.well("undone: 0 0 0 1 0 0 0 0 0 0").well("again: 0 0 0 1 0 0 0 0 0 0");
}

#[test]
fn a_device_without_rings() {
    let stage = Stage::new();
    let lines = format!(
        r"
        command -v ethtool >/dev/null || {{ echo absent; exit 0; }}
        ip link add one type veth peer two || {{ echo absent; exit 0; }}
        {ring} --nic one --apply --state {root}/state
        {coalescing} --nic one --apply --state {root}/state
        ",
        root = stage.root().display(),
        ring = script("nic-ring").display(),
        coalescing = script("nic-coalescing").display(),
    );
    let Some(ran) = in_namespaces(&lines) else { return skipped(REFUSED) };
    if ran.out.contains("absent") {
        return skipped("no ethtool or no veth here");
    }
    ran.well("its driver has no ring that can be set").well("its driver has no coalescing that can be set");
}
