//! Asks engines for their load and passes it on to the shards. One task per endpoint of the current configuration, each at its own
//! pace; what an engine's words mean is policy's (`policy::engine`), what a shard makes of them too. A scrape that fails, is late or
//! makes no sense hurts nobody: the report before it fades (`policy::balance`), and the log says once that it fails and once that it
//! works again.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::plane::Plane;
use crate::config::{Config, EndpointAddr, Engine, Scrape, UpstreamId, limits};
use crate::http::{BodyDecoder, HeadLimits, Method, Parsed, ResponseHead};
use crate::mesh::Shared;
use crate::policy::{Report, read_scrape};
use crate::shard::{Message, Reports};

/// Scrapes under one configuration after the other until the runtime ends.
pub(super) async fn scrape_all(plane: Arc<Plane>) {
    let mut changes = plane.changes();
    loop {
        let (generation, config) = plane.current_config();
        changes.mark_unchanged();
        let (sender, inbox) = mpsc::channel(REPORTS_WAITING_MAX);
        let mut tasks = JoinSet::new();
        for target in targets(&config) {
            tasks.spawn(scrape_one(target, sender.clone()));
        }
        drop(sender);
        if !tasks.is_empty() {
            tasks.spawn(pass_on(Arc::clone(&plane), generation, inbox));
        }
        // Dropping the set ends its tasks.
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// One endpoint to be asked.
struct Target {
    upstream: UpstreamId,
    endpoint: u32,
    engine: Engine,
    addr: Addr,
    request: Vec<u8>,
    interval: Duration,
    /// For the log.
    shown: String,
}

enum Addr {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

type Told = (UpstreamId, u32, Report);

fn targets(config: &Config) -> Vec<Target> {
    let mut targets = Vec::new();
    for (id, upstream) in (0..).map(UpstreamId).zip(&config.upstreams) {
        let (Some(engine), Some(scrape)) = (upstream.steering.engine, &upstream.steering.scrape) else { continue };
        // With one endpoint there is nothing to choose.
        if scrape.interval.is_zero() || upstream.endpoints.len() < 2 {
            continue;
        }
        for (endpoint, one) in (0..).zip(&upstream.endpoints) {
            let Some(addr) = addr_of(&one.addr, scrape) else { continue };
            let shown = format!("{} of upstream \"{}\"", one.authority, upstream.name);
            let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\naccept: */*\r\nuser-agent: headrace\r\n\r\n", scrape.path, one.authority);
            let (request, interval) = (request.into_bytes(), scrape.interval);
            targets.push(Target { upstream: id, endpoint, engine, addr, request, interval, shown });
        }
    }
    targets
}

fn addr_of(addr: &EndpointAddr, scrape: &Scrape) -> Option<Addr> {
    match addr {
        EndpointAddr::Unix(path) => Some(Addr::Unix(path.clone())),
        EndpointAddr::Tcp { resolved, .. } => resolved.map(|mut addr| {
            addr.set_port(scrape.port.unwrap_or(addr.port()));
            Addr::Tcp(addr)
        }),
    }
}

async fn scrape_one(target: Target, reports: mpsc::Sender<Told>) {
    let mut ticks = interval(target.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = target.interval.clamp(PATIENCE_MIN, PATIENCE_MAX);
    let mut fails = false;
    loop {
        ticks.tick().await;
        let asked = timeout(patience, ask(&target)).await.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")));
        match asked {
            Ok(report) => {
                if std::mem::take(&mut fails) {
                    tracing::info!("the load of {} can be read again", target.shown);
                }
                // A full queue: the next one is newer anyway.
                let _ = reports.try_send((target.upstream, target.endpoint, report));
            }
            Err(why) if !fails => {
                fails = true;
                tracing::warn!("the load of {} cannot be read ({why}); it is balanced by our own calls alone", target.shown);
            }
            Err(_) => {}
        }
    }
}

/// Gathers what comes within a moment, so that each shard is woken once for all of it.
async fn pass_on(plane: Arc<Plane>, generation: u32, mut inbox: mpsc::Receiver<Told>) {
    while let Some(first) = inbox.recv().await {
        sleep(GATHER).await;
        let mut list = vec![first];
        while list.len() < REPORTS_WAITING_MAX
            && let Ok(more) = inbox.try_recv()
        {
            list.push(more);
        }
        let reports = Shared::new(Reports { generation, list });
        for line in plane.shards() {
            // A shard whose inbox is full has better things to do.
            let _ = line.sender.send(Message::Reports(reports.clone()));
        }
    }
}

async fn ask(target: &Target) -> Result<Report, String> {
    let answer = match &target.addr {
        Addr::Tcp(addr) => get(TcpStream::connect(addr).await, &target.request).await,
        Addr::Unix(path) => get(UnixStream::connect(path).await, &target.request).await,
    };
    let body = answer?;
    read_scrape(target.engine, &body).ok_or_else(|| format!("what it says is not how {} tells its load", target.engine.as_str()))
}

/// Sends the request; the body of the answer.
async fn get<S: AsyncRead + AsyncWrite + Unpin>(connected: io::Result<S>, request: &[u8]) -> Result<Vec<u8>, String> {
    let broken = |error: io::Error| error.to_string();
    let mut stream = connected.map_err(broken)?;
    write_all(&mut stream, request).await.map_err(broken)?;
    let (mut head, mut scanned, mut bytes) = (ResponseHead::new(), 0, Vec::new());
    let limits = HeadLimits::answers();
    while bytes.is_empty()
        || head.parse(&bytes, &mut scanned, &limits, Method::Get).map_err(|error| error.reason.to_owned())? == Parsed::Partial
    {
        if read(&mut stream, &mut bytes).await.map_err(broken)? == 0 {
            return Err("it closed the connection without an answer".to_owned());
        }
    }
    if head.status != 200 {
        return Err(format!("it answers {}", head.status));
    }
    bytes.drain(..head.head_len);
    let mut decoder = BodyDecoder::for_response(head.framing);
    let mut body = Vec::new();
    loop {
        let mut at = 0;
        while at < bytes.len() && !decoder.is_done() {
            let step = decoder.handle_bytes(&bytes[at..]).map_err(|error| error.reason.to_owned())?;
            body.extend_from_slice(&bytes[at + step.data.start..at + step.data.end]);
            at += step.consumed;
        }
        bytes.clear();
        if decoder.is_done() {
            return Ok(body);
        }
        if body.len() > limits::SCRAPE_BYTES_MAX {
            return Err(format!("it answers more than {} bytes", limits::SCRAPE_BYTES_MAX));
        }
        if read(&mut stream, &mut bytes).await.map_err(broken)? == 0 {
            return decoder.handle_eof().map(|_| body).map_err(|error| error.reason.to_owned());
        }
    }
}

async fn write_all<S: AsyncWrite + Unpin>(stream: &mut S, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match poll_fn(|context| Pin::new(&mut *stream).poll_write(context, bytes)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

/// Appends what comes next; 0 at the end.
async fn read<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut space = vec![0; READ_BYTES];
    let mut buffer = ReadBuf::new(&mut space);
    poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut buffer)).await?;
    bytes.extend_from_slice(buffer.filled());
    Ok(buffer.filled().len())
}

/// Reports that wait to be passed on. Beyond it they are dropped.
const REPORTS_WAITING_MAX: usize = 4096;
const GATHER: Duration = Duration::from_millis(10);
/// Metrics of a busy engine take their time.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
const PATIENCE_MAX: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 16 << 10;
