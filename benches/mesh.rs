//! What a message between shards costs: a push and a pop on one thread, the same with the doorbell's fence, a flush with
//! nobody asleep, and a stream between two threads with and without doorbells. Counting is here too, since it is paid at
//! every phase.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench that cannot go on should stop")]
#![expect(clippy::disallowed_types, reason = "what the mesh is made of is measured bare too")]

#[path = "samples/pace.rs"]
mod pace;

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headrace::mesh::{Bell, CounterBlock, FlagBell, Inbox, Mesh, Port, Ring, ShardId};

/// As large as a job's message may be: a few words.
type Message = [u64; 8];
const MESSAGE: Message = [7; 8];
const BURST: usize = 32;

fn ports(shards: usize) -> Vec<Port<Message>> {
    Mesh::new(4096, (0..shards).map(|_| -> Bell { Box::new(FlagBell::default()) })).into_ports()
}

fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh/one thread");
    group.throughput(Throughput::Elements(BURST as u64));
    let queue = crossbeam_queue::ArrayQueue::new(4096);
    group.bench_function("bare queue, 32 pushes and pops", |bencher| {
        bencher.iter(|| {
            (0..BURST).for_each(|_| queue.push(black_box(MESSAGE)).unwrap());
            (0..BURST).for_each(|_| _ = black_box(queue.pop()));
        });
    });
    let ports = ports(8);
    group.bench_function("32 sends, one flush, 32 pops", |bencher| {
        bencher.iter(|| {
            (0..BURST).for_each(|_| ports[0].send(ShardId(1), black_box(MESSAGE)).unwrap());
            black_box(ports[0].flush());
            (0..BURST).for_each(|_| _ = black_box(ports[1].pop()));
        });
    });
    let (inbox, sender) = Inbox::new(4096, Box::new(FlagBell::default()));
    group.bench_function("32 sends that look at the door each, 32 pops", |bencher| {
        bencher.iter(|| {
            (0..BURST).for_each(|_| _ = black_box(sender.send(black_box(MESSAGE))));
            (0..BURST).for_each(|_| _ = black_box(inbox.pop()));
        });
    });
    group.finish();
    criterion.bench_function("mesh/flush with nothing sent", |bencher| bencher.iter(|| black_box(ports[0].flush())));
}

/// The receiver's thread parks when its inbox is empty, as a shard sleeps, or never does.
fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh/two threads");
    group.throughput(Throughput::Elements(1));
    group.bench_function("stream, receiver spins, no doorbell", |bencher| {
        let queue = crossbeam_queue::ArrayQueue::new(4096);
        bencher.iter_custom(|count| {
            let receive = || {
                (0..count).for_each(|_| {
                    while queue.pop().is_none() {
                        spin_loop()
                    }
                })
            };
            stream(count, receive, || queue.push(MESSAGE).is_ok())
        });
    });
    group.bench_function("stream, receiver sleeps when empty, doorbell", |bencher| {
        bencher.iter_custom(|count| {
            let bell = Unpark::default();
            let (inbox, sender) = Inbox::new(4096, Box::new(bell.clone()));
            let receive = || {
                bell.set(thread::current());
                for _ in 0..count {
                    while inbox.pop().is_none() {
                        if inbox.try_sleep() {
                            thread::park();
                            inbox.wake();
                        }
                    }
                }
            };
            stream(count, receive, || sender.send(MESSAGE).is_ok())
        });
    });
    group.finish();
}

/// Times `count` successful sends on this thread until the other has received them all.
fn stream(count: u64, receive: impl FnOnce() + Send, send: impl Fn() -> bool) -> Duration {
    let ready = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            ready.store(true, Ordering::Release);
            receive();
        });
        while !ready.load(Ordering::Acquire) {
            thread::yield_now();
        }
        #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
        let start = Instant::now();
        for _ in 0..count {
            while !send() {
                thread::yield_now();
            }
        }
        receiver.join().unwrap();
        start.elapsed()
    })
}

/// Wakes a parked thread; the stand-in for an eventfd.
#[derive(Clone, Default)]
struct Unpark(std::sync::Arc<std::sync::OnceLock<thread::Thread>>);

impl Unpark {
    fn set(&self, thread: thread::Thread) {
        self.0.set(thread).unwrap();
    }
}

impl Ring for Unpark {
    fn ring(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

fn counters(criterion: &mut Criterion) {
    let block = CounterBlock::new(64);
    let writer = block.writer();
    criterion.bench_function("mesh/counter add", |bencher| bencher.iter(|| writer.add(black_box(17), 1)));
    let atomic = std::sync::atomic::AtomicU64::new(0);
    criterion.bench_function("mesh/counter add with a lock prefix, to compare", |bencher| {
        bencher.iter(|| black_box(&atomic).fetch_add(1, Ordering::Relaxed));
    });
}

criterion_group!(name = benches; config = pace::short(); targets = one_thread, two_threads, counters);
criterion_main!(benches);
