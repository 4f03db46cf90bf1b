//! The texts are captured from Linux 6.18 (Python servers), the Go and Node ones shortened.

use super::*;

const EPOLL: &str = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n\
tfd:        5 events:       1c data:                5  pos:0 ino:1993d sdev:9\n\
tfd:        3 events:       19 data:                3  pos:0 ino:1993b sdev:9\n\
tfd:        7 events: 8000201d data:     7f0e3ea3ee98  pos:0 ino:bad sdev:9\n";

#[test]
fn descriptors() {
    assert_eq!(socket_inode(b"socket:[104763]"), Some(104_763));
    for link in [&b"pipe:[5]"[..], b"socket:[]", b"socket:[-1]", b"socket:[5", b"/srv/socket:[5]", b"\xff"] {
        assert_eq!(socket_inode(link), None);
    }
    assert_eq!(fd_flags(EPOLL), Some(0o2_000_002));
    assert_eq!(fd_inode(EPOLL), Some(1038));
    assert_eq!(fd_flags("pos:\t0\n"), None);
}

#[test]
fn an_epoll_set_counts_what_it_reads_from() {
    // Descriptor 5 waits for EPOLLOUT alone.
    assert_eq!(epoll_inodes(EPOLL).collect::<Vec<_>>(), [0x1993b, 0xbad]);
    let go = watched(EPOLL).nth(2).unwrap();
    assert_eq!(go, Watched { fd: 7, events: 0x8000_201d, data: 0x7f0e_3ea3_ee98, inode: 0xbad });
    assert_eq!(epoll_inodes("tfd: x\ntfd:\ntfd: 3 events: zz ino:1\ntfd: 3 events: 1 ino:\n").count(), 0);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn waiting_threads() {
    let accept = "288 0x3 0x7fff1e7bb4d0 0x7fff1e7bb4c4 0x80000 0x0 0x0 0x7fff1e7bb498 0x7f7ef3128f63";
    assert_eq!(waiting(accept), Some(Waiting::Accept(3)));
    let select = "270 0x4 0x7ffea781ba00 0x0 0x0 0x0 0x0 0x7ffea781b920 0x7f91d4b1c954";
    assert_eq!(waiting(select), Some(Waiting::Select(0x7ffe_a781_ba00, 4)));
    let poll = "7 0x7fa37374c750 0x1 0xffffffff 0x1 0x0 0x0 0x7ffd91bd9338 0x7fa37391a230";
    assert_eq!(waiting(poll), Some(Waiting::Poll(0x7fa3_7374_c750, 1)));
    let epoll = "232 0x3 0x4 0x5 0x6 0x0 0x0 0x1 0x2";
    assert_eq!((waiting(epoll), waiting("281 0xd 0x4")), (Some(Waiting::Epoll(3)), Some(Waiting::Epoll(13))));
    for line in ["running", "-1 0x7ffd91bd9338 0x7fa37391a230", "", "288", "288 3 4"] {
        assert_eq!(waiting(line), None, "{line:?}");
    }
    assert!([accept, select, epoll, "-1 0x7ffd91bd9338 0x7fa37391a230"].iter().all(|line| is_asleep(line)));
    assert!(!is_asleep("running") && !is_asleep("") && !is_asleep("x 0x1"));
}

#[test]
fn what_a_thread_and_a_process_are_like() {
    assert_eq!(runs("52840189 1093 47\n"), Some((52_840_189, 47)));
    assert_eq!([runs(""), runs("1 2"), runs("1 2 x")], [None; 3]);
    assert_eq!(state("77 (a) R (b) T 1 77 77 0 -1"), Some('T'));
    assert_eq!([state(""), state("77 (a"), state("77 (a) ")], [None; 3]);
    let status = "Name:\tnode\nUid:\t61\t61\t61\t61\nGid:\t62\t62\t62\t62\nCapInh:\t0\nCapPrm:\t0000000000000400\n";
    assert_eq!(identity(status), Some(Identity { uids: [61; 4], gids: [62; 4], permitted: 0x400 }));
    assert_eq!([identity(""), identity(&status.replace("Gid", "gid")), identity(&status.replace("62\n", "\n"))], [None; 3]);
}

#[test]
fn sets_of_poll_and_select() {
    let mut bytes = Vec::new();
    for (fd, events) in [(3_i32, libc::POLLIN), (4, libc::POLLOUT), (-1, libc::POLLIN), (9, libc::POLLIN | libc::POLLPRI)] {
        bytes.extend(fd.to_ne_bytes());
        bytes.extend(events.to_ne_bytes());
        bytes.extend([0, 0]);
    }
    bytes.extend([1, 2, 3]);
    assert_eq!(polled(&bytes).collect::<Vec<_>>(), [3, 9]);
    assert_eq!(selected(&[0b0000_1000, 0b1000_0001, 0xff], 16).collect::<Vec<_>>(), [3, 8, 15]);
}

#[test]
fn listening_tcp_sockets() {
    let v4 = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n   \
0: 00000000:84CD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104765 1 0000000011f30f78 100 0 0 10 0                    \n   \
1: 0100007F:84CF 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 5 1 0000000011f30f78 100 0 0 10 0                    \n   \
2: 0100007F:84CF 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104763 1 000000009b67a36c 100 0 0 10 0                    \n";
    let found: Vec<_> = tcp_listeners(v4).map(|(address, inode)| (address.to_string(), inode)).collect();
    assert_eq!(found, [("0.0.0.0:33997".into(), 104_765), ("127.0.0.1:33999".into(), 104_763)]);
    let v6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
0: 00000000000000000000000000000000:84CC 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104766 1 0000000065894b9c 100 0 0 10 0\n   \
1: 00000000000000000000000001000000:84CE 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104764 1 00000000acffe1d4 100 0 0 10 0\n";
    let found: Vec<_> = tcp_listeners(v6).map(|(address, _)| address.to_string()).collect();
    assert_eq!(found, ["[::]:33996", "[::1]:33998"]);
    assert_eq!(tcp_listeners("head\n0: zz:1 0:0 0A 0 0 0 0 0 5\n0: 0:1\n\n").count(), 0);
}

#[test]
fn listening_unix_sockets() {
    let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
00000000f5ce6546: 00000003 00000000 00000000 0001 03 102923\n\
000000006aff8303: 00000002 00000000 00010000 0001 01 104767 /tmp/fix a.sock\n\
000000006aff8304: 00000002 00000000 00010000 0001 01    77 /run/x\n\
000000006aff8305: 00000002 00000000 00010000 0005 01 104769 /run/seqpacket\n\
000000006aff8306: 00000002 00000000 00000000 0001 03 104770 /run/connected\n\
000000006aff8307: 00000002 00000000 00010000 0001 01 104771 @abstract/x\n";
    assert_eq!(unix_listeners(table).collect::<Vec<_>>(), [("/tmp/fix a.sock", 104_767), ("/run/x", 77)]);
}

#[test]
fn control_groups() {
    let pure = "0::/system.slice/system-shop\\x2dapi.slice/shop-api@1.1.1.service\n";
    assert_eq!(cgroups(pure), (Some("/system.slice/system-shop\\x2dapi.slice/shop-api@1.1.1.service"), None));
    let hybrid = "9:name=systemd:/a.service\n4:memory:/elsewhere\n1:cpu,cpuacct:/\n0::/a.service\n";
    assert_eq!(cgroups(hybrid), (Some("/a.service"), Some("/a.service")));
    assert_eq!(cgroups(""), (None, None));
}
