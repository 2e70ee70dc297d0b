//! The loop on our runtime: multishot receives into a shared pool, buffers passed on without a copy.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use headrace::runtime::{Clock, Driver, EpollDriver, RealClock, Rt, Socket, UringDriver};
use headrace::sys::net::Address;
use headrace::sys::{BufferPool, EventFd, Lease};

use crate::{BUFFER, answer_len, request_len};

type Pool = Rc<RefCell<Vec<Socket>>>;

/// # Panics
/// When the driver cannot be made.
#[must_use]
pub fn runtime(uring: bool) -> Rt {
    let pool = BufferPool::new(1024, u32::try_from(BUFFER).expect("small")).expect("a pool");
    let bell = EventFd::new().expect("an eventfd");
    let driver: Box<dyn Driver> = if uring {
        Box::new(UringDriver::new(pool, bell).expect("a ring"))
    } else {
        Box::new(EpollDriver::new(pool, bell).expect("an epoll"))
    };
    Rt::new(driver, Clock::from(RealClock::start()))
}

/// # Errors
/// When the runtime breaks.
pub fn serve(uring: bool, upstream: SocketAddr) -> io::Result<()> {
    let rt = runtime(uring);
    let own = rt.clone();
    rt.block_on(async move {
        let listener = own.listen(&Address::Tcp(([127, 0, 0, 1], 0).into()), 1024)?;
        crate::listening(listener.local_addr().expect("an address"));
        let pool = Pool::default();
        loop {
            let client = listener.accept().await?;
            let (rt, pool) = (own.clone(), Rc::clone(&pool));
            own.spawn(async move {
                let _ = connection(&rt, client, upstream, &pool).await;
            });
        }
    })?
}

async fn connection(rt: &Rt, client: Socket, upstream: SocketAddr, pool: &Pool) -> io::Result<()> {
    loop {
        let Some(lease) = client.recv().await? else { return Ok(()) };
        let idle = pool.borrow_mut().pop();
        let up = match idle {
            Some(up) => up,
            None => rt.connect(&Address::Tcp(upstream)).await?,
        };
        pass(&client, &up, lease, request_len).await?;
        let Some(lease) = up.recv().await? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        pass(&up, &client, lease, answer_len).await?;
        pool.borrow_mut().push(up);
    }
}

/// Passes one message on: the usual one lies whole in one buffer, which is sent as it is. Nobody waits for the kernel to have it.
async fn pass(from: &Socket, to: &Socket, first: Lease, len: fn(&[u8]) -> Option<usize>) -> io::Result<()> {
    let mut left = if let Some(len) = len(&first) {
        let left = len - first.len();
        to.start_send(first);
        left
    } else {
        let mut head = first.to_vec();
        loop {
            let Some(lease) = from.recv().await? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            head.extend_from_slice(&lease);
            if let Some(len) = len(&head) {
                let left = len - head.len();
                to.start_send(head);
                break left;
            }
        }
    };
    while left > 0 {
        let Some(lease) = from.recv().await? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        left -= lease.len();
        to.start_send(lease);
    }
    Ok(())
}
