//! The smallest reverse proxy on pingora: one listener, one upstream, keep-alive on both sides, one thread, no logging, no TLS.
//!
//!     headrace-peer-pingora LISTEN UPSTREAM
//!
//! It is what a user of the crate would write first, with the pool large enough for every connection of the load.

use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use pingora::prelude::{HttpPeer, Opt, ProxyHttp, Result, Server, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

/// Idle upstream connections kept: as many as the largest load has clients, so that none is opened twice.
const POOL: usize = 4096;

struct Proxy {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let addresses = (args.next(), args.next().and_then(|text| text.parse().ok()));
    let (Some(listen), Some(upstream)) = addresses else {
        eprintln!("usage: headrace-peer-pingora LISTEN UPSTREAM (both as 127.0.0.1:port)");
        return ExitCode::from(2);
    };
    let conf = ServerConf {
        threads: 1,
        // One thread has nobody to steal from.
        work_stealing: false,
        upstream_keepalive_pool_size: POOL,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(Some(Opt::default()), conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Proxy { upstream });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
