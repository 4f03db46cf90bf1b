//! Doors without a network: requests in, answers out.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::{get, post};
use http_body_util::Full;

use super::*;

use crate::api::caller::Role;
use crate::api::token::Token;
use crate::api::tokens::{Entry, Tokens};

const HOST: &str = "127.0.0.1:8887";

fn tcp() -> Peer {
    Peer::Tcp { from: "127.0.0.1:50000".parse().unwrap(), to: HOST.parse().unwrap() }
}

fn operator() -> Peer {
    Peer::Unix { uid: 1000, pid: Some(7), member: true }
}

fn routes() -> Router {
    Router::new()
        .route("/", get(async || "fine"))
        .route("/order", post(async |body: Bytes| body.len().to_string()))
        .route(
            "/who",
            get(async |caller: Caller| format!("{} {} {}", caller.who(), caller.sees_all(), caller.demand(Role::Operate).is_ok())),
        )
        .route(
            "/work",
            post(async |caller: Caller| match caller.place() {
                Ok(place) => {
                    // An order goes on though its client has its answer.
                    tokio::spawn(async move { drop((place, std::future::pending::<()>().await)) });
                    StatusCode::ACCEPTED.into_response()
                }
                Err(busy) => busy.into_response(),
            }),
        )
        .route("/healthz", get(async || "ok"))
        .route("/broken", get(async || -> &'static str { panic!("a mistake of this route") }))
        .route("/slow", get(async || std::future::pending::<&'static str>().await))
        .route("/stream", get(async || ([(header::CONTENT_TYPE, "text/event-stream")], "data: 1\n\n")))
        .fallback(async || Refusal::new(Code::NotFound, "there is no such route"))
}

/// These tokens; who holds the sender can change them.
fn keys(operator: Option<&Token>, others: &[(&str, Role, &Token)]) -> watch::Sender<Arc<Keys>> {
    let entry = |(name, role, token): &(&str, Role, &Token)| Entry {
        name: name.parse().unwrap(),
        role: *role,
        apps: Some(BTreeSet::from(["api".parse().unwrap()])),
        sha256: token.hash().text(),
        made_ms: 0,
    };
    let tokens = Tokens { tokens: others.iter().map(entry).collect(), ..Tokens::default() };
    watch::Sender::new(Arc::new(Keys::new(operator.map(Token::hash), &tokens)))
}

fn open() -> Rule {
    Rule { host: IpAddr::from([127, 0, 0, 1]), auth: Auth::None, keys: keys(None, &[]).subscribe() }
}

fn guarded(keys: &watch::Sender<Arc<Keys>>) -> Rule {
    Rule { auth: Auth::Token, keys: keys.subscribe(), ..open() }
}

fn door(rule: Rule) -> Arc<Door> {
    Door::tcp(routes(), Arc::new(move || rule.clone()))
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

#[tokio::test(start_paused = true)]
async fn over_tcp_only_the_token_opens() {
    let token = Token::fresh().unwrap();
    let door = door(guarded(&keys(Some(&token), &[])));
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
    assert_eq!(ask(guarded(&keys(None, &[])), HOST).await, 401);
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
    let begin = |path: &str| {
        let (door, request) = (Arc::clone(&open_door), request("GET", path, &[("host", HOST)], b""));
        tokio::spawn(async move { door.answer(tcp(), request).await.status() })
    };
    let begun = tokio::time::Instant::now();
    let waiting = begin("/slow");
    tokio::time::sleep(TURN / 5).await;
    let behind = begin("/");
    tokio::time::sleep(TURN / 5).await;
    assert!(!behind.is_finished(), "it waits for its turn");
    assert_eq!(told(&unix, operator(), request("GET", "/", &[], b"")).await.0, 200, "the unix socket waits for none of them");
    assert_eq!(behind.await.unwrap(), StatusCode::OK);
    assert!(!waiting.is_finished() && (TURN..2 * TURN).contains(&begun.elapsed()));
    waiting.abort();
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

#[tokio::test(start_paused = true)]
async fn each_token_is_who_asks_and_a_wrong_one_waits_longer_each_time() {
    let (operator, ci, watch) = (Token::fresh().unwrap(), Token::fresh().unwrap(), Token::fresh().unwrap());
    let keys = keys(Some(&operator), &[("ci", Role::Operate, &ci), ("watch", Role::View, &watch)]);
    let door = door(guarded(&keys));
    let ask = async |path: &str, token: &str| {
        let authorization = format!("Bearer {token}");
        let begun = Instant::now();
        let response = door.answer(tcp(), request("GET", path, &[("host", HOST), ("authorization", &authorization)], b"")).await;
        let (status, version) = (response.status().as_u16(), response.headers().contains_key(VERSION));
        (status, version, text(response).await, begun.elapsed().as_millis())
    };
    for (token, who) in [(&operator, "token operator true true"), (&ci, "token ci false true"), (&watch, "token watch false false")] {
        assert_eq!(ask("/who", token.as_str()).await, (200, true, who.to_owned(), 0));
    }
    let mut waits = Vec::new();
    for _ in 0..8 {
        let (status, version, _, waited) = ask("/who", "wrong").await;
        assert_eq!((status, version), (401, false));
        waits.push(waited);
    }
    assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3000, 3000]);
    assert_eq!(ask("/who", ci.as_str()).await.3, 0, "who has a token waits for nobody who guesses");
    assert_eq!(door.requests.available_permits(), limits::TCP.requests);
    // Withdrawn: at once, also for who was let in before.
    let authorization = format!("Bearer {}", ci.as_str());
    let asked = request("GET", "/", &[("host", HOST), ("authorization", &authorization)], b"");
    let mut caller = door.caller(tcp(), &asked).await.unwrap_or_else(|_| panic!("it is let in")).unwrap();
    assert!(timeout(Duration::from_secs(1), caller.withdrawn()).await.is_err());
    keys.send_replace(Arc::new(Keys::new(Some(operator.hash()), &Tokens::default())));
    timeout(Duration::from_secs(1), caller.withdrawn()).await.unwrap();
    assert_eq!(ask("/who", ci.as_str()).await.0, 401);
}

#[tokio::test]
async fn the_health_alone_wants_no_token_and_tells_no_version() {
    let token = Token::fresh().unwrap();
    let door = door(guarded(&keys(Some(&token), &[])));
    let ask = async |method: &str, path: &str, host: &str| {
        let response = door.answer(tcp(), request(method, path, &[("host", host)], b"")).await;
        (response.status().as_u16(), response.headers().contains_key(VERSION))
    };
    assert_eq!(ask("GET", "/healthz", HOST).await, (200, false));
    assert_eq!(ask("HEAD", "/healthz", HOST).await, (200, false));
    assert_eq!(ask("GET", "/healthz", "evil.example").await, (421, false));
    for (method, path) in
        [("POST", "/healthz"), ("GET", "/healthz/"), ("GET", "/healthz/../who"), ("GET", "//healthz"), ("GET", "/HEALTHZ")]
    {
        assert_eq!(ask(method, path, HOST).await, (401, false), "{method} {path}");
    }
}

#[tokio::test]
async fn who_is_not_of_the_sockets_group_may_nothing() {
    let door = Door::unix(routes());
    let stranger = Peer::Unix { uid: 1000, pid: Some(7), member: false };
    for path in ["/", "/healthz", "/who"] {
        assert_eq!(told(&door, stranger, request("GET", path, &[], b"")).await, (403, "forbidden".into()), "{path}");
    }
    assert_eq!(text(door.answer(operator(), request("GET", "/who", &[], b"")).await).await, "user 1000 true true");
}

#[tokio::test]
async fn an_order_has_its_place_until_it_ends_and_not_until_it_is_answered() {
    let door = Door::unix(routes());
    let order = async || door.answer(operator(), request("POST", "/work", &[], b"")).await;
    for _ in 0..limits::UNIX.orders {
        assert_eq!(order().await.status(), StatusCode::ACCEPTED);
    }
    assert_eq!(door.requests.available_permits(), limits::UNIX.requests, "each was answered");
    let refused = order().await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &HeaderValue::from_static("1")));
    assert!(text(refused).await.contains("\"code\":\"busy\""));
    assert_eq!(told(&door, operator(), request("GET", "/", &[], b"")).await.0, 200, "questions go on");
}

#[test]
fn the_answer_to_one_too_many_is_http_and_a_problem_like_any_other() {
    let answer = String::from_utf8(one_too_many(true)).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let problem: crate::api::types::Problem = serde_json::from_str(body).unwrap();
    assert_eq!(problem, Refusal::new(Code::Busy, &problem.detail).problem());
    assert!(head.contains(&format!("{VERSION}: {}", env!("CARGO_PKG_VERSION"))), "{head}");
    assert!(!String::from_utf8(one_too_many(false)).unwrap().contains(VERSION.as_str()));
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains(&format!("content-length: {}", body.len())), "{head}");
}

#[test]
fn an_order_names_who_gave_it() {
    assert_eq!(operator().to_string(), "user 1000, process 7");
    assert_eq!(tcp().to_string(), "127.0.0.1:50000");
}
