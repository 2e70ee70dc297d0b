//! The loop on glommio: its streams as they are, one buffer per direction and connection.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{GlommioError, LocalExecutorBuilder, Placement};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{BUFFER, answer_len, request_len};

type Pool = Rc<RefCell<Vec<TcpStream>>>;

/// # Errors
/// When the executor cannot be made or the address not bound.
pub fn serve(upstream: SocketAddr) -> io::Result<()> {
    let io_memory = locked_memory();
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(io_memory).make().map_err(plain)?;
    executor.run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(plain)?;
        crate::listening(listener.local_addr().map_err(plain)?);
        let pool = Pool::default();
        loop {
            let client = listener.accept().await.map_err(plain)?;
            client.set_nodelay(true).map_err(plain)?;
            let pool = Rc::clone(&pool);
            glommio::spawn_local(async move {
                let _ = connection(client, upstream, &pool).await;
            })
            .detach();
        }
    })
}

/// glommio locks its buffers (10 MiB by default) and three rings: with 8 MiB of RLIMIT_MEMLOCK, as many systems have, it gets 2 MiB
/// unless the limit can be raised. The loop's buffers do not come out of it.
fn locked_memory() -> usize {
    let wanted = Rlimit { current: Some(64 << 20), maximum: Some(64 << 20) };
    let limit = getrlimit(Resource::Memlock).current;
    let is_enough = limit.is_none_or(|limit| limit >= 64 << 20);
    if is_enough || setrlimit(Resource::Memlock, wanted).is_ok() { 10 << 20 } else { 2 << 20 }
}

/// Its errors may hold a panic's payload, which is not `Sync`.
fn plain(error: GlommioError<()>) -> io::Error {
    io::Error::other(error.to_string())
}

async fn connection(mut client: TcpStream, upstream: SocketAddr, pool: &Pool) -> io::Result<()> {
    let (mut inbound, mut outbound) = ([0; BUFFER], [0; BUFFER]);
    loop {
        let count = client.read(&mut inbound).await?;
        if count == 0 {
            return Ok(());
        }
        let idle = pool.borrow_mut().pop();
        let mut up = match idle {
            Some(up) => up,
            None => {
                let up = TcpStream::connect(upstream).await.map_err(plain)?;
                up.set_nodelay(true).map_err(plain)?;
                up
            }
        };
        pass(&mut client, &mut up, &mut inbound, count, request_len).await?;
        let count = up.read(&mut outbound).await?;
        pass(&mut up, &mut client, &mut outbound, count, answer_len).await?;
        pool.borrow_mut().push(up);
    }
}

/// Passes on the message of which `count` bytes lie in `buffer`.
async fn pass(
    from: &mut TcpStream,
    to: &mut TcpStream,
    buffer: &mut [u8; BUFFER],
    mut count: usize,
    len: fn(&[u8]) -> Option<usize>,
) -> io::Result<()> {
    let mut left = loop {
        if let Some(len) = len(&buffer[..count]) {
            break len - count;
        }
        match from.read(&mut buffer[count..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => count += more,
        }
    };
    loop {
        to.write_all(&buffer[..count]).await?;
        if left == 0 {
            return Ok(());
        }
        count = from.read(buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= count;
    }
}
