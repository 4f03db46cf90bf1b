//! Requests of anybody who can connect: heads at the door of the TCP listener, paths of the first version, parameters.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::Query;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use tokio::runtime::{Builder, Runtime};

use super::guard::{Door, Peer, Rule};
use super::original::request;
use super::query::{Limit, Slots, Wait, Which};
use super::server::LONGEST_WAIT;
use super::token::{Hash, Token};
use crate::config::settings::Auth;
use crate::fuzz::harmless;
use crate::names::Slot;

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
fn first_version(method: &axum::http::Method, path: &str) {
    if let request::Asked::Change(selector, _) = request::read(method, path) {
        assert!(!selector.is_empty() && path.len() >= selector.len(), "{selector:?} of {path:?}");
    }
    let page = request::not_found(method, path);
    let text = page.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>")).map(|(text, _)| text);
    assert!(text.is_some_and(|text| !text.contains(['<', '>', '"', '\''])), "{page}");
    assert_eq!(page.matches("<pre>").count(), 1, "{page}");
}

thread_local! {
    static RUNTIME: RefCell<Option<(Runtime, Arc<Door>)>> = const { RefCell::new(None) };
}

/// The door of TCP: who comes in has the token, in one header, and asked for this machine by one name that is its own;
/// who does not is told why, in JSON that can be shown.
fn knock(request: Request<Full<Bytes>>) {
    let (headers, method) = (request.headers().clone(), request.method().clone());
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 8887));
    let peer = Peer::Tcp { from: SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)), to };
    let (status, answer, body) = RUNTIME.with_borrow_mut(|kept| {
        let (runtime, door) = kept.get_or_insert_with(|| {
            let routes = Router::new().fallback(|| async { StatusCode::NO_CONTENT });
            let hash = Token::read(TOKEN.as_bytes()).map(|token| token.hash());
            let rule = Rule { host: IpAddr::V4(Ipv4Addr::LOCALHOST), auth: Auth::Token, hash };
            let runtime = Builder::new_current_thread().enable_time().build();
            (runtime.unwrap_or_else(|why| unreachable!("no runtime: {why}")), Door::tcp(routes, Arc::new(move || rule)))
        });
        runtime.block_on(async {
            let response = door.answer(peer, request).await;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            (parts.status, parts.headers, body)
        })
    });
    if status == StatusCode::NO_CONTENT {
        return admitted(&headers);
    }
    assert!(status.is_client_error() && !answer.contains_key("project-cluster-version"), "{status} for {method}");
    let told: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let detail = told.as_ref().and_then(|told| told["detail"].as_str());
    harmless(detail.unwrap_or_else(|| unreachable!("{status} without a word: {body:?}")));
    assert!(!String::from_utf8_lossy(&body).contains(TOKEN));
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
