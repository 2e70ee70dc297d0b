//! Puts a run together and moves it: shards, mesh, clients, upstreams; a reload and a drain at their moments; then the quiet in which
//! everything must come back.

use super::Ctx;
use super::audit::Book;
use super::drill::{self, Bug};
use super::samples::Samples;
use super::weather::{ENDPOINTS, GATEWAY, Weather};
use super::{clients, upstream};
use headrace::config::Config;
use headrace::mesh::{Bell, Dials, Mesh, Ring, Sender, Shared, Shares};
use headrace::metrics::{Registry, ShardMetrics};
use headrace::policy::Router;
use headrace::runtime::Rt;
use headrace::runtime::driver::sim::{Fault, Faults, SimKernel};
use headrace::runtime::simulation::{Bounds, MemberId, Simulation};
use headrace::shard::{Message, Shard, ShardSeed, ShardSnapshot};
use headrace::sys::net::Address;
use headrace::sys::{BufferPool, Instant, SimBell};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

pub(crate) struct World {
    ctx: Ctx,
    simulation: Simulation,
    members: Vec<Member>,
    senders: Vec<Sender<Message>>,
    registry: Registry,
    /// What happens from outside, and when; the latest first.
    script: Vec<(Instant, Action)>,
    steps: Rc<Cell<u64>>,
}

/// One gateway shard.
struct Member {
    id: MemberId,
    rt: Rt,
    shard: Rc<Shard>,
    stepped_at: Rc<Cell<Instant>>,
}

enum Action {
    Reload { to: usize, snapshot: Box<ShardSnapshot> },
    Drain,
    Forge,
}

/// A simulated shard's bell, as the mesh rings it.
struct MeshBell {
    bell: SimBell,
    is_mute: bool,
}

impl Ring for MeshBell {
    fn ring(&self) {
        if !self.is_mute {
            self.bell.ring();
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather, planted: Option<Bug>) -> World {
        let weather = Rc::new(weather);
        let kernel = SimKernel::new(seed, weather.faults.clone());
        let book = Rc::new(RefCell::new(Book::new((*weather).clone())));
        let ctx = Ctx { kernel: kernel.clone(), book, weather, planted };
        let mut simulation = Simulation::new(kernel);
        simulation.set_bounds(Bounds { steps_max: 3_000_000, time_max: Duration::from_mins(20), ..Bounds::default() });
        let (registry, metrics) = Registry::new(&ctx.weather.config, SHARDS);
        let steps = Rc::new(Cell::new(0));
        let (members, senders) = gateway(&ctx, &mut simulation, metrics, seed, &steps);
        for (number, address) in (0..).zip(ENDPOINTS) {
            let (_, rt, _) = simulation.add("upstream", pool((64, 512)));
            let listener = rt.listen(&tcp(address), 8).unwrap();
            upstream::serve(&ctx, &rt, listener, seed << 1 | number);
        }
        let (_, rt, _) = simulation.add("clients", pool((64, 512)));
        clients::start(&ctx, &rt, seed);
        let mut world = World { ctx, simulation, members, senders, registry, script: Vec::new(), steps };
        world.write_script();
        world
    }

    pub(crate) fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    fn write_script(&mut self) {
        let weather = Rc::clone(&self.ctx.weather);
        if let Some((at, later)) = weather.reload {
            let metrics = self.registry.next_snapshot(&weather.next_config).unwrap();
            let snapshots = snapshots(2, &weather.next_config, metrics);
            for (to, snapshot) in snapshots.into_iter().enumerate() {
                let at = Instant::ZERO + at + if to == 0 { Duration::ZERO } else { later };
                self.script.push((at, Action::Reload { to, snapshot: Box::new(snapshot) }));
            }
        }
        if let Some(at) = weather.drain {
            self.script.push((Instant::ZERO + at, Action::Drain));
        }
        if self.ctx.planted == Some(Bug::WrongTicket) {
            self.script.extend((1..30).map(|number| (Instant::ZERO + Duration::from_millis(3 * number), Action::Forge)));
        }
        self.script.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    }

    /// Until everybody has gone home and everything is back.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        while let Some((at, action)) = self.script.pop() {
            let kernel = self.ctx.kernel.clone();
            self.run_until(move || kernel.now() >= at)?;
            self.act(action);
        }
        let (book, clients) = (Rc::clone(&self.ctx.book), self.ctx.weather.clients);
        self.run_until(move || book.borrow().clients_ended == clients)?;
        if self.ctx.weather.drain.is_none() {
            self.act(Action::Drain);
        }
        let shards: Vec<_> = self.members.iter().map(|member| Rc::clone(&member.shard)).collect();
        self.run_until(move || shards.iter().all(|shard| shard.is_draining() && shard.is_empty()))?;
        // Nothing is left to do: the pools run dry, former snapshots are dropped, late completions come in.
        self.ctx.kernel.set_faults(Faults::calm());
        let (kernel, until) = (self.ctx.kernel.clone(), self.ctx.kernel.now() + QUIET);
        self.run_until(move || kernel.now() >= until)?;
        self.audit();
        Ok(())
    }

    /// Moves the world; on the way no message may lie beside a sleeping shard.
    fn run_until(&mut self, done: impl Fn() -> bool) -> Result<(), String> {
        let kernel = self.ctx.kernel.clone();
        let mut waiting_since = vec![None; self.members.len()];
        let mut lost = None;
        let (senders, members) = (&self.senders, &self.members);
        let result = self.simulation.run(|| {
            let now = kernel.now();
            for (index, (sender, member)) in senders.iter().zip(members).enumerate() {
                if sender.is_empty() {
                    waiting_since[index] = None;
                    continue;
                }
                let since = (*waiting_since[index].get_or_insert(now)).max(member.stepped_at.get());
                if now.since(since) > WAKE_MAX {
                    lost = Some(index);
                }
            }
            lost.is_some() || done()
        });
        match (result, lost) {
            (_, Some(shard)) => Err(format!("a message lies beside shard {shard}, which sleeps")),
            (Err(stuck), _) => Err(stuck.to_string()),
            (Ok(()), None) => Ok(()),
        }
    }

    fn act(&mut self, action: Action) {
        let mut book = self.ctx.book.borrow_mut();
        let is_over = book.clients_ended == self.ctx.weather.clients;
        match action {
            Action::Reload { to, snapshot } => {
                book.seen.count("reloaded", u64::from(!is_over));
                let sent = self.senders[to].send(Message::Snapshot(snapshot));
                drop(book);
                if let Err(Message::Snapshot(snapshot)) = sent {
                    // A full inbox: as control does, again when the shard has had its turn.
                    let again = self.ctx.kernel.now() + Duration::from_millis(1);
                    self.script.push((again, Action::Reload { to, snapshot }));
                    self.script.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
                }
            }
            Action::Drain => {
                book.seen.count("drained in the middle", u64::from(!is_over));
                drop(book);
                self.drain();
            }
            Action::Forge => drill::forge(&self.senders),
        }
    }

    fn drain(&mut self) {
        for index in 0..self.members.len() {
            while self.senders[index].send(Message::Drain).is_err() {
                let sender = self.senders[index].clone();
                if self.run_until(move || sender.is_empty()).is_err() {
                    return;
                }
            }
        }
    }

    /// What must be back, and what the counters must say.
    fn audit(&mut self) {
        let ctx = self.ctx.clone();
        let mut book = ctx.book.borrow_mut();
        for (number, member) in self.members.iter().enumerate() {
            let stats = member.rt.stats();
            let left = [stats.open_sockets, stats.leased_buffers, stats.ring.in_flight, stats.tasks - 1, stats.timers - 1];
            if left != [0; 5] {
                book.problem(format!("shard {number} keeps sockets, buffers, operations, tasks, timers: {left:?}"));
            }
            book.seen.count("starved", stats.sockets.starvations);
            book.seen.count("paused", stats.sockets.pauses);
        }
        let samples = Samples::new(&self.registry.render(self.ctx.kernel.now()));
        for gauge in GAUGES {
            let value = samples.sum(gauge);
            if value != 0 {
                book.problem(format!("{gauge} is {value} in the end"));
            }
        }
        let snapshots = samples.sum("headrace_config_snapshots");
        if snapshots != 1 {
            book.problem(format!("{snapshots} snapshots are kept in the end"));
        }
        book.conclude(&samples);
        for (what, metric) in COUNTED {
            book.seen.count(what, samples.sum(metric));
        }
        for fault in Fault::ALL {
            book.seen.count(fault_name(fault), ctx.kernel.reached(fault));
        }
    }

    /// Ends every runtime; what was not given back.
    pub(crate) fn finish(mut self) -> Vec<String> {
        for member in self.members {
            self.simulation.set_step(member.id, || Ok(()));
        }
        self.simulation.finish()
    }
}

/// The shards, each on its runtime, and the paths to them.
fn gateway(
    ctx: &Ctx,
    simulation: &mut Simulation,
    metrics: Vec<ShardMetrics>,
    seed: u64,
    steps: &Rc<Cell<u64>>,
) -> (Vec<Member>, Vec<Sender<Message>>) {
    let names = ["shard 0", "shard 1"];
    let runtimes = names.map(|name| {
        let planted = ctx.planted;
        simulation.add_with(name, pool(ctx.weather.buffers), |driver| drill::wrap(driver, planted, seed))
    });
    let is_mute = ctx.planted == Some(Bug::MuteBell);
    let bells = runtimes.iter().map(|(_, _, bell)| -> Bell { Box::new(MeshBell { bell: bell.clone(), is_mute }) });
    let mesh = Mesh::new(ctx.weather.inbox_slots, bells);
    let senders = mesh.senders();
    let seeds = mesh.into_ports().into_iter().zip(snapshots(1, &ctx.weather.config, metrics)).zip(1..);
    let members = runtimes.into_iter().zip(seeds).map(|((id, rt, _), ((port, snapshot), number))| {
        let listener = rt.listen(&tcp(GATEWAY), 8).unwrap();
        let shard = Shard::new(ShardSeed { port, snapshot, lane_seed: seed, seed: seed << 2 | number }, rt.clone(), vec![listener]);
        let (own, kernel, steps) = (Rc::clone(&shard), ctx.kernel.clone(), Rc::clone(steps));
        let stepped_at = Rc::new(Cell::new(Instant::ZERO));
        let at = Rc::clone(&stepped_at);
        simulation.set_step(id, move || {
            at.set(kernel.now());
            steps.set(steps.get() + 1);
            own.turn()
        });
        Member { id, rt, shard, stepped_at }
    });
    (members.collect(), senders)
}

fn snapshots(generation: u32, config: &Config, metrics: Vec<ShardMetrics>) -> Vec<ShardSnapshot> {
    let (router, config) = (Shared::new(Router::new(config)), Shared::new(config.clone()));
    let snapshot = |metrics| ShardSnapshot {
        generation,
        config: config.clone(),
        router: router.clone(),
        shares: Shares::default(),
        metrics,
        dials: Dials::default(),
    };
    metrics.into_iter().map(snapshot).collect()
}

fn tcp(address: &str) -> Address {
    Address::Tcp(address.parse().unwrap())
}

fn pool((count, size): (u16, u32)) -> BufferPool {
    BufferPool::new(count, size).unwrap()
}

/// For the table of what was seen.
pub(crate) fn fault_name(fault: Fault) -> &'static str {
    FAULT_NAMES[fault.index()]
}

const SHARDS: u32 = 2;
/// Longer than the drawn idle times of pools, and than the housekeeping's pace.
const QUIET: Duration = Duration::from_millis(3200);
/// A shard that has a message takes it within this time, stalls included.
const WAKE_MAX: Duration = Duration::from_millis(150);
const GAUGES: [&str; 5] = [
    "headrace_connections",
    "headrace_exchanges_in_flight",
    "headrace_upstream_calls_in_flight",
    "headrace_queued_items",
    "headrace_tickets",
];
const COUNTED: [(&str, &str); 5] = [
    ("isolation", "headrace_isolation_calls_total"),
    ("lane went solo", "headrace_lanes_solo_total"),
    ("job crossed", "headrace_cross_shard_jobs_total"),
    ("doorbell rung", "headrace_doorbells_rung_total"),
    ("call again", "headrace_upstream_retries_total"),
];
const FAULT_NAMES: [&str; Fault::ALL.len()] = [
    "LateCompletion",
    "Reordered",
    "ShortRead",
    "ShortWrite",
    "Reset",
    "TimedOut",
    "Refused",
    "ConnectTimedOut",
    "Cancelled",
    "NoBuffers",
    "AcceptOutOfDescriptors",
    "SocketOutOfDescriptors",
    "Aborted",
    "MultishotEnds",
    "QueueOverflow",
    "StaleCompletion",
    "LateCancel",
    "Stall",
    "CancelLost",
    "NumberReused",
    "BrokenPipe",
    "PoolEmpty",
    "SendWaited",
    "BacklogFull",
];
