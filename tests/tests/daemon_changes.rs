//! Every kind of change: after `ebbtide wait` the referee has nothing to say.
#![expect(clippy::unwrap_used, reason = "a test ends where its world does not obey")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use ebbtide_tests::{Kind, Mapped, Mirror, Tree, bytes, kib, mib, name, needs, run, skip};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags};

/// What stands at the destination before a change.
fn before(tree: Tree) -> Tree {
    tree.file("file", bytes(1, kib(20)))
        .file("other", b"another file")
        .file("large", bytes(2, mib(3)))
        .file("red/a", b"in red")
        .file("red/deep/b", bytes(3, 5_000))
        .file("blue/c", b"in blue")
        .file("twin", b"twins")
        .link("red/twin", "twin")
        .symlink("link", "file")
        .dir("empty")
        .fifo("fifo")
        .aged()
}

/// A change below the source; it sees the path of the source and of its file system.
type Change = fn(&Path, &Path);

macro_rules! changes {
    ($($name:ident: $change:expr;)*) => {
        const CHANGES: &[(&str, Change)] = &[$((stringify!($name), $change)),*];

        mod on_ext4 {
            use super::*;
            $(#[test]
            fn $name() {
                let mirror = needs!(Mirror::with(Kind::Ext4, before, |setup| setup));
                mirror.expect_synced();
                let change: Change = $change;
                change(&mirror.source_path(), mirror.fs().root());
                mirror.expect_synced();
            })*
        }
    };
}

changes! {
    a_file_that_was_written_in_place: |src, _| write_at(&src.join("file"), 100, b"written");
    a_file_that_grew: |src, _| append(&src.join("file"), b"more");
    a_file_that_was_cut: |src, _| open(&src.join("large")).set_len(12_345).unwrap();
    a_file_that_was_emptied: |src, _| drop(File::create(src.join("file")).unwrap());
    a_file_that_was_stretched: |src, _| open(&src.join("file")).set_len(1 << 20).unwrap();
    content_that_changed_under_an_unchanged_size_and_time: |src, _| {
        let file = open(&src.join("file"));
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"?", 7).unwrap();
        file.set_modified(before).unwrap();
    };
    a_hole_that_was_punched: |src, _| {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Not on every file system; then nothing changes.
        let _ = rustix::fs::fallocate(open(&src.join("large")), flags, 8_192, 65_536);
    };
    a_file_that_was_cloned_or_copied: |src, _| {
        drop(run(Command::new("cp").arg("--reflink=auto").arg(src.join("large")).arg(src.join("copy"))));
        drop(run(Command::new("cp").arg("--reflink=auto").arg(src.join("other")).arg(src.join("file"))));
    };
    a_file_that_came: |src, _| fs::write(src.join("new"), b"new").unwrap();
    an_empty_file_that_came: |src, _| drop(File::create(src.join("new")).unwrap());
    a_file_that_came_in_a_directory_that_came: |src, _| {
        Tree::at(src).file("new/deep/er/file", b"new").deep("down", 30);
    };
    a_file_without_a_name_that_got_one: |src, _| {
        let made = rustix::fs::openat(CWD, src, OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o644));
        let Ok(file) = made else { return };
        rustix::io::write(&file, b"was nameless").unwrap();
        let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        rustix::fs::linkat(CWD, descriptor, CWD, src.join("named"), AtFlags::SYMLINK_FOLLOW).unwrap();
    };
    a_thousand_files_that_came: |src, _| {
        let tree = Tree::at(src);
        (0..1_000).fold(tree, |tree, n| tree.file(format!("many/{}/{n}", n % 20), n.to_string()));
    };
    a_file_that_changed_a_thousand_times: |src, _| {
        (0..1_000).for_each(|n| write_at(&src.join("file"), n, &[n as u8]));
    };
    a_file_that_was_renamed: |src, _| rename(src, "file", "renamed");
    a_file_that_was_renamed_into_another_directory: |src, _| rename(src, "red/a", "blue/a");
    a_file_that_was_renamed_over_another: |src, _| rename(src, "file", "other");
    a_file_that_was_renamed_and_written: |src, _| {
        rename(src, "file", "renamed");
        append(&src.join("renamed"), b"more");
    };
    a_file_that_was_written_and_renamed: |src, _| {
        append(&src.join("file"), b"more");
        rename(src, "file", "renamed");
    };
    a_file_that_was_replaced_by_renaming: |src, _| {
        fs::write(src.join(".file.new"), bytes(9, kib(20))).unwrap();
        rename(src, ".file.new", "file");
    };
    a_directory_that_was_renamed: |src, _| rename(src, "red", "green");
    a_directory_that_was_renamed_into_another: |src, _| rename(src, "red", "blue/red");
    a_directory_that_was_renamed_over_an_empty_one: |src, _| rename(src, "red", "empty");
    a_directory_that_was_renamed_and_written_into: |src, _| {
        rename(src, "red", "green");
        append(&src.join("green/deep/b"), b"more");
        fs::write(src.join("green/new"), b"new").unwrap();
        fs::remove_file(src.join("green/a")).unwrap();
    };
    a_directory_that_was_renamed_twice: |src, _| {
        rename(src, "red", "green");
        rename(src, "green", "blue/green");
    };
    a_directory_that_took_the_name_of_another: |src, _| {
        rename(src, "red", "old red");
        rename(src, "blue", "red");
    };
    two_files_that_changed_places: |src, _| exchange(src, "file", "red/a");
    two_directories_that_changed_places: |src, _| exchange(src, "red", "blue");
    a_file_and_a_directory_that_changed_places: |src, _| exchange(src, "file", "red");
    a_directory_that_came_from_outside: |src, fs| {
        Tree::at(fs).file("outside/x/y", b"came along").file("outside/z", b"too");
        fs::rename(fs.join("outside"), src.join("inside")).unwrap();
    };
    a_directory_that_replaced_one_with_equal_sizes_and_times: |src, fs| {
        let tree = Tree::at(fs).file("outside/a", b"not a!").file("outside/deep/b", bytes(77, 5_000));
        copy_times(&src.join("red/a"), &fs.join("outside/a"));
        copy_times(&src.join("red/deep/b"), &fs.join("outside/deep/b"));
        drop(tree);
        fs::rename(src.join("red"), fs.join("was red")).unwrap();
        fs::rename(fs.join("outside"), src.join("red")).unwrap();
    };
    a_directory_that_went_outside: |src, fs| fs::rename(src.join("red"), fs.join("away")).unwrap();
    a_file_that_went_outside_and_came_back_changed: |src, fs| {
        fs::rename(src.join("file"), fs.join("away")).unwrap();
        append(&fs.join("away"), b"changed outside");
        fs::rename(fs.join("away"), src.join("file")).unwrap();
    };
    a_file_that_was_removed: |src, _| fs::remove_file(src.join("file")).unwrap();
    a_directory_that_was_removed_with_everything: |src, _| fs::remove_dir_all(src.join("red")).unwrap();
    everything_that_was_removed: |src, _| {
        for entry in fs::read_dir(src).unwrap().flatten() {
            Tree::at(src).remove(std::os::unix::ffi::OsStrExt::as_bytes(entry.file_name().as_os_str()));
        }
    };
    a_name_that_was_removed_and_came_back: |src, _| {
        fs::remove_dir_all(src.join("red")).unwrap();
        Tree::at(src).file("red/a", b"another a").dir("red/deep");
    };
    a_name_that_became_another_kind: |src, _| {
        let tree = Tree::at(src).remove("file").file("file/is/now", b"a directory").remove("red").file("red", b"a file");
        drop(tree.remove("link").fifo("link").remove("fifo").symlink("fifo", "other").remove("other").dir("other"));
    };
    a_link_that_came: |src, _| fs::hard_link(src.join("file"), src.join("blue/same")).unwrap();
    a_link_that_went: |src, _| fs::remove_file(src.join("red/twin")).unwrap();
    a_linked_file_that_was_written_through_one_name: |src, _| append(&src.join("red/twin"), b"more");
    a_linked_file_whose_other_name_was_replaced: |src, _| {
        fs::write(src.join("new"), b"no twin").unwrap();
        rename(src, "new", "red/twin");
    };
    a_linked_file_whose_mode_changed: |src, _| drop(Tree::at(src).mode("twin", 0o600));
    modes_that_changed: |src, _| {
        drop(Tree::at(src).mode("file", 0o000).mode("large", 0o4755).mode("red", 0o700).mode("empty", 0o1777));
    };
    owners_that_changed: |src, _| {
        drop(Tree::at(src).owner("file", 1, 2).owner("red", 12_345, 0).owner("link", 3, 3));
    };
    times_that_changed: |src, _| {
        drop(Tree::at(src).mtime("file", 1_000, 5).mtime("red", 4_000_000_000, 0).mtime("link", 77, 7));
    };
    the_root_itself_that_changed: |src, _| drop(Tree::at(src).mode("", 0o750).owner("", 5, 6).mtime("", 99, 0));
    a_symlink_that_points_elsewhere: |src, _| {
        fs::remove_file(src.join("link")).unwrap();
        symlink("/nowhere/at all", src.join("link")).unwrap();
    };
    special_files_that_came: |src, _| drop(Tree::at(src).kinds());
    names_that_are_odd: |src, _| drop(Tree::at(src).odd_names());
    odd_names_that_were_renamed_and_removed: |src, _| {
        let tree = Tree::at(src).odd_names();
        for number in 0..16 {
            let odd = [b"odd/", name(number)].concat();
            fs::rename(tree.path(&odd), tree.path([&b"odd/"[..], name(number + 1), b"~"].concat())).unwrap_or_else(|_| {
                // 255 bytes take no suffix.
                fs::remove_file(tree.path(&odd)).unwrap();
            });
        }
        fs::remove_dir_all(tree.path("odd-dirs")).unwrap();
    };
    writes_through_a_descriptor_whose_name_moved: |src, _| {
        let file = open(&src.join("red/a"));
        rename(src, "red", "green");
        rename(src, "green/a", "b");
        file.write_all_at(b"through the descriptor", 0).unwrap();
    };
    a_tree_that_was_copied_in: |src, fs| {
        Tree::rich(&fs.join("rich"));
        drop(run(Command::new("cp").arg("-a").arg(fs.join("rich")).arg(src.join("rich"))));
    };
    a_tree_that_was_unpacked: |src, fs| {
        Tree::rich(&fs.join("rich"));
        let archive = fs.join("rich.tar");
        drop(run(Command::new("tar").arg("-C").arg(fs).arg("-cf").arg(&archive).arg("rich")));
        drop(run(Command::new("tar").arg("-C").arg(src).arg("-xf").arg(&archive)));
    };
}

/// All of them, one after the other, with fanotify alone.
fn with_fanotify_alone(kind: Kind) {
    let mirror = needs!(Mirror::with(kind, before, ebbtide_tests::Setup::fanotify_alone));
    for (what, change) in CHANGES {
        eprintln!("{kind:?}: {what}");
        clear(&mirror);
        before(mirror.source());
        mirror.expect_synced();
        change(&mirror.source_path(), mirror.fs().root());
        mirror.expect_synced();
    }
}

// One daemon for all: each change also meets what those before it left in the daemon's mind.
#[test]
fn every_kind_of_change_on_ext4_with_fanotify_alone() {
    with_fanotify_alone(Kind::Ext4);
}

#[test]
fn every_kind_of_change_on_xfs_with_fanotify_alone() {
    with_fanotify_alone(Kind::Xfs);
}

#[test]
fn every_kind_of_change_on_btrfs_with_fanotify_alone() {
    with_fanotify_alone(Kind::Btrfs);
}

#[test]
fn every_kind_of_change_on_tmpfs_with_fanotify_alone() {
    with_fanotify_alone(Kind::Tmpfs);
}

/// Stores through one mapping, with a sync between each two. `clean` writes the file's pages back first.
fn stores_through_a_mapping(kind: Kind, clean: bool) {
    let mirror = needs!(Mirror::with(kind, before, |setup| setup));
    if !mirror.daemon().sees_mapped_stores() {
        skip!("this kernel lets nobody see stores through mappings");
    }
    if clean {
        rustix::fs::syncfs(File::open(mirror.source_path()).unwrap()).unwrap();
    }
    mirror.expect_synced();
    let mut mapped = Mapped::open(&mirror.source_path().join("large")).unwrap();
    for round in 0..10u8 {
        // The same page, dirty and mapped already, and another one.
        mapped.store(5_000, &[round; 100]);
        mapped.store(usize::from(round) * 4_096, b"page");
        mirror.expect_synced();
    }
}

#[test]
fn stores_through_a_mapping_on_ext4() {
    stores_through_a_mapping(Kind::Ext4, true);
}

#[test]
fn stores_through_a_mapping_of_a_file_just_written_on_ext4() {
    stores_through_a_mapping(Kind::Ext4, false);
}

#[test]
fn stores_through_a_mapping_on_xfs() {
    stores_through_a_mapping(Kind::Xfs, true);
}

#[test]
fn stores_through_a_mapping_on_btrfs() {
    stores_through_a_mapping(Kind::Btrfs, true);
}

#[test]
fn stores_through_a_mapping_whose_file_has_no_name_any_more_harm_nobody() {
    let mirror = needs!(Mirror::with(Kind::Ext4, before, |setup| setup));
    mirror.expect_synced();
    let mut mapped = Mapped::open(&mirror.source_path().join("large")).unwrap();
    fs::remove_file(mirror.source_path().join("large")).unwrap();
    mapped.store(0, b"nobody reads this");
    mirror.expect_synced();
}

/// Removes what a change left in the source and beside it.
fn clear(mirror: &Mirror) {
    for folder in [mirror.source_path(), mirror.fs().root().to_owned()] {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let name = entry.file_name();
            if !["source", "lost+found"].iter().any(|kept| name == *kept) {
                Tree::at(&folder).remove(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str()));
            }
        }
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn write_at(path: &Path, offset: u64, content: &[u8]) {
    open(path).write_all_at(content, offset).unwrap();
}

fn append(path: &Path, content: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(content).unwrap();
}

fn rename(src: &Path, from: &str, to: &str) {
    fs::rename(src.join(from), src.join(to)).unwrap();
}

fn exchange(src: &Path, one: &str, other: &str) {
    rustix::fs::renameat_with(CWD, src.join(one), CWD, src.join(other), RenameFlags::EXCHANGE).unwrap();
}

fn copy_times(from: &Path, to: &Path) {
    drop(run(Command::new("touch").arg("-r").arg(from).arg(to)));
}
