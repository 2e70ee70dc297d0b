//! What is printed: a line per fault, the promises that were broken under it, and the sum.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::ask::WAYS;
use crate::faults::{Fault, Stop};
use crate::stage::{Common, Stage};
use crate::tally::Counts;

#[derive(Default)]
pub(crate) struct Report {
    sum: Counts,
    faults: u32,
    skipped: u32,
    broken: u32,
    begun: Option<Instant>,
    first: Option<Instant>,
}

impl Report {
    pub(crate) fn begin(&mut self) {
        let now = Instant::now();
        self.begun = Some(now);
        self.first.get_or_insert(now);
    }

    /// Looks whether the gateway comes to rest, then tells everything about the fault.
    pub(crate) fn done(&mut self, io: &str, fault: &Fault, stage: &Stage, remark: &str) {
        let rest = stage.rest();
        let counts = stage.tally.counts();
        self.sum = self.sum + counts;
        self.faults += 1;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let seconds = self.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        say(&format!(
            "{io} {:16} {counts} | gauges {} panics {} rss {:.1} -> {:.1} MiB handles {} -> {} | {seconds:.1} s{}{remark}",
            fault.name,
            rest.gauges,
            rest.panics,
            mib(rest.before.resident),
            mib(rest.after.resident),
            rest.before.handles,
            rest.after.handles,
            if remark.is_empty() { "" } else { " | " },
        ));
        for note in stage.tally.notes() {
            say(&format!("    ! {note}"));
        }
        self.broken += u32::from(!counts.is_clean());
    }

    /// The fault has no counts.
    pub(crate) fn stopped(&mut self, io: &str, fault: &Fault, stop: &Stop) {
        match stop {
            Stop::Skipped(why) => {
                self.skipped += 1;
                say(&format!("{io} {:16} skipped: {why}", fault.name));
            }
            Stop::Failed(why) => self.broken(&format!("{io} {:16} {why}", fault.name)),
        }
    }

    pub(crate) fn note(&mut self, what: &str) {
        self.skipped += 1;
        say(what);
    }

    pub(crate) fn broken(&mut self, what: &str) {
        self.broken += 1;
        say(&format!("    ! {what}"));
    }

    /// A suite that finds nothing has to show that it can: with an upstream that swaps answers it must.
    pub(crate) fn self_check(&mut self, bin: &Path) {
        let common = Common { bin: bin.to_owned(), io: "epoll", swaps: true };
        match Stage::usual(&common) {
            Ok(stage) => {
                stage.crowd(4, |_| {
                    let mut client = None;
                    for way in WAYS.repeat(8) {
                        stage.honest(&mut client, way);
                    }
                });
                let counts = stage.tally.counts();
                say(&format!("self-check: an upstream that swaps answers is seen: {counts}"));
                if counts.crossed == 0 {
                    self.broken("self-check: the planted swap was not seen");
                }
            }
            Err(why) => self.broken(&format!("self-check: {why}")),
        }
    }

    /// The last lines. True when every promise held.
    pub(crate) fn finish(&self) -> bool {
        let seconds = self.first.map_or(0.0, |first| first.elapsed().as_secs_f64());
        say(&format!("{} faults, {} skipped, {} with a broken promise, {seconds:.0} s", self.faults, self.skipped, self.broken));
        say(&self.sum.to_string());
        let Counts { wrong, lost, crossed, .. } = self.sum;
        say(&format!("wrong {wrong} lost {lost} crossed {crossed}"));
        is_kept(self.sum, self.broken, self.faults)
    }
}

/// Whether the run may end with 0: something was tried, and nothing was broken.
fn is_kept(sum: Counts, broken: u32, faults: u32) -> bool {
    sum.is_clean() && broken == 0 && faults > 0
}

/// The table of docs/faults.md.
pub(crate) fn list(faults: &[Fault]) {
    say(&table(faults));
}

fn table(faults: &[Fault]) -> String {
    let row = |Fault { name, what, promise, .. }: &Fault| format!("| `{name}` | {what} | {promise} |");
    let rows: Vec<String> = faults.iter().map(row).collect();
    format!("| fault | what is done | what is promised |\n|---|---|---|\n{}", rows.join("\n"))
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop loudly")]
mod tests {
    use super::{is_kept, table};
    use crate::ask::{Ask, Way};
    use crate::client::Client;
    use crate::faults::FAULTS;
    use crate::tally::{Counts, Right, Tally};
    use crate::upstream::Upstream;

    #[test]
    fn the_guide_has_the_table_that_is_printed() {
        let guide = include_str!("../../../docs/faults.md");
        assert!(guide.contains(&table(&FAULTS)), "put the output of `tests/faults/run --list` into docs/faults.md");
    }

    /// The suite's own parts, without a gateway between them.
    fn talk(swaps: bool) -> Counts {
        let upstream = Upstream::start("127.0.0.1:0", swaps).unwrap();
        let tally = Tally::default();
        let mut client = Client::connect(upstream.addr).unwrap();
        for way in [Way::Route, Way::Chat, Way::Embed, Way::Route] {
            let ask = Ask::honest(way);
            tally.begin();
            assert!(client.send(&ask.bytes()));
            tally.judge(&ask, &client.answer(false), Right::ANSWERED);
        }
        tally.counts()
    }

    #[test]
    fn a_planted_swap_of_two_answers_is_crossed_and_fails_the_run() {
        let honest = talk(false);
        assert_eq!(honest, Counts { requests: 4, answered: 4, ..Counts::default() });
        assert!(is_kept(honest, 0, 1));
        let swapped = talk(true);
        assert!(swapped.crossed > 0, "{swapped}");
        assert!(!is_kept(swapped, 0, 1));
        assert!(!is_kept(honest, 1, 1) && !is_kept(honest, 0, 0));
    }
}
