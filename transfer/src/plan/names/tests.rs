use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Arc;

use ebbtide_wire::delta::file_digest;
use ebbtide_wire::proto::Checksum;

use super::renames::Linked;
use super::*;
use crate::plan::recent::Sum;
use crate::session::Entry;
use crate::source::Source;
use crate::testing::{gone, path};

struct Bench {
    dir: tempfile::TempDir,
    links: Links,
    recent: Recent,
    rules: Rules,
}

fn bench(files: &[&str]) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    for name in files {
        fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        fs::write(dir.path().join(name), name).unwrap();
    }
    let rules = Rules { delete: true, hard_links: true, missing_args: true, pairs: true, renamed_dirs: true };
    Bench { dir, links: Links::in_memory(), recent: Recent::default(), rules }
}

impl Bench {
    fn plan(&mut self, facts: &[Fact]) -> Plan {
        let facts: Vec<(u32, Fact)> = (0..).zip(facts.iter().cloned()).collect();
        let looker = Looker::new(Arc::new(Source::open(self.dir.path()).unwrap()));
        Sights::new(&facts, looker, self.rules).plan(&self.links, 0, &mut self.recent, self.rules).unwrap()
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn note(&self, names: &[&str]) {
        let meta = fs::symlink_metadata(self.at(names[0])).unwrap();
        let inode = Inode { dev: meta.dev(), ino: meta.ino() };
        let seen = names.iter().map(|name| (inode, path(name))).collect();
        self.links.note(0, &LinkNotes { seen, gone: vec![] }).unwrap();
    }
}

fn touched(name: &str, data: bool) -> Fact {
    Fact::Touched { path: path(name), data }
}

fn sorted<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    names
}

fn names(job: &Job) -> Vec<String> {
    sorted(job.list.entries.iter().map(|entry: &Entry| &*entry.name))
}

fn missing(job: &Job) -> Vec<String> {
    sorted(job.list.missing.iter().map(|name| &**name))
}

#[test]
fn a_list_has_what_changed_and_every_directory_on_the_way() {
    let plan = bench(&["a/b/c", "a/other"]).plan(&[touched("a/b/c", true)]);
    assert_eq!(plan.lists.len(), 1);
    assert_eq!(names(&plan.lists[0]), [".", "a", "a/b", "a/b/c"]);
    assert!(plan.lists[0].list.lane.ignore_times);
}

#[test]
fn what_is_missing_is_removed_at_the_topmost_name() {
    let plan = bench(&["a/b"]).plan(&[gone("a/x/y/z"), touched("a/x/y", true), gone("a/x/q")]);
    assert_eq!(missing(&plan.lists[0]), ["a/x"]);
    assert_eq!(names(&plan.lists[0]), [".", "a"]);
}

#[test]
fn a_name_that_is_back_is_sent_and_not_removed() {
    let plan = bench(&["a"]).plan(&[gone("a")]);
    assert!(missing(&plan.lists[0]).is_empty());
    assert_eq!(names(&plan.lists[0]), [".", "a"]);
}

#[test]
fn a_name_below_a_new_symlink_leads_to_the_symlink() {
    let mut bench = bench(&["a"]);
    symlink("/etc", bench.at("d")).unwrap();
    let plan = bench.plan(&[touched("d/passwd", true)]);
    assert_eq!(names(&plan.lists[0]), [".", "d"]);
}

#[test]
fn large_files_with_new_attributes_only_go_by_the_quick_check() {
    let mut bench = bench(&["small", "changed"]);
    fs::write(bench.at("large"), vec![0; 100_000]).unwrap();
    let plan = bench.plan(&[touched("small", false), touched("large", false), touched("changed", true)]);
    assert_eq!(names(&plan.lists[0]), [".", "changed", "small"]);
    assert_eq!(names(&plan.lists[1]), [".", "large"]);
    assert!(plan.lists[0].list.lane.ignore_times && !plan.lists[1].list.lane.ignore_times);
    let plan = bench.plan(&[touched("small", false), touched("large", false)]);
    assert_eq!(plan.lists.len(), 1);
    assert!(!plan.lists[0].list.lane.ignore_times);
}

#[test]
fn without_delete_nothing_is_removed() {
    let mut bench = bench(&["a"]);
    bench.rules.delete = false;
    let plan = bench.plan(&[gone("x"), Fact::Subtree { dir: path("y"), replaced: true }]);
    assert!(plan.lists.is_empty());
    assert_eq!(plan.done.len(), 2);
}

#[test]
fn all_names_of_a_file_are_one_group() {
    let mut bench = bench(&["d/one"]);
    fs::hard_link(bench.at("d/one"), bench.at("two")).unwrap();
    bench.note(&["d/one", "two", "stale"]);
    let plan = bench.plan(&[touched("two", true)]);
    assert_eq!(names(&plan.lists[0]), [".", "d", "d/one", "two"]);
    assert_eq!(plan.notes[&0].gone[0].1, path("stale"));
}

#[test]
fn what_changed_under_a_name_that_is_gone_is_sent_under_the_others() {
    let mut bench = bench(&["one"]);
    fs::hard_link(bench.at("one"), bench.at("two")).unwrap();
    bench.note(&["one", "two"]);
    fs::write(bench.at("one"), "changed").unwrap();
    fs::remove_file(bench.at("one")).unwrap();
    let plan = bench.plan(&[touched("one", true), gone("one")]);
    assert_eq!(missing(&plan.lists[0]), ["one"]);
    assert_eq!(names(&plan.lists[0]), [".", "two"]);
    assert!(plan.lists[0].list.lane.ignore_times);
}

#[test]
fn a_name_that_left_its_links_is_removed_before_it_is_sent() {
    let mut bench = bench(&["one"]);
    fs::hard_link(bench.at("one"), bench.at("two")).unwrap();
    bench.note(&["one", "two"]);
    fs::remove_file(bench.at("two")).unwrap();
    fs::write(bench.at("two"), "another").unwrap();
    let plan = bench.plan(&[touched("two", false)]);
    assert_eq!(missing(&plan.lists[0]), ["two"]);
    assert_eq!(names(&plan.lists[0]), [".", "one"]);
    assert_eq!(plan.lists[0].replaced[0].2, touched("two", true));
}

#[test]
fn what_lies_below_a_replaced_directory_comes_later() {
    let facts = [
        Fact::Subtree { dir: path("d"), replaced: true },
        touched("d/f", true),
        gone("d/gone"),
        Fact::Relist { dir: path("d/e") },
        touched("other", true),
    ];
    let plan = bench(&["d/f", "d/e/g", "other"]).plan(&facts);
    assert_eq!(missing(&plan.lists[0]), ["d"]);
    assert_eq!(names(&plan.lists[0]), [".", "other"]);
    assert!(plan.trees.is_empty());
    let then = Fact::Subtree { dir: path("d"), replaced: false };
    assert_eq!(plan.lists[0].replaced, [(0, (*b"d").into(), then)]);
}

#[test]
fn an_old_daemon_gets_the_directory_compared_where_a_name_is_missing() {
    let mut bench = bench(&["d/f"]);
    bench.rules.missing_args = false;
    let plan = bench.plan(&[gone("d/gone")]);
    assert!(plan.lists.is_empty());
    assert_eq!(plan.trees, [Start::relist(path("d")).without(path("d/gone")).for_fact(0)]);
}

#[test]
fn what_was_just_sent_and_did_not_change_is_done_without_a_session() {
    let mut bench = bench(&["f"]);
    let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    fs::File::options().write(true).open(bench.at("f")).unwrap().set_times(times).unwrap();
    let meta = Source::open(bench.dir.path()).unwrap().look(0, b"f").unwrap().meta;
    let mut tick = Tick::now();
    while !tick.is_past(meta.ctime) {
        tick = Tick::now();
    }
    let sum = |bytes: &[u8]| Sum { checksum: Checksum::Xxh3, digest: file_digest(Checksum::Xxh3, bytes) };
    let bytes = fs::read(bench.at("f")).unwrap();
    bench.recent.sent(b"f", &meta, tick, Some(sum(&bytes)));
    assert!(bench.plan(&[touched("f", true)]).done.contains(0));
    // As after a store through a mapping, which moved no time.
    bench.recent.sent(b"f", &meta, tick, Some(sum(b"other bytes")));
    assert!(bench.plan(&[touched("f", true)]).done.is_empty());
    assert!(bench.plan(&[touched("f", false)]).done.contains(0));
    bench.recent.sent(b"f", &meta, tick, Some(sum(&bytes)));
    fs::write(bench.at("f"), "new").unwrap();
    assert!(bench.plan(&[touched("f", true)]).done.is_empty());
}

impl Bench {
    fn plan_renamed(&mut self, facts: &[Fact], renamed: &[(&str, &str)]) -> Plan {
        let facts: Vec<(u32, Fact)> = (0..).zip(facts.iter().cloned()).collect();
        let looker = Looker::new(Arc::new(Source::open(self.dir.path()).unwrap()));
        let origins = renamed.iter().map(|(from, to)| (path(to), path(from))).collect();
        let sights = Sights::new(&facts, looker, self.rules).with_origins(origins);
        sights.plan(&self.links, 0, &mut self.recent, self.rules).unwrap()
    }
}

fn subtree(name: &str) -> Fact {
    Fact::Subtree { dir: path(name), replaced: true }
}

fn pairs(plan: &Plan) -> Vec<Vec<(String, String)>> {
    let text = |path: &RelPath| path.to_string();
    let names = |pairs: &renames::Pairs| {
        pairs.old.iter().map(text).zip(pairs.files.iter().map(|(name, _)| text(name))).collect()
    };
    plan.renames.pairs.iter().map(names).collect()
}

#[test]
fn a_renamed_file_goes_with_its_old_name_before_that_is_removed() {
    let mut bench = bench(&["d/new", "small"]);
    fs::write(bench.at("d/new"), vec![1; 10_000]).unwrap();
    let facts = [gone("gone/old"), touched("d/new", true), gone("tiny"), touched("small", true)];
    let plan = bench.plan_renamed(&facts, &[("gone/old", "d/new"), ("tiny", "small")]);
    assert_eq!(pairs(&plan), [[("gone/old".to_owned(), "d/new".to_owned())]]);
    let job = &plan.renames.pairs[0].job;
    let names = job.list.entries.iter().map(|entry| &*entry.name);
    assert_eq!(sorted(names), [".", "d", "d/new", "gone", "gone/old"]);
    assert_eq!(job.list.get(b"gone/old").unwrap().place(), b"d/new");
    assert_eq!(job.updates.len(), 1);
    let linked = Linked { id: 1, removals: vec![0] };
    assert_eq!(plan.renames.pairs[0].linked, [linked]);
    assert_eq!(sorted(plan.lists[0].list.missing.iter().map(|name| &**name)), ["gone", "tiny"]);
}

#[test]
fn an_old_name_that_no_fact_removes_is_not_made_anew() {
    let mut bench = bench(&["new"]);
    fs::write(bench.at("new"), vec![1; 10_000]).unwrap();
    let renamed = [("d/old", "new")];
    assert!(
        pairs(&bench.plan_renamed(&[touched("new", true), gone("d/other")], &renamed)).len() == 1,
        "d is gone"
    );
    fs::create_dir(bench.at("d")).unwrap();
    let plan = bench.plan_renamed(&[touched("new", true), gone("d/other")], &renamed);
    assert!(pairs(&plan).is_empty(), "it was removed before, and the daemon would make it for the pair");
    assert_eq!(names(&plan.lists[0]), [".", "d", "new"]);
}

#[test]
fn files_that_take_each_others_names_go_in_lists_one_after_the_other() {
    let mut bench = bench(&["log.1", "log.2", "log.3", "a", "b"]);
    for name in ["log.1", "log.2", "log.3", "a", "b"] {
        fs::write(bench.at(name), vec![1; 10_000]).unwrap();
    }
    let mut facts: Vec<Fact> = ["log.1", "log.2", "log.3", "a", "b"].map(|name| touched(name, true)).into();
    facts.push(gone("log"));
    let renamed = [("log", "log.1"), ("log.1", "log.2"), ("log.2", "log.3"), ("a", "b"), ("b", "a")];
    let plan = bench.plan_renamed(&facts, &renamed);
    let of_logs = |list: &Vec<(String, String)>| list.iter().find(|(old, _)| old.starts_with("log")).cloned();
    let order: Vec<String> = pairs(&plan).iter().filter_map(of_logs).map(|(old, _)| old).collect();
    assert_eq!(order, ["log.2", "log.1", "log"]);
    let swapped = pairs(&plan).into_iter().flatten().filter(|(old, _)| old.len() == 1).count();
    assert_eq!(swapped, 1, "one of a ring is sent");
}

#[test]
fn a_file_that_would_be_compared_under_a_name_that_another_one_shares_by_then_is_sent() {
    for (oldest, old, young, follows) in
        [("a", "b", "c", false), ("c", "b", "a", true), ("x", "b", "d/a", false), ("x", "d/b", "d.c", true)]
    {
        let mut bench = bench(&[oldest, old]);
        fs::write(bench.at(oldest), vec![1; 10_000]).unwrap();
        fs::write(bench.at(old), vec![1; 10_000]).unwrap();
        let facts = [touched(oldest, true), touched(old, true), gone(young)];
        let plan = bench.plan_renamed(&facts, &[(old, oldest), (young, old)]);
        let mut expected = vec![vec![(old.to_owned(), oldest.to_owned())]];
        expected.extend(follows.then(|| vec![(young.to_owned(), old.to_owned())]));
        assert_eq!(pairs(&plan), expected, "{young} to {old} to {oldest}");
    }
}

#[test]
fn the_old_name_of_a_renamed_directory_is_removed_last() {
    let mut bench = bench(&["new/f", "current/g", "d/h"]);
    let facts = [
        gone("old"),
        subtree("new"),
        gone("current"),
        subtree("current"),
        gone("next"),
        subtree("next"),
        subtree("d"),
    ];
    let renamed = [("old", "new"), ("current", "d"), ("next", "current")];
    let plan = bench.plan_renamed(&facts, &renamed);
    let order: Vec<String> = plan.renames.dirs.iter().map(|moved| moved.from.to_string()).collect();
    let at = |name: &str| order.iter().position(|from| from == name).unwrap();
    assert!(order.len() == 3 && at("current") < at("next"), "{order:?}");
    assert_eq!(sorted(plan.lists[0].list.missing.iter().map(|name| &**name)), ["d", "new"]);
    let waits = &plan.renames.dirs[at("next")].removal;
    assert_eq!(sorted(waits.list.missing.iter().map(|name| &**name)), ["current"]);
    assert_eq!(waits.replaced.len(), 2);
    assert_eq!(sorted(plan.renames.late.list.missing.iter().map(|name| &**name)), ["next", "old"]);
}
