//! The loop on monoio: one buffer per direction and connection, owned by the operation in flight.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

use crate::{BUFFER, answer_len, request_len};

type Pool = Rc<RefCell<Vec<TcpStream>>>;

/// `defer`: with the ring flags that ours has (DEFER_TASKRUN, SINGLE_ISSUER, COOP_TASKRUN); else with monoio's own, which are none.
///
/// # Errors
/// When the ring cannot be made or the address not bound.
pub fn serve(defer: bool, upstream: SocketAddr) -> io::Result<()> {
    let mut ring = io_uring::IoUring::builder();
    if defer {
        ring.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun();
    }
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        crate::listening(listener.local_addr()?);
        let pool = Pool::default();
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            let pool = Rc::clone(&pool);
            monoio::spawn(async move {
                let _ = connection(client, upstream, &pool).await;
            });
        }
    })
}

async fn connection(mut client: TcpStream, upstream: SocketAddr, pool: &Pool) -> io::Result<()> {
    let (mut inbound, mut outbound) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
    loop {
        inbound = match receive(&mut client, inbound).await? {
            (0, _) => return Ok(()),
            (_, buffer) => buffer,
        };
        let idle = pool.borrow_mut().pop();
        let mut up = match idle {
            Some(up) => up,
            None => {
                let up = TcpStream::connect(upstream).await?;
                up.set_nodelay(true)?;
                up
            }
        };
        inbound = pass(&mut client, &mut up, inbound, request_len).await?;
        outbound = match receive(&mut up, outbound).await? {
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (_, buffer) => buffer,
        };
        outbound = pass(&mut up, &mut client, outbound, answer_len).await?;
        pool.borrow_mut().push(up);
    }
}

/// Fills an empty buffer with what comes next.
async fn receive(from: &mut TcpStream, mut buffer: Vec<u8>) -> io::Result<(usize, Vec<u8>)> {
    buffer.clear();
    let (count, buffer) = from.read(buffer).await;
    Ok((count?, buffer))
}

/// Passes on the message whose beginning lies in `buffer`.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, mut buffer: Vec<u8>, len: fn(&[u8]) -> Option<usize>) -> io::Result<Vec<u8>> {
    let mut left = loop {
        if let Some(len) = len(&buffer) {
            break len - buffer.len();
        }
        let at = buffer.len();
        buffer.reserve(BUFFER);
        let (count, rest) = from.read(buffer.slice_mut(at..)).await;
        buffer = rest.into_inner();
        if count? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    loop {
        let (sent, back) = to.write_all(buffer).await;
        sent?;
        buffer = back;
        if left == 0 {
            return Ok(buffer);
        }
        let (count, filled) = receive(from, buffer).await?;
        buffer = filled;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= count;
    }
}
