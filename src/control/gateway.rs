//! The handle of a running gateway: what its owner may ask and tell it. A process may have several.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::error::{Ended, ReloadError, RunError};
use super::plane::Plane;
use super::supervise::Event;
use crate::config::Config;

/// A gateway that serves. Dropping it stops it, as [`RunningGateway::stop`] does.
#[derive(Debug)]
pub struct RunningGateway {
    pub(super) plane: Arc<Plane>,
    pub(super) events: mpsc::Sender<Event>,
    /// None once it was joined.
    pub(super) thread: Option<JoinHandle<Result<Ended, RunError>>>,
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) admin_addr: SocketAddr,
    pub(super) driver: &'static str,
}

impl RunningGateway {
    /// The TCP addresses clients connect to, in the order of `server.listen`, with the ports the kernel chose for port 0.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.addrs.clone()
    }

    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// "uring" or "epoll", the same on all shards.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    #[must_use]
    pub fn shards(&self) -> u32 {
        u32::try_from(self.plane.shards().len()).unwrap_or(u32::MAX)
    }

    /// What `/metrics` answers now.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.plane.render()
    }

    /// Gives every shard a new configuration; begun exchanges end under the one they began with. Resolves names, so it may block.
    ///
    /// # Errors
    /// Why it was refused; nothing of it was applied.
    pub fn reload(&self, config: Config) -> Result<(), ReloadError> {
        self.plane.reload(Ok(config))
    }

    /// As SIGHUP: reads the file that was given at the start again.
    ///
    /// # Errors
    /// Why it was refused; nothing of it was applied.
    pub fn reload_file(&self) -> Result<(), ReloadError> {
        self.plane.reload_file()
    }

    /// Begins nothing more, finishes what is begun for at most `server.drain_timeout`, and returns when every thread has ended.
    ///
    /// # Errors
    /// When the gateway had ended by itself.
    pub fn drain(mut self) -> Result<Ended, RunError> {
        self.tell(Event::Drain);
        self.join()
    }

    /// Begins to drain and returns at once; [`RunningGateway::wait`] or [`RunningGateway::stop`] comes after.
    pub fn begin_drain(&self) {
        self.tell(Event::Drain);
    }

    /// Cuts what is begun and returns when every thread has ended.
    ///
    /// # Errors
    /// When the gateway had ended by itself.
    pub fn stop(mut self) -> Result<Ended, RunError> {
        self.tell(Event::Stop);
        self.join()
    }

    /// Waits until a signal (where the gateway was started with them) or [`RunningGateway::begin_drain`] ends it.
    ///
    /// # Errors
    /// When it ended by itself: a shard broke. The others have been drained.
    pub fn wait(mut self) -> Result<Ended, RunError> {
        self.join()
    }

    fn tell(&self, event: Event) {
        // Full or closed: it has been told often enough, or it has ended already.
        let _ = self.events.try_send(event);
    }

    fn join(&mut self) -> Result<Ended, RunError> {
        let gone = || RunError { what: "the control thread panicked".to_owned() };
        let Some(thread) = self.thread.take() else { return Err(gone()) };
        thread.join().unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.tell(Event::Stop);
            let _ = self.join();
        }
    }
}
