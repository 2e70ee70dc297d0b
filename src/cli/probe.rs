//! `headrace probe`: asks a running gateway's admin page, for container health checks in images without a shell. 200 is exit code
//! 0, everything else 1.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// What to ask: /livez (it lives) or /readyz (it can serve).
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090/readyz")]
    pub(crate) url: Url,
}

/// An `http` address in the parts that are needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Url {
    /// `host:port`, as in the `Host` field.
    pub(crate) authority: String,
    pub(crate) target: String,
}

impl Url {
    /// Another page of the same address.
    pub(crate) fn page(&self, target: &str) -> Url {
        Url { authority: self.authority.clone(), target: target.to_owned() }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let rest = text.strip_prefix("http://").ok_or("write http://host:port/path")?;
        let (authority, target) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || !plain(authority) || !plain(target) {
            return Err("write http://host:port/path".to_owned());
        }
        // The port follows the last colon that is not inside an IPv6 literal's brackets.
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Url { authority, target: target.to_owned() })
    }
}

/// How the admin page is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method<'a> {
    Get,
    /// With this body.
    Post(&'a str),
}

pub(crate) fn run(args: ProbeArgs) -> ExitCode {
    match ask(&args.url, Method::Get) {
        Ok((200, _)) => ExitCode::SUCCESS,
        Ok((status, body)) => {
            super::complain(&format!("{status} {}", body.trim_end()));
            ExitCode::FAILURE
        }
        Err(why) => {
            super::complain(&format!("{}: {why}", args.url.authority));
            ExitCode::FAILURE
        }
    }
}

/// The status and the body.
///
/// # Errors
/// What went wrong, in words.
pub(crate) fn ask(url: &Url, method: Method<'_>) -> Result<(u16, String), String> {
    let said = |error: std::io::Error| error.to_string();
    let addr = url.authority.to_socket_addrs().map_err(said)?.next().ok_or("the name has no address")?;
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE).map_err(said)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(said)?;
    let (line, body) = match method {
        Method::Get => ("GET", ""),
        Method::Post(body) => ("POST", body),
    };
    let Url { authority, target } = url;
    let head = format!("{line} {target} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let request = head + body;
    stream.write_all(request.as_bytes()).map_err(said)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(said)?;
    if answer.len() as u64 == ANSWER_BYTES_MAX {
        return Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"));
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).ok_or("that was no HTTP answer")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// Above the two seconds that /livez gives a shard, so that its answer is heard.
const PATIENCE: Duration = Duration::from_millis(2500);
/// What is read of an answer. A probe's is a line; the longest is a configuration.
const ANSWER_BYTES_MAX: u64 = 2 * crate::config::limits::CONFIG_FILE_BYTES_MAX as u64;

#[cfg(test)]
mod tests;
