use super::*;

const MS: u64 = 1000;
const S: u64 = 1000 * MS;
const RESTART: Duration = Duration::from_millis(100);

fn known(restarts: u32, ready_us: u64) -> Option<Known> {
    Some(Known { restarts, ready_us })
}

/// Starts a worker that ends `ran_us` after each start, `count` times; returns the waits that `prepare` makes.
fn waits(restart: Duration, ran_us: u64, count: u32) -> Vec<Duration> {
    let mut last = Count::fresh(S);
    (1..=count)
        .map(|restarts| {
            let now = last.start_us + ran_us + as_micros(restart);
            let plain = last.is_plain(now, restart);
            last = last.next(now, restart, if plain { None } else { known(restarts, 0) });
            assert_eq!(last.ends, restarts);
            last.next_start(now).unwrap_or_default()
        })
        .collect()
}

#[test]
fn two_ends_wait_for_systemd_alone_then_it_doubles_up_to_half_a_minute() {
    let ms = |list: &[u64]| list.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
    // Beside the 100 ms of systemd itself.
    let expected = ms(&[0, 0, 100, 300, 700, 1500, 3100, 6300, 12_700, 25_500, 29_900, 29_900]);
    assert_eq!(waits(RESTART, 0, 12), expected);
    assert_eq!(waits(RESTART, 9 * S, 12), expected, "one that lives for nine seconds, ready or not");
    assert_eq!(waits(RESTART, 600 * S, 12), expected, "one that hangs in its start, up to its time limit");
    assert_eq!(waits(Duration::ZERO, 0, 5), ms(&[0, 0, 200, 400, 800]));
    assert_eq!(waits(Duration::from_secs(20), 0, 4), ms(&[0, 0, 10_000, 10_000]));
    assert_eq!(waits(Duration::from_secs(60), 0, 4), ms(&[0; 4]), "longer than ours by itself");
    // The count goes on for ever and the wait with it.
    assert_eq!(waits(RESTART, 0, 200).last(), Some(&Duration::from_millis(29_900)));
    assert_eq!(wait(u32::MAX, RESTART), Duration::from_millis(29_900));
}

#[test]
fn a_run_that_lasted_begins_anew() {
    let last = Count { format: 1, ends: 7, since_us: S, start_us: 100 * S };
    // (now, ready at, ends then)
    let table = [
        (100 * S, 0, 8),
        (105 * S, 101 * S, 8),
        // Ready for 9 s of 12: not long. For 10 s: long.
        (112 * S, 102 * S + 500 * MS, 8),
        (112 * S, 101 * S + 900 * MS, 0),
        (10_000 * S, 101 * S, 0),
        // It was started long ago and never got ready since.
        (10_000 * S, 99 * S, 8),
        (10_000 * S, 0, 8),
    ];
    for (now, ready, ends) in table {
        assert!(!last.is_plain(now, RESTART));
        assert_eq!(last.next(now, RESTART, known(1000, ready)).ends, ends, "now {now}, ready at {ready}");
    }
    // Where systemd does not answer.
    assert_eq!(last.next(10_000 * S, RESTART, None), Count::fresh(10_000 * S));
    assert_eq!(last.next(101 * S, RESTART, None).ends, 8);
}

#[test]
fn a_person_s_start_begins_anew() {
    let last = Count { format: 1, ends: 7, since_us: S, start_us: 100 * S };
    assert_eq!(last.next(99 * S, RESTART, known(0, 0)), Count::fresh(99 * S));
    // `systemctl reset-failed` while it waited: systemd counts anew from the end after it.
    let reset = last.next(101 * S, RESTART, known(1, 0));
    assert_eq!((reset.ends, reset.since_us, reset.next_start(101 * S)), (1, 101 * S, None));
    // Starts by hand in a row are no ends: they are asked for before they could be called a loop.
    let mut last = Count::fresh(S);
    for start in 1..10_u64 {
        let now = S + start * S;
        last = last.next(now, RESTART, if last.is_plain(now, RESTART) { None } else { known(0, 0) });
        assert!(last.ends < LOOP && last.next_start(now).is_none(), "{last:?}");
    }
}

#[test]
fn systemd_is_asked_only_where_it_can_change_something() {
    let at = |ends| Count { format: 1, ends, since_us: S, start_us: S };
    assert!(at(0).is_plain(2 * S, RESTART) && at(1).is_plain(11 * S, RESTART));
    assert!(!at(2).is_plain(2 * S, RESTART), "the third would be a loop");
    assert!(!at(0).is_plain(12 * S, RESTART), "it may have been well");
}

#[test]
fn a_loop_is_one_until_the_worker_has_been_ready_for_long() {
    let count = |ends| Count { format: 1, ends, since_us: S, start_us: 100 * S };
    assert!(!count(2).is_loop(0, 100 * S));
    assert!(count(3).is_loop(0, 100 * S));
    assert!(count(3).is_loop(101 * S, 110 * S), "up for nine seconds");
    assert!(!count(3).is_loop(101 * S, 111 * S), "up for ten");
    // What got ready before this start says nothing about it.
    assert!(count(3).is_loop(50 * S, 111 * S));
    assert_eq!(count(3).next_start(90 * S), Some(Duration::from_secs(10)));
    assert_eq!(count(3).next_start(100 * S), None);
}

#[test]
fn since_is_when_the_first_of_them_was_seen() {
    let first = Count::fresh(S).next(2 * S, RESTART, None);
    let second = first.next(3 * S, RESTART, None);
    let third = second.next(4 * S, RESTART, known(3, 0));
    assert_eq!([first, second, third].map(|count| (count.ends, count.since_us)), [(1, 2 * S), (2, 2 * S), (3, 2 * S)]);
}
