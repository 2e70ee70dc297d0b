//! From a listening socket to connections, each on the shard that serves it, with the bound on them: at `max_connections` nobody
//! more is served, and the kernel's backlog holds who comes (but for the few that the runtime has accepted ahead). Who serves is
//! chosen before the first byte is read: this shard, or another that has clearly less to do.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::connection::{Open, serve};
use super::{Message, Shard};
use crate::mesh::ShardId;
use crate::policy::{ShardLoad, is_better_there};
use crate::runtime::{Detached, Either, Listener, Socket, race};

/// Accepts until the task is dropped, which a drain does, or until a successor accepts in our place.
pub(super) async fn accept_all(shard: Rc<Shard>, listener: Listener) {
    loop {
        let accepted = match race(listener.accept(), succeeded(&shard, &listener)).await {
            Either::First(accepted) => accepted,
            Either::Second(()) => {
                listener.stop();
                continue;
            }
        };
        match accepted {
            Ok(socket) => {
                if let Some(socket) = hand_over(&shard, socket) {
                    // After the accept, not before it: another listener may have taken the last place meanwhile.
                    place(&shard).await;
                    Open::spawn(&shard, |open| serve(Rc::clone(&shard), socket, open));
                }
            }
            Err(_) if listener.is_stopped() => return shard.accepting.set(shard.accepting.get().saturating_sub(1)),
            // EMFILE and its like: those who have a connection go on; look again when some may have closed.
            Err(_) => shard.rt.sleep_until(shard.rt.now() + PAUSE_AFTER_ERROR).await,
        }
    }
}

/// Waits for the moment from which a successor accepts.
async fn succeeded(shard: &Shard, listener: &Listener) {
    poll_fn(|_| if shard.leaving.get() && !listener.is_stopped() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Sends the connection to another shard if that one has less to do and a place left; gives it back when it stays here.
fn hand_over(shard: &Shard, socket: Socket) -> Option<Socket> {
    let Some(other) = another(shard) else { return Some(socket) };
    if !is_better_there(load(shard, shard.id), load(shard, other)) || !shard.port.take_place(other, max_connections(shard)) {
        return Some(socket);
    }
    let detached = match socket.detach() {
        Ok(detached) => detached,
        Err(socket) => {
            shard.port.give_place(other);
            return Some(socket);
        }
    };
    match shard.port.send(other, Message::Connection(detached)) {
        Ok(()) => {
            shard.current.borrow().metrics.connection_handed_over();
            None
        }
        // Its inbox is full: it has more to do than its numbers say.
        Err(Message::Connection(detached)) => {
            shard.port.give_place(other);
            shard.rt.attach(detached)
        }
        Err(_) => None,
    }
}

/// One of the other shards, by chance.
fn another(shard: &Shard) -> Option<ShardId> {
    let others = shard.port.shards().checked_sub(1).filter(|others| *others > 0)?;
    let picked = shard.random() % others;
    Some(ShardId(if picked >= shard.id.0 { picked + 1 } else { picked }))
}

fn load(shard: &Shard, of: ShardId) -> ShardLoad {
    let load = shard.port.load(of);
    ShardLoad { connections: load.connections, exchanges: load.exchanges }
}

fn max_connections(shard: &Shard) -> u64 {
    u64::from(shard.current.borrow().config.server.max_connections)
}

/// Waits until a place for another connection is free here, and takes it.
async fn place(shard: &Shard) {
    // A place that another shard took and gave back wakes nobody: hence the second look.
    while shard.rt.before(shard.rt.now() + SECOND_LOOK, free_place(shard)).await.is_none() {}
}

async fn free_place(shard: &Shard) {
    poll_fn(|_| {
        if shard.port.take_place(shard.id, max_connections(shard)) {
            return Poll::Ready(());
        }
        if let Some(task) = shard.rt.current() {
            shard.acceptors.borrow_mut().push(task);
        }
        Poll::Pending
    })
    .await;
}

impl Shard {
    /// A connection that another shard accepted; the place for it is taken.
    pub(super) fn take_connection(self: &Rc<Self>, detached: Detached) {
        match self.rt.attach(detached) {
            Some(socket) => Open::spawn(self, |open| serve(Rc::clone(self), socket, open)),
            None => self.port.give_place(self.id),
        }
    }
}

const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
const SECOND_LOOK: Duration = Duration::from_millis(100);
