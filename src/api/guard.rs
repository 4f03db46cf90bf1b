//! Who may ask what: every request of a listener goes through its [`Door`] before it comes to a route.
//!
//! On the unix socket the kernel has decided already: only root and the group NAME can connect to it (0660, root:NAME); a mode
//! that somebody opened wider opens nothing here ([`Peer`]). On TCP anybody of this machine can, and a web page in somebody's
//! browser: hence the token, and no foreign `Host` or `Origin`.
//! What a door refuses it refuses before anything is read but the head. It must not know what the routes do, but for
//! `/healthz`, which tells nothing else and wants no token; what a role may do, they ask the [`Caller`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri, header, uri::Authority};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as HttpBody, Bytes};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::caller::{Caller, Who};
use super::error::{Code, Refusal};
use super::failures::Failures;
use super::limits::{self, ANSWER_TIME, BODY, BODY_TIME, Budget, TURN, URL};
use super::server::VERSION;
use super::tokens::Keys;
use crate::config::settings::Auth;
use crate::journal::harmless;
use crate::master::thrift;
use crate::panics;
use crate::say::say;

/// So many connections and requests are worth the millisecond that giving memory back takes.
const MUCH: usize = 256;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, as the kernel says it was when it connected.
    Unix {
        /// Its user.
        uid: u32,
        /// Its number, where it has one here.
        pid: Option<i32>,
        /// Whether it is root, our own user, or of the group that may write to the socket.
        member: bool,
    },
    /// A client over TCP, and the address of ours that it reached.
    Tcp {
        /// Its address.
        from: SocketAddr,
        /// Ours.
        to: SocketAddr,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, pid: Some(pid), .. } => write!(f, "user {uid}, process {pid}"),
            Self::Unix { uid, pid: None, .. } => write!(f, "user {uid}"),
            Self::Tcp { from, .. } => write!(f, "{from}"),
        }
    }
}

/// What TCP's door asks for, as it is now.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The configured address.
    pub host: IpAddr,
    /// Token or none.
    pub auth: Auth,
    /// The tokens; without one nobody comes in where a token is asked for.
    pub keys: watch::Receiver<Arc<Keys>>,
}

/// Says what the rule is now: it changes with the settings.
pub type Rules = Arc<dyn Fn() -> Rule + Send + Sync>;

/// Guards the routes for one listener.
pub struct Door {
    routes: TowerToHyperService<Router>,
    /// None on the unix socket.
    rules: Option<Rules>,
    pub(super) connections: Arc<Semaphore>,
    requests: Semaphore,
    orders: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    failures: Mutex<Failures>,
    /// All its connections.
    most: usize,
    /// Connections and requests since memory was last given back.
    done: AtomicUsize,
    /// On TCP one request works at a time: so many of them cannot crowd out the one of an operator on the unix socket.
    turn: Option<Semaphore>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl Door {
    /// That of the unix socket.
    pub fn unix(routes: Router) -> Arc<Self> {
        Self::new(routes, None, &limits::UNIX)
    }

    /// That of the TCP listener.
    pub fn tcp(routes: Router, rules: Rules) -> Arc<Self> {
        Self::new(routes, Some(rules), &limits::TCP)
    }

    fn new(routes: Router, rules: Option<Rules>, budget: &Budget) -> Arc<Self> {
        Arc::new(Self {
            routes: TowerToHyperService::new(routes),
            turn: rules.is_some().then(|| Semaphore::new(1)),
            rules,
            most: budget.connections,
            done: AtomicUsize::new(0),
            connections: Arc::new(Semaphore::new(budget.connections)),
            requests: Semaphore::new(budget.requests),
            orders: Arc::new(Semaphore::new(budget.orders)),
            streams: Arc::new(Semaphore::new(budget.streams)),
            failures: Mutex::default(),
        })
    }

    /// A connection has left its place. Behind much work, and with the last connection, its memory goes: the heap would keep it.
    pub(super) fn left(&self) {
        if self.connections.available_permits() == self.most && self.done.load(Relaxed) > MUCH {
            self.done.store(0, Relaxed);
            thrift::trim();
        }
    }

    /// A connection came, or a request.
    pub(super) fn came(&self) {
        self.done.fetch_add(1, Relaxed);
    }

    /// The answer to a request. A refusal ends its connection: who was refused has no use for the rest of it.
    pub async fn answer<B>(&self, peer: Peer, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.came();
        let told = self.caller(peer, &request).await;
        // Who knocks over TCP without a token is told no version.
        let known = !matches!(peer, Peer::Tcp { .. }) || matches!(told, Ok(Some(_)));
        let answer = match told {
            Ok(caller) => self.admit(peer, caller, request).await,
            Err(refused) => Err(refused),
        };
        let mut response = answer.unwrap_or_else(|(refusal, header)| {
            let mut response = refusal.into_response();
            response.headers_mut().extend(header.map(|header| *header));
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        });
        if known {
            response.headers_mut().insert(VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
        } else {
            response.headers_mut().remove(VERSION);
        }
        if matches!(peer, Peer::Tcp { .. }) {
            let headers = response.headers_mut();
            for (name, value) in [
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::CACHE_CONTROL, "no-store"),
                (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
            ] {
                headers.entry(name).or_insert(HeaderValue::from_static(value));
            }
        }
        response
    }

    /// Who asks; nobody in particular where only the health is asked for.
    async fn caller<B>(&self, peer: Peer, request: &Request<B>) -> Result<Option<Caller>, Refused> {
        let (from, to) = match peer {
            Peer::Unix { uid, member: true, .. } => return Ok(Some(Caller::of_all(Who::User(uid), self.orders.clone()))),
            Peer::Unix { uid, member: false, .. } => {
                let why =
                    format!("user {uid} is neither root nor of the socket's group: `sudo usermod -aG NAME USER`, NAME being the cluster's");
                return Err(refuse(Code::Forbidden, why));
            }
            Peer::Tcp { from, to } => (from, to),
        };
        let Some(rules) = &self.rules else { return Err(refuse(Code::Unauthorized, "this listener is not for TCP")) };
        let rule = rules();
        addressed(&rule, to, request.uri(), request.headers())?;
        // The settings may say "none" while the socket of the settings of before still listens elsewhere.
        if rule.auth == Auth::None && to.ip().to_canonical().is_loopback() && rule.host.is_loopback() {
            return Ok(Some(Caller::of_all(Who::Address(from.ip().to_canonical()), self.orders.clone())));
        }
        if request.uri().path() == "/healthz" && matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(None);
        }
        let sent = bearer(&rule, request.headers())?;
        let key = rule.keys.borrow().find(sent).cloned();
        if let Some(key) = key {
            return Ok(Some(Caller::by_token(key, rule.keys, self.orders.clone())));
        }
        let penalty = self.failures.lock().unwrap_or_else(PoisonError::into_inner).wrong(from.ip(), Instant::now());
        if let Some(count) = penalty.say {
            say!(
                Warning,
                "{count} {} with a wrong token from {}",
                if count == 1 { "request" } else { "requests" },
                from.ip().to_canonical()
            );
        }
        sleep(penalty.delay).await;
        Err(unauthorized(NO_TOKEN))
    }

    async fn admit<B>(&self, peer: Peer, caller: Option<Caller>, request: Request<B>) -> Result<Response, Refused>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Ok(_place) = self.requests.try_acquire() else { return Err(busy("requests")) };
        let mut request = whole(request).await?;
        let (method, path) = (request.method().clone(), request.uri().path_and_query().map_or("/", |path| path.as_str()));
        let question = method == Method::GET || method == Method::HEAD;
        let order = (!question).then(|| {
            let token = caller.as_ref().map(Caller::who).filter(|who| matches!(who, Who::Token(_)));
            let who = token.map_or_else(|| peer.to_string(), |token| format!("{token}, {peer}"));
            (who, format!("{method} {}", harmless(path)))
        });
        if let Some((who, what)) = &order {
            say!(Info, "{who} orders {what}");
        }
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let answer = self.in_turn(panics::contain(self.routes.call(request)));
        let answer = if question { timeout(ANSWER_TIME, answer).await } else { Ok(answer.await) };
        let response = match answer {
            Ok(Some(Ok(response))) => response,
            Ok(None) => return Err((Refusal::new(Code::Failed, "a mistake in the master; its journal says where"), None)),
            Err(_) => return Err((Refusal::new(Code::Unavailable, format!("no answer within {ANSWER_TIME:?}")), None)),
        };
        if let Some((who, what)) = order.filter(|_| response.status().is_client_error()) {
            say!(Info, "{who} is refused {what} ({})", response.status().as_u16());
        }
        let stream = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if !stream {
            return Ok(response);
        }
        let Ok(place) = self.streams.clone().try_acquire_owned() else { return Err(busy("event streams")) };
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &place;
                frame
            }))
        }))
    }

    /// Work, when it is its turn: after everybody's next step. What then takes longer waits for something, and lets the next one begin.
    async fn in_turn<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(turns) = &self.turn else { return work.await };
        // One connection's pipeline would else be worked off sixteen requests at a time, before anybody else's next step.
        tokio::task::yield_now().await;
        let turn = turns.acquire().await;
        let mut work = std::pin::pin!(work);
        if let Ok(done) = timeout(TURN, work.as_mut()).await {
            return done;
        }
        drop(turn);
        work.await
    }
}

/// A refusal, and the header that goes with it.
type Refused = (Refusal, Option<Box<(header::HeaderName, HeaderValue)>>);

fn refuse(code: Code, detail: impl Into<String>) -> Refused {
    (Refusal::new(code, detail), None)
}

fn busy(what: &str) -> Refused {
    refuse(Code::Busy, format!("too many {what} at once on this listener; try again"))
}

/// The request with its whole body: routes then wait for no client.
async fn whole<B>(request: Request<B>) -> Result<Request<Body>, Refused>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let url = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if url > URL {
        return Err(refuse(Code::UrlTooLong, format!("path and query have {url} bytes, at most {URL} are read")));
    }
    // A proxy in front may see another length in it than we do, and so another next request.
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Err(refuse(Code::LengthRequired, "send the body with Content-Length, not chunked"));
    }
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let too_large = || refuse(Code::TooLarge, format!("a body has at most {BODY} bytes"));
    if body.size_hint().lower() > BODY as u64 {
        return Err(too_large());
    }
    match timeout(BODY_TIME, Limited::new(body, BODY).collect()).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body.to_bytes()))),
        Ok(Err(why)) if why.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(refuse(Code::BadRequest, "the body is not what the headers say")),
        Err(_) => Err(refuse(Code::TooSlow, format!("the body was not there within {BODY_TIME:?}"))),
    }
}

/// Whether the request is for us, and from no other's web page.
fn addressed(rule: &Rule, to: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(refuse(Code::BadRequest, "a request has one Host header"));
    };
    let host = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    let ours = |authority: &Authority| {
        let name = authority.host();
        let ip = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse::<IpAddr>();
        // Any port: a tunnel has another one than we do, and names make the difference, not ports.
        let known = match ip {
            Ok(ip) => ip == rule.host || ip == to.ip().to_canonical() || ip.is_loopback(),
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        };
        // A user name in it has no use here but to deceive.
        known && !authority.as_str().contains('@')
    };
    let Some(host) = host.filter(ours).filter(|_| uri.authority().is_none_or(ours)) else {
        let detail = format!("this is {to}, and the request names another host: ask for it by its IP address and port, or as localhost");
        return Err(refuse(Code::ForeignHost, detail));
    };
    let foreign = || refuse(Code::ForeignOrigin, "a web page of another origin may not ask this");
    if let Some(origin) = headers.get(header::ORIGIN) {
        let same = origin.to_str().ok().and_then(|text| text.strip_prefix("http://")).is_some_and(|origin| origin == host.as_str());
        if !same {
            return Err(foreign());
        }
    }
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"cross-site" | b"same-site") => Err(foreign()),
        _ => Ok(()),
    }
}

/// What is told to who has no token, or a wrong one.
pub(super) const NO_TOKEN: &str = "this is no token: send that of /var/lib/NAME/operators/token, where NAME is the cluster, or one that root made with `project-cluster token add`: `Authorization: Bearer TOKEN`";

fn unauthorized(detail: &str) -> Refused {
    let challenge = HeaderValue::from_static("Bearer realm=\"project-cluster\"");
    (Refusal::new(Code::Unauthorized, detail), Some(Box::new((header::WWW_AUTHENTICATE, challenge))))
}

/// What was sent as a token.
fn bearer<'a>(rule: &Rule, headers: &'a HeaderMap) -> Result<&'a [u8], Refused> {
    if rule.keys.borrow().is_empty() {
        return Err(unauthorized("there is no token yet, so nobody may use the API over TCP: `sudo project-cluster install` makes one"));
    }
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(sent), None) = (sent.next(), sent.next()) else { return Err(unauthorized(NO_TOKEN)) };
    let token = sent.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    token.map(|(_, token)| token.trim_ascii()).ok_or_else(|| unauthorized(NO_TOKEN))
}

/// What a connection is told that is one too many, without a look at what it asks; `told` is the version of the master, where
/// whoever it is may know that.
pub(super) fn one_too_many(told: bool) -> Vec<u8> {
    let problem = Refusal::new(Code::Busy, "too many connections at once on this listener; try again").problem();
    // Strings and a number: what cannot be JSON is not in it.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let version = if told { format!("{VERSION}: {}\r\n", env!("CARGO_PKG_VERSION")) } else { String::new() };
    let mut answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\n{version}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

#[cfg(test)]
mod tests;
