//! Runs a command in a fresh virtual machine, the one of `make proof`, and ends the machine:
//! `PROJECT_CLUSTER_TEST_MACHINE=$(tests/machine.sh) cargo run --example machine sh -c 'dmesg | tail'`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Write as _;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let machine = support::Machine::start();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = machine.spawn(if words.is_empty() { vec!["uname".to_owned(), "-a".to_owned()] } else { words }.as_slice());
    // What it writes is shown as it comes.
    let mut shown = 0;
    loop {
        let ended = !command.runs();
        let text = command.stdout();
        std::io::stdout().write_all(&text.as_bytes()[shown..])?;
        std::io::stdout().flush()?;
        shown = text.len();
        if ended {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = command.wait(Duration::from_secs(10));
    std::io::stderr().write_all(output.stderr.as_bytes())?;
    drop(machine);
    std::process::exit(output.code)
}
