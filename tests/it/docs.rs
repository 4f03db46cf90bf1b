//! What the documents tell people to type works.

use super::cluster::{SOON, installed};

/// The text of the code blocks of one language, in order.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for line in document.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(tag)) if tag == language => block = Some(String::new()),
            (None, _) => {}
            (Some(_), Some(_)) => found.extend(block.take()),
            (Some(text), None) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    found
}

#[test]
fn the_readme_s_first_cluster() {
    let readme = include_str!("../../README.md");
    let cluster = installed("");
    cluster.run(&["rm", "/etc/project-cluster/cluster.toml"]).ok();
    cluster.sh("rm -rf /srv/shop; for release in 1 2; do mkdir -p /srv/shop/releases/$release; cp /srv/apps/*.js /srv/shop/releases/$release; done").ok();
    cluster.sh("cd /srv/shop/releases; for release in 1 2; do mv $release/hello.js $release/api.js; mv $release/worker.js $release/bg.js; echo v$release > $release/VERSION; done").ok();
    cluster.sh("ln -sfn releases/1 /srv/shop/current").ok();
    let shell = blocks(readme, "sh");
    let [first, tour, ..] = shell.as_slice() else { panic!("the README has its two blocks of commands: {shell:?}") };
    let [config] = &blocks(readme, "toml")[..] else { panic!("the README has one configuration") };
    // `sudo` has nothing to do for root, and the sandbox may not have it.
    let run = |line: &str| cluster.sh(&format!("sudo() {{ \"$@\"; }}; {line}")).ok();

    // The two commands: a starter file, then units. The starter file describes no app of this machine: it is checked, not started.
    let lines: Vec<&str> = first.lines().collect();
    assert!(lines[0].contains("init") && lines[1].contains("install --now"), "{first}");
    run(lines[0]);
    cluster.cli(&["check"]).ok();

    cluster.config(config);
    for line in tour.lines().filter(|line| !line.contains("logs")) {
        run(line);
    }
    cluster.wait_until("version 2 answers", SOON, || cluster.get("127.0.0.1:3000", "/").is_ok_and(|answer| answer.body.starts_with("v2 ")));
    assert_eq!((cluster.workers("api").len(), cluster.workers("bg").len()), (4, 2));
    // The command that follows the log goes on for ever: it is run until it has said something.
    let logs = tour.lines().find(|line| line.contains("logs")).expect("the README shows the logs");
    let following = cluster.spawn(&["sh", "-c", &logs.replace("logs api", "logs bg")]);
    cluster.wait_until("the log says something", SOON, || following.stdout().contains("works"));
}

#[test]
fn the_verbs_of_operations() {
    let document = include_str!("../../docs/operations.md");
    let cluster = super::cluster::cluster(&super::cluster::node(2));
    let blocks = blocks(document, "sh");
    assert!(!blocks.is_empty(), "docs/operations.md shows commands");
    for line in blocks.iter().flat_map(|block| block.lines()) {
        let said = cluster.sh(line).ok();
        assert!(!said.trim().is_empty(), "`{line}` says something");
    }
    let rows: Vec<String> = cluster.ls().iter().map(|row| format!("{} {}", row.uid(), row.state())).collect();
    assert_eq!(rows, ["api:01 online", "api:02 online"]);
}
