//! What root's steps and the bind supervisor read that others may have written, or may have damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Component;
use std::time::Duration;

use super::inherited::{Sockets, count, order, reorder_names};
use super::pin::{self, Copy, Pin};
use super::ports::Book;
use super::procfs;
use super::published::Published;
use super::store::Counter;
use super::sys::sockets::{SockAddr, parse_sockaddr};
use crate::config::settings::{Listen, Ready, Settings, Spawn};
use crate::fuzz::comes_back;
use crate::health::{Count, HEALTHY, Known, LONGEST};
use crate::intent::AppIntent;
use crate::names::{Address, AppName, ClusterName, Generation, Instance, Slot};

/// Files of root's: settings, pins, their copies, counters, the book of ports, counts of ends, what is told of generations.
pub fn pins(data: &[u8]) {
    if let Ok(settings) = serde_json::from_slice::<Settings>(data) {
        comes_back(&settings);
        let told = comes_back(&settings.without_env());
        assert!(told.apps.values().all(|app| app.env.is_empty() && app.earlier.is_empty()));
        // Installed once more they are the same; from nothing they have the revisions that follow.
        let again = settings.following(Some(&settings), |_| None);
        assert!(again.apps.iter().all(|(name, app)| app.revision.number == settings.apps[name].revision.number));
        drop(settings.following(None, |_| Some(u64::MAX)));
    }
    if let Ok(pin) = serde_json::from_slice::<Pin>(data) {
        comes_back(&pin);
    }
    if let Ok(copy) = serde_json::from_slice::<Copy>(data) {
        comes_back(&copy);
    }
    if let Ok(sockets) = serde_json::from_slice::<Sockets>(data) {
        comes_back(&sockets);
    }
    if let Ok(counter) = serde_json::from_slice::<Counter>(data) {
        comes_back(&counter);
        assert!(counter.generation.next() >= counter.generation);
    }
    if let Ok(book) = serde_json::from_slice::<Book>(data) {
        ports(&comes_back(&book));
    }
    if let Ok(ends) = serde_json::from_slice::<Count>(data) {
        ended(&comes_back(&ends));
    }
    published(&String::from_utf8_lossy(data));
}

/// A worker gets one port, the same when it asks again, and none that another live one has.
fn ports(book: &Book) {
    let workers: Vec<Instance> = book.ports.keys().copied().collect();
    for instance in workers.iter().take(8).copied().chain("3.7.1".parse().ok()) {
        let mut book = book.clone();
        let Ok(port) = book.assign(instance, 3000, Some((4000, 4003)), |_| true) else { continue };
        assert_eq!(book.assign(instance, 3000, Some((4000, 4003)), |_| true).ok(), Some(port));
        assert!(workers.contains(&instance) || !workers.iter().any(|other| book.ports.get(other) == Some(&port)), "{port} is another's");
    }
}

/// No wait is longer than the longest, and a worker that was well begins anew.
fn ended(count: &Count) {
    for now in [0, count.start_us, count.start_us.saturating_add(60_000_000), u64::MAX] {
        for restart in [Duration::ZERO, Duration::from_millis(100), Duration::MAX] {
            let known = [None, Some(Known { restarts: 3, ready_us: 0 }), Some(Known { restarts: u32::MAX, ready_us: count.start_us })];
            for known in known {
                let next = count.next(now, restart, known);
                assert!(next.next_start(now).is_none_or(|wait| wait <= LONGEST), "{count:?} at {now}, {restart:?}: {next:?}");
                assert!(known.is_none_or(|known| next.ends <= known.restarts));
                let well =
                    known.is_some_and(|known| known.ready_us > 0) && count.start_us.checked_add(HEALTHY.as_micros() as u64 * 2) < Some(now);
                assert!(!well || restart != Duration::ZERO || next.ends == 0 || count.start_us == 0, "{count:?} at {now}: {next:?}");
            }
            count.is_plain(now, restart);
        }
        count.is_loop(now, now);
    }
}

/// What everybody may know of generations: the last ones, ascending, in a file that is read whole.
fn published(text: &str) {
    let published = Published::parse(text);
    let written = published.to_string();
    assert!(written.len() as u64 <= Published::LIMIT && written.lines().count() <= 2 + 64 + 64, "{written}");
    assert_eq!(Published::parse(&written), published);
    if let Some(highest) = published.highest() {
        assert!(published.revision(highest).is_some() && published.highest_revision().is_some());
    }
    let pins = published.pins();
    assert!(pins.is_sorted_by(|a, b| a.generation < b.generation) && pins.iter().all(|pin| pin.maker <= pin.generation), "{written}");
    let past = AppIntent { generation: published.highest(), ..AppIntent::default() };
    assert!(past.past(pins, 3).len() <= 3);
    let mut more = published.clone();
    more.add(Generation(u64::MAX), 7);
    assert_eq!((more.highest(), more.revision(Generation(u64::MAX))), (Some(Generation(u64::MAX)), Some(7)));
}

/// Files of `/proc`, much of whose text a worker chooses: paths of its sockets, its control group, its descriptors.
pub fn proc(data: &[u8]) {
    procfs::socket_inode(data);
    let text = &*String::from_utf8_lossy(data);
    let lines = text.lines().count();
    procfs::fd_flags(text);
    procfs::fd_inode(text);
    let watched: Vec<_> = procfs::watched(text).collect();
    assert!(watched.len() <= lines);
    for one in &watched {
        // As the kernel writes it.
        let line = format!("tfd: {:8} events: {:8x} data: {:16x}  pos:0 ino:{:x} sdev:9\n", one.fd, one.events, one.data, one.inode);
        assert_eq!(procfs::watched(&line).collect::<Vec<_>>(), [*one], "{line}");
    }
    assert!(procfs::epoll_inodes(text).count() <= watched.len());
    text.lines().for_each(|line| assert!(procfs::waiting(line).is_none() || !line.is_empty()));
    assert!(procfs::polled(data).all(|fd| fd >= 0) && procfs::polled(data).count() <= data.len() / 8);
    for limit in [0, 7, data.len() as u64 * 8, u64::MAX] {
        let selected: Vec<_> = procfs::selected(data, limit).collect();
        assert!(selected.is_sorted_by(|a, b| a < b) && selected.iter().all(|fd| (*fd as u64) < limit && (*fd as usize) < data.len() * 8));
    }
    for (address, inode) in procfs::tcp_listeners(text) {
        let words: String = match address {
            SocketAddr::V4(v4) => format!("{:08X}", u32::from_ne_bytes(v4.ip().octets())),
            SocketAddr::V6(v6) => {
                v6.ip().octets().as_chunks::<4>().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect()
            }
        };
        let port = address.port();
        let table = format!("sl\n 0: {words}:{port:04X} 0:0 0A 0:0 0:0 0 0 0 {inode} 1\n");
        assert_eq!(procfs::tcp_listeners(&table).collect::<Vec<_>>(), [(address, inode)], "{table}");
    }
    for (path, _) in procfs::unix_listeners(text) {
        assert!(path.starts_with('/') && text.contains(path), "{path:?}");
    }
    for group in <[_; 2]>::from(procfs::cgroups(text)).into_iter().flatten() {
        assert!(!group.contains('\n'));
        if let Some(directory) = super::ready::members::directory("/sys/fs/cgroup", group) {
            let below = directory.strip_prefix("/sys/fs/cgroup").is_ok_and(|below| !below.as_os_str().is_empty());
            assert!(below && !directory.components().any(|part| part == Component::ParentDir), "{directory:?}");
        }
    }
    if let Some(status) = super::ready::http::status(data) {
        assert!(status <= 999 && data.starts_with(b"HTTP/1."), "{status}");
    }
}

/// What systemd and the kernel hand over: addresses that an app binds, `LISTEN_FDS` and its names.
pub fn sockets(data: &[u8]) {
    match parse_sockaddr(data) {
        Some(SockAddr::Tcp(address)) => {
            assert!(data.len() >= if address.is_ipv4() { 8 } else { 24 });
            assert_eq!(address.port().to_be_bytes(), data[2..4]);
        }
        Some(SockAddr::Unix(path)) => {
            let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
            assert!(!bytes.is_empty() && !bytes.contains(&0) && data[2..].starts_with(bytes));
        }
        None => {}
    }
    let text = &*String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (fds, pid, names, passed, declared) = (line(), line(), line(), line(), line());
    if let Ok(number) = count(Some(fds), Some(pid), 77) {
        assert!(number == 0 || pid.parse() == Ok(77), "{fds:?} for {pid:?}");
    }
    let passed: Vec<Option<Address>> = passed.split(' ').take(32).map(|address| address.parse().ok()).collect();
    let mut declared: Vec<Address> = declared.split(' ').filter_map(|address| address.parse().ok()).take(32).collect();
    // `check` refuses those that overlap.
    let mut at = 0;
    while at < declared.len() {
        if declared[..at].iter().any(|before| before.overlaps(&declared[at])) { drop(declared.remove(at)) } else { at += 1 }
    }
    let Ok(app) = "api".parse::<AppName>() else { return };
    let listen = |address: &Address| Listen { address: address.clone(), mode: None, owner: None, group: None, backlog: 4096 };
    let pin = Pin {
        format: pin::FORMAT,
        generation: Generation(7),
        revision: 0,
        command: vec!["/bin/true".into()],
        cwd: "/".into(),
        env: BTreeMap::new(),
        listen: declared.iter().map(listen).collect(),
        swap: true,
        spawn: Spawn::Cluster,
        ready: Ready::Listen,
        min_ready: Duration::from_secs(1),
    };
    let instance = Instance::first(Slot::first(1).next().unwrap_or_else(|| unreachable!("there is a first slot")), Generation(7));
    let copy = Copy { format: pin::FORMAT, cluster: ClusterName::default(), app, instance, port: None, nonblocking: None, hook: None, pin };
    let Ok(order) = order(&passed, names, &copy) else { return };
    assert!(order.iter().all(|place| *place < passed.len()) && order.len() >= declared.len());
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len(), "a socket twice: {order:?}");
    for (place, address) in order.iter().zip(&declared) {
        assert!(passed[*place].as_ref().is_some_and(|passed| passed.overlaps(address)), "{address} is not {:?}", passed[*place]);
    }
    let reordered = reorder_names(names, &order);
    assert!(reordered == names || order.is_empty() || reordered.split(':').count() == order.len(), "{names:?} became {reordered:?}");
}
