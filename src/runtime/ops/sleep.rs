//! Waiting for a moment, and for the end of the turn's other work.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::Rt;
use crate::sys::Instant;

/// Ready at a moment. Making, polling and dropping it are cheap: a task has one timer, moved only when it would come too late
/// (see `Tasks::wake_by`).
pub struct Sleep<'a> {
    rt: &'a Rt,
    at: Instant,
}

pin_project! {
    /// See [`Rt::before`].
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Before<'a, W> {
        #[pin]
        work: W,
        deadline: Sleep<'a>,
    }
}

impl Rt {
    /// Ready at `at`, at most one timer slot (65 us) and one turn later.
    #[must_use]
    pub fn sleep_until(&self, at: Instant) -> Sleep<'_> {
        Sleep { rt: self, at }
    }

    /// `work`'s output, or `None` when `deadline` came first.
    pub fn before<W: Future>(&self, deadline: Instant, work: W) -> Before<'_, W> {
        Before { work, deadline: self.sleep_until(deadline) }
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

impl Future for Sleep<'_> {
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

impl<W: Future> Future for Before<'_, W> {
    type Output = Option<W::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.work.poll(context) {
            return Poll::Ready(Some(value));
        }
        Pin::new(this.deadline).poll(context).map(|()| None)
    }
}
