use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::sync::Barrier;

use super::*;
use crate::config::settings::{Amount, Api, Auth, Ready, Reload, Sandbox, Spawn, Timeouts, User, Workers};
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
            reload: Reload {
                max_surge: Amount::Count(1),
                max_unavailable: Amount::Count(0),
                min_ready: Duration::from_secs(1),
                deadline: Duration::from_secs(600),
                ..Reload::default()
            },
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
    assert!(world.refused("2.3-1.1").contains("generation 1"));
    assert!(world.refused("2.3-2.1").contains("made from the pin of generation 1"));
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
