//! The mesh with real threads and flag bells. The doorbell's orderings are checked by tests/loom; what a queue of crossbeam's
//! promises is not checked again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{Bell, CounterBlock, CounterWriter, FlagBell, Inbox, Mesh, Port, Sender, ShardId, Shared};

fn mesh(shards: usize, slots: u32) -> (Vec<Port<u32>>, Vec<FlagBell>, Vec<Sender<u32>>) {
    let flags: Vec<FlagBell> = (0..shards).map(|_| FlagBell::default()).collect();
    let mesh = Mesh::new(slots, flags.iter().map(|flag| -> Bell { Box::new(flag.clone()) }));
    let senders = mesh.senders();
    (mesh.into_ports(), flags, senders)
}

#[test]
fn ends_may_go_to_their_threads() {
    fn sends<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    sends::<Port<Vec<u8>>>();
    sends::<Inbox<Vec<u8>>>();
    is_shared::<Sender<Vec<u8>>>();
    sends::<CounterWriter>();
    is_shared::<CounterBlock>();
    is_shared::<Shared<[u8]>>();
}

#[test]
fn a_full_inbox_gives_the_message_back() {
    let (ports, ..) = mesh(2, 4);
    for message in 0..4 {
        assert_eq!(ports[0].send(ShardId(1), message), Ok(()));
    }
    assert_eq!(ports[0].send(ShardId(1), 4), Err(4));
    assert_eq!(ports[1].inbox().len(), 4);
    assert_eq!(ports[1].pop(), Some(0), "oldest first");
    assert_eq!(ports[0].send(ShardId(1), 5), Ok(()), "a slot is free again");
}

#[test]
fn slots_are_made_a_power_of_two() {
    for (asked, made) in [(0, 2), (1, 2), (3, 4), (64, 64), (65, 128)] {
        let (_inbox, sender) = Inbox::new(asked, Box::new(FlagBell::default()));
        let taken = (0..).take_while(|&message: &u32| sender.send(message).is_ok()).count();
        assert_eq!(taken, made, "asked for {asked}");
    }
}

#[test]
fn a_busy_shard_is_never_rung() {
    let (ports, flags, senders) = mesh(2, 8);
    ports[0].send(ShardId(1), 1).unwrap();
    assert_eq!(ports[0].flush(), 0);
    assert_eq!(senders[1].send(2), Ok(false));
    assert!(!flags[1].take());
}

#[test]
fn a_sleeper_is_rung_once_for_many_sends() {
    let (ports, flags, senders) = mesh(3, 8);
    assert!(ports[1].try_sleep());
    for message in 0..3 {
        ports[0].send(ShardId(1), message).unwrap();
        assert!(!flags[1].take(), "not before the flush");
    }
    assert_eq!(ports[0].flush(), 1);
    assert!(flags[1].take());
    // Until it is up nobody rings again.
    ports[2].send(ShardId(1), 9).unwrap();
    assert_eq!(ports[2].flush(), 0);
    assert_eq!(senders[1].send(10), Ok(false));
    assert!(!flags[1].take());
    assert!(ports[1].wake(), "it was rung");
    assert_eq!(std::iter::from_fn(|| ports[1].pop()).collect::<Vec<_>>(), [0, 1, 2, 9, 10]);
    assert!(!flags[0].take() && !flags[2].take(), "nobody else was rung");
}

#[test]
fn one_flush_rings_every_sleeper_that_was_sent_to() {
    let (ports, flags, _) = mesh(4, 8);
    assert!(ports[1].try_sleep() && ports[2].try_sleep() && ports[3].try_sleep());
    ports[0].send(ShardId(1), 1).unwrap();
    ports[0].send(ShardId(3), 3).unwrap();
    assert_eq!(ports[0].flush(), 2);
    assert_eq!(flags.iter().map(FlagBell::take).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!(ports[0].flush(), 0, "nothing was sent since");
}

#[test]
fn nobody_sleeps_beside_a_message_or_owing_a_ring() {
    let (ports, flags, senders) = mesh(2, 8);
    senders[0].send(1).unwrap();
    assert!(!ports[0].try_sleep(), "a message waits");
    assert_eq!(senders[0].send(2), Ok(false), "the refused sleep left it awake");
    assert_eq!(std::iter::from_fn(|| ports[0].pop()).count(), 2);
    assert!(ports[1].try_sleep());
    ports[0].send(ShardId(1), 3).unwrap();
    assert!(ports[0].try_sleep(), "it may sleep: the ring it owed was given");
    assert!(flags[1].take());
    assert!(!ports[0].wake(), "up by itself: nobody rang");
}

#[test]
fn a_shard_may_send_to_itself() {
    let (ports, flags, _) = mesh(1, 2);
    ports[0].send(ShardId(0), 7).unwrap();
    assert!(!ports[0].try_sleep());
    assert_eq!(ports[0].pop(), Some(7));
    assert!(!flags[0].take());
}

/// Three senders, a receiver that really blocks on its bell (a thread's park token remembers, as an eventfd does): if a
/// wake-up were lost it would stand still for ever.
#[test]
fn every_message_of_three_threads_arrives_in_order_per_sender() {
    struct Unpark(thread::Thread);
    impl super::Ring for Unpark {
        fn ring(&self) {
            self.0.unpark();
        }
    }
    const EACH: u32 = 20_000;
    let (inbox, sender) = Inbox::new(64, Box::new(Unpark(thread::current())));
    thread::scope(|scope| {
        for id in 0..3_u32 {
            let sender = sender.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    let mut message = (id, number);
                    while let Err(back) = sender.send(message) {
                        message = back;
                        thread::yield_now();
                    }
                }
            });
        }
        let mut next = [0; 3];
        while next != [EACH; 3] {
            while let Some((id, number)) = inbox.pop() {
                assert_eq!(number, next[id as usize], "sender {id}");
                next[id as usize] += 1;
            }
            if next != [EACH; 3] && inbox.try_sleep() {
                thread::park();
                inbox.wake();
            }
        }
    });
}

#[test]
fn counters_add_gauges_fall_and_the_end_is_the_end() {
    let block = CounterBlock::new(17);
    let writer = block.writer();
    writer.add(0, 2);
    writer.add(0, 3);
    writer.sub(16, 1);
    writer.set(3, 9);
    writer.add(32, 5);
    assert_eq!((block.value(0), block.value(16).cast_signed(), block.value(3)), (5, -1, 9));
    assert_eq!(block.value(32), 0, "17 cells are two lines; there is no cell 32");
    assert_eq!(block.size_bytes(), 256);
}

#[test]
fn a_block_is_final_when_its_last_writer_is_gone_and_all_counts_are_seen() {
    let block = CounterBlock::new(1);
    assert!(block.is_final(), "nobody writes yet");
    let writer = block.writer();
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..10_000 {
                writer.add(0, 1);
            }
        });
        while !block.is_final() {
            thread::yield_now();
        }
        assert_eq!(block.value(0), 10_000);
    });
}

#[test]
fn a_reader_sees_a_counter_only_grow() {
    let block = CounterBlock::new(1);
    let writer = block.writer();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let writer = writer;
            (0..200_000).for_each(|_| writer.add(0, 1));
            done.store(true, Ordering::Release);
        });
        let mut last = 0;
        while !done.load(Ordering::Acquire) {
            let now = block.value(0);
            assert!(now >= last);
            last = now;
        }
    });
    assert_eq!(block.value(0), 200_000);
}

#[test]
fn shared_values_are_the_same_snapshot_or_not() {
    let one = Shared::new(String::from("a"));
    let again = one.clone();
    let other = Shared::new(String::from("a"));
    assert!(one.same(&again) && !one.same(&other));
    assert_eq!(other.len(), 1);
}

#[test]
fn places_are_never_more_than_allowed_and_all_come_back() {
    let (ports, ..) = mesh(3, 2);
    let most = std::sync::atomic::AtomicU64::new(0);
    thread::scope(|scope| {
        for port in ports {
            let most = &most;
            scope.spawn(move || {
                for _ in 0..20_000 {
                    if port.take_place(ShardId(1), 2) {
                        most.fetch_max(port.load(ShardId(1)).connections, Ordering::Relaxed);
                        port.give_place(ShardId(1));
                    }
                }
                assert!(!port.take_place(ShardId(9), 2), "there is no such shard");
                assert_eq!(port.load(ShardId(0)).connections, 0);
            });
        }
    });
    assert!((1..=2).contains(&most.into_inner()));
    let (ports, ..) = mesh(2, 2);
    assert!(ports[0].take_place(ShardId(1), 1) && !ports[1].take_place(ShardId(1), 1));
    ports[1].set_exchanges(7);
    assert_eq!((ports[0].load(ShardId(1)).connections, ports[0].load(ShardId(1)).exchanges), (1, 7));
}

mod shares;
