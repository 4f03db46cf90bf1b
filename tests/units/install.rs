//! Installs into directories, with a systemd that only remembers what it was asked.

mod package;
mod rootless;
mod sockets;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use project_cluster::api::token::Token;
use project_cluster::config::settings::{Api, App, Auth, Settings, Workers};
use project_cluster::units::install::{Error, Live, LiveError, Options, install, preview, uninstall};

use crate::samples;

/// Remembers the calls; makes and removes the user as the real one would; fails where told to.
struct Fake {
    root: PathBuf,
    calls: RefCell<Vec<String>>,
    failing: RefCell<Option<&'static str>>,
    /// By pattern, as asked.
    running: RefCell<Vec<String>>,
}

impl Fake {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), calls: RefCell::default(), failing: RefCell::default(), running: RefCell::default() }
    }
    fn call(&self, what: String) -> Result<(), LiveError> {
        let fails = self.failing.borrow().is_some_and(|failing| what.starts_with(failing));
        self.calls.borrow_mut().push(what);
        if fails { Err(LiveError("no".into())) } else { Ok(()) }
    }
    fn take(&self) -> Vec<String> {
        self.calls.take()
    }
}

impl Live for Fake {
    fn sysusers(&self, conf: &Path) -> Result<(), LiveError> {
        let text = fs::read_to_string(conf).unwrap();
        let line = text.lines().find(|line| line.starts_with("u ")).unwrap();
        let (name, gecos) = (line.split(' ').nth(1).unwrap(), line.split('"').nth(1).unwrap());
        fs::create_dir_all(self.root.join("etc")).unwrap();
        let passwd = self.root.join("etc/passwd");
        let old = fs::read_to_string(&passwd).unwrap_or_default();
        if !old.lines().any(|line| line.starts_with(&format!("{name}:"))) {
            fs::write(&passwd, format!("{old}{name}:x:4242:4343:{gecos}:/:/usr/sbin/nologin\n")).unwrap();
        }
        self.call(format!("sysusers {}", conf.strip_prefix(&self.root).unwrap().display()))
    }
    fn daemon_reload(&self) -> Result<(), LiveError> {
        self.call("daemon-reload".into())
    }
    fn enable(&self, unit: &str) -> Result<(), LiveError> {
        self.call(format!("enable {unit}"))
    }
    fn disable(&self, unit: &str) -> Result<(), LiveError> {
        self.call(format!("disable {unit}"))
    }
    fn start(&self, unit: &str) -> Result<(), LiveError> {
        self.call(format!("start {unit}"))
    }
    fn restart(&self, unit: &str) -> Result<(), LiveError> {
        self.call(format!("restart {unit}"))
    }
    fn running(&self, patterns: &[String]) -> Result<Vec<String>, LiveError> {
        Ok(patterns.iter().filter(|pattern| self.running.borrow().contains(*pattern)).cloned().collect())
    }
    fn stop(&self, units: &[String]) -> Result<(), LiveError> {
        self.call(format!("stop {}", units.join(" ")))
    }
    fn remove_user(&self, name: &str) -> Result<(), LiveError> {
        let passwd = self.root.join("etc/passwd");
        let old = fs::read_to_string(&passwd).unwrap();
        fs::write(
            &passwd,
            old.lines().filter(|line| !line.starts_with(&format!("{name}:"))).map(|line| format!("{line}\n")).collect::<String>(),
        )
        .unwrap();
        self.call(format!("remove-user {name}"))
    }
}

fn root() -> (tempfile::TempDir, Options) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { root: directory.path().to_owned(), ..Options::default() };
    (directory, options)
}

/// A root directory that already has what a Debian has.
fn furnished() -> (tempfile::TempDir, Options) {
    let (directory, options) = root();
    for path in ["etc/systemd/system", "etc/polkit-1/rules.d", "etc/sysusers.d", "usr/lib/systemd/system", "var/lib"] {
        fs::create_dir_all(directory.path().join(path)).unwrap();
    }
    fs::write(directory.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nmail:x:8:8:mail:/var/mail:/bin/sh\n").unwrap();
    fs::write(directory.path().join("etc/group"), "root:x:0:\nmail:x:8:\nsudo:x:27:\n").unwrap();
    (directory, options)
}

/// Everything below a directory: kind, mode, owner, contents.
fn everything(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let contents = if meta.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
            if meta.is_dir() {
                open.push(path.clone());
            }
            found.insert(path, format!("{:o} {} {} {contents}", meta.mode(), meta.uid(), meta.gid()));
        }
    }
    found
}

fn refusal(settings: &Settings, options: &Options, live: Option<&dyn Live>) -> String {
    let before = everything(&options.root);
    let error = install(settings, options, live).unwrap_err();
    assert!(matches!(error, Error::Conflicts(_)), "{error}");
    assert_eq!(everything(&options.root), before, "a refused install changes nothing");
    error.to_string()
}

#[test]
fn a_second_install_changes_nothing() {
    for (_, clusters) in samples::all() {
        let (directory, options) = root();
        for settings in &clusters {
            assert!(!install(settings, &options, None).unwrap().is_empty());
        }
        let before = everything(directory.path());
        for settings in &clusters {
            let report = install(settings, &options, None).unwrap();
            assert!(report.is_empty(), "{report}");
            assert!(report.to_string().starts_with("nothing to change for cluster "), "{report}");
            assert_eq!(preview(settings, &options, None).unwrap().text, "");
        }
        assert_eq!(everything(directory.path()), before);
    }
}

#[test]
fn what_a_newer_version_wrote_is_refused_before_anything_is_done() {
    let (directory, options) = furnished();
    let settings = samples::minimal();
    install(&settings, &options, None).unwrap();
    let var = directory.path().join(format!("var/lib/{}", settings.name));
    let master = fs::read_to_string(var.join("settings.json")).unwrap();
    let newer = |text: &str| text.replacen("\"format\": 2", "\"format\": 3", 1).replacen("\"command\"", "\"becomes\"", 1);
    for (file, text) in [("settings.json", newer(&master)), ("state/apps.json", "{\"format\":3,\"workers\":[]}".into())] {
        fs::create_dir_all(var.join(file).parent().unwrap()).unwrap();
        fs::write(var.join(file), text).unwrap();
        let mut changed = settings.clone();
        changed.apps.values_mut().for_each(|app| app.command.push("more".into()));
        let before = everything(directory.path());
        let told = install(&changed, &options, None).unwrap_err();
        let looked = preview(&changed, &options, None).unwrap_err();
        assert_eq!(everything(directory.path()), before, "a refused install changes nothing");
        assert!(matches!((&told, &looked), (Error::Newer(_), Error::Newer(_))), "{told}, {looked}");
        let told = told.to_string();
        for part in
            ["nothing was changed: ", &var.join(file).display().to_string(), "format 3, this one knows 2", "install that version again"]
        {
            assert!(told.contains(part) && !told.contains('\n'), "{part}: {told}");
        }
        fs::write(var.join(file), if file == "settings.json" { &master } else { "{\"format\":2,\"apps\":{}}" }).unwrap();
        install(&settings, &options, None).unwrap();
    }
}

#[test]
fn uninstall_leaves_the_tree_as_before() {
    for furnish in [false, true] {
        let (directory, options) = if furnish { furnished() } else { root() };
        let before = everything(directory.path());
        let [shop, shop_eu] = samples::two_clusters();
        install(&shop, &options, None).unwrap();
        let with_one = everything(directory.path());
        install(&shop_eu, &options, None).unwrap();
        uninstall(&shop_eu.name, &options, None).unwrap();
        assert_eq!(everything(directory.path()), with_one, "the other cluster is as it was");
        uninstall(&shop.name, &options, None).unwrap();
        assert_eq!(everything(directory.path()), before);
        assert!(uninstall(&shop.name, &options, None).unwrap().is_empty(), "a second one finds nothing");
    }
}

#[test]
fn installs_at_the_same_time_wait_for_each_other() {
    let (directory, options) = furnished();
    let before = everything(directory.path());
    let clusters = samples::two_clusters();
    std::thread::scope(|scope| {
        for settings in &clusters {
            for _ in 0..4 {
                scope.spawn(|| install(settings, &options, None).unwrap());
            }
        }
    });
    for settings in &clusters {
        assert!(install(settings, &options, None).unwrap().is_empty());
        uninstall(&settings.name, &options, None).unwrap();
    }
    assert_eq!(everything(directory.path()), before);
}

#[test]
fn modes_and_owners() {
    let (directory, options) = furnished();
    let live = Fake::new(directory.path());
    install(&samples::shop(), &options, Some(&live)).unwrap();
    let root_runs = fs::metadata("/proc/self").unwrap().uid() == 0;
    for (path, mode, gid) in [
        ("var/lib/project-cluster", 0o755, 0),
        ("var/lib/project-cluster/settings.json", 0o640, 4343),
        ("var/lib/project-cluster/pins", 0o700, 0),
        ("var/lib/project-cluster/pins/settings.json", 0o600, 0),
        ("var/lib/project-cluster/pins/installed.json", 0o600, 0),
        ("etc/systemd/system/project-cluster.service", 0o644, 0),
        ("etc/polkit-1/rules.d/50-project-cluster.rules", 0o644, 0),
    ] {
        let meta = fs::metadata(directory.path().join(path)).unwrap();
        assert_eq!(meta.mode() & 0o7777, mode, "{path}");
        if root_runs {
            assert_eq!((meta.uid(), meta.gid()), (0, gid), "{path}");
        }
    }
}

#[test]
fn live_calls_in_their_order() {
    let (directory, options) = furnished();
    let live = Fake::new(directory.path());
    let now = Options { now: true, ..options.clone() };
    let mut settings = samples::shop();
    install(&settings, &now, Some(&live)).unwrap();
    let sysusers = "sysusers etc/sysusers.d/project-cluster.conf";
    assert_eq!(live.take(), [sysusers, "daemon-reload", "enable project-cluster.target", "start project-cluster.target"]);

    install(&settings, &options, Some(&live)).unwrap();
    assert_eq!(live.take(), Vec::<String>::new(), "nothing changed, nothing asked");

    settings.apps.remove(&"api".parse().unwrap());
    let report = install(&settings, &options, Some(&live)).unwrap();
    let stopped = "stop project-cluster@api.service project-cluster-api@*.service project-cluster-first@api.service project-cluster-api-0.0.0.0:3000.socket system-project\\x2dcluster\\x2dapi.slice";
    assert_eq!(live.take(), [stopped, sysusers, "daemon-reload"]);
    let units = directory.path().join("etc/systemd/system");
    assert!(!units.join("project-cluster@api.service.d").exists(), "{report}");
    assert!(!units.join("project-cluster-api@.service").exists());
    assert!(units.join("project-cluster-bg@.service").exists());

    uninstall(&settings.name, &options, Some(&live)).unwrap();
    let stopped = "stop project-cluster.target project-cluster@bg.service project-cluster-tcp.socket project-cluster.socket project-cluster-bg@*.service project-cluster-first@bg.service project-cluster.service system-project\\x2dcluster\\x2dbg.slice system-project\\x2dcluster.slice system-project\\x2dcluster\\x2dfirst.slice";
    assert_eq!(live.take(), [stopped, "disable project-cluster.target", "daemon-reload", "remove-user project-cluster"]);
}

#[test]
fn the_token_is_made_once_on_a_live_system_and_renewed_where_it_is_removed() {
    let (directory, options) = furnished();
    let var = directory.path().join("var/lib/project-cluster");
    let (token, hash) = (var.join("operators/token"), var.join("token.sha256"));
    let settings = samples::shop();
    install(&settings, &options, None).unwrap();
    assert!(!token.exists() && !hash.exists(), "an image that is copied would copy the secret");

    let live = Fake::new(directory.path());
    let report = install(&settings, &options, Some(&live)).unwrap();
    assert_eq!(report.actions.iter().filter(|(_, path)| path.ends_with("operators/token") || path.ends_with("token.sha256")).count(), 2);
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let hashed = || Token::read(read(&token).as_bytes()).unwrap().hash().text();
    let first = read(&token);
    assert_eq!(read(&hash).trim_end(), hashed());
    for path in [&token, &hash] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o640);
    }
    assert!(!report.to_string().contains(first.trim_end()), "it is not told");
    assert!(install(&settings, &options, Some(&live)).unwrap().is_empty(), "a second install leaves it");

    // Renewed, and what is damaged or open to others is mended.
    fs::remove_file(&token).unwrap();
    assert!(!install(&settings, &options, Some(&live)).unwrap().is_empty());
    let second = read(&token);
    assert_ne!(second, first);
    fs::write(&hash, "damaged").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    install(&settings, &options, Some(&live)).unwrap();
    assert_eq!((read(&token), read(&hash).trim_end().to_owned()), (second.clone(), hashed()));
    assert_eq!(fs::metadata(&token).unwrap().mode() & 0o7777, 0o640);
    fs::write(&token, "damaged").unwrap();
    install(&settings, &options, Some(&live)).unwrap();
    assert_eq!(read(&hash).trim_end(), hashed());

    // Who does without finds it again; `uninstall` takes it along.
    let third = read(&token);
    for api in [Api { auth: Auth::None, ..settings.api.clone() }, Api { enabled: false, ..settings.api.clone() }] {
        install(&Settings { api, ..settings.clone() }, &options, Some(&live)).unwrap();
        assert_eq!(read(&token), third);
    }
    uninstall(&settings.name, &options, Some(&live)).unwrap();
    assert!(!var.exists());
}

#[test]
fn a_changed_tcp_listener_takes_a_new_master_and_nothing_else_does() {
    let (directory, options) = furnished();
    let live = Fake::new(directory.path());
    let mut settings = samples::shop();
    install(&settings, &options, Some(&live)).unwrap();
    live.take();
    live.running.replace(vec!["project-cluster.service".into()]);
    let restart = ["stop project-cluster-tcp.socket project-cluster.service", "start project-cluster.service"];
    let sysusers = "sysusers etc/sysusers.d/project-cluster.conf";
    settings.api.port = 9000;
    let report = install(&settings, &options, Some(&live)).unwrap().to_string();
    assert_eq!(live.take(), [sysusers, "daemon-reload", restart[0], restart[1]]);
    assert!(report.contains("does not listen on 127.0.0.1:9000"), "as nothing but the master runs here: {report}");
    // Its unit goes before it is stopped: it would not be found any more.
    settings.api.enabled = false;
    let report = install(&settings, &options, Some(&live)).unwrap().to_string();
    assert_eq!(live.take(), ["stop project-cluster-tcp.socket", sysusers, "daemon-reload", restart[0], restart[1]]);
    assert!(!report.contains("does not listen") && !report.contains("systemctl restart project-cluster`"), "{report}");
    settings.api.auth = Auth::None;
    install(&settings, &options, Some(&live)).unwrap();
    assert_eq!(live.take(), [sysusers, "daemon-reload"], "the master hears of it by a signal");
    // One that is down gets it with its next start.
    live.running.replace(Vec::new());
    settings.api.enabled = true;
    install(&settings, &options, Some(&live)).unwrap();
    assert_eq!(live.take(), [sysusers, "daemon-reload"]);
}

#[test]
fn a_cut_off_install_is_taken_up() {
    let (directory, options) = furnished();
    let live = Fake::new(directory.path());
    let settings = samples::shop();
    live.failing.replace(Some("daemon-reload"));
    let error = install(&settings, &options, Some(&live)).unwrap_err().to_string();
    assert!(error.ends_with("mend this and run the same command again"), "{error}");
    live.take();
    live.failing.replace(None);
    install(&settings, &options, Some(&live)).unwrap();
    assert_eq!(live.take(), ["sysusers etc/sysusers.d/project-cluster.conf", "daemon-reload"], "all files were there, the reload was not");
    install(&settings, &options, Some(&live)).unwrap();
    assert_eq!(live.take(), Vec::<String>::new());
}

#[test]
fn a_foreign_file_is_never_overwritten() {
    let settings = samples::shop();
    for (path, contents) in [
        ("etc/systemd/system/project-cluster.service", "[Service]\nExecStart=/bin/true\n"),
        ("etc/systemd/system/project-cluster@api.service.d/50-app.conf", "[Service]\n"),
        ("etc/polkit-1/rules.d/50-project-cluster.rules", "// mine\n"),
        ("var/lib/project-cluster/settings.json", "{\"name\": \"other\"}"),
    ] {
        let (directory, options) = furnished();
        let real = directory.path().join(path);
        fs::create_dir_all(real.parent().unwrap()).unwrap();
        fs::write(&real, contents).unwrap();
        let message = refusal(&settings, &options, None);
        assert!(message.contains(&format!("/{path} ")), "{message}");
        uninstall(&settings.name, &options, None).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), contents, "nor removed");
    }
}

#[test]
fn a_masked_unit_is_refused_with_what_to_do() {
    let (directory, options) = furnished();
    symlink("/dev/null", directory.path().join("etc/systemd/system/project-cluster@.service")).unwrap();
    assert!(refusal(&samples::shop(), &options, None).contains("systemctl unmask"));
}

#[test]
fn a_unit_of_another_cluster_is_not_taken() {
    let (_directory, options) = root();
    install(&samples::cluster("shop-eu", &[("api", samples::app("x"))]), &options, None).unwrap();
    let message = refusal(&samples::cluster("shop", &[("eu-api", samples::app("x"))]), &options, None);
    assert!(message.contains("/etc/systemd/system/shop-eu-api@.service belongs to cluster shop-eu"), "{message}");
}

#[test]
fn a_unit_of_the_distribution_is_not_hidden() {
    let (directory, options) = furnished();
    fs::write(directory.path().join("usr/lib/systemd/system/network.target"), "[Unit]\n").unwrap();
    let message = refusal(&samples::cluster("network", &[]), &options, None);
    assert!(message.contains("would take the place of /usr/lib/systemd/system/network.target"), "{message}");
}

#[test]
fn an_account_of_others_is_not_used() {
    let (_directory, options) = furnished();
    assert!(refusal(&samples::cluster("mail", &[]), &options, None).contains("has a user `mail`"));
    assert!(refusal(&samples::cluster("sudo", &[]), &options, None).contains("a group of that name"));
}

/// Each dash is four bytes in the name of a slice, and systemd refuses to load a worker whose slice has no name.
#[test]
fn a_slice_with_a_name_too_long_is_refused() {
    let (_directory, options) = root();
    let name = format!("a{}b", "-".repeat(62));
    let message = refusal(&samples::cluster("shop", &[(&name, samples::app("x"))]), &options, None);
    assert!(message.contains("shorten the name of app a---"), "{message}");
}

/// A cluster called `mysql` must not make `uninstall` remove a database.
#[test]
fn state_of_others_is_neither_used_nor_removed() {
    let (directory, options) = furnished();
    let data = directory.path().join("var/lib/mysql/ibdata1");
    fs::create_dir(data.parent().unwrap()).unwrap();
    fs::write(&data, "precious").unwrap();
    let settings = samples::cluster("mysql", &[]);
    assert!(refusal(&settings, &options, None).contains("/var/lib/mysql/ibdata1 lies where"));
    uninstall(&settings.name, &options, None).unwrap();
    assert_eq!(fs::read_to_string(&data).unwrap(), "precious");
}

#[test]
fn drop_ins_of_an_administrator_stay() {
    let (directory, options) = furnished();
    let settings = samples::shop();
    install(&settings, &options, None).unwrap();
    let units = directory.path().join("etc/systemd/system");
    let own = [units.join("project-cluster@api.service.d/90-mine.conf"), units.join("project-cluster-api@.service.d/mine.conf")];
    for path in &own {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "[Service]\n").unwrap();
    }
    assert!(install(&settings, &options, None).unwrap().is_empty());
    uninstall(&settings.name, &options, None).unwrap();
    assert!(own.iter().all(|path| path.exists()));
    assert!(!units.join("project-cluster@api.service.d/50-app.conf").exists());
}

#[test]
fn a_link_that_leads_out_of_the_root_is_not_followed() {
    let (directory, options) = root();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), directory.path().join("var")).unwrap();
    let error = install(&samples::shop(), &options, None).unwrap_err();
    assert!(matches!(error, Error::Outside { .. }), "{error}");
    assert_eq!(everything(outside.path()).len(), 0);
}

#[test]
fn what_takes_effect_later_is_said() {
    let (_directory, options) = root();
    let mut settings = samples::shop();
    install(&settings, &options, None).unwrap();
    let api: &mut App = settings.apps.get_mut(&"api".parse().unwrap()).unwrap();
    api.listen[0].backlog = 100;
    api.workers = Workers::Count(5);
    let report = install(&settings, &options, None).unwrap().to_string();
    assert!(report.contains("project-cluster-api-0.0.0.0:3000.socket changed: a live socket stays as it is"), "{report}");
    assert!(report.contains("another number of workers is configured for api: `project-cluster apply` brings it"), "{report}");
    assert!(!report.contains("stay as they are"), "no reload is needed: {report}");
    let api: &mut App = settings.apps.get_mut(&"api".parse().unwrap()).unwrap();
    api.env.insert("TOKEN".into(), "secret".into());
    api.swap = false;
    let report = install(&settings, &options, None).unwrap().to_string();
    let said = "running workers of api stay as they are (env, swap changed): `systemctl reload project-cluster@api`";
    assert!(report.contains(said) && !report.contains("secret"), "{report}");
    // Another version of this program writes another template.
    let unit = options.root.join("etc/systemd/system/project-cluster-api@.service");
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text.replace("KillMode=mixed", "KillMode=process")).unwrap();
    let report = install(&settings, &options, None).unwrap().to_string();
    assert!(report.contains("the unit of api's workers changed: `systemctl reload project-cluster@api`"), "{report}");
}

#[test]
fn a_revision_counts_what_makes_other_workers_and_stands_in_both_settings() {
    let (directory, options) = root();
    let mut settings = samples::shop();
    let (api, var) = ("api".parse().unwrap(), directory.path().join("var/lib/project-cluster"));
    let read = |path: &str| serde_json::from_str::<Settings>(&fs::read_to_string(var.join(path)).unwrap()).unwrap();
    let numbers = || ["settings.json", "pins/settings.json"].map(|path| read(path).apps[&api].revision.number);
    let change = |settings: &mut Settings, change: fn(&mut App)| change(settings.apps.get_mut(&api).unwrap());
    install(&settings, &options, None).unwrap();
    assert_eq!(numbers(), [0, 0]);
    change(&mut settings, |app| app.command.push("--more".into()));
    assert!(!preview(&settings, &options, None).unwrap().plan.is_empty());
    assert_eq!(numbers(), [0, 0], "a preview counts nothing");
    install(&settings, &options, None).unwrap();
    assert_eq!(numbers(), [1, 1]);
    assert!(install(&settings, &options, None).unwrap().is_empty() && preview(&settings, &options, None).unwrap().text.is_empty());
    change(&mut settings, |app| app.workers = Workers::Count(9));
    install(&settings, &options, None).unwrap();
    assert_eq!(numbers(), [1, 1]);
    change(&mut settings, |app| drop(app.env.insert("TOKEN".into(), "secret".into())));
    install(&settings, &options, None).unwrap();
    assert_eq!(numbers(), [2, 2]);
    assert!(!fs::read_to_string(var.join("settings.json")).unwrap().contains("TOKEN"));
    // What was installed is lost, and the pins know of three changes.
    fs::create_dir_all(var.join("generations")).unwrap();
    fs::write(var.join("generations/api"), "1 0\n2 3\n3 1\n").unwrap();
    fs::remove_file(var.join("pins/settings.json")).unwrap();
    install(&settings, &options, None).unwrap();
    assert_eq!(numbers(), [4, 4]);
    // Damaged: the number is above all that are pinned.
    let damaged = fs::read_to_string(var.join("pins/settings.json")).unwrap().replace("\"workers\"", "\"w\"");
    fs::write(var.join("pins/settings.json"), damaged).unwrap();
    fs::write(var.join("generations/api"), "1 0\n2 3\n3 8\n").unwrap();
    install(&settings, &options, None).unwrap();
    assert_eq!(numbers(), [9, 9]);
}

#[test]
fn a_preview_shows_no_secret_and_changes_nothing() {
    let (directory, options) = root();
    let mut settings = samples::every_option();
    let created = preview(&settings, &options, None).unwrap().text;
    assert!(created.contains("--- /dev/null\n+++ /etc/systemd/system/full.service\n"), "{created}");
    assert!(!created.contains("only-in-the-pin"));
    assert_eq!(everything(directory.path()).len(), 0);

    install(&settings, &options, None).unwrap();
    let api = settings.apps.get_mut(&"api".parse().unwrap()).unwrap();
    api.env.insert("TOKEN".into(), "another-secret".into());
    api.listen[1].backlog = 256;
    let text = preview(&settings, &options, None).unwrap().text;
    assert!(text.contains("-Backlog=128\n+Backlog=256\n"), "{text}");
    assert!(text.contains("pins/settings.json changes; it may hold secrets"), "{text}");
    assert!(!text.contains("another-secret") && !text.contains("only-in-the-pin"));
}

#[test]
fn a_changed_mode_is_mended() {
    let (directory, options) = root();
    let settings = samples::shop();
    install(&settings, &options, None).unwrap();
    let secret = directory.path().join("var/lib/project-cluster/pins/settings.json");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(preview(&settings, &options, None).unwrap().text.contains("becomes 0600"));
    install(&settings, &options, None).unwrap();
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn control_characters_of_an_old_file_are_made_visible() {
    let (directory, options) = root();
    let settings = samples::shop();
    install(&settings, &options, None).unwrap();
    let unit = directory.path().join("etc/systemd/system/project-cluster.target");
    let old = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, format!("{old}# \u{1b}[2J\n")).unwrap();
    assert!(preview(&settings, &options, None).unwrap().text.contains("-# \\u{1b}[2J\n"));
}

#[test]
fn what_is_kept_of_an_app_goes_with_it() {
    let (directory, options) = furnished();
    let settings = samples::shop();
    let fake = Fake::new(directory.path());
    install(&settings, &options, Some(&fake)).unwrap();
    let var = directory.path().join("var/lib").join(settings.name.as_str());
    fs::create_dir_all(var.join("generations")).unwrap();
    for app in ["api", "bg"] {
        fs::create_dir_all(var.join("pins").join(app)).unwrap();
        fs::write(var.join("pins").join(app).join("1.json"), "{\"env\":{\"TOKEN\":\"secret\"}}").unwrap();
        fs::write(var.join("generations").join(app), "1\n").unwrap();
    }
    let mut less = settings.clone();
    less.apps.retain(|name, _| name.as_str() == "api");
    let said = install(&less, &options, Some(&fake)).unwrap().to_string();
    for path in ["pins/bg", "generations/bg"] {
        assert!(!var.join(path).exists(), "{path}");
        assert!(said.contains(&format!("removed /var/lib/{}/{path}\n", settings.name)), "{said}");
    }
    assert!(var.join("pins/api/1.json").exists() && var.join("generations/api").exists());
    assert!(install(&less, &options, Some(&fake)).unwrap().is_empty());
}
