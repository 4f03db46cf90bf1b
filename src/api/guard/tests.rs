//! Doors without a network: requests in, answers out.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use axum::routing::{get, post};
use http_body_util::Full;

use super::*;
use crate::api::token::Token;

const HOST: &str = "127.0.0.1:8887";

fn tcp() -> Peer {
    Peer::Tcp { from: "127.0.0.1:50000".parse().unwrap(), to: HOST.parse().unwrap() }
}

fn operator() -> Peer {
    Peer::Unix { uid: 1000, pid: Some(7) }
}

fn routes() -> Router {
    Router::new()
        .route("/", get(async || "fine"))
        .route("/order", post(async |body: Bytes| body.len().to_string()))
        .route("/broken", get(async || -> &'static str { panic!("a mistake of this route") }))
        .route("/slow", get(async || std::future::pending::<&'static str>().await))
        .route("/stream", get(async || ([(header::CONTENT_TYPE, "text/event-stream")], "data: 1\n\n")))
        .fallback(async || Refusal::new(Code::NotFound, "there is no such route"))
}

fn open() -> Rule {
    Rule { host: IpAddr::from([127, 0, 0, 1]), auth: Auth::None, hash: None }
}

fn door(rule: Rule) -> Arc<Door> {
    Door::tcp(routes(), Arc::new(move || rule))
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_vec())).unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Status and, of a refusal, its code.
async fn told(door: &Door, peer: Peer, request: Request<Full<Bytes>>) -> (u16, String) {
    let response = door.answer(peer, request).await;
    let (status, closes) = (response.status(), response.headers().contains_key(header::CONNECTION));
    let body = text(response).await;
    let code = serde_json::from_str::<serde_json::Value>(&body).ok().and_then(|problem| Some(problem["code"].as_str()?.to_owned()));
    assert_eq!(closes, !status.is_success() && status != StatusCode::NOT_FOUND, "{body}");
    (status.as_u16(), code.unwrap_or_default())
}

#[tokio::test]
async fn over_tcp_only_the_token_opens() {
    let token = Token::fresh().unwrap();
    let door = door(Rule { auth: Auth::Token, hash: Some(token.hash()), ..open() });
    let ask = async |authorization: &[&str]| {
        let mut headers = vec![("host", HOST)];
        headers.extend(authorization.iter().map(|value| ("authorization", *value)));
        told(&door, tcp(), request("GET", "/", &headers, b"")).await.0
    };
    let good = format!("Bearer {}", token.as_str());
    assert_eq!(ask(&[&good]).await, 200);
    assert_eq!(ask(&[&good.replace("Bearer", "bearer")]).await, 200, "schemes have no case");
    let hash = format!("Bearer {}", token.hash().text());
    let basic = format!("Basic {}", token.as_str());
    for wrong in [&[][..], &[""], &["Bearer"], &["Bearer "], &[&hash], &[&basic], &[token.as_str()], &[&good, &good], &["Bearer x", &good]]
    {
        assert_eq!(ask(wrong).await, 401, "{wrong:?}");
    }
    let refused = door.answer(tcp(), request("GET", "/", &[("host", HOST)], b"")).await;
    assert_eq!(refused.headers()["www-authenticate"], "Bearer realm=\"project-cluster\"");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    // Routes that do not exist are no matter of those outside.
    assert_eq!(told(&door, tcp(), request("GET", "/nowhere", &[("host", HOST)], b"")).await, (401, "unauthorized".into()));
    assert_eq!(told(&door, tcp(), request("GET", "/nowhere", &[("host", HOST), ("authorization", &good)], b"")).await.0, 404);
}

#[tokio::test]
async fn without_a_token_only_loopback_is_open() {
    let ask = async |rule: Rule, to: &str| {
        let peer = Peer::Tcp { from: "192.0.2.7:50000".parse().unwrap(), to: to.parse().unwrap() };
        told(&door(rule), peer, request("GET", "/", &[("host", to)], b"")).await.0
    };
    assert_eq!(ask(open(), HOST).await, 200);
    assert_eq!(ask(Rule { host: "::1".parse().unwrap(), ..open() }, "[::1]:8887").await, 200);
    // The socket of the settings of before, and settings that no `check` has seen.
    assert_eq!(ask(open(), "192.0.2.1:8887").await, 401);
    assert_eq!(ask(Rule { host: "192.0.2.1".parse().unwrap(), ..open() }, "192.0.2.1:8887").await, 401);
    assert_eq!(ask(Rule { host: "0.0.0.0".parse().unwrap(), ..open() }, HOST).await, 401);
    // A token that is not there opens nothing.
    assert_eq!(ask(Rule { auth: Auth::Token, ..open() }, HOST).await, 401);
    // The unix socket's door lets nobody in from elsewhere.
    assert_eq!(told(&Door::unix(routes()), tcp(), request("GET", "/", &[("host", HOST)], b"")).await.0, 401);
}

#[tokio::test]
async fn foreign_hosts_and_web_pages_are_refused_on_tcp_alone() {
    let door = door(open());
    let host = async |uri: &str, hosts: &[&str]| {
        let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        told(&door, tcp(), request("GET", uri, &headers, b"")).await
    };
    for ours in [HOST, "127.0.0.1", "localhost:8887", "LOCALHOST:9999", "[::1]:8887", "127.8.8.8"] {
        assert_eq!(host("/", &[ours]).await.0, 200, "{ours}");
    }
    for foreign in ["evil.example", "evil.example:8887", "localhost.evil.example", "192.0.2.1:8887", "user@localhost:8887", "[::2]", ""] {
        assert_eq!(host("/", &[foreign]).await, (421, "foreign-host".into()), "{foreign}");
    }
    assert_eq!(host("/", &[]).await, (400, "bad-request".into()));
    assert_eq!(host("/", &[HOST, HOST]).await.0, 400);
    assert_eq!(host("http://evil.example/", &[HOST]).await.0, 421);
    assert_eq!(host("http://localhost:8887/", &[HOST]).await.0, 200);

    let page = async |name: &str, value: &str| told(&door, tcp(), request("POST", "/order", &[("host", HOST), (name, value)], b"")).await;
    assert_eq!(page("origin", "http://127.0.0.1:8887").await.0, 200);
    for origin in ["http://evil.example", "https://127.0.0.1:8887", "http://127.0.0.1:3000", "http://localhost:8887", "null", ""] {
        assert_eq!(page("origin", origin).await, (403, "foreign-origin".into()), "{origin}");
    }
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)] {
        assert_eq!(page("sec-fetch-site", site).await.0, status, "{site}");
    }
    // No browser speaks to a unix socket.
    let headers = [("host", "x"), ("origin", "http://evil.example")];
    assert_eq!(told(&Door::unix(routes()), operator(), request("GET", "/", &headers, b"")).await.0, 200);
    let guarded = door.answer(tcp(), request("GET", "/", &[("host", HOST)], b"")).await;
    assert_eq!(
        (&guarded.headers()["x-content-type-options"], &guarded.headers()["cache-control"]),
        (&"nosniff".parse().unwrap(), &"no-store".parse().unwrap())
    );
    assert!(!guarded.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn what_is_too_large_is_refused_unread() {
    let door = Door::unix(routes());
    let ask = async |request| told(&door, operator(), request).await;
    let url = |bytes: usize| format!("/?{}", "x".repeat(bytes - 2));
    assert_eq!(ask(request("GET", &url(URL), &[], b"")).await.0, 200);
    assert_eq!(ask(request("GET", &url(URL + 1), &[], b"")).await, (414, "url-too-long".into()));
    assert_eq!(ask(request("POST", "/order", &[], &vec![b'x'; BODY])).await.0, 200);
    assert_eq!(ask(request("POST", "/order", &[], &vec![b'x'; BODY + 1])).await, (413, "too-large".into()));
    assert_eq!(ask(request("POST", "/order", &[("transfer-encoding", "chunked")], b"x")).await, (411, "length-required".into()));
    assert_eq!(text(door.answer(operator(), request("POST", "/order", &[], b"12345")).await).await, "5");
}

/// A body that never comes.
struct Never;

impl HttpBody for Never {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_is_given_up() {
    let door = Door::unix(routes());
    let order = Request::builder().method("POST").uri("/order").body(Never).unwrap();
    assert_eq!(door.answer(operator(), order).await.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(told(&door, operator(), request("GET", "/slow", &[], b"")).await, (503, "unavailable".into()));
    assert_eq!(door.requests.available_permits(), limits::UNIX.requests, "their places are free again");
}

#[tokio::test]
async fn one_request_too_many_is_refused_at_once_and_each_listener_has_its_own() {
    let (open_door, unix) = (door(open()), Door::unix(routes()));
    let slow = || request("GET", "/slow", &[("host", HOST)], b"");
    let mut waiting: Vec<_> = (0..limits::TCP.requests).map(|_| Box::pin(open_door.answer(tcp(), slow()))).collect();
    for wait in &mut waiting {
        assert!(std::future::poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_pending())).await);
    }
    let refused = open_door.answer(tcp(), request("GET", "/", &[("host", HOST)], b"")).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &HeaderValue::from_static("1")));
    assert_eq!(told(&unix, operator(), request("GET", "/", &[], b"")).await.0, 200);
    drop(waiting);
    assert_eq!(told(&open_door, tcp(), request("GET", "/", &[("host", HOST)], b"")).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn over_tcp_one_works_at_a_time_and_one_that_waits_keeps_nobody() {
    let (open_door, unix) = (door(open()), Door::unix(routes()));
    let ask = |path: &str| request("GET", path, &[("host", HOST)], b"");
    let pending = async |answer: &mut Pin<Box<dyn Future<Output = Response> + '_>>| {
        std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await
    };
    let begin = |path: &'static str| -> Pin<Box<dyn Future<Output = Response> + '_>> { Box::pin(open_door.answer(tcp(), ask(path))) };
    let (mut waiting, mut behind) = (begin("/slow"), begin("/"));
    assert!(pending(&mut waiting).await && pending(&mut behind).await, "it waits for its turn");
    assert_eq!(told(&unix, operator(), ask("/")).await.0, 200, "the unix socket waits for none of them");
    tokio::time::sleep(2 * TURN).await;
    assert!(pending(&mut waiting).await);
    assert_eq!(behind.await.status(), StatusCode::OK);
}

#[tokio::test]
async fn streams_have_places_of_their_own_until_they_end() {
    let door = door(open());
    let stream = || door.answer(tcp(), request("GET", "/stream", &[("host", HOST)], b""));
    let mut open = Vec::new();
    for _ in 0..limits::TCP.streams {
        open.push(stream().await);
    }
    assert!(open.iter().all(|response| response.status() == StatusCode::OK));
    assert_eq!(stream().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(door.requests.available_permits(), limits::TCP.requests);
    assert_eq!(text(open.remove(0)).await, "data: 1\n\n");
    assert_eq!(stream().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_mistake_in_a_route_fails_its_request_alone() {
    let door = Door::unix(routes());
    let (status, code) = told(&door, operator(), request("GET", "/broken", &[], b"")).await;
    assert_eq!((status, code.as_str()), (500, "failed"));
    assert_eq!(told(&door, operator(), request("GET", "/", &[], b"")).await.0, 200);
    assert_eq!(door.requests.available_permits(), limits::UNIX.requests);
}

#[test]
fn the_answer_to_one_too_many_is_http_and_a_problem() {
    let answer = String::from_utf8(one_too_many()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let problem: crate::api::types::Problem = serde_json::from_str(body).unwrap();
    assert_eq!((problem.code.as_str(), problem.status), ("busy", 503));
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains(&format!("content-length: {}", body.len())), "{head}");
}

#[test]
fn an_order_names_who_gave_it() {
    assert_eq!(operator().to_string(), "user 1000, process 7");
    assert_eq!(tcp().to_string(), "127.0.0.1:50000");
}
