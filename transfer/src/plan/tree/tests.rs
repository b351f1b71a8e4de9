use std::fs;

use super::*;
use crate::testing::path;

fn tree(dir: &tempfile::TempDir, starts: &[Start]) -> Tree {
    Tree::new(Arc::new(Source::open(dir.path()).unwrap()), starts, false)
}

fn roles(chunk: &Chunk) -> Vec<(String, DirRole)> {
    let entry = |entry: &Entry| (String::from_utf8_lossy(&entry.name).into_owned(), entry.dir);
    let mut roles: Vec<_> = chunk.list.entries.iter().map(entry).collect();
    roles.sort_by(|a, b| a.0.cmp(&b.0));
    roles
}

fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
    fs::write(dir.path().join("a/f"), "").unwrap();
    dir
}

#[test]
fn a_relisted_directory_is_complete_and_its_subdirectories_are_not() {
    let dir = filled();
    let chunk = tree(&dir, &[Start::relist(path("a"))]).next_chunk().unwrap();
    let plain = |name: &str| (name.to_owned(), DirRole::Plain);
    assert_eq!(roles(&chunk), [plain("."), ("a".to_owned(), DirRole::Content), plain("a/b"), plain("a/f")]);
}

#[test]
fn a_directory_that_came_back_while_its_removal_was_planned_is_compared_by_itself() {
    let dir = filled();
    let gone = |name: &str| {
        let start = Start::relist(path("a")).without(path(name)).for_fact(7);
        tree(&dir, &[start]).next_chunk().unwrap().successors
    };
    assert_eq!(gone("a/b"), [(7, Fact::Subtree { dir: path("a/b"), replaced: true })]);
    // The list has what is there now of a file, and lacks what is not.
    assert_eq!(gone("a/f"), []);
    assert_eq!(gone("a/x"), []);
}

#[test]
fn a_subtree_is_complete_to_its_leaves() {
    let dir = filled();
    let mut tree = tree(&dir, &[Start::subtree(RelPath::root(), false).for_fact(7)]);
    let chunk = tree.next_chunk().unwrap();
    let complete: Vec<String> = roles(&chunk)
        .into_iter()
        .filter(|(_, role)| *role == DirRole::Content)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(complete, [".", "a", "a/b", "a/b/c"]);
    assert_eq!(chunk.owner(b"a/f"), Some(7));
    assert!(tree.next_chunk().is_none());
}

#[test]
fn a_large_tree_is_spread_over_lists_that_have_every_directory_whole() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..50 {
        fs::create_dir_all(dir.path().join(format!("d{n}"))).unwrap();
        for m in 0..1000 {
            rustix::fs::mkfifoat(
                rustix::fs::CWD,
                dir.path().join(format!("d{n}/{m}")),
                rustix::fs::Mode::RWXU,
            )
            .unwrap();
        }
    }
    let mut tree = tree(&dir, &[Start::subtree(RelPath::root(), false)]);
    let (mut lists, mut complete, mut fifos) = (0, HashSet::new(), 0);
    while let Some(chunk) = tree.next_chunk() {
        lists += 1;
        assert!(chunk.list.entries.len() < ENTRIES + 2000);
        for (name, role) in roles(&chunk) {
            fifos += usize::from(name.contains('/'));
            if role == DirRole::Content {
                assert!(complete.insert(name), "listed twice");
            }
        }
    }
    assert_eq!((lists, complete.len(), fifos), (2, 51, 50_000));
}

#[test]
fn a_directory_that_is_none_any_more_is_looked_at_by_itself() {
    let dir = filled();
    let mut tree = tree(&dir, &[Start::subtree(path("a/f"), false).for_fact(3), Start::relist(path("gone"))]);
    let chunk = tree.next_chunk().unwrap();
    let look_at = |name: &str| Fact::Touched { path: path(name), data: true };
    assert_eq!(chunk.successors, [(3, look_at("a/f")), (0, look_at("gone"))]);
}
