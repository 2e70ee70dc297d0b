//! The runtime on real sockets, both drivers: the simulated one has its own tests beside it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::driver::sim::{Fault, Faults, SimKernel};
use super::{Clock, Driver, Either, EpollDriver, RealClock, Rt, UringDriver, race};
use crate::sys::net::Address;
use crate::sys::{BufferPool, EventFd, Parts, is_nodelay_for_tests};

fn runtimes() -> Vec<Rt> {
    let clock = RealClock::start();
    let make = |driver: Box<dyn Driver>| Rt::new(driver, Clock::from(clock.clone()));
    let mut all = Vec::new();
    let pool = BufferPool::new(16, 1024).unwrap();
    all.push(make(Box::new(EpollDriver::new(pool, EventFd::new().unwrap()).unwrap())));
    let pool = BufferPool::new(16, 1024).unwrap();
    match UringDriver::new(pool, EventFd::new().unwrap()) {
        Ok(driver) => all.push(make(Box::new(driver))),
        Err(error) => eprintln!("io_uring is refused here, only epoll is tested: {error}"),
    }
    all
}

fn loopback() -> Address {
    Address::Tcp("127.0.0.1:0".parse().unwrap())
}

#[test]
fn an_echo_of_a_megabyte_comes_back_whole() {
    for rt in runtimes() {
        let listener = rt.listen(&loopback(), 16).unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        rt.spawn(async move {
            let socket = listener.accept().await.unwrap();
            assert!(is_nodelay_for_tests(socket.fd()), "accepted sockets inherit TCP_NODELAY");
            while let Some(lease) = socket.recv().await.unwrap() {
                socket.send(lease).await.unwrap();
            }
        });
        let rt2 = rt.clone();
        let sent: Vec<u8> = (0..1_000_003u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let echoed = rt
            .block_on(async move {
                let socket = rt2.connect(&address).await.unwrap();
                let (head, tail) = sent.split_at(400_000);
                socket.start_send(Parts::new().with(head.to_vec()).with(bytes::Bytes::copy_from_slice(tail)));
                let mut echoed = Vec::new();
                while echoed.len() < sent.len() {
                    echoed.extend_from_slice(&socket.recv().await.unwrap().unwrap());
                }
                socket.sent().await.unwrap();
                echoed
            })
            .unwrap();
        assert!(echoed == expected, "{}", rt.driver_name());
        rt.shut_down();
        assert_eq!(rt.stats().open_sockets, 0, "{}", rt.driver_name());
        assert_eq!(rt.stats().leased_buffers, 0, "{}", rt.driver_name());
    }
}

#[test]
fn a_peer_that_leaves_is_noticed_while_we_wait_for_something_else() {
    for rt in runtimes() {
        let listener = rt.listen(&loopback(), 16).unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let rt2 = rt.clone();
        rt.spawn(async move {
            let socket = rt2.connect(&address).await.unwrap();
            socket.send(b"hello".to_vec()).await.unwrap();
            drop(socket);
        });
        let rt3 = rt.clone();
        let gone = rt
            .block_on(async move {
                let socket = listener.accept().await.unwrap();
                let mut seen = 0;
                loop {
                    match race(socket.recv(), rt3.sleep_until(rt3.now() + Duration::from_secs(20))).await {
                        Either::First(Ok(Some(lease))) => seen += lease.len(),
                        Either::First(Ok(None)) => return seen,
                        Either::First(Err(error)) => panic!("{error}"),
                        Either::Second(()) => return 0,
                    }
                }
            })
            .unwrap();
        assert_eq!(gone, 5, "{}", rt.driver_name());
        rt.shut_down();
    }
}

#[test]
fn a_reader_that_does_not_read_holds_at_most_its_leases() {
    for rt in runtimes() {
        let listener = rt.listen(&loopback(), 16).unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let rt2 = rt.clone();
        let done = Rc::new(Cell::new(false));
        let flag = Rc::clone(&done);
        rt.spawn(async move {
            let socket = rt2.connect(&address).await.unwrap();
            socket.send(vec![7u8; 3_000_000]).await.unwrap();
            flag.set(true);
        });
        let rt3 = rt.clone();
        let done2 = Rc::clone(&done);
        let total = rt
            .block_on(async move {
                let socket = listener.accept().await.unwrap();
                socket.watch();
                rt3.sleep_until(rt3.now() + Duration::from_millis(20)).await;
                assert!(rt3.stats().leased_buffers <= 16, "the pool is the bound");
                let mut total = 0;
                while let Some(lease) = socket.recv().await.unwrap() {
                    total += lease.len();
                    drop(lease);
                    if done2.get() && total == 3_000_000 {
                        break;
                    }
                }
                total
            })
            .unwrap();
        assert_eq!(total, 3_000_000, "{}", rt.driver_name());
        rt.shut_down();
    }
}

#[test]
fn connecting_to_a_closed_port_fails_with_the_reason() {
    for rt in runtimes() {
        let listener = rt.listen(&loopback(), 1).unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        drop(listener);
        // One turn, so that the close is done before the connect.
        rt.wait(Some(rt.now()), &super::Alone).unwrap();
        let rt2 = rt.clone();
        let result = rt.block_on(async move { rt2.connect(&address).await.map(|_| ()).map_err(|error| error.kind()) }).unwrap();
        assert_eq!(result, Err(std::io::ErrorKind::ConnectionRefused), "{}", rt.driver_name());
        rt.shut_down();
    }
}

#[test]
fn a_bell_wakes_a_sleeping_runtime() {
    let clock = RealClock::start();
    for uring in [false, true] {
        let bell = EventFd::new().unwrap();
        let pool = BufferPool::new(16, 1024).unwrap();
        let driver: Box<dyn Driver> = if uring {
            match UringDriver::new(pool, bell.clone()) {
                Ok(driver) => Box::new(driver),
                Err(_) => return,
            }
        } else {
            Box::new(EpollDriver::new(pool, bell.clone()).unwrap())
        };
        let rt = Rt::new(driver, Clock::from(clock.clone()));
        for _ in 0..3 {
            let ringer = bell.clone();
            let other = std::thread::spawn(move || ringer.ring());
            // Sleeps without a bound: only the bell ends it.
            rt.wait(None, &super::Alone).unwrap();
            other.join().unwrap();
        }
    }
}

#[test]
fn timers_fire_in_order_and_never_early() {
    let hand = Rc::new(Cell::new(crate::sys::Instant::ZERO));
    let mut timers = super::timers::Timers::new(hand.get());
    let task = {
        let tasks = super::tasks::Tasks::default();
        tasks.spawn(async {})
    };
    let mut state = 0x9e37_79b9_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut pending: Vec<(u64, super::timers::TimerId)> = Vec::new();
    for round in 0..2000u64 {
        let reach = [1_000_000, 50_000_000, 5_000_000_000, 2_000_000_000_000][usize::try_from(round % 4).unwrap()];
        let at = hand.get() + Duration::from_nanos(random(reach));
        pending.push((at.as_nanos(), timers.insert(at, task)));
        if random(3) == 0 && !pending.is_empty() {
            let index = usize::try_from(random(pending.len() as u64)).unwrap();
            timers.remove(pending.swap_remove(index).1);
        }
        if let Some(next) = timers.next_timeout() {
            let earliest = pending.iter().map(|(at, _)| *at).min().unwrap();
            assert!(next.as_nanos() <= earliest + (1 << 17), "the wheel would sleep past its first entry");
        }
        hand.set(hand.get() + Duration::from_nanos(random(reach / 4 + 1)));
        let mut fired = 0;
        timers.expire(hand.get(), |_| fired += 1);
        let due = pending.iter().filter(|(at, _)| at + (2 << 16) <= hand.get().as_nanos()).count();
        let at_most = pending.iter().filter(|(at, _)| *at <= hand.get().as_nanos()).count();
        assert!((due..=at_most).contains(&fired), "round {round}: fired {fired}, due {due} to {at_most}");
        // Those on the edge may or may not have fired: the wheel's own count says how many are left.
        pending.sort_unstable_by_key(|(at, _)| *at);
        pending.drain(..fired);
        assert_eq!(timers.len() as usize, pending.len());
    }
}

/// Wakes a task when it is dropped, as a ticket does for whoever waits behind it.
struct WakeOnDrop(super::Rt, super::TaskId);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake(self.1);
    }
}

#[test]
fn tasks_dropped_by_a_shut_down_are_not_counted_and_not_ready() {
    for rt in runtimes() {
        let waiting = rt.spawn(std::future::pending());
        let rt2 = rt.clone();
        rt.spawn(async move {
            let _guard = WakeOnDrop(rt2, waiting);
            std::future::pending::<()>().await;
        });
        rt.run_tasks();
        rt.shut_down();
        assert_eq!(rt.stats().tasks, 0, "{}", rt.driver_name());
        // A task that counted as ready would keep the turns of a shut-down from waiting for last completions.
        assert!(!rt.0.tasks.has_ready(), "{}", rt.driver_name());
    }
}

#[test]
fn a_shut_down_waits_for_a_listener_whose_accept_ends_late() {
    let kernel = SimKernel::new(1, Faults::calm().with(Fault::LateCancel, 10_000));
    let rt = Rt::new(Box::new(kernel.driver(BufferPool::new(2, 64).unwrap(), "alone")), kernel.clock());
    kernel.let_turns_move_time(true);
    let listener = rt.listen(&loopback(), 1).unwrap();
    rt.spawn(async move { drop(listener.accept().await) });
    rt.run_tasks();
    rt.wait(Some(rt.now()), &super::Alone).unwrap();
    rt.shut_down();
    assert_eq!(kernel.audit(), [""; 0]);
}

#[test]
fn a_task_that_panics_ends_alone_where_panics_are_contained() {
    for rt in runtimes() {
        rt.contain_panics();
        let (listener, rt2) = (rt.listen(&loopback(), 1).unwrap(), rt.clone());
        let address = Address::Tcp(listener.local_addr().unwrap());
        rt.spawn(async move {
            let _socket = listener.accept().await.unwrap();
            panic!("planted: this text in the output of the tests is meant");
        });
        let ended = rt.block_on(async move {
            let socket = rt2.connect(&address).await.unwrap();
            let end = socket.recv().await;
            end.is_ok_and(|lease| lease.is_none())
        });
        assert!(ended.unwrap(), "its socket was closed: {}", rt.driver_name());
        assert_eq!((rt.stats().panics, rt.stats().tasks), (1, 0), "{}", rt.driver_name());
        rt.shut_down();
    }
}

#[test]
fn vectors_kept_for_reuse_are_bounded_in_bytes_not_only_in_number() {
    for rt in runtimes() {
        // As many slow readers leave behind.
        (0..1000).for_each(|_| rt.keep_vec(Vec::with_capacity(64 << 10)));
        let kept = |rt: &Rt| (0..1000).map(|_| rt.take_vec().capacity()).filter(|capacity| *capacity >= 64 << 10).sum::<usize>();
        let first = kept(&rt);
        assert!((1..=2 << 20).contains(&first), "{first} bytes");
        // What was taken out makes room again.
        (0..1000).for_each(|_| rt.keep_vec(Vec::with_capacity(64 << 10)));
        assert_eq!(kept(&rt), first);
    }
}

#[test]
fn a_shrunk_table_forgets_nobody_and_wakes_nobody_else() {
    let (tasks, polls) = (super::Tasks::default(), Rc::new(Cell::new(0)));
    let counted = |until: u32| {
        let (polls, mut left) = (Rc::clone(&polls), until);
        std::future::poll_fn(move |_| {
            polls.set(polls.get() + 1);
            left -= 1;
            if left == 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
    };
    let (stays, ends) = (tasks.spawn(counted(9)), [tasks.spawn(counted(1)), tasks.spawn(counted(1))]);
    tasks.run(9);
    tasks.shrink();
    assert_eq!((polls.take(), tasks.live()), (3, 1));
    let late = [tasks.spawn(counted(9)), tasks.spawn(counted(9))];
    tasks.run(9);
    assert_eq!(polls.take(), 2);
    // The numbers are used again: what was known by them before means nothing now.
    ends.into_iter().for_each(|id| tasks.wake(id));
    ends.into_iter().for_each(|id| tasks.abort(id));
    tasks.run(9);
    assert_eq!((polls.take(), tasks.live()), (0, 3));
    [stays, late[0], late[1]].into_iter().for_each(|id| tasks.wake(id));
    tasks.run(9);
    assert_eq!(polls.take(), 3);
}

#[test]
fn a_shrunk_wheel_keeps_its_timers_and_removes_no_others() {
    let tasks = super::Tasks::default();
    let task = tasks.spawn(async {});
    let at = |seconds| crate::sys::Instant::ZERO + Duration::from_secs(seconds);
    let mut timers = super::Timers::new(at(0));
    let (early, stays) = (timers.insert(at(1), task), timers.insert(at(9), task));
    let ends: Vec<_> = (0..100).map(|_| timers.insert(at(5), task)).collect();
    ends.iter().for_each(|id| timers.remove(*id));
    timers.shrink();
    let anew: Vec<_> = (0..100).map(|_| timers.insert(at(5), task)).collect();
    ends.iter().for_each(|id| timers.remove(*id));
    assert_eq!(timers.len(), 102);
    assert!(timers.is_live(early) && timers.is_live(stays) && anew.iter().all(|id| timers.is_live(*id)));
    let mut woken = 0;
    timers.expire(at(6), |_| woken += 1);
    assert_eq!((woken, timers.len(), timers.is_live(stays)), (101, 1, true));
}
