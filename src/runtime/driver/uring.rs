//! The io_uring driver: one ring per shard, one enter per turn. The ring itself and its memory rules live in `sys::Ring`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::Driver;
use crate::sys::net::{self, Address};
use crate::sys::progress;
use crate::sys::{BufferPool, Completion, EventFd, Fd, Op, OpId, Ring, RingStats, Wait};

pub struct UringDriver {
    ring: Ring,
    pool: BufferPool,
}

impl UringDriver {
    /// # Errors
    /// When the kernel or seccomp refuses a ring with buffer rings (Linux 5.19 or later is needed); the message says which call.
    pub fn new(pool: BufferPool, bell: EventFd) -> io::Result<UringDriver> {
        Ok(UringDriver { ring: Ring::new(SUBMISSIONS, pool.clone(), bell)?, pool })
    }
}

impl Driver for UringDriver {
    fn listen(&mut self, address: &Address, backlog: i32) -> io::Result<Fd> {
        net::listen(address, backlog, false)
    }

    fn adopt_listener(&mut self, socket: OwnedFd) -> io::Result<Fd> {
        net::adopt_listener(socket, false)
    }

    fn socket(&mut self, address: &Address) -> io::Result<(Fd, Op)> {
        let (fd, addr) = net::socket(address, false)?;
        Ok((fd, Op::Connect { fd, addr }))
    }

    fn submit(&mut self, op: Op, target: u64) -> OpId {
        self.ring.submit(op, target)
    }

    fn cancel(&mut self, id: OpId) {
        self.ring.cancel(id);
    }

    fn cancel_all(&mut self, fd: Fd) {
        self.ring.cancel_all(fd);
    }

    /// The kernel looks for what is to be cancelled on a descriptor in its table of everything in flight (9 % of the time at 1,000
    /// connections that come and go); a receive whose socket's incoming side was shut down ends by itself.
    fn end_recv(&mut self, fd: Fd) {
        net::shutdown_read(fd);
    }

    fn close(&mut self, fd: Fd) {
        self.ring.close(fd);
    }

    fn has_work(&mut self) -> bool {
        self.ring.has_work()
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.ring.turn(wait, out)
    }

    fn peer_addr(&self, fd: Fd) -> Option<SocketAddr> {
        net::peer_addr(fd)
    }

    fn local_addr(&self, fd: Fd) -> Option<SocketAddr> {
        net::local_addr(fd)
    }

    fn taken_bytes(&self, fd: Fd) -> Option<u64> {
        progress::bytes_acked(fd)
    }

    fn shutdown_write(&mut self, fd: Fd) {
        net::shutdown_write(fd);
    }

    fn reset_on_close(&mut self, fd: Fd) {
        net::reset_on_close(fd);
    }

    fn pool(&self) -> &BufferPool {
        &self.pool
    }

    fn name(&self) -> &'static str {
        "uring"
    }

    fn can_spin(&self) -> bool {
        true
    }

    fn stats(&self) -> RingStats {
        self.ring.stats()
    }
}

/// Entries of the submission queue. A turn that queues more submits in between; 1024 covers 500 connections in one turn.
const SUBMISSIONS: u32 = 1024;
