//! A worker that is hostile, as a dynamic user and as one that is written.

use super::{Tries, Try, leave};
use crate::cluster::{SOON, app, cluster};

#[test]
fn a_hostile_worker_stays_in_its_place() {
    let rogue =
        |name: &str, more: &str| app(name, 0, "python3 /srv/apps/hostile.py /srv/tries.json stay", &format!("ready = \"none\"\n{more}"));
    let other = "listen = [\"127.0.0.1:3001\", { path = \"/run/other.sock\", mode = \"0660\", group = \"mail\" }]\nuser = \"mail\"\nready = \"none\"\nenv = { KEY = \"a-secret\" }";
    let cluster =
        cluster(&[rogue("rogue", ""), rogue("named", "user = \"games\""), app("other", 1, "node /srv/apps/worker.js", other)].concat());
    cluster.sh("cp /usr/bin/id /srv/rootid; chmod 4755 /srv/rootid; mkdir -p /home/alice; touch /home/alice/letter /tmp/of-others").ok();
    let pid = cluster.main_pid("project-cluster-other@1.1.1.service").unwrap();
    let master = cluster.main_pid("project-cluster.service").unwrap();
    let each = |codes: &[String]| format!("each({})", codes.iter().map(|code| format!("{code:?}")).collect::<Vec<_>>().join(", "));
    let reads = |paths: &[&str]| each(&paths.iter().map(|path| format!("read('{path}')")).collect::<Vec<_>>());
    let writes = |paths: &[&str]| each(&paths.iter().map(|path| format!("write('{path}')")).collect::<Vec<_>>());
    let calls = |calls: &[&str]| each(&calls.iter().map(|call| format!("call({call})")).collect::<Vec<_>>());
    let http = |line: &str| format!("tcp(8887, {:?})", format!("{line} HTTP/1.1\r\nHost: localhost:8887\r\n\r\n"));
    let (read_only, eperm) = ("EROFS or EACCES", "EPERM");
    let tries: Vec<Try> = vec![
        ("writes into its runtime directory and its own /tmp", "(it may: the try itself works)", "each(\"write(os.environ['RUNTIME_DIRECTORY'] + '/mine')\", \"write('/tmp/mine')\")".into(), "None"),
        ("connects to the API's unix socket", "EACCES", "unix('/run/project-cluster/api.sock')".into(), "EACCES"),
        ("asks the API over TCP", "401", http("GET /v1/apps"), "HTTP/1.1 401 Unauthorized"),
        ("orders by the API over TCP", "401", http("POST /v1/apps/other/stop"), "HTTP/1.1 401 Unauthorized"),
        ("connects to the unix socket of another app, which only a group may", "EACCES", "unix('/run/other.sock')".into(), "EACCES"),
        ("listens beside another app on its port", "EADDRINUSE", each(&["listens(3001)".into(), "listens(3001, True)".into()]), "EADDRINUSE"),
        ("listens below 1024", "EACCES", "listens(80)".into(), "EACCES"),
        ("reads another app's copy of its pin", "EACCES", reads(&["/run/project-cluster-other/1.1.1/pin.json"]), "EACCES"),
        ("reads pins, settings, the master's memory, the operators' token", "EACCES", reads(&["/var/lib/project-cluster/pins/settings.json", "/var/lib/project-cluster/pins/rogue/1.json", "/var/lib/project-cluster/settings.json", "/var/lib/project-cluster/state/apps.json", "/var/lib/project-cluster/operators/token"]), "EACCES"),
        ("looks for another app's process or the master's in /proc", "not there", reads(&[&format!("/proc/{pid}/environ"), &format!("/proc/{master}/status"), "/proc/1/status"]), "ENOENT"),
        ("signals another app, the master, PID 1", eperm, format!("each('os.kill({pid}, 9)', 'os.kill({master}, 9)', 'os.kill(1, 9)')"), "EPERM"),
        ("ptraces another app, reads its memory, takes its descriptors", eperm, format!("each('call(101, 16, {pid}, 0, 0)', 'peek({pid})', 'call(438, call(434, {pid}, 0), 0, 0)')"), "EPERM"),
        ("asks systemd to start, stop, restart, kill: its own units too", "refused by polkit or the bus", "'+'.join({manager(verb, 'ss', unit, 'replace') for verb in ('StartUnit', 'StopUnit') for unit in ('project-cluster@other.service', 'project-cluster-rogue@2.1.1.service', 'project-cluster.service')})".into(), "denied|hung up"),
        ("makes a unit that runs as root", "refused by polkit or the bus", "manager('StartTransientUnit', 'ssa(sv)a(sa(sv))', 'x.service', 'replace', '0', '0')".into(), "denied|hung up"),
        ("tells systemd that it is somebody else's main process, or needs more time to stop", "systemd hears nothing of it", "tell(os.environ.get('NOTIFY_SOCKET', '/run/systemd/notify'), 'MAINPID=1\\nSTATUS=forged\\nEXTEND_TIMEOUT_USEC=99000000')".into(), "None|EACCES|ENOENT"),
        ("becomes root, or another user", eperm, "each('os.setuid(0)', 'os.setgid(0)', 'os.setgroups([0])')".into(), "EPERM"),
        ("becomes root by a set-user-ID program", "runs as itself", "run('/srv/rootid', '-u') == str(os.getuid())".into(), "True"),
        ("makes a set-user-ID file", eperm, "os.chmod('/tmp/mine', 0o4755)".into(), "EPERM"),
        ("changes kernel settings (/proc/sys, /sys)", read_only, writes(&["/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness", "/proc/sysrq-trigger", "/sys/power/state", "/proc/irq/default_smp_affinity"]), "EACCES|EROFS|EACCES+EROFS|EACCES+ENOENT|ENOENT+EROFS|EACCES+ENOENT+EROFS"),
        ("finds anything at all below /proc/sys and /sys that it may write", "there is none", "writable('/proc/sys', '/sys')".into(), "None"),
        ("loads or unloads a kernel module", eperm, calls(&["175, 0, 0, 0", "313, 0, 0, 0", "176, 0, 0"]), "EPERM"),
        ("reads the kernel's log", "EPERM, and no device", each(&["call(103, 3, 0, 0)".into(), "read('/dev/kmsg')".into(), "read('/proc/kmsg')".into()]), "EACCES+ENOENT+EPERM"),
        ("moves itself to another control group, lifts its limits, makes a group", read_only, "each(\"write('/sys/fs/cgroup/init.scope/cgroup.procs', '0')\", \"write('/sys/fs/cgroup' + read('/proc/self/cgroup').strip().split('::')[1] + '/cgroup.procs', '0')\", \"write('/sys/fs/cgroup' + read('/proc/self/cgroup').strip().split('::')[1] + '/pids.max', 'max')\", \"os.mkdir('/sys/fs/cgroup/mine')\")".into(), "EACCES|EROFS|EACCES+EROFS"),
        ("sets the clock, the host's name", eperm, calls(&["164, 0, 0", "227, 0, 0", "159, 0", "170, 0, 0"]), "EPERM"),
        ("mounts, unmounts, changes its root", eperm, calls(&["165, 0, 0, 0, 0, 0", "166, 0, 0", "161, 0", "155, 0, 0"]), "EPERM"),
        ("makes a user namespace, or enters one", eperm, calls(&["272, 0x10000000", "308, 0, 0x10000000", "56, 0x10000000 | 17, 0, 0, 0, 0"]), "EPERM"),
        ("bpf, perf, keyctl of others, reboot, swap, raw ports, kexec", eperm, calls(&["321, 0, 0, 0", "298, 0, 0, 0, 0, 0", "169, 0, 0, 0, 0", "167, 0, 0", "172, 3", "246, 0, 0, 0, 0"]), "EPERM"),
        ("another execution domain, realtime priority", eperm, "each('call(135, 0x0400000)', 'os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))')".into(), "EPERM"),
        ("raw and packet sockets", "no such family, and EPERM", "each('socket.socket(socket.AF_PACKET, socket.SOCK_RAW)', 'socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)')".into(), "EAFNOSUPPORT+EPERM"),
        ("opens memory, disks, makes a device", "no such device, and EPERM", "each(\"read('/dev/mem')\", \"read('/dev/sda')\", \"os.mknod('/tmp/disk', 0o60600, 2048)\")".into(), "ENOENT+EPERM"),
        ("writes to /usr, /etc, /boot, units, root's directories", read_only, writes(&["/usr/bin/project-cluster", "/etc/passwd", "/etc/systemd/system/project-cluster-rogue@.service", "/run/systemd/x.service", "/run/project-cluster/x", "/run/project-cluster/crashes/other/1.1.1.json", "/var/lib/project-cluster/generations/other"]), "EACCES|EROFS|EACCES+EROFS"),
        ("looks into homes and others' /tmp", "an empty /tmp, no homes", "each(\"os.listdir('/home/alice')\", \"read('/tmp/of-others')\", \"os.listdir('/root')\")".into(), "EACCES+ENOENT|ENOENT|EACCES"),
    ];
    leave(&cluster, &tries);
    let mut by = Tries::by("a hostile worker");
    for app in ["named", "rogue"] {
        let unit = format!("project-cluster-{app}@1.1.1.service");
        cluster.systemctl(&["start", &unit]).ok();
        cluster.wait_until("it has tried", SOON, || cluster.journal_of(&unit).contains("TRIED "));
        by.rows.clear();
        by.script(&tries, &cluster.journal_of(&unit));
        let heard = [cluster.property(&unit, "StatusText"), cluster.property("project-cluster.service", "StatusText")];
        assert!(!heard.concat().contains("forged"), "{heard:?}");
        assert!(cluster.main_pid(&unit).is_some_and(|main| main > 1));
    }
    assert_eq!(cluster.main_pid("project-cluster-other@1.1.1.service"), Some(pid), "the other app is as it was");
    // It owns its copy of the pin; the next start has root's again.
    let unit = "project-cluster-rogue@1.1.1.service";
    let copy = "/run/project-cluster-rogue/1.1.1/pin.json";
    let before = cluster.read(copy);
    let user = cluster.run(&["stat", "-c", "%u", copy]).ok();
    let forge =
        format!("cd {}; rm -f pin.json; echo '{{}}' > pin.json; ln -s /srv/victim .pin.json.new", copy.trim_end_matches("/pin.json"));
    cluster.write("/srv/victim", "of root");
    cluster.run(&["setpriv", &format!("--reuid={user}"), "--clear-groups", "sh", "-euc", &forge]).ok();
    cluster.crash(unit);
    let same = cluster.read(copy) == before && cluster.read("/srv/victim") == "of root";
    by.row(
        "forges its copy of the pin, and leaves a symlink where root writes the next",
        "the next start has root's; the link is not followed",
        same,
        cluster.read(copy),
    );
    by.end();
}
