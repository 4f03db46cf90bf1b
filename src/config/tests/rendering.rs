//! How problems look to people and to editors.

use super::{load_files, load_text};

#[test]
fn many_problems_at_once_as_a_person_sees_them() {
    let main = "name = \"shop\"\n\n[apps.api]\nworkers = 2000\ncomand = \"node api.js\"\nlisten = [3000, \"udp://0.0.0.0:53\"]\n\n[apps.bg]\ncommand = \"npm start\"\ncwd = \"/srv/bg\"\nlisten = 3000\n";
    let other = "[apps.bg]\ncwd = \"/srv/other\"\n";
    let problems = load_files(&[("cluster.toml", main.as_bytes()), ("10-bg.toml", other.as_bytes())]).unwrap_err();
    println!("{problems}");
    let t = load_text("[apps.api]\ncommand = \"node \u{202e}\u{7f} x\"\ncwd=\"\u{9b}31m\"\n\"evil\\u001b[2J\" = 1\n").unwrap_err();
    println!("{t}");
    println!("{}", t.to_json());
}
