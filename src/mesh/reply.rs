//! One answer from a shard to a thread that may wait for it: an operator's question travels in a message and carries this along.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// The shard's end: says one thing, without waiting.
#[derive(Debug)]
pub struct Reply<T>(SyncSender<T>);

/// The asker's end.
#[derive(Debug)]
pub struct Awaited<T>(Receiver<T>);

/// A place for one answer.
#[must_use]
pub fn reply<T>() -> (Reply<T>, Awaited<T>) {
    let (sender, receiver) = sync_channel(1);
    (Reply(sender), Awaited(receiver))
}

impl<T> Reply<T> {
    /// Nobody may be waiting any more; then it is dropped.
    pub fn say(self, answer: T) {
        let _ = self.0.try_send(answer);
    }
}

impl<T> Awaited<T> {
    /// Blocks. `None`: it did not come in time, or it never will.
    #[must_use]
    pub fn wait(self, patience: Duration) -> Option<T> {
        self.0.recv_timeout(patience).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, reply};

    #[test]
    fn an_answer_comes_once_or_not_at_all() {
        let (one, awaited) = reply();
        std::thread::spawn(|| one.say(7)).join().unwrap();
        assert_eq!(awaited.wait(Duration::from_secs(5)), Some(7));
        let (dropped, awaited) = reply::<u32>();
        drop(dropped);
        assert_eq!(awaited.wait(Duration::from_secs(5)), None, "who will not answer is not waited for");
        let (late, awaited) = reply();
        drop(awaited);
        late.say(1);
    }
}
