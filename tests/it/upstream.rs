//! A model server by script: a thread per connection, every request read by `strict`, and kept. It fails its test when the gateway
//! sent anything that has two readings. For servers that compute, see `headrace::mock`.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use crate::gate::PATIENCE;
use crate::strict::{Reader, Refused, Seen};

/// What to do with a request.
pub(crate) enum Reply {
    Bytes(Vec<u8>),
    /// Sends this and closes.
    ThenClose(Vec<u8>),
}

pub(crate) struct Upstream {
    shared: Arc<Shared>,
    pub(crate) addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    wrong: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
}

impl Upstream {
    /// The script gets each request and how many came before it on its connection.
    pub(crate) fn new(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Upstream {
        Upstream::raw(move |stream, shared| {
            let mut reader = Reader::new(stream.try_clone().unwrap());
            for number in 0.. {
                let seen = match reader.request() {
                    Ok(seen) => seen,
                    Err(Refused::Ended(_)) => return,
                    Err(Refused::Ambiguous(why)) => return shared.wrong.lock().unwrap().push(why),
                };
                shared.seen.lock().unwrap().push(seen.clone());
                match script(&seen, number) {
                    Reply::Bytes(bytes) if stream.write_all(&bytes).is_ok() => {}
                    Reply::Bytes(_) => return,
                    Reply::ThenClose(bytes) => return drop(stream.write_all(&bytes)),
                }
            }
        })
    }

    /// Connections are served by `serve`, byte by byte.
    pub(crate) fn streams(serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Upstream {
        Upstream::raw(move |stream, _| serve(stream))
    }

    fn raw(serve: impl Fn(&mut TcpStream, &Shared) + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (shared, serve) = (Arc::new(Shared::default()), Arc::new(serve));
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                if of_thread.stopping.load(Ordering::Acquire) {
                    break;
                }
                let Ok(mut stream) = stream else { continue };
                stream.set_nodelay(true).unwrap();
                of_thread.connections.lock().unwrap().push(stream.try_clone().unwrap());
                let (shared, serve) = (Arc::clone(&of_thread), Arc::clone(&serve));
                threads.push(std::thread::spawn(move || {
                    serve(&mut stream, &shared);
                    // The list above holds a duplicate: only this ends the connection.
                    let _ = stream.shutdown(Shutdown::Both);
                }));
            }
            drop(listener);
            for thread in threads {
                let _ = thread.join();
            }
        });
        Upstream { shared, addr, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.addr);
        for stream in self.shared.connections.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let wrong = self.shared.wrong.lock().unwrap();
        if !std::thread::panicking() {
            assert!(wrong.is_empty(), "the upstream was sent what has two readings: {wrong:#?}");
        }
    }
}

/// A door that scripts wait at until the test opens it.
#[derive(Clone, Default)]
pub(crate) struct Door(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Door {
    pub(crate) fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.1 += 1;
        let (state, late) = self.0.1.wait_timeout_while(state, PATIENCE, |state| !state.0).unwrap();
        drop(state);
        assert!(!late.timed_out(), "nobody opens the door");
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().0 = true;
        self.0.1.notify_all();
    }

    /// How many came to it so far.
    pub(crate) fn came(&self) -> usize {
        self.0.0.lock().unwrap().1
    }
}

/// A whole answer with a length.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}
