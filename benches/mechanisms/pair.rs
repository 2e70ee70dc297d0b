//! Both ends of a loopback connection on one ring, with the flags and the buffer ring that headrace uses.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// What is done otherwise than headrace does it.
#[derive(Clone, Copy, Default)]
pub struct How {
    pub fixed_file: bool,
    pub poll_first: bool,
    pub skip_success: bool,
    pub zero_copy: bool,
    pub bundle: bool,
}

#[derive(Clone, Copy)]
pub struct Buffers {
    pub size: usize,
    pub count: u16,
    pub incremental: bool,
}

pub struct Pair {
    ring: IoUring,
    client: TcpStream,
    server: TcpStream,
    buffers: Buffers,
    region: Vec<u8>,
    /// The kernel's ring of buffers: page-aligned, so that it is cut out of a larger vector.
    entries: Vec<BufRingEntry>,
    entries_at: usize,
    tail: u16,
}

const SENT: u64 = 1;
const RECEIVED: u64 = 2;

pub fn ring() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(1024).setup_submit_all().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    builder.build(256)
}

impl Pair {
    pub fn new(buffers: Buffers) -> io::Result<Pair> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        client.set_nodelay(true)?;
        let region = vec![0; buffers.size * usize::from(buffers.count)];
        let count = usize::from(buffers.count);
        // SAFETY: entries are plain integers; zero is valid.
        let entries: Vec<BufRingEntry> = (0..count + 512).map(|_| unsafe { std::mem::zeroed() }).collect();
        let entries_at = entries.as_ptr().align_offset(4096);
        let mut pair = Pair { ring: ring()?, client, server, buffers, region, entries, entries_at, tail: 0 };
        let address = pair.entries[pair.entries_at..].as_ptr() as u64;
        let flags = u16::from(buffers.incremental) * INCREMENTAL;
        // SAFETY: the entries live as long as the ring (both are fields; the ring is dropped first).
        unsafe { pair.ring.submitter().register_buf_ring_with_flags(address, buffers.count, 0, flags) }?;
        for id in 0..buffers.count {
            pair.give_back(id);
        }
        Ok(pair)
    }

    fn give_back(&mut self, id: u16) {
        let at = self.entries_at + usize::from(self.tail & (self.buffers.count - 1));
        let address = self.region[usize::from(id) * self.buffers.size..].as_ptr() as u64;
        let entry = &mut self.entries[at];
        entry.set_addr(address);
        entry.set_len(u32::try_from(self.buffers.size).unwrap_or(0));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry of the ring, which is mapped and aligned.
        unsafe {
            let tail = BufRingEntry::tail(&raw const self.entries[self.entries_at]).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Sends `messages` messages of `bytes` and receives each; processor time per message, microseconds.
    pub fn messages(&mut self, messages: u32, bytes: usize, how: How) -> io::Result<f64> {
        let message = vec![b'x'; bytes];
        let receive = if how.bundle {
            opcode::RecvMultiBundle::new(types::Fd(self.server.as_raw_fd()), 0).build()
        } else {
            opcode::RecvMulti::new(types::Fd(self.server.as_raw_fd()), 0).build()
        };
        if how.fixed_file {
            self.ring.submitter().register_files(&[self.client.as_raw_fd()])?;
        }
        self.push(&receive.clone().user_data(RECEIVED))?;
        let began = super::thread_ns();
        for _ in 0..messages {
            let entry = self.send_entry(&message, how);
            self.push(&entry)?;
            let mut unreceived = bytes;
            let mut unheard = if how.skip_success { 0 } else { 1 + u32::from(how.zero_copy) };
            while unreceived > 0 || unheard > 0 {
                self.ring.submit_and_wait(1)?;
                let (received, heard, over) = self.reap(how)?;
                unreceived -= received;
                unheard -= heard;
                if over {
                    self.push(&receive.clone().user_data(RECEIVED))?;
                }
            }
        }
        Ok((super::thread_ns() - began) as f64 / 1000.0 / f64::from(messages))
    }

    fn send_entry(&self, message: &[u8], how: How) -> squeue::Entry {
        let len = u32::try_from(message.len()).unwrap_or(0);
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let fd = types::Fd(self.client.as_raw_fd());
        let mut entry = match (how.zero_copy, how.fixed_file) {
            (true, _) => opcode::SendZc::new(fd, message.as_ptr(), len).flags(flags).build(),
            (_, true) => opcode::Send::new(types::Fixed(0), message.as_ptr(), len).flags(flags).build(),
            _ => opcode::Send::new(fd, message.as_ptr(), len).flags(flags).build(),
        };
        if how.poll_first {
            // SAFETY: an entry is the kernel's 64-byte submission entry; the 16 bits at offset 2 are `ioprio`, where send takes its flags.
            unsafe { (&raw mut entry).cast::<u16>().add(1).write(POLL_FIRST) };
        }
        let quiet = if how.skip_success { squeue::Flags::SKIP_SUCCESS } else { squeue::Flags::empty() };
        entry.flags(quiet).user_data(SENT)
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what an entry points to (the message, the buffers) outlives the loop that waits for its completion.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)
    }

    /// Bytes received, completions of sends, and whether the receive ended.
    fn reap(&mut self, how: How) -> io::Result<(usize, u32, bool)> {
        let (mut received, mut heard, mut over) = (0, 0, false);
        loop {
            let Some(entry) = self.ring.completion().next() else { break };
            let (result, flags) = (entry.result(), entry.flags());
            if entry.user_data() == SENT {
                heard += 1;
                // The notification of a zero-copy send says with its result whether the bytes were copied after all.
                if result < 0 && !cqueue::notif(flags) {
                    return Err(io::Error::from_raw_os_error(-result));
                }
                continue;
            }
            over |= !cqueue::more(flags);
            if result < 0 && result != -libc::ENOBUFS {
                return Err(io::Error::from_raw_os_error(-result));
            }
            let count = usize::try_from(result).unwrap_or(0);
            received += count;
            let Some(first) = cqueue::buffer_select(flags) else { continue };
            self.return_buffers(first, count, how, cqueue::buffer_more(flags));
        }
        Ok((received, heard, over))
    }

    fn return_buffers(&mut self, first: u16, count: usize, how: How, more: bool) {
        if more {
            return;
        }
        let taken = if how.bundle { count.div_ceil(self.buffers.size).max(1) } else { 1 };
        for step in 0..taken {
            let id = (usize::from(first) + step) % usize::from(self.buffers.count);
            self.give_back(u16::try_from(id).unwrap_or(0));
        }
    }
}

/// `IOU_PBUF_RING_INC` and `IORING_RECVSEND_POLL_FIRST` of the kernel's io_uring.h.
const INCREMENTAL: u16 = 2;
const POLL_FIRST: u16 = 1;
