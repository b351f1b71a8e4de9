//! Changes of names.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};

use super::Expected::{Data, Gone, Subtree, Touched};
use super::{Change, Expected, Later, Place, nothing, two_directories, two_files};

const fn of_files(
    name: &'static str,
    facts: &'static [Expected],
    act: fn(&Place) -> io::Result<Later>,
) -> Change {
    Change { name, before: files_and_directories, act, facts, quiet: None }
}

pub(super) const CHANGES: &[Change] = &[
    of_files("mkdir", &[Touched("new")], |place| done(fs::create_dir(place.at("new")))),
    of_files("mkdir with files in it", &[Touched("new"), Data("new/deep/file")], |place| {
        fs::create_dir_all(place.at("new/deep"))?;
        done(fs::write(place.at("new/deep/file"), b"content"))
    }),
    of_files("mknod of a fifo", &[Touched("fifo")], |place| make(place, "fifo", FileType::Fifo)),
    of_files("mknod of a socket", &[Touched("socket")], |place| make(place, "socket", FileType::Socket)),
    of_files("mknod of a device", &[Touched("device")], |place| {
        make(place, "device", FileType::CharacterDevice)
    }),
    of_files("symlink", &[Touched("link")], |place| done(symlink("file", place.at("link")))),
    of_files("link", &[Touched("dir/same")], |place| {
        done(fs::hard_link(place.at("file"), place.at("dir/same")))
    }),
    of_files("write through one of two names", &[Data("file")], |place| {
        fs::hard_link(place.at("file"), place.at("dir/same"))?;
        let file = place.at("file");
        Ok(Some(Box::new(move || fs::write(file, b"through one name"))))
    }),
    Change {
        before: nothing,
        ..of_files("O_TMPFILE, then linkat", &[Data("named")], |place| {
            let mode = Mode::from_raw_mode(0o644);
            let file = rustix::fs::openat(CWD, &place.dir, OFlags::TMPFILE | OFlags::RDWR, mode)?;
            rustix::io::write(&file, b"was nameless")?;
            let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, descriptor, CWD, place.at("named"), AtFlags::SYMLINK_FOLLOW)?;
            Ok(None)
        })
    },
    of_files("rename of a file, within its directory", &[Gone("file"), Touched("renamed")], |place| {
        rename(place, "file", "renamed")
    }),
    of_files("rename of a file, across directories", &[Gone("file"), Touched("dir/file")], |place| {
        rename(place, "file", "dir/file")
    }),
    of_files("rename of a file, over another", &[Gone("file"), Data("other")], |place| {
        rename(place, "file", "other")
    }),
    of_files("rename of a file, exchanged with another", &[Data("file"), Data("dir/a")], |place| {
        exchange(place, "file", "dir/a")
    }),
    of_files("rename of a file just written", &[Gone("file"), Data("renamed")], |place| {
        fs::write(place.at("file"), b"written")?;
        rename(place, "file", "renamed")
    }),
    of_files("rename of a directory, within its directory", &[Gone("dir"), Subtree("renamed")], |place| {
        rename(place, "dir", "renamed")
    }),
    of_files("rename of a directory, across directories", &[Gone("dir"), Subtree("to/dir")], |place| {
        rename(place, "dir", "to/dir")
    }),
    of_files("rename of a directory, over another", &[Gone("dir"), Subtree("to")], |place| {
        rename(place, "dir", "to")
    }),
    of_files("rename of a directory, exchanged with another", &[Subtree("dir"), Subtree("to")], |place| {
        exchange(place, "dir", "to")
    }),
    of_files("rename of a directory, exchanged with a file", &[Data("dir"), Subtree("file")], |place| {
        exchange(place, "dir", "file")
    }),
    of_files("a file moved in from outside the tree", &[Data("came")], |place| {
        done(fs::rename(place.outside.join("file"), place.at("came")))
    }),
    of_files("a directory moved in from outside the tree", &[Subtree("came")], |place| {
        done(fs::rename(place.outside.join("dir"), place.at("came")))
    }),
    of_files("a file moved out of the tree", &[Gone("file")], |place| {
        done(fs::rename(place.at("file"), place.outside.join("went")))
    }),
    of_files("a directory moved out of the tree", &[Gone("dir")], |place| {
        done(fs::rename(place.at("dir"), place.outside.join("went")))
    }),
    of_files("unlink", &[Gone("file")], |place| done(fs::remove_file(place.at("file")))),
    of_files("rmdir", &[Gone("to")], |place| done(fs::remove_dir(place.at("to")))),
    of_files("recursive removal", &[Gone("dir")], |place| done(fs::remove_dir_all(place.at("dir")))),
    of_files("a name that was removed and came back", &[Data("file")], |place| {
        fs::remove_file(place.at("file"))?;
        done(fs::write(place.at("file"), b"another file"))
    }),
    of_files("a name that became another kind", &[Touched("file")], |place| {
        fs::remove_file(place.at("file"))?;
        done(fs::create_dir(place.at("file")))
    }),
];

/// Both in the tree, and the same outside.
fn files_and_directories(place: &Place) {
    two_files(place);
    two_directories(place);
    let outside = Place { dir: place.outside.clone(), outside: place.outside.clone() };
    two_files(&outside);
    two_directories(&outside);
}

fn done(result: io::Result<()>) -> io::Result<Later> {
    result.map(|()| None)
}

fn make(place: &Place, name: &str, kind: FileType) -> io::Result<Later> {
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, place.at(name), kind, Mode::from_raw_mode(0o640), device)?;
    Ok(None)
}

fn rename(place: &Place, from: &str, to: &str) -> io::Result<Later> {
    done(fs::rename(place.at(from), place.at(to)))
}

fn exchange(place: &Place, one: &str, other: &str) -> io::Result<Later> {
    rustix::fs::renameat_with(CWD, place.at(one), CWD, place.at(other), RenameFlags::EXCHANGE)?;
    Ok(None)
}
