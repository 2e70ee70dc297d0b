//! The shards' threads until they serve: which core each gets, which driver all can make, and the start shot. If one of them
//! cannot go on, none does.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::boot::StartOptions;
use super::error::StartError;
use super::supervise::Event;
use super::thread::{self, Beat, Go, Made, Plan, Started};
use crate::config::{Config, Io};
use crate::runtime::RealClock;
use crate::shard::ShardSeed;
use crate::sys::cores;

/// Threads that have made their drivers and wait for the start shot. Dropped instead, they end.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) beats: Vec<Arc<Beat>>,
    /// "uring" or "epoll".
    pub(super) driver: &'static str,
    /// Why it is not io_uring, where that was wanted.
    pub(super) refused: Option<String>,
    started: Vec<Started>,
}

impl Crew {
    /// Starts a thread per shard and waits until each has made its driver.
    ///
    /// # Errors
    /// When threads, descriptors or memory are out, or io_uring was demanded and refused.
    pub(super) fn hire(
        config: &Config,
        options: &StartOptions,
        shards: u32,
        clock: &RealClock,
        events: &mpsc::Sender<Event>,
    ) -> Result<Crew, StartError> {
        let io = options.io.unwrap_or(config.server.io);
        let cores = if options.pin { pinning(shards, &cores::allowed_cores(), cores::quota()) } else { Pinning::none() };
        if let Some(why) = &cores.complaint {
            tracing::warn!("{why}");
        }
        let mut crew = Crew { beats: Vec::new(), driver: "epoll", refused: None, started: Vec::new() };
        for index in 0..shards {
            let beat = Arc::new(Beat::new().map_err(|error| StartError::Resources { what: "no bell for a shard", error })?);
            let plan = Plan {
                index,
                core: cores.core(index),
                io,
                receive_buffers: config.server.receive_buffers,
                receive_buffer_bytes: config.server.receive_buffer_bytes,
                spin: options.spin,
                clock: clock.clone(),
                beat: Arc::clone(&beat),
            };
            let events = events.clone();
            // There is room for one from each shard; when the control thread is gone, nobody need know.
            let ended = move |index, why| drop(events.try_send(Event::ShardEnded(index, why)));
            crew.started.push(thread::start(plan, ended).map_err(|error| StartError::Resources { what: "no thread for a shard", error })?);
            crew.beats.push(beat);
        }
        crew.agree(io)?;
        Ok(crew)
    }

    /// One driver for all: the fastest that every shard could make.
    fn agree(&mut self, io: Io) -> Result<(), StartError> {
        for (index, started) in (0..).zip(&self.started) {
            match started.made.recv() {
                Ok(Made::Uring | Made::Epoll { refused: None }) => {}
                Ok(Made::Epoll { refused: Some(error) }) => {
                    self.refused.get_or_insert(format!("io_uring refused: {error}"));
                }
                Ok(Made::Refused(error)) => return Err(StartError::Ring { shard: index, error }),
                Ok(Made::Failed(error)) => return Err(StartError::Resources { what: "a shard's driver and buffers", error }),
                Err(_) => return Err(panicked()),
            }
        }
        self.driver = if io == Io::Epoll || self.refused.is_some() { "epoll" } else { "uring" };
        Ok(())
    }

    /// The start shot: every shard gets its seed and its listeners and serves when this returns.
    ///
    /// # Errors
    /// When one could not; all have ended then.
    pub(super) fn go(mut self, seeds: Vec<ShardSeed>, sockets: Vec<Vec<OwnedFd>>) -> Result<Vec<JoinHandle<()>>, StartError> {
        let epoll = self.driver == "epoll";
        for ((started, seed), listeners) in self.started.iter().zip(seeds).zip(sockets) {
            // One that is gone does not answer below.
            let _ = started.go.send(Box::new(Go { epoll, listeners, seed }));
        }
        for started in &self.started {
            started
                .serving
                .recv()
                .map_err(|_| panicked())?
                .map_err(|error| StartError::Resources { what: "a shard could not take its listeners", error })?;
        }
        Ok(std::mem::take(&mut self.started).into_iter().map(|started| started.thread).collect())
    }
}

impl Drop for Crew {
    /// Ends the threads that did not get to serve for their owner; none after a successful [`Crew::go`].
    fn drop(&mut self) {
        if self.started.is_empty() {
            return;
        }
        for beat in &self.beats {
            beat.cut();
        }
        let threads: Vec<_> = std::mem::take(&mut self.started).into_iter().map(|started| started.thread).collect();
        for thread in threads {
            let _ = thread.join();
        }
    }
}

fn panicked() -> StartError {
    StartError::Resources { what: "a shard's thread", error: io::Error::other("it broke while starting; the lines above say where") }
}

/// Which core each shard is pinned to.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Pinning {
    /// By shard; empty when none is pinned.
    cores: Vec<usize>,
    /// Why none is, where the operator should know.
    pub(super) complaint: Option<String>,
}

impl Pinning {
    fn none() -> Pinning {
        Pinning { cores: Vec::new(), complaint: None }
    }

    pub(super) fn core(&self, index: u32) -> Option<usize> {
        self.cores.get(usize::try_from(index).ok()?).copied()
    }
}

/// Each shard gets a core of its own, in order, when there are enough. Under a cgroup quota tighter than the mask nothing is
/// pinned: every container of the host sees the same mask, and all would crowd on its first cores.
pub(super) fn pinning(shards: u32, allowed: &[usize], quota: Option<f64>) -> Pinning {
    let count = u32::try_from(allowed.len()).unwrap_or(u32::MAX);
    let complaint = if shards > count {
        format!("{shards} shards on {count} allowed cores: not pinned, they will take turns")
    } else if quota.is_some_and(|quota| quota < f64::from(count)) {
        format!("a cgroup quota tighter than the {count} allowed cores: shards are not pinned (grant whole cores with a cpuset instead)")
    } else {
        return Pinning { cores: allowed.iter().copied().take(shards as usize).collect(), complaint: None };
    };
    Pinning { cores: Vec::new(), complaint: Some(complaint) }
}
