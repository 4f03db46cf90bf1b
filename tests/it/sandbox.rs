//! The sandbox itself: what every other test here stands on.
use super::support::Sandbox;

#[test]
fn boots() {
    let sandbox = Sandbox::start();
    eprintln!("{:?}", sandbox.boot_took());
    assert_eq!(sandbox.run(&["systemctl", "is-system-running"]).ok(), "running");
}
