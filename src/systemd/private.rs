//! systemd's private socket, `/run/systemd/private` or that of a user's systemd, as a transport for zbus.
//!
//! Behind it is no bus, and yet PID 1 names itself `org.freedesktop.systemd1` as the sender of what it sends there.
//! The D-Bus specification allows unique names only in that field, and zbus refuses the message. So its first
//! character is replaced on the way in, which makes `:rg.freedesktop.systemd1`, a unique name that nobody looks at.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

/// What stands before the name: field code 7 (`SENDER`), its signature `s`, the name's length, 24. In the body of a
/// message these bytes could only be a struct of a byte and a variant, which no answer to us holds.
const BEFORE: [u8; 8] = [7, 1, b's', 0, 24, 0, 0, 0];

/// The connected socket.
#[derive(Debug)]
pub(super) struct Private(UnixStream);

impl Private {
    /// Connects; only who runs that systemd may.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self(UnixStream::connect(path).await?))
    }
}

impl Socket for Private {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.0.into_split();
        Split::new(Reader { stream: read, rename: Rename::default() }, Writer(write))
    }
}

/// What comes from PID 1.
#[derive(Debug)]
pub(super) struct Reader {
    stream: OwnedReadHalf,
    rename: Rename,
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let read = self.stream.read(buffer).await?;
        self.rename.pass(&mut buffer[..read]);
        Ok((read, Vec::new()))
    }
}

/// What goes to PID 1.
#[derive(Debug)]
pub(super) struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// How much of [`BEFORE`] has passed; reads cut messages anywhere.
#[derive(Debug, Default)]
struct Rename(usize);

impl Rename {
    fn pass(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.0 == BEFORE.len() && *byte == b'o' {
                *byte = b':';
            }
            self.0 = match self.0 {
                at if at < BEFORE.len() && *byte == BEFORE[at] => at + 1,
                _ => usize::from(*byte == BEFORE[0]),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_becomes_a_unique_name_however_it_is_cut() {
        let mut whole = b"l\x02\x01\x01..\x07\x01s\x00\x18\x00\x00\x00org.freedesktop.systemd1\x00 org.freedesktop.systemd1".to_vec();
        let expected = String::from_utf8_lossy(&whole).replacen("org", ":rg", 1);
        for cut in 0..whole.len() {
            let mut copy = whole.clone();
            let mut rename = Rename::default();
            let (first, second) = copy.split_at_mut(cut);
            rename.pass(first);
            rename.pass(second);
            assert_eq!(String::from_utf8_lossy(&copy), expected, "cut at {cut}");
        }
        Rename::default().pass(&mut whole);
        assert!(zbus::names::UniqueName::try_from(":rg.freedesktop.systemd1").is_ok());
    }
}
