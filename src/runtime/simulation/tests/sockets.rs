//! What the worlds do not show by themselves: sockets that nobody reads at the moment, bounds, and listeners that go in the middle.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::runtime::driver::sim::{Fault, Faults, SimKernel};
use crate::runtime::simulation::Simulation;
use crate::runtime::{Rt, Socket};
use crate::sys::BufferPool;
use crate::sys::net::Address;

fn address() -> Address {
    Address::Tcp("127.0.0.1:80".parse().unwrap())
}

/// Two runtimes with a connection between them: the connecting end and the accepted end.
fn connected(seed: u64, faults: Faults) -> (Simulation, [(Rt, Socket); 2]) {
    connected_to(BufferPool::new(64, 64).unwrap(), seed, faults)
}

/// The same with the accepted end's pool.
fn connected_to(pool: BufferPool, seed: u64, faults: Faults) -> (Simulation, [(Rt, Socket); 2]) {
    let mut simulation = Simulation::new(SimKernel::new(seed, Faults::calm()));
    let (_, server, _) = simulation.add("server", pool);
    let (_, client, _) = simulation.add("client", BufferPool::new(64, 64).unwrap());
    let ends: Rc<RefCell<[Option<Socket>; 2]>> = Rc::default();
    let listener = server.listen(&address(), 4).unwrap();
    let (own, slot) = (client.clone(), Rc::clone(&ends));
    client.spawn(async move {
        let socket = own.connect(&address()).await.unwrap();
        slot.borrow_mut()[0] = Some(socket);
    });
    let slot = Rc::clone(&ends);
    server.spawn(async move {
        let socket = listener.accept().await.unwrap();
        slot.borrow_mut()[1] = Some(socket);
    });
    simulation.run(|| ends.borrow().iter().all(Option::is_some)).unwrap();
    let [Some(ours), Some(theirs)] = ends.take() else { panic!("not connected") };
    simulation.kernel().set_faults(faults);
    (simulation, [(client, ours), (server, theirs)])
}

#[test]
fn an_idle_connection_is_seen_to_end_though_its_receive_ended_before() {
    for seed in 0..50 {
        // Half of the receives end with ECANCELED or ENOBUFS that nobody asked for, while nobody reads.
        let faults = Faults::calm().with(Fault::Cancelled, 5000).with(Fault::NoBuffers, 5000);
        let (mut simulation, [(_, ours), (_, theirs)]) = connected(seed, faults);
        ours.watch();
        simulation.run_for(Duration::from_millis(1)).unwrap();
        assert!(!ours.is_stale(), "seed {seed}");
        drop(theirs);
        simulation.run_for(Duration::from_secs(1)).unwrap();
        assert!(ours.is_stale(), "seed {seed}: the end was not noticed");
        drop(ours);
        assert_eq!(simulation.finish(), [""; 0], "seed {seed}");
    }
}

#[test]
fn a_slow_reader_is_paused_again_and_again() {
    // A receive that is armed brings all that waits in the socket at once, so the socket must be small for the bound to show.
    let mut faults = Faults::calm();
    faults.socket_bytes_max = 4 * 64;
    let (mut simulation, [(client, ours), (server, theirs)]) = connected(1, faults);
    let (most, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let own = client.clone();
    client.spawn(async move {
        for _ in 0..800 {
            ours.send(vec![7; 64]).await.unwrap();
            own.sleep_until(own.now() + Duration::from_millis(1)).await;
        }
    });
    let (own, highest, flag) = (server.clone(), Rc::clone(&most), Rc::clone(&done));
    server.spawn(async move {
        let mut total = 0;
        while let Some(lease) = theirs.recv().await.unwrap() {
            total += lease.len();
            drop(lease);
            highest.set(own.stats().leased_buffers.max(highest.get()));
            if total % (32 * 64) == 0 {
                own.sleep_until(own.now() + Duration::from_millis(60)).await;
            }
        }
        assert_eq!(total, 800 * 64);
        flag.set(true);
    });
    simulation.run(|| done.get()).unwrap();
    let pauses = server.stats().sockets.pauses;
    assert!(pauses >= 5, "{pauses}");
    // The bound, and what was under way when the pause was asked for.
    assert!(most.get() <= 32 + 4, "{} leases for one reader", most.get());
    assert_eq!(simulation.finish(), [""; 0]);
}

#[test]
fn what_waits_unread_is_bounded_in_bytes_while_the_pool_is_low() {
    const PIECE: usize = 32 << 10;
    let mut faults = Faults::calm();
    faults.socket_bytes_max = PIECE;
    let pool = BufferPool::new(4, u32::try_from(PIECE).unwrap()).unwrap();
    let (mut simulation, [(client, ours), (server, theirs)]) = connected_to(pool, 1, faults);
    client.spawn(async move {
        // Ends with an error: the other end goes before it has taken all.
        while ours.send(vec![7; PIECE]).await.is_ok() {}
    });
    let (own, waiting) = (server.clone(), Rc::new(Cell::new(None)));
    let seen = Rc::clone(&waiting);
    server.spawn(async move {
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(theirs.recv().await.unwrap().unwrap());
        }
        theirs.watch();
        own.sleep_until(own.now() + Duration::from_millis(100)).await;
        let bytes: usize = std::iter::from_fn(|| theirs.try_recv()).map(|lease| lease.len()).sum();
        seen.set(Some(bytes));
    });
    simulation.run(|| waiting.get().is_some()).unwrap();
    let bytes = waiting.get().unwrap_or_default();
    // The bound, and what was under way when the pause was asked for.
    assert!((64 << 10..=(64 << 10) + 2 * PIECE).contains(&bytes), "{bytes} bytes wait");
    simulation.run_for(Duration::from_millis(10)).unwrap();
    assert_eq!(simulation.finish(), [""; 0]);
}

#[test]
fn a_send_on_a_connection_that_is_gone_fails() {
    let (mut simulation, [(client, ours), (_, theirs)]) = connected(1, Faults::calm());
    theirs.reset_on_drop();
    drop(theirs);
    simulation.run_for(Duration::from_millis(1)).unwrap();
    let errors = Rc::new(RefCell::new(Vec::new()));
    let list = Rc::clone(&errors);
    client.spawn(async move {
        for _ in 0..2 {
            let sent = ours.send(vec![1; 100]).await;
            list.borrow_mut().push(sent.map_err(|error| error.kind()));
        }
    });
    simulation.run(|| errors.borrow().len() == 2).unwrap();
    assert_eq!(*errors.borrow(), [Err(std::io::ErrorKind::BrokenPipe); 2], "the first, and every one after it");
    assert_eq!(simulation.finish(), [""; 0]);
}

#[test]
fn a_listener_that_goes_gives_back_what_it_accepted_meanwhile() {
    for seed in 0..100 {
        let faults = Faults::calm().with(Fault::LateCompletion, 5000).with(Fault::LateCancel, 5000).with(Fault::Reordered, 3000);
        let kernel = SimKernel::new(seed, faults);
        let mut simulation = Simulation::new(kernel.clone());
        let (_, server, _) = simulation.add("server", BufferPool::new(8, 64).unwrap());
        let (_, client, _) = simulation.add("client", BufferPool::new(8, 64).unwrap());
        let listener = server.listen(&address(), 4).unwrap();
        let own = server.clone();
        let patience = Duration::from_micros(kernel.with_rng(|rng| rng.below(3000)));
        server.spawn(async move {
            // One connection is taken; then the listener goes, whoever is on the way.
            drop(listener.accept().await);
            own.sleep_until(own.now() + patience).await;
        });
        let ended = Rc::new(Cell::new(0));
        for _ in 0..6 {
            let (own, ended) = (client.clone(), Rc::clone(&ended));
            client.spawn(async move {
                if let Ok(socket) = own.connect(&address()).await {
                    // Whether it was accepted or not: it ends.
                    while let Ok(Some(_)) = socket.recv().await {}
                }
                ended.set(ended.get() + 1);
            });
        }
        simulation.run(|| ended.get() == 6).unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        assert_eq!(simulation.finish(), [""; 0], "seed {seed}");
    }
}
