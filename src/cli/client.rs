//! The command line's way to the master: HTTP over its unix socket.
//!
//! It connects again while the master is restarted (PID 1 holds the socket, so a connection waits rather than
//! fails). It must not know what the answers mean.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::types::Problem;
use crate::journal::harmless;
use crate::names::ClusterName;
use crate::place;

/// The largest answer that is read: a thousand workers are half a megabyte.
pub(super) const ANSWER: usize = 16 * 1024 * 1024;

/// The header that says of which version the master is.
pub(super) const VERSION: &str = "project-cluster-version";
/// Longest version that is taken down, characters.
const LONGEST: usize = 40;

/// How long a master that is being restarted may stay away.
pub(crate) const AWAY: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The master cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The connection broke before the answer was there; the request may have been carried out.
    #[error("the connection to the master broke: {0}. What was asked for may be done or not. `project-cluster ls`")]
    Broken(String),
    /// The answer is none that this program understands.
    #[error("the answer of the master cannot be read: {0}. Is it of another version? `systemctl restart` it")]
    Strange(String),
    /// No answer within the limit.
    #[error("no answer from the master within {0:?}. It may be stopped: `systemctl status {1}`")]
    Late(Duration, String),
    /// The master says no.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
}

/// A client of one cluster's master.
#[derive(Debug, Clone)]
pub struct Client {
    cluster: ClusterName,
    path: PathBuf,
    /// Of which version the master says it is; its clones hear the same.
    version: Arc<OnceLock<String>>,
}

impl Client {
    /// Of this cluster.
    pub fn new(cluster: &ClusterName) -> Self {
        Self::at(cluster, place::here().paths.api(cluster))
    }

    /// Of the one that listens there.
    pub(super) fn at(cluster: &ClusterName, path: PathBuf) -> Self {
        Self { cluster: cluster.clone(), path, version: Arc::default() }
    }

    /// What to say of a master of another version than this program; none where it did not say, or is of the same.
    pub fn version_note(&self) -> Option<String> {
        let (ours, theirs) = (env!("CARGO_PKG_VERSION"), self.version.get()?);
        let parts = |text: &str| text.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok()).collect::<Vec<_>>();
        let next = match parts(theirs).cmp(&parts(ours)) {
            _ if theirs == ours => return None,
            Ordering::Greater => "install that version of this command, too".to_owned(),
            _ => format!("`sudo systemctl restart {}` has it run what is installed; workers go on", self.cluster),
        };
        Some(format!("the master is of version {}, this command of {ours}: {next}", harmless(theirs)))
    }

    /// Takes down what an answer says of its master's version.
    pub(super) fn hear(&self, version: Option<&[u8]>) {
        if let Some(text) = version.and_then(|version| str::from_utf8(version).ok()) {
            // The first one counts: a master that is restarted meanwhile may be of another, and the next command hears it.
            let _ = self.version.set(text.chars().take(LONGEST).collect());
        }
    }

    /// Where it listens.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn late(&self, limit: Duration) -> Error {
        Error::Late(limit, self.cluster.master())
    }

    /// One request; the answer must be there within `limit`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn call<T: DeserializeOwned>(&self, method: Method, uri: &str, limit: Duration) -> Result<T, Error> {
        self.read(timeout(limit, self.exchange(method, uri)).await.map_err(|_| self.late(limit))??)
    }

    /// What an answer says.
    pub(super) fn read<T: DeserializeOwned>(&self, (status, body): (StatusCode, impl AsRef<[u8]>)) -> Result<T, Error> {
        let body = body.as_ref();
        if status.is_success() {
            return serde_json::from_slice(body).map_err(|why| Error::Strange(why.to_string()));
        }
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Err(Error::Refused(Box::new(problem))),
            Err(_) => Err(Error::Strange(status.to_string())),
        }
    }

    /// [`Self::call`], again while the connection breaks: of what does no harm twice. A master that dies takes the
    /// connections with it that it had accepted; PID 1 holds its socket and starts it again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn insist<T: DeserializeOwned>(&self, method: Method, uri: &str, limit: Duration) -> Result<T, Error> {
        let end = Instant::now() + AWAY;
        loop {
            match self.call(method.clone(), uri, limit).await {
                Err(Error::Broken(_)) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(100)).await,
                other => return other,
            }
        }
    }

    /// Asks for a stream that has no end; its head must be there within `limit`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream(&self, uri: &str, limit: Duration) -> Result<Stream, Error> {
        let (response, driver) = timeout(limit, self.send(Method::GET, uri)).await.map_err(|_| self.late(limit))??;
        let (status, body) = (response.status(), response.into_body());
        if status.is_success() {
            return Ok(Stream { body, _driver: driver });
        }
        let body = timeout(limit, Limited::new(body, ANSWER).collect()).await.map_err(|_| self.late(limit))?;
        let body = body.map_err(|why| Error::Broken(why.to_string()))?.to_bytes();
        Err(serde_json::from_slice::<Problem>(&body)
            .map_or_else(|_| Error::Strange(status.to_string()), |problem| Error::Refused(Box::new(problem))))
    }

    async fn exchange(&self, method: Method, uri: &str) -> Result<(StatusCode, Bytes), Error> {
        let (response, _driver) = self.send(method, uri).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER).collect().await.map_err(|why| Error::Broken(why.to_string()))?;
        Ok((status, body.to_bytes()))
    }

    /// Sends a request; the answer's head, and what reads the rest of it as long as it is kept.
    async fn send(&self, method: Method, uri: &str) -> Result<(Response<Incoming>, Driver), Error> {
        let broken = |why: &dyn std::fmt::Display| Error::Broken(why.to_string());
        let stream = UnixStream::connect(&self.path).await.map_err(|why| self.unreachable(&why))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|why| broken(&why))?;
        // An error of it comes out of the request as well.
        let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::HOST, "localhost")
            .body(Full::<Bytes>::default())
            .map_err(|why| broken(&why))?;
        let response = sender.send_request(request).await.map_err(|why| broken(&why))?;
        self.hear(response.headers().get(VERSION).map(header::HeaderValue::as_bytes));
        Ok((response, driver))
    }

    pub(super) fn unreachable(&self, why: &std::io::Error) -> Error {
        use std::io::ErrorKind;
        let (path, name) = (self.path.display(), &self.cluster);
        if let Some(absent) = place::here().absent() {
            return Error::Unreachable(absent);
        }
        Error::Unreachable(match why.kind() {
            ErrorKind::NotFound => format!(
                "there is no {path}: the cluster `{name}` is not installed or its socket is down. Start it: `systemctl start {}`, or install it: `project-cluster install --now`",
                self.cluster.api_socket()
            ),
            ErrorKind::ConnectionRefused => {
                format!("nobody listens on {path}. Start the socket: `systemctl restart {}`", self.cluster.api_socket())
            }
            ErrorKind::PermissionDenied => {
                format!(
                    "you may not use {path}: run it as root, or join the group `{name}`: `sudo usermod -aG {name} $USER`, then log in again"
                )
            }
            _ => format!("{path} cannot be reached: {why}"),
        })
    }
}

/// The task that moves the bytes of one connection; it ends with this.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer without an end.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    _driver: Driver,
}

impl Stream {
    /// The next bytes; something must come within `limit`.
    ///
    /// # Errors
    /// `Broken` when the connection ended, or nothing came in time.
    pub async fn next(&mut self, limit: Duration) -> Result<Bytes, Error> {
        loop {
            let frame = timeout(limit, self.body.frame()).await;
            let frame = frame.map_err(|_| Error::Broken(format!("nothing came within {limit:?}")))?;
            let frame = frame.ok_or_else(|| Error::Broken("it ended".into()))?.map_err(|why| Error::Broken(why.to_string()))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn a_master_that_dies_under_a_request_is_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let client = Client::at(&ClusterName::default(), directory.path().join("api.sock"));
        let listener = UnixListener::bind(&client.path).unwrap();
        let master = async {
            for _ in 0..3 {
                let (mut dying, _) = listener.accept().await.unwrap();
                assert!(dying.read(&mut [0; 4096]).await.unwrap() > 0);
            }
            let (mut alive, _) = listener.accept().await.unwrap();
            assert!(alive.read(&mut [0; 4096]).await.unwrap() > 0);
            alive.write_all(b"HTTP/1.1 200 OK\r\nproject-cluster-version: 99.0.0\r\ncontent-length: 1\r\n\r\n7").await.unwrap();
        };
        let limit = Duration::from_secs(10);
        let ask = async {
            // What counts twice is asked for once, and who asked is told how to see whether it is done.
            let broken = client.call::<u32>(Method::POST, "/v1/apps/api/add", limit).await.unwrap_err().to_string();
            (broken, client.insist::<u32>(Method::POST, "/v1/apps/api/rolls", limit).await)
        };
        let ((broken, answer), ()) = tokio::join!(ask, master);
        assert_eq!(answer.unwrap(), 7);
        assert!(broken.ends_with("may be done or not. `project-cluster ls`"), "{broken}");
        assert!(client.clone().version_note().unwrap().contains("version 99.0.0"), "it was heard with the answer");
        drop(listener);
        assert!(matches!(client.insist::<u32>(Method::GET, "/", limit).await, Err(Error::Unreachable(_))), "at once");
    }
    #[test]
    fn another_version_is_told_with_what_to_do() {
        let note = |version: &str| {
            let client = Client::new(&"shop".parse().unwrap());
            client.hear(Some(version.as_bytes()));
            client.version_note()
        };
        assert_eq!(note(env!("CARGO_PKG_VERSION")), None);
        assert_eq!(Client::new(&ClusterName::default()).version_note(), None, "one that says nothing");
        assert!(note("99.0.0").unwrap().ends_with("install that version of this command, too"));
        for older in ["1.99.99", "0.1.0-rc.1", "none"] {
            assert!(note(older).unwrap().contains("`sudo systemctl restart shop`"), "{older}");
        }
        assert!(!note(&"\u{1b}[2J".repeat(100)).unwrap().contains('\u{1b}'));
    }
}
