//! What is left when an app's handle has stopped, by a fake whose handle has no stop step: as one that is masked.

use super::*;

#[tokio::test(start_paused = true)]
async fn workers_that_the_handle_s_stop_has_left_are_stopped() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    assert_eq!(master.stop(&stage.app).await.unwrap().message, "stopped");
    assert_eq!(stage.fake.active(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_leaves_a_worker_is_an_error_that_names_it() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    stage.fake.refuse(Verb::Stop, "project-cluster-api@2.1.1.service");
    let why = master.stop(&stage.app).await.unwrap_err().to_string();
    assert!(why.contains("project-cluster-api@2.1.1.service"), "{why}");
    assert_eq!(stage.up(), ["2.1.1"], "the others are stopped all the same");
}
