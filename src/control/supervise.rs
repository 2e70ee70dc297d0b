//! The control thread: serves the admin page, listens to signals and to its gateway's owner, and brings the gateway to its end.
//!
//! ```text
//!   serving ── SIGTERM, SIGINT, drain(), a shard that broke ──> draining ── all finished, or the timeout, or a second signal ──> cut
//!      ├────── SIGUSR2, and a successor serves ──> leaving (open connections may ask once more) ── all finished, or upgrade_timeout ──> cut
//!      └────── stop() ─────────────────────────────────────────────────────────────────────────────────────────────────────> cut
//! ```

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle as Task};

use super::error::{Ended, RunError};
use super::listen::SocketFile;
use super::plane::Plane;
use super::upgrade::{Estate, UpgradeError};
use super::watch::{self, Watch};
use crate::sys::{GiveBack, give_back_memory};

/// What the control thread is told.
#[derive(Debug)]
pub(super) enum Event {
    Drain,
    Stop,
    /// A shard ended without having been told to.
    ShardEnded(u32, String),
}

/// The signals of a program that serves. Without them (tests, the demo) the process keeps its own ways.
#[derive(Debug, Default)]
pub(super) struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    hangup: Option<Signal>,
    upgrade: Option<Signal>,
}

impl Signals {
    /// Must be called within the runtime. The handlers stay for the life of the process.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub(super) fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: Some(signal(SignalKind::terminate())?),
            interrupt: Some(signal(SignalKind::interrupt())?),
            hangup: Some(signal(SignalKind::hangup())?),
            upgrade: Some(signal(SignalKind::user_defined2())?),
        })
    }
}

/// Everything the control thread owns.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) plane: Arc<Plane>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) signals: Signals,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) files: Vec<SocketFile>,
    /// What a successor gets; only a program of its own has one.
    pub(super) estate: Option<Arc<Estate>>,
    /// The admin page's task.
    pub(super) page: Option<AbortHandle>,
}

enum Next {
    Drain,
    Leave,
    Cut,
}

impl Supervisor {
    /// Runs until every shard has ended.
    pub(super) async fn run(mut self) -> Result<Ended, RunError> {
        let mut failure = None;
        let next = self.serve(&mut failure).await;
        let is_succeeded = matches!(next, Next::Leave);
        let ended = match next {
            Next::Drain => self.drain(&mut failure, false).await,
            Next::Leave => self.drain(&mut failure, true).await,
            Next::Cut => Ended::Cut,
        };
        self.plane.cut();
        if !is_succeeded {
            // A successor writes down its own.
            self.plane.keep_rollouts();
        }
        let left = self.join().await;
        match failure {
            Some(what) => Err(RunError { what }),
            None if left > 0 => Err(RunError { what: format!("{left} shards did not end when they were told to") }),
            None => Ok(ended),
        }
    }

    async fn serve(&mut self, failure: &mut Option<String>) -> Next {
        let (mut reload, mut keep): (Option<Task<()>>, Option<Task<()>>) = (None, None);
        let mut look = tokio::time::interval(crate::policy::LOOK_EVERY);
        let (mut watch, mut watch_look) = (Watch::default(), tokio::time::interval(watch::LOOK_EVERY));
        let mut successor: Option<Task<Result<u32, UpgradeError>>> = None;
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (splits, watched) = (self.plane.has_rollouts(), self.plane.watched());
            tokio::select! {
                _ = look.tick(), if splits => if self.plane.look_at_rollouts() && keep.is_none() {
                    let plane = Arc::clone(&self.plane);
                    keep = Some(tokio::task::spawn_blocking(move || plane.keep_rollouts()));
                },
                () = finished(keep.as_mut()) => keep = None,
                event = self.events.recv() => return next(event, failure),
                () = heard_either(&mut self.signals.terminate, &mut self.signals.interrupt) => {
                    tracing::info!("asked to end: draining for at most {:?}, a second signal cuts at once", self.plane.drain_timeout());
                    return Next::Drain;
                }
                // One reload at a time; a signal that comes during one is remembered and leads to the next.
                _ = watch_look.tick(), if watched.is_some() && reload.is_none() => {
                    if watched.is_some_and(|path| watch.look(&path)) {
                        let plane = Arc::clone(&self.plane);
                        tracing::info!("the configuration file has changed");
                        reload = Some(tokio::task::spawn_blocking(move || drop(plane.reload_file())));
                    }
                }
                () = heard(&mut self.signals.hangup), if reload.is_none() => {
                    let plane = Arc::clone(&self.plane);
                    reload = Some(tokio::task::spawn_blocking(move || {
                        let _ = plane.reload_file();
                        give_back_memory(GiveBack::Stale);
                    }));
                }
                () = finished(reload.as_mut()) => reload = None,
                () = heard(&mut self.signals.upgrade), if successor.is_none() => {
                    tracing::info!("asked to upgrade: starting the new process");
                    let plane = Arc::clone(&self.plane);
                    successor = self.estate.clone().map(|estate| tokio::task::spawn_blocking(move || {
                        // What the new process takes up.
                        plane.keep_rollouts();
                        estate.hand_over()
                    }));
                }
                born = born(successor.as_mut()) => {
                    successor = None;
                    if self.is_succeeded(born) {
                        return Next::Leave;
                    }
                }
            }
        }
    }

    /// Whether the new process serves. If it does not, the old one goes on.
    fn is_succeeded(&mut self, born: Result<u32, UpgradeError>) -> bool {
        match born {
            Ok(pid) => {
                tracing::info!("process {pid} serves: this one accepts nothing more and ends when what is begun is finished");
                self.plane.notify().succeeded_by(pid);
                // The page and the sockets' files are the successor's now.
                if let Some(page) = self.page.take() {
                    page.abort();
                }
                self.files.drain(..).for_each(SocketFile::leave);
                true
            }
            Err(error) => {
                tracing::error!("not upgraded, this process goes on: {error}");
                self.plane.count_failed_upgrade();
                false
            }
        }
    }

    async fn drain(&mut self, failure: &mut Option<String>, leaving: bool) -> Ended {
        let plane = Arc::clone(&self.plane);
        // It may wait for full inboxes; the admin page goes on meanwhile.
        let tell = move || if leaving { plane.begin_leave() } else { plane.begin_drain() };
        let mut told: Option<Task<()>> = Some(tokio::task::spawn_blocking(tell));
        // A successor may bind the paths from now on, and nobody is to wait in a queue that is open here only.
        self.files.clear();
        self.estate = None;
        let timeout = if leaving { self.plane.upgrade_timeout() } else { self.plane.drain_timeout() };
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = finished(told.as_mut()), if told.is_some() => told = None,
                event = self.events.recv() => if let Next::Cut = next(event, failure) {
                    return Ended::Cut;
                },
                () = heard_either(&mut self.signals.terminate, &mut self.signals.interrupt) => {
                    tracing::warn!("asked again: cutting what is left");
                    return Ended::Cut;
                }
                () = &mut deadline => {
                    tracing::warn!("the drain timeout has passed: cutting what is left");
                    return Ended::Cut;
                }
                _ = look.tick(), if told.is_none() => if self.plane.is_drained() {
                    return Ended::Clean;
                },
            }
        }
    }

    /// Waits for the threads, which have been cut; how many did not end.
    async fn join(&mut self) -> usize {
        let mut looks = 0;
        while looks < END_LOOKS && !self.plane.shards().iter().all(|line| line.beat.has_ended()) {
            self.plane.nudge();
            tokio::time::sleep(END_LOOK_EVERY).await;
            looks += 1;
        }
        let mut left = 0;
        for (thread, line) in std::mem::take(&mut self.threads).into_iter().zip(self.plane.shards()) {
            if line.beat.has_ended() {
                // Its panic, if it was one, has been told already.
                let _ = thread.join();
            } else {
                left += 1;
            }
        }
        left
    }
}

fn next(event: Option<Event>, failure: &mut Option<String>) -> Next {
    match event {
        Some(Event::Drain) => Next::Drain,
        // None: the owner is gone without a word.
        Some(Event::Stop) | None => Next::Cut,
        Some(Event::ShardEnded(index, why)) => {
            let what = format!("shard {index} broke: {why}");
            tracing::error!("{what}; the others drain");
            failure.get_or_insert(what);
            Next::Drain
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

async fn heard_either(one: &mut Option<Signal>, other: &mut Option<Signal>) {
    tokio::select! {
        () = heard(one) => {}
        () = heard(other) => {}
    }
}

async fn born(task: Option<&mut Task<Result<u32, UpgradeError>>>) -> Result<u32, UpgradeError> {
    match task {
        Some(task) => task.await.unwrap_or_else(|broken| Err(UpgradeError::Ended(broken.to_string()))),
        None => std::future::pending().await,
    }
}

async fn finished(task: Option<&mut Task<()>>) {
    match task {
        // What it had to say it has logged.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// While draining: how often the shards are asked how they stand.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const END_LOOK_EVERY: Duration = Duration::from_millis(1);
/// Patience with a shard that was cut, in looks: five seconds, most of which a busy machine may need.
const END_LOOKS: u32 = 5000;
