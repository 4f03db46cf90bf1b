//! What `systemctl status` of the unit that runs us says: `STATUS=` (`sd_notify(3)`).
//!
//! Never waits: a systemd that does not read its socket costs a line of status, not the work. It must not know whose
//! status it is.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Whether somebody listens: systemd runs us as a step of a unit that lets us speak.
pub fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells one line; without a listener, nothing.
pub fn tell(text: &str) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        // What fails here is the status alone; the journal has the same words.
        let _ = send(Path::new(&path), text);
    }
}

/// Tells what stays true of an app that is up, whoever rolls or scales it next.
pub fn tell_up(app: &impl std::fmt::Display) {
    tell(&format!("up; `project-cluster show {app}` tells its workers"));
}

fn send(path: &Path, text: &str) -> io::Result<()> {
    // A line break would begin another assignment.
    let text: String = crate::place::words(text).chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    socket.send(format!("STATUS={text}\n").as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_does_not_read_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        send(&path, "one\nREADY=1").unwrap();
        let mut buffer = [0; 64];
        let read = listener.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"STATUS=one READY=1\n");
        // A datagram socket queues no more than a few hundred.
        assert!((0..10_000).any(|_| send(&path, "more").is_err_and(|why| why.kind() == io::ErrorKind::WouldBlock)));
        drop(listener);
        assert!(send(&path, "nobody").is_err());
    }
}
