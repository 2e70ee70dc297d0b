//! What a person may ask for, and the load it means. Names are resolved here.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use headrace::config::Io;
use headrace::config::units::parse_duration;
use headrace::mock::DIMS;
use headrace::mock::client::{INPUT_BYTES_MIN, LoadBody, LoadConfig, Mix, Pace};
use headrace::sys::net::Address;

use crate::run::{LaunchArgs, RunArgs};
use crate::upstream::UpstreamArgs;

/// Load on an HTTP/1.1 server: closed loop, or open loop at a fixed rate without coordinated omission. Without a command the
/// arguments are a load.
#[derive(Debug, Parser)]
#[command(
    name = "headrace-loadtest",
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) load: Args,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A light server that gives every request the same answer, or a stream of stamped events.
    Upstream(UpstreamArgs),
    /// Measure contenders side by side, by scenario files, and judge their targets.
    Run(Box<RunArgs>),
    /// Bind to cores, then become another program: how `run` starts its children.
    #[command(hide = true)]
    Launch(LaunchArgs),
}

/// One load.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `http://host:port/path` or `unix:/socket:/path`.
    #[arg(long, value_name = "URL", value_parser = parse_url, required = true)]
    pub(crate) url: Option<Url>,
    /// Connections, each with one request at a time; all are made before the first request. 0 with `--idle`.
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub(crate) connections: u32,
    /// Keep N more connections open in silence, after one request each before the start.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub(crate) idle: u32,
    /// End a connection with its request number N (which says `connection: close`) and make it anew, as part of the next request's
    /// latency.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) churn: Option<u32>,
    /// Load that comes before the duration and is not counted.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// How long requests are begun; those begun are waited for.
    #[arg(long, short, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Open loop: begin this many requests a second; latency counts from the moment each was due.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Threads that share connections and rate.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,
    /// The model to ask for.
    #[arg(long, value_name = "NAME", default_value = "mock")]
    pub(crate) model: String,
    /// Bytes of each text; its first 16 make it unique.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(i64::from(INPUT_BYTES_MIN)..=1 << 20))]
    pub(crate) input_bytes: u32,
    /// Bytes of the whole body: a text in place of `--input-bytes` fills it up.
    #[arg(long, value_name = "N", value_parser = body_bytes, conflicts_with_all = ["input_bytes", "items", "base64", "post", "get"])]
    pub(crate) body_bytes: Option<u32>,
    /// Of a body with `--body-bytes` or `--stream`, put the model behind the text.
    #[arg(long)]
    pub(crate) model_last: bool,
    /// Give this share of the requests, 0 to 1, a body of `--long-bytes`; their latency is told apart.
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "body_bytes", conflicts_with = "stream")]
    pub(crate) mix: Option<f64>,
    /// Bytes of a long body.
    #[arg(long, value_name = "N", default_value_t = 225_280, value_parser = body_bytes)]
    pub(crate) long_bytes: u32,
    /// Ask for chats as streams of events, at `/v1/chat/completions` unless the URL has a path.
    #[arg(long, conflicts_with_all = ["input_bytes", "items", "base64", "post", "get", "check"])]
    pub(crate) stream: bool,
    /// With `--stream`: ask for at most N events.
    #[arg(long, value_name = "N", requires = "stream", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: Option<u32>,
    /// Texts in each request.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2048))]
    pub(crate) items: u32,
    /// Ask for base64 in place of numbers.
    #[arg(long)]
    pub(crate) base64: bool,
    /// Compare every vector with the one headrace's mock must give.
    #[arg(long, conflicts_with_all = ["post", "get"])]
    pub(crate) check: bool,
    /// Elements of a vector, as the mock was started with.
    #[arg(long, value_name = "N", default_value_t = DIMS)]
    pub(crate) dims: u32,
    /// Send this file's bytes as JSON every time, in place of embeddings.
    #[arg(long, value_name = "FILE", conflicts_with = "get")]
    pub(crate) post: Option<PathBuf>,
    /// Send GET without a body, in place of embeddings.
    #[arg(long)]
    pub(crate) get: bool,
    /// In place of the URL's path.
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// Give a request up after this; a stream after a silence of this.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Run on this core only.
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,
    /// Which driver moves bytes; auto is io_uring up to 1,024 connections, epoll beyond and where io_uring is refused.
    #[arg(long, value_name = "DRIVER", value_enum, default_value_t = Driver::Auto)]
    pub(crate) io: Driver,
    /// Write the latency distribution to FILE, in the form that HdrHistogram's plotter reads.
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Driver {
    Auto,
    Uring,
    Epoll,
}

impl From<Driver> for Io {
    fn from(driver: Driver) -> Io {
        match driver {
            Driver::Auto => Io::Auto,
            Driver::Uring => Io::Uring,
            Driver::Epoll => Io::Epoll,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Output {
    Human,
    Json,
}

/// Where to send requests; the name is not resolved yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Url {
    pub(crate) place: Place,
    /// The `Host` value.
    pub(crate) authority: String,
    /// `None`: what is asked for decides.
    pub(crate) path: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// `host:port`
    Tcp(String),
    Unix(PathBuf),
}

impl Args {
    /// The load these arguments mean.
    ///
    /// # Errors
    /// For a person: the name cannot be resolved, the file cannot be read.
    pub(crate) fn load(&self) -> Result<LoadConfig, String> {
        let url = self.url.as_ref().ok_or("--url is missing: say where to send requests")?;
        let address = match &url.place {
            Place::Unix(path) => Address::Unix(path.clone()),
            Place::Tcp(place) => {
                let mut found = place.to_socket_addrs().map_err(|error| format!("{place}: {error}"))?;
                Address::Tcp(found.next().ok_or_else(|| format!("{place}: no address"))?)
            }
        };
        if self.connections == 0 && self.idle == 0 {
            return Err("-c 0 is no load: ask for connections, or for idle ones with --idle".to_owned());
        }
        let sized = |body_bytes| LoadBody::Sized { model: self.model.clone(), body_bytes, model_last: self.model_last, dims: self.dims };
        Ok(LoadConfig {
            address,
            authority: url.authority.clone(),
            path: self.target(url),
            body: self.body()?,
            mix: self.mix.map(|share| Mix { share, body: sized(self.long_bytes) }),
            connections: self.connections,
            idle: self.idle,
            churn: self.churn,
            warmup: self.warmup,
            pace: self.rate.map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
            duration: self.duration,
            timeout: self.timeout,
            check: self.check,
            io: self.driver(),
            salt: 0,
        })
    }

    /// io_uring costs least with few connections (64: 2.6 us a request against 3.2 with epoll). With thousands it
    /// loses (5,000: 11.7 us against 7.5, p99 334 ms against 102) and some hundred segments are sent again; probably so many sends in one
    /// call overflow the loopback's queue (`net.core.netdev_max_backlog`), which was not proved.
    fn driver(&self) -> Io {
        if self.io == Driver::Auto && self.connections + self.idle > URING_CONNECTIONS_MAX { Io::Epoll } else { self.io.into() }
    }

    /// What is asked for.
    pub(crate) fn target(&self, url: &Url) -> String {
        let usual = if self.stream { "/v1/chat/completions" } else { "/v1/embeddings" };
        self.path.as_ref().or(url.path.as_ref()).map_or(usual, String::as_str).to_owned()
    }

    fn body(&self) -> Result<LoadBody, String> {
        let (model, model_last) = (self.model.clone(), self.model_last);
        if self.stream {
            let body_bytes = self.body_bytes.unwrap_or(CHAT_BYTES);
            return Ok(LoadBody::Chat { model, body_bytes, model_last, max_tokens: self.max_tokens });
        }
        if let Some(body_bytes) = self.body_bytes {
            return Ok(LoadBody::Sized { model, body_bytes, model_last, dims: self.dims });
        }
        if self.get {
            return Ok(LoadBody::Get);
        }
        let Some(file) = &self.post else {
            let Args { items, input_bytes, base64, dims, .. } = *self;
            return Ok(LoadBody::Embeddings { model, items, input_bytes, base64, dims });
        };
        #[expect(clippy::disallowed_methods, reason = "a tool reads its file before the load begins")]
        let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(LoadBody::Fixed { content_type: "application/json".to_owned(), bytes })
    }
}

/// Reads `http://host:port/path` and `unix:/socket:/path`; the port is 80 when left out.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    let path_of = |path: &str| (!path.is_empty()).then(|| path.to_owned());
    if let Some(rest) = text.strip_prefix("unix:") {
        let (socket, path) = rest.rsplit_once(':').unwrap_or((rest, ""));
        if !socket.starts_with('/') || !(path.is_empty() || path.starts_with('/')) {
            return Err("write unix:/path/of.sock:/path/of/request".to_owned());
        }
        return Ok(Url { place: Place::Unix(PathBuf::from(socket)), authority: "localhost".to_owned(), path: path_of(path) });
    }
    let Some(rest) = text.strip_prefix("http://") else { return Err("write http://host:port/path or unix:/socket:/path".to_owned()) };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() || authority.contains(['@', '?', '#', ' ']) || path.contains(' ') {
        return Err("write http://host:port/path".to_owned());
    }
    let port_given = authority.rsplit_once(':').is_some_and(|(host, port)| !port.is_empty() && !port.contains(']') && !host.is_empty());
    let place = if port_given { authority.to_owned() } else { format!("{authority}:80") };
    Ok(Url { place: Place::Tcp(place), authority: authority.to_owned(), path: path_of(path) })
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|_| format!("{text:?} is not a duration; write a number and a unit, like 5s or 500ms"))
}

fn rate(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (0.001..=10_000_000.0).contains(value));
    value.ok_or_else(|| format!("{text:?} is not a rate; write requests per second"))
}

fn body_bytes(text: &str) -> Result<u32, String> {
    let value = text.parse().ok().filter(|value| (BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(value));
    value.ok_or_else(|| format!("{text:?}: write a number of bytes from {BODY_BYTES_MIN} to {BODY_BYTES_MAX}"))
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| format!("{text:?} is not a share; write a number from 0 to 1"))
}

/// `{"model":"mock","input":"..."}` with the least text.
const BODY_BYTES_MIN: u32 = 42;
const BODY_BYTES_MAX: u32 = 64 << 20;
/// A chat's body when nothing is said: a line of text.
const CHAT_BYTES: u32 = 200;
const URING_CONNECTIONS_MAX: u32 = 1024;
