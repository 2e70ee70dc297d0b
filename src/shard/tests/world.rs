//! A shard, scripted upstreams and clients on one runtime. The shard's own turn drives them all.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::config::{Config, check};
use crate::mesh::{Bell, Dials, FlagBell, Mesh, Port, Shared};
use crate::metrics::Registry;
use crate::policy::Router;
use crate::runtime::{Clock, EpollDriver, RealClock, Rt, Socket, UringDriver};
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
    /// `config` is the configuration's text, in which `$UP` stands for the scripted upstream's address.
    pub(crate) fn new(config: &str, script: impl Fn(&Seen, usize) -> Reply + 'static) -> World {
        World::with_neighbours(0, config, script)
    }

    /// Beside it stand shards that never take a turn, with room for two messages each.
    pub(crate) fn with_neighbours(count: u32, config: &str, script: impl Fn(&Seen, usize) -> Reply + 'static) -> World {
        let rt = runtime();
        let (seen, aborted) = (Rc::new(RefCell::default()), Rc::new(Cell::new(0)));
        let up = rt.listen(&any_port(), 128).unwrap();
        let text = config.replace("$UP", &format!("http://{}", up.local_addr().unwrap()));
        let config = check("test.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        spawn_upstream(&rt, up, script, Rc::clone(&seen), Rc::clone(&aborted));
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
            rt.sleep_until(rt.now() + Duration::from_secs(30)).await;
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
    let pool = BufferPool::new(64, 4096).unwrap();
    let clock = Clock::from(RealClock::start());
    let epoll = std::env::var("HEADRACE_IO").is_ok_and(|io| io == "epoll");
    if !epoll && let Ok(driver) = UringDriver::new(pool.clone(), EventFd::new().unwrap()) {
        return Rt::new(Box::new(driver), clock);
    }
    let pool = BufferPool::new(64, 4096).unwrap();
    Rt::new(Box::new(EpollDriver::new(pool, EventFd::new().unwrap()).unwrap()), clock)
}

fn any_port() -> Address {
    Address::Tcp("127.0.0.1:0".parse().unwrap())
}

fn seed(config: Config, neighbours: u32) -> (Registry, ShardSeed, Vec<Port<Message>>) {
    let (registry, mut metrics) = Registry::new(&config, 1 + neighbours);
    let bells = (0..=neighbours).map(|_| Box::new(FlagBell::default()) as Bell);
    let mut ports = Mesh::new(if neighbours == 0 { 64 } else { 2 }, bells).into_ports();
    let router = Shared::new(Router::new(&config));
    let dials = Dials::new(config.shares());
    let snapshot = ShardSnapshot { generation: 0, router, config: Shared::new(config), metrics: metrics.remove(0), dials };
    (registry, ShardSeed { port: ports.remove(0), snapshot, lane_seed: 7, seed: 11 }, ports)
}

fn spawn_upstream(
    rt: &Rt,
    listener: crate::runtime::Listener,
    script: impl Fn(&Seen, usize) -> Reply + 'static,
    seen: Rc<RefCell<Vec<Seen>>>,
    aborted: Rc<Cell<u32>>,
) {
    let script = Rc::new(script);
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
                    }
                }
            });
        }
    });
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
