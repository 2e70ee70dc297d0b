//! A shard, scripted upstreams and clients on one runtime. The shard's own turn drives them all.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::config::{Config, check};
use crate::mesh::{Bell, Dials, FlagBell, Mesh, Port, Shared, Shares};
use crate::metrics::Registry;
use crate::policy::Router;
use crate::runtime::driver::sim::{Faults, SimKernel};
use crate::runtime::{Clock, Either, EpollDriver, RealClock, Rt, Socket, UringDriver, race};
use crate::shard::{Message, Shard, ShardSeed, ShardSnapshot};
use crate::sys::net::Address;
use crate::sys::{BufferPool, EventFd};

/// One request as an upstream saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What an upstream does with a request.
pub(crate) enum Reply {
    Bytes(Vec<u8>),
    /// Sends this and closes.
    ThenClose(Vec<u8>),
    /// Never answers; the connection stays until the other side closes it.
    Never,
    After(Duration, Vec<u8>),
    /// Sends this, and then back whatever comes.
    Echo(String),
    /// Sends these one by one, each after its time, and then ends as told.
    Pieces(Vec<(Duration, String)>, End),
}

/// What an upstream does behind its last piece.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The answer is whole: the next request is awaited.
    Whole,
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// Nothing more comes until the other side closes.
    Silence,
}

pub(crate) struct World {
    pub(crate) rt: Rt,
    pub(crate) shard: Rc<Shard>,
    pub(crate) registry: RefCell<Registry>,
    pub(crate) address: Address,
    pub(crate) seen: Rc<RefCell<Vec<Seen>>>,
    /// Upstream connections that the gateway closed before they were answered.
    pub(crate) aborted: Rc<Cell<u32>>,
    pub(crate) neighbours: Vec<Port<Message>>,
}

impl World {
    /// `config` is the configuration's text, in which `$UP` stands for the scripted upstream's address and `$TWIN` for the same by another name,
    /// `$OTHER` for a second address of it. The script's number counts over both.
    pub(crate) fn new(config: &str, script: impl Fn(&Seen, usize) -> Reply + 'static) -> World {
        World::with_neighbours(0, config, script)
    }

    /// The same on a pretended kernel, in virtual time: hours pass in no time.
    pub(crate) fn in_virtual_time(config: &str, script: impl Fn(&Seen, usize) -> Reply + 'static) -> World {
        World::beside_a_hole(None, config, script)
    }

    /// In virtual time, where no connection to the address `hole` is ever made or refused.
    pub(crate) fn beside_a_hole(hole: Option<&str>, config: &str, script: impl Fn(&Seen, usize) -> Reply + 'static) -> World {
        let kernel = SimKernel::new(1, Faults::calm());
        kernel.let_turns_move_time(true);
        if let Some(hole) = hole {
            kernel.swallow(Address::Tcp(hole.parse().unwrap()));
        }
        let driver = kernel.driver(BufferPool::new(64, 4096).unwrap(), "world");
        World::on(Rt::new(Box::new(driver), kernel.clock()), 0, config, script)
    }

    /// Beside it stand shards that never take a turn, with room for two messages each.
    pub(crate) fn with_neighbours(count: u32, config: &str, script: impl Fn(&Seen, usize) -> Reply + 'static) -> World {
        World::on(runtime(), count, config, script)
    }

    fn on(rt: Rt, count: u32, config: &str, script: impl Fn(&Seen, usize) -> Reply + 'static) -> World {
        let (seen, aborted) = (Rc::new(RefCell::default()), Rc::new(Cell::new(0)));
        let script = Rc::new(script);
        let mut text = config.to_owned();
        for name in ["$UP", "$OTHER"] {
            let up = rt.listen(&any_port(), 128).unwrap();
            let addr = up.local_addr().unwrap();
            text = text.replace(name, &format!("http://{addr}"));
            if name == "$UP" {
                text = text.replace("$TWIN", &format!("http://[::ffff:127.0.0.1]:{}", addr.port()));
            }
            spawn_upstream(&rt, up, Rc::clone(&script), Rc::clone(&seen), Rc::clone(&aborted));
        }
        let config = check("test.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let listener = rt.listen(&any_port(), 128).unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let (registry, seed, neighbours) = seed(config, count);
        let shard = Shard::new(seed, rt.clone(), vec![listener]);
        World { rt, shard, registry: RefCell::new(registry), address, seen, aborted, neighbours }
    }

    /// Runs turns until `work` is done; a world that stands still for long fails.
    pub(crate) fn run<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(Cell::new(None));
        let slot = Rc::clone(&result);
        self.rt.spawn(async move { slot.set(Some(work.await)) });
        let rt = self.rt.clone();
        let late = Rc::new(Cell::new(false));
        let flag = Rc::clone(&late);
        let guard = self.rt.spawn(async move {
            let limit = if rt.driver_name() == "sim" { Duration::from_hours(24) } else { Duration::from_secs(30) };
            rt.sleep_until(rt.now() + limit).await;
            flag.set(true);
        });
        loop {
            self.shard.turn().unwrap();
            if let Some(value) = result.take() {
                self.rt.abort(guard);
                return value;
            }
            assert!(!late.get(), "the exchange hangs");
        }
    }

    /// Sends bytes on one connection and reads until the peer closes.
    pub(crate) fn transcript(&self, bytes: &str) -> String {
        let (rt, address, bytes) = (self.rt.clone(), self.address.clone(), bytes.as_bytes().to_vec());
        self.run(async move {
            let socket = rt.connect(&address).await.unwrap();
            socket.send(bytes).await.unwrap();
            String::from_utf8_lossy(&read_to_end(&socket).await).into_owned()
        })
    }

    /// The value of a sample in the metrics text, or 0.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let text = self.registry.borrow_mut().render(self.rt.now());
        text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok()).unwrap_or(0.0)
    }

    /// The sum over all series of a metric that have this label.
    pub(crate) fn sum(&self, metric: &str, label: &str) -> f64 {
        let text = self.registry.borrow_mut().render(self.rt.now());
        let lines = text.lines().filter(|line| line.starts_with(metric) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.rt.shut_down();
    }
}

/// `HEADRACE_IO` picks the driver, as for the integration tests.
fn runtime() -> Rt {
    let pool = BufferPool::new(64, RECEIVE_BUFFER_BYTES).unwrap();
    let clock = Clock::from(RealClock::start());
    let epoll = std::env::var("HEADRACE_IO").is_ok_and(|io| io == "epoll");
    if !epoll && let Ok(driver) = UringDriver::new(pool.clone(), EventFd::new().unwrap()) {
        return Rt::new(Box::new(driver), clock);
    }
    let pool = BufferPool::new(64, RECEIVE_BUFFER_BYTES).unwrap();
    Rt::new(Box::new(EpollDriver::new(pool, EventFd::new().unwrap()).unwrap()), clock)
}

/// Of 64 in the pool.
pub(crate) const RECEIVE_BUFFER_BYTES: u32 = 16 << 10;

fn any_port() -> Address {
    Address::Tcp("127.0.0.1:0".parse().unwrap())
}

fn seed(config: Config, neighbours: u32) -> (Registry, ShardSeed, Vec<Port<Message>>) {
    let (registry, mut metrics) = Registry::new(&config, 1 + neighbours);
    let bells = (0..=neighbours).map(|_| Box::new(FlagBell::default()) as Bell);
    let mut ports = Mesh::new(if neighbours == 0 { 64 } else { 2 }, bells).into_ports();
    let router = Shared::new(Router::new(&config));
    let limited = config.upstreams.iter().map(|upstream| upstream.concurrency.is_some().then_some(upstream.name.as_str()));
    let shares = Shares::new(1 + neighbours, limited, &Shares::default());
    let dials = Dials::new(config.shares());
    let snapshot = ShardSnapshot { generation: 0, router, shares, config: Shared::new(config), metrics: metrics.remove(0), dials };
    (registry, ShardSeed { port: ports.remove(0), snapshot, lane_seed: 7, seed: 11 }, ports)
}

fn spawn_upstream(
    rt: &Rt,
    listener: crate::runtime::Listener,
    script: Rc<impl Fn(&Seen, usize) -> Reply + 'static>,
    seen: Rc<RefCell<Vec<Seen>>>,
    aborted: Rc<Cell<u32>>,
) {
    let outer = rt.clone();
    rt.spawn(async move {
        loop {
            let Ok(socket) = listener.accept().await else { return };
            let (rt, script, seen, aborted) = (outer.clone(), Rc::clone(&script), Rc::clone(&seen), Rc::clone(&aborted));
            outer.spawn(async move {
                let mut input = Vec::new();
                while let Some(request) = read_request(&socket, &mut input).await {
                    let number = seen.borrow().len();
                    seen.borrow_mut().push(request.clone());
                    match script(&request, number) {
                        Reply::Bytes(bytes) => socket.send(bytes).await.unwrap_or_default(),
                        Reply::ThenClose(bytes) => return socket.send(bytes).await.unwrap_or_default(),
                        Reply::Never => {
                            let _ = socket.recv().await;
                            return aborted.set(aborted.get() + 1);
                        }
                        Reply::After(time, bytes) => {
                            rt.sleep_until(rt.now() + time).await;
                            socket.send(bytes).await.unwrap_or_default();
                        }
                        Reply::Echo(bytes) => {
                            let _ = socket.send(bytes.into_bytes()).await;
                            while let Ok(Some(lease)) = socket.recv().await {
                                let _ = socket.send(lease).await;
                            }
                            return aborted.set(aborted.get() + 1);
                        }
                        Reply::Pieces(pieces, end) => {
                            if !send_pieces(&rt, &socket, pieces).await {
                                return aborted.set(aborted.get() + 1);
                            }
                            match end {
                                End::Whole => {}
                                End::Close => return,
                                End::Reset => return socket.reset_on_drop(),
                                End::Silence => {
                                    let _ = socket.recv().await;
                                    return aborted.set(aborted.get() + 1);
                                }
                            }
                        }
                    }
                }
            });
        }
    });
}

/// False when the other side closed before the last piece.
async fn send_pieces(rt: &Rt, socket: &Socket, pieces: Vec<(Duration, String)>) -> bool {
    for (after, piece) in pieces {
        match race(rt.sleep_until(rt.now() + after), socket.recv()).await {
            Either::First(()) => {}
            Either::Second(_) => return false,
        }
        if socket.send(piece.into_bytes()).await.is_err() {
            return false;
        }
    }
    true
}

async fn read_request(socket: &Socket, input: &mut Vec<u8>) -> Option<Seen> {
    let head_len = loop {
        if let Some(at) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        input.extend_from_slice(&socket.recv().await.ok()??);
    };
    let head = String::from_utf8_lossy(&input[..head_len]).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let mut rest = input.split_off(head_len);
    std::mem::swap(input, &mut rest);
    let chunked = head.contains("transfer-encoding: chunked");
    loop {
        let done = if chunked { input.ends_with(b"0\r\n\r\n") } else { input.len() >= length.unwrap_or(0) };
        if done {
            break;
        }
        input.extend_from_slice(&socket.recv().await.ok()??);
    }
    let body_len = if chunked { input.len() } else { length.unwrap_or(0) };
    let rest = input.split_off(body_len);
    let body = std::mem::replace(input, rest);
    Some(Seen { head, body })
}

/// All that comes, and whether it ends in good order (FIN) and not with a reset.
pub(crate) async fn read_to_close(socket: &Socket) -> (String, bool) {
    let mut all = Vec::new();
    loop {
        match socket.recv().await {
            Ok(Some(lease)) => all.extend_from_slice(&lease),
            end => return (String::from_utf8_lossy(&all).into_owned(), end.is_ok()),
        }
    }
}

pub(crate) async fn read_to_end(socket: &Socket) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(Some(lease)) = socket.recv().await {
        all.extend_from_slice(&lease);
    }
    all
}

/// A whole answer with a length.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A whole POST; the connection closes after it.
pub(crate) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// One server, by model and by path.
pub(crate) const CHAT: &str = r#"
[[upstreams]]
name = "gpu"
endpoints = ["$UP"]

[[models]]
name = "m"
upstream = "gpu"

[[routes]]
path = "/plain"
upstream = "gpu"
"#;
