//! One table of behaviours that every driver must show: io_uring, epoll and the pretend kernel. What a shard relies on stands
//! here; a driver that differs is wrong, however well it works.

mod bench;

use std::time::Duration;

use bench::{Bench, on_each};

use crate::sys::{Op, Parts, Wait};

#[test]
fn an_accept_goes_on_until_it_is_cancelled_and_can_be_resumed() {
    on_each(|bench| {
        let (listener, address) = bench.listen(8);
        let (accept, accepts) = bench.submit(Op::Accept { listener });
        let mut open = Vec::new();
        for _ in 0..3 {
            let (client, _, connected) = bench.connect(&address);
            assert_eq!(bench.outcome(connected), Ok(0), "{}", bench.name());
            open.extend([client, bench.accepted(accepts)]);
        }
        bench.driver.cancel(accept);
        let (result, op) = bench.end(accepts);
        assert_eq!(result, Err(libc::ECANCELED), "{}", bench.name());
        assert!(matches!(op, Op::Accept { listener: back } if back == listener));
        // The backlog holds who comes meanwhile.
        let (client, _, connected) = bench.connect(&address);
        assert_eq!(bench.outcome(connected), Ok(0), "{}", bench.name());
        let (_, accepts) = bench.submit(Op::Accept { listener });
        open.extend([client, bench.accepted(accepts)]);
        bench.close(&[(listener, &[accepts])]);
        for fd in open {
            bench.close(&[(fd, &[])]);
        }
    });
}

#[test]
fn a_receive_goes_on_and_brings_the_bytes_in_order() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        let (_, received) = bench.recv(server);
        let mut expected = Vec::new();
        for round in 0..20u8 {
            let message = vec![round; usize::from(round) * 9 + 1];
            expected.extend_from_slice(&message);
            assert_eq!(bench.send(client, message), Ok(()));
            assert_eq!(bench.bytes_until(received, expected.len()), expected, "{}", bench.name());
        }
        assert!(!bench.is_over(received) && bench.completions(received) >= 20, "{}: one operation brought all", bench.name());
        bench.close(&[(client, &[]), (server, &[received])]);
    });
}

#[test]
fn a_paused_receive_brings_later_what_came_meanwhile() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        let (id, first) = bench.recv(server);
        bench.send(client, b"before".to_vec()).unwrap();
        bench.bytes_until(first, 6);
        bench.driver.cancel(id);
        assert_eq!(bench.outcome(first), Err(libc::ECANCELED), "{}", bench.name());
        bench.send(client, b"meanwhile".to_vec()).unwrap();
        bench.settle();
        assert_eq!(bench.bytes(first), b"before", "{}: nothing comes after the end", bench.name());
        let (_, second) = bench.recv(server);
        assert_eq!(bench.bytes_until(second, 9), b"meanwhile", "{}", bench.name());
        bench.close(&[(client, &[]), (server, &[second])]);
    });
}

#[test]
fn a_receive_without_buffers_ends_and_loses_nothing() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        bench.holds.set(true);
        let (_, first) = bench.recv(server);
        let sent: Vec<u8> = (0..2000u32).map(|n| n.to_le_bytes()[0]).collect();
        bench.send(client, sent.clone()).unwrap();
        let (result, _) = bench.end(first);
        assert_eq!(result, Err(libc::ENOBUFS), "{}", bench.name());
        assert_eq!(bench.driver.pool().available(), 0, "{}: every buffer is lent out", bench.name());
        let mut received = bench.bytes(first).to_vec();
        // Half of the buffers come back.
        bench.held.truncate(4);
        let (_, second) = bench.recv(server);
        assert_eq!(bench.outcome(second), Err(libc::ENOBUFS), "{}", bench.name());
        received.extend_from_slice(bench.bytes(second));
        assert_eq!(received.len(), 12 * 64, "{}", bench.name());
        bench.holds.set(false);
        bench.held.clear();
        received.extend(bench.read(server, sent.len() - received.len()));
        assert!(received == sent, "{}", bench.name());
        bench.close(&[(client, &[]), (server, &[])]);
    });
}

#[test]
fn the_end_comes_after_the_data() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        bench.send(client, b"last words".to_vec()).unwrap();
        bench.driver.shutdown_write(client);
        bench.settle();
        let (_, received) = bench.recv(server);
        assert_eq!(bench.outcome(received), Ok(0), "{}", bench.name());
        assert_eq!(bench.bytes(received), b"last words", "{}", bench.name());
        // The other direction is still open.
        let (_, answer) = bench.recv(client);
        bench.send(server, b"goodbye".to_vec()).unwrap();
        assert_eq!(bench.bytes_until(answer, 7), b"goodbye", "{}", bench.name());
        bench.close(&[(server, &[])]);
        assert_eq!(bench.outcome(answer), Ok(0), "{}", bench.name());
        bench.close(&[(client, &[])]);
    });
}

#[test]
fn a_reset_is_an_error_for_the_receive_and_for_later_sends() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        let (_, received) = bench.recv(server);
        bench.settle();
        bench.driver.reset_on_close(client);
        bench.driver.close(client);
        assert_eq!(bench.outcome(received), Err(libc::ECONNRESET), "{}", bench.name());
        let sent = bench.send(server, b"too late".to_vec());
        assert!(matches!(sent, Err(libc::EPIPE | libc::ECONNRESET)), "{}: {sent:?}", bench.name());
        bench.close(&[(server, &[])]);
    });
}

#[test]
fn bytes_sent_to_one_who_has_closed_end_in_an_error() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        bench.close(&[(server, &[])]);
        let errno = (0..20).find_map(|_| {
            let result = bench.send(client, vec![1; 1000]);
            bench.settle();
            result.err()
        });
        assert!(matches!(errno, Some(libc::EPIPE | libc::ECONNRESET)), "{}: {errno:?}", bench.name());
        bench.close(&[(client, &[])]);
    });
}

#[test]
fn a_message_of_many_parts_arrives_in_order() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        // 16 is where small vector tables end, 1,024 is the kernel's bound on one call (UIO_MAXIOV).
        for count in [1, 2, 16, 17, 40, 1024, 1500] {
            let mut parts = Parts::new();
            let mut expected = Vec::new();
            for part in 0..count {
                let bytes = vec![part.to_string().as_bytes()[0]; part % 3 + 1];
                expected.extend_from_slice(&bytes);
                if part % 2 == 0 { parts.push(bytes) } else { parts.push(bytes::Bytes::from(bytes)) }
            }
            bench.send(client, parts).unwrap();
            assert!(bench.read(server, expected.len()) == expected, "{}: {count} parts", bench.name());
        }
        bench.close(&[(client, &[]), (server, &[])]);
    });
}

#[test]
fn a_message_larger_than_every_buffer_arrives_whole() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        let sent: Vec<u8> = (0..3_000_017u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect();
        let (mut parts, mut received) = (Some(Parts::new().with(sent.clone())), Vec::new());
        let (mut sending, (_, mut receiving)) = (None, bench.recv(server));
        while received.len() + bench.bytes(receiving).len() < sent.len() {
            if let Some(parts) = parts.take().filter(|parts| !parts.is_empty()) {
                sending = Some(bench.submit(Op::Send { fd: client, parts }).1);
            }
            bench.turn(Wait::For(Duration::from_millis(20)));
            if let Some(target) = sending.filter(|target| bench.is_over(*target)) {
                let (Ok(count), Op::Send { parts: mut back, .. }) = bench.end(target) else { panic!("{}: not sent", bench.name()) };
                back.advance(count as usize);
                (parts, sending) = (Some(back), None);
            }
            if bench.is_over(receiving) {
                received.extend_from_slice(bench.bytes(receiving));
                assert_eq!(bench.outcome(receiving), Err(libc::ENOBUFS), "{}", bench.name());
                receiving = bench.recv(server).1;
            }
        }
        received.extend_from_slice(bench.bytes(receiving));
        assert!(received == sent, "{}", bench.name());
        let open = [receiving].into_iter().filter(|target| !bench.is_over(*target)).collect::<Vec<_>>();
        sending.into_iter().for_each(|target| drop(bench.end(target)));
        bench.close(&[(client, &[]), (server, &open)]);
    });
}

/// A connection whose sender found no more room: its descriptors, and the send that waits with the address of its memory.
fn stuffed(bench: &mut Bench) -> (crate::sys::Fd, crate::sys::Fd, crate::sys::OpId, u64, *const u8) {
    let (client, server) = bench.pair();
    for _ in 0..100 {
        let bytes = vec![5; 1_000_000];
        let address = bytes.as_ptr();
        let (id, target) = bench.submit(Op::Send { fd: client, parts: bytes.into() });
        bench.settle();
        if !bench.is_over(target) {
            return (client, server, id, target, address);
        }
    }
    panic!("{}: room without end", bench.name())
}

#[test]
fn a_cancelled_send_gives_its_memory_back() {
    on_each(|bench| {
        let (client, server, id, target, address) = stuffed(bench);
        bench.driver.cancel(id);
        let (result, op) = bench.end(target);
        // What was taken before the cancel is told; nothing at all is ECANCELED.
        assert!(matches!(result, Ok(1..1_000_000) | Err(libc::ECANCELED)), "{}: {result:?}", bench.name());
        let Op::Send { mut parts, .. } = op else { panic!("another operation came back") };
        let back = parts.take_vecs().next().unwrap();
        assert!(back.as_ptr() == address && back.iter().all(|byte| *byte == 5), "{}: the memory that was lent", bench.name());
        bench.close(&[(client, &[]), (server, &[])]);
    });
}

#[test]
fn a_send_that_waits_goes_on_when_the_peer_reads() {
    on_each(|bench| {
        let (client, server, _, target, _) = stuffed(bench);
        let mut receiving = bench.recv(server).1;
        for _ in 0..100_000 {
            if bench.is_over(target) {
                break;
            }
            bench.turn(Wait::For(Duration::from_millis(20)));
            if bench.is_over(receiving) {
                receiving = bench.recv(server).1;
            }
        }
        assert!(matches!(bench.outcome(target), Ok(1..)), "{}", bench.name());
        let open = [receiving].into_iter().filter(|target| !bench.is_over(*target)).collect::<Vec<_>>();
        bench.close(&[(client, &[]), (server, &open)]);
    });
}

#[test]
fn a_cancel_of_everything_ends_receive_and_send_and_only_there() {
    on_each(|bench| {
        let (client, server, _, sending, _) = stuffed(bench);
        let (_, receiving) = bench.recv(client);
        let (_, elsewhere) = bench.recv(server);
        // That one gets the stuffed bytes until the buffers are out; either end is fine.
        bench.driver.cancel_all(client);
        assert_eq!(bench.outcome(receiving), Err(libc::ECANCELED), "{}", bench.name());
        let sent = bench.outcome(sending);
        assert!(matches!(sent, Ok(1..) | Err(libc::ECANCELED)), "{}: {sent:?}", bench.name());
        assert!(bench.completions(elsewhere) > 0 || !bench.is_over(elsewhere), "{}: the peer's end is not ours", bench.name());
        let open = [elsewhere].into_iter().filter(|target| !bench.is_over(*target)).collect::<Vec<_>>();
        bench.close(&[(client, &[]), (server, &open)]);
    });
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        let (id, sent) = bench.submit(Op::Send { fd: client, parts: b"done".to_vec().into() });
        assert_eq!(bench.outcome(sent), Ok(4), "{}", bench.name());
        bench.driver.cancel(id);
        let (id, received) = bench.recv(server);
        bench.bytes_until(received, 4);
        bench.driver.cancel(id);
        bench.driver.cancel(id);
        bench.driver.cancel_all(server);
        assert_eq!(bench.outcome(received), Err(libc::ECANCELED), "{}", bench.name());
        bench.close(&[(client, &[]), (server, &[])]);
    });
}

#[test]
fn a_refused_connect_says_so() {
    on_each(|bench| {
        let (listener, address) = bench.listen(1);
        bench.close(&[(listener, &[])]);
        let (client, _, connected) = bench.connect(&address);
        let (result, op) = bench.end(connected);
        assert_eq!(result, Err(libc::ECONNREFUSED), "{}", bench.name());
        assert!(matches!(op, Op::Connect { fd, .. } if fd == client));
        bench.close(&[(client, &[])]);
    });
}

#[test]
fn a_connect_that_waits_can_be_cancelled() {
    on_each(|bench| {
        // Nobody accepts: with the backlog full, a connect gets no answer.
        let (listener, address) = bench.listen(1);
        let mut open = Vec::new();
        let (client, id, connected) = (0..20)
            .find_map(|_| {
                let (client, id, connected) = bench.connect(&address);
                bench.settle();
                if bench.is_over(connected) {
                    open.push(client);
                    return None;
                }
                Some((client, id, connected))
            })
            .unwrap();
        bench.driver.cancel(id);
        let (result, op) = bench.end(connected);
        assert_eq!(result, Err(libc::ECANCELED), "{}", bench.name());
        assert!(matches!(op, Op::Connect { fd, .. } if fd == client), "{}: the address comes back", bench.name());
        open.extend([client, listener]);
        for fd in open {
            bench.close(&[(fd, &[])]);
        }
    });
}

#[test]
fn a_number_that_is_used_again_gets_nothing_of_the_old_socket() {
    on_each(|bench| {
        let mut numbers = Vec::new();
        for round in 0..20u8 {
            let (client, server) = bench.pair();
            let (_, received) = bench.recv(server);
            // Bytes, then the end: several completions are under way when the socket is given up.
            bench.send(client, vec![round; 100]).unwrap();
            bench.driver.shutdown_write(client);
            bench.driver.cancel_all(server);
            bench.until("the last completion", |bench| bench.is_over(received));
            assert!(bench.bytes(received).iter().all(|byte| *byte == round), "{}: bytes of an older socket", bench.name());
            bench.driver.close(server);
            bench.driver.close(client);
            numbers.extend([client.number(), server.number()]);
        }
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert!(numbers.len() < count, "{}: no number came again, this test shows nothing", bench.name());
    });
}

#[test]
fn a_bell_ends_a_turn_once() {
    on_each(|bench| {
        // The first turn arms what listens for it.
        bench.turn(Wait::Now);
        for _ in 0..3 {
            (bench.ring_bell)();
            (bench.ring_bell)();
            // Without a bound: only the bell ends it.
            bench.turn(Wait::Forever);
            let before = bench.clock.now();
            bench.turn(Wait::For(Duration::from_millis(4)));
            let waited = bench.clock.now().since(before);
            assert!(waited >= Duration::from_millis(4), "{}: both rings are taken, waited {waited:?}", bench.name());
        }
    });
}

#[test]
fn a_turn_waits_as_long_as_it_is_told() {
    on_each(|bench| {
        for millis in [1, 5] {
            let before = bench.clock.now();
            bench.turn(Wait::For(Duration::from_millis(millis)));
            let waited = bench.clock.now().since(before);
            assert!(waited >= Duration::from_millis(millis), "{}: {waited:?} of {millis} ms", bench.name());
        }
        // A completion ends the wait, and one that is there already lets none begin.
        let (client, server) = bench.pair();
        let (_, received) = bench.recv(server);
        let (_, sent) = bench.submit(Op::Send { fd: client, parts: b"x".to_vec().into() });
        let before = bench.clock.now();
        while bench.bytes(received).is_empty() || !bench.is_over(sent) {
            bench.turn(Wait::For(Duration::from_secs(100)));
        }
        assert!(bench.clock.now().since(before) < Duration::from_secs(50), "{}", bench.name());
        bench.close(&[(client, &[]), (server, &[received])]);
    });
}

#[test]
fn turns_that_do_not_wait_bring_what_is_done() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        let (_, received) = bench.recv(server);
        bench.send(client, b"now".to_vec()).unwrap();
        // A shard whose tasks are always ready never waits; completions must reach it all the same.
        for _ in 0..1_000_000 {
            if bench.bytes(received).len() == 3 {
                break;
            }
            if bench.name() == "sim" {
                // Its time stands still while nobody waits.
                bench.turn(Wait::For(Duration::from_micros(1)));
            } else {
                bench.turn(Wait::Now);
            }
        }
        assert_eq!(bench.bytes(received), b"now", "{}", bench.name());
        bench.close(&[(client, &[]), (server, &[received])]);
    });
}

#[test]
fn more_operations_than_a_queue_holds_are_all_done() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        // Three times the submission queue, most of them cancels of operations that are over: none may be forgotten.
        for _ in 0..3000 {
            bench.driver.cancel_all(client);
        }
        let (_, received) = bench.recv(server);
        let (_, idle) = bench.recv(client);
        bench.driver.cancel_all(client);
        assert_eq!(bench.outcome(idle), Err(libc::ECANCELED), "{}", bench.name());
        bench.send(client, b"after".to_vec()).unwrap();
        assert_eq!(bench.bytes_until(received, 5), b"after", "{}", bench.name());
        bench.close(&[(client, &[]), (server, &[received])]);
    });
}

#[test]
fn addresses_are_those_of_the_two_ends() {
    on_each(|bench| {
        let (client, server) = bench.pair();
        assert_eq!(bench.driver.peer_addr(client), bench.driver.local_addr(server), "{}", bench.name());
        assert_eq!(bench.driver.peer_addr(server), bench.driver.local_addr(client), "{}", bench.name());
        assert!(bench.driver.peer_addr(client).is_some(), "{}", bench.name());
        bench.close(&[(client, &[]), (server, &[])]);
    });
}

#[test]
fn a_ring_that_is_dropped_closes_what_it_was_told_to_close() {
    let Some(mut ours) = bench::uring() else { return };
    let mut peer = bench::epoll().unwrap();
    let (listener, address) = ours.listen(1);
    let (_, accepts) = ours.submit(Op::Accept { listener });
    let (client, _, connected) = peer.connect(&address);
    assert_eq!(peer.outcome(connected), Ok(0));
    let server = ours.accepted(accepts);
    ours.driver.cancel_all(listener);
    assert_eq!(ours.outcome(accepts), Err(libc::ECANCELED));
    let (_, received) = peer.recv(client);
    ours.driver.close(server);
    ours.driver.close(listener);
    // No turn comes any more that would take the two closes to the kernel.
    drop(ours);
    assert_eq!(peer.outcome(received), Ok(0));
    peer.close(&[(client, &[])]);
}
