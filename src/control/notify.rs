//! Words for the service manager (sd_notify(3)): a datagram to the socket it names in the environment. Without one nothing is said.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where to say it.
#[derive(Debug, Default)]
pub(super) struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    pub(super) fn from_env() -> Notify {
        Notify(std::env::var_os("NOTIFY_SOCKET").and_then(|path| Notify::to(path.as_bytes())))
    }

    fn to(path: &[u8]) -> Option<(UnixDatagram, SocketAddr)> {
        let address = match path.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name).ok()?,
            None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)).ok()?,
        };
        Some((UnixDatagram::unbound().ok()?, address))
    }

    pub(super) fn ready(&self) {
        self.say("READY=1\nSTATUS=serving");
    }

    /// To be followed by [`Notify::ready`].
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration again"));
    }

    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining");
    }

    /// From now on the service is that process.
    pub(super) fn succeeded_by(&self, pid: u32) {
        self.say(&format!("MAINPID={pid}\nREADY=1\nSTATUS=serving"));
    }

    fn say(&self, words: &str) {
        if let Some((socket, address)) = &self.0 {
            // A manager that does not listen is told no more than one that is not there.
            let _ = socket.send_to_addr(words.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::Notify;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_it_at_a_path_or_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("headrace-notify-{}", std::process::id()));
        let name = format!("headrace-notify-{}", std::process::id());
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().as_bytes().to_vec()),
            (UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(), format!("@{name}").into_bytes()),
        ];
        for (socket, address) in sockets {
            let notify = Notify(Notify::to(&address));
            notify.ready();
            assert_eq!(heard(&socket), "READY=1\nSTATUS=serving");
            notify.reloading();
            assert!(heard(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            notify.succeeded_by(17);
            assert_eq!(heard(&socket), "MAINPID=17\nREADY=1\nSTATUS=serving");
            notify.stopping();
            assert!(heard(&socket).starts_with("STOPPING=1\n"));
        }
        std::fs::remove_file(path).unwrap();
        Notify(None).ready();
    }
}
