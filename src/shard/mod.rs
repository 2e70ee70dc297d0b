//! A stand-in with the names and the promises that control needs (the real room replaces it): it answers every connection's first
//! bytes with 200 and closes, and one whose first bytes say `POST` it keeps until the client leaves.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::config::Config;
use crate::mesh::{Port, Shared};
use crate::metrics::ShardMetrics;
use crate::policy::Router;
use crate::runtime::{Idle, Listener, Rt, TaskId};

/// What crosses between shards, and from control to a shard.
#[derive(Debug)]
pub enum Message {
    Snapshot(Box<ShardSnapshot>),
    Drain,
}

/// A configuration on its way from control to one shard.
#[derive(Debug)]
pub struct ShardSnapshot {
    pub generation: u32,
    pub config: Shared<Config>,
    pub router: Shared<Router>,
    pub metrics: ShardMetrics,
}

#[derive(Debug)]
pub struct ShardSeed {
    pub port: Port<Message>,
    pub snapshot: ShardSnapshot,
    pub lane_seed: u64,
    pub seed: u64,
}

pub struct Shard {
    rt: Rt,
    port: Port<Message>,
    current: RefCell<ShardSnapshot>,
    open: Cell<usize>,
    listeners: RefCell<Vec<TaskId>>,
    draining: Cell<bool>,
}

struct Bed<'a>(&'a Port<Message>);

impl Idle for Bed<'_> {
    fn has_work(&self) -> bool {
        !self.0.inbox().is_empty()
    }

    fn fall_asleep(&self) -> bool {
        self.0.try_sleep()
    }

    fn wake_up(&self) {
        self.0.wake();
    }
}

impl Shard {
    #[must_use]
    pub fn new(seed: ShardSeed, rt: Rt, listeners: Vec<Listener>) -> Rc<Shard> {
        let shard = Rc::new(Shard {
            rt: rt.clone(),
            port: seed.port,
            current: RefCell::new(seed.snapshot),
            open: Cell::new(0),
            listeners: RefCell::default(),
            draining: Cell::new(false),
        });
        for listener in listeners {
            let task = rt.spawn(accept(Rc::clone(&shard), listener));
            shard.listeners.borrow_mut().push(task);
        }
        shard
    }

    /// # Errors
    /// When the driver is broken.
    pub fn turn(self: &Rc<Self>) -> io::Result<()> {
        while let Some(message) = self.port.pop() {
            match message {
                Message::Snapshot(snapshot) => drop(self.current.replace(*snapshot)),
                Message::Drain => {
                    self.draining.set(true);
                    for task in self.listeners.take() {
                        self.rt.abort(task);
                    }
                }
            }
        }
        self.rt.run_tasks();
        self.rt.wait(None, &Bed(&self.port))
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.get() == 0
    }
}

async fn accept(shard: Rc<Shard>, listener: Listener) {
    loop {
        let Ok(socket) = listener.accept().await else {
            shard.rt.sleep_until(shard.rt.now() + Duration::from_millis(10)).await;
            continue;
        };
        shard.open.set(shard.open.get() + 1);
        let shard = Rc::clone(&shard);
        shard.rt.clone().spawn(async move {
            if let Ok(Some(lease)) = socket.recv().await {
                if lease.starts_with(b"panic") {
                    assert!(shard.draining.get(), "asked to");
                }
                if lease.starts_with(b"POST") {
                    while let Ok(Some(_)) = socket.recv().await {}
                } else {
                    let _ = socket.send(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n".to_vec()).await;
                }
            }
            shard.current.borrow().metrics.connection_opened();
            drop(socket);
            shard.open.set(shard.open.get() - 1);
        });
    }
}
