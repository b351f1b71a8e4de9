use std::collections::BTreeSet;
use std::path::Path;

use ebbtide_feed::{Batch, DestinationSpec, MirrorSpec};
use proptest::prelude::*;

use super::super::{Inode, Ledger, LinkNotes, Started};
use super::*;
use crate::testing::{data, gone, path};

fn mirror(destinations: usize) -> MirrorSpec {
    let destination = |n| DestinationSpec {
        url: format!("rsync://host/{n}"),
        timeout_s: 0,
        tls: ebbtide_feed::TlsSpec::default(),
        contimeout_s: 0,
        ..Default::default()
    };
    MirrorSpec {
        source: "/s".into(),
        delete: true,
        numeric_ids: false,
        hard_links: false,
        filters: Vec::new(),
        destinations: (0..destinations).map(destination).collect(),
        ..Default::default()
    }
}

struct Bench {
    started: Started,
    seq: u64,
}

const A: DestinationId = DestinationId(0);

impl Bench {
    fn open(folder: &Path, destinations: usize) -> Self {
        Bench { started: Ledger::start(folder, &[mirror(destinations)]).unwrap(), seq: 0 }
    }

    fn send(&mut self, facts: Vec<Fact>) -> u64 {
        self.seq += 1;
        self.send_part(facts, true);
        self.seq
    }

    fn send_part(&self, facts: Vec<Fact>, last: bool) {
        self.started.ledger.record(Batch { seq: self.seq, mirror: 0, last, facts });
    }

    fn record(&mut self, facts: Vec<Fact>) {
        let seq = self.send(facts);
        loop {
            match self.started.notices.blocking_recv().unwrap() {
                Notice::Durable { seq: durable } if durable == seq => return,
                Notice::Failed(e) => panic!("{e}"),
                _ => {}
            }
        }
    }

    fn take(&mut self, to: DestinationId) -> Take {
        self.started.ledger.demand(to, 1000);
        self.started.takes[to.0 as usize].blocking_recv().unwrap()
    }

    /// The number of pending facts after the thread has heard everything that was said to it.
    fn pending(&self, of: DestinationId) -> u64 {
        self.count();
        self.started.ledger.pending(of)
    }

    fn done(&self, to: DestinationId, take: &Take) {
        let done = take.facts.iter().map(|(id, _)| *id).collect();
        self.started.ledger.finished(to, take.number, TakeReport { done, ..TakeReport::default() });
    }

    fn first_sync(&mut self, to: DestinationId) {
        let take = self.take(to);
        assert_eq!(facts(&take), [key::whole()]);
        self.done(to, &take);
    }

    fn close(self) {
        self.started.ledger.close();
        self.started.thread.join().unwrap();
    }

    fn count(&self) -> u64 {
        let (answer, answered) = oneshot::channel();
        self.started.ledger.say(Command::CountFacts { answer });
        answered.blocking_recv().unwrap()
    }
}

fn facts(take: &Take) -> Vec<Fact> {
    let mut facts: Vec<Fact> = take.facts.iter().map(|(_, fact)| fact.clone()).collect();
    facts.sort_by(|a, b| a.path().cmp(b.path()));
    facts
}

#[test]
fn what_a_destination_is_handed_is_on_disk_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 1);
    bench.first_sync(A);
    bench.send_part(vec![data("a")], false);
    assert_eq!(facts(&bench.take(A)), [data("a")]);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("ledger.redb"), copy.path().join("ledger.redb")).unwrap();
    let mut again = Bench::open(copy.path(), 1);
    assert!(facts(&again.take(A)).contains(&data("a")));
}

#[test]
fn a_session_of_an_earlier_sender_is_over_if_both_came_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let leftovers = |bench: &Bench| bench.started.leftovers[0].as_ref().map(RoaringBitmap::len);
    let mut bench = Bench::open(folder.path(), 1);
    assert_eq!(leftovers(&bench), None, "there was none");
    bench.first_sync(A);
    bench.close();
    let mut bench = Bench::open(folder.path(), 1);
    assert_eq!(leftovers(&bench), None);
    bench.record(vec![data("a")]);
    bench.take(A);
    bench.close();
    let mut bench = Bench::open(folder.path(), 1);
    assert_eq!(leftovers(&bench), Some(1), "it was under way");
    for (unsure, left) in [(true, Some(0)), (false, None)] {
        bench.record(vec![data("a")]);
        let take = bench.take(A);
        let done = take.facts.iter().map(|(id, _)| *id).collect();
        bench.started.ledger.finished(A, take.number, TakeReport { done, unsure, ..TakeReport::default() });
        bench.close();
        bench = Bench::open(folder.path(), 1);
        assert_eq!(leftovers(&bench), left);
    }
}

#[test]
fn a_directory_that_was_made_is_compared_while_the_one_above_it_still_is_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 2);
    let relist = |name| Fact::Relist { dir: path(name) };
    let made = |name| [Fact::Made { dir: path(name) }, Fact::Touched { path: path(name), data: false }];
    let b = DestinationId(1);
    bench.first_sync(A);
    bench.first_sync(b);
    bench.record([&[relist("d")][..], &made("d/a"), &made("e")].concat());
    let take = bench.take(A);
    let [_, of_a] = made("d/a");
    let [_, of_e] = made("e");
    let mut all = [relist("d"), relist("d/a"), of_a, of_e];
    all.sort_by_key(|fact| format!("{fact:?}"));
    let mut got = facts(&take);
    got.sort_by_key(|fact| format!("{fact:?}"));
    assert_eq!(got, all);
    bench.record(made("d/under way").to_vec());
    bench.done(A, &take);
    let take = bench.take(A);
    assert!(facts(&take).contains(&relist("d/under way")), "{take:?}");
    bench.done(A, &take);
    bench.record(made("d/later").to_vec());
    assert_eq!(facts(&bench.take(A)), made("d/later")[1..]);
    assert!(facts(&bench.take(b)).contains(&relist("d/later")), "it compares later");
}

#[test]
fn what_goes_by_itself_when_the_sender_ends_may_still_be_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 1);
    bench.first_sync(A);
    bench.record(vec![data("a")]);
    let take = bench.take(A);
    let aside = take.facts.iter().map(|(id, _)| *id).collect();
    bench.started.ledger.finished(A, take.number, TakeReport { aside, ..TakeReport::default() });
    bench.close();
    let bench = Bench::open(folder.path(), 1);
    assert_eq!(bench.started.leftovers[0].as_ref().map(RoaringBitmap::len), Some(1));
}

/// Old and new names, with what tells which ones are of one batch.
fn moves(take: &Take) -> Vec<(u64, String, String)> {
    let of = |moved: &Arc<MovedTogether>| {
        let names = moved.names.iter();
        names.map(|(from, to)| (moved.seq, from.to_string(), to.to_string())).collect::<Vec<_>>()
    };
    take.moves.iter().flat_map(of).collect()
}

#[test]
fn renames_that_a_destination_has_not_followed_survive_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let moved = |from, to| Fact::Moved { from: path(from), to: path(to) };
    let (a, b) = (DestinationId(0), DestinationId(1));
    let mut bench = Bench::open(folder.path(), 2);
    [a, b].into_iter().for_each(|to| bench.first_sync(to));
    bench.record(vec![moved("a", "b"), gone("a"), data("b")]);
    let take = bench.take(a);
    bench.done(a, &take);
    bench.seq += 1;
    bench.send_part(vec![moved("b", "c"), gone("b"), data("c")], false);
    bench.send_part(vec![moved("x", "y"), gone("x"), data("y")], true);
    bench.close();
    let mut bench = Bench::open(folder.path(), 2);
    let step = |batch, from: &str, to: &str| (batch, from.to_owned(), to.to_owned());
    let take = bench.take(a);
    assert_eq!(moves(&take), [step(1, "b", "c"), step(1, "x", "y")]);
    bench.done(a, &take);
    bench.record(vec![moved("y", "z"), gone("y"), data("z")]);
    bench.close();
    let mut bench = Bench::open(folder.path(), 2);
    let take = bench.take(b);
    let all = [step(0, "a", "b"), step(1, "b", "c"), step(1, "x", "y"), step(3, "y", "z")];
    assert_eq!(moves(&take), all);
    bench.done(b, &take);
    let take = bench.take(a);
    assert_eq!(moves(&take), all[3..]);
    bench.done(a, &take);
    bench.close();
    let bench = Bench::open(folder.path(), 2);
    bench.close();
    let opened = open::open(folder.path(), &[mirror(2)]).unwrap();
    assert!(opened.moves.iter().all(Vec::is_empty), "everybody has followed them");
}

#[test]
fn facts_that_were_called_durable_survive_without_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 1);
    bench.first_sync(A);
    bench.record(vec![data("a"), gone("b")]);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("ledger.redb"), copy.path().join("ledger.redb")).unwrap();
    let mut again = Bench::open(copy.path(), 1);
    assert_eq!(facts(&again.take(A)), [data("a"), gone("b")]);
}

#[test]
fn what_was_acknowledged_is_gone_after_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 1);
    bench.first_sync(A);
    bench.record(vec![data("a"), data("b")]);
    let take = bench.take(A);
    let keep = take.facts.iter().find(|(_, fact)| *fact == data("b")).unwrap().0;
    let mut done: RoaringBitmap = take.facts.iter().map(|(id, _)| *id).collect();
    done.remove(keep);
    bench.started.ledger.finished(A, take.number, TakeReport { done, ..TakeReport::default() });
    bench.close();
    let mut bench = Bench::open(folder.path(), 1);
    assert_eq!(facts(&bench.take(A)), [data("b")]);
    assert_eq!(bench.count(), 1);
}

#[test]
fn a_comparison_of_everything_that_has_not_begun_covers_later_facts_but_not_changed_data() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 1);
    let attributes = Fact::Touched { path: path("a"), data: false };
    bench.record(vec![attributes.clone(), gone("b"), data("c")]);
    assert_eq!(bench.count(), 2);
    let take = bench.take(A);
    bench.record(vec![attributes.clone(), gone("b")]);
    bench.done(A, &take);
    assert_eq!(facts(&bench.take(A)), [attributes, gone("b")]);
}

#[test]
fn what_stands_in_place_of_a_fact_is_taken_next_and_survives() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 1);
    bench.first_sync(A);
    bench.record(vec![Fact::Subtree { dir: path("d"), replaced: true }]);
    let take = bench.take(A);
    let then = Fact::Subtree { dir: path("d"), replaced: false };
    let report =
        TakeReport { replaced: vec![(take.facts[0].0, vec![then.clone()])], ..TakeReport::default() };
    bench.started.ledger.finished(A, take.number, report);
    assert_eq!(facts(&bench.take(A)), std::slice::from_ref(&then));
    bench.close();
    let mut bench = Bench::open(folder.path(), 1);
    assert_eq!(facts(&bench.take(A)), [then]);
}

#[test]
fn a_name_that_changes_again_and_again_takes_one_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 2);
    for to in [A, DestinationId(1)] {
        bench.first_sync(to);
    }
    for round in 0..20 {
        bench.record(vec![data("a")]);
        for to in [A, DestinationId(1)] {
            let take = bench.take(to);
            assert!(take.facts[0].0 < 3, "round {round} uses id {}", take.facts[0].0);
            bench.done(to, &take);
        }
    }
}

#[test]
fn a_barrier_is_told_when_everything_before_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 1);
    bench.first_sync(A);
    bench.record(vec![data("a")]);
    bench.started.ledger.barrier(4);
    let take = bench.take(A);
    bench.done(A, &take);
    assert!(matches!(bench.started.notices.blocking_recv(), Some(Notice::Settled { token: 4 })));
}

#[test]
fn names_of_an_inode_are_known_at_once_and_survive() {
    let folder = tempfile::tempdir().unwrap();
    let inode = Inode { dev: 1, ino: 2 };
    let names = |bench: &Bench| {
        let mut names = bench.started.ledger.links().names(0, inode).unwrap();
        names.sort();
        names
    };
    let bench = Bench::open(folder.path(), 1);
    let seen = vec![(inode, path("a")), (inode, path("b")), (Inode { dev: 1, ino: 3 }, path("c"))];
    bench.started.ledger.note_links(0, &LinkNotes { seen, gone: vec![] }).unwrap();
    assert_eq!(names(&bench), [path("a"), path("b")]);
    bench.close();
    let bench = Bench::open(folder.path(), 1);
    bench.started.ledger.note_links(0, &LinkNotes { seen: vec![], gone: vec![(inode, path("a"))] }).unwrap();
    assert_eq!(names(&bench), [path("b")]);
}

/// One step of the property below.
#[derive(Clone, Debug)]
enum Step {
    Record(Vec<Fact>),
    Take(usize),
    /// Finish the take, if there is one; the number says which of its facts are done.
    Finish(usize, u8),
    /// Close cleanly and open again.
    Reopen,
    /// Open a copy of the file as it lies on the disk.
    Crash,
}

fn fact() -> impl Strategy<Value = Fact> {
    (0..4u8, 0..6u8).prop_map(|(kind, name)| {
        let path = path(&format!("d/{name}"));
        match kind {
            0 => Fact::Touched { path, data: false },
            1 => Fact::Touched { path, data: true },
            2 => Fact::Gone { path },
            _ => Fact::Relist { dir: path },
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(fact(), 1..6).prop_map(Step::Record),
        4 => (0..2usize).prop_map(Step::Take),
        4 => (0..2usize, any::<u8>()).prop_map(|(to, which)| Step::Finish(to, which)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// What must be pending, and what may be: acknowledgements may be lost by a crash, facts may not.
#[derive(Default)]
struct Model {
    must: [BTreeSet<Vec<u8>>; 2],
    may: [BTreeSet<Vec<u8>>; 2],
    taken: [Option<(Take, BTreeSet<Vec<u8>>)>; 2],
}

fn model_key(fact: &Fact) -> Vec<u8> {
    key::encode(key::MirrorNumber(0), fact).unwrap()
}

impl Model {
    fn record(&mut self, facts: &[Fact]) {
        for to in 0..2 {
            for key in facts.iter().map(model_key) {
                self.must[to].insert(key.clone());
                self.may[to].insert(key.clone());
                if let Some((_, fresh)) = &mut self.taken[to] {
                    fresh.insert(key);
                }
            }
        }
    }

    fn finish(&mut self, bench: &Bench, to: usize, which: u8) {
        let Some((take, again)) = self.taken[to].take() else { return };
        let done = take.facts.iter().enumerate().filter(|(n, _)| which >> (n % 8) & 1 == 1);
        let done: Vec<&(u32, Fact)> = done.map(|(_, fact)| fact).collect();
        for key in done.iter().map(|(_, fact)| model_key(fact)).filter(|key| !again.contains(key)) {
            self.must[to].remove(&key);
        }
        let done = done.iter().map(|(id, _)| *id).collect();
        let report = TakeReport { done, ..TakeReport::default() };
        bench.started.ledger.finished(DestinationId(to as u32), take.number, report);
    }

    /// Everything pending is at least what must be and at most what may be; takes it all on the way.
    fn check(&self, bench: &mut Bench) {
        for to in 0..2 {
            bench.started.ledger.release(DestinationId(to as u32), RoaringBitmap::new());
            let found: BTreeSet<Vec<u8>> = match bench.pending(DestinationId(to as u32)) {
                0 => BTreeSet::new(),
                _ => bench
                    .take(DestinationId(to as u32))
                    .facts
                    .iter()
                    .map(|(_, fact)| model_key(fact))
                    .collect(),
            };
            assert!(found.is_superset(&self.must[to]), "lost: {:?}", self.must[to].difference(&found));
            assert!(found.is_subset(&self.may[to]), "invented: {:?}", found.difference(&self.may[to]));
        }
    }
}

fn run(steps: Vec<Step>) {
    let mut folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), 2);
    for to in [A, DestinationId(1)] {
        bench.first_sync(to);
    }
    bench.record(vec![]);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Record(facts) => {
                model.record(&facts);
                bench.record(facts);
            }
            Step::Take(to) if model.taken[to].is_none() && !model.must[to].is_empty() => {
                let take = bench.take(DestinationId(to as u32));
                model.taken[to] = Some((take, BTreeSet::new()));
            }
            Step::Take(_) => {}
            Step::Finish(to, which) => model.finish(&bench, to, which),
            Step::Reopen => {
                bench.close();
                model.taken = [None, None];
                model.may = model.must.clone();
                bench = Bench::open(folder.path(), 2);
            }
            Step::Crash => {
                let copy = tempfile::tempdir().unwrap();
                std::fs::copy(folder.path().join("ledger.redb"), copy.path().join("ledger.redb")).unwrap();
                bench.close();
                model.taken = [None, None];
                bench = Bench::open(copy.path(), 2);
                folder = copy;
                Bench::open_checked(&mut bench, &mut model);
            }
        }
    }
    for to in 0..2 {
        model.finish(&bench, to, 0);
    }
    model.check(&mut bench);
}

impl Bench {
    /// After a crash facts may be back whose acknowledgement was not committed; from here on they are pending again.
    fn open_checked(bench: &mut Bench, model: &mut Model) {
        for to in 0..2 {
            let at = DestinationId(to as u32);
            if bench.pending(at) == 0 {
                assert!(model.must[to].is_empty(), "lost everything");
                continue;
            }
            let take = bench.take(at);
            let found: BTreeSet<Vec<u8>> = take.facts.iter().map(|(_, fact)| model_key(fact)).collect();
            assert!(found.is_superset(&model.must[to]), "lost: {:?}", model.must[to].difference(&found));
            assert!(found.is_subset(&model.may[to]), "invented: {:?}", found.difference(&model.may[to]));
            model.must[to] = found;
            model.taken[to] = Some((take, BTreeSet::new()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_agrees_with_a_simple_model_whenever_it_is_opened_again(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        run(steps);
    }
}
