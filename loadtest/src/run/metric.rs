//! The one list of what is measured: names in scenario files and results, words and units in tables, and which way is better. How a figure
//! comes about is in `sample`.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Processor time of the contender per request, all its processes and threads.
    CpuUs,
    RequestsPerSecond,
    P50Us,
    P99Us,
    P999Us,
    /// Latency above the direct contender's in the same round.
    P50AddedUs,
    P99AddedUs,
    /// Processor time over wall time of the contender: 1 is one whole core.
    CoresBusy,
    /// Requests that failed.
    Errors,
    /// Answers that were not the expected ones.
    Wrong,
    /// The generator's own processor time per request.
    GeneratorCpuUs,
    EventsPerSecond,
    CpuUsPerEvent,
    /// From an event's departure at the upstream to its arrival at the generator.
    EventP50Us,
    EventP99Us,
    /// The same, above the direct contender's in the same round.
    EventP50AddedUs,
    EventP99AddedUs,
    /// Events that did not come, came out of order, and streams cut short.
    EventsLost,
    TtftP99Us,
    /// Resident memory of all processes, the highest seen in the round.
    RssMib,
    /// The same, shared pages divided among those who share them.
    PssMib,
    /// Growth of resident memory from the contender's start to the end of the round, per idle connection.
    IdleKib,
    /// Connections that the contender closed although they were to stay.
    ClosedByPeer,
}

impl Metric {
    /// The heading in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Metric::CpuUs => "CPU us/request",
            Metric::RequestsPerSecond => "requests/s",
            Metric::P50Us => "p50 us",
            Metric::P99Us => "p99 us",
            Metric::P999Us => "p99.9 us",
            Metric::P50AddedUs => "added p50 us",
            Metric::P99AddedUs => "added p99 us",
            Metric::CoresBusy => "cores busy",
            Metric::Errors => "errors",
            Metric::Wrong => "wrong",
            Metric::GeneratorCpuUs => "generator us/request",
            Metric::EventsPerSecond => "events/s",
            Metric::CpuUsPerEvent => "CPU us/event",
            Metric::EventP50Us => "event p50 us",
            Metric::EventP99Us => "event p99 us",
            Metric::EventP50AddedUs => "added event p50 us",
            Metric::EventP99AddedUs => "added event p99 us",
            Metric::EventsLost => "events lost",
            Metric::TtftP99Us => "ttft p99 us",
            Metric::RssMib => "RSS MiB",
            Metric::PssMib => "PSS MiB",
            Metric::IdleKib => "KiB/idle connection",
            Metric::ClosedByPeer => "closed by it",
        }
    }

    /// Faults are summed over the rounds: a median would hide the one round that had some.
    pub(crate) fn is_fault(self) -> bool {
        matches!(self, Metric::Errors | Metric::Wrong | Metric::EventsLost | Metric::ClosedByPeer)
    }

    /// A ratio of it says something. Faults are compared by nothing, and an added latency may be near nothing.
    pub(crate) fn has_ratio(self) -> bool {
        !self.is_fault() && self != Metric::GeneratorCpuUs
    }
}
