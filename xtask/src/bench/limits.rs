//! `limits`: what this machine's memory, loopback, checksum, compressor and file system give by themselves, on one processor,
//! in calls as the harness makes them: the order of magnitude that a sender's costs can be held against.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, open, openat, statat};
use rustix::io::pread;
use rustix::time::{ClockId, clock_gettime};
use twox_hash::XxHash3_128;

use super::Bench;
use super::report::Run;
use super::transfer::Text;
use super::trees::Trees;
use crate::world::table::{Table, count, three_digits};

/// Bytes that each piece of work handles; far more than the caches hold.
const LENGTH: usize = 256 << 20;

/// Bytes in one write to a socket, about what the sender gathers.
const WRITE: usize = 1 << 20;

type Work = fn(&[u8]) -> Result<usize>;

const ALL: [(&str, &str, Work); 6] = [
    ("copy", "copying in memory", copy),
    ("xxh128", "xxh128, the checksum of files", hash),
    ("loopback", "writing to a socket on loopback, while another process reads", write_to_loopback),
    ("zstd-1", "zstd level 1, frames of 8 MiB of text", |bytes| compress(bytes, 1)),
    ("zstd-2", "zstd level 2", |bytes| compress(bytes, 2)),
    ("zstd-3", "zstd level 3", |bytes| compress(bytes, 3)),
];

/// Measures and reports.
pub(super) fn measure(bench: &Bench, trees: &mut Trees, run: &mut Run) -> Result<()> {
    run.columns(&["round", "work", "bytes", "processor_s", "made_bytes"]);
    let text = Text::new().pages(LENGTH);
    let mut table = Table::new(1, &["work", "processor time for 1 GiB", "GB/s", "made of 100 bytes"]);
    for (word, title, work) in ALL {
        let mut best = f64::MAX;
        let mut made = 0;
        for round in 0..bench.rounds(3) {
            let before = processor_time();
            made = work(&text)?;
            let seconds = processor_time() - before;
            let cells = [LENGTH.to_string(), format!("{seconds:.4}"), made.to_string()];
            run.figures(&[&[round.to_string(), word.to_owned()][..], &cells[..]].concat());
            best = best.min(seconds);
        }
        table.row(vec![
            title.to_owned(),
            format!("{} s", three_digits(best * (1 << 30) as f64 / LENGTH as f64)),
            three_digits(LENGTH as f64 / 1e9 / best),
            if made == 0 { "-".to_owned() } else { three_digits(made as f64 * 100.0 / LENGTH as f64) },
        ]);
    }
    run.table("what one processor does by itself", &table);
    run.say(" The best of the rounds. The libraries are those of the sender, or its language's own.");
    small_files(bench, trees, run)
}

/// What listing and reading many small files takes, with the fewest system calls that tell what a sender must know.
fn small_files(bench: &Bench, trees: &mut Trees, run: &mut Run) -> Result<()> {
    let stage = trees.stage(bench.options.named)?;
    let mut best = f64::MAX;
    let mut read = 0;
    for round in 0..bench.rounds(3) {
        let before = processor_time();
        read = read_tree(&stage.source())?;
        let seconds = processor_time() - before;
        run.figures(&[
            round.to_string(),
            "small-files".to_owned(),
            read.to_string(),
            format!("{seconds:.4}"),
            "0".to_owned(),
        ]);
        best = best.min(seconds);
    }
    let each = best * 1e6 / read.max(1) as f64;
    run.say(&format!(
        " Listing, looking at, opening, looking at, reading and closing {} small files of an ext4 tree, caches warm: {} s, {} us each.",
        count(read),
        three_digits(best),
        three_digits(each)
    ));
    Ok(())
}

/// The number of regular files below a folder, each of which was read.
fn read_tree(root: &Path) -> Result<u64> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut pending = vec![open(root, flags | OFlags::DIRECTORY, Mode::empty()).context("open the tree")?];
    let mut buffer = vec![0; 64 << 10];
    let mut files = 0;
    while let Some(folder) = pending.pop() {
        for entry in Dir::read_from(&folder).context("list a folder")? {
            let entry = entry.context("list a folder")?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let seen = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).context("look at a name")?;
            match FileType::from_raw_mode(seen.st_mode) {
                FileType::Directory => {
                    let below = openat(&folder, name, flags | OFlags::DIRECTORY, Mode::empty());
                    pending.push(below.context("open a folder")?);
                }
                FileType::RegularFile => {
                    let file = openat(&folder, name, flags, Mode::empty()).context("open a file")?;
                    black_box(fstat(&file).context("look at a file")?);
                    black_box(pread(&file, &mut buffer, 0).context("read a file")?);
                    files += 1;
                }
                _ => {}
            }
        }
    }
    Ok(files)
}

fn copy(bytes: &[u8]) -> Result<usize> {
    let mut there = vec![1; 8 << 20];
    for part in bytes.chunks(there.len()) {
        there[..part.len()].copy_from_slice(part);
    }
    black_box(&there);
    Ok(0)
}

fn hash(bytes: &[u8]) -> Result<usize> {
    black_box(XxHash3_128::oneshot(bytes));
    Ok(0)
}

fn compress(bytes: &[u8], level: i32) -> Result<usize> {
    let mut compressor = zstd::bulk::Compressor::new(level).context("make a compressor")?;
    let mut made = 0;
    for part in bytes.chunks(8 << 20) {
        made += compressor.compress(part).context("compress")?.len();
    }
    Ok(made)
}

/// The reader is a thread of its own, whose time does not count.
fn write_to_loopback(bytes: &[u8]) -> Result<usize> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let mut socket =
        TcpStream::connect(listener.local_addr().context("find the port")?).context("connect")?;
    let (mut peer, _) = listener.accept().context("accept")?;
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while peer.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    for part in bytes.chunks(WRITE) {
        socket.write_all(part).context("write to loopback")?;
    }
    drop(socket);
    match reader.join() {
        Ok(()) => Ok(0),
        Err(_) => bail!("the reader panicked"),
    }
}

/// User and system time of this thread, in seconds.
fn processor_time() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
