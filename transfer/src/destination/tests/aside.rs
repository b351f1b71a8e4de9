//! Large files that go by themselves.

use super::*;
use crate::destination::courier::Share;
use crate::plan::pace::LARGE;

fn write_large(world: &World, name: &str) {
    fs::File::create(world.src(name)).unwrap().set_len(LARGE).unwrap();
}

/// Whether a session of its own had this name.
fn went_by_itself(world: &World, name: &str) -> bool {
    let had = |names: &Vec<String>| names.iter().any(|other| other == name);
    world
        .fake
        .with(|state| state.sessions.iter().any(|(orders, names)| orders.share == Share::Most && had(names)))
}

#[tokio::test]
async fn the_content_of_large_files_comes_after_a_comparison_and_by_itself() {
    let mut world = World::new(true);
    world.write("small", "1");
    write_large(&world, "large");
    world.settle().await;
    world.same(&["small", "large"]).await;
    assert!(went_by_itself(&world, "large") && !went_by_itself(&world, "small"));
    let sessions = world.sessions();
    world.send(vec![Fact::Relist { dir: RelPath::root() }]);
    world.settle().await;
    assert_eq!(world.sessions(), sessions + 1, "nothing differs");
}

#[tokio::test(start_paused = true)]
async fn large_files_go_by_themselves_again_after_a_session_of_theirs_broke() {
    let mut world = World::synced(true, &["d/f"]).await;
    write_large(&world, "d/large");
    world.fake.with(|state| state.cut = 1);
    world.send(vec![data("d/large")]);
    world.settle().await;
    world.same(&["d/f", "d/large"]).await;
    let by_itself = |state: &mut fake::State| {
        state.sessions.iter().filter(|(orders, _)| orders.share == Share::Most).count()
    };
    assert!(world.fake.with(by_itself) >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_large_file_that_breaks_every_session_is_found_out_by_the_others_and_shown() {
    let mut world = World::synced(true, &["d/f"]).await;
    write_large(&world, "d/large");
    write_large(&world, "d/large2");
    world.fake.with(|state| state.poison.extend(["d/large".into()]));
    world.send(vec![data("d/large"), data("d/large2")]);
    world.wait(|world| world.fails("d/large")).await;
    world.same(&["d/large2"]).await;
    world.fake.with(|state| state.poison.clear());
    world.settle().await;
    world.same(&["d/f", "d/large", "d/large2"]).await;
}

#[tokio::test(start_paused = true)]
async fn large_files_wait_while_a_destination_is_down() {
    let mut world = World::synced(true, &["d/f"]).await;
    write_large(&world, "d/large");
    world.fake.with(|state| state.down = 5);
    world.send(vec![data("d/large")]);
    world.settle().await;
    world.same(&["d/large"]).await;
}
