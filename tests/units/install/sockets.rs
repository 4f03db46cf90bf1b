//! Which sockets an install opens.

use super::*;
use project_cluster::names::AppName;

#[test]
fn no_socket_opens_where_no_worker_is_wanted() {
    let (directory, options) = furnished();
    let fake = Fake::new(directory.path());
    let mut settings = samples::shop();
    let name: AppName = "rare".parse().unwrap();
    settings.apps.insert(name.clone(), samples::server("node rare.js", &["0.0.0.0:3009"]));
    install(&settings, &options, Some(&fake)).unwrap();
    // Its start step has found nothing to start: the handle is active.
    fake.running.borrow_mut().push("project-cluster@rare.service".into());
    let state = directory.path().join("var/lib/project-cluster/state");
    fs::create_dir_all(&state).unwrap();
    let mut started = |workers: u16, remembered: &str| {
        fs::write(state.join("apps.json"), format!(r#"{{"format":2,"apps":{{"rare":{remembered}}}}}"#)).unwrap();
        let rare = settings.apps.get_mut(&name).unwrap();
        rare.workers = Workers::Count(workers);
        rare.listen.push(samples::listen(&format!("0.0.0.0:{}", 4000 + rare.listen.len())));
        fake.take();
        install(&settings, &options, Some(&fake)).unwrap();
        fake.take().into_iter().filter(|call| call.starts_with("start project-cluster-rare")).count()
    };
    assert_eq!(started(1, r#"{"stopped":[1]}"#), 0, "its only worker is to stay stopped");
    assert_eq!(started(1, "{}"), 3);
    assert_eq!(started(0, "{}"), 0, "its workers are about to stop");
    assert_eq!(started(1, "{}"), 0, "none has started yet");
    assert_eq!(started(0, r#"{"slots":[4]}"#), 6, "a person gave it one");
}

#[test]
fn sockets_of_an_app_on_demand_open_with_it_and_stay_closed_once_a_person_stopped_it() {
    let (directory, options) = furnished();
    let fake = Fake::new(directory.path());
    let socket = "project-cluster-rare-0.0.0.0:3009.socket";
    let mut settings = samples::shop();
    install(&settings, &options, Some(&fake)).unwrap();
    fake.running.borrow_mut().push("project-cluster.target".into());
    let rare = App { on_demand: true, ..samples::server("node rare.js", &["0.0.0.0:3009"]) };
    settings.apps.insert("rare".parse().unwrap(), rare);
    let none = App { on_demand: true, workers: Workers::Count(0), ..samples::server("node none.js", &["0.0.0.0:3010"]) };
    settings.apps.insert("none".parse().unwrap(), none);
    fake.take();
    install(&settings, &options, Some(&fake)).unwrap();
    let calls = fake.take();
    assert!(calls.contains(&format!("start {socket}")), "new to a cluster that runs");
    assert!(!calls.iter().any(|call| call.starts_with("start project-cluster-none")), "nobody would answer: {calls:?}");
    let mut again = |running: &[&str]| {
        fake.running.borrow_mut().truncate(1);
        fake.running.borrow_mut().extend(running.iter().map(|unit| (*unit).to_owned()));
        let rare = settings.apps.get_mut(&"rare".parse().unwrap()).unwrap();
        rare.command.push("more".into());
        rare.listen.push(samples::listen(&format!("0.0.0.0:{}", 4000 + rare.listen.len())));
        install(&settings, &options, Some(&fake)).unwrap();
        fake.take().into_iter().filter(|call| call.starts_with("start project-cluster-rare")).count()
    };
    assert_eq!(again(&[socket]), 1, "asleep: its second address");
    assert_eq!(again(&[]), 0, "stopped");
    assert_eq!(again(&["project-cluster@rare.service"]), 4, "awake: all that are down");
}
