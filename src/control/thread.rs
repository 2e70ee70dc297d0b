//! A shard's thread from its first instruction to its last: pinned, its driver made, its listeners adopted, turn after turn until
//! it is told to end. What a turn does is the shard's business; when to end is the plane's.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::Io;
use crate::mesh::Ring;
use crate::runtime::{Clock, Driver, EpollDriver, Listener, RealClock, Rt, UringDriver};
use crate::shard::{Shard, ShardSeed};
use crate::sys::{BufferPool, EventFd};

/// What a thread needs before its shard is made.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) index: u32,
    /// The core to pin to.
    pub(super) core: Option<usize>,
    pub(super) io: Io,
    pub(super) receive_buffers: u16,
    pub(super) receive_buffer_bytes: u32,
    pub(super) spin: Duration,
    pub(super) clock: RealClock,
    pub(super) beat: Arc<Beat>,
}

/// What a shard's thread and the plane tell each other without a message: it works even when the shard does not.
#[derive(Debug)]
pub(super) struct Beat {
    bell: EventFd,
    /// Turns ended so far.
    turns: AtomicU64,
    /// The shard drains and has nothing left to finish. It may have again: a peer's job for a lane that is at home here.
    drained: AtomicBool,
    /// End after this turn.
    cut: AtomicBool,
    /// The thread has left its loop.
    ended: AtomicBool,
}

impl Beat {
    pub(super) fn new() -> io::Result<Beat> {
        Ok(Beat {
            bell: EventFd::new()?,
            turns: AtomicU64::new(0),
            drained: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// What rings the shard for those who send to it.
    pub(super) fn bell(&self) -> ShardBell {
        ShardBell(self.bell.clone())
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire) || self.has_ended()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Makes a shard that sleeps begin a turn.
    pub(super) fn nudge(&self) {
        self.bell.ring();
    }

    /// Ends the shard after the turn it is in.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.nudge();
    }
}

/// An eventfd as the mesh's bell.
#[derive(Debug)]
pub(super) struct ShardBell(EventFd);

impl Ring for ShardBell {
    fn ring(&self) {
        self.0.ring();
    }
}

/// The thread's first word: which driver it could make.
#[derive(Debug)]
pub(super) enum Made {
    Uring,
    Epoll {
        refused: Option<io::Error>,
    },
    /// io_uring is demanded and refused.
    Refused(io::Error),
    Failed(io::Error),
}

/// The start shot, once all threads have said which driver they could make.
#[derive(Debug)]
pub(super) struct Go {
    /// All shards use epoll: another one was refused a ring. (A listener that shards share can only be blocking or not.)
    pub(super) epoll: bool,
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) seed: ShardSeed,
}

/// A thread that was started, as boot sees it.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) thread: JoinHandle<()>,
    pub(super) made: mpsc::Receiver<Made>,
    pub(super) go: mpsc::Sender<Box<Go>>,
    /// The thread's second word: it serves.
    pub(super) serving: mpsc::Receiver<io::Result<()>>,
}

struct Wires {
    made: mpsc::Sender<Made>,
    go: mpsc::Receiver<Box<Go>>,
    serving: mpsc::Sender<io::Result<()>>,
}

/// Starts the thread. `ended` is called with the reason when it ends without having been told to.
///
/// # Errors
/// When the system grants no thread.
pub(super) fn start(plan: Plan, ended: impl FnOnce(u32, String) + Send + 'static) -> io::Result<Started> {
    let (made, made_here) = mpsc::channel();
    let (go_here, go) = mpsc::channel();
    let (serving, serving_here) = mpsc::channel();
    let wires = Wires { made, go, serving };
    let thread = std::thread::Builder::new().name(format!("shard-{}", plan.index)).spawn(move || {
        guarded(plan.index, &plan.beat, || run(&plan, &wires), ended);
    })?;
    Ok(Started { thread, made: made_here, go: go_here, serving: serving_here })
}

/// Does a thread's work and tells how it ended, if that is worth telling.
pub(super) fn guarded(index: u32, beat: &Beat, work: impl FnOnce() -> io::Result<()>, ended: impl FnOnce(u32, String)) {
    let result = catch_unwind(AssertUnwindSafe(work));
    beat.ended.store(true, Ordering::Release);
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => ended(index, error.to_string()),
        Err(panic) => ended(index, format!("panic: {}", words(panic.as_ref()))),
    }
}

/// What is sent to a channel whose other end is gone was meant for a start that was called off.
fn run(plan: &Plan, wires: &Wires) -> io::Result<()> {
    if let Some(core) = plan.core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        tracing::warn!("shard {} could not be pinned to core {core}", plan.index);
    }
    let (driver, made) = match make_driver(plan) {
        Ok(made) => made,
        Err(failure) => {
            let _ = wires.made.send(failure);
            return Ok(());
        }
    };
    let _ = wires.made.send(made);
    let Ok(go) = wires.go.recv() else { return Ok(()) };
    let Go { epoll, listeners, seed } = *go;
    let (rt, listeners) = match settle(plan, driver, epoll, listeners) {
        Ok(settled) => settled,
        Err(error) => {
            let _ = wires.serving.send(Err(error));
            return Ok(());
        }
    };
    let shard = Shard::new(seed, rt.clone(), listeners);
    let _ = wires.serving.send(Ok(()));
    let result = catch_unwind(AssertUnwindSafe(|| turn_until_cut(&shard, &plan.beat)));
    // After a panic too: a listener left open would go on taking its share of the clients, for nobody.
    rt.shut_down();
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

fn settle(plan: &Plan, driver: Box<dyn Driver>, epoll: bool, listeners: Vec<OwnedFd>) -> io::Result<(Rt, Vec<Listener>)> {
    let driver = if epoll && driver.name() != "epoll" {
        drop(driver);
        make_epoll(plan)?
    } else {
        driver
    };
    let rt = Rt::new(driver, Clock::from(plan.clock.clone()));
    rt.set_spin(plan.spin);
    rt.contain_panics();
    let listeners = listeners.into_iter().map(|socket| rt.adopt_listener(socket)).collect::<io::Result<Vec<_>>>()?;
    Ok((rt, listeners))
}

fn turn_until_cut(shard: &Rc<Shard>, beat: &Beat) -> io::Result<()> {
    let mut turns = 0;
    while !beat.cut.load(Ordering::Acquire) {
        shard.turn()?;
        turns += 1;
        beat.turns.store(turns, Ordering::Release);
        if shard.is_draining() {
            beat.drained.store(shard.is_empty(), Ordering::Release);
        }
    }
    Ok(())
}

fn make_driver(plan: &Plan) -> Result<(Box<dyn Driver>, Made), Made> {
    let refused = if plan.io == Io::Epoll {
        None
    } else {
        match UringDriver::new(pool(plan).map_err(Made::Failed)?, plan.beat.bell.clone()) {
            Ok(driver) => return Ok((Box::new(driver), Made::Uring)),
            Err(error) if plan.io == Io::Uring => return Err(Made::Refused(error)),
            Err(error) => Some(error),
        }
    };
    Ok((make_epoll(plan).map_err(Made::Failed)?, Made::Epoll { refused }))
}

fn make_epoll(plan: &Plan) -> io::Result<Box<dyn Driver>> {
    Ok(Box::new(EpollDriver::new(pool(plan)?, plan.beat.bell.clone())?))
}

/// Made on the shard's own thread, so that its pages lie near its core.
fn pool(plan: &Plan) -> io::Result<BufferPool> {
    BufferPool::new(plan.receive_buffers, plan.receive_buffer_bytes)
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
