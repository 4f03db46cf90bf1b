use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::sync::Barrier;

use super::*;
use crate::config::settings::{Api, Auth, Hooks, Ready, Reload, Sandbox, Spawn, Timeouts, User, Workers};
use crate::names::HookKind;
use crate::worker::pin::Copy;
use crate::worker::prepare::prepare;

/// The generations that have a pin, lowest first.
fn pinned(world: &World) -> Vec<Generation> {
    let entries = world.store().entries(&world.app).unwrap();
    let mut pinned: Vec<_> = entries.into_iter().filter(|(_, kind)| *kind == Kind::Pin).map(|(generation, _)| generation).collect();
    pinned.sort_unstable();
    pinned
}

struct World {
    root: tempfile::TempDir,
    paths: Paths,
    cluster: ClusterName,
    app: AppName,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let world = Self { paths, root, cluster: ClusterName::default(), app: "api".parse().unwrap() };
        fs::create_dir_all(world.root.path().join("srv/v1")).unwrap();
        fs::create_dir_all(world.root.path().join("srv/v2")).unwrap();
        world.link("v1");
        world
    }
    fn link(&self, version: &str) {
        let link = self.root.path().join("srv/current");
        let _ = fs::remove_file(&link);
        symlink(version, link).unwrap();
    }
    fn store(&self) -> Store {
        Store::open(&self.cluster, &self.paths)
    }
    fn install(&self, change: impl FnOnce(&mut App)) {
        let mut app = App {
            revision: crate::config::settings::Revision::default(),
            earlier: Vec::new(),
            workers: Workers::Count(4),
            command: vec!["node".into(), "api.js".into()],
            cwd: self.root.path().join("srv/current"),
            user: User::Dynamic("x".into()),
            env: BTreeMap::from([("SECRET".into(), "s".into())]),
            listen: vec![],
            spawn: Spawn::Cluster,
            swap: true,
            ready: Ready::Listen,
            on_demand: false,
            success_exit_codes: vec![],
            timeout: Timeouts { start: Duration::from_secs(30), kill: Duration::from_secs(5), restart: Duration::from_millis(100) },
            reload: Reload::default(),
            keep: 5,
            hooks: Hooks::default(),
            sandbox: Sandbox::default(),
            systemd: BTreeMap::new(),
            limits: BTreeMap::new(),
        };
        change(&mut app);
        let settings = Settings {
            format: crate::config::settings::FORMAT,
            name: self.cluster.clone(),
            api: Api { enabled: false, host: std::net::Ipv4Addr::LOCALHOST.into(), port: 1, auth: Auth::Token },
            apps: BTreeMap::from([(self.app.clone(), app)]),
        };
        self.store().write_settings(&settings).unwrap();
    }
    fn directory(&self, instance: &str) -> PathBuf {
        self.paths.workers(&self.cluster, &self.app).join(instance)
    }
    fn prepare(&self, instance: &str) -> Result<Copy, Error> {
        let directory = self.directory(instance);
        if instance.parse::<crate::names::Instance>().is_ok() {
            fs::create_dir_all(&directory).unwrap();
        }
        prepare(&self.cluster, &self.app, instance, &self.paths, &directory)?;
        Ok(files::read_json(&directory.join(Copy::FILE)).unwrap().unwrap())
    }
    fn refused(&self, instance: &str) -> String {
        self.prepare(instance).unwrap_err().to_string()
    }
}

#[test]
fn a_generation_is_pinned_once_and_a_flipped_symlink_reaches_the_next_alone() {
    let world = World::new();
    world.install(|_| {});
    assert!(world.prepare("1.1.1").unwrap().pin.cwd.ends_with("srv/v1"));
    world.link("v2");
    world.install(|app| app.command = vec!["node".into(), "new.js".into()]);
    let old = world.prepare("2.1.1").unwrap().pin;
    assert!(old.cwd.ends_with("srv/v1") && old.command[1] == "api.js");
    let new = world.prepare("1.2.1").unwrap().pin;
    assert!(new.cwd.ends_with("srv/v2") && new.command[1] == "new.js" && new.generation == Generation(2));
    assert_eq!(pinned(&world), [Generation(1), Generation(2)]);
}

#[test]
fn a_rollback_uses_the_older_pin_and_has_a_pin_of_its_own() {
    let world = World::new();
    world.install(|_| {});
    let first = world.prepare("1.1.1").unwrap().pin;
    world.link("v2");
    world.prepare("1.2.1").unwrap();
    assert_eq!(world.prepare("1.3-1.1").unwrap().pin, first);
    // After a reboot it starts under its plain name, even when the old pin has gone.
    fs::remove_file(world.store().app(&world.app).join("1.json")).unwrap();
    assert_eq!(world.prepare("2.3.1").unwrap().pin, first);
    // And so does a worker that says whose it is: the generation's own pin says the same.
    assert_eq!(world.prepare("2.3-1.1").unwrap().pin, first);
    assert!(world.refused("2.3-2.1").contains("made from the pin of generation 1"));
    assert!(world.refused("2.2-1.1").contains("made from the pin of generation 2, not of 1"), "it is its own maker");
    assert_eq!(world.prepare("1.4-3.1").unwrap().pin, first);
}

#[test]
fn nothing_but_the_next_generation_is_made() {
    let world = World::new();
    world.install(|_| {});
    assert!(world.refused("1.2.1").contains("the next is 1"));
    assert!(world.refused("1.2-1.1").contains("generation 1"));
    for instance in ["1025.1.1", "1.1.10000", "0.1.1", "../../etc", "1.1", ""] {
        assert!(world.refused(instance).contains("is no worker"), "{instance}");
    }
    world.prepare("1.1.1").unwrap();
    assert!(world.refused("1.3.1").contains("the next is 2"));
    let elsewhere = world.root.path().join("tmp");
    let error = prepare(&world.cluster, &world.app, "1.1.1", &world.paths, &elsewhere).unwrap_err().to_string();
    assert!(error.contains("RUNTIME_DIRECTORY"), "{error}");
}

#[test]
fn missing_settings_apps_and_directories_are_told_apart() {
    let world = World::new();
    assert!(world.refused("1.1.1").contains("project-cluster install"));
    world.install(|app| app.cwd = "/nowhere/at/all".into());
    let error = world.refused("1.1.1");
    assert!(error.contains("/nowhere/at/all") && error.contains("cwd"), "{error}");
    assert_eq!(world.prepare("1.1.1").unwrap_err().code(), crate::worker::error::CHDIR);
    let other: AppName = "other".parse().unwrap();
    let directory = world.paths.workers(&world.cluster, &other).join("1.1.1");
    fs::create_dir_all(&directory).unwrap();
    let error = prepare(&world.cluster, &other, "1.1.1", &world.paths, &directory).unwrap_err().to_string();
    assert!(error.contains("[apps.other]"), "{error}");
    // None of this used up a number.
    assert_eq!(world.store().counter(&world.app).unwrap().generation, Generation(0));
}

#[test]
fn a_lost_counter_gives_no_number_twice() {
    let world = World::new();
    world.install(|_| {});
    world.prepare("1.1.1").unwrap();
    world.prepare("1.2.1").unwrap();
    fs::remove_file(world.store().app(&world.app).join("counter.json")).unwrap();
    assert_eq!(world.store().counter(&world.app).unwrap().generation, Generation(2));
    fs::write(world.store().app(&world.app).join("2.json"), "{").unwrap();
    assert!(world.refused("1.2.1").contains("damaged"));
}

#[test]
fn marks_and_what_was_started_are_remembered() {
    let world = World::new();
    world.install(|_| {});
    let store = world.store();
    assert_eq!((store.last_ready(&world.app).unwrap(), store.counter(&world.app).unwrap().started), (None, None));
    world.prepare("1.1.1").unwrap();
    world.prepare("1.2.1").unwrap();
    store.set_started(&world.app, Generation(2)).unwrap();
    assert_eq!(store.published(&world.app).started, Some(Generation(2)), "the master reads it");
    store.ready_mark(&world.app, Generation(1)).unwrap().set(false).unwrap();
    // Opened, not set: the worker of generation 2 is still starting.
    let mark = store.ready_mark(&world.app, Generation(2)).unwrap();
    assert_eq!(store.last_ready(&world.app).unwrap(), Some(Generation(1)));
    mark.set(true).unwrap();
    assert_eq!(store.last_ready(&world.app).unwrap(), Some(Generation(2)));
    mark.set(false).unwrap();
    assert!(store.is_nonblocking(&world.app, Generation(2)).unwrap() && !store.is_nonblocking(&world.app, Generation(1)).unwrap());
    world.prepare("1.3.1").unwrap();
    assert_eq!(store.counter(&world.app).unwrap().started, Some(Generation(2)));
}

#[test]
fn a_sibling_is_told_how_the_last_ready_one_wants_its_sockets() {
    let world = World::new();
    let listen = |app: &mut App| {
        app.listen =
            vec![crate::config::settings::Listen { address: "3000".parse().unwrap(), mode: None, owner: None, group: None, backlog: 4096 }];
    };
    world.install(listen);
    assert_eq!(world.prepare("1.1.1").unwrap().nonblocking, None, "nothing is known yet");
    world.store().ready_mark(&world.app, Generation(1)).unwrap().set(true).unwrap();
    assert_eq!(world.prepare("2.1.1").unwrap().nonblocking, Some(true));
    assert_eq!(world.prepare("1.2.1").unwrap().nonblocking, Some(true));
    world.store().ready_mark(&world.app, Generation(2)).unwrap().set(false).unwrap();
    assert_eq!(world.prepare("1.3.1").unwrap().nonblocking, Some(false));
}

#[test]
fn the_copy_is_read_by_the_worker_alone_and_follows_nothing() {
    let world = World::new();
    world.install(|_| {});
    let directory = world.directory("1.1.1");
    fs::create_dir_all(&directory).unwrap();
    let victim = world.root.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, directory.join(Copy::FILE)).unwrap();
    symlink(&victim, directory.join(".pin.json.new")).unwrap();
    world.prepare("1.1.1").unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    let metadata = fs::symlink_metadata(directory.join(Copy::FILE)).unwrap();
    assert!(metadata.is_file());
    assert_eq!(metadata.mode() & 0o7777, 0o400);
    // The instance directory itself as a symlink.
    let directory = world.directory("2.1.1");
    symlink(world.root.path(), &directory).unwrap();
    assert!(prepare(&world.cluster, &world.app, "2.1.1", &world.paths, &directory).is_err());
    assert!(!Path::new(&world.root.path().join(Copy::FILE)).exists());
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let store = world.store();
    assert_eq!(mode(&store.app(&world.app).join("1.json")), 0o600);
    assert_eq!(mode(&store.directory), 0o700);
    assert_eq!(mode(&store.directory.join("settings.json")), 0o600);
}

#[test]
fn workers_prepared_at_once_share_one_generation_and_no_port() {
    let world = World::new();
    world.install(|app| app.spawn = Spawn::Child { port: Some(3000), ports: Some((3010, 3017)) });
    let barrier = Barrier::new(16);
    let ports: Vec<(u16, u64)> = std::thread::scope(|scope| {
        let start = |slot: usize, attempt: usize| {
            let (world, barrier) = (&world, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let copy = world.prepare(&format!("{slot}.1.{attempt}")).unwrap();
                (copy.port.unwrap(), copy.pin.generation.0)
            })
        };
        let threads: Vec<_> = (1..=8).flat_map(|slot| [start(slot, 1), start(slot, 2)]).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: std::collections::BTreeSet<_> = ports.iter().map(|(port, _)| port).collect();
    assert_eq!(distinct.len(), 16, "{ports:?}");
    assert!(ports.iter().all(|(port, generation)| *generation == 1 && (3000..=3017).contains(port)), "{ports:?}");
    assert!(world.refused("1.1.3").contains("3010-3017"));
    // One ends: its port is free again.
    fs::remove_dir_all(world.directory("8.1.1")).unwrap();
    fs::remove_dir_all(world.directory("8.1.2")).unwrap();
    world.prepare("1.1.3").unwrap();
    assert_eq!(pinned(&world), [Generation(1)]);
}

/// The generations that `prepare` would forget where no worker lived.
fn superfluous(world: &World, intent: &AppIntent, keep: u16) -> Vec<u64> {
    let lock = world.store().lock(&world.app).unwrap();
    let found = world.store().superfluous(&lock, &world.app, intent, keep).unwrap();
    found.into_iter().map(|generation| generation.0).collect()
}

#[test]
fn what_was_never_current_goes_and_what_is_named_stays() {
    let world = World::new();
    world.install(|_| {});
    let (store, mut intent) = (world.store(), AppIntent::default());
    for number in 1..=7 {
        world.prepare(&format!("1.{number}.1")).unwrap();
        // 4 failed before anything of it was ready, 5 when one was.
        if number != 4 {
            store.ready_mark(&world.app, Generation(number)).unwrap().set(false).unwrap();
        }
    }
    [1, 2, 3, 6].into_iter().for_each(|number| intent.serves(Generation(number), None, 1));
    // 7 is being made, and the last that got ready.
    assert_eq!(superfluous(&world, &intent, 5), [4, 5]);
    assert_eq!(superfluous(&world, &intent, 2), [1, 4, 5]);
    assert_eq!(superfluous(&world, &intent, 0), [1, 2, 3, 4, 5]);
    let held = AppIntent { held: Some(crate::intent::Hold::new(1, "no", Generation(5))), ..intent.clone() };
    assert_eq!(superfluous(&world, &held, 0), [1, 2, 3, 4]);
    store.set_started(&world.app, Generation(4)).unwrap();
    assert_eq!(superfluous(&world, &held, 0), [1, 2, 3, 4], "something later serves");
    assert_eq!(superfluous(&world, &AppIntent::default(), 0), [1, 2, 3, 5, 6], "of all else nothing is known");
    intent.serves(Generation(7), Some(Generation(2)), 1);
    assert_eq!(superfluous(&world, &intent, 1), [1, 3, 4, 5], "the pin that the current one names stays");
    // Of a lost memory nothing is known: what got ready may have been current.
    assert_eq!(superfluous(&world, &AppIntent::default(), 9), [] as [u64; 0]);

    let lock = store.lock(&world.app).unwrap();
    store.forget(&lock, &world.app, &[1, 3, 5].map(Generation).into()).unwrap();
    drop(lock);
    assert_eq!(pinned(&world), [2, 4, 6, 7].map(Generation));
    let told = store.published(&world.app);
    assert_eq!(told.pins().iter().map(|pin| pin.generation.0).collect::<Vec<_>>(), [2, 4, 6, 7]);
    assert_eq!((told.highest(), told.started, told.revision(Generation(5))), (Some(Generation(7)), Some(Generation(4)), Some(0)));
    assert!(!store.app(&world.app).join("5.ready").exists());
    assert!(world.refused("1.5.1").contains("not kept any more") && world.refused("1.8-3.1").contains("generation 3"));
    assert_eq!(world.prepare("1.8-2.1").unwrap().pin.generation, Generation(2));
}

#[test]
fn an_older_one_that_could_not_be_as_it_was_is_not_begun() {
    let world = World::new();
    let listens = |port: &str| {
        let listen = crate::config::settings::Listen { address: port.parse().unwrap(), mode: None, owner: None, group: None, backlog: 1 };
        move |app: &mut App| app.listen = vec![listen]
    };
    world.install(listens("3000"));
    world.prepare("1.1.1").unwrap();
    world.link("v2");
    world.prepare("1.2.1").unwrap();
    world.install(listens("3001"));
    let why = world.refused("1.3-1.1");
    assert!(why.contains("had another `listen`") && why.contains("`sudo project-cluster apply`"), "{why}");
    world.install(|app| {
        listens("3000")(app);
        app.ready = Ready::Notify;
    });
    assert!(world.refused("1.3-1.1").contains("had another `ready`"));
    world.install(listens("3000"));
    let (v1, away) = (world.root.path().join("srv/v1"), world.root.path().join("srv/away"));
    fs::rename(&v1, &away).unwrap();
    let why = world.refused("1.3-1.1");
    assert!(why.contains(&format!("the release of generation 1 of api, {}, was deleted", v1.display())), "{why}");
    symlink(&away, &v1).unwrap();
    assert!(world.refused("1.3-1.1").contains(&format!("leads to {} now", away.display())));
    assert_eq!(world.store().counter(&world.app).unwrap().generation, Generation(2), "none of this used up a number");
    fs::remove_file(&v1).unwrap();
    fs::rename(&away, &v1).unwrap();
    assert_eq!(world.prepare("1.3-1.1").unwrap().pin.cwd, fs::canonicalize(&v1).unwrap());
}

/// What a hook of this generation becomes.
fn hook(world: &World, kind: HookKind, instance: &str) -> Result<Copy, Error> {
    let directory = world.paths.run.join(crate::names::AppUnits::new(&world.cluster, &world.app).hook_directory(kind, instance));
    fs::create_dir_all(&directory).unwrap();
    crate::worker::hook::prepare_in(&world.cluster, &world.app, kind, instance, &world.paths, &directory)?;
    Ok(files::read_json(&directory.join(Copy::FILE)).unwrap().unwrap())
}

#[test]
fn a_hook_runs_once_in_the_release_of_its_workers() {
    use HookKind::{After, Before, Failed};
    let world = World::new();
    let refused = |kind, instance: &str| hook(&world, kind, instance).unwrap_err().to_string();
    world.install(|app| {
        app.listen =
            vec![crate::config::settings::Listen { address: "3000".parse().unwrap(), mode: None, owner: None, group: None, backlog: 1 }]
    });
    assert!(refused(Before, "1").contains("has no hook `before`"));
    assert_eq!(pinned(&world), [], "nothing is made for what is not configured");
    let hooks = Hooks {
        before: Some(vec!["./migrate".into()]),
        after: Some(vec!["tell".into()]),
        failed: Some(vec!["cry".into()]),
        ..Hooks::default()
    };
    world.install(|app| app.hooks = hooks.clone());
    // Nothing serves, so there is no release that could stand for one that was not made.
    assert!(refused(Failed, "1").contains("has no release"));
    let first = hook(&world, Before, "1").unwrap();
    assert_eq!(
        (first.hook, first.pin.command, first.pin.listen, first.instance.generation),
        (Some(Before), vec!["./migrate".into()], vec![], Generation(1))
    );
    assert!(first.pin.cwd.ends_with("srv/v1") && first.pin.env.contains_key("SECRET"));
    // What the workers become is what the hook has pinned, and its own command is not theirs.
    world.link("v2");
    let worker = world.prepare("1.1.1").unwrap().pin;
    assert!(worker.cwd.ends_with("srv/v1") && worker.command == ["node", "api.js"]);
    assert!(refused(Before, "1").contains("has begun before, and runs once"));
    assert_eq!(hook(&world, After, "1").unwrap().pin.command, ["tell"]);
    assert!(refused(After, "1").contains("runs once") && refused(After, "2").contains("not kept any more"));
    world.store().ready_mark(&world.app, Generation(1)).unwrap().set(false).unwrap();
    // A generation that failed before it had a release of its own is cried for from the one that serves; no other number is.
    assert_eq!(hook(&world, Failed, "2").unwrap().pin.generation, Generation(1));
    assert!(refused(Failed, "3").contains("has no release"));
    for (instance, why) in [("3", "the next is 2"), ("0", "no generation"), ("1.1.1", "no generation"), ("2-7", "no generation")] {
        assert!(refused(Before, instance).contains(why), "{instance}: {}", refused(Before, instance));
    }
    // A rollback: the older release under the new number.
    let back = hook(&world, Before, "2-1").unwrap();
    assert_eq!(
        (back.pin.generation, back.instance.generation, pinned(&world)),
        (Generation(1), Generation(2), vec![Generation(1), Generation(2)])
    );
    assert_eq!(hook(&world, Failed, "2-1").unwrap().pin.command, ["cry"]);
    assert!(refused(Failed, "2-1").contains("runs once"));
    let elsewhere = world.directory("before.3");
    fs::create_dir_all(&elsewhere).unwrap();
    let odd = crate::worker::hook::prepare_in(&world.cluster, &world.app, Before, "3", &world.paths, &elsewhere.join("x"));
    assert!(odd.unwrap_err().to_string().contains("should be"));
}
