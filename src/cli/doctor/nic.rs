//! Findings about network cards against the shards: queues, who gets their interrupts, ring sizes. A card is what has a device
//! behind it; loopback, bridges and their like have no interrupts.

use super::finding::Finding;
use super::machine::{Ethtool, Machine, show_cores};

const CLASS: &str = "/sys/class/net";

/// Findings about every card that is up, or one that says there is none.
pub(super) fn all(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    for nic in machine.names(CLASS, "") {
        let up = machine.text(&format!("{CLASS}/{nic}/operstate")).is_none_or(|state| state != "down");
        if machine.exists(&format!("{CLASS}/{nic}/device")) && up {
            findings.extend([queues(machine, &nic), interrupts(machine, &nic), ring(machine, &nic), near(machine, &nic)]);
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("NIC", CLASS, "no card to be seen here, only virtual devices"));
    } else {
        findings.push(balancer(machine));
    }
    findings
}

/// With fewer queues than shards, packets come in on few cores; RPS spreads what follows over the others.
fn queues(machine: &Machine, nic: &str) -> Finding {
    const WHAT: &str = "NIC queues";
    let place = format!("{CLASS}/{nic}/queues");
    let receive = machine.names(&place, "rx-");
    let send = machine.names(&place, "tx-").len();
    let shards = machine.shard_cores().len();
    let spread = receive.iter().filter_map(|queue| machine.text(&format!("{place}/{queue}/rps_cpus"))).any(|mask| is_set(&mask));
    let found = format!("{nic}: {} receive, {send} send, {shards} shards, RPS {}", receive.len(), if spread { "on" } else { "off" });
    if receive.len() >= shards || spread {
        return Finding::ok(WHAT, place, found);
    }
    Finding::advice(
        WHAT,
        place,
        found,
        "the kernel's work for all packets is done on as many cores as there are queues, beside the shards that run there",
        &format!("more queues (ethtool -L {nic} combined {shards}), or spread the work by RPS"),
    )
    .by(&format!("irq-affinity --nic {nic}"))
}

fn is_set(mask: &str) -> bool {
    mask.chars().any(|c| !matches!(c, '0' | ','))
}

/// Which cores the interrupts of the card's queues go to.
fn interrupts(machine: &Machine, nic: &str) -> Finding {
    const WHAT: &str = "NIC interrupts";
    const PLACE: &str = "/proc/irq/*/smp_affinity_list";
    let irqs = queue_irqs(machine, nic);
    let mut cores: Vec<usize> = irqs
        .iter()
        .filter_map(|irq| {
            let place = format!("/proc/irq/{irq}");
            // The mask may be wide; the kernel then uses one core of it and says which.
            let effective = machine.cores_in(&format!("{place}/effective_affinity_list")).filter(|cores| !cores.is_empty());
            effective.or_else(|| machine.cores_in(&format!("{place}/smp_affinity_list")))
        })
        .flatten()
        .collect();
    cores.sort_unstable();
    cores.dedup();
    if irqs.is_empty() {
        return Finding::ok(WHAT, PLACE, format!("{nic}: none of its own to be seen"));
    }
    let found = format!("{nic}: {} on cores {}", irqs.len(), show_cores(&cores));
    let receive = machine.names(&format!("{CLASS}/{nic}/queues"), "rx-").len();
    let wanted = machine.shard_cores().len().min(receive);
    if cores.len() >= wanted {
        return Finding::ok(WHAT, PLACE, found);
    }
    let why = "those cores do the kernel's work for all queues, and their shards fall behind the others";
    Finding::advice(WHAT, PLACE, found, why, "one queue's interrupt per core").by(&format!("irq-affinity --nic {nic}"))
}

/// The interrupts of the queues: those of the device (or, for virtio, of the device above it) that /proc/interrupts lists, without
/// the ones that are for control.
fn queue_irqs(machine: &Machine, nic: &str) -> Vec<String> {
    const CONTROL: [&str; 5] = ["config", "control", "async", "mgmt", "mgmnt"];
    let device = format!("{CLASS}/{nic}/device");
    let own = machine.names(&format!("{device}/msi_irqs"), "");
    let irqs = if own.is_empty() { machine.names(&format!("{device}/../msi_irqs"), "") } else { own };
    let listed = machine.text("/proc/interrupts").unwrap_or_default();
    irqs.into_iter()
        .filter(|irq| {
            let line = listed.lines().find(|line| line.trim_start().split(':').next() == Some(irq.as_str()));
            line.and_then(|line| line.split_whitespace().last()).is_some_and(|name| !CONTROL.iter().any(|word| name.contains(word)))
        })
        .collect()
}

fn ring(machine: &Machine, nic: &str) -> Finding {
    const WHAT: &str = "NIC ring";
    const ENOUGH: u64 = 1024;
    let place = format!("ethtool -g {nic}");
    let text = match (machine.ethtool)(nic) {
        Ethtool::Said(text) => text,
        Ethtool::Refused => return Finding::ok(WHAT, place, format!("{nic}: its driver does not tell")),
        Ethtool::Missing => {
            let why = "a small receive ring loses packets in a burst";
            return Finding::advice(WHAT, place, format!("{nic}: not known, ethtool is not here"), why, "install ethtool, then look again");
        }
    };
    let Some((most, now)) = receive_ring(&text) else { return Finding::ok(WHAT, place, format!("{nic}: its driver does not tell")) };
    let found = format!("{nic}: receives {now} packets ahead, of {most} at most");
    if now >= ENOUGH.min(most) {
        return Finding::ok(WHAT, place, found);
    }
    Finding::advice(WHAT, place, found, "a burst while a core is busy overflows it, and packets are lost", "a larger ring")
        .by(&format!("nic-ring --nic {nic}"))
}

/// The first `RX:` is the most there may be, the second what is set.
fn receive_ring(text: &str) -> Option<(u64, u64)> {
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix("RX:")?.trim().parse().ok());
    Some((values.next()?, values.next()?))
}

/// Whether the card and the shards are on one NUMA node.
fn near(machine: &Machine, nic: &str) -> Finding {
    const WHAT: &str = "NIC node";
    let place = format!("{CLASS}/{nic}/device/numa_node");
    // -1, or no file: the machine has one node, or the firmware does not tell.
    let Some(node) = machine.number(&place) else { return Finding::ok(WHAT, place, format!("{nic}: near all cores")) };
    let cores = machine.cores_in(&format!("/sys/devices/system/node/node{node}/cpulist")).unwrap_or_default();
    let far: Vec<usize> = machine.shard_cores().into_iter().filter(|core| !cores.is_empty() && !cores.contains(core)).collect();
    if far.is_empty() {
        return Finding::ok(WHAT, place, format!("{nic}: on node {node}, as the shards are"));
    }
    Finding::advice(
        WHAT,
        place,
        format!("{nic}: on node {node} (cores {}); shards on cores {} are far from it", show_cores(&cores), show_cores(&far)),
        "each packet they handle crosses the sockets' link",
        &format!("CPUAffinity={} in headrace's unit", show_cores(&cores)),
    )
}

/// irqbalance moves interrupts every 10 s, whatever was set by hand.
fn balancer(machine: &Machine) -> Finding {
    const WHAT: &str = "irqbalance";
    const PLACE: &str = "/proc/*/comm";
    let runs = machine
        .names("/proc", "")
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .any(|process| machine.text(&format!("/proc/{process}/comm")).as_deref() == Some("irqbalance"));
    if !runs {
        return Finding::ok(WHAT, PLACE, "does not run");
    }
    let why = "it moves interrupts by itself and undoes what is set by hand";
    Finding::advice(WHAT, PLACE, "runs", why, "stop it, or ban the NIC's interrupts in it, before setting them by hand").by("irq-affinity")
}
