//! Changes of content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, OFlags};

use super::Expected::{Data, Touched};
use super::{Change, Later, Place, Quiet, SIZE, nothing, raw, two_files};
use crate::Mapped;

const fn bytes(name: &'static str, act: fn(&Place) -> io::Result<Later>) -> Change {
    Change { name, before: two_files, act, facts: &[Data("file")], quiet: None }
}

const fn mapped(name: &'static str, act: fn(&Place) -> io::Result<Later>) -> Change {
    Change { quiet: Some(Quiet::Mapped), ..bytes(name, act) }
}

const fn aio(name: &'static str, act: fn(&Place) -> io::Result<Later>) -> Change {
    Change { quiet: Some(Quiet::Aio), ..bytes(name, act) }
}

pub(super) const CHANGES: &[Change] = &[
    Change {
        before: nothing,
        ..bytes("a new file", |place| done(fs::write(place.at("file"), crate::bytes(3, SIZE))))
    },
    Change {
        before: nothing,
        facts: &[Touched("file")],
        ..bytes("a new file without content", |place| done(File::create(place.at("file")).map(drop)))
    },
    bytes("write", |place| done(open(place)?.write_all_at(b"written", 5_000))),
    bytes("append", |place| {
        done(OpenOptions::new().append(true).open(place.at("file"))?.write_all(b"appended"))
    }),
    bytes("rewrite through a descriptor that stays open", |place| {
        let file = open(place)?;
        file.write_all_at(b"first", 5_000)?;
        later(move || file.write_all_at(b"again", 5_000))
    }),
    bytes("write under an unchanged size and mtime", |place| {
        let file = open(place)?;
        let before = file.metadata()?.modified()?;
        file.write_all_at(b"disguised", 5_000)?;
        done(file.set_modified(before))
    }),
    bytes("write with O_DIRECT", |place| done(direct(&place.at("file"))?.write_all_at(&page(3)?, 8_192))),
    bytes("write with O_SYNC", |place| {
        let flags = OFlags::SYNC.bits().cast_signed();
        done(
            OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(place.at("file"))?
                .write_all_at(b"synced", 9),
        )
    }),
    mapped("mmap, first store to a clean page", |place| {
        clean(place)?;
        Mapped::open(&place.at("file"))?.store(5_000, b"stored");
        Ok(None)
    }),
    mapped("mmap, next store to a page already dirty", |place| {
        clean(place)?;
        let mut file = Mapped::open(&place.at("file"))?;
        file.store(5_000, b"stored");
        later(move || {
            file.store(5_000, b"again!");
            Ok(())
        })
    }),
    mapped("mmap, next store after writeback", |place| {
        clean(place)?;
        let (mut file, path) = (Mapped::open(&place.at("file"))?, place.at("file"));
        file.store(5_000, b"stored");
        later(move || {
            File::open(path)?.sync_all()?;
            file.store(5_000, b"again!");
            Ok(())
        })
    }),
    mapped("mmap, store to a page that write() dirtied", |place| {
        clean(place)?;
        open(place)?.write_all_at(b"by write()", 5_000)?;
        let path = place.at("file");
        // Mapped only now, so that nobody had a reason to write the page back.
        later(move || {
            Mapped::open(&path)?.store(5_000, b"stored");
            Ok(())
        })
    }),
    bytes("write through io_uring", |place| done(raw::write_by_ring(&open(place)?, b"by io_uring", 5_000))),
    aio("write through aio to a clean page", |place| {
        clean(place)?;
        done(raw::write_by_aio(&open(place)?, b"by aio", 5_000))
    }),
    aio("write through aio to a page already dirty", |place| {
        clean(place)?;
        let file = open(place)?;
        file.write_all_at(b"by write()", 5_000)?;
        later(move || raw::write_by_aio(&file, b"by aio", 5_000))
    }),
    aio("direct write through aio", |place| {
        clean(place)?;
        done(raw::write_by_aio(&direct(&place.at("file"))?, &page(4)?, 4_096))
    }),
    bytes("sendfile", |place| {
        let (from, to) = (File::open(place.at("other"))?, open(place)?);
        done(whole(rustix::fs::sendfile(&to, &from, Some(&mut 100), 5_000)?, 5_000))
    }),
    bytes("splice", |place| {
        let (mut reader, mut writer) = io::pipe()?;
        writer.write_all(b"through a pipe")?;
        let flags = rustix::pipe::SpliceFlags::empty();
        let moved = rustix::pipe::splice(&mut reader, None, open(place)?, Some(&mut 5_000), 14, flags)?;
        done(whole(moved, 14))
    }),
    bytes("copy_file_range", |place| {
        let (from, to) = (File::open(place.at("other"))?, open(place)?);
        let (mut begin, mut end) = (0, 4_096);
        done(whole(rustix::fs::copy_file_range(&from, Some(&mut begin), &to, Some(&mut end), 8_192)?, 8_192))
    }),
    bytes("reflink", |place| {
        let (from, to) = (File::open(place.at("other"))?, open(place)?);
        done(Ok(rustix::fs::ioctl_ficlone(to, from)?))
    }),
    bytes("fallocate", |place| allocate(place, FallocateFlags::empty(), 0, 2 * SIZE)),
    bytes("punch a hole", |place| {
        allocate(place, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 8_192, 8_192)
    }),
    bytes("zero a range", |place| allocate(place, FallocateFlags::ZERO_RANGE, 8_192, 8_192)),
    bytes("collapse a range", |place| allocate(place, FallocateFlags::COLLAPSE_RANGE, 8_192, 8_192)),
    bytes("insert a range", |place| allocate(place, FallocateFlags::INSERT_RANGE, 8_192, 8_192)),
    bytes("truncate to less", |place| done(open(place)?.set_len(5_000))),
    bytes("truncate to more", |place| done(open(place)?.set_len(3 * SIZE as u64))),
    bytes("open with O_TRUNC", |place| {
        done(OpenOptions::new().write(true).truncate(true).open(place.at("file")).map(drop))
    }),
    bytes("write through a bind mount", |place| {
        let view = crate::Scratch::new("view");
        rustix::mount::mount_bind(&place.dir, view.path())?;
        done(open_at(&view.path().join("file"))?.write_all_at(b"through another mount", 5_000))
    }),
    bytes("write through another mount namespace", |place| {
        let view = crate::Scratch::new("view");
        let script =
            "mount --bind \"$1\" \"$2\" && printf elsewhere | dd of=\"$2/file\" bs=1 seek=5000 conv=notrunc";
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        drop(crate::run(shell.arg(&place.dir).arg(view.path())));
        Ok(None)
    }),
];

fn done(result: io::Result<()>) -> io::Result<Later> {
    result.map(|()| None)
}

#[expect(clippy::unnecessary_wraps, reason = "the form of a change's end")]
fn later(step: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Later> {
    Ok(Some(Box::new(step)))
}

fn open(place: &Place) -> io::Result<File> {
    open_at(&place.at("file"))
}

fn open_at(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn direct(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path)
}

/// Memory as O_DIRECT wants it.
fn page(byte: u8) -> io::Result<MmapMut> {
    let mut page = MmapMut::map_anon(4_096)?;
    page.fill(byte);
    Ok(page)
}

/// Every page of the file is written back.
fn clean(place: &Place) -> io::Result<()> {
    open(place)?.sync_all()
}

fn allocate(place: &Place, flags: FallocateFlags, from: u64, length: usize) -> io::Result<Later> {
    done(Ok(rustix::fs::fallocate(open(place)?, flags, from, length as u64)?))
}

fn whole(moved: usize, wanted: usize) -> io::Result<()> {
    if moved == wanted { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
