//! The fake is held against a real systemd: the same scenarios on both give the same trace.

mod ground;
mod rolls;
mod scenarios;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use project_cluster::systemd::Systemd;
use tokio::runtime::Builder;

use self::ground::{Hand, Real, Unit, fake};
use self::stage::{Scenario, play};
use super::support::Sandbox;

/// In two rounds, each played at once.
fn rounds<S: Systemd, H: Hand>() -> [Vec<Scenario<S, H>>; 2] {
    [rolls::all().into_iter().chain(scenarios::all()).collect(), scenarios::reloading()]
}

fn units<S, H>(rounds: &[Vec<Scenario<S, H>>; 2]) -> Vec<Unit> {
    rounds.iter().flatten().flat_map(|scenario| scenario.units.clone()).collect()
}

async fn play_all<S: Systemd, H: Hand>(systemd: Arc<S>, hand: Arc<H>, rounds: [Vec<Scenario<S, H>>; 2]) -> BTreeMap<&'static str, String> {
    let mut traces = BTreeMap::new();
    for round in rounds {
        traces.extend(play(Arc::clone(&systemd), Arc::clone(&hand), round).await);
    }
    traces
}

fn traces_of_the_fake() -> BTreeMap<&'static str, String> {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let rounds = rounds();
        let fake = Arc::new(fake(&units(&rounds)));
        play_all(Arc::clone(&fake), fake, rounds).await
    })
}

fn traces_of_the_real_one() -> BTreeMap<&'static str, String> {
    let sandbox = Arc::new(Sandbox::start());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let rounds = rounds();
        let (hand, bus) = Real::start(sandbox, &units(&rounds)).await;
        play_all(Arc::new(bus), Arc::new(hand), rounds).await
    })
}

#[test]
fn the_fake_and_a_real_systemd_go_through_the_same_states_alone() {
    let (fake, real) = (traces_of_the_fake(), traces_of_the_real_one());
    assert!(real.len() >= 40, "{}", real.len());
    let differs = |name: &&&str| fake[*name] != real[*name];
    let different: Vec<&&str> = real.keys().filter(differs).collect();
    let told: String = different.iter().map(|name| format!("--- {name}: real\n{}+++ {name}: fake\n{}", real[*name], fake[*name])).collect();
    assert!(different.is_empty(), "{} of {} scenarios differ: {different:?}\n{told}", different.len(), real.len());
}
