//! The counts of one fault. Each request ends in exactly one of them: answered, failed, shed, cancelled, or one of the three that must
//! stay zero.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ask::Ask;
use crate::client::Got;
use crate::token;

/// What may become of a request, given what is done to it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Right<'a> {
    /// A whole answer with its own bytes.
    pub(crate) answered: bool,
    /// An error of the gateway for one of these reasons.
    pub(crate) reasons: &'a [&'a str],
    /// An answer that is visibly cut.
    pub(crate) cut: bool,
    /// A connection closed without a word.
    pub(crate) closed: bool,
}

impl Right<'static> {
    /// Nothing but a whole answer.
    pub(crate) const ANSWERED: Right<'static> = Right { answered: true, reasons: &[], cut: false, closed: false };
    pub(crate) const CUT: Right<'static> = Right { answered: false, reasons: &[], cut: true, closed: false };

    pub(crate) const fn failed(reasons: &'static [&'static str]) -> Right<'static> {
        Right { answered: false, reasons, cut: false, closed: false }
    }

    pub(crate) const fn or_answered(self) -> Right<'static> {
        Right { answered: true, ..self }
    }

    pub(crate) const fn or_cut(self) -> Right<'static> {
        Right { cut: true, ..self }
    }
}

#[derive(Default, Debug)]
pub(crate) struct Tally {
    requests: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    shed: AtomicU64,
    cancelled: AtomicU64,
    wrong: AtomicU64,
    lost: AtomicU64,
    crossed: AtomicU64,
    /// What was not right, in words: the first few different things, and how often each.
    notes: Mutex<Vec<(String, u64)>>,
}

/// A tally that does not change any more.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) shed: u64,
    pub(crate) cancelled: u64,
    pub(crate) wrong: u64,
    /// No end was seen, or one that nothing explains; requests that no count took are among them.
    pub(crate) lost: u64,
    pub(crate) crossed: u64,
}

impl Tally {
    /// A request was (or is about to be) sent.
    pub(crate) fn begin(&self) {
        add(&self.requests);
    }

    /// Its client left on purpose.
    pub(crate) fn cancelled(&self) {
        add(&self.cancelled);
    }

    /// A promise that no request's count expresses was broken.
    pub(crate) fn broken(&self, what: String) {
        add(&self.wrong);
        self.note(what);
    }

    /// What became of a request. True when it was answered.
    pub(crate) fn judge(&self, ask: &Ask, got: &Got, right: Right<'_>) -> bool {
        let bytes: &[&[u8]] = match got {
            Got::Answer(answer) => &[answer.head.as_bytes(), &answer.body],
            Got::Cut(bytes) => &[bytes],
            Got::Closed | Got::Late => &[],
        };
        let foreign = bytes.iter().flat_map(|bytes| token::all_in(bytes)).find(|found| *found != ask.token);
        if let Some(foreign) = foreign {
            add(&self.crossed);
            self.note(format!("{} got the token {foreign}: {}", show(ask), describe(got)));
            return false;
        }
        match self.kind(ask, got, right) {
            Ok(count) => {
                add(count);
                std::ptr::eq(count, &raw const self.answered)
            }
            Err((count, why)) => {
                add(count);
                self.note(format!("{}: {why}", show(ask)));
                false
            }
        }
    }

    fn kind(&self, ask: &Ask, got: &Got, right: Right<'_>) -> Result<&AtomicU64, (&AtomicU64, String)> {
        match got {
            Got::Answer(answer) => {
                if let Some(reason) = answer.field("x-headrace-error") {
                    return match () {
                        () if !right.reasons.contains(&reason) => Err((&self.wrong, format!("an error for an unfitting reason: {reason}"))),
                        () if SHED.contains(&reason) => Ok(&self.shed),
                        () => Ok(&self.failed),
                    };
                }
                if !(200..300).contains(&answer.status) {
                    return Err((&self.wrong, describe(got)));
                }
                ask.check(&answer.body).map_err(|why| (&self.wrong, why))?;
                if right.answered { Ok(&self.answered) } else { Err((&self.wrong, "answered, though it cannot have been".to_owned())) }
            }
            Got::Cut(_) if right.cut => Ok(&self.failed),
            Got::Closed if right.closed => Ok(&self.failed),
            Got::Cut(_) | Got::Closed | Got::Late => Err((&self.lost, describe(got))),
        }
    }

    fn note(&self, what: String) {
        let Ok(mut notes) = self.notes.lock() else { return };
        if let Some((_, count)) = notes.iter_mut().find(|(known, _)| *known == what) {
            *count += 1;
        } else if notes.len() < NOTES_MAX {
            notes.push((what, 1));
        }
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let told = |notes: &[(String, u64)]| notes.iter().map(|(what, count)| format!("{count} x {what}")).collect();
        self.notes.lock().map(|notes| told(&notes)).unwrap_or_default()
    }

    pub(crate) fn counts(&self) -> Counts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut counts = Counts {
            requests: get(&self.requests),
            answered: get(&self.answered),
            failed: get(&self.failed),
            shed: get(&self.shed),
            cancelled: get(&self.cancelled),
            wrong: get(&self.wrong),
            lost: get(&self.lost),
            crossed: get(&self.crossed),
        };
        let Counts { answered, failed, shed, cancelled, wrong, lost, crossed, .. } = counts;
        counts.lost += counts.requests.saturating_sub(answered + failed + shed + cancelled + wrong + lost + crossed);
        counts
    }
}

impl Counts {
    pub(crate) fn is_clean(&self) -> bool {
        self.wrong + self.lost + self.crossed == 0
    }
}

impl std::ops::Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts {
            requests: self.requests + other.requests,
            answered: self.answered + other.answered,
            failed: self.failed + other.failed,
            shed: self.shed + other.shed,
            cancelled: self.cancelled + other.cancelled,
            wrong: self.wrong + other.wrong,
            lost: self.lost + other.lost,
            crossed: self.crossed + other.crossed,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { requests, answered, failed, shed, cancelled, wrong, lost, crossed } = self;
        write!(out, "requests {requests} = answered {answered} + failed {failed} + shed {shed} + cancelled {cancelled}, ")?;
        write!(out, "wrong {wrong} lost {lost} crossed {crossed}")
    }
}

fn show(ask: &Ask) -> String {
    format!("{:?} {} {}", ask.way, ask.method, ask.script)
}

pub(crate) fn describe(got: &Got) -> String {
    let start = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(160)]).escape_debug().to_string();
    match got {
        Got::Answer(answer) => format!("status {}, {} bytes: {}", answer.status, answer.body.len(), start(&answer.body)),
        Got::Cut(bytes) => format!("cut after {} bytes: {}", bytes.len(), start(bytes)),
        Got::Closed => "closed without a word".to_owned(),
        Got::Late => "nothing came".to_owned(),
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Reasons of refusals that protect what is begun (docs/metrics.md).
const SHED: &[&str] = &[
    "lane_full",
    "lanes_full",
    "inbox_full",
    "tickets_full",
    "upstream_full",
    "memory_full",
    "connections_full",
    "limit",
    "deadline",
    "drain",
];
const NOTES_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::{Counts, Right, Tally};
    use crate::ask::{Ask, Way};
    use crate::client::{Answer, Got};

    fn answer(status: u16, head: &str, body: &[u8]) -> Got {
        Got::Answer(Answer { status, head: head.to_owned(), body: body.to_vec() })
    }

    #[test]
    fn each_end_of_a_request_has_its_count() {
        let ask = Ask::honest(Way::Route);
        let body = ask.script.body(&ask.token);
        let other = Ask::honest(Way::Route);
        let foreign = other.script.body(&other.token);
        let error = "HTTP/1.1 502 Bad Gateway\r\nx-headrace-error: upstream_broken\r\n\r\n";
        let full = "HTTP/1.1 503 Service Unavailable\r\nx-headrace-error: memory_full\r\n\r\n";
        let broken = Right::failed(&["upstream_broken", "memory_full"]);
        let cases = [
            (answer(200, "", &body), Right::ANSWERED, Counts { answered: 1, ..Counts::default() }),
            (answer(200, "", &body), broken, Counts { wrong: 1, ..Counts::default() }),
            (answer(200, "", &body[1..]), Right::ANSWERED, Counts { wrong: 1, ..Counts::default() }),
            (answer(200, "", &foreign), Right::ANSWERED, Counts { crossed: 1, ..Counts::default() }),
            (answer(502, error, b""), broken, Counts { failed: 1, ..Counts::default() }),
            (answer(503, full, b""), broken, Counts { shed: 1, ..Counts::default() }),
            (answer(502, error, b""), Right::ANSWERED, Counts { wrong: 1, ..Counts::default() }),
            (answer(500, "", b""), Right::ANSWERED, Counts { wrong: 1, ..Counts::default() }),
            (Got::Cut(body.clone()), Right::CUT, Counts { failed: 1, ..Counts::default() }),
            (Got::Cut(body), Right::ANSWERED, Counts { lost: 1, ..Counts::default() }),
            (Got::Cut(foreign), Right::CUT, Counts { crossed: 1, ..Counts::default() }),
            (Got::Closed, broken, Counts { lost: 1, ..Counts::default() }),
            (Got::Closed, Right { closed: true, ..broken }, Counts { failed: 1, ..Counts::default() }),
            (Got::Late, Right { closed: true, ..broken.or_cut().or_answered() }, Counts { lost: 1, ..Counts::default() }),
        ];
        for (got, right, expected) in cases {
            let tally = Tally::default();
            tally.begin();
            tally.judge(&ask, &got, right);
            assert_eq!(tally.counts(), Counts { requests: 1, ..expected }, "{got:?}");
        }
    }

    #[test]
    fn a_request_that_nobody_judged_is_lost() {
        let tally = Tally::default();
        tally.begin();
        assert_eq!(tally.counts().lost, 1);
        tally.cancelled();
        assert_eq!(tally.counts().lost, 0);
    }
}
