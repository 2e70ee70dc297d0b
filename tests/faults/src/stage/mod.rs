//! The stage of a fault: a gateway in a process of its own, the scripted upstream behind it, the counts, and how everything stood
//! before. A fault only says who does what; that the gateway comes back to rest is looked at here, the same for all.

pub(crate) mod gateway;
pub(crate) mod helper;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use crate::ask::{Ask, WAYS, Way};
use crate::client::{Client, Got};
use crate::script::Script;
use crate::tally::{Right, Tally};
use crate::upstream::Upstream;
use gateway::{Gateway, Launch};
use helper::Helper;

/// What every stage of a run has in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) bin: std::path::PathBuf,
    pub(crate) io: &'static str,
    /// The planted fault.
    pub(crate) swaps: bool,
}

pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) upstream: Upstream,
    /// Upstreams in processes of their own, for faults that end processes.
    pub(crate) helpers: Mutex<Vec<Helper>>,
    pub(crate) tally: Tally,
    before: Standing,
}

/// How the gateway stands when nobody asks anything of it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Standing {
    pub(crate) resident: u64,
    pub(crate) handles: usize,
}

/// What was found at rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) before: Standing,
    pub(crate) after: Standing,
    /// Sum of the gauges that must be zero.
    pub(crate) gauges: f64,
    pub(crate) panics: f64,
}

pub(crate) const GAUGES: [&str; 5] = [
    "headrace_connections",
    "headrace_exchanges_in_flight",
    "headrace_tickets",
    "headrace_queued_items",
    "headrace_upstream_calls_in_flight",
];

/// Times are short so that faults end soon, and buffers few so that thousands of slow clients fight for them (and so that memory
/// does not differ by how many of them were ever touched). `$UP` stands for the endpoints.
pub(crate) const CONFIG: &str = r#"
[server]
listen = ["$LISTEN"]
header_timeout = "2s"
body_timeout = "2s"
write_timeout = "2s"
idle_timeout = "20s"
drain_timeout = "10s"
receive_buffers = 256

[admin]
listen = "$ADMIN"

[[upstreams]]
name = "up"
endpoints = [$UP]
first_byte_timeout = "3s"
total_timeout = "4s"
pool_idle_timeout = "300ms"

[[models]]
name = "m"
upstream = "up"

[[routes]]
path = "/s"
upstream = "up"
"#;

impl Stage {
    /// The gateway with [`CONFIG`] before one scripted upstream, warmed up by as many clients at once as the fault will have.
    pub(crate) fn usual(common: &Common) -> Result<Stage, String> {
        Stage::with(common, CONFIG, "", None, 64)
    }

    pub(crate) fn with(common: &Common, config: &str, wrapper: &str, log: Option<&str>, clients: usize) -> Result<Stage, String> {
        let upstream = Upstream::start("127.0.0.1:0", common.swaps).map_err(|error| error.to_string())?;
        let config = config.replace("$UP", &format!("\"{}\"", upstream.url()));
        Stage::before(common, upstream, Vec::new(), config, wrapper, log, clients)
    }

    pub(crate) fn before(
        common: &Common,
        upstream: Upstream,
        helpers: Vec<Helper>,
        config: String,
        wrapper: &str,
        log: Option<&str>,
        clients: usize,
    ) -> Result<Stage, String> {
        let gateway = Gateway::start(&Launch { bin: &common.bin, io: common.io, config, wrapper, log })?;
        let mut stage = Stage { gateway, upstream, helpers: Mutex::new(helpers), tally: Tally::default(), before: Standing::default() };
        stage.warm_up(clients);
        let rest = stage.rest();
        let (counts, notes) = (stage.tally.counts(), stage.tally.notes());
        if !common.swaps && !counts.is_clean() {
            return Err(format!("it does not even serve without a fault: {counts}; {}", notes.join("; ")));
        }
        stage.before = rest.after;
        stage.tally = Tally::default();
        Ok(stage)
    }

    /// The next fault on the same stage.
    pub(crate) fn begin(&mut self) {
        self.tally = Tally::default();
        self.upstream.forget();
    }

    fn warm_up(&self, clients: usize) {
        let large = Script { size: 2 << 20, ..Script::HONEST };
        self.crowd(8, |thread| {
            let mut open: Vec<Option<Client>> = (0..clients.div_ceil(8)).map(|_| None).collect();
            for round in 0..3 {
                for client in &mut open {
                    self.honest(client, WAYS[(round + thread) % 3]);
                }
            }
            // All at once: each has its answer under way before the first is read.
            for (script, most) in [(Script::HONEST, open.len()), (large, 8)] {
                let asks = open.iter().take(most).map(|_| Ask { upload: script.size.min(300 << 10), ..Ask::new(Way::Route, script) });
                let asks: Vec<Ask> = asks.collect();
                self.all_at_once(&mut open, &asks);
            }
        });
    }

    fn all_at_once(&self, open: &mut [Option<Client>], asks: &[Ask]) {
        for (client, ask) in open.iter_mut().zip(asks) {
            self.tally.begin();
            if let Some(client) = self.connected(client) {
                client.send(&ask.bytes());
            }
        }
        // Late, so that answers fill what there is to fill: receive buffers, vectors kept for reuse.
        std::thread::sleep(READ_LATE);
        for (client, ask) in open.iter_mut().zip(asks) {
            let got = client.as_mut().map_or(Got::Closed, |client| client.answer(false));
            self.tally.judge(ask, &got, Right::ANSWERED);
        }
    }

    /// A connection, made when there is none.
    pub(crate) fn connected<'a>(&self, client: &'a mut Option<Client>) -> Option<&'a mut Client> {
        if client.as_ref().is_none_or(|client| client.over) {
            *client = Client::connect(self.gateway.addr).ok();
        }
        client.as_mut()
    }

    /// One request and its end. True when it was answered.
    pub(crate) fn ask(&self, client: &mut Option<Client>, ask: &Ask, right: Right<'_>) -> bool {
        self.tally.begin();
        let got = match self.connected(client) {
            Some(client) => {
                // A gateway that refuses while we send has an answer for us all the same.
                client.send(&ask.bytes());
                client.answer(ask.method == "HEAD")
            }
            None => Got::Closed,
        };
        self.tally.judge(ask, &got, right)
    }

    /// A request with nothing wrong about it, which must be answered.
    pub(crate) fn honest(&self, client: &mut Option<Client>, way: Way) -> bool {
        self.ask(client, &Ask::honest(way), Right::ANSWERED)
    }

    /// Runs `work` on so many threads at once.
    pub(crate) fn crowd(&self, threads: usize, work: impl Fn(usize) + Sync) {
        scope(|scope| {
            for thread in 0..threads {
                let work = &work;
                scope.spawn(move || work(thread));
            }
        });
    }

    /// Runs `work` while so many clients ask honestly, all ways in turn: whatever `work` does, these must be served.
    pub(crate) fn beside(&self, clients: usize, work: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        scope(|scope| {
            for number in 0..clients {
                let stop = &stop;
                scope.spawn(move || {
                    let mut client = None;
                    let mut turn = number;
                    while !stop.load(Ordering::Relaxed) {
                        self.honest(&mut client, WAYS[turn % 3]);
                        turn += 1;
                        std::thread::sleep(HONEST_EVERY);
                    }
                });
            }
            let stop = StopOnDrop(&stop);
            work();
            drop(stop);
        });
    }

    /// Each index below `count` once, spread over threads that each keep a connection.
    pub(crate) fn each(&self, threads: usize, count: usize, work: impl Fn(&mut Option<Client>, usize) + Sync) {
        self.crowd(threads, |thread| {
            let mut client = None;
            for index in (thread..count).step_by(threads) {
                work(&mut client, index);
            }
        });
    }

    /// Looks until `is_so`; false after a time that no machine needs.
    pub(crate) fn eventually(&self, mut is_so: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < REST_PATIENCE {
            if is_so() {
                return true;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        false
    }

    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.gateway.metrics().map_or(0.0, |metrics| metrics.sum(name, labels))
    }

    /// Waits until the gateway is at rest, and counts as broken whatever does not return.
    pub(crate) fn rest(&self) -> Rest {
        let gauges = || self.gateway.metrics().map_or(f64::NAN, |metrics| GAUGES.iter().map(|name| metrics.sum(name, &[])).sum());
        if !self.eventually(|| gauges() == 0.0) {
            let each = |name: &&str| format!("{name} {}", self.metric(name, &[]));
            self.tally.broken(format!("gauges do not return to zero: {}", GAUGES.iter().map(each).collect::<Vec<_>>().join(", ")));
        }
        let first = self.before.resident == 0;
        let standing = || Standing { resident: self.gateway.resident(), handles: self.gateway.handles() };
        // Pools let their idle connections go within a second and a bit, and the allocator its pages a second after the last request.
        let returned = |now: Standing| now.resident * 5 <= self.before.resident * 6 && now.handles <= self.before.handles + HANDLES_SLACK;
        if first {
            std::thread::sleep(SETTLE);
        } else if !self.eventually(|| returned(standing())) {
            self.tally.broken(format!("memory and handles do not return: {:?}, before {:?}", standing(), self.before));
        }
        let rest =
            Rest { before: self.before, after: standing(), gauges: gauges(), panics: self.metric("headrace_task_panics_total", &[]) };
        if rest.panics != 0.0 || self.gateway.log().contains("panicked") {
            self.tally.broken(format!("panics: {}", rest.panics));
        }
        if !self.gateway.is_alive() {
            self.tally.broken(format!("the gateway has ended: {}", self.gateway.log()));
        }
        for torn in self.upstream.torn() {
            self.tally.broken(format!("the upstream was sent a torn request: {torn}"));
        }
        rest
    }
}

/// Ends the honest clients also when the work beside them panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const READ_LATE: Duration = Duration::from_millis(150);
const HONEST_EVERY: Duration = Duration::from_millis(4);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const REST_PATIENCE: Duration = Duration::from_secs(12);
/// Longer than a round of the gateway's housekeeping, in which idle connections are closed.
const SETTLE: Duration = Duration::from_millis(1600);
/// Between two looks a connection of the scrape itself may be open.
const HANDLES_SLACK: usize = 2;
