//! What a sandbox cannot show, on a kernel of one's own: memory and task limits, Yama, a true reboot, a power cut, the clock.
//! `.config/nextest.toml` leaves this module out of the default profile; `make proof` runs it.

use super::cluster::Cluster;
use super::support::Machine;

/// A machine with this configuration installed and everything started.
#[track_caller]
fn cluster(toml: &str) -> Cluster<Machine> {
    let cluster = Cluster::on(Machine::start(), toml);
    cluster.cli(&["install", "--now"]).ok();
    cluster
}

/// An app of Go workers on port 3000.
fn go(workers: u16, more: &str) -> String {
    super::cluster::app("api", workers, "hello-go 3000", &format!("listen = 3000\n{more}"))
}

#[test]
fn smoke() {
    let t = std::time::Instant::now();
    let mut cluster = cluster(&go(3, ""));
    eprintln!("{:?} installed", t.elapsed());
    for _ in 0..2 {
        assert_eq!(cluster.workers("api").len(), 3);
        eprintln!("{}", cluster.cli(&["ls"]).ok());
        eprintln!("{}", cluster.run(&["curl", "-s", "127.0.0.1:3000"]).ok());
        eprintln!("{:?}", t.elapsed());
        cluster.reboot();
        eprintln!("{:?} up", t.elapsed());
    }
}
