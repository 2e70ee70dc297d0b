//! Two threads, each asleep in its ring until the other rings: processor time of both per ring.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use io_uring::{cqueue, opcode, squeue, types};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bell {
    EventFd,
    MsgRing,
}

struct Seat {
    ring: io_uring::IoUring,
    own: OwnedFd,
    /// The other's eventfd and the other's ring.
    eventfd: i32,
    ring_fd: i32,
    armed: bool,
}

pub fn run(rings: u32, bell: Bell) -> io::Result<f64> {
    let (to_a, at_a) = mpsc::channel();
    let (to_b, at_b) = mpsc::channel();
    let other = thread::spawn(move || sit(rings, bell, &to_a, &at_b, false));
    let mine = sit(rings, bell, &to_b, &at_a, true)?;
    let theirs = other.join().map_err(|_| io::Error::other("the other thread panicked"))??;
    Ok((mine + theirs) as f64 / 1000.0 / f64::from(rings) / 2.0)
}

fn sit(rings: u32, bell: Bell, to: &mpsc::Sender<(i32, i32)>, at: &mpsc::Receiver<(i32, i32)>, begins: bool) -> io::Result<u64> {
    // Made on the thread that enters it: the ring has one issuer.
    let ring = super::pair::ring()?;
    // SAFETY: a fresh descriptor, owned from here on.
    let own = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) };
    to.send((own.as_raw_fd(), ring.as_raw_fd())).map_err(io::Error::other)?;
    let (eventfd, ring_fd) = at.recv().map_err(io::Error::other)?;
    let mut seat = Seat { ring, own, eventfd, ring_fd, armed: false };
    let began = super::thread_ns();
    for _ in 0..rings {
        if begins {
            seat.ring(bell)?;
            seat.wait(bell)?;
        } else {
            seat.wait(bell)?;
            seat.ring(bell)?;
        }
    }
    let took = super::thread_ns() - began;
    // The last ring may still be queued, and the other may not be gone before it heard it.
    seat.ring.submit()?;
    to.send((0, 0)).map_err(io::Error::other)?;
    at.recv().map_err(io::Error::other)?;
    Ok(took)
}

impl Seat {
    fn ring(&mut self, bell: Bell) -> io::Result<()> {
        match bell {
            Bell::EventFd => {
                let one = 1_u64.to_ne_bytes();
                // SAFETY: eight readable bytes; the other thread keeps its descriptor until both are done.
                let wrote = unsafe { libc::write(self.eventfd, one.as_ptr().cast(), one.len()) };
                if wrote < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            }
            Bell::MsgRing => {
                // Goes out with the enter that sleeps next: no call of its own.
                let entry = opcode::MsgRingData::new(types::Fd(self.ring_fd), 0, RUNG, None).build().flags(squeue::Flags::SKIP_SUCCESS);
                // SAFETY: the entry points to no memory.
                unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)
            }
        }
    }

    fn wait(&mut self, bell: Bell) -> io::Result<()> {
        loop {
            if bell == Bell::EventFd && !self.armed {
                let poll = opcode::PollAdd::new(types::Fd(self.own.as_raw_fd()), libc::POLLIN as u32).multi(true).build().user_data(RUNG);
                // SAFETY: the entry points to no memory.
                unsafe { self.ring.submission().push(&poll) }.map_err(io::Error::other)?;
                self.armed = true;
            }
            self.ring.submit_and_wait(1)?;
            let mut rung = false;
            while let Some(entry) = self.ring.completion().next() {
                if entry.user_data() == RUNG {
                    rung = true;
                    self.armed = cqueue::more(entry.flags());
                }
            }
            if rung {
                if bell == Bell::EventFd {
                    let mut count = [0_u8; 8];
                    // SAFETY: eight writable bytes.
                    unsafe { libc::read(self.own.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
                }
                return Ok(());
            }
        }
    }
}

const RUNG: u64 = 2;
