//! Units whose files somebody takes away, or masks, in a roll: systemd would stop such a worker without draining it.

use super::*;

/// A roll whose first old worker's unit, and then that of the new one, is gone when it is to retire.
async fn rolled(breaks: impl Fn(&Fake, &str)) -> (Stage, Outcome) {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    let outcome = stage
        .with(|fake| async move {
            tokio::time::sleep(ms(600)).await;
            for unit in all(4, 4).into_iter().chain([unit("1.5.1")]) {
                breaks(&fake, &unit);
            }
        })
        .await;
    (stage, outcome)
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_nothing_would_drain_is_not_stopped() {
    for (breaks, words) in [(Fake::delete as fn(&Fake, &str), "not found"), (|fake, unit| fake.mask(unit, true), "masked")] {
        let (stage, outcome) = rolled(breaks).await;
        let Outcome::Mixed { reason, who } = &outcome else { panic!("{outcome:?}") };
        let expected = format!("api:01 (generation 4) cannot be stopped: its unit is {words}, and so nothing would drain it: `");
        assert!(
            reason.starts_with(&expected) && reason.contains("; then, going back, api:01 (generation 5) cannot be stopped: "),
            "{reason}"
        );
        assert_eq!(who.len(), 5);
        assert_eq!(stage.active(), [vec![unit("1.4.1"), unit("1.5.1")], all(4, 4).split_off(1)].concat());
        // The next new one was on its way up already.
        assert_eq!(stage.calls(), ["start 1.5.1", "start 2.5.1", "stop 2.5.1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_serve_is_stopped_all_the_same() {
    let stage = Stage::set(|_, _| App::ready_after(Duration::from_secs(600))).await;
    let outcome = stage
        .with(|fake| async move {
            tokio::time::sleep(ms(600)).await;
            fake.delete(&unit("1.5.1"));
        })
        .await;
    assert!(matches!(outcome, Outcome::AllOld { .. }), "{outcome:?}");
    assert_eq!(stage.active(), all(4, 4));
}
