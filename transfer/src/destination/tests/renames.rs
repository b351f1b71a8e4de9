//! What was renamed is linked.

use super::*;

fn moved(from: &str, to: &str) -> Fact {
    Fact::Moved { from: path(from), to: path(to) }
}

impl World {
    /// A mirror that has this file, which is large enough to be followed, and then renames it.
    async fn renamed(max_delete: Option<ebbtide_feed::MaxDelete>, from: &str, to: &str) -> World {
        let mut world = World::guarded(true, max_delete);
        world.write(from, &"x".repeat(20_000));
        world.settle().await;
        fs::rename(world.src(from), world.src(to)).unwrap();
        world
    }

    /// The names of each list of pairs.
    fn pairs(&self) -> Vec<Vec<String>> {
        self.fake.with(|state| {
            let pairs = state.sessions.iter().filter(|(orders, _)| orders.pairs && orders.checksum);
            pairs.map(|(_, names)| names.clone()).collect()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_renamed_directory_is_linked_and_its_old_name_goes_though_a_session_breaks_between() {
    let mut world = World::synced(true, &["old/f", "old/g"]).await;
    fs::rename(world.src("old"), world.src("new")).unwrap();
    world.fake.with(|state| state.poison.insert("old".into()));
    let subtree = |name: &str| Fact::Subtree { dir: path(name), replaced: true };
    world.send(vec![moved("old", "new"), gone("old"), subtree("old"), subtree("new")]);
    world.wait(|world| world.fake.with(|state| state.held.contains_key("new/g"))).await;
    assert!(world.fake.with(|state| state.held.contains_key("old/f")));
    assert_eq!(world.fake.with(|state| state.renamed.clone()), [("old".to_owned(), "new".to_owned())]);
    world.fake.with(|state| state.poison.clear());
    world.same(&["new/f", "new/g", "old", "old/f"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_took_the_old_name_of_a_renamed_file_is_sent_though_it_was_sent_lately() {
    let mut world = World::synced(true, &[]).await;
    world.write("a", &"1".repeat(20_000));
    world.send(vec![data("a")]);
    world.settle().await;
    fs::rename(world.src("a"), world.src("b")).unwrap();
    world.write("a", "another");
    // Sent because of a fact that is older than the news of the rename.
    let ctime = crate::source::Meta::from(&rustix::fs::lstat(world.src("a")).unwrap()).ctime;
    while !crate::plan::recent::Tick::now().is_past(ctime) {
        std::thread::yield_now();
    }
    world.send(vec![data("a")]);
    world.settle().await;
    world.send(vec![moved("a", "b"), gone("a"), data("a"), data("b")]);
    world.settle().await;
    world.same(&["a", "b"]).await;
    assert!(!world.pairs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn renamed_files_go_in_pairs_and_a_chain_leads_back_to_the_first_name() {
    let mut world = World::renamed(None, "a", "c").await;
    world.fake.with(|state| state.down = 3);
    world.send(vec![moved("a", "b"), gone("a"), data("b")]);
    world.send(vec![moved("b", "c"), gone("b"), data("c")]);
    world.same(&["a", "b", "c"]).await;
    assert_eq!(world.pairs().last().unwrap()[..2], ["a".to_owned(), "c".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn a_new_name_that_is_still_linked_to_its_old_one_is_sent() {
    let mut world = World::renamed(None, "a", "b").await;
    world.fake.with(|state| state.keeps.insert("a".into()));
    world.send(vec![moved("a", "b"), gone("a"), data("b")]);
    let is_sent = |(orders, names): &(courier::Orders, Vec<String>)| {
        orders.lane.ignore_times && names.contains(&"b".into())
    };
    world.wait(|world| world.fake.with(|state| state.sessions.iter().any(is_sent))).await;
    assert_eq!(world.pairs().len(), 1);
    world.fake.with(|state| state.keeps.clear());
    world.settle().await;
    world.same(&["a", "b"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_renamed_while_removals_are_held_is_linked_to_nothing() {
    let mut world = World::renamed(Some(ebbtide_feed::MaxDelete::Count(0)), "a", "b").await;
    world.send(vec![moved("a", "b"), gone("a"), data("b")]);
    world.same(&["b"]).await;
    world.wait(|world| world.account.status(0).held.is_some()).await;
    assert!(world.fake.with(|state| state.held.contains_key("a")));
    assert_eq!(world.pairs(), [[""; 0]; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_hides_the_old_name_of_a_directory_gets_the_new_one_sent() {
    let mut world = World::synced(true, &["old/f", "other"]).await;
    world.fake.with(|state| state.hidden.insert("old".into()));
    fs::rename(world.src("old"), world.src("new")).unwrap();
    let replaced = Fact::Subtree { dir: path("new"), replaced: true };
    world.send(vec![moved("old", "new"), gone("old"), replaced]);
    world.settle().await;
    world.same(&["new/f", "old"]).await;
    assert_eq!(world.account.status(0).failures, 0);
}

const THIRD: &str = ".ebbtide-renamed-0";

impl World {
    /// A mirror of two names that then change places, and the facts that tell of it.
    async fn exchanged(files: [&str; 2], names: [&str; 2], is_of_dirs: bool) -> (World, Vec<Fact>) {
        let mut world = World::synced(true, &[]).await;
        for (at, file) in files.iter().enumerate() {
            world.write(file, &"x".repeat(20_000 + at));
        }
        world.settle().await;
        for (from, to) in [(names[0], "t"), (names[1], names[0]), ("t", names[1])] {
            fs::rename(world.src(from), world.src(to)).unwrap();
        }
        let told = |name: &str| match is_of_dirs {
            true => Fact::Subtree { dir: path(name), replaced: true },
            false => data(name),
        };
        let mut facts = vec![moved(names[0], names[1]), moved(names[1], names[0])];
        facts.extend(names.iter().flat_map(|name| [gone(name), told(name)]));
        (world, facts)
    }
}

#[tokio::test(start_paused = true)]
async fn files_that_take_each_others_names_go_over_a_third_one() {
    let (mut world, facts) = World::exchanged(["a", "b"], ["a", "b"], false).await;
    world.send(facts);
    world.settle().await;
    world.same(&["a", "b"]).await;
    let pairs = world.pairs();
    let both: Vec<&[String]> = pairs.iter().map(|names| &names[..2]).collect();
    assert_eq!(both, [["b", THIRD], ["a", "b"], [THIRD, "a"]]);
}

#[tokio::test(start_paused = true)]
async fn a_third_name_goes_wherever_a_session_breaks() {
    for (files, names) in [(["a", "b"], ["a", "b"]), (["a/f", "b/f"], ["a", "b"])] {
        for cut_at in 0..4 {
            let is_of_dirs = files[0] != names[0];
            let (mut world, facts) = World::exchanged(files, names, is_of_dirs).await;
            let third = if is_of_dirs { format!("{THIRD}/f") } else { THIRD.to_owned() };
            world.fake.with(|state| {
                state.poison.insert(third);
                state.cut_at = cut_at;
            });
            world.send(facts);
            world.wait(|world| world.account.status(0).failures > 0).await;
            world.fake.with(|state| state.poison.clear());
            world.settle().await;
            world.same(if is_of_dirs { &["a", "a/f", "b", "b/f"] } else { &["a", "b"] }).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_exchanged_while_removals_are_held_needs_no_third_name() {
    let mut world = World::guarded(true, Some(ebbtide_feed::MaxDelete::Count(0)));
    world.write("a", &"x".repeat(20_000));
    world.write("b", &"y".repeat(20_001));
    world.settle().await;
    world.send(vec![moved("a", "b"), moved("b", "a"), gone("a"), gone("b"), data("a"), data("b")]);
    world.settle().await;
    world.same(&["a", "b"]).await;
    assert_eq!(world.pairs(), [["a", "b", "."]]);
}
