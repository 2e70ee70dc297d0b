//! Waiting for a moment, and for the end of the turn's other work.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Rt;
use crate::runtime::race::{Either, race};
use crate::runtime::timers::TimerId;
use crate::sys::Instant;

/// Ready at a moment. Dropping it before costs nothing more.
pub struct Sleep {
    rt: Rt,
    at: Instant,
    timer: Cell<Option<TimerId>>,
}

impl Rt {
    /// Ready at `at`, at most one timer slot (65 us) and one turn later.
    #[must_use]
    pub fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep { rt: self.clone(), at, timer: Cell::new(None) }
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
        // Registered once: the task that polls a sleep first is the one that owns it.
        if self.timer.get().is_none()
            && let Some(task) = inner.tasks.current()
        {
            self.timer.set(Some(inner.timers.borrow_mut().insert(self.at, task)));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.get() {
            self.rt.0.timers.borrow_mut().remove(timer);
        }
    }
}
