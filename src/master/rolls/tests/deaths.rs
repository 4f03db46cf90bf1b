//! A master that dies at every single point of every kind of roll: before and after each writing, before and after each
//! request, at each end of a job. The next one brings each to the end that it would have had.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Mutex;

use super::*;
use crate::intent::Change as Wanted;
use crate::names::Slot;
use crate::points::hook;

/// What is asked for, once or, at the same time, more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Reload,
    Restart(u16),
    Scale(u16),
    Add(u16),
    Stop(u16),
    Remove(u16),
}

impl Ask {
    async fn of(self, master: Arc<Master<Mortal>>, app: AppName) -> Result<Option<types::Roll>, Refusal> {
        let these = |slot| BTreeSet::from([Slot::new(slot).unwrap()]);
        let done = match self {
            Self::Reload => return master.reload(&app).await.map(Some),
            Self::Restart(slot) => master.restart(&app, these(slot)).await,
            Self::Scale(count) => master.change(&app, &Wanted::Scale(count)).await,
            Self::Add(count) => master.change(&app, &Wanted::Add(count)).await,
            Self::Stop(slot) => master.change(&app, &Wanted::Stop(these(slot))).await,
            Self::Remove(slot) => master.change(&app, &Wanted::Remove(these(slot))).await,
        };
        done.map(|done| done.roll)
    }
}

/// What happens while no master is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    /// The app is stopped.
    Stop,
    /// It is stopped and started.
    Restart,
}

/// What came of one death.
#[derive(Debug)]
struct End {
    place: String,
    /// Instances that are up.
    up: Vec<String>,
    /// How each request ended for who waits for it.
    told: Vec<Result<Option<types::Roll>, String>>,
    intent: AppIntent,
    /// A request that was not answered was made again.
    repeated: bool,
    /// The fewest and the most workers that were up at any moment.
    bounds: (usize, usize),
    /// The hooks that began, each as often as it did.
    hooks: Vec<String>,
}

fn worker(unit: &str) -> Option<&str> {
    unit.strip_prefix("project-cluster-api@")?.strip_suffix(".service")
}

/// Kills the master at the `at`-th point; nothing when there are fewer.
async fn die(broken: &'static [u64], asks: &[Ask], meanwhile: Meanwhile, at: u32) -> Option<End> {
    die_on(Stage::set(broken).await, asks, meanwhile, at).await
}

async fn die_on(mut stage: Stage, asks: &[Ask], meanwhile: Meanwhile, at: u32) -> Option<End> {
    let master = stage.master().await;
    let begun = (stage.fake.trace().len(), stage.fake.calls().len());
    let died = Rc::new(RefCell::new(None));
    let (left, dead, from) = (RefCell::new(at), stage.death.clone(), stage.directory.path().to_owned());
    let into = Rc::clone(&died);
    hook::set(move |place| {
        *left.borrow_mut() -= 1;
        if *left.borrow() == 0 {
            *into.borrow_mut() = Some((snapshot(&from), place));
            dead.send_replace(true);
            std::panic::resume_unwind(Box::new("dead"));
        }
    });
    let answers: Arc<Mutex<Vec<_>>> = Arc::default();
    let (all, into, app, asked) = (asks.to_vec(), Arc::clone(&answers), stage.app.clone(), master.clone());
    let asking = tokio::spawn(async move {
        for ask in all {
            let answer = ask.of(asked.clone(), app.clone()).await;
            lock(&into).push(answer);
        }
    });
    let is_dead = || died.borrow().is_some();
    while !is_dead() && (!asking.is_finished() || lock(&master.rolls).any_under_way()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What comes behind the end of the last roll.
    tokio::time::sleep(Duration::from_millis(1)).await;
    asking.abort();
    hook::clear();
    let (files, place) = died.take()?;
    stage.directory = files;
    stage.death = channel::Sender::new(false);
    let handle = "project-cluster@api.service";
    if meanwhile != Meanwhile::Nothing {
        assert_eq!(stage.fake.job(Verb::Stop, handle, SECOND).await, Ok(JobEnd::Done));
    }
    if meanwhile == Meanwhile::Restart {
        assert_eq!(stage.fake.job(Verb::Start, handle, SECOND).await, Ok(JobEnd::Done));
    }
    let master = stage.master().await;
    let answers = std::mem::take(&mut *lock(&answers));
    let (mut told, mut repeated) = (Vec::new(), false);
    for (index, ask) in asks.iter().enumerate() {
        let answer = match answers.get(index) {
            Some(answer) => answer.clone(),
            // It broke: the command line asks again, but for what counts twice.
            None if matches!(ask, Ask::Add(_)) => Ok(None),
            None => {
                repeated = true;
                ask.of(master.clone(), stage.app.clone()).await
            }
        };
        told.push(match answer {
            Ok(Some(roll)) => Ok(Some(stage.ended(&master, &roll).await)),
            Ok(None) => Ok(None),
            Err(why) => Err(why.to_string()),
        });
    }
    let settled = async {
        while lock(&master.rolls).any_under_way() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(5 * SECOND).await;
    };
    tokio::time::timeout(3600 * SECOND, settled).await.unwrap();

    let mut up: BTreeSet<String> = ["1.1.1", "2.1.1", "3.1.1"].map(str::to_owned).into();
    let mut bounds = (3, 3);
    for change in &stage.fake.trace()[begun.0..] {
        let Some(name) = worker(&change.unit) else { continue };
        if change.state.starts_with("active") {
            up.insert(name.into())
        } else {
            up.remove(name)
        };
        bounds = (bounds.0.min(up.len()), bounds.1.max(up.len()));
    }
    let starts: Vec<_> =
        stage.fake.calls().drain(begun.1..).filter(|(verb, unit)| *verb == Verb::Start && worker(unit).is_some()).collect();
    for (_, unit) in &starts {
        assert_eq!(starts.iter().filter(|(_, other)| other == unit).count(), 1, "{unit} is started twice: {asks:?}, {at}: {place}");
    }
    for place in [stage.places().roll(&stage.app), stage.places().next_roll(&stage.app)] {
        let text = std::fs::read_to_string(place).unwrap_or_default();
        assert!(text.is_empty() || text.contains(r#""roll":null"#), "left behind by {asks:?}, {at}: {text}");
    }
    let hook = |unit: &str| unit.strip_prefix("project-cluster-api:")?.strip_suffix(".service").map(str::to_owned);
    let began = stage.fake.trace().into_iter().filter(|change| change.state == "activating/start");
    let hooks = began.filter_map(|change| hook(&change.unit)).collect();
    Some(End { place, up: stage.up(), told, intent: stage.intent(), repeated, bounds, hooks })
}

/// At every point: `check` says in some words how it ended, or panics.
async fn everywhere(broken: &'static [u64], asks: &[Ask], meanwhile: Meanwhile, check: impl Fn(&End) -> String) {
    let mut points = 0;
    println!("{asks:?}, generations that do not start: {broken:?}; meanwhile: {meanwhile:?}");
    while let Some(end) = die(broken, asks, meanwhile, points + 1).await {
        points += 1;
        let told: Vec<_> = end.told.iter().map(|told| told.as_ref().map(|roll| roll.as_ref().map(|roll| roll.state))).collect();
        println!("{points:4}  {:60} {:?}, up {:?}: {}, {told:?}", end.place, end.bounds, end.up, check(&end));
    }
    assert!(points > 12, "{points} points alone");
}

/// All of one generation, or the mix that this is.
fn generation(end: &End) -> u64 {
    let generations: BTreeSet<u64> = end.up.iter().map(|name| name.split('.').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!((end.up.len(), generations.len()), (3, 1), "{end:?}");
    generations.into_iter().next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_all_new() {
    everywhere(&[], &[Ask::Reload], Meanwhile::Nothing, |end| {
        let new = generation(end);
        // A request that was carried out and not answered is repeated, and answered by one more roll.
        assert!(new == 2 || new == 3 && end.repeated, "{end:?}");
        assert_eq!((end.intent.generation, end.intent.held.is_none()), (Some(Generation(new)), true), "{end:?}");
        assert_eq!(end.bounds, (3, 4), "{end:?}");
        assert!(matches!(&end.told[..], [Ok(Some(roll))] if roll.state == RollState::Done), "{end:?}");
        format!("all of generation {new}")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_fails_ends_all_old_and_is_held() {
    everywhere(&[2, 3, 4], &[Ask::Reload], Meanwhile::Nothing, |end| {
        assert_eq!(generation(end), 1, "{end:?}");
        assert_eq!((end.intent.generation, end.intent.held.is_some()), (Some(Generation(1)), true), "{end:?}");
        assert_eq!(end.bounds, (3, 4), "{end:?}");
        let Ok(Some(roll)) = &end.told[0] else { panic!("{end:?}") };
        assert!(roll.reason.as_ref().is_some_and(|why| why.contains("The old workers serve as before")), "{end:?}");
        "all old, held".into()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_behind_a_reload_is_neither_lost_nor_carried_out_twice() {
    everywhere(&[], &[Ask::Reload, Ask::Reload], Meanwhile::Nothing, |end| {
        let new = generation(end);
        assert!(new == 3 || new == 4 && end.repeated, "{end:?}");
        for told in &end.told {
            assert!(matches!(told, Ok(Some(roll)) if roll.state == RollState::Done), "{end:?}");
        }
        assert_eq!(end.bounds, (3, 4), "{end:?}");
        format!("all of generation {new}")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_one_worker_touches_that_one_alone() {
    everywhere(&[], &[Ask::Restart(2)], Meanwhile::Nothing, |end| {
        let [one, two, three] = &end.up[..] else { panic!("{end:?}") };
        assert!(one == "1.1.1" && two.starts_with("2.1.") && three == "3.1.1", "{end:?}");
        // Restarted twice it may have its first name again.
        assert!(two != "2.1.1" || end.repeated, "{end:?}");
        assert_eq!(end.bounds, (3, 4), "{end:?}");
        assert!(matches!(&end.told[..], [Ok(Some(roll))] if roll.state == RollState::Done), "{end:?}");
        format!("{} in the place of 2.1.1", end.up[1])
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn other_counts_are_reached() {
    let slots = |end: &End| end.up.iter().map(|name| name.split('.').next().unwrap().parse().unwrap()).collect::<Vec<u16>>();
    for (ask, wanted) in [
        (Ask::Scale(5), &[1, 2, 3, 4, 5][..]),
        (Ask::Scale(1), &[1]),
        (Ask::Add(2), &[1, 2, 3, 4, 5]),
        (Ask::Stop(2), &[1, 3]),
        (Ask::Remove(1), &[2, 3]),
    ] {
        everywhere(&[], &[ask], Meanwhile::Nothing, |end| {
            // An `add` that was not even remembered is not repeated, and its caller is told that the connection broke.
            let never = matches!(ask, Ask::Add(_)) && end.intent.slots.is_none();
            assert_eq!(slots(end), if never { &[1, 2, 3] } else { wanted }, "{end:?}");
            assert!(end.told.iter().flatten().flatten().all(|roll| roll.state == RollState::Done), "{end:?}");
            assert!(end.told.iter().all(Result::is_ok), "{end:?}");
            assert!(end.up.iter().all(|name| name.ends_with(".1.1")), "{end:?}");
            if never { "as before".into() } else { "as wanted".into() }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_up_behind_a_stop_of_the_app() {
    for (ask, meanwhile) in [
        (Ask::Reload, Meanwhile::Stop),
        (Ask::Reload, Meanwhile::Restart),
        (Ask::Restart(2), Meanwhile::Stop),
        (Ask::Restart(2), Meanwhile::Restart),
        (Ask::Scale(5), Meanwhile::Stop),
    ] {
        everywhere(&[], &[ask], meanwhile, |end| {
            // The fake's handle stops and starts nothing: what was up stands for what its own step brings up.
            let slots: BTreeSet<&str> = end.up.iter().map(|name| name.split('.').next().unwrap()).collect();
            assert_eq!(slots.len(), end.up.len(), "two in one slot: {end:?}");
            // Where its roll had ended before, what it started is for the handle's own step to stop, as what is old.
            let done = matches!(&end.told[..], [Ok(Some(roll))] if roll.state == RollState::Done);
            assert!(done || end.up.len() <= 3, "{end:?}");
            format!("{} up", end.up.len())
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_run_once_and_in_their_order_wherever_the_master_dies() {
    let toml = "[apps.api]\nworkers = 3\ncommand = \"/usr/bin/node x.js\"\ncwd = \"/srv\"\nlisten = 3000\n\
                reload.hooks = { before = \"/bin/migrate\", after = \"/bin/tell\", failed = \"/bin/cry\" }\n";
    // Behind one that fails as behind one that does not: how `after` goes changes nothing.
    for fails in ["before", "after"] {
        let mut points = 0;
        loop {
            let behaves = move |unit: &str| match unit.contains(&format!(":{fails}@")) {
                true => App::crashing(Duration::from_millis(50)),
                false => App::ready_after(Duration::from_millis(100)),
            };
            let stage = Stage::with(toml, behaves).await;
            let Some(end) = die_on(stage, &[Ask::Reload], Meanwhile::Nothing, points + 1).await else { break };
            points += 1;
            println!("{points:4}  {:60} up {:?}, hooks {:?}", end.place, end.up, end.hooks);
            let state = if fails == "before" { RollState::Failed } else { RollState::Done };
            assert!(matches!(&end.told[..], [Ok(Some(roll))] if roll.state == state), "{end:?}");
            let (new, behind) = if state == RollState::Failed { (1, "failed") } else { (generation(&end), "after") };
            assert_eq!(generation(&end), new, "{end:?}");
            // A request that was carried out and not answered is repeated, and answered by one more roll.
            let rolls = if end.hooks.len() == 4 && end.repeated { 2..=3 } else { 2..=2 };
            let expected: Vec<String> = rolls.flat_map(|made| [format!("before@{made}"), format!("{behind}@{made}")]).collect();
            assert_eq!(end.hooks, expected, "{end:?}");
            assert_eq!(end.bounds.0, 3, "{end:?}");
        }
        assert!(points > 12, "{points} points alone");
    }
}
