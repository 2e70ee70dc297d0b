//! Addresses as people write them: where to listen, where endpoints are. Names are not resolved here (control does).

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::super::limits::UNIX_PATH_BYTES_MAX;
use super::super::{EndpointAddr, ListenAddr};

/// Why an address cannot be, and what to write.
#[derive(Debug)]
pub(super) struct AddressError {
    pub(super) why: &'static str,
    pub(super) help: String,
}

pub(super) fn listen(text: &str) -> Result<ListenAddr, AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(ListenAddr::Unix);
    }
    socket(text).map(ListenAddr::Tcp)
}

/// An IP address and a port. Names are refused: what they mean may change, and a listener must not.
pub(super) fn socket(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        if addr.port() == 0 {
            return Err(error("port 0 is not an address anyone can call", "write a port from 1 to 65535".to_owned()));
        }
        return Ok(addr);
    }
    let form = "write an IP address and a port, like \"127.0.0.1:8080\", \"[::1]:8080\", or \"0.0.0.0:8080\" for all addresses";
    if text.contains("://") {
        return Err(error("a listener is an address, not a URL", form.to_owned()));
    }
    if let Some(port) = text.strip_prefix(':').filter(|port| port.parse::<u16>().is_ok()) {
        return Err(error(
            "there is no IP address before the port",
            format!("write \"0.0.0.0:{port}\" for all addresses or \"127.0.0.1:{port}\" for this host only"),
        ));
    }
    if let Some(port) = text.strip_prefix("localhost:").filter(|port| port.parse::<u16>().is_ok()) {
        return Err(error("names are not resolved for listeners", format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\"")));
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(error("there is no port", form.to_owned()));
    }
    Err(error("it is not an IP address with a port", form.to_owned()))
}

/// `http://host:port` or `unix:/path`, and the `Host` value for it.
pub(super) fn endpoint(text: &str) -> Result<(EndpointAddr, String), AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(|path| (EndpointAddr::Unix(path), "localhost".to_owned()));
    }
    let form = || "write \"http://host:port\" or \"unix:/path\"".to_owned();
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(error("it has no scheme", if looks_like_host_port(text) { format!("write \"http://{text}\"") } else { form() }));
    };
    if scheme.eq_ignore_ascii_case("https") {
        return Err(error(
            "TLS to upstreams is not there yet",
            format!("write \"http://{rest}\" where the network in between is yours, or put a TLS proxy beside it"),
        ));
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(error("its scheme is not http", form()));
    }
    let host_port = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(at) = host_port.find(['/', '?', '#']) {
        return Err(error("an endpoint has no path: the path of the request is sent on", format!("write \"http://{}\"", &host_port[..at])));
    }
    if host_port.contains('@') {
        return Err(error("it carries a user name, and secrets do not belong in a URL", form()));
    }
    let (host, port) = host_and_port(host_port).ok_or_else(|| error("it is not a host with a port from 1 to 65535", form()))?;
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let authority = if port == 80 { shown } else { format!("{shown}:{port}") };
    let resolved = host.parse().ok().map(|ip| SocketAddr::new(ip, port));
    Ok((EndpointAddr::Tcp { host, port, resolved }, authority))
}

fn unix_path(path: &str) -> Result<PathBuf, AddressError> {
    if !path.starts_with('/') {
        return Err(error("the path of a Unix socket must begin with /", "write \"unix:/run/name.sock\"".to_owned()));
    }
    if path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
        return Err(error("the kernel cannot hold this path", format!("use a path of at most {UNIX_PATH_BYTES_MAX} bytes")));
    }
    if path.ends_with('/') {
        return Err(error("this path is a directory, not a socket", "write \"unix:/run/name.sock\"".to_owned()));
    }
    Ok(PathBuf::from(path))
}

/// Splits `host:port`; the port is 80 when left out. Hosts are lower-cased (RFC 9110 4.2.3).
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            let ip: Ipv6Addr = inside.parse().ok()?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (ip.to_string(), port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (text.to_ascii_lowercase(), None),
        },
    };
    let port = match port {
        // `+80` parses as a number but is no port.
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok().filter(|port| *port > 0)?,
        Some(_) => return None,
        None => 80,
    };
    let named = host.contains(':') || is_host_name(&host);
    named.then_some((host, port))
}

/// Labels of letters, digits, `-` and `_` (compose and Kubernetes names carry it), at most 253 bytes (RFC 1035 2.3.4).
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numeric {
        return host.parse::<std::net::Ipv4Addr>().is_ok();
    }
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

fn looks_like_host_port(text: &str) -> bool {
    text.contains(':') && host_and_port(text).is_some()
}

fn error(why: &'static str, help: String) -> AddressError {
    AddressError { why, help }
}
