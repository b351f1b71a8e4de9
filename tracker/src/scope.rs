//! Which paths belong to which mirror.

use std::sync::Arc;

use ebbtide_feed::{MirrorId, RelPath};
use ebbtide_filter::{Local, Sieve};

use crate::id::{Fs, Name};

/// Where the source directories are at present, and what is not part of them.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The mirrors, in the order of the configuration.
    pub roots: Vec<Root>,
    /// Mount points: what lies at or below them on the file system underneath is hidden.
    pub mount_points: Vec<Vec<u8>>,
}

/// One mirror's source directory.
#[derive(Clone, Debug)]
pub struct Root {
    /// The file system it is on.
    pub fs: Fs,
    /// Its present absolute path; `None` while it is not there.
    pub path: Option<Vec<u8>>,
    /// The rules of what is sent, if there are any.
    pub rules: Option<Arc<Sieve>>,
}

/// Where a directory lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The mirrors that it is part of, with its path below the root of each.
    pub within: Vec<(MirrorId, RelPath)>,
    /// The mirrors whose root is an entry of it, with that entry's name.
    pub holds: Vec<(MirrorId, Name)>,
}

impl Place {
    /// Whether nothing in it concerns any mirror.
    pub fn is_outside(&self) -> bool {
        self.within.is_empty() && self.holds.is_empty()
    }

    /// The paths of an entry, by mirror.
    pub fn entry(&self, name: &Name) -> impl Iterator<Item = (MirrorId, RelPath)> {
        let below =
            self.within.iter().filter_map(|(mirror, dir)| Some((*mirror, dir.join(name.as_bytes()).ok()?)));
        let roots = self.holds.iter().filter(move |(_, root)| root == name);
        below.chain(roots.map(|(mirror, _)| (*mirror, RelPath::root())))
    }
}

impl Scope {
    /// Where a directory of this file system lies, by its absolute path. On another file system than its root's a
    /// mirror has nothing.
    pub fn place(&self, fs: Fs, dir: &[u8]) -> Place {
        let mut place = Place::default();
        for (mirror, root) in (0..).zip(&self.roots) {
            let Some(path) = root.path.as_deref().filter(|_| root.fs == fs) else { continue };
            if let Some(rel) = below(dir, path) {
                if !self.is_hidden(dir, path) && root.sends_dir(&rel) {
                    place.within.push((mirror, rel));
                }
            } else if let Some(name) = entry_of(path, dir) {
                place.holds.push((mirror, name));
            }
        }
        place
    }

    /// Where any entry of this file system lies, by its absolute path.
    pub fn place_of_entry(&self, fs: Fs, path: &[u8]) -> Vec<(MirrorId, RelPath)> {
        let mut within = Vec::new();
        for (mirror, root) in (0..).zip(&self.roots) {
            let Some(top) = root.path.as_deref().filter(|_| root.fs == fs) else { continue };
            let Some(rel) = below(path, top).filter(|_| !self.is_hidden(path, top)) else { continue };
            if rel.parent().is_none_or(|dir| root.sends_dir(&dir)) && root.sends(&rel) {
                within.push((mirror, rel));
            }
        }
        within
    }

    /// Whether the rules of a mirror let an entry be sent, as far as they can tell without knowing what it is. The
    /// directory that it is in is one that is sent.
    pub fn sends(&self, mirror: MirrorId, path: &RelPath) -> bool {
        self.roots[mirror as usize].sends(path)
    }

    /// Whether no mirror that this is an entry of sends it.
    pub fn excludes(&self, place: &Place, name: &Name) -> bool {
        let mut entries = place.entry(name).peekable();
        entries.peek().is_some() && entries.all(|(mirror, path)| !self.sends(mirror, &path))
    }

    /// Whether a file system is mounted over this path or over a directory between it and `root`.
    fn is_hidden(&self, dir: &[u8], root: &[u8]) -> bool {
        self.mount_points.iter().any(|point| {
            point.len() > root.len() && below(point, root).is_some() && below(dir, point).is_some()
        })
    }
}

impl Root {
    fn sends_dir(&self, dir: &RelPath) -> bool {
        self.rules.as_ref().is_none_or(|rules| dir.is_root() || !rules.hides_way(dir.as_bytes(), true))
    }

    fn sends(&self, path: &RelPath) -> bool {
        let hidden = |rules: &Arc<Sieve>, dir| rules.hides(&Local::default(), path.as_bytes(), dir);
        self.rules
            .as_ref()
            .is_none_or(|rules| path.is_root() || !hidden(rules, false) || !hidden(rules, true))
    }
}

/// The rest of `path` below `dir`.
fn below(path: &[u8], dir: &[u8]) -> Option<RelPath> {
    let rest = if dir == b"/" { path.strip_prefix(b"/")? } else { path.strip_prefix(dir)? };
    match rest.split_first() {
        None => Some(RelPath::root()),
        Some((b'/', rest)) if dir != b"/" => RelPath::new(rest).ok(),
        Some(_) if dir == b"/" => RelPath::new(rest).ok(),
        Some(_) => None,
    }
}

/// The name of `path` if it is an entry of `dir`.
fn entry_of(path: &[u8], dir: &[u8]) -> Option<Name> {
    Name::new(below(path, dir)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(roots: &[&[u8]]) -> Scope {
        let roots = roots.iter().map(|path| Root { fs: Fs(0), path: Some(path.to_vec()), rules: None });
        Scope { roots: roots.collect(), mount_points: Vec::new() }
    }

    fn rel(path: &[u8]) -> RelPath {
        RelPath::new(path).unwrap()
    }

    #[test]
    fn a_directory_may_be_part_of_several_mirrors() {
        let scope = scope(&[b"/srv", b"/srv/a", b"/srv/ab"]);
        assert_eq!(scope.place(Fs(0), b"/srv/a/x").within, [(0, rel(b"a/x")), (1, rel(b"x"))]);
        assert!(scope.place(Fs(0), b"/var").is_outside());
        assert!(scope.place(Fs(1), b"/srv/a").is_outside(), "another file system");
    }

    #[test]
    fn the_root_is_an_entry_of_its_parent() {
        let scope = scope(&[b"/srv/a"]);
        let place = scope.place(Fs(0), b"/srv");
        assert!(place.within.is_empty());
        assert_eq!(place.entry(&Name::new(b"a").unwrap()).collect::<Vec<_>>(), [(0, RelPath::root())]);
        assert_eq!(place.entry(&Name::new(b"b").unwrap()).count(), 0);
    }

    #[test]
    fn the_root_of_the_file_system_can_be_a_mirror() {
        let scope = scope(&[b"/"]);
        assert_eq!(scope.place(Fs(0), b"/a/b").within, [(0, rel(b"a/b"))]);
        assert_eq!(scope.place(Fs(0), b"/").within, [(0, RelPath::root())]);
    }

    #[test]
    fn what_is_hidden_below_a_mount_point_is_not_part_of_the_mirror() {
        let mut scope = scope(&[b"/srv", b"/srv/m/inner"]);
        scope.mount_points = vec![b"/".to_vec(), b"/srv".to_vec(), b"/srv/m".to_vec()];
        assert_eq!(scope.place(Fs(0), b"/srv/mm").within, [(0, rel(b"mm"))]);
        assert!(scope.place(Fs(0), b"/srv/m").within.is_empty());
        assert_eq!(
            scope.place(Fs(0), b"/srv/m/inner/x").within,
            [(1, rel(b"x"))],
            "the root is what is mounted"
        );
    }

    #[test]
    fn what_the_rules_exclude_is_not_part_of_the_mirror() {
        let mut scope = scope(&[b"/srv", b"/srv/a"]);
        let filters = ebbtide_filter::Filters::from_texts(&["- /a/cache/", "- *.tmp"]).unwrap();
        scope.roots[0].rules = Some(Arc::new(Sieve::new(Arc::new(filters), b"/srv")));
        let at = |path: &[u8]| {
            scope.place(Fs(0), path).within.iter().map(|(mirror, _)| *mirror).collect::<Vec<_>>()
        };
        assert_eq!(at(b"/srv/a"), [0, 1]);
        assert_eq!(at(b"/srv/a/cache"), [1]);
        assert_eq!(at(b"/srv/a/cache/deep"), [1]);
        assert_eq!(at(b"/srv/x.tmp/y"), [0; 0]);
        let entry = |path: &[u8]| {
            scope.place_of_entry(Fs(0), path).iter().map(|(mirror, _)| *mirror).collect::<Vec<_>>()
        };
        assert_eq!(entry(b"/srv/a/cache"), [0, 1], "it may be a file");
        assert_eq!(entry(b"/srv/a/cache/x"), [1]);
        assert_eq!(entry(b"/srv/a/x.tmp"), [1]);
        assert!(!scope.sends(0, &rel(b"b.tmp")) && scope.sends(0, &rel(b"a/cache")));
    }

    #[test]
    fn a_mirror_without_its_root_has_nothing() {
        let mut scope = scope(&[b"/srv"]);
        scope.roots[0].path = None;
        assert!(scope.place(Fs(0), b"/srv/a").is_outside());
    }
}
