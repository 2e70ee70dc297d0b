//! Waiting for a moment, and for the end of the turn's other work.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Rt;
use crate::runtime::race::{Either, race};
use crate::sys::Instant;

/// Ready at a moment. Making, polling and dropping it are cheap: a task has one timer, moved only when it would come too late
/// (see `Tasks::wake_by`).
pub struct Sleep {
    rt: Rt,
    at: Instant,
}

impl Rt {
    /// Ready at `at`, at most one timer slot (65 us) and one turn later.
    #[must_use]
    pub fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep { rt: self.clone(), at }
    }

    /// `work`'s output, or `None` when `deadline` came first.
    pub async fn before<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        match race(work, self.sleep_until(deadline)).await {
            Either::First(value) => Some(value),
            Either::Second(()) => None,
        }
    }

    /// Lets every other ready task run first.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|_| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            if let Some(task) = self.current() {
                self.wake(task);
            }
            Poll::Pending
        })
        .await;
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let inner = &*self.rt.0;
        if inner.now.get() >= self.at {
            return Poll::Ready(());
        }
        inner.tasks.wake_by(self.at, &mut inner.timers.borrow_mut());
        Poll::Pending
    }
}
