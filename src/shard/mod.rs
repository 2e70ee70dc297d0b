//! The data plane's story: what one core does from an accepted connection to a recorded answer. [`Shard`] lists everything a
//! core owns; the phases of a request are called in order by `exchange`. Beside `runtime` and `control` it is the only room with
//! `async`. It decides nothing itself that a pure room can decide, and never waits for the control plane.

mod accept;
mod admit;
mod answer;
mod body;
mod coalesce;
mod connection;
mod error;
mod exchange;
mod explain;
mod fallback;
mod forward;
mod gate;
mod health;
mod hedge;
mod home;
mod input;
mod read;
mod relay;
mod respond;
mod retry;
mod route;
mod shadow;
mod snapshot;
mod split;
mod stream;
#[cfg(test)]
mod tests;
mod turn;
mod upgrade;
mod upstream;
mod wish;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use hashbrown::HashMap;
use slab::Slab;

use crate::batch::{Answer, CallId, Home, HomeLimits, Job, Ticket, Tickets};
use crate::config::{UpstreamId, limits};
use crate::mesh::{Port, ShardId, Shared};
use crate::policy::Report;
use crate::runtime::{Detached, Listener, Rt, TaskId};
use crate::sys::Instant;

pub use error::{Error, Fault};
pub use explain::{Asked, Explained, Question, Told, ToldEndpoint, explain};
pub use health::{Probed, why_opened};
pub use snapshot::ShardSnapshot;

use snapshot::Snapshot;

/// What crosses between shards, and from control to a shard.
#[derive(Debug)]
pub enum Message {
    /// A job for a lane whose home is the receiver.
    Job(Box<Job>),
    /// The client behind a job has left.
    Cancel(Ticket),
    /// A job's end, on its way to where its client waits.
    Answer(Box<Answer>),
    /// A connection that the receiver is to serve, before anything was read from it. A place for it was taken there.
    Connection(Detached),
    /// A place at an upstream has become free, and it is the receiver's turn.
    Room,
    /// The next configuration, from control. Exchanges that have begun end under the one they began with.
    Snapshot(Box<ShardSnapshot>),
    /// What the probes say, from control.
    Probed(Box<Probed>),
    /// What engines said of their load, from control.
    Reports(Shared<Reports>),
    /// What an operator wants to know, from control.
    Question(Box<Question>),
    /// Finish what is begun, begin nothing.
    Drain,
    /// A successor accepts from now on: finish what is begun, and what is asked on connections that are open.
    Leave,
}

/// One round of scrapes: what each endpoint that answered has to do.
#[derive(Debug)]
pub struct Reports {
    /// Of the snapshot whose ids these are.
    pub generation: u32,
    pub list: Vec<(UpstreamId, u32, Report)>,
}

/// Everything one core owns. `!Send`: made on its thread and dropped there.
pub struct Shard {
    id: ShardId,
    rt: Rt,
    port: Port<Message>,
    /// The same for all shards: picks a lane's home.
    lane_seed: u64,
    /// The current configuration with what belongs to it: router, pools, balancers, counters.
    current: RefCell<Rc<Snapshot>>,
    /// Former ones, newest last: calls of lanes that began under them find their endpoints here.
    former: RefCell<VecDeque<Former>>,
    /// Jobs routed under a snapshot that another shard received before this one.
    early: RefCell<VecDeque<Job>>,
    /// The lanes whose home is here.
    home: RefCell<Home>,
    /// Upstream calls of those lanes, to abort them when nobody waits any more.
    calls: RefCell<HashMap<CallId, TaskId>>,
    /// Exchanges of this shard that wait for a home's answer.
    tickets: RefCell<Tickets<Waiting>>,
    /// Messages that found a peer's inbox full; they go first.
    outbox: RefCell<VecDeque<(ShardId, Message)>>,
    /// The tasks of open client connections, to tell them of a drain.
    connections: RefCell<Slab<TaskId>>,
    /// Tasks that wait for room to accept.
    acceptors: RefCell<Vec<TaskId>>,
    listeners: RefCell<Vec<TaskId>>,
    /// Of those, how many have not come to their end.
    accepting: Cell<usize>,
    draining: Cell<bool>,
    /// While draining: connections that are open may ask once more.
    leaving: Cell<bool>,
    /// Bytes of request bodies that are held now, over all exchanges.
    held_bytes: Rc<Cell<u64>>,
    next_request: Cell<u64>,
}

/// A configuration that was replaced.
struct Former {
    snapshot: Rc<Snapshot>,
    replaced: Instant,
}

/// An exchange that waits for its answer.
struct Waiting {
    task: TaskId,
    answer: Option<Answer>,
}

/// What a shard is made of, handed over to its thread.
#[derive(Debug)]
pub struct ShardSeed {
    pub port: Port<Message>,
    pub snapshot: ShardSnapshot,
    /// Drawn once per process: nobody outside can aim requests at one home.
    pub lane_seed: u64,
    /// Drawn per shard: request ids and ticket tables differ between shards and runs.
    pub seed: u64,
}

impl Shard {
    /// A shard on `rt` that serves `listeners` from the first turn on.
    #[must_use]
    pub fn new(seed: ShardSeed, rt: Rt, listeners: Vec<Listener>) -> Rc<Shard> {
        let id = seed.port.id();
        let home = Home::new(HomeLimits {
            seed: seed.seed,
            max_lanes: u32::try_from(limits::LANES_MAX).unwrap_or(u32::MAX),
            max_bytes: seed.snapshot.config.server.max_held_bytes,
            ..HomeLimits::default()
        });
        let snapshot = Rc::new(Snapshot::new(seed.snapshot, id));
        let tickets = Tickets::new(u16::try_from(id.0).unwrap_or(u16::MAX), snapshot.config.server.max_connections);
        let shard = Rc::new(Shard {
            id,
            rt: rt.clone(),
            port: seed.port,
            lane_seed: seed.lane_seed,
            current: RefCell::new(snapshot),
            former: RefCell::default(),
            early: RefCell::default(),
            home: RefCell::new(home),
            calls: RefCell::default(),
            tickets: RefCell::new(tickets),
            outbox: RefCell::default(),
            connections: RefCell::default(),
            acceptors: RefCell::default(),
            listeners: RefCell::default(),
            accepting: Cell::new(listeners.len()),
            draining: Cell::new(false),
            leaving: Cell::new(false),
            held_bytes: Rc::default(),
            next_request: Cell::new(seed.seed),
        });
        for listener in listeners {
            let task = rt.spawn(accept::accept_all(Rc::clone(&shard), listener));
            shard.listeners.borrow_mut().push(task);
        }
        rt.spawn(turn::keep_house(Rc::downgrade(&shard), rt.clone()));
        shard
    }

    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Whether the shard was told to drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether nothing is left to finish: no connection, no job, no call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // A place that is taken is a connection, be it on its way here.
        self.port.load(self.id).connections == 0
            && self.connections.borrow().is_empty()
            && self.home.borrow().jobs() == 0
            && self.calls.borrow().is_empty()
            && self.outbox.borrow().is_empty()
            && !(self.leaving.get() && self.accepting.get() > 0)
    }

    fn snapshot(&self) -> Rc<Snapshot> {
        Rc::clone(&self.current.borrow())
    }
}
