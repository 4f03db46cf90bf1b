//! `init`, `check`, `schema`, `install`, `uninstall`: from a configuration to units. Needs no master.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;

use super::args::{Install, Uninstall};
use super::live::Running;
use super::{Context, Failure, complain, list, out, print, print_json, width};
use crate::api::types::{App, AppState, Worker};
use crate::config::{self, Loaded, SystemAccounts};
use crate::journal::{Journal, monotonic_us_now};
use crate::names::AppUnits;
use crate::units::diff::Conflict;
use crate::units::install::{self, Options, Report};
use crate::units::model::Host;
use crate::worker::sys::process::effective_uid;

/// How many lines of a failed app's handle are told: more than one failed start writes.
const LINES: usize = 30;

/// How long the table waits for the master to have seen what systemd has done.
const CATCH_UP: Duration = Duration::from_secs(3);

pub(crate) fn init(context: &Context) -> Result<(), Failure> {
    let next = config::init(&context.config).map_err(|why| Failure::Failed(why.to_string()))?;
    if context.json {
        return print_json(&json!({ "created": context.config, "next": next }));
    }
    context.say(&format!("{}\n", next.trim_end()));
    Ok(())
}

pub(crate) fn check(context: &Context) -> Result<(), Failure> {
    let loaded = config::load(&context.config, &SystemAccounts);
    if context.json {
        let problems = match &loaded {
            Ok(loaded) => &loaded.warnings,
            Err(problems) => problems,
        };
        print_json(&problems.to_json())?;
        return loaded.map(drop).map_err(|found| Failure::Usage(format!("{} in {}", found.summary(), context.config.display())));
    }
    let loaded = loaded.map_err(|found| problems(context, &found))?;
    warn(context, &loaded);
    let apps = loaded.settings.apps.len();
    context.say(&format!(
        "{} is in order: cluster {}, {apps} {}\n",
        context.config.display(),
        loaded.settings.name,
        if apps == 1 { "app" } else { "apps" }
    ));
    Ok(())
}

pub(crate) fn schema() -> Result<(), Failure> {
    print(&config::schema());
    Ok(())
}

fn shown(context: &Context, problems: &config::Problems) -> String {
    problems.render_within(context.look.error_colours, out::error_columns())
}

fn problems(context: &Context, problems: &config::Problems) -> Failure {
    Failure::Usage(format!("the configuration is wrong; nothing was changed.\n{}", shown(context, problems)))
}

/// Warnings go to stderr: they are no part of an answer.
fn warn(context: &Context, loaded: &Loaded) {
    if !loaded.warnings.list.is_empty() {
        complain(&format!("{}\n", shown(context, &loaded.warnings).trim_end()));
    }
}

/// The configuration, with what is to be said of it.
pub(super) fn load(context: &Context) -> Result<Loaded, Failure> {
    let loaded = config::load(&context.config, &SystemAccounts).map_err(|found| problems(context, &found))?;
    if !context.json {
        warn(context, &loaded);
    }
    Ok(loaded)
}

pub(crate) fn install(context: &Context, options: &Install, runtime: &Runtime) -> Result<(), Failure> {
    let loaded = &load(context)?;
    let settings = &loaded.settings;
    let root = options.root.clone().unwrap_or_else(|| PathBuf::from("/"));
    let here = options.root.is_none();
    let install = Options { root, host: host(context, here)?, now: options.now };
    if options.diff {
        let running = if here { Running::connect(context.place, runtime).ok() } else { None };
        let live = running.as_ref().map(|running| running as &dyn install::Live);
        let preview = install::preview(settings, &install, live).map_err(|why| Failure::Failed(why.to_string()))?;
        if context.json {
            print_json(&json!({ "conflicts": preview.plan.conflicts, "diff": preview.text, "warnings": loaded.warnings.to_json() }))?;
        } else {
            print(if preview.text.is_empty() { "nothing would change\n" } else { &preview.text });
        }
        return no_conflicts(&preview.plan.conflicts);
    }
    if !here {
        let report = install::install(settings, &install, None).map_err(|why| Failure::Failed(why.to_string()))?;
        return tell(context, &report, Some(loaded), &[]);
    }
    root_only(context, "install")?;
    let begun = monotonic_us_now();
    let running = Running::connect(context.place, runtime).map_err(|why| Failure::Failed(why.to_string()))?;
    let mut report = install::install(settings, &install, Some(&running)).map_err(|why| Failure::Failed(why.to_string()))?;
    if options.now {
        report.notes.extend(context.place.lingers().err());
    }
    if !context.json {
        tell(context, &report, None, &[])?;
    }
    if !report.is_empty() {
        running.hang_up(&settings.name.master()).map_err(|why| Failure::Failed(why.to_string()))?;
    }
    if options.now {
        // Asked of systemd: the master hears of it, too, and maybe a moment later.
        let handles: Vec<String> = settings.apps.keys().map(|app| AppUnits::new(&settings.name, app).handle()).collect();
        let failed = running.failed(&handles).map_err(|why| Failure::Failed(why.to_string()))?;
        return runtime.block_on(show(context, &failed, begun, |workers| tell(context, &report, Some(loaded), workers)));
    }
    if context.json {
        tell(context, &report, Some(loaded), &[])?;
    } else if !report.is_empty() {
        context.say(&format!("Start it: systemctl enable --now {}\n", settings.name.target()));
    }
    Ok(())
}

/// Fails, in short, where files are in the way; the answer has them.
pub(super) fn no_conflicts(conflicts: &[Conflict]) -> Result<(), Failure> {
    match conflicts {
        [] => Ok(()),
        [one] => Err(Failure::Failed(format!("{} is in the way: `install` would refuse and change nothing", one.path.display()))),
        [one, more @ ..] => Err(Failure::Failed(format!(
            "{} and {} more are in the way: `install` would refuse and change nothing",
            one.path.display(),
            more.len()
        ))),
    }
}

/// The table, and failure when an app did not start, with what its handle said since then.
async fn show(
    context: &Context,
    handles: &[String],
    begun_us: u64,
    json: impl Fn(&[Worker]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let end = Instant::now() + CATCH_UP;
    let apps = loop {
        let apps = context.client.apps().await?;
        let settled = |app: &App| !matches!(app.state, AppState::Starting | AppState::Stopping);
        let told = |app: &App| (app.state == AppState::Failed) == handles.contains(&app.handle) && settled(app);
        if apps.iter().all(told) || Instant::now() > end {
            break apps;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let workers: Vec<_> = apps.iter().flat_map(|app| app.workers.clone()).collect();
    if context.json {
        json(&workers)?;
    } else {
        context.say(&list::workers(&workers, &apps, width(), context.look.colours));
    }
    let mut failed = Vec::new();
    for handle in handles {
        let app = apps.iter().find(|app| app.handle == *handle).map_or(handle.as_str(), |app| app.name.as_str());
        failed.push(format!("{app} did not start; `journalctl -u {handle}` has it all:"));
        failed.extend(
            Journal::of(context.place.manager).last_lines(handle, begun_us, LINES).await.into_iter().map(|line| format!("  {line}")),
        );
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Failed(failed.join("\n"))) }
}

pub(crate) fn uninstall(context: &Context, asked: &Uninstall, runtime: &Runtime) -> Result<(), Failure> {
    let root = asked.root.as_deref();
    let here = root.is_none();
    let options = Options { root: root.unwrap_or(Path::new("/")).to_owned(), host: Host::of(context.place.clone()), now: false };
    let running = if here {
        root_only(context, "uninstall")?;
        let what = if context.place.is_user() { "its units" } else { "its units, its user" };
        context.confirm(asked.yes, &format!("stop cluster {} and remove {what} and all that it keeps?", context.cluster))?;
        Some(Running::connect(context.place, runtime).map_err(|why| Failure::Failed(why.to_string()))?)
    } else {
        None
    };
    let live = running.as_ref().map(|running| running as &dyn install::Live);
    let report = install::uninstall(&context.cluster, &options, live).map_err(|why| Failure::Failed(why.to_string()))?;
    tell(context, &report, None, &[])
}

/// What was done; as JSON with the warnings and, behind `--now`, the workers.
fn tell(context: &Context, report: &Report, loaded: Option<&Loaded>, workers: &[Worker]) -> Result<(), Failure> {
    if !context.json {
        context.say(&report.to_string());
        return Ok(());
    }
    let changed: Vec<_> = report.actions.iter().map(|(action, path)| json!({ "action": action.word(), "path": path })).collect();
    print_json(&json!({
        "cluster": report.cluster,
        "root": report.root,
        "changed": changed,
        "notes": report.notes.iter().chain(&report.advice).collect::<Vec<_>>(),
        "warnings": loaded.map(|loaded| loaded.warnings.to_json()),
        "workers": workers,
    }))
}

/// Whether we may write what systemd and the steps of workers read: root, or who has a systemd of their own.
pub(super) fn may_install(context: &Context) -> bool {
    context.place.is_user() || effective_uid() == 0
}

pub(super) fn root_only(context: &Context, verb: &str) -> Result<(), Failure> {
    if may_install(context) {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "`{verb}` writes to /etc/systemd/system: run it as root, `sudo project-cluster {verb}`. `sudo project-cluster install --diff` shows what it would write"
    )))
}

/// The paths that the units name. Workers run this very program as other users, so they must be able to reach it.
pub(super) fn host(context: &Context, here: bool) -> Result<Host, Failure> {
    let mut host = Host::of(context.place.clone());
    if !here {
        return Ok(host);
    }
    let program = std::env::current_exe().map_err(|why| Failure::Failed(format!("the program's own path cannot be read: {why}")))?;
    let program = reachable(program, host.is_user())?;
    host.program = program;
    Ok(host)
}

/// The path of this program, where units may name it.
fn reachable(program: PathBuf, by_its_user: bool) -> Result<PathBuf, Failure> {
    // The kernel says `PATH (deleted)` of one that an upgrade has replaced; proc(5).
    if !program.exists() {
        return Err(Failure::Failed(format!(
            "this program was replaced or removed while it ran ({}), so the units cannot name it: run the same command again",
            program.display()
        )));
    }
    let private = ["/root/", "/home/", "/tmp/", "/run/user/"].iter().find(|prefix| program.starts_with(prefix));
    if let (Some(prefix), false) = (private, by_its_user) {
        return Err(Failure::Failed(format!(
            "this program lies in {} and workers run it as other users, who cannot see {prefix}: install it first (`make install`, or copy it to /usr/local/bin), then run that one",
            program.display()
        )));
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_name_the_program_only_where_it_is_and_all_may_reach_it() {
        let place = PathBuf::from("/bin/sh");
        assert_eq!(reachable(place.clone(), false).ok(), Some(place));
        let refused = |path: &str| reachable(path.into(), false).err().map(|why| format!("{why:?}")).unwrap_or_default();
        assert!(refused("/bin/sh (deleted)").contains("run the same command again"), "{}", refused("/bin/sh (deleted)"));
        // Wherever TMPDIR leads.
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let hidden = directory.path().join("program");
        std::fs::write(&hidden, "").unwrap();
        assert!(refused(&hidden.display().to_string()).contains("who cannot see /tmp/"));
        assert!(reachable(hidden, true).is_ok());
    }
}
