//! Findings about memory: huge pages and swap.

use super::finding::Finding;
use super::machine::Machine;

pub(super) fn transparent(machine: &Machine) -> Finding {
    const WHAT: &str = "transparent pages";
    const PLACE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    // The choice in force stands in brackets.
    let chosen = machine.text(PLACE).map(|text| text.split(['[', ']']).nth(1).map_or(text.clone(), str::to_owned));
    match chosen.as_deref() {
        Some("always") => Finding::advice(
            WHAT,
            PLACE,
            "always",
            "memory is handed out 2 MiB at a time and compacted in the background: more resident memory, now and then a pause",
            "choose madvise: who wants huge pages (a GPU server, headrace's allocator unless MIMALLOC_ALLOW_THP=0) then asks for them",
        )
        .by("hugepages"),
        Some(choice) => Finding::ok(WHAT, PLACE, choice),
        None => Finding::ok(WHAT, PLACE, "not in this kernel"),
    }
}

/// headrace uses none; they are memory that nobody else gets.
pub(super) fn reserved(machine: &Machine) -> Finding {
    const WHAT: &str = "reserved huge pages";
    const PLACE: &str = "/proc/sys/vm/nr_hugepages";
    match machine.number(PLACE) {
        Some(0) => Finding::ok(WHAT, PLACE, "none (headrace needs none)"),
        Some(count) => Finding::ok(WHAT, PLACE, format!("{count} (headrace uses none)")),
        None => Finding::ok(WHAT, PLACE, "not in this kernel"),
    }
}

pub(super) fn swap(machine: &Machine) -> Finding {
    const WHAT: &str = "swap";
    const PLACE: &str = "/proc/swaps, /proc/sys/vm/swappiness";
    const CALM: u64 = 10;
    let Some(swaps) = machine.text("/proc/swaps") else { return Finding::unread(WHAT, PLACE) };
    let areas = swaps.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
    let swappiness = machine.number("/proc/sys/vm/swappiness").unwrap_or(60);
    match (areas, swappiness) {
        (0, _) => Finding::ok(WHAT, PLACE, "none"),
        (areas, swappiness) if swappiness <= CALM => Finding::ok(WHAT, PLACE, format!("{areas} areas, swappiness {swappiness}")),
        (areas, swappiness) => Finding::advice(
            WHAT,
            PLACE,
            format!("{areas} areas, swappiness {swappiness}"),
            "idle connections' memory is written out in favour of the page cache; the next request waits for the disk",
            "sysctl -w vm.swappiness=10, or less",
        )
        .by("sysctls"),
    }
}
