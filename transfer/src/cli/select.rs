//! From what the user named to the list that is sent.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use ebbtide_filter::Filters;

use crate::session::{DirRole, Entry, FileListInput, Listing, Listings};
use crate::source::{Links, Look, Source, Steps, Wanted};
use crate::walk::{Depth, Pending, Problem, ProblemKind, Walk};

use super::args::{Args, MissingArgs};
use super::names::Named;

/// What is sent, and what could not be.
pub(super) struct Selection {
    pub(super) source: Source,
    pub(super) list: FileListInput,
    pub(super) problems: Vec<Problem>,
    /// The directories that names start from, as they were given.
    pub(super) roots: Vec<PathBuf>,
}

/// What is sent with a list that comes directory by directory.
pub(super) struct Streamed {
    pub(super) source: Arc<Source>,
    pub(super) walk: TreeWalk,
    /// The directories that names start from, as they were given.
    pub(super) roots: Vec<PathBuf>,
}

/// Walks below what was named, while the session runs.
pub(super) struct TreeWalk {
    source: Arc<Source>,
    /// `-x`, repeated.
    one_file_system: u8,
    /// What stands at the top.
    top: Listing,
    /// Directories that are to be listed.
    pending: Vec<Pending>,
}

impl TreeWalk {
    /// What stands at the top; not everything that will be sent.
    pub(super) fn top(&self) -> &Listing {
        &self.top
    }
}

impl Listings for TreeWalk {
    fn run(self: Box<Self>, give: &mut dyn FnMut(Listing) -> bool) {
        let TreeWalk { source, one_file_system, top, mut pending } = *self;
        let mut wanted = give(top);
        let mut walk = Walk::new(&source, 0).staying(one_file_system);
        while wanted && let Some(next) = pending.pop() {
            let dir = next.dir().into();
            pending.extend(walk.directory(next, Depth::Tree));
            let (entries, problems) = (mem::take(&mut walk.entries), mem::take(&mut walk.problems));
            let broken = source.rules_failure().is_some();
            wanted = give(Listing { dir, entries, problems, broken });
        }
    }
}

/// Looks at what was named, and no further. `None` when the list cannot come directory by directory.
pub(super) fn stream(args: &Args, filters: &Arc<Filters>, named: &[Named]) -> io::Result<Option<Streamed>> {
    let server = &args.push.server;
    let alone = server.recursive && !server.relative && args.given.select.files_from.is_none();
    let mut names = HashSet::new();
    let apart = named.len() == 1 || named.iter().all(|named| named.name != b"." && names.insert(&named.name));
    if !(server.incremental && server.can_recurse_incrementally() && alone && apart) {
        return Ok(None);
    }
    let mut rules = Rules::new(args);
    rules.starts = Some(Vec::new());
    let mut roots = Roots::default();
    let opened: Vec<Option<u16>> = named.iter().map(|named| roots.open(named)).collect();
    let source = Arc::new(open(args, filters, &roots)?);
    let mut walk = Walk::new(&source, 0).staying(server.one_file_system);
    walk.problems = roots.problems;
    let mut trail = Trail::default();
    for (named, root) in named.iter().zip(opened) {
        if let Some(root) = root {
            walk.set_root(root);
            rules.add(&mut walk, &source, &mut trail, root, named);
        }
    }
    let (entries, problems) = (mem::take(&mut walk.entries), mem::take(&mut walk.problems));
    let mut pending = rules.starts.unwrap_or_default();
    // The first one is the next one.
    pending.reverse();
    let top = Listing { dir: Box::default(), entries: missing_first(entries), problems, broken: false };
    let one_file_system = server.one_file_system;
    let walk = TreeWalk { source: Arc::clone(&source), one_file_system, top, pending };
    Ok(Some(Streamed { source, walk, roots: roots.given }))
}

/// How arguments become entries.
struct Rules {
    recursive: bool,
    dirs: bool,
    missing: MissingArgs,
    /// Where trees begin, if they are not walked here.
    starts: Option<Vec<Pending>>,
}

/// Looks at all that was named.
pub(super) fn select(args: &Args, filters: &Arc<Filters>, named: &[Named]) -> io::Result<Selection> {
    let server = &args.push.server;
    let mut rules = Rules::new(args);
    let mut roots = Roots::default();
    let opened: Vec<Option<u16>> = named.iter().map(|named| roots.open(named)).collect();
    let source = open(args, filters, &roots)?;
    let mut walk = Walk::new(&source, 0).staying(server.one_file_system);
    walk.problems = roots.problems;
    let mut trail = Trail::default();
    for (named, root) in named.iter().zip(opened) {
        if let Some(root) = root {
            walk.set_root(root);
            rules.add(&mut walk, &source, &mut trail, root, named);
        }
    }
    let mut entries = mem::take(&mut walk.entries);
    if named.len() > 1 || args.push.server.relative {
        entries = without_repeats(entries);
    }
    let entries = missing_first(without_orphans(entries, &mut walk));
    let io_errors = walk.io_errors();
    let problems = mem::take(&mut walk.problems);
    Ok(Selection { source, list: FileListInput { entries, io_errors }, problems, roots: roots.given })
}

/// Which symlinks are followed.
fn followed(given: &super::args::Links) -> Links {
    Links {
        all: given.copy,
        leading_out: given.copy_unsafe,
        to_directories: given.copy_dirlinks,
        unmunge: given.munge,
    }
}

/// What is sent, with what is read of it.
fn open(args: &Args, filters: &Arc<Filters>, roots: &Roots) -> io::Result<Source> {
    let mut source = Source::open_all(&roots.paths)?.unmarked().reading(Wanted::of(&args.push.server));
    for (number, leading) in (0..).zip(&roots.leading) {
        source = source.led_by(number, leading)?;
    }
    Ok(source.following(followed(&args.given.links)).with_filters(filters))
}

/// The roots that could be opened, each once.
#[derive(Default)]
struct Roots {
    paths: Vec<PathBuf>,
    /// The same as they were given.
    given: Vec<PathBuf>,
    numbers: HashMap<(PathBuf, Vec<Vec<u8>>), Option<u16>>,
    /// The one that was opened last: names of a list all have the same.
    last: Option<(PathBuf, Vec<Vec<u8>>, Option<u16>)>,
    /// By their numbers: what below them may be reached through symlinks.
    leading: Vec<Vec<Vec<u8>>>,
    problems: Vec<Problem>,
}

impl Roots {
    fn open(&mut self, named: &Named) -> Option<u16> {
        let Named { root, leading, .. } = named;
        let same = |(last, led, _): &&(PathBuf, Vec<Vec<u8>>, Option<u16>)| {
            last.as_os_str() == root.as_os_str() && led == leading
        };
        if let Some((_, _, number)) = self.last.as_ref().filter(same) {
            return *number;
        }
        let number = self.open_anew(root, leading);
        self.last = Some((root.clone(), leading.clone(), number));
        number
    }

    fn open_anew(&mut self, root: &PathBuf, leading: &[Vec<u8>]) -> Option<u16> {
        let key = (root.clone(), leading.to_vec());
        if let Some(known) = self.numbers.get(&key) {
            return *known;
        }
        let path = std::path::absolute(root).unwrap_or_else(|_| root.clone());
        let number = match Source::open(&path).and_then(|source| source.led_by(0, leading)) {
            Ok(_) => u16::try_from(self.paths.len()).ok(),
            Err(error) => {
                let kind = ProblemKind::Root(error);
                self.problems.push(Problem { path: path.clone(), name: b".".to_vec(), kind });
                None
            }
        };
        if number.is_some() {
            self.paths.push(path);
            self.given.push(root.clone());
            self.leading.push(leading.to_vec());
        }
        self.numbers.insert(key, number);
        number
    }
}

impl Rules {
    fn new(args: &Args) -> Rules {
        let server = &args.push.server;
        let chosen = &args.given.select;
        Rules {
            recursive: server.recursive,
            dirs: chosen.dirs.unwrap_or(chosen.files_from.is_some()),
            missing: chosen.missing,
            starts: None,
        }
    }

    fn add(&mut self, walk: &mut Walk<'_>, source: &Source, trail: &mut Trail, root: u16, named: &Named) {
        let look = match trail.steps.look(source, root, &named.name) {
            // A symlink as the name's folder is no directory, either; the whole way tells.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => source.look(root, &named.name),
            look => look,
        };
        if look.as_ref().is_ok_and(|look| source.hides(root, &named.name, look.meta.is_dir())) {
            return;
        }
        let rules = match named.with_parents {
            true => source.rules_after(root, parents(&named.name)),
            false => source.rules(root),
        };
        // The merge files on the way have a say, too.
        let is_on_the_way = named.with_parents && named.name != b".";
        if is_on_the_way && look.as_ref().is_ok_and(|look| !rules.wants(&named.name, look.meta.is_dir())) {
            return;
        }
        walk.set_rules(rules);
        if named.with_parents && (look.is_ok() || self.missing == MissingArgs::Delete) {
            trail.add_parents(walk, source, root, named);
        }
        match look {
            Ok(look) if look.meta.is_dir() => self.add_dir(walk, root, named, look),
            Ok(look) => {
                let entry = Entry::new(named.name.clone(), look.meta)
                    .with_link_target(look.link_target)
                    .with_details(look.details);
                walk.entries.push(Entry { root, ..entry });
            }
            Err(error) => self.add_missing(walk, root, named, error),
        }
    }

    fn add_dir(&mut self, walk: &mut Walk<'_>, root: u16, named: &Named, look: Look) {
        let listed = self.recursive || named.content && self.dirs;
        if !listed && !self.dirs {
            return walk.problem(&named.name, ProblemKind::DirectoryNotWanted);
        }
        let role = if listed { DirRole::Content } else { DirRole::Plain };
        let entry = Entry::new(named.name.clone(), look.meta).with_details(look.details).with_role(role);
        walk.entries.push(Entry { root, ..entry });
        if let Some(starts) = self.starts.as_mut().filter(|_| listed) {
            let start = walk.begin(&named.name);
            if named.name == b"." {
                // The list of the root holds the root itself.
                starts.extend(walk.directory(start, Depth::Tree).into_iter().rev());
            } else {
                starts.push(start);
            }
        } else if listed {
            walk.below(&named.name, if self.recursive { Depth::Tree } else { Depth::Entries });
        }
    }

    fn add_missing(&self, walk: &mut Walk<'_>, root: u16, named: &Named, error: io::Error) {
        let absent = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        match self.missing {
            MissingArgs::Ignore if absent => {}
            MissingArgs::Delete if absent => {
                walk.entries.push(Entry { root, ..Entry::missing(named.name.clone()) });
            }
            _ => walk.problem(&named.name, ProblemKind::Argument(error)),
        }
    }
}

/// Where the last name was.
#[derive(Default)]
struct Trail {
    steps: Steps,
    /// The root and the folder whose ancestors, and which itself, were added last; and whether `.` was.
    added: Option<(u16, Vec<u8>, bool)>,
}

impl Trail {
    /// Adds the directories on the way to a name, as far as they exist. Neighbours have them in common.
    fn add_parents(&mut self, walk: &mut Walk<'_>, source: &Source, root: u16, named: &Named) {
        let folder = parents(&named.name).last().unwrap_or(b"");
        if self
            .added
            .as_ref()
            .is_some_and(|(at, name, top)| *at == root && name == folder && *top == named.with_root)
        {
            return;
        }
        self.added = None;
        for parent in named.with_root.then_some(&b"."[..]).into_iter().chain(parents(&named.name)) {
            match source.look(root, parent) {
                Ok(look) if look.meta.is_dir() => {
                    let entry =
                        Entry::new(parent, look.meta).with_details(look.details).with_role(DirRole::Implied);
                    walk.entries.push(Entry { root, ..entry });
                }
                // The look at the name itself tells why.
                _ => return,
            }
        }
        self.added = Some((root, folder.to_vec(), named.with_root));
    }
}

/// Keeps the first of several entries with the same name; of directories, the role that says most. In place: what was
/// named can be millions of entries.
fn without_repeats(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut roles: Vec<DirRole> = entries.iter().map(|entry| entry.dir).collect();
    let mut repeats = HashSet::new();
    let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let place = *places.entry(&entry.name).or_insert(at);
        if place != at {
            roles[place] = stronger(roles[place], entry.dir);
            repeats.insert(at);
        }
    }
    drop(places);
    let mut at = 0;
    entries.retain_mut(|entry| {
        entry.dir = roles[at];
        at += 1;
        !repeats.contains(&(at - 1))
    });
    entries
}

fn stronger(one: DirRole, other: DirRole) -> DirRole {
    let rank = |role| match role {
        DirRole::Implied => 0,
        DirRole::Plain => 1,
        DirRole::Content => 2,
    };
    if rank(one) >= rank(other) { one } else { other }
}

/// Drops names to be removed below a directory that the source does not have either. Where that directory is to be
/// removed itself, they go with it; where nobody named it, it is one that has vanished.
fn without_orphans(entries: Vec<Entry>, walk: &mut Walk<'_>) -> Vec<Entry> {
    if entries.iter().all(|entry| entry.meta.mode != 0) {
        return entries;
    }
    let (missing, mut kept): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.meta.mode == 0);
    let dirs: HashSet<&[u8]> =
        kept.iter().filter(|entry| entry.meta.is_dir()).map(|entry| &*entry.name).collect();
    let named: HashSet<Box<[u8]>> = missing.iter().map(|entry| entry.name.clone()).collect();
    let absent =
        |entry: &Entry| parents(&entry.name).find(|parent| !dirs.contains(parent)).map(<[u8]>::to_vec);
    let (orphans, missing): (Vec<_>, Vec<_>) =
        missing.into_iter().map(|entry| (absent(&entry), entry)).partition(|(absent, _)| absent.is_some());
    for (parent, entry) in orphans {
        if let Some(parent) = parent.filter(|_| !parents(&entry.name).any(|parent| named.contains(parent))) {
            walk.set_root(entry.root);
            walk.problem(&parent, ProblemKind::Vanished);
        }
    }
    kept.extend(missing.into_iter().map(|(_, entry)| entry));
    kept
}

/// The directories on the way to a name, the topmost first.
fn parents(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &name[..at])
}

/// rsync 3.4.3 takes names to be removed only where no entry came before them.
fn missing_first(mut entries: Vec<Entry>) -> Vec<Entry> {
    if entries.iter().any(|entry| entry.meta.mode == 0) {
        entries.sort_by_key(|entry| entry.meta.mode != 0);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Meta;

    const DIR: Meta = Meta { mode: 0o040_755, ..Meta::MISSING };

    #[test]
    fn of_repeated_directories_the_role_that_says_most_stays() {
        let entry = |name: &[u8], role| Entry::new(name, DIR).with_role(role);
        let list = without_repeats(vec![
            entry(b"a", DirRole::Implied),
            entry(b"b", DirRole::Plain),
            entry(b"a", DirRole::Content),
            entry(b"b", DirRole::Implied),
        ]);
        let seen: Vec<_> = list.iter().map(|entry| (&*entry.name, entry.dir)).collect();
        assert_eq!(seen, [(&b"a"[..], DirRole::Content), (&b"b"[..], DirRole::Plain)]);
    }

    #[test]
    fn names_to_be_removed_come_first() {
        let list = missing_first(vec![Entry::new(*b"a", DIR), Entry::missing(*b"x"), Entry::new(*b"b", DIR)]);
        assert_eq!(list.iter().map(|entry| entry.name[0]).collect::<Vec<_>>(), b"xab");
    }
}
