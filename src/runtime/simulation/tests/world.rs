//! A world to test the runtime in: clients send a pattern that is their own, two relays pass it on, a server answers each byte.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::runtime::driver::Driver;
use crate::runtime::driver::sim::{Fault, Faults, SimDriver, SimKernel};
use crate::runtime::simulation::{Simulation, Stuck};
use crate::runtime::{Listener, Rt, Socket, TaskId};
use crate::sys::net::Address;
use crate::sys::{BufferPool, Parts};

/// What one run is made of.
pub(super) struct World {
    pub(super) faults: Faults,
    /// Clients may give up in the middle.
    pub(super) leaving_clients: bool,
    /// Put between the first relay and its driver.
    pub(super) wrap: Box<dyn FnOnce(SimDriver) -> Box<dyn Driver>>,
}

impl World {
    pub(super) fn new(faults: Faults) -> World {
        World { faults, leaving_clients: false, wrap: Box::new(|driver| Box::new(driver)) }
    }
}

/// How a client fared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It got every byte of its answer and then the end.
    Whole,
    /// It got an error, and before it only bytes of its answer.
    Failed,
    /// It left by itself.
    Left,
}

pub(super) struct Report {
    /// Wrong bytes, faked ends, what was not given back, deadlocks. Empty when all is well.
    pub(super) problems: Vec<String>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) reached: Vec<u64>,
    pub(super) trace: u64,
}

type Problems = Rc<RefCell<Vec<String>>>;
type Outcomes = Rc<RefCell<Vec<Outcome>>>;

pub(super) fn run(seed: u64, world: World) -> Report {
    let kernel = SimKernel::new(seed, world.faults);
    let mut simulation = Simulation::new(kernel.clone());
    let (problems, outcomes) = (Problems::default(), Outcomes::default());

    let (_, server, _) = simulation.add("server", BufferPool::new(16, 512).unwrap());
    serve(&server, server.listen(&address(1), 4).unwrap(), &problems);
    // Both relays listen on one address, as shards do.
    let (_, relay, _) = simulation.add_with("relay 0", BufferPool::new(128, 256).unwrap(), world.wrap);
    pass_on(&relay, relay.listen(&address(0), 4).unwrap());
    let (_, relay, _) = simulation.add("relay 1", BufferPool::new(128, 256).unwrap());
    pass_on(&relay, relay.listen(&address(0), 4).unwrap());

    let (_, clients, _) = simulation.add("clients", BufferPool::new(16, 512).unwrap());
    let count = kernel.with_rng(|rng| rng.one_to(6));
    for id in 0..count {
        let leaves = world.leaving_clients && kernel.with_rng(|rng| rng.chance(2500));
        start_client(&kernel, &clients, u8::try_from(id).unwrap(), leaves, &problems, &outcomes);
    }
    let ended = simulation.run(|| outcomes.borrow().len() == count);
    let settled = ended.and_then(|()| simulation.run_for(Duration::from_millis(5)));
    problems.borrow_mut().extend(settled.err().map(|stuck: Stuck| stuck.to_string()));
    problems.borrow_mut().extend(simulation.finish());
    let reached = Fault::ALL.iter().map(|fault| kernel.reached(*fault)).collect();
    Report { problems: problems.take(), outcomes: outcomes.take(), reached, trace: kernel.trace() }
}

fn start_client(kernel: &SimKernel, rt: &Rt, id: u8, leaves: bool, problems: &Problems, outcomes: &Outcomes) {
    let len = kernel.with_rng(|rng| if rng.chance(2000) { rng.index(6000) } else { rng.index(300) });
    let patience = if leaves { Duration::from_micros(kernel.with_rng(|rng| rng.below(20_000))) } else { PATIENCE_MAX };
    let (own, problems, outcomes) = (rt.clone(), Rc::clone(problems), Rc::clone(outcomes));
    rt.spawn(async move {
        let outcome = own.before(own.now() + patience, ask(own.clone(), id, len, Rc::clone(&problems))).await;
        if outcome.is_none() && !leaves {
            problems.borrow_mut().push(format!("client {id} waited for ever"));
        }
        outcomes.borrow_mut().push(outcome.unwrap_or(Outcome::Left));
    });
}

fn address(index: usize) -> Address {
    [Address::Tcp("127.0.0.1:8080".parse().unwrap()), Address::Unix("/run/server.sock".into())][index].clone()
}

/// The byte that client `id` sends at `place`; the server answers with its complement.
fn pattern(id: u8, place: usize) -> u8 {
    let [.., byte] = (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ u64::from(id) << 20).to_le_bytes();
    byte ^ id
}

/// One client: sends its id and its pattern, reads the answer meanwhile.
async fn ask(rt: Rt, id: u8, len: usize, problems: Problems) -> Outcome {
    let Ok(socket) = rt.connect(&address(0)).await else { return Outcome::Failed };
    let body: Vec<u8> = (0..len).map(|place| pattern(id, place)).collect();
    // Many small parts, so that a message has more than one vector's worth of them, queued while others are being sent.
    socket.start_send(vec![id]);
    for message in body.chunks(len / 4 + 1) {
        socket.start_send(message.chunks(7).fold(Parts::new(), |parts, piece| parts.with(piece.to_vec())));
    }
    let socket = Rc::new(socket);
    let sending = Rc::clone(&socket);
    let finish_sending = async move {
        if sending.sent().await.is_ok() {
            sending.shutdown_write();
        }
    };
    let _sender = AbortOnDrop(rt.clone(), rt.spawn(finish_sending));
    let mut place = 0;
    loop {
        match socket.recv().await {
            Ok(Some(lease)) => {
                for byte in &*lease {
                    if place >= len || *byte != !pattern(id, place) {
                        problems.borrow_mut().push(format!("client {id} got a wrong byte at {place} of {len}"));
                        return Outcome::Failed;
                    }
                    place += 1;
                }
            }
            Ok(None) if place == len => return Outcome::Whole,
            Ok(None) => {
                problems.borrow_mut().push(format!("client {id}: an answer cut at {place} of {len} looks whole"));
                return Outcome::Failed;
            }
            Err(_) => return Outcome::Failed,
        }
    }
}

struct AbortOnDrop(Rt, TaskId);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort(self.1);
    }
}

async fn accept(rt: &Rt, listener: &Listener) -> Socket {
    loop {
        match listener.accept().await {
            Ok(socket) => return socket,
            Err(_) => rt.sleep_until(rt.now() + Duration::from_millis(1)).await,
        }
    }
}

fn serve(rt: &Rt, listener: Listener, problems: &Problems) {
    let (own, problems) = (rt.clone(), Rc::clone(problems));
    rt.spawn(async move {
        loop {
            let socket = accept(&own, &listener).await;
            let problems = Rc::clone(&problems);
            own.spawn(async move {
                if answer(&socket, &problems).await.is_err() {
                    socket.reset_on_drop();
                }
            });
        }
    });
}

async fn answer(socket: &Socket, problems: &Problems) -> std::io::Result<()> {
    let (mut id, mut place) = (None, 0);
    while let Some(mut lease) = socket.recv().await? {
        let id = *id.get_or_insert_with(|| {
            let id = lease[0];
            lease.advance(1);
            id
        });
        let mut bytes = lease.to_vec();
        for byte in &mut bytes {
            if *byte != pattern(id, place) {
                problems.borrow_mut().push(format!("the server got a wrong byte of client {id} at {place}"));
            }
            *byte = !*byte;
            place += 1;
        }
        socket.send(bytes).await?;
    }
    Ok(())
}

fn pass_on(rt: &Rt, listener: Listener) {
    let own = rt.clone();
    rt.spawn(async move {
        loop {
            let client = accept(&own, &listener).await;
            let rt = own.clone();
            own.spawn(async move { relay(rt, client).await });
        }
    });
}

/// Passes bytes both ways; an error on one socket is a reset on both.
async fn relay(rt: Rt, client: Socket) {
    let mut tries = 0;
    let server = loop {
        // The client's end is watched meanwhile, as the gateway does.
        client.watch();
        match rt.connect(&address(1)).await {
            Ok(server) => break server,
            Err(_) if tries < 3 => tries += 1,
            Err(_) => return client.reset_on_drop(),
        }
    };
    if both(pin!(copy(&client, &server)), pin!(copy(&server, &client))).await.is_err() {
        client.reset_on_drop();
        server.reset_on_drop();
    }
}

async fn copy(from: &Socket, to: &Socket) -> std::io::Result<()> {
    while let Some(lease) = from.recv().await? {
        to.send(lease).await?;
    }
    to.shutdown_write();
    Ok(())
}

type Pinned<'a, F> = Pin<&'a mut F>;

/// Ready when both are, or when one failed.
async fn both<F, G>(mut a: Pinned<'_, F>, mut b: Pinned<'_, G>) -> std::io::Result<()>
where
    F: Future<Output = std::io::Result<()>>,
    G: Future<Output = std::io::Result<()>>,
{
    let (mut a_done, mut b_done) = (false, false);
    poll_fn(|context| {
        if !a_done && let Poll::Ready(result) = a.as_mut().poll(context) {
            result?;
            a_done = true;
        }
        if !b_done && let Poll::Ready(result) = b.as_mut().poll(context) {
            result?;
            b_done = true;
        }
        if a_done && b_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

const PATIENCE_MAX: Duration = Duration::from_secs(60);
