//! A plain axum server, one of those of `tests/apps`: no signal handling. It answers as they do; its first argument is a port,
//! or `fds` for the socket that it inherits.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).or_else(|| std::env::var("PORT").ok()).unwrap_or_else(|| "3000".into());
    let listener = if port == "fds" {
        let inherited = listenfd::ListenFd::from_env().take_tcp_listener(0)?.ok_or_else(|| io::Error::other("no sockets for me"))?;
        inherited.set_nonblocking(true)?;
        TcpListener::from_std(inherited)?
    } else {
        let host = std::env::var("HOST").unwrap_or_else(|_| "0.0.0.0".into());
        TcpListener::bind(format!("{host}:{port}")).await?
    };
    let version = std::env::var("VERSION").or_else(|_| std::fs::read_to_string("VERSION")).unwrap_or_else(|_| "v1".into());
    let body = format!("{} {}\n", version.trim(), std::process::id());
    let slow = body.clone();
    let sleep = |Path(ms): Path<u64>| async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        slow
    };
    let router = Router::new().route("/sleep/{ms}", get(sleep)).fallback(|| async move { body });
    axum::serve(listener, router).await
}
