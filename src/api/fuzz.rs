//! Requests of anybody who can connect: heads at the door of the TCP listener, paths of the first version, parameters.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use axum::middleware::map_response;
use axum::response::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{broadcast, watch};

use super::guard::{Door, Peer, Rule};
use super::original::request;
use super::query::{Limit, Slots, Wait, Which};
use super::server::{self, LONGEST_WAIT};
use super::token::{Hash, Token};
use super::tokens::{Keys, Tokens};
use crate::config;
use crate::config::settings::Auth;
use crate::fuzz::{comes_back, harmless};
use crate::intent::Intent;
use crate::journal::Journal;
use crate::master::{Master, Places};
use crate::names::Slot;
use crate::systemd::{self, Change, Details, JobEnd, Systemd, UnitState, Verb};

/// The only token that opens the door.
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Each form that a parameter can have.
#[derive(serde::Deserialize)]
struct Parameters {
    wait: Option<Wait>,
    slots: Option<Slots>,
    which: Option<Which>,
    limit: Option<Limit>,
}

/// First line and headers of a request, then an empty line and its body. The same bytes are files of a token and its hash.
pub fn requests(data: &[u8]) {
    for (read, length) in [(Token::read(data).map(|token| token.as_str().to_owned()), 64), (Hash::read(data).map(|hash| hash.text()), 64)] {
        assert!(read.is_none_or(|text| text.len() == length && data.starts_with(text.as_bytes())));
    }
    if let Ok(tokens) = Tokens::read(data) {
        comes_back(&tokens);
        assert_eq!(Keys::new(None, &tokens).len(), tokens.tokens.len());
    }
    let Some(request) = parse(data) else { return };
    let path = request.uri().path();
    first_version(request.method(), path);
    if let Ok(Query(Parameters { wait, slots, which, limit })) = Query::<Parameters>::try_from_uri(request.uri()) {
        assert!(wait.is_none_or(|wait| wait.0 <= LONGEST_WAIT));
        let few = |slots: &std::collections::BTreeSet<Slot>| !slots.is_empty() && slots.len() <= Slot::MAX.into();
        assert!(slots.is_none_or(|slots| few(&slots.0)));
        assert!(!matches!(which, Some(Which::Slots(slots)) if !few(&slots)));
        assert!(limit.is_none_or(|limit| (1..=1000).contains(&limit.0)));
    }
    knock(request);
}

/// The request of these bytes, where hyper would have taken it.
fn parse(data: &[u8]) -> Option<Request<Full<Bytes>>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(begin) = head.parse(data).ok()? else { return None };
    let mut request = Request::builder().method(head.method?).uri(head.path?);
    for header in head.headers.iter() {
        request = request.header(header.name, header.value);
    }
    request.body(Full::new(Bytes::copy_from_slice(&data[begin..]))).ok()
}

/// What the first version's routes make of it: an order for a selector, or a page on which all is text.
fn first_version(method: &Method, path: &str) {
    if let request::Asked::Change(selector, _) = request::read(method, path) {
        assert!(!selector.is_empty() && path.len() >= selector.len(), "{selector:?} of {path:?}");
    }
    let page = request::not_found(method, path);
    let text = page.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>")).map(|(text, _)| text);
    assert!(text.is_some_and(|text| !text.contains(['<', '>', '"', '\''])), "{page}");
    assert_eq!(page.matches("<pre>").count(), 1, "{page}");
}

/// A systemd that has none of our units and refuses all jobs.
struct Bare(broadcast::Sender<Change>);

impl Bare {
    fn refused<T>(what: &str) -> Result<T, systemd::Error> {
        Err(systemd::Error::Refused { what: what.into(), why: "there is no such unit".into() })
    }
}

impl Systemd for Bare {
    async fn units(&self, _: &[String]) -> Result<Vec<UnitState>, systemd::Error> {
        Ok(Vec::new())
    }
    async fn details(&self, unit: &str) -> Result<Details, systemd::Error> {
        Self::refused(unit)
    }
    async fn active_since(&self, unit: &str) -> Result<u64, systemd::Error> {
        Self::refused(unit)
    }
    async fn job(&self, _: Verb, unit: &str, _: Duration) -> Result<JobEnd, systemd::Error> {
        Self::refused(unit)
    }
    async fn reset_failed(&self, unit: &str) -> Result<(), systemd::Error> {
        Self::refused(unit)
    }
    async fn settle(&self) -> Result<(), systemd::Error> {
        Ok(())
    }
    fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.subscribe()
    }
}

/// The routes of a master with one app that does not run, and a mark on what they answered: it was let in.
fn routes() -> Router {
    let toml = b"[apps.api]\ncommand = \"/bin/true\"\nlisten = 3000\n";
    let loaded = config::load::from_bytes(&[(Path::new("cluster.toml"), toml)], &config::fuzz::Few);
    let settings = loaded.unwrap_or_else(|problems| unreachable!("{problems}")).settings;
    let places = Places { var: "/nowhere/var".into(), run: "/nowhere/run".into() };
    let journal = Journal::read_by("/nowhere/journalctl");
    let master = Master::new(Arc::new(Bare(broadcast::Sender::new(1))), settings, Intent::default(), places, journal);
    server::routes(master).layer(map_response(async |mut response: Response| {
        response.headers_mut().insert(LET_IN, HeaderValue::from_static("yes"));
        response
    }))
}

const LET_IN: HeaderName = HeaderName::from_static("let-in");

thread_local! {
    static RUNTIME: RefCell<Option<(Runtime, Arc<Door>)>> = const { RefCell::new(None) };
}

/// The door of TCP and what is behind it. Who comes in has the token, in one header, and asked for this machine by one name that is its own;
/// who does not is told why, in JSON that can be shown.
fn knock(request: Request<Full<Bytes>>) {
    let (headers, method) = (request.headers().clone(), request.method().clone());
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 8887));
    let peer = Peer::Tcp { from: SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)), to };
    let (status, answer, body) = RUNTIME.with_borrow_mut(|kept| {
        let (runtime, door) = kept.get_or_insert_with(|| {
            let hash = Token::read(TOKEN.as_bytes()).map(|token| token.hash());
            let (_, keys) = watch::channel(Arc::new(Keys::new(hash, &Tokens::default())));
            let rule = move || Rule { host: IpAddr::V4(Ipv4Addr::LOCALHOST), auth: Auth::Token, keys: keys.clone() };
            let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
            let runtime = runtime.unwrap_or_else(|why| unreachable!("no runtime: {why}"));
            let door = runtime.block_on(async { Door::tcp(routes(), Arc::new(rule)) });
            (runtime, door)
        });
        runtime.block_on(async {
            let response = door.answer(peer, request).await;
            let (parts, body) = response.into_parts();
            // A stream has no end.
            let stream = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"text/event-stream");
            let body = if stream { Body::empty() } else { body };
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            (parts.status, parts.headers, body)
        })
    });
    let text = String::from_utf8_lossy(&body);
    assert!(!text.contains(TOKEN) && !text.contains("a mistake in the master"), "{status} for {method}: {text}");
    let kind = answer.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if kind.ends_with(b"json") && method != Method::HEAD {
        let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        assert!(json.is_some(), "{status} for {method}: {text}");
    }
    // Nobody else is told a version.
    if answer.contains_key(LET_IN) || answer.contains_key(server::VERSION) {
        return admitted(&headers);
    }
    assert!(status.is_client_error(), "{status} for {method}");
    let told: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let detail = told.as_ref().and_then(|told| told["detail"].as_str());
    harmless(detail.unwrap_or_else(|| unreachable!("{status} without a word: {body:?}")));
}

/// Who may come in.
fn admitted(headers: &HeaderMap) {
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
    };
    let sent = one(header::AUTHORIZATION).and_then(|sent| sent.split_once(' '));
    let known = sent.is_some_and(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && token.trim() == TOKEN);
    assert!(known, "came in without the token: {headers:?}");
    let host = one(header::HOST).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let local = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    assert!(local && !host.contains('@'), "came in by {host:?}");
    if let Some(origin) = headers.get(header::ORIGIN) {
        assert_eq!(origin.as_bytes(), format!("http://{host}").as_bytes());
    }
}
