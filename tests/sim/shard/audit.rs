//! The books of one run: what clients sent and got, what upstreams saw. Every answer is checked when it comes, the sums at the end.

use super::requests::{Kind, Request, nonces};
use super::samples::Samples;
use super::weather::Weather;
use super::wire::Head;
use std::collections::{BTreeMap, HashSet};

/// How a request ended for its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Not one byte of it was sent.
    Unsent,
    Waits,
    Answered(u16),
    /// The connection visibly ended before its answer was whole.
    Cut,
    /// The client left by itself.
    Left,
}

struct Entry {
    request: Request,
    end: End,
    /// One per time an upstream read it whole: whether that was on a connection that had served another request before.
    sightings: Vec<bool>,
}

pub(crate) struct Book {
    weather: Weather,
    entries: Vec<Entry>,
    /// Statuses of refused heads: these have no number.
    refused: Vec<u16>,
    /// Heads that were not meant to be answered with more than a refusal.
    pub(crate) nonsense: u64,
    /// Requests that an upstream read whole, merged calls once.
    calls: u64,
    pub(crate) clients_ended: u64,
    pub(crate) problems: Vec<String>,
    pub(crate) seen: Seen,
}

/// How often rare things happened.
#[derive(Clone, Default, Debug)]
pub(crate) struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    pub(crate) fn note(&mut self, what: &'static str) {
        self.count(what, 1);
    }

    pub(crate) fn count(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    pub(crate) fn add(&mut self, other: &Seen) {
        other.0.iter().for_each(|(what, count)| self.count(what, *count));
    }

    pub(crate) fn times(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}

impl Book {
    pub(crate) fn new(weather: Weather) -> Book {
        let seen = Seen::default();
        Book { weather, entries: Vec::new(), refused: Vec::new(), nonsense: 0, calls: 0, clients_ended: 0, problems: Vec::new(), seen }
    }

    pub(crate) fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }

    fn ensure(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.problem(otherwise());
        }
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(crate) fn add(&mut self, request: Request) {
        self.entries.push(Entry { request, end: End::Unsent, sightings: Vec::new() });
    }

    pub(crate) fn request(&self, id: u32) -> Option<&Request> {
        self.entries.get(id as usize).map(|entry| &entry.request)
    }

    pub(crate) fn sent(&mut self, id: u32) {
        self.entries[id as usize].end = End::Waits;
    }

    /// The connection of these requests has ended.
    pub(crate) fn ended(&mut self, ids: impl Iterator<Item = u32>, end: End) {
        for id in ids {
            let entry = &mut self.entries[id as usize];
            if entry.end != End::Waits {
                continue;
            }
            entry.end = end;
            let gentle = self.weather.gentle;
            self.seen.note(if end == End::Cut { "cut" } else { "left" });
            self.ensure(!gentle, || format!("request {id} ended as {end:?} though nothing broke"));
        }
    }

    /// A whole answer.
    pub(crate) fn answered(&mut self, id: u32, head: &Head, status: u16, body: &[u8]) {
        let entry = &mut self.entries[id as usize];
        let (end, request) = (entry.end, entry.request.clone());
        entry.end = End::Answered(status);
        self.ensure(end == End::Waits, || format!("request {id} is answered with {status} after it ended as {end:?}"));
        let own = format!("r{id}");
        self.ensure(head.field("x-request-id") == Some(&own), || format!("request {id} got an answer for another: {head:?}"));
        if let Some(other) = nonces(body).find(|other| *other != id) {
            self.problem(format!("the answer ({status}) to request {id} quotes request {other}: {}", String::from_utf8_lossy(body)));
        }
        let reason = head.field("x-headrace-error");
        match status {
            200 => {
                let forwards = self.weather.config.upstreams[0].forward_authorization;
                self.ensure(!request.poisoned, || format!("request {id} is poisoned and was served"));
                self.ensure(reason.is_none(), || format!("request {id} is served with an error: {head:?}"));
                if let Err(wrong) = request.check(body, forwards) {
                    self.problem(format!("request {id} ({:?}): {wrong}", request.kind));
                }
            }
            400 | 422 => self.ensure(request.poisoned && reason.is_none(), || {
                format!("request {id} ({:?}) pays with {status} for another's mistake: {head:?}", request.kind)
            }),
            413 => self.ensure(request.kind == Kind::Post && reason.is_none(), || format!("request {id} got {head:?}")),
            429 | 500 | 502 | 503 | 504 => {}
            _ => self.problem(format!("request {id} got {head:?}")),
        }
        self.ensure(status == 200 || request.poisoned || !self.weather.gentle, || {
            format!("request {id} got {head:?} though nothing broke")
        });
        self.tally(&request, status, reason);
    }

    fn tally(&mut self, request: &Request, status: u16, reason: Option<&str>) {
        self.seen.note(match (request.kind, status) {
            (Kind::Coalesced, 200) if request.items.len() > 1 => "several items served",
            (Kind::Coalesced, 200) => "one item served",
            (Kind::Never, 200) => "never coalesced and served",
            (Kind::Post, 200) => "post served",
            (Kind::Get, 200) => "get served",
            (Kind::Models, 200) => "models listed",
            (Kind::Coalesced, 400 | 422) => "poison told",
            (_, 400 | 422) => "poison forwarded",
            (_, 413) => "answered early",
            (_, 429) => "429",
            (_, 500) => "500",
            (_, 502) => "502",
            (_, 503) => "503",
            _ => "504",
        });
        if request.http10 && status == 200 {
            self.seen.note("HTTP/1.0 served");
        }
        let known = ["upstream_unreachable", "upstream_broken", "upstream_timeout", "deadline_exceeded", "queue_full"];
        let more = ["upstream_overloaded", "inbox_full", "answer_too_large"];
        if let Some(reason) = known.into_iter().chain(more).find(|known| reason == Some(*known)) {
            self.seen.note(reason);
        }
    }

    /// A head without a valid request was answered.
    pub(crate) fn refused(&mut self, status: u16, body: &[u8]) {
        self.refused.push(status);
        self.seen.note(if status == 408 { "408" } else { "refused head" });
        self.ensure(matches!(status, 400 | 408) && nonces(body).next().is_none(), || format!("a refused head got {status}"));
    }

    /// An upstream has read a whole request with these in it.
    pub(crate) fn sighted(&mut self, ids: &[u32], reused: bool) {
        self.calls += 1;
        for id in ids {
            match self.entries.get_mut(*id as usize) {
                Some(entry) => {
                    entry.sightings.push(reused);
                    let end = entry.end;
                    self.ensure(end != End::Unsent, || format!("request {id} goes up before it was sent"));
                }
                None => self.problem(format!("an upstream got request {id}, which nobody made")),
            }
        }
    }

    /// What must hold when all is over.
    pub(crate) fn conclude(&mut self, samples: &Samples) {
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            self.conclude_one(entry);
        }
        self.conclude_sums(&entries, samples);
        self.entries = entries;
    }

    fn conclude_one(&mut self, entry: &Entry) {
        let Entry { request, end, sightings } = entry;
        let id = request.id;
        self.ensure(*end != End::Waits, || format!("request {id} never ended"));
        // The stale-pool rule: a pooled connection that ended before a byte of an answer came allows one more try, on a fresh one (which
        // may be read first). An embedding may be computed again, as a GET may be repeated: `upstreams.retry.attempts`.
        let resent = usize::from(sightings.contains(&true));
        let allowed = match request.kind {
            Kind::Coalesced => COALESCED_TRIES_MAX,
            Kind::Get | Kind::Never => 3 + resent,
            Kind::Post => 1 + resent,
            Kind::Models => 0,
        };
        self.ensure(sightings.len() <= allowed, || {
            format!("request {id} ({:?}) went up {} times, on reused connections: {sightings:?}", request.kind, sightings.len())
        });
        if *end == End::Answered(200) && request.kind != Kind::Models {
            self.ensure(!sightings.is_empty(), || format!("request {id} was served and no upstream saw it"));
        }
        if matches!(request.kind, Kind::Never | Kind::Post) && sightings.len() == 2 {
            self.seen.note("sent again after a stale connection");
        }
        if request.kind == Kind::Coalesced && sightings.len() > 1 {
            self.seen.note("coalesced again");
        }
    }

    fn conclude_sums(&mut self, entries: &[Entry], samples: &Samples) {
        let count = |end: fn(&End) -> bool| entries.iter().filter(|entry| end(&entry.end)).count() as u64;
        let (cut, left) = (count(|end| *end == End::Cut), count(|end| *end == End::Left));
        let mut by_status: BTreeMap<u16, u64> = BTreeMap::new();
        let statuses = entries.iter().filter_map(|entry| if let End::Answered(status) = entry.end { Some(status) } else { None });
        for status in statuses.chain(self.refused.iter().copied()) {
            *by_status.entry(status).or_default() += 1;
        }
        let counted_as = |status: u16| samples.sum_where("headrace_requests_total", &format!("status=\"{status}\""));
        let missing: u64 = by_status.iter().map(|(status, got)| got.saturating_sub(counted_as(*status))).sum();
        // A client that has its answer may be gone before the gateway hears that all of it was sent.
        self.ensure(missing <= counted_as(499), || format!("{by_status:?} came, {missing} of them were not counted"));
        let got: u64 = by_status.values().sum();
        let counted = samples.sum("headrace_requests_total");
        let may_be_lost = cut + left + self.nonsense - self.refused.len() as u64;
        self.ensure((got..=got + may_be_lost).contains(&counted), || {
            format!("{counted} requests were counted; {got} answered, {cut} cut, {left} left")
        });
        let closed = samples.sum("headrace_client_closed_total");
        // The end of an answer that was not waited for and could not be sent is counted beside the answer's own status.
        let told = counted_as(499);
        self.ensure((told..=told + cut + left + self.nonsense).contains(&closed), || {
            format!("{closed} clients left, {told} requests ended with 499; {cut} cut, {left} left")
        });
        let (calls, counted) = (self.calls, samples.sum("headrace_upstream_requests_total"));
        self.ensure(calls <= counted, || format!("upstreams saw {calls} calls, {counted} have an outcome"));
    }

    /// The ids that are in a call of one lane.
    pub(crate) fn check_lane(&mut self, ids: &[u32], user: &str, authorization: Option<&str>) {
        let forwards = self.weather.config.upstreams[0].forward_authorization;
        for id in ids {
            let Some(request) = self.request(*id) else { continue };
            let wanted = request.authorization.clone().filter(|_| forwards);
            let (lane, kind) = (request.lane, request.kind);
            self.ensure(format!("u{lane}") == user && wanted.as_deref() == authorization, || {
                format!("request {id} is in a call of lane {user}, {authorization:?} with {ids:?}")
            });
            self.ensure(kind == Kind::Coalesced || ids.len() == 1, || format!("request {id} was merged against its wish"));
        }
        let members: HashSet<u32> = ids.iter().copied().collect();
        if members.len() > 1 {
            self.seen.note("merged call");
        }
    }
}

const PROBLEMS_MAX: usize = 20;
/// A coalesced item may go again: after 429 and 503, in the search for a culprit, after a connection broke. All of that is bounded.
const COALESCED_TRIES_MAX: usize = 40;
