//! The mock on a thread of its own, for the command line, the demo and tests: started, asked, stopped. The two sides talk by
//! messages and the driver's bell; nothing is shared.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use super::{Mock, MockConfig, MockStats};
use crate::config::Io;
use crate::runtime::{Alone, Clock, Driver, EpollDriver, RealClock, Rt, UringDriver};
use crate::sys::net::Address;
use crate::sys::{BufferPool, EventFd};

/// A running mock. Dropping it stops it.
#[derive(Debug)]
pub struct MockHandle {
    address: Address,
    driver: &'static str,
    commands: Sender<Command>,
    bell: EventFd,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Stats(Sender<MockStats>),
    Stop,
}

/// What the new thread says first: where it listens and on which driver, or why not.
type Started = io::Result<(Address, &'static str)>;

/// Starts a mock on its own thread; port 0 lets the kernel choose.
///
/// # Errors
/// When the address cannot be bound or no driver can be made.
pub fn start(config: MockConfig, listen: &Address) -> io::Result<MockHandle> {
    let bell = EventFd::new()?;
    let (commands, inbox) = channel();
    let (said, started) = channel();
    let (of_thread, listen) = (bell.clone(), listen.clone());
    let thread = std::thread::Builder::new().name("mock".to_owned()).spawn(move || run(config, &listen, of_thread, &inbox, &said))?;
    let (address, driver) = started.recv().map_err(|_| io::Error::other("the mock's thread ended before it listened"))??;
    Ok(MockHandle { address, driver, commands, bell, thread: Some(thread) })
}

impl MockHandle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its TCP address; `None` on a Unix socket.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        match &self.address {
            Address::Tcp(addr) => Some(*addr),
            Address::Unix(_) => None,
        }
    }

    /// As an endpoint in a configuration: `http://127.0.0.1:8000` or `unix:/path`.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(addr) => format!("http://{addr}"),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// "uring" or "epoll".
    #[must_use]
    pub const fn driver(&self) -> &'static str {
        self.driver
    }

    /// What happened so far.
    ///
    /// # Errors
    /// When the mock's thread has ended.
    pub fn stats(&self) -> io::Result<MockStats> {
        let gone = || io::Error::other("the mock's thread has ended");
        let (reply, answer) = channel();
        self.commands.send(Command::Stats(reply)).map_err(|_| gone())?;
        self.bell.ring();
        answer.recv().map_err(|_| gone())
    }

    /// Ends its connections and waits for its thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for MockHandle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A runtime for a thread that is no shard: the mock's.
///
/// # Errors
/// As [`own_driver`].
pub fn own_runtime(io: Io, clock: RealClock, bell: &EventFd) -> io::Result<Rt> {
    Ok(Rt::new(own_driver(io, bell)?, Clock::from(clock)))
}

/// A driver for a thread that is no shard: the mock's runtime, the load clients, the load test's light upstream.
///
/// # Errors
/// When the wanted driver cannot be made; with `Auto` only when neither can.
pub fn own_driver(io: Io, bell: &EventFd) -> io::Result<Box<dyn Driver>> {
    let epoll = || -> io::Result<Box<dyn Driver>> { Ok(Box::new(EpollDriver::new(pool()?, bell.clone())?)) };
    let uring = || -> io::Result<Box<dyn Driver>> { Ok(Box::new(UringDriver::new(pool()?, bell.clone())?)) };
    match io {
        Io::Uring => uring(),
        Io::Epoll => epoll(),
        Io::Auto => uring().or_else(|_| epoll()),
    }
}

fn pool() -> io::Result<BufferPool> {
    BufferPool::new(RECEIVE_BUFFERS, RECEIVE_BUFFER_BYTES)
}

fn run(config: MockConfig, listen: &Address, bell: EventFd, inbox: &Receiver<Command>, said: &Sender<Started>) {
    let begun = own_runtime(config.io, RealClock::start(), &bell).and_then(|rt| {
        let listener = rt.listen(listen, BACKLOG)?;
        let address = listener.local_addr().map_or_else(|| listen.clone(), Address::Tcp);
        Ok((rt, listener, address))
    });
    let (rt, listener, address) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let _ = said.send(Err(error));
            return;
        }
    };
    let _ = said.send(Ok((address, rt.driver_name())));
    let mock = Mock::new(config);
    let (serving, of_task) = (mock.clone(), rt.clone());
    rt.spawn(async move { serving.serve(of_task, listener).await });
    loop {
        rt.run_tasks();
        if !obey(&mock, inbox) || rt.wait(None, &Alone).is_err() {
            break;
        }
    }
    rt.shut_down();
}

/// Carries out what was asked since the last turn; false when it is time to stop.
fn obey(mock: &Mock, inbox: &Receiver<Command>) -> bool {
    loop {
        match inbox.try_recv() {
            Ok(Command::Stats(reply)) => drop(reply.send(mock.stats())),
            Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
            Err(TryRecvError::Empty) => return true,
        }
    }
}

const RECEIVE_BUFFERS: u16 = 1024;
const RECEIVE_BUFFER_BYTES: u32 = 8 << 10;
const BACKLOG: i32 = 4096;
