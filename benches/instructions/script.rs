//! A driver that is a script: clients' requests are put on their connections by hand, each request that goes upstream is answered with
//! bytes that were fixed before, and every operation succeeds at once and whole. It costs little and the same every time, so what is
//! counted around it is ours. Faults and orders are the business of the simulation (`runtime::driver::sim`), not of this.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use headrace::runtime::{Clock, Driver};
use headrace::sys::net::Address;
use headrace::sys::{BufferPool, Completed, Completion, Fd, Instant, Op, OpId, RingStats, Slots, Wait};
use socket2::SockAddr;

/// The world behind the driver; all clones are one.
#[derive(Clone)]
pub(crate) struct Script(Rc<RefCell<Scene>>);

/// The runtime's way to it.
pub(crate) struct ScriptDriver {
    script: Script,
    pool: BufferPool,
}

struct Scene {
    slots: Slots<(Op, u64)>,
    due: Vec<Completion>,
    accept: Option<OpId>,
    /// By descriptor number.
    sockets: Vec<Socket>,
    /// What an upstream says to each request.
    answer: Bytes,
    /// Sends to clients that ended with the end of an answer.
    answered: u32,
    hand: Rc<Cell<Instant>>,
}

#[derive(Default)]
struct Socket {
    is_upstream: bool,
    receive: Option<OpId>,
    arriving: VecDeque<Bytes>,
}

impl Script {
    /// `answer`: what each request that goes upstream is answered with, a JSON body that ends in `}}` with its head.
    pub(crate) fn new(answer: Vec<u8>) -> Script {
        let scene = Scene {
            slots: Slots::new(),
            due: Vec::new(),
            accept: None,
            sockets: vec![Socket::default()],
            answer: Bytes::from(answer),
            answered: 0,
            hand: Rc::new(Cell::new(Instant::ZERO)),
        };
        Script(Rc::new(RefCell::new(scene)))
    }

    pub(crate) fn driver(&self, pool: BufferPool) -> ScriptDriver {
        ScriptDriver { script: self.clone(), pool }
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::simulated(Rc::clone(&self.0.borrow().hand))
    }

    /// A client connects; the listener must be accepting.
    pub(crate) fn connect(&self) -> Fd {
        let mut scene = self.0.borrow_mut();
        let fd = scene.add(false);
        let id = scene.accept.unwrap();
        let mut completion = scene.more(id, 0);
        completion.accepted = Some(fd);
        scene.due.push(completion);
        fd
    }

    /// A client sends bytes.
    pub(crate) fn say(&self, client: Fd, bytes: &Bytes) {
        self.0.borrow_mut().socket(client).arriving.push_back(bytes.clone());
    }

    /// Answers that clients have got so far.
    pub(crate) fn answered(&self) -> u32 {
        self.0.borrow().answered
    }
}

impl Scene {
    fn socket(&mut self, fd: Fd) -> &mut Socket {
        &mut self.sockets[usize::try_from(fd.number()).unwrap()]
    }

    fn add(&mut self, is_upstream: bool) -> Fd {
        self.sockets.push(Socket { is_upstream, ..Socket::default() });
        Fd::simulated(i32::try_from(self.sockets.len() - 1).unwrap())
    }

    fn more(&mut self, id: OpId, count: u32) -> Completion {
        let Completed::More((_, target)) = self.slots.complete(id, true) else { panic!("completes what is not in flight") };
        Completion { target: *target, id, result: Ok(count), more: true, lease: None, accepted: None, op: None }
    }

    fn last(&mut self, id: OpId, result: io::Result<u32>) {
        let Completed::Last((op, target)) = self.slots.complete(id, false) else { panic!("completes what is not in flight") };
        self.due.push(Completion { target, id, result, more: false, lease: None, accepted: None, op: Some(op) });
    }

    fn submit(&mut self, op: Op, target: u64) -> OpId {
        let fd = op.fd();
        match &op {
            Op::Accept { .. } => {
                let id = self.slots.insert((op, target));
                self.accept = Some(id);
                id
            }
            Op::Recv { .. } => {
                let id = self.slots.insert((op, target));
                self.socket(fd).receive = Some(id);
                id
            }
            Op::Send { parts, .. } => {
                let count = u32::try_from(parts.len()).unwrap();
                let ends = parts.slices().last().is_some_and(|part| part.ends_with(END));
                let answer = self.answer.clone();
                let socket = self.socket(fd);
                if socket.is_upstream {
                    socket.arriving.push_back(answer);
                } else {
                    self.answered += u32::from(ends);
                }
                let id = self.slots.insert((op, target));
                self.last(id, Ok(count));
                id
            }
            Op::Connect { .. } => {
                let id = self.slots.insert((op, target));
                self.last(id, Ok(0));
                id
            }
        }
    }

    fn cancel(&mut self, id: OpId) {
        if let Some((op, _)) = self.slots.get(id) {
            let fd = op.fd();
            self.socket(fd).receive = None;
            self.last(id, Err(io::Error::from_raw_os_error(libc::ECANCELED)));
        }
    }

    /// Puts what has arrived into buffers, some per socket, as a kernel would.
    fn deliver(&mut self, pool: &BufferPool) {
        for index in 0..self.sockets.len() {
            for _ in 0..BUFFERS_PER_TURN {
                let socket = &mut self.sockets[index];
                let (Some(id), Some(bytes)) = (socket.receive, socket.arriving.front_mut()) else { break };
                let fill = |buffer: &mut [u8]| {
                    let count = bytes.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&bytes[..count]);
                    bytes.advance(count);
                    Ok(count)
                };
                let lease = pool.fill(fill).unwrap().unwrap();
                if bytes.is_empty() {
                    socket.arriving.pop_front();
                }
                let mut completion = self.more(id, u32::try_from(lease.len()).unwrap());
                completion.lease = Some(lease);
                self.due.push(completion);
            }
        }
    }
}

impl Driver for ScriptDriver {
    fn listen(&mut self, _: &Address, _: i32) -> io::Result<Fd> {
        Ok(self.script.0.borrow_mut().add(false))
    }

    fn socket(&mut self, address: &Address) -> io::Result<(Fd, Op)> {
        let Address::Tcp(addr) = address else { return Err(io::ErrorKind::Unsupported.into()) };
        let fd = self.script.0.borrow_mut().add(true);
        Ok((fd, Op::Connect { fd, addr: Box::new(SockAddr::from(*addr)) }))
    }

    fn submit(&mut self, op: Op, target: u64) -> OpId {
        self.script.0.borrow_mut().submit(op, target)
    }

    fn cancel(&mut self, id: OpId) {
        self.script.0.borrow_mut().cancel(id);
    }

    fn cancel_all(&mut self, fd: Fd) {
        let mut scene = self.script.0.borrow_mut();
        if let Some(id) = scene.socket(fd).receive {
            scene.cancel(id);
        }
    }

    fn close(&mut self, fd: Fd) {
        *self.script.0.borrow_mut().socket(fd) = Socket::default();
    }

    fn has_work(&mut self) -> bool {
        false
    }

    /// Time passes in it: a little when there is something to do, else until the time-out.
    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        let mut scene = self.script.0.borrow_mut();
        scene.deliver(&self.pool);
        let passes = match wait {
            Wait::For(time) if scene.due.is_empty() => time,
            _ => TURN,
        };
        scene.hand.set(scene.hand.get() + passes);
        out.append(&mut scene.due);
        Ok(())
    }

    fn peer_addr(&self, _: Fd) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], 40_000)))
    }

    fn local_addr(&self, _: Fd) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], 8080)))
    }

    fn shutdown_write(&mut self, _: Fd) {}

    fn reset_on_close(&mut self, _: Fd) {}

    fn pool(&self) -> &BufferPool {
        &self.pool
    }

    fn name(&self) -> &'static str {
        "script"
    }

    fn can_spin(&self) -> bool {
        false
    }

    fn stats(&self) -> RingStats {
        RingStats::default()
    }
}

/// How every answer here ends.
const END: &[u8] = b"}}";
const BUFFERS_PER_TURN: usize = 4;
/// What a turn with work takes.
const TURN: Duration = Duration::from_micros(10);
