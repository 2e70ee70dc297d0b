//! The other side: a light upstream and clients that wait for their answer and ask again, both on one runtime of ours and on one core,
//! so that every proxy meets the same peers. Every answer is compared byte for byte.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use headrace::runtime::{Rt, Socket};
use headrace::sys::net::Address;

use crate::request_len;

/// A small JSON POST.
const REQUEST: &[u8] = b"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1:8080\r\ncontent-type: application/json\r\n\
    content-length: 70\r\n\r\n{\"model\":\"bge-small\",\"input\":\"the quick brown fox jumps over the dog\"}";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nserver: light\r\ncontent-type: application/json\r\ncontent-length: 74\r\n\r\n\
    {\"object\":\"list\",\"model\":\"m\",\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7}}";

/// What one round of load saw.
pub struct Seen {
    pub answers: u64,
    pub wrong: u64,
    pub p50: Duration,
    pub time: Duration,
}

/// Counts of a round as it goes.
struct Round {
    latencies: RefCell<Histogram<u64>>,
    wrong: Cell<u64>,
    measuring: Cell<bool>,
    ended: Cell<bool>,
    open: Cell<usize>,
}

/// Starts the upstream; where it listens.
///
/// # Errors
/// When no port is free.
pub fn start_upstream(rt: &Rt) -> io::Result<SocketAddr> {
    let listener = rt.listen(&Address::Tcp(([127, 0, 0, 1], 0).into()), 1024)?;
    let address = listener.local_addr().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let own = rt.clone();
    rt.spawn(async move {
        while let Ok(client) = listener.accept().await {
            own.spawn(async move {
                let mut got = 0;
                while let Ok(Some(lease)) = client.recv().await {
                    // Requests come one at a time and almost always whole.
                    got += lease.len();
                    if got >= REQUEST.len() {
                        debug_assert_eq!(request_len(REQUEST), Some(REQUEST.len()));
                        got -= REQUEST.len();
                        client.start_send(ANSWER);
                    }
                }
            });
        }
    });
    Ok(address)
}

/// `connections` clients on `address` for `warm` and then `time`. `cpu` is asked where the measured time begins and ends.
///
/// # Errors
/// When the runtime breaks or a proxy cannot be reached.
pub fn round(
    rt: &Rt,
    address: SocketAddr,
    connections: usize,
    warm: Duration,
    time: Duration,
    mut mark: impl FnMut() + 'static,
) -> io::Result<Seen> {
    let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)?;
    let round = Rc::new(Round {
        latencies: RefCell::new(histogram),
        wrong: Cell::new(0),
        measuring: Cell::new(false),
        ended: Cell::new(false),
        open: Cell::new(connections),
    });
    for _ in 0..connections {
        let (rt, round) = (rt.clone(), Rc::clone(&round));
        rt.clone().spawn(async move {
            if client(&rt, address, &round).await.is_err() {
                round.wrong.set(round.wrong.get() + 1);
            }
            round.open.set(round.open.get() - 1);
        });
    }
    let (own, counts) = (rt.clone(), Rc::clone(&round));
    let measured = rt.block_on(async move {
        own.sleep_until(own.now() + warm).await;
        mark();
        let began = Instant::now();
        counts.measuring.set(true);
        own.sleep_until(own.now() + time).await;
        counts.measuring.set(false);
        mark();
        let measured = began.elapsed();
        counts.ended.set(true);
        let by = own.now() + Duration::from_secs(2);
        while counts.open.get() > 0 && own.now() < by {
            own.sleep_until(own.now() + Duration::from_millis(1)).await;
        }
        measured
    })?;
    let latencies = round.latencies.borrow();
    let stuck = round.open.get() as u64;
    Ok(Seen {
        answers: latencies.len(),
        wrong: round.wrong.get() + stuck,
        p50: Duration::from_nanos(latencies.value_at_quantile(0.5)),
        time: measured,
    })
}

async fn client(rt: &Rt, address: SocketAddr, round: &Round) -> io::Result<()> {
    let socket = rt.connect(&Address::Tcp(address)).await?;
    while !round.ended.get() {
        let asked = Instant::now();
        socket.start_send(REQUEST);
        let right = answered(&socket).await?;
        if !right {
            round.wrong.set(round.wrong.get() + 1);
        }
        if round.measuring.get() {
            let nanos = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
            round.latencies.borrow_mut().saturating_record(nanos.max(1));
        }
    }
    Ok(())
}

/// Reads one answer; whether it is the right one.
async fn answered(socket: &Socket) -> io::Result<bool> {
    let (mut at, mut right) = (0, true);
    while at < ANSWER.len() {
        let Some(lease) = socket.recv().await? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        right &= ANSWER[at..].starts_with(&lease);
        at += lease.len();
    }
    Ok(right)
}
