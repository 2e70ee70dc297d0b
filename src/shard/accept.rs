//! From a listening socket to connections, with the refusal at the limit: at `max_connections` nothing is accepted any more and the
//! kernel's backlog holds who comes.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::Shard;
use super::connection::serve;
use crate::runtime::Listener;

/// Accepts until the task is dropped, which a drain does.
pub(super) async fn accept_all(shard: Rc<Shard>, listener: Listener) {
    loop {
        room(&shard).await;
        match listener.accept().await {
            Ok(socket) => {
                let rt = shard.rt.clone();
                rt.spawn(serve(Rc::clone(&shard), socket));
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
