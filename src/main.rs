//! temporary
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.split_first() {
        Some((verb, rest)) if verb == "worker" => project_cluster::worker::main(rest),
        _ => ExitCode::from(2),
    }
}
