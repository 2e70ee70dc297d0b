//! The admin page: is the process alive, is it ready, what has it counted. For operators and orchestrators on an address of their
//! own, without authentication; clients never come here. What changes something
//! is in `orders`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::connect_info::Connected;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::ask;
use super::orders;
use super::plane::Plane;
use super::thread::Beat;
use crate::metrics::CONTENT_TYPE;

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, plane: Arc<Plane>) {
    let listener = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    // It never returns: accept errors are waited out.
    let _ = axum::serve(listener, routes(plane).into_make_service_with_connect_info::<Asker>()).await;
}

fn routes(plane: Arc<Plane>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/livez", get(livez))
        .route("/healthz", get(livez))
        .route("/health", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/rollouts", get(orders::all_rollouts))
        .route("/rollouts/{*model}", get(orders::one_rollout).post(orders::order_rollout))
        .route("/-/reload", post(orders::reload))
        .route("/-/config", get(ask::configuration))
        .route("/-/explain", post(ask::explain))
        .fallback(nowhere)
        .with_state(plane)
}

const INDEX: &str = r#"headrace admin
  /livez    200 while every shard turns
  /readyz   200 while clients can be served: not draining, and every upstream has a healthy endpoint
  /metrics  counters for Prometheus (OpenMetrics text)
  /rollouts the targets of split models and what they serve
From this host, not from a browser:
  GET  /-/config         the configuration in force, without its comments
  POST /-/explain        where a request would go (headrace routes explain --admin)
  POST /-/reload         read the configuration again
  POST /rollouts/MODEL   {"action":"start"}, {"action":"promote"}, {"action":"abort"}, {"action":"weight","target":"...","percent":20}
"#;

async fn index() -> &'static str {
    INDEX
}

async fn nowhere() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "nothing here; there are /livez, /readyz, /metrics and /rollouts\n")
}

async fn metrics(State(plane): State<Arc<Plane>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], plane.render()).into_response()
}

async fn readyz(State(plane): State<Arc<Plane>>) -> (StatusCode, String) {
    if plane.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    match plane.unready_upstreams() {
        names if names.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
        names => (StatusCode::SERVICE_UNAVAILABLE, format!("no healthy endpoint: {}\n", names.join(", "))),
    }
}

async fn livez(State(plane): State<Arc<Plane>>) -> (StatusCode, String) {
    match silent_shards(&plane, BEAT_LOOKS).await {
        silent if silent.is_empty() => (StatusCode::OK, "alive\n".to_owned()),
        silent => (StatusCode::SERVICE_UNAVAILABLE, format!("these shards do not turn: {silent:?}\n")),
    }
}

/// Rings every shard and waits for each to end a turn: one that sleeps does so at once, one that is stuck never. Looks at most so
/// many times and returns those that did not; at once, when a thread has ended: it will not turn again.
pub(super) async fn silent_shards(plane: &Plane, looks: u32) -> Vec<u32> {
    let before: Vec<u64> = plane.shards().iter().map(|line| line.beat.turns()).collect();
    let those = |silent: &dyn Fn(&Beat, u64) -> bool| -> Vec<u32> {
        let beats = plane.shards().iter().map(|line| &line.beat);
        (0..).zip(beats).zip(&before).filter(|((_, beat), before)| silent(beat, **before)).map(|((index, _), _)| index).collect()
    };
    plane.nudge();
    for look in 1.. {
        let ended = those(&|beat, _| beat.has_ended());
        if !ended.is_empty() {
            return ended;
        }
        let silent = those(&|beat, before| beat.turns() == before);
        if silent.is_empty() || look >= looks {
            return silent;
        }
        tokio::time::sleep(BEAT_LOOK_EVERY).await;
    }
    Vec::new()
}

/// A listener that serves a bounded number of connections, none of them silent for long.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        // The semaphore is never closed; were it, the connection would go without a place.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, addr) = axum::serve::Listener::accept(&mut self.listener).await;
        (Guest { stream, patience: Box::pin(tokio::time::sleep(SILENCE_MAX)), _place: place }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Asker {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Asker {
        Asker(*stream.remote_addr())
    }
}

/// A connection with its place among the bounded number, and the moment until which it may be silent.
struct Guest {
    stream: TcpStream,
    patience: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Guest {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_ready() {
            let until = tokio::time::Instant::now() + SILENCE_MAX;
            self.patience.as_mut().reset(until);
            return result;
        }
        self.patience.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Admin connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// A connection that says nothing for so long is closed. Twice the common scrape interval and more.
const SILENCE_MAX: Duration = Duration::from_secs(75);
/// A shard may take two seconds for a turn; the ordinary one takes microseconds.
const BEAT_LOOKS: u32 = 1000;
const BEAT_LOOK_EVERY: Duration = Duration::from_millis(2);
