//! Looks at processes of our own.

use std::os::unix::fs::MetadataExt as _;

use super::super::sets::tests::make;
use super::*;
use crate::worker::sys::epoll::control_as;
use crate::worker::sys::sockets::set_nonblocking;

#[test]
fn nobody_outside_of_our_group_is_looked_at_whatever_the_number_of_the_main_process_says() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = kernel::inode(socket.as_fd()).unwrap();
    let sockets = [Socket { address: Address::Tcp(socket.local_addr().unwrap()), inode }];
    // A child that has our socket, as the main process.
    let mut child = std::process::Command::new("sleep");
    child.arg("60").stdin(std::process::Stdio::from(socket.as_fd().try_clone_to_owned().unwrap()));
    let mut child = child.spawn().unwrap();
    let own = super::super::group::own_group();
    let found = [&own[..], b"0::/system.slice/another.service\n"].map(|group| {
        let mut look = Look::default();
        Target { main: child.id(), sockets: &sockets, ours: &[], group }.look(&mut look, false);
        look.holders.iter().any(|holder| holder.pid == child.id())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found, [true, false]);
}

#[test]
fn a_thread_in_accept_waits_for_a_connection_only_where_accept_waits_for_one() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = kernel::inode(listener.as_fd()).unwrap();
    let sockets = [Socket { address: Address::Tcp(listener.local_addr().unwrap()), inode }];
    let mut child = std::process::Command::new("python3");
    child.args(["-c", "import socket; socket.socket(fileno=0).accept()"]);
    let mut child = child.stdin(listener.as_fd().try_clone_to_owned().unwrap()).spawn().unwrap();
    let group = super::super::group::own_group();
    let target = Target { main: child.id(), sockets: &sockets, ours: &[], group: &group };
    let mut look = Look::default();
    let end = Instant::now() + Duration::from_secs(20);
    let waits = |look: &mut Look| {
        target.look(look, false);
        look.seen(&target, true, end).waits
    };
    while waits(&mut look) != [How::Accept].into() {
        assert!(Instant::now() < end, "it does not wait");
    }
    // As a thread looks that waits for the lock of a non-blocking socket: in the same call, asleep.
    set_nonblocking(listener.as_fd(), true).unwrap();
    assert_eq!(waits(&mut look), [].into());
    let threads = look.threads(end);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(threads.len() == 1 && threads[0].slept.is_none(), "it may have a connection's event in its hands: {threads:?}");
}

#[test]
fn what_there_is_no_time_for_is_told_and_read_the_next_time() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino();
    let address = Address::Tcp(socket.local_addr().unwrap());
    let target = Target { main: 1, sockets: &[Socket { address, inode }], ours: &[], group: b"" };
    let mut look = Look { shared: BTreeMap::from([(inode, socket.as_fd().try_clone_to_owned().unwrap())]), ..Look::default() };
    for number in 0..3 {
        look.sets.known((1, number), make());
        control_as(look.sets.all[number as usize].as_fd(), socket.as_fd(), 800 + number, Control::Add(1, 7)).unwrap();
    }
    let (over, later) = (Instant::now(), Instant::now() + LONGEST);
    assert_eq!(look.seen(&target, true, over).entries, []);
    assert!(std::mem::take(&mut look.partly), "told");
    let places = |seen: &Seen| seen.entries.iter().map(|entry| entry.set).collect::<Vec<_>>();
    let seen = look.seen(&target, true, later);
    assert_eq!((places(&seen), look.partly), (vec![0, 1, 2], false));
    look.sets.next = 2;
    assert_eq!(places(&look.seen(&target, true, later)), [2, 0, 1], "from where the last reading had no time");

    let changes = super::super::plan::takes(&seen);
    look.change_all(&changes, over);
    assert!(std::mem::take(&mut look.partly));
    assert_eq!(super::super::plan::takes(&look.seen(&target, false, later)).len(), 3, "they are found again");
    look.change_all(&changes, later);
    assert_eq!((super::super::plan::takes(&look.seen(&target, false, later)).len(), look.partly), (0, false));

    let own = std::process::id();
    let pidfd = pidfd_open(own).unwrap();
    look.holders.push(Holder { pid: own, pidfd, sets: BTreeMap::new(), sockets: BTreeMap::new(), uring: false });
    let threads = look.threads(over);
    assert!(look.partly && threads.len() == 1 && threads[0].slept.is_none(), "one that never sleeps: {threads:?}");

    let mut open = Open::from([((own, -1), 1)]);
    still(&mut open, over);
    assert_eq!(open.len(), 1, "not known to have ended");
    still(&mut open, later);
    assert_eq!(open.len(), 0);
}
