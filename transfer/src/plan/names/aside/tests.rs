use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use ebbtide_feed::Fact;
use tempfile::TempDir;

use super::*;
use crate::ledger::Links;
use crate::plan::Rules;
use crate::plan::look::Looker;
use crate::plan::names::renames::Origins;
use crate::plan::names::{Plan, Sights};
use crate::source::Source;
use crate::testing::{data, gone, path};

const RULES: Rules =
    Rules { delete: true, hard_links: true, missing_args: true, pairs: true, renamed_dirs: true };

/// A source with these files, of which those are large whose name begins so.
fn source(files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in files {
        let at = dir.path().join(name);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let is_large = at.file_name().unwrap().as_encoded_bytes().starts_with(b"large");
        File::create(at).unwrap().set_len(if is_large { LARGE } else { 1 }).unwrap();
    }
    dir
}

fn plan_with(dir: &Path, aside: Aside, rules: Rules, origins: Origins, facts: &[Fact]) -> Plan {
    let facts: Vec<(u32, Fact)> = (0..).zip(facts.iter().cloned()).collect();
    let looker = Looker::new(Arc::new(Source::open(dir).unwrap()));
    let sights = Sights::new(&facts, looker, rules).with_aside(aside).with_origins(origins);
    sights.plan(&Links::in_memory(), 0, &mut Recent::default(), rules).unwrap()
}

fn plan(dir: &TempDir, aside: Aside, facts: &[Fact]) -> Plan {
    plan_with(dir.path(), aside, RULES, Origins::new(), facts)
}

fn free() -> Aside {
    Aside::Free(RoaringBitmap::new())
}

fn busy(name: &str) -> Aside {
    Aside::Busy { names: Arc::new(HashSet::from([name.as_bytes().into()])), waiting: Names::default() }
}

/// The facts of the list that goes by itself.
fn aside(plan: &Plan) -> Vec<u32> {
    plan.aside.iter().flat_map(|job| &job.updates).map(|(id, _)| *id).collect()
}

/// The facts that wait for what goes by itself.
fn behind(plan: &Plan) -> Vec<u32> {
    plan.behind.iter().collect()
}

#[test]
fn large_files_go_by_themselves_with_all_that_is_said_of_their_names() {
    let dir = source(&["d/large", "d/small"]);
    let chmod = Fact::Touched { path: path("d/large"), data: false };
    let plan = plan(&dir, free(), &[data("d/small"), data("d/large"), chmod]);
    assert_eq!(aside(&plan), [1, 2]);
    let job = plan.aside.unwrap();
    assert!(job.list.has(b"d") && job.list.has(b"d/large") && !job.list.has(b"d/small"));
    assert!(plan.lists.iter().all(|job| !job.list.has(b"d/large")));
    assert_eq!(plan.lists.len(), 1);
}

#[test]
fn a_large_file_goes_with_the_others_if_it_may_not_or_has_more_names_or_only_new_attributes() {
    let dir = source(&["large", "large2"]);
    fs::hard_link(dir.path().join("large2"), dir.path().join("link")).unwrap();
    assert!(plan(&dir, Aside::Never, &[data("large")]).aside.is_none());
    assert!(plan(&dir, free(), &[data("large2")]).aside.is_none());
    let chmod = Fact::Touched { path: path("large"), data: false };
    assert!(plan(&dir, free(), &[chmod]).aside.is_none());
}

#[test]
fn a_large_file_is_left_to_the_next_take_when_its_directory_is_compared_but_only_once() {
    let dir = source(&["d/large", "e/small"]);
    let subtree = |dir| Fact::Subtree { dir: path(dir), replaced: false };
    assert_eq!(aside(&plan(&dir, free(), &[data("d/large"), subtree("e")])), [0]);
    let facts = [data("d/large"), subtree("d")];
    let first = plan(&dir, free(), &facts);
    assert!(first.aside.is_none() && first.lists.is_empty());
    assert_eq!(first.left_out, RoaringBitmap::from([0]));
    let second = plan(&dir, Aside::Free(first.left_out), &facts);
    assert!(second.aside.is_none() && second.left_out.is_empty());
    assert!(second.lists[0].list.has(b"d/large"));
}

#[test]
fn where_a_removal_compares_the_directory_a_large_file_in_it_waits_for_that() {
    let dir = source(&["d/large"]);
    let facts = [data("d/large"), gone("d/gone")];
    assert_eq!(aside(&plan(&dir, free(), &facts)), [0]);
    let old = Rules { missing_args: false, ..RULES };
    let plan = plan_with(dir.path(), free(), old, Origins::new(), &facts);
    assert!(plan.aside.is_none());
    assert_eq!(plan.left_out, RoaringBitmap::from([0]));
}

#[test]
fn what_was_renamed_goes_with_the_others() {
    let dir = source(&["d/large", "e/large2"]);
    let facts = [data("d/large"), data("e/large2")];
    for (to, from) in [("e/large2", "old"), ("e", "old"), ("new", "e/large2"), ("new", "e")] {
        let origins = Origins::from([(path(to), path(from))]);
        assert_eq!(aside(&plan_with(dir.path(), free(), RULES, origins, &facts)), [0]);
    }
}

#[test]
fn what_a_large_file_is_linked_to_that_waits_is_not_removed() {
    let dir = source(&["large", "new/large2"]);
    let facts = [gone("old/large2"), data("new/large2"), gone("older/f")];
    let origins = Origins::from([(path("new/large2"), path("old/large2"))]);
    assert_eq!(behind(&plan_with(dir.path(), busy("large"), RULES, origins, &facts)), [0, 1]);
}

#[test]
fn what_concerns_a_file_that_is_on_its_way_waits_and_nothing_else() {
    let dir = source(&["d/large", "d/small", "d/e/f", "large2"]);
    let facts = [
        data("d/large"),
        data("large2"),
        Fact::Relist { dir: path("d") },
        Fact::Relist { dir: RelPath::root() },
        gone("d/gone"),
        data("d/small"),
        Fact::Relist { dir: path("d/e") },
        Fact::Touched { path: path("d"), data: false },
    ];
    assert_eq!(behind(&plan(&dir, busy("d/large"), &facts)), [0, 1, 2, 3]);
    let old = Rules { missing_args: false, ..RULES };
    let plan = plan_with(dir.path(), busy("d/large"), old, Origins::new(), &facts);
    assert_eq!(behind(&plan), [0, 1, 2, 3, 4]);
    assert!(plan.aside.is_none());
}

#[test]
fn new_attributes_of_a_large_file_wait_if_its_data_does() {
    let dir = source(&["large", "large2", "large3"]);
    let chmod = |name| Fact::Touched { path: path(name), data: false };
    let facts = [chmod("large2"), data("large2"), chmod("large3")];
    assert_eq!(behind(&plan(&dir, busy("large"), &facts)), [0, 1]);
    let Aside::Busy { names, .. } = busy("large") else { return };
    let waiting = Arc::new(HashSet::from([b"large3"[..].into()]));
    assert_eq!(behind(&plan(&dir, Aside::Busy { names, waiting }, &facts)), [0, 1, 2]);
}

#[test]
fn a_directory_on_the_way_may_go_but_no_symlink_takes_its_place_meanwhile() {
    let dir = source(&["other/f"]);
    assert!(behind(&plan(&dir, busy("d/large"), &[gone("d"), gone("d/small")])).is_empty());
    symlink("other", dir.path().join("d")).unwrap();
    assert_eq!(behind(&plan(&dir, busy("d/large"), &[data("d")])), [0]);
    assert!(behind(&plan(&dir, busy("e/large"), &[data("d")])).is_empty());
}

#[test]
fn nothing_is_linked_to_a_name_that_is_on_its_way() {
    let dir = source(&["new"]);
    File::create(dir.path().join("new")).unwrap().set_len(9000).unwrap();
    let plan = |on_its_way| {
        let origins = Origins::from([(path("new"), path("d/old"))]);
        plan_with(dir.path(), busy(on_its_way), RULES, origins, &[data("new"), gone("d/old")])
    };
    assert_eq!(plan("d/other").renames.pairs.len(), 1);
    assert!(plan("d/old").renames.is_empty());
    assert_eq!(plan("d/old").lists.len(), 1);
}

#[test]
fn no_renamed_directory_takes_the_place_of_one_on_the_way() {
    let dir = source(&["d/f"]);
    let plan = |on_its_way| {
        let origins = Origins::from([(path("d"), path("old"))]);
        plan_with(dir.path(), busy(on_its_way), RULES, origins, &[gone("d"), gone("old")])
    };
    assert_eq!(plan("e/large").renames.dirs.len(), 1);
    assert!(plan("d/e/large").renames.is_empty());
}
