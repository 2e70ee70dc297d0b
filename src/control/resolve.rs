//! Turns the host names of endpoints into addresses, before a snapshot is made: a shard never asks a name server. It may block for
//! as long as the system's resolver does.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::config::{Config, EndpointAddr};

/// A name that has no address.
#[derive(Debug)]
pub struct ResolveError {
    pub upstream: String,
    /// `host:port` as asked for.
    pub endpoint: String,
    pub error: io::Error,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResolveError { upstream, endpoint, error } = self;
        write!(out, "upstream \"{upstream}\": the name of endpoint {endpoint} has no address: {error}")
    }
}

impl std::error::Error for ResolveError {}

/// Fills in the address of every endpoint that is named, each name asked for once; the resolver's first address counts. Literal
/// addresses and Unix sockets stay as they are.
///
/// # Errors
/// Every name that has no address, so that one look mends all.
pub(super) fn resolve(config: &mut Config) -> Result<(), Vec<ResolveError>> {
    resolve_with(config, |host, port| (host, port).to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address was found")))
}

pub(super) fn resolve_with(
    config: &mut Config,
    mut look_up: impl FnMut(&str, u16) -> io::Result<SocketAddr>,
) -> Result<(), Vec<ResolveError>> {
    let mut known: HashMap<(String, u16), SocketAddr> = HashMap::new();
    let mut errors = Vec::new();
    for upstream in &mut config.upstreams {
        for endpoint in &mut upstream.endpoints {
            let EndpointAddr::Tcp { host, port, resolved: resolved @ None } = &mut endpoint.addr else { continue };
            let asked = (host.clone(), *port);
            match known.get(&asked).map_or_else(|| look_up(host, *port), |addr| Ok(*addr)) {
                Ok(addr) => {
                    known.insert(asked, addr);
                    *resolved = Some(addr);
                }
                Err(error) => {
                    errors.push(ResolveError { upstream: upstream.name.clone(), endpoint: format!("{host}:{port}"), error });
                }
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
