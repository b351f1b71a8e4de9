//! Files that change all the time, and large ones.

use super::*;
use crate::plan::pace::LARGE;

#[tokio::test(start_paused = true)]
async fn a_file_that_never_is_quiet_is_sent_after_its_delay_and_holds_up_no_other_change() {
    // Far apart: this clock runs ahead while the ledger, which is a thread of its own, is at work.
    let (settle_ms, max_delay_ms) = (36_000_000, 3_600_000);
    let pace = ebbtide_feed::PaceSpec { settle_ms, max_delay_ms, rest: REST };
    let mut world = World::with(|spec| spec.pace = pace);
    world.settle().await;
    world.write("a", "1");
    fs::create_dir(world.src("d")).unwrap();
    let began = Instant::now();
    world.send(vec![data("a"), data("d")]);
    world.same(&["d"]).await;
    assert!(world.fake.with(|state| !state.held.contains_key("a")));
    world.settle().await;
    assert!(began.elapsed() >= Duration::from_millis(max_delay_ms));
    world.same(&["a"]).await;
    let with_a = |state: &mut fake::State| {
        state.sessions.iter().filter(|(_, names)| names.contains(&"a".into())).count()
    };
    assert_eq!(world.fake.with(with_a), 1);
}

#[tokio::test(start_paused = true)]
async fn a_large_file_that_took_long_rests_before_it_is_sent_again() {
    let mut world = World::synced(true, &[]).await;
    let minute = Duration::from_secs(60);
    world.fake.with(|state| state.lasts = minute);
    let began = Instant::now();
    for more in 0..3 {
        fs::File::create(world.src("a")).unwrap().set_len(LARGE + more).unwrap();
        world.send(vec![data("a")]);
        world.settle().await;
    }
    assert!(began.elapsed() >= minute * 3 + minute * REST * 2);
}
