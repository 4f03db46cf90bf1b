//! What systemd's own tools say about the rendered units, without a running systemd.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use project_cluster::config::settings::Settings;
use project_cluster::units::model::Host;
use project_cluster::units::render::render;

use crate::samples;

/// Writes the units of these clusters into a scratch directory, for a program that exists.
fn scratch(clusters: &[Settings]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("a program");
    fs::copy("/bin/true", &program).unwrap();
    let host = Host { program, ..Host::default() };
    for settings in clusters {
        for (path, file) in render(settings, &host).files {
            if let Ok(path) = path.strip_prefix(&host.units) {
                let path = directory.path().join("units").join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file.contents).unwrap();
            }
        }
    }
    directory
}

fn analyze(directory: &Path, arguments: &[&str], units: &[String]) -> Output {
    Command::new("systemd-analyze")
        .args(arguments)
        .args(units)
        // The colon adds the distribution's directories.
        .env("SYSTEMD_UNIT_PATH", format!("{}:", directory.join("units").display()))
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .output()
        .expect("systemd-analyze is part of systemd, which this program is for")
}

#[test]
fn verify_is_silent() {
    for (name, clusters) in samples::all() {
        let directory = scratch(&clusters);
        let neutral = directory.path().join("neutral");
        fs::create_dir(&neutral).unwrap();
        let mut units: Vec<String> = Vec::new();
        for entry in fs::read_dir(directory.path().join("units")).unwrap() {
            let path = entry.unwrap().path();
            let unit = path.file_name().unwrap().to_str().unwrap().to_owned();
            if unit.contains(':') && path.is_file() {
                // On its command line a colon separates a file from an alias, so sockets and hooks go under another name; under
                // their own they are loaded as well, by the workers that name them.
                let copy = neutral.join(unit.replace([':', '\\'], "_"));
                fs::copy(&path, &copy).unwrap();
                units.push(copy.to_str().unwrap().to_owned());
            } else if path.is_file() {
                // Of a template it makes an instance by itself.
                units.push(path.to_str().unwrap().to_owned());
            }
        }
        let output = analyze(directory.path(), &["verify", "--recursive-errors=yes", "--man=no"], &units);
        let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    }
}

/// The figure that `systemd-analyze security` ends with, 0.0 (closed) to 10.0 (open).
fn exposure(directory: &Path, unit: &str) -> f64 {
    let unit = directory.join("units").join(unit).to_str().unwrap().to_owned();
    let output = analyze(directory, &["security", "--offline=true", "--no-pager"], &[unit]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{output:?}"));
    line.split_once(": ").unwrap().1.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn exposure_stays_as_low_as_it_was() {
    let directory = scratch(&[samples::minimal()]);
    for (unit, limit) in [
        ("project-cluster.service", 1.5),
        ("project-cluster@.service", 1.0),
        ("project-cluster-first@.service", 2.0),
        ("project-cluster-web@.service", 2.5),
    ] {
        let score = exposure(directory.path(), unit);
        println!("{unit}: {score}");
        assert!(score <= limit, "{unit}: {score} > {limit}");
    }
}

/// Asks the rule as polkit would: (user, verb, unit) for manage-units.
const ASK: &str = r#"
    var rule, polkit = { addRule: function (f) { rule = f; }, Result: { YES: "yes", NOT_HANDLED: "not handled" } };
    eval(require("fs").readFileSync(process.argv[1], "utf8"));
    JSON.parse(process.argv[2]).forEach(function (ask) {
        var action = { id: ask[3] || "org.freedesktop.systemd1.manage-units", lookup: function (key) { return { verb: ask[1], unit: ask[2] }[key]; } };
        console.log(rule(action, { user: ask[0] }));
    });
"#;

#[test]
fn the_master_may_do_its_work_and_nothing_else() {
    let yes: [(&str, &str, &str); 10] = [
        ("my-shop", "start", "my-shop-api@1.1.1.service"),
        ("my-shop", "stop", "my-shop-api-v2@1024.18446744073709551615.9999.service"),
        ("my-shop", "restart", "my-shop-api@2.7-4.1.service"),
        ("my-shop", "reset-failed", "my-shop-api@1.1.1.service"),
        ("my-shop", "start", "my-shop@api.service"),
        ("my-shop", "stop", "my-shop@api-v2.service"),
        ("my-shop", "reload", "my-shop@api.service"),
        ("my-shop", "stop", "my-shop-first@api.service"),
        ("my-shop", "start", "my-shop-api-127.0.0.1:3000.socket"),
        ("my-shop", "start", "my-shop-api-v2-unix:run:a-b:c.sock.socket"),
    ];
    let no: [(&str, &str, &str); 19] = [
        ("my-sho", "start", "my-shop-api@1.1.1.service"),
        ("root", "start", "my-shop-api@1.1.1.service"),
        ("my-shop", "reload", "my-shop-api@1.1.1.service"),
        ("my-shop", "kill", "my-shop-api@1.1.1.service"),
        ("my-shop", "set-property", "my-shop-api@1.1.1.service"),
        ("my-shop", "start", "my-shop.service"),
        ("my-shop", "start", "my-shop.target"),
        ("my-shop", "stop", "my-shop.socket"),
        ("my-shop", "start", "my-shop@other.service"),
        ("my-shop", "start", "my-shop-other@1.1.1.service"),
        ("my-shop", "start", "my-shop-api@0.1.1.service"),
        ("my-shop", "start", "my-shop-api@01.1.1.service"),
        ("my-shop", "start", "my-shop-api@1.1.service"),
        ("my-shop", "start", "my-shop-api@1.1.1.service\n"),
        ("my-shop", "start", "x my-shop-api@1.1.1.service"),
        ("my-shop", "start", "my-shop-api@1x1x1.service"),
        ("my-shop", "start", "my-shop-api@1.1.1.socket"),
        ("my-shop", "start", "my-shop-api-127.0.0.1:3001.socket"),
        ("my-shop", "start", "sshd.service"),
    ];
    let settings = samples::dashes();
    let directory = tempfile::tempdir().unwrap();
    let rule = directory.path().join("rule.js");
    fs::write(&rule, &render(&settings, &Host::default()).files[&Host::default().polkit_file(&settings.name)].contents).unwrap();
    let ask = |asks: &serde_json::Value| {
        let output =
            Command::new("node").args(["-e", ASK, rule.to_str().unwrap(), &asks.to_string()]).output().expect("node runs the rule");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(ask(&serde_json::json!(yes)), vec!["yes"; yes.len()]);
    assert_eq!(ask(&serde_json::json!(no)), vec!["not handled"; no.len()]);
    let other = serde_json::json!([
        ["my-shop", "start", "my-shop-api@1.1.1.service", "org.freedesktop.systemd1.manage-unit-files"],
        ["my-shop", "start"]
    ]);
    assert_eq!(ask(&other), ["not handled", "not handled"]);
}
