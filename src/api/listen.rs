//! A listener of the API: accepts, bounds each connection, and hands what it asks to the [`Door`].
//!
//! Not `axum::serve`, which bounds neither the connections nor how long a head may take, and knows no peer on a unix socket.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::guard::{Door, Peer, one_too_many};
use super::limits::{HEAD, HEAD_TIME, PAUSE};
use super::stall::Stalling;
use crate::say::say;

/// A socket that systemd passed.
#[derive(Debug)]
pub enum Listener {
    /// `NAME.socket`.
    Unix(UnixListener),
    /// `NAME-tcp.socket`.
    Tcp(TcpListener),
}

/// One connection of either kind.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let who = stream.peer_cred()?;
                let peer = Peer::Unix { uid: who.uid(), pid: who.pid() };
                Ok((Stream::Unix(stream), peer))
            }
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                let to = stream.local_addr()?;
                Ok((Stream::Tcp(stream), Peer::Tcp { from, to }))
            }
        }
    }

    /// Serves for ever.
    pub async fn serve(self, door: Arc<Door>) {
        // Said once for as long as it lasts.
        let mut failing = false;
        loop {
            let (stream, peer) = match self.accept().await {
                Ok(accepted) => accepted,
                Err(why) if of_the_connection(&why) => continue,
                Err(why) => {
                    if !std::mem::replace(&mut failing, true) {
                        say!(Warning, "the API cannot accept connections ({why}); trying again");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            failing = false;
            let Ok(place) = Arc::clone(&door.connections).try_acquire_owned() else {
                stream.turn_away();
                continue;
            };
            let door = Arc::clone(&door);
            tokio::spawn(async move {
                match stream {
                    Stream::Unix(stream) => converse(stream, peer, door).await,
                    Stream::Tcp(stream) => converse(stream, peer, door).await,
                }
                drop(place);
            });
        }
    }
}

/// Whether this very connection is gone already, and the next one may be fine.
fn of_the_connection(why: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(why.kind(), ConnectionAborted | ConnectionReset | NotConnected | Interrupted | BrokenPipe)
}

impl Stream {
    /// Says that it is one too many, as far as that can be said without waiting.
    fn turn_away(self) {
        let answer = one_too_many();
        let _ = match self {
            Self::Unix(stream) => stream.try_write(&answer),
            Self::Tcp(stream) => stream.try_write(&answer),
        };
    }
}

/// All requests of one connection, one after the other.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer, door: Arc<Door>) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD)
        .serve_connection(Stalling::new(stream), service);
    // A client that breaks off, or sends what is no HTTP, harms itself alone.
    drop(connection.await);
}
