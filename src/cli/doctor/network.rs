//! Findings about the kernel's TCP settings. They are those of this network namespace: a container has its own.

use super::finding::Finding;
use super::machine::Machine;

const SYSCTLS: &str = "sysctls";

/// A sysctl that should be at least so much.
struct Least {
    what: &'static str,
    path: &'static str,
    least: u64,
    why: &'static str,
}

/// headrace listens with a backlog of 4096; the kernel cuts it to somaxconn.
const SOMAXCONN: Least = Least {
    what: "accept backlog",
    path: "/proc/sys/net/core/somaxconn",
    least: 4096,
    why: "bursts of connections wait there; beyond it their handshakes are dropped and tried again after a second",
};

const SYN_BACKLOG: Least = Least {
    what: "syn backlog",
    path: "/proc/sys/net/ipv4/tcp_max_syn_backlog",
    least: 1024,
    why: "with tcp_syncookies off, half-open connections beyond three quarters of it are dropped",
};

pub(super) fn somaxconn(machine: &Machine) -> Finding {
    at_least(machine, &SOMAXCONN)
}

pub(super) fn syn_backlog(machine: &Machine) -> Finding {
    at_least(machine, &SYN_BACKLOG)
}

/// Packets wait there that one core handed to another, as the loopback and RPS do. Only what was lost says that it is too short.
pub(super) fn packet_backlog(machine: &Machine) -> Finding {
    const WHAT: &str = "packet backlog";
    const PLACE: &str = "/proc/sys/net/core/netdev_max_backlog, /proc/net/softnet_stat";
    const ENOUGH: u64 = 4096;
    // A line for each core, hexadecimal; the second column is what found the backlog full since the start.
    let lost = |text: String| -> Option<u64> {
        text.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok()).sum::<Option<u64>>()
    };
    match (machine.number("/proc/sys/net/core/netdev_max_backlog"), machine.text("/proc/net/softnet_stat").and_then(lost)) {
        (Some(most), Some(lost)) if lost > 0 && most < ENOUGH => Finding::advice(
            WHAT,
            PLACE,
            format!("net.core.netdev_max_backlog is {most}, and {lost} packets were lost since the start"),
            "what is lost is sent again after 0.2 s, the first packet of a connection after a second: `connect_timeout` may be over then",
            &format!("sysctl -w net.core.netdev_max_backlog={ENOUGH}, or more"),
        )
        .by(SYSCTLS),
        (Some(most), Some(lost)) => Finding::ok(WHAT, PLACE, format!("net.core.netdev_max_backlog is {most}, {lost} packets were lost")),
        _ => Finding::ok(WHAT, PLACE, "not to be seen in this network namespace: the host decides"),
    }
}

fn at_least(machine: &Machine, rule: &Least) -> Finding {
    let Least { what, path, least, why } = *rule;
    let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
    match machine.number(path) {
        Some(value) if value >= least => Finding::ok(what, path, format!("{name} is {value}")),
        Some(value) => {
            Finding::advice(what, path, format!("{name} is {value}"), why, &format!("sysctl -w {name}={least}, or more")).by(SYSCTLS)
        }
        None => Finding::unread(what, path),
    }
}

/// Connections to one endpoint are bounded by the ports on our side. The kernel's own range is enough for pools that keep theirs.
pub(super) fn ports(machine: &Machine) -> Finding {
    const WHAT: &str = "local ports";
    const PLACE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    const ENOUGH: u64 = 28_000;
    let range = machine.text(PLACE).and_then(|text| {
        let mut ends = text.split_whitespace().map(str::parse::<u64>);
        Some((ends.next()?.ok()?, ends.next()?.ok()?))
    });
    let Some((first, last)) = range else { return Finding::unread(WHAT, PLACE) };
    let count = (last + 1).saturating_sub(first);
    let found = format!("{count} ({first} to {last}) per endpoint address");
    if count >= ENOUGH {
        return Finding::ok(WHAT, PLACE, found);
    }
    let why = "each connection to an endpoint takes one, and a closed one is held for a minute (TIME_WAIT)";
    Finding::advice(WHAT, PLACE, found, why, "sysctl -w net.ipv4.ip_local_port_range='15000 65000'").by(SYSCTLS)
}

/// 0 off, 1 for all, 2 on loopback only (the default).
pub(super) fn reuse(machine: &Machine) -> Finding {
    const WHAT: &str = "TIME_WAIT reuse";
    const PLACE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";
    match machine.number(PLACE) {
        Some(0) => Finding::advice(
            WHAT,
            PLACE,
            "off",
            "an upstream that closes after each answer uses up the local ports at some 470 connections a second",
            "sysctl -w net.ipv4.tcp_tw_reuse=1",
        )
        .by(SYSCTLS),
        Some(1) => Finding::ok(WHAT, PLACE, "on"),
        Some(_) => Finding::ok(WHAT, PLACE, "on for loopback (upstreams elsewhere that close after each answer want 1)"),
        None => Finding::unread(WHAT, PLACE),
    }
}

pub(super) fn slow_start(machine: &Machine) -> Finding {
    const WHAT: &str = "slow start";
    const PLACE: &str = "/proc/sys/net/ipv4/tcp_slow_start_after_idle";
    match machine.number(PLACE) {
        Some(0) => Finding::ok(WHAT, PLACE, "not repeated after a pause"),
        Some(_) => Finding::advice(
            WHAT,
            PLACE,
            "repeated after a pause",
            "a kept connection that was silent sends a body beyond 14 KiB in several round trips again; on loopback it costs nothing",
            "sysctl -w net.ipv4.tcp_slow_start_after_idle=0",
        )
        .by(SYSCTLS),
        None => Finding::unread(WHAT, PLACE),
    }
}

/// A choice, never a fault: it trades processor time for latency, and loopback has no queue to poll.
pub(super) fn busy_poll(machine: &Machine) -> Finding {
    const WHAT: &str = "busy poll";
    const PLACE: &str = "/proc/sys/net/core/busy_read, busy_poll";
    // The two stand in the first network namespace only.
    match (machine.number("/proc/sys/net/core/busy_read"), machine.number("/proc/sys/net/core/busy_poll")) {
        (Some(0), Some(0)) => Finding::ok(WHAT, PLACE, "off (tuning/busy-poll --help says when it pays)"),
        (Some(read), Some(poll)) => Finding::ok(WHAT, PLACE, format!("busy_read {read} us, busy_poll {poll} us")),
        _ => Finding::ok(WHAT, PLACE, "not to be seen in this network namespace: the host decides"),
    }
}
