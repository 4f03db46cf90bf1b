//! The history of what is asked of masters, one after another.

use super::*;
use crate::api::history::{End, Entry};
use crate::history::{self, Act, Part};
use crate::store::Store;

/// Longer than any disk takes, by the clock of the machine: the store knows no other.
const FLUSH: Duration = Duration::from_secs(60);

fn keeps(stage: &Stage, master: &Master<Mortal>) {
    master.keep_history_in(Store::new(stage.places().store(), history::TABLES, || {}));
}

/// All entries, oldest first, with their steps. The master has to have closed its store.
fn entries(stage: &Stage) -> Vec<Entry> {
    let database = rusqlite::Connection::open(stage.places().store()).unwrap();
    let all = history::list(&database, &Part { limit: 100, ..Part::default() }).unwrap();
    all.iter().rev().map(|entry| history::one(&database, entry.id).unwrap().unwrap()).collect()
}

fn told(entry: &Entry) -> (&str, End, Option<&str>) {
    (entry.verb.as_str(), entry.end, entry.asked_by.as_deref())
}

impl Stage {
    async fn asks(&self, master: &Arc<Master<Mortal>>, who: &str) -> Result<types::Roll, Refusal> {
        let reload = async { Ok(types::Done::by_roll(master.reload(&self.app).await?, "begun")) };
        let done = under_way::asked(who.into(), master.noted(&self.app, Act::new("reload"), reload)).await;
        done.map(|done| done.roll.unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn orders_end_with_the_roll_that_carries_them_out_whichever_master_sees_it() {
    let mut stage = Stage::set(&[3]).await;
    let master = stage.master().await;
    keeps(&stage, &master);
    let first = stage.asks(&master, "user 7").await.unwrap();
    let second = stage.asks(&master, "token ci").await.unwrap();
    let joined = stage.asks(&master, "user 8").await.unwrap();
    assert_eq!(second.id, joined.id);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(master.store.get().unwrap().close(FLUSH));
    let open = entries(&stage);
    assert!(open.iter().all(|entry| entry.end == End::Running) && open[0].roll == Some(first.id), "{open:#?}");
    stage.kill();
    let master = stage.master().await;
    keeps(&stage, &master);
    stage.ended(&master, &first).await;
    let second = stage.ended(&master, &second).await;
    assert_eq!(second.state, RollState::Failed);
    master.close_history(FLUSH);
    let all = entries(&stage);
    assert_eq!(
        all.iter().map(told).collect::<Vec<_>>(),
        [("reload", End::Done, Some("user 7")), ("reload", End::Failed, Some("token ci")), ("reload", End::Failed, Some("user 8"))],
        "{all:#?}"
    );
    assert!(all[0].steps.iter().any(|step| step.text.contains("new master")), "{all:#?}");
    assert_eq!((all[1].text.clone(), all[1].steps.len()), (second.reason, second.steps.len()));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_and_what_is_done_at_once_are_entries_too() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    keeps(&stage, &master);
    master.noted(&stage.app, Act::new("reset"), master.reset(&stage.app, None)).await.unwrap();
    assert_eq!(stage.fake.job(Verb::Stop, "project-cluster@api.service", SECOND).await, Ok(JobEnd::Done));
    stage.asks(&master, "user 7").await.unwrap_err();
    // Nobody has asked for this one.
    let order = async { Err(Refusal::new(Code::Failed, "it failed")) };
    master.noted(&stage.app, Act::new("stop"), order).await.unwrap_err();
    master.close_history(FLUSH);
    let all = entries(&stage);
    assert_eq!(
        all.iter().map(told).collect::<Vec<_>>(),
        [("reset", End::Done, None), ("reload", End::Refused, Some("user 7")), ("stop", End::Failed, None)],
        "{all:#?}"
    );
    assert_eq!((all[0].text.as_deref(), all[2].text.as_deref(), all[1].roll), (Some("reset"), Some("it failed"), None));
}
