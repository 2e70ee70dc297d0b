//! Waiting for whichever of two things comes first.
//!
//! Plain futures and not `async fn`s: those would keep each future twice, as argument and as local, and races hold what a connection
//! waits for, one inside the other.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// Which of the two came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Either<A, B> {
    First(A),
    Second(B),
}

pin_project! {
    /// See [`race`].
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Race<A, B> {
        #[pin]
        first: A,
        #[pin]
        second: B,
    }
}

/// Polls both in turn order and returns the first that is ready; the other is dropped. When both are ready, `first` wins.
pub fn race<A: Future, B: Future>(first: A, second: B) -> Race<A, B> {
    Race { first, second }
}

impl<A: Future, B: Future> Future for Race<A, B> {
    type Output = Either<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.first.poll(context) {
            return Poll::Ready(Either::First(value));
        }
        this.second.poll(context).map(Either::Second)
    }
}
