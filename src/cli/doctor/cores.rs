//! Findings about the cores that shards run on: their frequency, their sleep, their memory's distance.

use super::finding::Finding;
use super::machine::{Machine, show_cores};

const CPU: &str = "/sys/devices/system/cpu";
const GOVERNOR: &str = "cpu-governor";

pub(super) fn governor(machine: &Machine) -> Finding {
    const WHAT: &str = "frequency governor";
    let place = format!("{CPU}/cpu*/cpufreq/scaling_governor");
    let mut slow = Vec::new();
    let mut seen = Vec::new();
    for core in machine.shard_cores() {
        let folder = format!("{CPU}/cpu{core}/cpufreq");
        let Some(governor) = machine.text(&format!("{folder}/scaling_governor")) else { continue };
        // With intel_pstate and amd-pstate the preference decides, and the governor's name says little.
        let preference = machine.text(&format!("{folder}/energy_performance_preference"));
        if governor != "performance" && preference.as_deref() != Some("performance") {
            slow.push(core);
        }
        if !seen.contains(&governor) {
            seen.push(governor);
        }
    }
    if seen.is_empty() {
        return Finding::ok(WHAT, place, "none to be seen (a virtual machine, or firmware decides)");
    }
    if slow.is_empty() {
        return Finding::ok(WHAT, place, seen.join(", "));
    }
    Finding::advice(
        WHAT,
        place,
        format!("{} (cores {})", seen.join(", "), show_cores(&slow)),
        "a shard that sleeps between requests is clocked down and wakes slow",
        "set the governor `performance` on the shards' cores",
    )
    .by(GOVERNOR)
}

pub(super) fn turbo(machine: &Machine) -> Finding {
    const WHAT: &str = "turbo";
    let pstate = format!("{CPU}/intel_pstate/no_turbo");
    let boost = format!("{CPU}/cpufreq/boost");
    let (place, on) = match (machine.number(&pstate), machine.number(&boost)) {
        (Some(off), _) => (pstate, off == 0),
        (None, Some(on)) => (boost, on != 0),
        (None, None) => return Finding::ok(WHAT, boost, "not to be seen (a virtual machine, or firmware decides)"),
    };
    if on {
        return Finding::ok(WHAT, place, "on");
    }
    let why = "a core runs at its base frequency only; steadier figures, fewer requests";
    Finding::advice(WHAT, place, "off", why, "switch it on, unless you measure").by("cpu-governor --turbo")
}

/// How long a core may take to wake: the deepest state that is switched on.
pub(super) fn idle_states(machine: &Machine) -> Finding {
    const WHAT: &str = "idle states";
    const SLOW_US: u64 = 50;
    let place = format!("{CPU}/cpu*/cpuidle/state*/latency");
    let mut deepest: Option<(u64, String)> = None;
    for core in machine.shard_cores() {
        let folder = format!("{CPU}/cpu{core}/cpuidle");
        for state in machine.names(&folder, "state") {
            let off = machine.number(&format!("{folder}/{state}/disable")).unwrap_or(0) != 0;
            let Some(latency) = machine.number(&format!("{folder}/{state}/latency")) else { continue };
            if !off && deepest.as_ref().is_none_or(|(most, _)| latency > *most) {
                deepest = Some((latency, machine.text(&format!("{folder}/{state}/name")).unwrap_or(state)));
            }
        }
    }
    match deepest {
        None => Finding::ok(WHAT, place, "none to be seen (a virtual machine, or firmware decides)"),
        Some((latency, name)) if latency <= SLOW_US => Finding::ok(WHAT, place, format!("deepest {name}, {latency} us to wake")),
        Some((latency, name)) => Finding::advice(
            WHAT,
            place,
            format!("deepest {name}, {latency} us to wake"),
            "at low load each request may pay that; at high load cores do not get there",
            "switch the deep states off on the shards' cores (it costs power, and some turbo of the others)",
        )
        .by("cpu-governor --max-idle-latency 10"),
    }
}

pub(super) fn numa(machine: &Machine) -> Finding {
    const WHAT: &str = "NUMA";
    const PLACE: &str = "/sys/devices/system/node";
    let nodes = machine.names(PLACE, "node");
    if nodes.len() <= 1 {
        return Finding::ok(WHAT, PLACE, "one node");
    }
    let shards = machine.shard_cores();
    let used: Vec<&String> = nodes
        .iter()
        .filter(|node| {
            let cores = machine.cores_in(&format!("{PLACE}/{node}/cpulist")).unwrap_or_default();
            shards.iter().any(|core| cores.contains(core))
        })
        .collect();
    let found = format!("{} nodes; shards on {} of them", nodes.len(), used.len());
    if used.len() > 1 {
        return Finding::advice(
            WHAT,
            PLACE,
            found,
            "jobs and answers that cross the mesh cross the sockets' link, and a NIC serves one node nearby",
            "run one headrace per node: CPUAffinity= and NUMAPolicy=bind with the cores of the node that the NIC and the GPU are on",
        );
    }
    if machine.number("/proc/sys/kernel/numa_balancing").is_some_and(|on| on != 0) {
        let found = format!("{found}; automatic balancing is on");
        let why = "it unmaps pages to see who uses them; shards are pinned, so it has nothing to gain";
        return Finding::advice(WHAT, "/proc/sys/kernel/numa_balancing", found, why, "sysctl -w kernel.numa_balancing=0").by("sysctls");
    }
    Finding::ok(WHAT, PLACE, found)
}
