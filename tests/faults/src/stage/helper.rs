//! A scripted upstream in a process of its own: this very program, started again. It can be killed, stopped and started anew.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::gateway::{free_port, signal_to};

pub(crate) struct Helper {
    pub(crate) addr: SocketAddr,
    child: Child,
}

impl Helper {
    pub(crate) fn start() -> Result<Helper, String> {
        let addr = free_port().map_err(|error| error.to_string())?;
        Helper::at(addr)
    }

    fn at(addr: SocketAddr) -> Result<Helper, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["--upstream", &addr.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| error.to_string())?;
        let helper = Helper { addr, child };
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if TcpStream::connect(addr).is_ok() {
                return Ok(helper);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("no upstream on {addr}"))
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        *self = Helper::at(self.addr)?;
        Ok(())
    }

    pub(crate) fn stop(&self) {
        signal_to(self.child.id(), Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        signal_to(self.child.id(), Signal::CONT);
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.kill();
    }
}
