//! Lookups in the bad order, against a file system made of tables.

use std::collections::HashMap;

use super::*;
use crate::engine::Hint;
use crate::engine::testing::{entry, handle, name};
use crate::scope::Root;

/// The file system as it is when the drain is looked up. Directory 2 is the root of the mirror.
#[derive(Default)]
struct World {
    dirs: HashMap<Handle, Found>,
    entries: HashMap<(Handle, Name), Ino>,
    inodes: HashMap<Handle, Found>,
    /// Numbers of names other than 1.
    links: HashMap<Ino, u64>,
    cleaned: Vec<Ino>,
    lookups: usize,
}

impl Look for World {
    fn directory(&mut self, _: Fs, dir: &Handle) -> Found {
        self.lookups += 1;
        self.dirs.get(dir).cloned().unwrap_or(Found::Gone)
    }
    fn entry(&mut self, _: Fs, dir: &Handle, name: &Name) -> Option<Entry> {
        let ino = *self.entries.get(&(dir.clone(), name.clone()))?;
        Some(Entry { ino, nlink: self.links.get(&ino).copied().unwrap_or(1) })
    }
    fn names(&mut self, _: Fs, inode: &Handle) -> Option<u64> {
        let Inode { ino, .. } = HandleForm::Ino32.decode(inode)?;
        self.inodes.contains_key(inode).then(|| self.links.get(&ino).copied().unwrap_or(1))
    }
    fn inode(&mut self, _: Fs, inode: &Handle) -> Found {
        self.inodes.get(inode).cloned().unwrap_or(Found::Gone)
    }
    fn clean(&mut self, _: Fs, _: &Handle, _: &Name, ino: Ino) -> bool {
        self.cleaned.push(ino);
        true
    }
    fn clean_inode(&mut self, _: Fs, inode: &Handle) -> bool {
        self.cleaned.extend(HandleForm::Ino32.decode(inode).map(|inode| inode.ino));
        true
    }
}

impl World {
    fn new() -> Self {
        World::default().dir(2, b"/src")
    }
    fn dir(mut self, ino: u64, path: &[u8]) -> Self {
        self.dirs.insert(handle(ino), Found::At(path.to_vec()));
        self
    }
    fn file(mut self, dir: u64, file: &[u8], ino: u64) -> Self {
        self.entries.insert((handle(dir), name(file)), Ino(ino));
        self
    }
    fn inode(mut self, ino: u64, generation: u32, path: &[u8]) -> Self {
        let handle = HandleForm::Ino32.encode(Ino(ino), Generation(generation)).unwrap();
        self.inodes.insert(handle, Found::At(path.to_vec()));
        self
    }
}

/// A tracker of `/src` with what it remembers between drains.
struct Tracker {
    resolver: Resolver,
    scope: Scope,
    /// What the last drain could not trace.
    lost: u64,
}

impl Tracker {
    fn new() -> Self {
        let roots = vec![Root { fs: Fs(0), path: Some(b"/src".to_vec()), rules: None }];
        let resolver = Resolver::new(Fs(0), HandleForm::Ino32);
        Tracker { resolver, scope: Scope { roots, mount_points: Vec::new() }, lost: 0 }
    }

    fn drain(&mut self, world: &mut World, hints: &[Hint], bits: Bits) -> (Vec<Fact>, Counts) {
        let mut fold = Fold::default();
        hints.iter().cloned().for_each(|hint| fold.note(hint));
        let mut facts = [Facts::default()];
        let mut work = self.resolver.begin(fold, bits);
        while !self.resolver.step(&mut work, &self.scope, world, &mut facts, 1) {}
        let [facts] = facts;
        assert_eq!(work.items(), work.counts().total(), "everything has one outcome");
        self.lost = work.lost().count;
        (facts.into_vec(), work.counts())
    }

    fn facts(&mut self, world: &mut World, hints: &[Hint]) -> Vec<Fact> {
        self.drain(world, hints, Bits::default()).0
    }
}

fn path(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap()
}

fn touched(bytes: &[u8], data: bool) -> Fact {
    Fact::Touched { path: path(bytes), data }
}

fn gone(bytes: &[u8]) -> Fact {
    Fact::Gone { path: path(bytes) }
}

fn replaced(bytes: &[u8]) -> Fact {
    Fact::Subtree { dir: path(bytes), replaced: true }
}

fn renamed(from: (u64, &[u8]), to: (u64, &[u8]), directory: bool, child: u64) -> Hint {
    let end = |(dir, n): (u64, &[u8])| (handle(dir), name(n));
    Hint::Renamed { from: end(from), to: end(to), directory, child: Some(inode(child)) }
}

fn inode(ino: u64) -> Inode {
    Inode { ino: Ino(ino), generation: Generation(1) }
}

fn marked(ino: u64, entries: &[(u64, &[u8])]) -> Hint {
    let entries: Vec<_> = entries.iter().map(|(dir, n)| (handle(*dir), name(n))).collect();
    let nlink = entries.len().max(1) as u32;
    Hint::Marked(Marked {
        ino: Ino(ino),
        generation: Generation(1),
        epoch: 0,
        directory: false,
        nlink,
        incomplete: false,
        nameless: entries.is_empty(),
        entries,
    })
}

fn bits(changed: &[u64], data: &[u64], mapped: &[u64]) -> Bits {
    let set = |inos: &[u64]| inos.iter().copied().collect();
    Bits { changed: set(changed), data: set(data), mapped: set(mapped) }
}

#[test]
fn a_created_name_touches_itself_and_its_directory() {
    let mut world = World::new();
    let facts = Tracker::new().facts(&mut world, &[entry(2, b"a", Seen::CREATED)]);
    assert_eq!(facts, [touched(b"", false), touched(b"a", true)]);
}

#[test]
fn a_name_in_a_directory_that_is_gone_is_told_by_the_directorys_own_name() {
    let mut world = World::new();
    let hints = [entry(9, b"x", Seen::DATA), entry(2, b"d", Seen::REMOVED_DIR)];
    let (facts, counts) = Tracker::new().drain(&mut world, &hints, Bits::default());
    assert_eq!(facts, [touched(b"", false), gone(b"d"), replaced(b"d")]);
    assert_eq!(counts, Counts { told: 1, gone: 1, ..Counts::default() });
}

#[test]
fn a_directory_that_was_removed_and_made_again_is_compared_as_another_one() {
    let mut world = World::new().dir(7, b"/src/d");
    let hints = [entry(2, b"d", Seen::REMOVED_DIR), entry(2, b"d", Seen::CREATED_DIR)];
    let facts = Tracker::new().facts(&mut world, &hints);
    assert!(facts.contains(&replaced(b"d")) && facts.contains(&gone(b"d")), "{facts:?}");
}

#[test]
fn a_renamed_directory_is_gone_here_and_a_new_subtree_there() {
    let mut world = World::new().dir(3, b"/src/sub");
    let facts = Tracker::new().facts(&mut world, &[renamed((2, b"a"), (3, b"b"), true, 9)]);
    let moved = Fact::Moved { from: path(b"a"), to: path(b"sub/b") };
    assert_eq!(
        facts,
        [moved, touched(b"", false), gone(b"a"), replaced(b"a"), touched(b"sub", false), replaced(b"sub/b")]
    );
}

#[test]
fn a_write_in_a_directory_that_moved_since_is_told_where_the_directory_is_now() {
    let mut tracker = Tracker::new();
    let write = entry(3, b"f", Seen::DATA);
    assert_eq!(
        tracker.facts(&mut World::new().dir(3, b"/src/a"), std::slice::from_ref(&write)),
        [touched(b"a/f", true)]
    );
    // The rename is read together with the write: the place that was kept must not be used.
    let facts =
        tracker.facts(&mut World::new().dir(3, b"/src/b"), &[write, renamed((2, b"a"), (2, b"b"), true, 3)]);
    assert!(facts.contains(&touched(b"b/f", true)), "{facts:?}");
    assert!(!facts.contains(&touched(b"a/f", true)), "{facts:?}");
}

#[test]
fn a_write_told_under_the_old_path_is_made_good_by_the_rename_that_is_read_later() {
    let mut tracker = Tracker::new();
    let write = entry(3, b"f", Seen::DATA);
    tracker.facts(&mut World::new().dir(3, b"/src/a"), std::slice::from_ref(&write));
    // The directory has moved, its rename is not read yet, and its kept place is used.
    let mut world = World::new().dir(3, b"/src/b");
    assert_eq!(tracker.facts(&mut world, std::slice::from_ref(&write)), [touched(b"a/f", true)]);
    let facts = tracker.facts(&mut world, &[renamed((2, b"a"), (2, b"b"), true, 3)]);
    assert!(facts.contains(&replaced(b"b")), "{facts:?}");
    assert_eq!(tracker.facts(&mut world, &[write]), [touched(b"b/f", true)]);
}

#[test]
fn a_directory_that_leaves_and_one_that_comes_are_told_by_their_names_inside() {
    let mut world = World::new().dir(50, b"/elsewhere");
    let mut tracker = Tracker::new();
    assert_eq!(
        tracker.facts(&mut world, &[renamed((2, b"a"), (50, b"a"), true, 9)]),
        [touched(b"", false), gone(b"a"), replaced(b"a")]
    );
    assert_eq!(
        tracker.facts(&mut world, &[renamed((50, b"b"), (2, b"b"), true, 9)]),
        [touched(b"", false), replaced(b"b")]
    );
}

#[test]
fn an_exchange_makes_both_names_look_replaced() {
    let mut world = World::new();
    let hints = [renamed((2, b"a"), (2, b"b"), true, 8), renamed((2, b"b"), (2, b"a"), true, 9)];
    let facts = Tracker::new().facts(&mut world, &hints);
    for fact in [gone(b"a"), replaced(b"a"), gone(b"b"), replaced(b"b")] {
        assert!(facts.contains(&fact), "{fact:?} in {facts:?}");
    }
}

#[test]
fn the_root_itself_is_touched_but_never_told_gone() {
    let mut world = World::new().dir(1, b"/");
    let mut tracker = Tracker::new();
    assert_eq!(tracker.facts(&mut world, &[entry(1, b"src", Seen::ATTRIBUTES)]), [touched(b"", false)]);
    assert_eq!(tracker.facts(&mut world, &[entry(1, b"src", Seen::REMOVED_DIR)]), []);
    assert_eq!(tracker.facts(&mut world, &[Hint::Directory { dir: handle(2) }]), [touched(b"", false)]);
}

#[test]
fn a_mark_is_told_under_each_name_that_still_is_this_inode() {
    let mut world = World::new().file(2, b"a", 12).file(2, b"b", 12).file(2, b"c", 99);
    let hints = [marked(12, &[(2, b"a"), (2, b"b"), (2, b"c")])];
    let (facts, counts) = Tracker::new().drain(&mut world, &hints, bits(&[12], &[12], &[]));
    assert_eq!(facts, [touched(b"a", true), touched(b"b", true)]);
    assert_eq!((counts.told, counts.total()), (1, 1));
}

#[test]
fn a_mark_whose_name_was_renamed_since_is_told_where_the_inode_is_now() {
    let mut world = World::new().file(2, b"new", 12).inode(12, 1, b"/src/new");
    let (facts, _) = Tracker::new().drain(&mut world, &[marked(12, &[(2, b"old")])], bits(&[12], &[], &[]));
    assert_eq!(facts, [touched(b"new", false)]);
}

#[test]
fn a_mark_of_an_inode_that_is_no_more_needs_no_fact() {
    let (facts, counts) =
        Tracker::new().drain(&mut World::new(), &[marked(12, &[(2, b"a")])], bits(&[12], &[], &[]));
    assert_eq!((facts, counts.gone), (vec![], 1));
}

#[test]
fn a_mark_of_a_name_that_another_inode_has_by_now_does_not_touch_it() {
    let mut world = World::new().file(2, b"a", 13);
    let (facts, counts) =
        Tracker::new().drain(&mut world, &[marked(12, &[(2, b"a")])], bits(&[12], &[], &[]));
    assert_eq!((facts, counts.gone), (vec![], 1));
}

#[test]
fn a_lost_record_is_made_good_by_a_handle_of_any_generation() {
    let mut world = World::new().inode(12, 0, b"/src/a");
    let (facts, _) = Tracker::new().drain(&mut world, &[], bits(&[12], &[12], &[]));
    assert_eq!(facts, [touched(b"a", true)]);
}

#[test]
fn a_lost_record_that_leads_nowhere_is_counted_as_untraced() {
    let mut world = World::new();
    let unknown = HandleForm::Ino32.encode(Ino(12), Generation(0)).unwrap();
    world.inodes.insert(unknown, Found::Unknown);
    let (facts, counts) = Tracker::new().drain(&mut world, &[], bits(&[12], &[], &[]));
    assert_eq!((facts, counts.untraced), (vec![], 1));
    let mut xfs = Tracker::new();
    xfs.resolver = Resolver::new(Fs(0), HandleForm::Xfs64);
    assert_eq!(xfs.drain(&mut world, &[], bits(&[12], &[], &[])).1.untraced, 1);
}

#[test]
fn a_write_through_a_handle_without_a_name_is_told_where_the_inode_is() {
    let mut world = World::new().inode(12, 1, b"/src/a");
    let facts = Tracker::new().facts(&mut world, &[Hint::Inode { inode: handle(12), seen: Seen::DATA }]);
    assert_eq!(facts, [touched(b"a", true)]);
}

#[test]
fn a_fresh_inode_gets_its_name_from_the_event_of_its_creation() {
    let create =
        Hint::Entry { dir: handle(2), name: name(b"a"), seen: Seen::CREATED, child: Some(inode(12)) };
    let mut world = World::new().inode(12, 1, b"/src/a");
    let (facts, counts) =
        Tracker::new().drain(&mut world, &[create, marked(12, &[])], bits(&[12], &[12], &[]));
    assert_eq!(facts, [touched(b"", false), touched(b"a", true)]);
    assert_eq!((counts.told, counts.gone), (1, 1));
}

#[test]
fn a_write_is_not_lost_when_the_inode_got_a_further_name_elsewhere() {
    let link = Hint::Entry { dir: handle(50), name: name(b"g"), seen: Seen::CREATED, child: Some(inode(12)) };
    let mut world = World::new().dir(50, b"/elsewhere").file(2, b"f", 12);
    let hints = [link, marked(12, &[(2, b"f")])];
    let (facts, _) = Tracker::new().drain(&mut world, &hints, bits(&[12], &[12], &[]));
    assert_eq!(facts, [touched(b"f", true)]);
}

#[test]
fn a_hot_inode_outside_is_dropped_without_a_look_until_a_name_event_moves_it_in() {
    let mut tracker = Tracker::new();
    let mut world = World::new().dir(50, b"/elsewhere").file(50, b"hot", 12);
    let hot = [marked(12, &[(50, b"hot")])];
    assert_eq!(tracker.drain(&mut world, &hot, bits(&[12], &[], &[])).1.outside, 1);
    let before = world.lookups;
    assert_eq!(tracker.drain(&mut world, &hot, bits(&[12], &[], &[])).1.outside, 1);
    assert_eq!(world.lookups, before);

    let mut world = World::new().dir(50, b"/elsewhere").file(2, b"in", 12);
    tracker.facts(&mut world, &[renamed((50, b"hot"), (2, b"in"), false, 12)]);
    let (facts, _) = tracker.drain(&mut world, &[marked(12, &[(2, b"in")])], bits(&[12], &[], &[]));
    assert_eq!(facts, [touched(b"in", false)]);
}

#[test]
fn an_inode_that_came_in_is_not_taken_for_outside_because_its_record_is_of_before() {
    let mut tracker = Tracker::new();
    // The record was made while the rename was under way, with the name before.
    let hints = [renamed((50, b"f"), (2, b"in"), false, 12), marked(12, &[(50, b"f")])];
    let mut world = World::new().dir(50, b"/elsewhere").file(2, b"in", 12).inode(12, 1, b"/src/in");
    tracker.drain(&mut world, &hints, bits(&[12], &[], &[]));
    let (facts, _) = tracker.drain(&mut world, &[marked(12, &[(2, b"in")])], bits(&[12], &[12], &[]));
    assert_eq!(facts, [touched(b"in", true)]);
}

#[test]
fn a_write_after_the_way_in_is_told_though_the_rename_was_read_with_the_drain_before() {
    // Its mark found the bit set by the rename, so the only record has the name before.
    let mut world = World::new().dir(50, b"/elsewhere").inode(12, 1, b"/src/in");
    let (facts, _) = Tracker::new().drain(&mut world, &[marked(12, &[(50, b"f")])], bits(&[12], &[12], &[]));
    assert_eq!(facts, [touched(b"in", true)]);
}

#[test]
fn a_change_through_another_name_after_one_went_is_told_there() {
    let mut world = World::new().inode(12, 1, b"/src/a");
    let hints = [removed(2, b"b", 12), marked(12, &[(2, b"b")])];
    let (facts, _) = Tracker::new().drain(&mut world, &hints, bits(&[12], &[], &[]));
    assert!(facts.contains(&touched(b"a", false)), "{facts:?}");
}

#[test]
fn inodes_known_outside_are_forgotten_when_a_directory_moves() {
    let mut tracker = Tracker::new();
    let hints = [marked(12, &[(50, b"f")])];
    tracker.drain(&mut World::new().dir(50, b"/elsewhere").file(50, b"f", 12), &hints, bits(&[12], &[], &[]));
    let mut world = World::new().dir(50, b"/src/came").file(50, b"f", 12);
    tracker.facts(&mut world, &[renamed((1, b"elsewhere"), (2, b"came"), true, 50)]);
    let (facts, _) = tracker.drain(&mut world, &hints, bits(&[12], &[], &[]));
    assert_eq!(facts, [touched(b"came/f", false)]);
}

#[test]
fn an_inode_with_two_names_is_never_taken_for_outside() {
    let mut tracker = Tracker::new();
    let mut world = World::new().dir(50, b"/elsewhere");
    let hints = [marked(12, &[(50, b"f"), (50, b"g")])];
    tracker.drain(&mut world, &hints, bits(&[12], &[], &[]));
    let (facts, _) =
        tracker.drain(&mut world.file(2, b"h", 12), &[marked(12, &[(2, b"h")])], bits(&[12], &[12], &[]));
    assert_eq!(facts, [touched(b"h", true)]);
}

fn removed(dir: u64, entry: &[u8], child: u64) -> Hint {
    Hint::Entry { dir: handle(dir), name: name(entry), seen: Seen::REMOVED, child: Some(inode(child)) }
}

#[test]
fn a_write_through_a_name_that_is_removed_is_told_under_another_name() {
    let write = Hint::Entry { dir: handle(2), name: name(b"b"), seen: Seen::DATA, child: Some(inode(12)) };
    let mut world = World::new().inode(12, 1, b"/src/a");
    let facts = Tracker::new().facts(&mut world, &[write.clone(), removed(2, b"b", 12)]);
    assert!(facts.contains(&touched(b"a", true)), "{facts:?}");

    // The name goes only after it was told, but perhaps before anybody looked.
    let mut tracker = Tracker::new();
    let mut world = World::new().file(2, b"b", 12).inode(12, 1, b"/src/a");
    world.links.insert(Ino(12), 2);
    assert_eq!(tracker.facts(&mut world, &[write]), [touched(b"b", true)]);
    let facts = tracker.facts(&mut world, &[Hint::Unlinked { inode: inode(12) }]);
    assert_eq!(facts, [touched(b"a", true)]);
}

#[test]
fn a_write_through_a_name_that_another_file_is_renamed_over_is_told_under_another_name() {
    let write = Hint::Entry { dir: handle(2), name: name(b"b"), seen: Seen::DATA, child: Some(inode(12)) };
    let mut world = World::new().inode(12, 1, b"/src/a").file(2, b"b", 13);
    let facts = Tracker::new().facts(&mut world, &[write, renamed((2, b"x"), (2, b"b"), false, 13)]);
    assert!(facts.contains(&touched(b"a", true)) && facts.contains(&touched(b"b", true)), "{facts:?}");
}

#[test]
fn a_new_link_is_told_together_with_the_name_that_the_inode_was_last_known_by() {
    let born = |dir, n: &[u8]| Hint::Entry {
        dir: handle(dir),
        name: name(n),
        seen: Seen::CREATED | Seen::DATA,
        child: Some(inode(12)),
    };
    let mut tracker = Tracker::new();
    let mut world = World::new().file(2, b"a", 12).file(2, b"b", 12);
    tracker.facts(&mut world, &[born(2, b"a")]);
    assert_eq!(
        tracker.facts(&mut world, &[born(2, b"b")]),
        [touched(b"", false), touched(b"a", false), touched(b"b", true)]
    );
    // A rename is no link: the name before is not this inode any more.
    let mut world = World::new().file(2, b"c", 12);
    let facts = tracker.facts(&mut world, &[renamed((2, b"b"), (2, b"c"), false, 12)]);
    assert!(!facts.contains(&touched(b"b", false)) && !facts.contains(&touched(b"a", false)), "{facts:?}");
}

#[test]
fn an_inode_that_is_just_being_made_is_looked_up_again_with_the_next_drain() {
    let mut tracker = Tracker::new();
    let mut world = World::new();
    world.inodes.insert(handle(12), Found::Unready);
    let (facts, counts) = tracker.drain(&mut world, &[marked(12, &[])], bits(&[12], &[12], &[]));
    assert_eq!((facts, counts.again, tracker.lost), (vec![], 1, 0));
    assert_eq!(tracker.resolver.waiting(), 1);
    let mut world = World::new().inode(12, 1, b"/src/a");
    assert_eq!(tracker.drain(&mut world, &[], Bits::default()).0, [touched(b"a", true)]);
    assert_eq!(tracker.resolver.waiting(), 0);
}

#[test]
fn what_never_was_in_a_mirror_taints_none() {
    let mut tracker = Tracker::new();
    let mut world = World::new().dir(50, b"/elsewhere");
    world.inodes.insert(handle(12), Found::Unknown);
    let hints = [marked(12, &[(50, b"lost")]), removed(50, b"lost", 12)];
    let (facts, counts) = tracker.drain(&mut world, &hints, bits(&[12], &[12], &[]));
    assert_eq!((facts, counts.outside, tracker.lost), (vec![], 2, 0));
}

#[test]
fn removing_names_of_unchanged_inodes_asks_nothing_about_their_other_names() {
    let mut world = World::new();
    world.inodes.insert(handle(12), Found::Unknown);
    let (facts, counts) = Tracker::new().drain(&mut world, &[removed(2, b"b", 12)], Bits::default());
    assert_eq!((facts, counts.untraced), (vec![touched(b"", false), gone(b"b")], 0));
    // With marks the lost name marks the inode itself.
    world.links.insert(Ino(12), 1);
    let hints = [removed(2, b"b", 12), marked(12, &[(2, b"b")])];
    assert_eq!(Tracker::new().drain(&mut world, &hints, bits(&[12], &[], &[])).1.untraced, 0);
    // It had one name more when it was marked: something else had changed before.
    world.links.insert(Ino(12), 0);
    assert_eq!(Tracker::new().drain(&mut world, &hints, bits(&[12], &[], &[])).1.untraced, 1);
    assert_eq!(Tracker::new().drain(&mut world, &hints, bits(&[12], &[12], &[])).1.untraced, 1);
}

#[test]
fn a_new_user_of_an_inode_number_is_told_though_the_record_is_of_the_one_before() {
    let mut world = World::new().inode(12, 0, b"/src/new");
    let (facts, _) = Tracker::new().drain(&mut world, &[marked(12, &[(2, b"old")])], bits(&[12], &[12], &[]));
    assert_eq!(facts, [touched(b"new", true)]);
}

#[test]
fn a_mapped_file_is_cleaned_before_its_fact_is_handed_over() {
    let mut world = World::new().file(2, b"m", 12).inode(13, 1, b"/src/n");
    let hints = [marked(12, &[(2, b"m")]), marked(13, &[])];
    let (facts, _) = Tracker::new().drain(&mut world, &hints, bits(&[12, 13], &[12, 13], &[12, 13]));
    assert_eq!(facts, [touched(b"m", true), touched(b"n", true)]);
    assert_eq!(world.cleaned, [Ino(12), Ino(13)]);
}

#[test]
fn everything_in_a_drain_is_counted_once() {
    let mut world = World::new().dir(50, b"/elsewhere").file(2, b"a", 12);
    let hints = [
        entry(2, b"a", Seen::DATA),
        entry(50, b"b", Seen::DATA),
        entry(60, b"c", Seen::DATA),
        Hint::Directory { dir: handle(2) },
        marked(12, &[(2, b"a")]),
        marked(13, &[(50, b"x")]),
    ];
    world = world.file(50, b"x", 13);
    let (_, counts) = Tracker::new().drain(&mut world, &hints, bits(&[12, 13, 14], &[], &[]));
    assert_eq!(counts, Counts { told: 3, outside: 2, gone: 2, ..Counts::default() });
}
