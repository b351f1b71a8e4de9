use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

use ebbtide_feed::{DestinationSpec, Fact, RelPath};

use super::*;
use crate::testing::data;

fn destination(url: &str) -> DestinationSpec {
    DestinationSpec { url: url.into(), timeout_s: 0, contimeout_s: 0, ..Default::default() }
}

fn mirror(source: &str, urls: &[&str]) -> MirrorSpec {
    MirrorSpec {
        source: source.into(),
        delete: false,
        numeric_ids: false,
        hard_links: false,
        filters: Vec::new(),
        destinations: urls.iter().map(|url| destination(url)).collect(),
        ..Default::default()
    }
}

/// The facts that each destination waits for.
fn waiting(opened: &Opened) -> Vec<Vec<Fact>> {
    let facts = |ids| opened.store.facts(ids).unwrap().into_iter().map(|(_, fact)| fact).collect();
    opened.pending.iter().map(facts).collect()
}

fn record(opened: &mut Opened, at: usize, fact: &Fact) {
    let mirror = opened.mirrors[opened.destinations[at].mirror];
    let id = opened.store.intern(mirror, [fact]).unwrap()[0].0;
    opened.pending[at].insert(id);
    let number = opened.destinations[at].number;
    opened.store.write_chunk(number, (id >> 16) as u16, &opened.pending[at]).unwrap();
}

#[test]
fn a_new_destination_is_compared_as_a_whole_and_known_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path(), &[mirror("/s", &["a"])]).unwrap();
    assert_eq!(waiting(&opened), [[key::whole()]]);
    drop(opened);
    let mut opened = open(folder.path(), &[mirror("/s", &["a", "b"])]).unwrap();
    assert_eq!(waiting(&opened), [[key::whole()], [key::whole()]]);
    opened.pending[0].clear();
    let (number, empty) = (opened.destinations[0].number, RoaringBitmap::new());
    opened.store.write_chunk(number, 0, &empty).unwrap();
    opened.store.commit().unwrap();
    drop(opened);
    let opened = open(folder.path(), &[mirror("/s", &["b", "a"])]).unwrap();
    assert_eq!(waiting(&opened), [vec![key::whole()], vec![]]);
}

#[test]
fn the_same_url_of_another_mirror_is_another_destination() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), &[mirror("/s", &["a"]), mirror("/t", &["a"])]).unwrap();
    record(&mut opened, 1, &data("x"));
    opened.store.commit().unwrap();
    drop(opened);
    let opened = open(folder.path(), &[mirror("/t", &["a"])]).unwrap();
    assert_eq!(waiting(&opened), [[key::whole(), data("x")]]);
    assert_eq!(redb_facts(&opened), 2);
}

fn redb_facts(opened: &Opened) -> u64 {
    let mut count = 0;
    for id in 0..100 {
        count += u64::from(opened.store.facts(&[id].into_iter().collect()).is_ok());
    }
    count
}

#[test]
fn a_destination_whose_mirror_now_deletes_is_compared_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), &[mirror("/s", &["a"])]).unwrap();
    opened.store.write_chunk(opened.destinations[0].number, 0, &RoaringBitmap::new()).unwrap();
    opened.store.commit().unwrap();
    drop(opened);
    let mut deleting = mirror("/s", &["a"]);
    deleting.delete = true;
    let opened = open(folder.path(), &[deleting]).unwrap();
    assert_eq!(waiting(&opened), [[key::whole()]]);
}

/// Opens a store for this mirror, lets its destination have everything, and opens it again for another one.
fn waiting_after(before: &MirrorSpec, after: &MirrorSpec) -> Vec<Vec<Fact>> {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), std::slice::from_ref(before)).unwrap();
    let row = opened.destinations[0].clone();
    opened.store.write_chunk(row.number, 0, &RoaringBitmap::new()).unwrap();
    opened.store.set_flags(&row.key, row.number, row.flags | flag::FIRST_SYNC_DONE).unwrap();
    opened.store.commit().unwrap();
    drop(opened);
    waiting(&open(folder.path(), std::slice::from_ref(after)).unwrap())
}

#[test]
fn what_a_mirror_does_not_keep_any_more_needs_no_comparison_and_what_it_keeps_now_does() {
    type Change = fn(&mut MirrorSpec);
    let all =
        |on: bool| MirrorSpec { delete: on, hard_links: on, acls: on, xattrs: on, ..mirror("/s", &["a"]) };
    let changes: [Change; 4] = [
        |mirror| mirror.delete ^= true,
        |mirror| mirror.hard_links ^= true,
        |mirror| mirror.acls ^= true,
        |mirror| mirror.xattrs ^= true,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        for on in [false, true] {
            let mut after = all(on);
            change(&mut after);
            let expected = if on { vec![] } else { vec![key::whole()] };
            assert_eq!(waiting_after(&all(on), &after), [expected], "change {at} of {on}");
        }
    }
    for change in
        [(|mirror| mirror.numeric_ids ^= true) as Change, |mirror| mirror.filters = vec![b"- x".into()]]
    {
        let (before, mut after) = (all(true), all(true));
        change(&mut after);
        assert_eq!(waiting_after(&before, &after), [[key::whole()]]);
        assert_eq!(waiting_after(&after, &before), [[key::whole()]]);
    }
}

#[test]
fn a_destination_that_was_removed_and_added_again_is_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), &[mirror("/s", &["a", "b"])]).unwrap();
    for at in 0..2 {
        opened.pending[at].clear();
        opened.store.write_chunk(opened.destinations[at].number, 0, &RoaringBitmap::new()).unwrap();
        record(&mut opened, at, &data("x"));
    }
    opened.store.commit().unwrap();
    drop(opened);
    drop(open(folder.path(), &[mirror("/s", &["b"])]).unwrap());
    let opened = open(folder.path(), &[mirror("/s", &["a", "b"])]).unwrap();
    assert_eq!(waiting(&opened), [vec![key::whole()], vec![data("x")]]);
}

#[test]
fn the_first_sync_flag_survives() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), &[mirror("/s", &["a"])]).unwrap();
    let row = opened.destinations[0].clone();
    assert_eq!(row.flags & flag::FIRST_SYNC_DONE, 0);
    opened.store.set_flags(&row.key, row.number, row.flags | flag::FIRST_SYNC_DONE).unwrap();
    opened.store.commit().unwrap();
    drop(opened);
    let opened = open(folder.path(), &[mirror("/s", &["a"])]).unwrap();
    assert_eq!(opened.destinations[0].flags, flag::FIRST_SYNC_DONE);
}

/// Fills a store, lets `damage` loose on its file, and opens it again.
fn reopened_after(damage: impl FnOnce(&Path)) -> (tempfile::TempDir, Vec<Vec<Fact>>) {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), &[mirror("/s", &["a", "b"])]).unwrap();
    for n in 0..500 {
        record(&mut opened, n % 2, &data(&format!("d/{n}")));
    }
    opened.store.commit().unwrap();
    drop(opened);
    damage(&folder.path().join(FILE));
    let opened = open(folder.path(), &[mirror("/s", &["a", "b"])]).unwrap();
    let waiting = waiting(&opened);
    (folder, waiting)
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

fn is_whole(waiting: &[Vec<Fact>]) -> bool {
    waiting.iter().all(|facts| facts.contains(&key::whole()))
}

#[test]
fn a_damaged_store_is_set_aside_and_answered_by_comparing_everything() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("foreign", |path| fs::write(path, b"something else entirely").unwrap()),
        ("torn", |path| OpenOptions::new().write(true).open(path).unwrap().set_len(10_000).unwrap()),
        ("header", |path| overwrite(path, 0, &[0x55; 512])),
        ("zeroes", |path| {
            let length = fs::metadata(path).unwrap().len();
            overwrite(path, 512, &vec![0; length as usize - 512]);
        }),
    ];
    for (name, damage) in damages {
        let (folder, waiting) = reopened_after(damage);
        assert!(is_whole(&waiting), "{name}");
        assert_eq!(waiting[0].len(), 1, "{name}");
        assert!(folder.path().join("ledger.redb.damaged-1").exists(), "{name}");
    }
}

#[test]
fn no_garbled_page_is_ever_trusted() {
    let (folder, complete) = reopened_after(|_| {});
    let length = fs::metadata(folder.path().join(FILE)).unwrap().len();
    let pages = length / 4096;
    for page in (0..pages).step_by((pages / 24).max(1) as usize) {
        let (folder, waiting) = reopened_after(|path| overwrite(path, page * 4096 + 100, &[0xa5; 64]));
        let set_aside = folder.path().join("ledger.redb.damaged-1").exists();
        assert!(waiting == complete || (set_aside && is_whole(&waiting)), "page {page}");
    }
}

#[test]
fn the_latest_damaged_stores_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 1..=5 {
        fs::write(folder.path().join(FILE), b"not a ledger").unwrap();
        let opened = open(folder.path(), &[mirror("/s", &["a"])]).unwrap();
        assert!(opened.damage.unwrap().contains("set aside"));
    }
    let kept: Vec<u32> = damaged(&folder.path().join(FILE)).into_iter().map(|(n, _)| n).collect();
    assert_eq!(kept, [3, 4, 5]);
}

#[test]
fn a_store_of_a_newer_version_is_set_aside_and_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path(), &[mirror("/s", &["a"])]).unwrap();
    let transaction = opened.store.database().begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
    transaction.commit().unwrap();
    drop(opened);
    let opened = open(folder.path(), &[mirror("/s", &["a"])]).unwrap();
    let said = opened.damage.clone().unwrap();
    assert!(said.contains(&format!("its format is {}", FORMAT + 1)), "{said}");
    assert_eq!(waiting(&opened), [[key::whole()]]);
}

#[test]
fn no_flipped_bit_and_no_cut_ever_loses_a_fact() {
    let folder = tempfile::tempdir().unwrap();
    let mirrors = [mirror("/s", &["a", "b"])];
    let mut opened = open(folder.path(), &mirrors).unwrap();
    for n in 0..300 {
        record(&mut opened, n % 2, &data(&format!("some/where/{n}")));
    }
    opened.store.commit().unwrap();
    let complete = waiting(&opened);
    drop(opened);
    let path = folder.path().join(FILE);
    let (sound, mut random) = (fs::read(&path).unwrap(), 0x9e37_79b9_7f4a_7c15_u64);
    let mark = fs::read(mark::path(&path)).unwrap();
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let in_use: Vec<usize> =
        (0..sound.len() / 512).filter(|at| sound[at * 512..][..512].iter().any(|byte| *byte != 0)).collect();
    let mut noticed = 0;
    for round in 0..100 {
        let mut bytes = sound.clone();
        match round % 4 {
            0 => bytes.truncate(next(sound.len())),
            1 => bytes[next(1024)] ^= 1 << next(8),
            _ => bytes[in_use[next(in_use.len())] * 512 + next(512)] ^= 1 << next(8),
        }
        fs::write(&path, &bytes).unwrap();
        fs::write(mark::path(&path), &mark).unwrap();
        let opened = open(folder.path(), &mirrors).unwrap();
        let waiting = waiting(&opened);
        noticed += usize::from(opened.damage.is_some());
        assert!(
            waiting == complete || (opened.damage.is_some() && is_whole(&waiting)),
            "round {round}: {} and {} facts, {:?}",
            waiting[0].len(),
            waiting[1].len(),
            opened.damage
        );
        drop(opened);
        damaged(&path).into_iter().for_each(|(_, kept)| fs::remove_file(kept).unwrap());
    }
    assert!(noticed > 25, "{noticed}");
}

#[test]
fn a_store_that_was_put_back_to_an_earlier_state_or_to_another_one_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let mirrors = [mirror("/s", &["a"])];
    let path = folder.path().join(FILE);
    drop(open(folder.path(), &mirrors).unwrap());
    let earlier = fs::read(&path).unwrap();
    let mut opened = open(folder.path(), &mirrors).unwrap();
    acknowledge(&mut opened, 0);
    record(&mut opened, 0, &data("late"));
    opened.store.commit().unwrap();
    drop(opened);
    assert_eq!(waiting(&open(folder.path(), &mirrors).unwrap()), [[data("late")]]);

    // After the first time, the mark is that of a new one.
    for said in ["as old as commit", "not the one that was used last"] {
        fs::write(&path, &earlier).unwrap();
        let opened = open(folder.path(), &mirrors).unwrap();
        let damage = opened.damage.clone().unwrap();
        assert!(damage.contains(said), "{damage}");
        assert_eq!(waiting(&opened), [[key::whole()]]);
    }
}

#[test]
fn a_store_without_a_mark_or_with_one_that_cannot_be_read_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mirrors = [mirror("/s", &["a"])];
    let mark = mark::path(&folder.path().join(FILE));
    let mut opened = open(folder.path(), &mirrors).unwrap();
    acknowledge(&mut opened, 0);
    drop(opened);
    for spoil in
        [&|| fs::remove_file(&mark).unwrap(), &|| fs::write(&mark, [7; 24]).unwrap()] as [&dyn Fn(); 2]
    {
        spoil();
        let opened = open(folder.path(), &mirrors).unwrap();
        assert!(opened.damage.is_none() && opened.pending[0].is_empty());
    }
}

/// Acknowledges everything that is pending for a destination.
fn acknowledge(opened: &mut Opened, at: usize) {
    opened.pending[at].clear();
    let number = opened.destinations[at].number;
    opened.store.write_chunk(number, 0, &RoaringBitmap::new()).unwrap();
    opened.store.commit().unwrap();
}

#[test]
fn what_was_acknowledged_last_is_looked_at_once_more_after_a_reboot() {
    let folder = tempfile::tempdir().unwrap();
    let mirrors = [mirror("/s", &["a", "b"])];
    let mut opened = open(folder.path(), &mirrors).unwrap();
    acknowledge(&mut opened, 1);
    record(&mut opened, 0, &data("f"));
    record(&mut opened, 0, &Fact::Gone { path: RelPath::new("d").unwrap() });
    acknowledge(&mut opened, 0);
    drop(opened);

    let opened = open(folder.path(), &mirrors).unwrap();
    assert_eq!(opened.lately.len(), 3, "in the same boot they are only kept");
    assert_eq!(waiting(&opened), [vec![], vec![]]);
    let mut opened = opened;
    opened.store.set_boot(1).unwrap();
    opened.store.commit().unwrap();
    drop(opened);

    let opened = open(folder.path(), &mirrors).unwrap();
    let whole = || vec![key::whole(), data("f"), Fact::Contents { dir: RelPath::new("d").unwrap() }];
    let mut waiting = waiting(&opened);
    waiting.iter_mut().for_each(|facts| facts.sort_by_key(|fact| format!("{fact:?}")));
    let mut expected = whole();
    expected.sort_by_key(|fact| format!("{fact:?}"));
    assert_eq!(waiting, [expected.clone(), expected]);
    assert!(opened.lately.is_empty());
    drop(opened);

    let opened = open(folder.path(), &[]).unwrap();
    assert!(opened.lately.is_empty(), "nobody is left who could look at them");
    drop(opened);
    assert!(open(folder.path(), &mirrors).unwrap().pending.iter().all(|pending| pending.len() == 1));
}
