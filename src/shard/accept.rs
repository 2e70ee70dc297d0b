//! From a listening socket to connections, with the bound on them: at `max_connections` nobody more is served, and the kernel's
//! backlog holds who comes (but for the few that the runtime has accepted ahead).

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::Shard;
use super::connection::{Open, serve};
use crate::runtime::Listener;

/// Accepts until the task is dropped, which a drain does.
pub(super) async fn accept_all(shard: Rc<Shard>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(socket) => {
                // After the accept, not before it: another listener may have taken the last place meanwhile.
                room(&shard).await;
                Open::spawn(&shard, |open| serve(Rc::clone(&shard), socket, open));
            }
            // EMFILE and its like: those who have a connection go on; look again when some may have closed.
            Err(_) => shard.rt.sleep_until(shard.rt.now() + PAUSE_AFTER_ERROR).await,
        }
    }
}

/// Waits until another connection may be open.
async fn room(shard: &Shard) {
    poll_fn(|_| {
        let open = shard.connections.borrow().len();
        if open < shard.current.borrow().config.server.max_connections as usize {
            return Poll::Ready(());
        }
        if let Some(task) = shard.rt.current() {
            shard.acceptors.borrow_mut().push(task);
        }
        Poll::Pending
    })
    .await;
}

const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
