//! A plain axum server for `make soak`: what `tests/apps/echo/echo.js` does. `echo_axum PORT`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::post;
use sha2::{Digest, Sha256};

static HAD: AtomicU64 = AtomicU64::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("which port?")?.parse()?;
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|why| why.to_string())?;
    let me = u64::from_ne_bytes(bytes);
    let echo = move |Path((ms, id)): Path<(u64, String)>, body: Bytes| async move {
        let had = HAD.fetch_add(1, Ordering::Relaxed) + 1;
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{id} {hash} {me:016x} {had}\n")
    };
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await?;
    axum::serve(listener, Router::new().route("/echo/{ms}/{id}", post(echo))).await?;
    Ok(())
}
