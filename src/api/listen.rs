//! A listener of the API: accepts, bounds each connection, and hands what it asks to the [`Door`].
//!
//! Not `axum::serve`, which bounds neither the connections nor how long a head may take, and knows no peer on a unix socket.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::UCred;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

use super::guard::{Door, Peer, one_too_many};
use super::limits::{HEAD, HEAD_TIME, PAUSE};
use super::stall::Stalling;
use crate::say::say;
use crate::worker::sys::process::effective_uid;
use crate::worker::sys::sockets::peer_groups;

/// Until it is said once more that connections cannot be accepted.
const SILENCE: Duration = Duration::from_secs(60);

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
                let peer = Peer::Unix { uid: who.uid(), pid: who.pid(), member: is_member(&stream, listener, who) };
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
        let mut said: Option<Instant> = None;
        loop {
            let (stream, peer) = match self.accept().await {
                Ok(accepted) => accepted,
                Err(why) if of_the_connection(&why) => continue,
                Err(why) => {
                    if said.is_none_or(|said| said.elapsed() > SILENCE) {
                        said = Some(Instant::now());
                        say!(Warning, "the API cannot accept connections ({why}); trying again");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&door.connections).try_acquire_owned() else {
                stream.turn_away();
                continue;
            };
            door.came();
            let (door, door_of_it) = (Arc::clone(&door), Arc::clone(&door));
            tokio::spawn(async move {
                match stream {
                    Stream::Unix(stream) => converse(stream, peer, door).await,
                    Stream::Tcp(stream) => converse(stream, peer, door).await,
                }
                drop(place);
                door_of_it.left();
            });
            // A flood would else be accepted a hundred at a time.
            tokio::task::yield_now().await;
        }
    }
}

/// Whether the other side is root, our own user, or of the group that may write to the socket: the mode of the socket says so
/// already, and a drop-in that opens it to all would else open the cluster.
fn is_member(stream: &UnixStream, listener: &UnixListener, who: UCred) -> bool {
    if who.uid() == 0 || who.uid() == effective_uid() {
        return true;
    }
    let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
    let Some(socket) = path.and_then(|path| std::fs::metadata(path).ok()) else { return false };
    socket.mode() & 0o020 != 0
        && (who.gid() == socket.gid() || peer_groups(stream.as_fd()).is_ok_and(|groups| groups.contains(&socket.gid())))
}

/// Whether this very connection is gone already, and the next one may be fine.
fn of_the_connection(why: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(why.kind(), ConnectionAborted | ConnectionReset | NotConnected | Interrupted | BrokenPipe)
}

impl Stream {
    /// Says that it is one too many, as far as that can be said without waiting.
    fn turn_away(self) {
        let answer = one_too_many(matches!(self, Self::Unix(_)));
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

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::api::events::{Happening, Kind};
    use crate::api::limits::{STALL, UNIX};
    use crate::api::server;
    use crate::intent::Intent;
    use crate::journal::Journal;
    use crate::master::events::READERS;
    use crate::master::{Master, Places};
    use crate::systemd::fake::{App, Fake};

    fn door() -> Arc<Door> {
        Door::unix(Router::new().route("/", get(async || "fine")).route("/large", get(async || vec![b'x'; 1 << 20])))
    }

    const OPERATOR: Peer = Peer::Unix { uid: 0, pid: None, member: true };

    /// How long a connection lives whose client sends this, and what it gets.
    async fn life(sent: &[u8], dribble: bool) -> (Duration, String) {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let begun = Instant::now();
        let serving = tokio::spawn(converse(near, OPERATOR, door()));
        far.write_all(sent).await.unwrap();
        let (mut got, mut client) = tokio::io::split(far);
        let dribbling = async {
            while dribble && client.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let mut answer = Vec::new();
        let reading = async {
            got.read_to_end(&mut answer).await.unwrap();
        };
        let (_, served) = tokio::join!(
            async {
                tokio::select! { () = dribbling, if dribble => {}, () = reading => {} }
            },
            serving
        );
        served.unwrap();
        (begun.elapsed(), String::from_utf8(answer).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_ends_the_connection() {
        let near = |took: Duration| took >= HEAD_TIME && took < HEAD_TIME + Duration::from_secs(3);
        for (sent, dribble) in [(&b""[..], false), (b"GET / HTTP/1.1\r\nX: ", false), (b"GET / HTTP/1.1\r\nX: ", true)] {
            let (took, answer) = life(sent, dribble).await;
            assert!(near(took) && answer.is_empty(), "{sent:?}: {took:?}, {answer}");
        }
        // The same where it rests behind an answer.
        let (took, answer) = life(b"GET / HTTP/1.1\r\n\r\n", false).await;
        assert!(near(took) && answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fine"), "{took:?}, {answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_let_go() {
        let (near, mut far) = tokio::io::duplex(1024);
        let serving = tokio::spawn(converse(near, OPERATOR, door()));
        far.write_all(b"GET /large HTTP/1.1\r\n\r\n").await.unwrap();
        timeout(2 * STALL, serving).await.expect("it has ended").unwrap();
    }

    /// The whole way: the ring, the route, the door, the connection.
    #[tokio::test(start_paused = true)]
    async fn a_reader_of_events_that_takes_nothing_is_let_go_and_its_place_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("cluster.toml");
        std::fs::write(&config, "[apps.api]\nworkers = 1\ncommand = \"/bin/true\"\n").unwrap();
        let settings = crate::config::load(&config, &crate::config::SystemAccounts).unwrap().settings;
        let places = Places { var: directory.path().join("var"), run: directory.path().join("run") };
        let fake = Arc::new(Fake::new(|_, _| App::ready_after(Duration::ZERO)));
        let master = Master::new(fake, settings, Intent::default(), places, Journal::read_by("true"));
        let door = Door::unix(server::routes(master.clone()));
        let (near, mut far) = tokio::io::duplex(1024);
        let serving = tokio::spawn(converse(near, OPERATOR, door));
        far.write_all(b"GET /v1/events HTTP/1.1\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        far.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        // One that reads lives beside it for as long as that takes.
        let (other, mut reads) = tokio::io::duplex(1024);
        let beside = tokio::spawn(converse(other, OPERATOR, Door::unix(server::routes(master.clone()))));
        reads.write_all(b"GET /v1/events HTTP/1.1\r\n\r\n").await.unwrap();
        let reading = tokio::spawn(async move { while reads.read(&mut [0; 256]).await.is_ok_and(|count| count > 0) {} });
        for _ in 0..500 {
            master.events().tell(Happening::new(Kind::Start, "x".repeat(100)));
        }
        timeout(2 * STALL, serving).await.expect("it has ended").unwrap();
        assert!(!beside.is_finished());
        let free: Vec<_> = std::iter::from_fn(|| master.events().reader(None).ok()).collect();
        assert_eq!(free.len(), READERS - 1);
        reading.abort();
    }

    #[tokio::test]
    async fn a_connection_too_many_is_told_so_and_the_next_one_finds_the_place_of_one_that_went() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let door = door();
        let serving = tokio::spawn(Listener::Unix(listener).serve(Arc::clone(&door)));
        let held: Vec<_> =
            Arc::clone(&door.connections).try_acquire_many_owned(u32::try_from(UNIX.connections).unwrap()).into_iter().collect();
        let ask = async || {
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.ok();
            // Behind the answer there may be an error: what was sent was not read.
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.ok();
            String::from_utf8(answer).unwrap()
        };
        let limit = Duration::from_secs(10);
        assert!(timeout(limit, ask()).await.unwrap().starts_with("HTTP/1.1 503 "));
        drop(held);
        assert!(timeout(limit, ask()).await.unwrap().starts_with("HTTP/1.1 200 "));
        serving.abort();
    }
}
