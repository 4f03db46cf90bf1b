//! A connection that ends when its other side takes nothing for [`STALL`]: hyper would wait for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use super::limits::STALL;

/// The connection.
#[derive(Debug)]
pub(super) struct Stalling<T> {
    inner: TokioIo<T>,
    /// Since when a write waits; made once, when the first one does.
    timer: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl<T> Stalling<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner: TokioIo::new(inner), timer: None, waits: false }
    }

    /// What a write said, or that it has waited too long.
    fn bounded<R>(&mut self, cx: &mut Context<'_>, said: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if said.is_ready() {
            self.waits = false;
            return said;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(STALL)));
        if !self.waits {
            timer.as_mut().reset(Instant::now() + STALL);
            self.waits = true;
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> Read for Stalling<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> Write for Stalling<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bounded(cx, said)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bounded(cx, said)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bounded(cx, said)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails_and_one_that_is_taken_slowly_does_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = Stalling::new(near);
        let begun = Instant::now();
        for _ in 0..4 {
            let write = poll_fn(|cx| Pin::new(&mut near).poll_write(cx, &[0; 16]));
            let take = async {
                sleep(STALL / 2).await;
                tokio::io::AsyncReadExt::read_exact(&mut far, &mut [0; 16]).await.unwrap();
            };
            let (written, ()) = tokio::join!(write, take);
            assert_eq!(written.unwrap(), 16, "each waits for less than the limit");
        }
        assert!(begun.elapsed() > STALL);
        poll_fn(|cx| Pin::new(&mut near).poll_write(cx, &[0; 16])).await.unwrap();
        let stalled = poll_fn(|cx| Pin::new(&mut near).poll_write(cx, &[0; 16])).await;
        assert_eq!(stalled.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
