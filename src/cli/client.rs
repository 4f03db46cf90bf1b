//! The command line's way to the master: HTTP over its unix socket.
//!
//! It connects again while the master is restarted (PID 1 holds the socket, so a connection waits rather than
//! fails), and asks again where the master says that it has too much to do. It must not know what the answers mean.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use super::table;
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

/// How long a master that is being restarted, or has too much to do, may stay away.
pub(crate) const AWAY: Duration = Duration::from_secs(30);
/// How long what goes wrong for a moment is left alone before it is tried again.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// Longest part of a command's time that is kept for the way of an answer.
const MARGIN: Duration = Duration::from_millis(500);

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
    #[error("no answer from the master within {limit}. It may be stopped: `systemctl status {master}`", limit = table::time(*.0), master = .1)]
    Late(Duration, String),
    /// The master says no.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
}

impl Error {
    /// Of a refusal the stable word for programs.
    pub fn code(&self) -> Option<&str> {
        if let Self::Refused(problem) = self { Some(&problem.code) } else { None }
    }

    /// Whether the master says that it cannot for the moment: it has too much to do, or systemd does not answer it.
    pub(super) fn passes(&self) -> bool {
        matches!(self.code(), Some("busy" | "unavailable"))
    }
}

/// The end of a command's time, and how long that is in all.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    of: Duration,
}

/// A client of one cluster's master.
#[derive(Debug, Clone)]
pub struct Client {
    cluster: ClusterName,
    path: PathBuf,
    deadline: Option<Deadline>,
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
        Self { cluster: cluster.clone(), path, deadline: None, version: Arc::default() }
    }

    /// One that waits no longer than this from now, whatever it is asked for; none has no such end.
    pub(super) fn within(&self, limit: Option<Duration>) -> Self {
        let deadline = limit.map(|of| Deadline { at: Instant::now() + of, of });
        Self { deadline, ..self.clone() }
    }

    /// What is left of its time, none where that has no end.
    pub(super) fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.at.saturating_duration_since(Instant::now()))
    }

    /// How long the master may be asked to wait, of at most so long: the answer must still come in time.
    pub(super) fn patience(&self, most: Duration) -> Duration {
        self.left().map_or(most, |left| left.saturating_sub(MARGIN.min(left / 10)).min(most))
    }

    /// Until when a request is waited for that may take `limit`, and how long that is for people.
    fn bound(&self, limit: Duration) -> (tokio::time::Instant, Duration) {
        let end = Instant::now() + limit;
        let (end, of) = self.deadline.filter(|deadline| deadline.at < end).map_or((end, limit), |deadline| (deadline.at, deadline.of));
        (end.into(), of)
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
        let (end, of) = self.bound(limit);
        self.read(timeout_at(end, self.exchange(method, uri)).await.map_err(|_| self.late(of))??)
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

    /// [`Self::call`], again while the connection breaks or the master cannot for the moment: of what does no harm twice.
    /// A master that dies takes the connections with it that it had accepted; PID 1 holds its socket and starts it again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn insist<T: DeserializeOwned>(&self, method: Method, uri: &str, limit: Duration) -> Result<T, Error> {
        self.persist(method, || uri.to_owned(), limit, true).await
    }

    /// The same with a request that is worded anew each time; where it does harm twice (`!repeatable`), again only behind a
    /// refusal that says that nothing was done.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn persist<T: DeserializeOwned>(
        &self,
        method: Method,
        uri: impl Fn() -> String,
        limit: Duration,
        repeatable: bool,
    ) -> Result<T, Error> {
        let first = Instant::now();
        let mut away = None;
        loop {
            let begun = Instant::now();
            let error = match self.call(method.clone(), &uri(), limit).await {
                Err(error) if error.code() == Some("busy") || repeatable && (error.passes() || matches!(error, Error::Broken(_))) => error,
                other => return other,
            };
            let since = match &error {
                // A systemd that takes long to refuse is not waited for anew each time.
                Error::Refused(_) if error.code() == Some("unavailable") => first,
                // One that has waited with us for long was there until now.
                _ if begun.elapsed() > AWAY => *away.insert(Instant::now()),
                _ => *away.get_or_insert(begun),
            };
            if since.elapsed() > AWAY || self.left().is_some_and(|left| left < PAUSE) {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
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
        let body = Limited::new(response.into_body(), ANSWER).collect().await.map_err(|why| match why.is::<LengthLimitError>() {
            // Asked again it would be as long.
            true => Error::Strange(format!("it is longer than {ANSWER} bytes")),
            false => Error::Broken(why.to_string()),
        })?;
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
pub(super) mod tests;
