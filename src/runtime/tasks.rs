//! The single-threaded executor: futures by number, a queue of those that may go on. What wakes them is the operations' and the
//! timers' matter.
//!
//! A wake is a task number pushed on a queue: no allocation, no atomic. Leaf futures of this room note the number of the task
//! that polls them ([`Tasks::current`]) and ignore the `Waker` in their context, which is a no-op one. A future from another
//! crate that relies on its `Waker` needs an adapter with a real one (none is used today).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::timers::{TimerId, Timers};
use crate::sys::Instant;

/// Names a task; after its end the number is used again with another generation, so a late wake is harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TaskId {
    index: u32,
    generation: u32,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
pub(crate) struct Tasks {
    table: RefCell<Vec<Task>>,
    free: RefCell<Vec<u32>>,
    ready: RefCell<VecDeque<TaskId>>,
    current: Cell<Option<TaskId>>,
    live: Cell<u32>,
    /// A task that panics ends alone, instead of the thread.
    contains_panics: Cell<bool>,
    panics: Cell<u64>,
    /// Timers of tasks that ended.
    orphans: RefCell<Vec<TimerId>>,
    /// Where new entries begin to count: past every generation of those that [`Tasks::shrink`] freed.
    first_generation: Cell<u32>,
}

struct Task {
    generation: u32,
    /// Empty while the task is being polled, and when the entry is free.
    work: Option<Work>,
    queued: bool,
    /// Ended from outside while it was being polled.
    aborted: bool,
    /// Its timer and when that fires: never later than the earliest deadline the task waits for, often earlier.
    timer: Option<(TimerId, Instant)>,
}

impl Tasks {
    /// Adds a task; it is polled first in the next run.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + 'static) -> TaskId {
        let work: Work = Box::pin(work);
        let mut table = self.table.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            table.push(Task { generation: self.first_generation.get(), work: None, queued: false, aborted: false, timer: None });
            u32::try_from(table.len() - 1).unwrap_or(u32::MAX)
        });
        let task = &mut table[index as usize];
        task.work = Some(work);
        task.queued = true;
        task.aborted = false;
        let id = TaskId { index, generation: task.generation };
        self.ready.borrow_mut().push_back(id);
        self.live.set(self.live.get() + 1);
        id
    }

    pub(crate) fn wake(&self, id: TaskId) {
        let mut table = self.table.borrow_mut();
        let Some(task) = table.get_mut(id.index as usize).filter(|task| task.generation == id.generation) else { return };
        if !std::mem::replace(&mut task.queued, true) {
            self.ready.borrow_mut().push_back(id);
        }
    }

    /// Wakes the task that is being polled at `at` or before. A deadline that passed out of use is not taken back: a timer that fires
    /// early finds nobody's moment come, and the next poll sets it anew. So a task that makes and drops thousands of deadlines, each
    /// later than the one before, touches the wheel once in a deadline's length.
    pub(crate) fn wake_by(&self, at: Instant, timers: &mut Timers) {
        let Some(id) = self.current.get() else { return };
        let mut table = self.table.borrow_mut();
        let Some(task) = table.get_mut(id.index as usize).filter(|task| task.generation == id.generation) else { return };
        if let Some((timer, due)) = task.timer {
            if due <= at && timers.is_live(timer) {
                return;
            }
            timers.remove(timer);
        }
        task.timer = Some((timers.insert(at, id), at));
    }

    /// Takes the timers of tasks that ended off the wheel.
    pub(crate) fn drop_orphans(&self, timers: &mut Timers) {
        for timer in self.orphans.borrow_mut().drain(..) {
            timers.remove(timer);
        }
    }

    /// Drops a task's future. The task that is running cannot end itself this way; it just returns.
    pub(crate) fn abort(&self, id: TaskId) {
        let work = {
            let mut table = self.table.borrow_mut();
            let Some(task) = table.get_mut(id.index as usize).filter(|task| task.generation == id.generation) else { return };
            task.aborted = true;
            task.work.take()
        };
        if work.is_some() {
            self.retire(id);
        }
        // Dropped here, after the table's borrow ended: a future's drop may wake others.
        drop(work);
    }

    /// The task that is being polled.
    ///
    /// `None` outside of a poll: a leaf future polled by hand then never wakes anybody.
    pub(crate) fn current(&self) -> Option<TaskId> {
        self.current.get()
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    pub(crate) fn live(&self) -> u32 {
        self.live.get()
    }

    /// Polls tasks until none is ready, at most `limit` polls, so that a turn ends even if tasks wake one another for ever.
    pub(crate) fn run(&self, limit: usize) {
        for _ in 0..limit {
            let Some(id) = self.ready.borrow_mut().pop_front() else { return };
            self.poll(id);
        }
    }

    fn poll(&self, id: TaskId) {
        let work = {
            let mut table = self.table.borrow_mut();
            let Some(task) = table.get_mut(id.index as usize).filter(|task| task.generation == id.generation) else { return };
            task.queued = false;
            task.work.take()
        };
        let Some(mut work) = work else { return };
        let outer = self.current.replace(Some(id));
        let done = self.poll_work(&mut work);
        self.current.set(outer);
        let over = done || self.table.borrow().get(id.index as usize).is_none_or(|task| task.aborted);
        if over {
            self.retire(id);
            return;
        }
        if let Some(task) = self.table.borrow_mut().get_mut(id.index as usize) {
            task.work = Some(work);
        }
    }

    /// True when the work is over. What a panic leaves behind is dropped with the future; guards put shared state right.
    fn poll_work(&self, work: &mut Work) -> bool {
        let mut poll = || work.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(());
        if !self.contains_panics.get() {
            return poll();
        }
        // Sound: the future is never polled again, and everything it shares lies in cells that stay borrowable.
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|_| {
            self.panics.set(self.panics.get() + 1);
            true
        })
    }

    /// Frees the table's end that no task uses. Late wakes of those numbers stay harmless.
    pub(crate) fn shrink(&self) {
        let mut table = self.table.borrow_mut();
        let current = self.current.get().map(|id| id.index as usize);
        let used = (0..table.len()).rposition(|index| table[index].work.is_some() || current == Some(index)).map_or(0, |last| last + 1);
        let Some(newest) = table[used..].iter().map(|task| task.generation).max() else { return };
        self.first_generation.set(self.first_generation.get().max(newest));
        table.truncate(used);
        table.shrink_to_fit();
        let mut free = self.free.borrow_mut();
        free.retain(|index| (*index as usize) < used);
        free.shrink_to_fit();
    }

    pub(crate) fn contain_panics(&self) {
        self.contains_panics.set(true);
    }

    /// Tasks that ended in a panic.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.get()
    }

    fn retire(&self, id: TaskId) {
        let mut table = self.table.borrow_mut();
        let Some(task) = table.get_mut(id.index as usize).filter(|task| task.generation == id.generation) else { return };
        task.generation = task.generation.wrapping_add(1);
        task.queued = false;
        self.orphans.borrow_mut().extend(task.timer.take().map(|(timer, _)| timer));
        self.free.borrow_mut().push(id.index);
        self.live.set(self.live.get() - 1);
    }

    /// Ends every task and hands their futures out to be dropped: a future's drop may wake others, which finds them gone.
    pub(crate) fn clear(&self) -> Vec<impl Sized> {
        self.ready.borrow_mut().clear();
        let mut work = Vec::new();
        for (index, task) in (0..).zip(self.table.borrow_mut().iter_mut()) {
            if let Some(future) = task.work.take() {
                task.generation = task.generation.wrapping_add(1);
                task.queued = false;
                self.orphans.borrow_mut().extend(task.timer.take().map(|(timer, _)| timer));
                self.free.borrow_mut().push(index);
                self.live.set(self.live.get() - 1);
                work.push(future);
            }
        }
        work
    }
}
