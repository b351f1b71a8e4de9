//! rsync's order (protocol note, section 5.5).
//!
//! Within a directory all non-directories come first, then each subdirectory, directly followed by what is in it.
//! Non-directories compare by their bytes, directories by their bytes and a `/`. The root comes first of all. As every
//! parent is in the list, the whole order is that of a walk; nothing but siblings is ever compared.

use std::cmp::Ordering;

use super::builder::{ROOT, misuse};
use super::list::{NONE, Store};
use crate::Error;

/// Record numbers in order.
pub(super) fn sort(store: &Store) -> Result<Vec<u32>, Error> {
    if store.one_dir {
        return Ok(sort_siblings(store));
    }
    check_parents(store)?;
    let mut children = Children::group(store);
    for dir in 0..store.dirs.len() {
        let siblings = children.of_mut(dir);
        siblings.sort_unstable_by(|a, b| compare(store, *a, *b));
        check_twice(store, siblings)?;
    }
    Ok(walk(store, &children))
}

/// The order of entries of one directory. Reading a directory that changes can show a name twice: one of them stays.
fn sort_siblings(store: &Store) -> Vec<u32> {
    // Lossless: a list has fewer than 2^31 entries.
    let mut siblings: Vec<u32> = (0..store.records.len() as u32).collect();
    siblings.sort_unstable_by(|a, b| compare(store, *a, *b));
    siblings.dedup_by(|a, b| compare(store, *a, *b).is_eq());
    let base = |number: &u32| store.base(&store.records[*number as usize]);
    let dirs = siblings.partition_point(|number| class(store, *number) != Class::Directory);
    let mut also_items = Vec::new();
    for dir in &siblings[dirs..] {
        let items = siblings[..dirs].binary_search_by(|item| {
            class(store, *item).cmp(&Class::Item).then_with(|| base(item).cmp(base(dir)))
        });
        also_items.extend(items);
    }
    also_items.sort_unstable();
    for at in also_items.into_iter().rev() {
        siblings.remove(at);
    }
    siblings
}

fn check_parents(store: &Store) -> Result<(), Error> {
    match store.dirs[ROOT as usize + 1..].iter().find(|dir| dir.record == NONE) {
        None => Ok(()),
        Some(dir) => Err(misuse(
            store.text(&dir.path),
            "is the parent of another one and not in the list as a directory",
        )),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Root,
    Item,
    Directory,
}

fn class(store: &Store, number: u32) -> Class {
    let record = &store.records[number as usize];
    match record.is_dir() {
        true if store.base(record) == b"." => Class::Root,
        true => Class::Directory,
        false => Class::Item,
    }
}

/// Class first, then name.
fn compare(store: &Store, a: u32, b: u32) -> Ordering {
    let class = class(store, a).cmp(&class(store, b));
    let is_dir = store.records[a as usize].is_dir();
    let (a, b) = (store.base(&store.records[a as usize]), store.base(&store.records[b as usize]));
    class.then_with(|| if is_dir { compare_dirs(a, b) } else { a.cmp(b) })
}

/// As if each had a `/` at its end.
fn compare_dirs(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.len().min(b.len());
    let next = |name: &[u8]| name.get(common).copied().unwrap_or(b'/');
    a[..common].cmp(&b[..common]).then_with(|| next(a).cmp(&next(b))).then_with(|| a.len().cmp(&b.len()))
}

/// Siblings are sorted.
fn check_twice(store: &Store, siblings: &[u32]) -> Result<(), Error> {
    let base = |number: u32| store.base(&store.records[number as usize]);
    let first_dir = siblings.partition_point(|number| class(store, *number) != Class::Directory);
    let (items, dirs) = siblings.split_at(first_dir);
    let twice = |siblings: &[u32]| {
        siblings.windows(2).find(|pair| base(pair[0]) == base(pair[1])).map(|pair| pair[0])
    };
    let equal = twice(items).or_else(|| twice(dirs));
    let root = usize::from(items.first().is_some_and(|number| class(store, *number) == Class::Root));
    let both = || {
        let items = &items[root..];
        dirs.iter().copied().find(|dir| items.binary_search_by(|item| base(*item).cmp(base(*dir))).is_ok())
    };
    match equal.or_else(both) {
        None => Ok(()),
        Some(number) => {
            let mut path = Vec::new();
            store.path(&store.records[number as usize], &mut path);
            Err(misuse(&path, "is in the list twice"))
        }
    }
}

/// Depth first, without recursion: names may be 2000 levels deep.
fn walk(store: &Store, children: &Children) -> Vec<u32> {
    let mut own_dir = vec![NONE; store.records.len()];
    for (number, dir) in store.dirs.iter().enumerate().skip(1) {
        own_dir[dir.record as usize] = number as u32;
    }
    let mut order = Vec::with_capacity(store.records.len());
    let mut stack = vec![children.of(ROOT as usize).iter()];
    while let Some(siblings) = stack.last_mut() {
        match siblings.next() {
            None => drop(stack.pop()),
            Some(record) => {
                order.push(*record);
                let dir = own_dir[*record as usize];
                if dir != NONE {
                    stack.push(children.of(dir as usize).iter());
                }
            }
        }
    }
    order
}

/// Record numbers, grouped by directory.
struct Children {
    /// `records[starts[n]..starts[n + 1]]` lie in directory n.
    starts: Vec<u32>,
    records: Vec<u32>,
}

impl Children {
    fn group(store: &Store) -> Self {
        let mut starts = vec![0; store.dirs.len() + 1];
        for record in &store.records {
            starts[record.dir as usize] += 1;
        }
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        let mut records = vec![0; store.records.len()];
        for (number, record) in store.records.iter().enumerate().rev() {
            let start = &mut starts[record.dir as usize];
            *start -= 1;
            records[*start as usize] = number as u32;
        }
        Children { starts, records }
    }

    fn of(&self, dir: usize) -> &[u32] {
        &self.records[self.starts[dir] as usize..self.starts[dir + 1] as usize]
    }

    fn of_mut(&mut self, dir: usize) -> &mut [u32] {
        &mut self.records[self.starts[dir] as usize..self.starts[dir + 1] as usize]
    }
}
