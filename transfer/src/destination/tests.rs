use std::fs;
use std::path::PathBuf;

use ebbtide_feed::{Batch, DestinationSpec, MirrorSpec};
use tokio::sync::mpsc::UnboundedReceiver;

use super::fake::Fake;
use super::*;
use crate::ledger::{Notice, Started};
use crate::testing::{data, gone, path};

mod aside;
mod pace;
mod renames;

/// A source, a daemon in memory, and the task between them.
struct World {
    folder: tempfile::TempDir,
    fake: Fake,
    ledger: Ledger,
    notices: UnboundedReceiver<Notice>,
    account: Account,
    ask: watch::Sender<Asked>,
    seq: u64,
}

const REST: u32 = 2;

const DESTINATION: DestinationId = DestinationId(0);

impl World {
    /// Everything in place, before the first sync.
    fn new(delete: bool) -> Self {
        World::guarded(delete, None)
    }

    /// The same with a limit for removals.
    fn guarded(delete: bool, max_delete: Option<ebbtide_feed::MaxDelete>) -> Self {
        World::with(|spec| (spec.delete, spec.max_delete) = (delete, max_delete))
    }

    /// The same with whatever `shape` says.
    fn with(shape: impl FnOnce(&mut MirrorSpec)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["src", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut spec = MirrorSpec {
            source: folder.path().join("src"),
            follow_renames: true,
            pace: ebbtide_feed::PaceSpec { settle_ms: 0, max_delay_ms: 0, rest: REST },
            numeric_ids: false,
            hard_links: true,
            filters: Vec::new(),
            destinations: vec![DestinationSpec {
                url: "rsync://fake/m/".into(),
                timeout_s: 0,
                tls: ebbtide_feed::TlsSpec::default(),
                contimeout_s: 0,
                ..Default::default()
            }],
            ..Default::default()
        };
        shape(&mut spec);
        let started = Ledger::start(&folder.path().join("state"), std::slice::from_ref(&spec)).unwrap();
        let Started { ledger, mut takes, notices, .. } = started;
        let account = Account::new(0, "rsync://fake/m/".into());
        let fake = Fake::default();
        let ask = watch::Sender::new(Asked::default());
        let destination = Destination {
            id: DESTINATION,
            mirror: Arc::new(Mirror::new(0, spec)),
            courier: fake.clone(),
            ledger: ledger.clone(),
            takes: takes.remove(0),
            leftovers: None,
            known: None,
            account: account.clone(),
            asked: ask.subscribe(),
        };
        tokio::spawn(destination.run());
        World { folder, fake, ledger, notices, account, ask, seq: 0 }
    }

    /// After the first sync.
    async fn synced(delete: bool, files: &[&str]) -> Self {
        let mut world = World::new(delete);
        files.iter().for_each(|name| world.write(name, "1"));
        world.settle().await;
        world
    }

    fn src(&self, name: &str) -> PathBuf {
        self.folder.path().join("src").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.src(name).parent().unwrap()).unwrap();
        fs::write(self.src(name), content).unwrap();
    }

    fn send(&mut self, facts: Vec<Fact>) {
        self.seq += 1;
        self.ledger.record(Batch { seq: self.seq, mirror: 0, last: true, facts });
    }

    async fn settle(&mut self) {
        self.ledger.barrier(1);
        while !matches!(self.notices.recv().await.unwrap(), Notice::Settled { .. }) {}
    }

    /// Waits until the daemon has just what the source has now.
    async fn same(&mut self, names: &[&str]) {
        loop {
            let same = self.fake.with(|state| {
                names.iter().all(|name| match fs::symlink_metadata(self.src(name)) {
                    Ok(meta) => state.held.get(*name).is_some_and(|held| {
                        (held.size, held.mtime.secs)
                            == (meta.len(), std::os::unix::fs::MetadataExt::mtime(&meta))
                    }),
                    Err(_) => !state.held.contains_key(*name),
                })
            });
            if same {
                return;
            }
            self.tick().await;
        }
    }

    async fn wait(&self, what: impl Fn(&Self) -> bool) {
        while !what(self) {
            self.tick().await;
        }
    }

    /// A moment of the paused clock, and one for the ledger, which is a thread of its own: hours must not pass while it
    /// writes.
    async fn tick(&self) {
        std::thread::sleep(Duration::from_micros(50));
        sleep(Duration::from_millis(1)).await;
    }

    fn sessions(&self) -> usize {
        self.fake.with(|state| state.sessions.len())
    }

    fn fails(&self, name: &str) -> bool {
        self.account.status(0).failing_names.iter().any(|(failing, _)| failing == name)
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_sync_brings_everything_and_removes_the_rest() {
    let mut world = World::new(true);
    world.fake.with(|state| state.held.insert("old".into(), crate::source::Meta::MISSING));
    world.write("a/b/c", "1");
    world.settle().await;
    world.same(&["a", "a/b", "a/b/c", "old"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_lists_what_changed_and_the_way_there() {
    let mut world = World::synced(true, &["a/b/c", "a/other", "x"]).await;
    world.write("a/b/c", "22");
    world.send(vec![data("a/b/c"), gone("gone")]);
    world.settle().await;
    let (orders, mut names) = world.fake.with(|state| state.sessions.last().cloned()).unwrap();
    assert_eq!(names[0], "gone");
    names.sort();
    assert_eq!(names, [".", "a", "a/b", "a/b/c", "gone"]);
    assert!(orders.removes && orders.lane.ignore_times && !orders.lane.complete);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_fails_waits_by_itself_and_succeeds_later() {
    for mumbles in [false, true] {
        let mut world = World::synced(true, &["a", "b", "c"]).await;
        world.fake.with(|state| {
            state.locked.insert("b".into());
            state.mumbles = mumbles;
        });
        for name in ["a", "b", "c"] {
            world.write(name, "22");
        }
        world.send(vec![data("a"), data("b"), data("c")]);
        world.same(&["a", "c"]).await;
        world.wait(|world| world.fails("b")).await;
        world.wait(|world| world.ledger.pending(DESTINATION) == 1).await;
        world.fake.with(|state| state.locked.clear());
        world.settle().await;
        world.same(&["b"]).await;
        assert!(!world.fails("b"));
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_name_of_many_costs_the_others_nothing() {
    let names: Vec<String> = (0..200).map(|n| format!("d/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::synced(true, &names).await;
    let before = world.sessions();
    world.fake.with(|state| state.locked.insert("d/17".into()));
    names.iter().for_each(|name| world.write(name, "22"));
    world.send(names.iter().map(|name| data(name)).collect());
    world.wait(|world| world.fails("d/17")).await;
    world.wait(|world| world.ledger.pending(DESTINATION) == 1).await;
    // It alone is tried again.
    world.wait(|world| world.sessions() > before + 2).await;
    let sessions = world.fake.with(|state| state.sessions.split_off(before));
    assert_eq!(sessions[0].1.len(), 202);
    assert!(sessions[1..].iter().all(|(_, names)| *names == ["d/17", ".", "d"]), "{:?}", &sessions[1..]);
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_before_a_session_broke_is_not_sent_again() {
    let names: Vec<String> = (0..100).map(|n| format!("d/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::synced(true, &names).await;
    let before = world.sessions();
    // The first session that breaks makes the destination careful.
    world.fake.with(|state| (state.cut, state.cut_at) = (2, 20));
    names.iter().for_each(|name| world.write(name, "22"));
    world.send(names.iter().map(|name| data(name)).collect());
    world.settle().await;
    world.same(&names).await;
    let sessions = world.fake.with(|state| state.sessions.split_off(before));
    assert!(!sessions[0].0.acknowledge && sessions[1].0.acknowledge, "{sessions:?}");
    let stored: Vec<&String> = sessions[1].1[..20].iter().filter(|name| name.contains('/')).collect();
    assert!(stored.len() >= 18);
    let sent_again = |name: &String| {
        sessions[2..].iter().any(|(orders, names)| orders.lane.ignore_times && names.contains(name))
    };
    assert!(!stored.into_iter().any(sent_again));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_ends_every_session_waits_by_itself_at_once() {
    let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::synced(true, &names).await;
    let before = world.sessions();
    world.fake.with(|state| state.fatal.insert("50".into()));
    names.iter().for_each(|name| world.write(name, "22"));
    world.send(names.iter().map(|name| data(name)).collect());
    let others: Vec<&str> = names.iter().copied().filter(|name| *name != "50").collect();
    world.wait(|world| world.fails("50")).await;
    assert_eq!(world.sessions(), before + 1);
    world.same(&others).await;
    world.fake.with(|state| state.fatal.clear());
    world.settle().await;
    world.same(&names).await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_fails_beside_its_files_goes_on_by_itself() {
    let mut world = World::synced(true, &["d/a", "d/b"]).await;
    world.fake.with(|state| state.locked.insert("d".into()));
    world.write("d/a", "22");
    world.send(vec![data("d/a")]);
    world.same(&["d/a"]).await;
    world.wait(|world| world.fails("d")).await;
    assert!(!world.fails("d/a"));
    world.fake.with(|state| state.locked.clear());
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_waits_by_itself() {
    let names = ["a", "b", "c", "d", "e"];
    let mut world = World::synced(true, &names).await;
    world.fake.with(|state| state.locked.insert("c".into()));
    for name in names {
        fs::remove_file(world.src(name)).unwrap();
    }
    world.send(names.iter().map(|name| gone(name)).collect());
    world.same(&["a", "b", "d", "e"]).await;
    world.wait(|world| world.fails("c")).await;
    world.wait(|world| world.ledger.pending(DESTINATION) == 1).await;
    world.fake.with(|state| state.locked.clear());
    world.settle().await;
    world.same(&["c"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_breaks_every_session_does_not_hold_up_the_others() {
    let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::synced(true, &names).await;
    world.fake.with(|state| state.poison.insert("17".into()));
    names.iter().for_each(|name| world.write(name, "22"));
    world.send(names.iter().map(|name| data(name)).collect());
    let others: Vec<&str> = names.iter().copied().filter(|name| *name != "17").collect();
    world.same(&others).await;
    world.wait(|world| world.fails("17")).await;
    world.fake.with(|state| state.poison.clear());
    world.settle().await;
    world.same(&names).await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_fails_in_a_tree_goes_on_by_itself() {
    let mut world = World::new(true);
    world.write("a/b", "1");
    world.write("a/c", "1");
    world.fake.with(|state| state.locked.insert("a/b".into()));
    world.same(&["a/c"]).await;
    world.wait(|world| world.fails("a/b")).await;
    let whole = |world: &World| world.fake.with(|state| state.sessions.last().unwrap().0.lane.complete);
    world.wait(|world| !whole(world)).await;
    world.fake.with(|state| state.locked.clear());
    world.settle().await;
    world.same(&["a/b"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_breaks_the_comparison_of_its_directory_goes_on_by_itself() {
    let mut world = World::new(true);
    for name in ["a/b", "a/huge", "a/z"] {
        world.write(name, "1");
    }
    world.fake.with(|state| state.fatal.insert("a/huge".into()));
    world.same(&["a/b", "a/z"]).await;
    world.wait(|world| world.fails("a/huge")).await;
    world.fake.with(|state| state.fatal.clear());
    world.settle().await;
    world.same(&["a/huge"]).await;
}

#[tokio::test(start_paused = true)]
async fn something_extraneous_that_cannot_be_removed_keeps_its_directory_waiting() {
    let mut world = World::new(true);
    world.write("a/b", "1");
    world.fake.with(|state| {
        state.held.insert("a/old".into(), crate::source::Meta::MISSING);
        state.locked.insert("a/old".into());
    });
    world.wait(|world| world.fails("a")).await;
    world.same(&["a/b"]).await;
    world.fake.with(|state| state.locked.clear());
    world.settle().await;
    world.same(&["a/old"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_is_down_gets_everything_later() {
    let mut world = World::synced(true, &["a"]).await;
    world.fake.with(|state| state.down = 5);
    world.write("a", "22");
    world.send(vec![data("a")]);
    world.wait(|world| world.account.status(0).last_error.is_some()).await;
    world.settle().await;
    world.same(&["a"]).await;
    assert_eq!(world.account.status(0).last_error, None);
    assert_eq!(world.account.status(0).failures, 5);
}

#[tokio::test(start_paused = true)]
async fn what_a_session_that_broke_still_does_is_put_right() {
    let mut world = World::synced(true, &["d/a", "d/b"]).await;
    let old = world.fake.with(|state| state.held["d/a"]);
    world.fake.with(|state| {
        state.cut = 1;
        state.ghost = vec![("d/a".into(), old), ("d/.a.Xyz123".into(), old), ("d/gone".into(), old)];
    });
    world.write("d/a", "22");
    world.send(vec![data("d/a"), gone("d/gone")]);
    world.settle().await;
    world.same(&["d/a", "d/.a.Xyz123", "d/gone"]).await;
    assert!(world.sessions() > 3);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_know_missing_args_gets_the_directory_compared() {
    let mut world = World::synced(true, &["d/a", "d/b"]).await;
    world.fake.with(|state| state.is_old = true);
    fs::remove_file(world.src("d/a")).unwrap();
    world.send(vec![gone("d/a")]);
    world.settle().await;
    world.same(&["d/a", "d/b"]).await;
}

#[tokio::test(start_paused = true)]
async fn without_delete_a_removed_name_costs_no_session() {
    let mut world = World::synced(false, &["a"]).await;
    let before = world.sessions();
    fs::remove_file(world.src("a")).unwrap();
    world.send(vec![gone("a")]);
    world.settle().await;
    assert_eq!(world.sessions(), before);
    assert!(world.fake.with(|state| state.held.contains_key("a")));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_while_it_is_read_stays_pending_but_does_not_hold_up_a_barrier() {
    let mut world = World::synced(true, &["a"]).await;
    world.fake.with(|state| state.busy.insert("a".into()));
    world.write("a", "22");
    world.send(vec![data("a")]);
    world.settle().await;
    assert_eq!(world.ledger.pending(DESTINATION), 1);
    assert!(world.account.status(0).failing_names.is_empty());
    world.fake.with(|state| state.busy.clear());
    world.wait(|world| world.ledger.pending(DESTINATION) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_large_file_that_always_changes_rests_for_longer_than_it_is_sent() {
    let mut world = World::synced(true, &["a"]).await;
    let (minute, before) = (Duration::from_secs(60), world.sessions());
    world.fake.with(|state| (state.lasts, _) = (minute, state.busy.insert("a".into())));
    world.write("a", "22");
    let began = Instant::now();
    world.send(vec![data("a")]);
    world.settle().await;
    let sessions = u32::try_from(world.sessions() - before).unwrap();
    assert!(began.elapsed() >= minute * sessions + minute * REST * (sessions - 1));
    assert!(sessions >= RESTLESS);
}

#[tokio::test(start_paused = true)]
async fn a_path_that_rsync_cannot_carry_fails_with_its_reason() {
    let mut world = World::synced(true, &["a"]).await;
    let long = "d/".repeat(2100) + "f";
    world.send(vec![data(&long), data("a")]);
    world.wait(|world| world.fails(&long)).await;
    world.wait(|world| world.ledger.pending(DESTINATION) == 1).await;
    let reason = world.account.status(0).failing_names[0].1.clone();
    assert!(reason.contains("4095"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_directory_in_anothers_place_is_removed_first_and_then_compared() {
    let mut world = World::synced(true, &["x/f", "y/f"]).await;
    fs::remove_dir_all(world.src("y")).unwrap();
    fs::rename(world.src("x"), world.src("y")).unwrap();
    let before = world.sessions();
    world.send(vec![gone("x"), Fact::Subtree { dir: path("y"), replaced: true }, data("y/f")]);
    world.settle().await;
    world.same(&["x", "y", "y/f"]).await;
    let sessions = world.fake.with(|state| state.sessions.split_off(before));
    assert!(sessions[0].0.removes && sessions[0].1.contains(&"y".to_owned()));
    assert!(!sessions[0].1.contains(&"y/f".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_empty_root_that_is_another_directory_removes_nothing() {
    let mut world = World::synced(true, &["a"]).await;
    fs::rename(world.src(""), world.folder.path().join("away")).unwrap();
    fs::create_dir(world.src("")).unwrap();
    world.send(vec![gone("a"), Fact::Subtree { dir: RelPath::root(), replaced: false }]);
    world.wait(|world| world.account.status(0).last_error.is_some()).await;
    assert!(world.fake.with(|state| state.held.contains_key("a")));
}

/// A synced world that removes at most three names.
async fn three_at_most(files: &[&str]) -> World {
    let mut world = World::guarded(true, Some(ebbtide_feed::MaxDelete::Count(3)));
    files.iter().for_each(|name| world.write(name, "1"));
    world.settle().await;
    world
}

impl World {
    fn held(&self) -> Option<ebbtide_feed::HeldStatus> {
        self.account.status(0).held
    }

    fn remove(&self, names: &[&str]) -> Vec<Fact> {
        names.iter().for_each(|name| fs::remove_file(self.src(name)).unwrap());
        names.iter().map(|name| gone(name)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_removals_are_held_while_the_rest_goes_on_until_they_are_let_go() {
    let names = ["a", "b", "c", "d", "e"];
    let mut world = three_at_most(&names).await;
    let mut facts = world.remove(&names[..4]);
    world.write("new", "2");
    facts.push(Fact::Touched { path: RelPath::new("new").unwrap(), data: true });
    world.send(facts);
    world.wait(|world| world.held().is_some()).await;
    world.same(&["new", "e"]).await;
    let held = world.held().unwrap();
    assert_eq!((held.removals, held.reason.as_str(), held.examples.len()), (4, "max-delete is 3", 4));
    // While something is held, nothing at all is removed.
    let facts = world.remove(&["e"]);
    world.send(facts);
    world.wait(|world| world.held().is_some_and(|held| held.removals == 5)).await;
    assert!(world.fake.with(|state| names.iter().all(|name| state.held.contains_key(*name))));
    world.ask.send_modify(|asked| asked.releases += 1);
    world.settle().await;
    world.same(&names).await;
    assert_eq!(world.held(), None);
}

#[tokio::test(start_paused = true)]
async fn a_directory_with_too_many_names_is_held_with_what_is_in_it() {
    let mut world = three_at_most(&["d/a", "d/b", "d/c", "d/d"]).await;
    fs::remove_dir_all(world.src("d")).unwrap();
    world.send(vec![gone("d")]);
    world.wait(|world| world.held().is_some()).await;
    assert!(world.fake.with(|state| state.held.contains_key("d")));
    world.ask.send_modify(|asked| asked.releases += 1);
    world.settle().await;
    world.same(&["d", "d/a", "d/d"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_comparison_that_would_remove_too_much_is_held_and_sends_the_rest() {
    let mut world = three_at_most(&["x"]).await;
    world.fake.with(|state| {
        let meta = state.held["x"];
        state.held.extend((0..9).map(|n| (format!("extra{n}"), meta)));
    });
    world.write("fresh", "2");
    world.send(vec![Fact::Subtree { dir: RelPath::root(), replaced: false }]);
    world.wait(|world| world.held().is_some()).await;
    world.same(&["fresh", "x"]).await;
    assert_eq!(
        world.fake.with(|state| state.held.keys().filter(|name| name.starts_with("extra")).count()),
        6
    );
    world.ask.send_modify(|asked| asked.releases += 1);
    world.settle().await;
    assert_eq!(
        world.fake.with(|state| state.held.keys().filter(|name| name.starts_with("extra")).count()),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn removals_are_counted_over_many_small_sessions() {
    let names = ["a", "b", "c", "d", "e"];
    let mut world = three_at_most(&names).await;
    for name in &names[..3] {
        let facts = world.remove(&[name]);
        world.send(facts);
        world.settle().await;
    }
    world.same(&names[..3]).await;
    let facts = world.remove(&names[3..4]);
    world.send(facts);
    world.wait(|world| world.held().is_some()).await;
    assert!(world.fake.with(|state| state.held.contains_key("d")));
}

#[tokio::test(start_paused = true)]
async fn a_paused_destination_gets_nothing_and_catches_up() {
    let mut world = World::synced(true, &["a"]).await;
    world.ask.send_modify(|asked| asked.paused = true);
    world.wait(|world| world.account.status(0).state == DestinationState::Paused).await;
    let before = world.sessions();
    world.write("a", "22");
    world.send(vec![Fact::Touched { path: RelPath::new("a").unwrap(), data: true }]);
    world.wait(|world| world.ledger.pending(DESTINATION) == 1).await;
    assert_eq!(world.sessions(), before);
    world.ask.send_modify(|asked| asked.paused = false);
    world.settle().await;
    world.same(&["a"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_found_empty_removes_nothing_until_it_has_something_again() {
    let mut world = World::synced(true, &["a", "b"]).await;
    ["a", "b"].iter().for_each(|name| fs::remove_file(world.src(name)).unwrap());
    let whole = || vec![Fact::Subtree { dir: RelPath::root(), replaced: false }];
    world.send(whole());
    world.wait(|world| world.held().is_some()).await;
    assert_eq!(world.held().unwrap().reason, "the source directory is empty");
    assert!(world.fake.with(|state| state.held.contains_key("a") && state.held.contains_key("b")));
    world.write("c", "3");
    world.send(vec![Fact::Touched { path: path("c"), data: true }]);
    world.settle().await;
    world.same(&["a", "b", "c"]).await;
    assert_eq!(world.held(), None);
    fs::remove_file(world.src("c")).unwrap();
    world.send(whole());
    world.wait(|world| world.held().is_some()).await;
    world.ask.send_modify(|asked| asked.releases += 1);
    world.settle().await;
    world.same(&["c"]).await;
}

#[tokio::test(start_paused = true)]
async fn names_that_were_seen_to_go_are_removed_though_the_source_is_empty_then() {
    let mut world = World::synced(true, &["a"]).await;
    let facts = world.remove(&["a"]);
    world.send(facts);
    world.settle().await;
    world.same(&["a"]).await;
}
