//! Loads the eBPF programs and shows what attached. `marks DIR…` then prints each inode that changes on the file
//! systems of the directories, until interrupted; `marks --pin BPFFS_DIR DIR…` pins programs and maps and ends;
//! `marks --no-ends DIR…` leaves out the hooks at the end of writes, to see what they cost.

use std::{os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use ebbtide::probe::bpf::{Bpf, Dev, Options, Place, Record, State};

fn main() -> Result<()> {
    let mut dirs: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut options = Options::default();
    if dirs.first().is_some_and(|arg| arg.as_os_str() == "--pin") {
        let pin = dirs.drain(..2.min(dirs.len())).next_back();
        options.pin = pin;
    }
    let start = std::time::Instant::now();
    let mut bpf = Bpf::load(&options)?;
    eprintln!("loaded and attached in {:?}", start.elapsed());
    for program in bpf.programs() {
        match &program.state {
            State::Attached => println!("attached {}: {}", program.hook.name, program.hook.purpose),
            State::Refused(why) => println!("not attached {}: {why}", program.hook.name),
        }
    }
    for dir in &dirs {
        let dev = device(dir)?;
        let slot = bpf.enable(dev)?;
        println!("marking {}:{} ({}) in slot {}", dev.major, dev.minor, dir.display(), slot.index());
    }
    if options.pin.is_some() {
        return Ok(());
    }
    loop {
        std::thread::sleep(Duration::from_millis(200));
        round(&mut bpf)?;
    }
}

/// One flip, and what it brought.
fn round(bpf: &mut Bpf) -> Result<()> {
    let epoch = bpf.flip()?;
    bpf.read_ring(show);
    for (slot, marks) in bpf.old_side()? {
        let (changed, data, mapped) = (marks.changed.len(), marks.data.len(), marks.mapped.len());
        println!("{epoch:?} slot {}: {changed} changed, {data} data, {mapped} mapped", slot.index());
    }
    for taint in bpf.taints() {
        println!("{taint:?}");
    }
    bpf.log();
    Ok(bpf.clear_old()?)
}

fn show(record: Record<'_>) {
    let Record { ino, generation, mode, nlink, alias, .. } = record;
    let place = match record.place {
        Place::Nameless => "no name".to_owned(),
        Place::Root => "the root".to_owned(),
        Place::In { parent_ino, parent_generation, name } => {
            format!("{parent_ino}.{parent_generation} \"{}\"", name.escape_ascii())
        }
    };
    println!("  {ino}.{generation} mode {mode:o} nlink {nlink} alias {alias}: {place}");
}

/// The device of a directory. Right where `st_dev` is the super block's number, so not on btrfs.
fn device(dir: &PathBuf) -> Result<Dev> {
    let dev = std::fs::metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?.dev();
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    if major == 0 {
        bail!(
            "{} is on a file system without a block device, which needs its number from mountinfo",
            dir.display()
        );
    }
    Ok(Dev { major, minor })
}
