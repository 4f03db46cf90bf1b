//! What each switch of `[apps.X.sandbox]` costs at a start: a worker's unit without it beside one with all.

use crate::{bare, inside, without_us};

/// As the configuration calls them, those that are on unless switched off.
const SWITCHES: [&str; 10] = ["privileges", "system", "home", "tmp", "devices", "kernel", "proc", "namespaces", "families", "syscalls"];
/// Started at once, of each kind.
const UNITS: usize = 10;

/// For each switch, and for all together, milliseconds a start.
pub fn switches() -> Result<Vec<(String, f64)>, String> {
    let sandbox = bare()?;
    let kinds: Vec<Vec<&str>> =
        [vec![]].into_iter().chain([SWITCHES.to_vec()]).chain(SWITCHES.iter().map(|switch| vec![*switch])).collect();
    let mut words = vec!["starts".to_owned(), "5".to_owned()];
    for (at, off) in kinds.iter().enumerate() {
        let off: String = off.iter().map(|switch| format!("sandbox.{switch} = false\n")).collect();
        // An account that each Debian has: a dynamic user brings parts of the sandbox along.
        let config = format!("[apps.api]\ncommand = \"sleep infinity\"\nready = \"none\"\nuser = \"daemon\"\n{off}");
        sandbox.write("/etc/project-cluster/cluster.toml", config);
        sandbox.run(&["mkdir", &format!("/root/{at}")]).ok();
        sandbox.run(&["project-cluster", "install", "--root", &format!("/root/{at}")]).ok();
        let unit = without_us(&sandbox.read(format!("/root/{at}/etc/systemd/system/project-cluster-api@.service")));
        sandbox.write(format!("/etc/systemd/system/kind{at}@.service"), format!("{unit}\n[Service]\nExecStart=/bin/sleep infinity\n"));
        let units: Vec<String> = (0..UNITS).map(|number| format!("kind{at}@{number}.service")).collect();
        let verb = |verb: &str| [vec!["systemctl".to_owned(), verb.to_owned()], units.clone()].concat();
        if at > 0 {
            words.push("--".into());
        }
        words.extend([verb("start"), vec!["++".into()], verb("stop"), vec!["++".into()]].concat());
    }
    sandbox.systemctl(&["daemon-reload"]).ok();
    let times = inside(&sandbox, &[], &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    let ms = |us: f64| us / 1000.0 / UNITS as f64;
    let [all, none, ..] = times[..] else { return Err(format!("{times:?}")) };
    let mut lines = vec![("a start without a sandbox".to_owned(), ms(none)), ("all of the sandbox".to_owned(), ms(all - none))];
    lines.extend(SWITCHES.iter().zip(&times[2..]).map(|(switch, time)| (format!("`{switch}`"), ms(all - time))));
    Ok(lines)
}
