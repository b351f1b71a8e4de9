//! Finds where the running kernel keeps what the programs read. This file and `kernel.rs` of the programs are the
//! only ones that know the kernel's structures.

use std::{borrow::Cow, path::Path};

use ebbtide_abi::{Layout, NO_FIELD};

use crate::sys::{
    bpf_format::{Tracefs, printed_value},
    btf::{Btf, BtfError},
};

/// The kernel's types, as far as we ask for them.
pub(super) fn kernel_types() -> Result<Btf, BtfError> {
    let structs = ["inode", "super_block", "address_space", "dentry", "kiocb", "file", "path"];
    Btf::read(Path::new(VMLINUX), &[&structs[..], &BTRFS, &XFS].concat())
}

/// The types of a file system, which is a module on many kernels. Where it is not loaded, nobody needs them.
fn of_module<'a>(btf: &'a Btf, module: &str, structs: &[&'static str]) -> Cow<'a, Btf> {
    let path = Path::new(TYPES).join(module);
    if !path.exists() {
        return Cow::Borrowed(btf);
    }
    match btf.with_module(&path, structs) {
        Ok(both) => Cow::Owned(both),
        Err(error) => {
            tracing::warn!(module, %error, "the types of a kernel module cannot be read");
            Cow::Borrowed(btf)
        }
    }
}

/// Looks up every field.
pub(super) fn find(btf: &Btf) -> Result<Layout, BtfError> {
    let atime = time(btf, ["i_atime_sec", "i_atime_nsec", "i_atime", "__i_atime"])?;
    let mtime = time(btf, ["i_mtime_sec", "i_mtime_nsec", "i_mtime", "__i_mtime"])?;
    let ctime = time(btf, ["i_ctime_sec", "i_ctime_nsec", "i_ctime", "__i_ctime"])?;
    let (btrfs, xfs) = (of_module(btf, "btrfs", &BTRFS), of_module(btf, "xfs", &XFS));
    Ok(Layout {
        inode_ino: btf.field_of_size("inode", &["i_ino"], 8)?,
        inode_sb: btf.field_of_size("inode", &["i_sb"], 8)?,
        inode_generation: btf.field_of_size("inode", &["i_generation"], 4)?,
        inode_nlink: btf.field_of_size("inode", &["i_nlink"], 4)?,
        inode_mode: btf.field_of_size("inode", &["i_mode"], 2)?,
        inode_atime_sec: atime[0],
        inode_atime_nsec: atime[1],
        inode_mtime_sec: mtime[0],
        inode_mtime_nsec: mtime[1],
        inode_ctime_sec: ctime[0],
        inode_ctime_nsec: ctime[1],
        inode_mapping: btf.field_of_size("inode", &["i_mapping"], 8)?,
        inode_dentry: btf.field_of_size("inode", &["i_dentry", "first"], 8)?,
        mapping_mmap_writable: btf.field_of_size("address_space", &["i_mmap_writable"], 4)?,
        sb_dev: btf.field_of_size("super_block", &["s_dev"], 4)?,
        dentry_parent: btf.field_of_size("dentry", &["d_parent"], 8)?,
        dentry_inode: btf.field_of_size("dentry", &["d_inode"], 8)?,
        dentry_name_len: btf.field_of_size("dentry", &["d_name", "len"], 4)?,
        dentry_name: btf.field_of_size("dentry", &["d_name", "name"], 8)?,
        dentry_seq: btf.field("dentry", &["d_seq"])?.offset,
        dentry_alias: btf.field_of_size("dentry", &["d_u", "d_alias", "next"], 8)?,
        kiocb_file: optional(btf, "kiocb", &["ki_filp"]),
        file_inode: optional(btf, "file", &["f_inode"]),
        file_mode: optional(btf, "file", &["f_mode"]),
        path_dentry: optional(btf, "path", &["dentry"]),
        event_path: event(btf, "FSNOTIFY_EVENT_PATH"),
        event_inode: event(btf, "FSNOTIFY_EVENT_INODE"),
        event_dentry: event(btf, "FSNOTIFY_EVENT_DENTRY"),
        btrfs_vnode: optional(&btrfs, "btrfs_inode", &["vfs_inode"]),
        btrfs_root: optional(&btrfs, "btrfs_inode", &["root"]),
        btrfs_root_id: optional(&btrfs, "btrfs_root", &["root_key", "objectid"]),
        xfs_vnode: optional(&xfs, "xfs_inode", &["i_vnode"]),
        dirty_pages: dirty_pages(btf),
        plain_loads: 1,
    })
}

/// Offsets of seconds and nanoseconds of one of the inode's times: `i_mtime_sec` and `i_mtime_nsec` since 6.11, before
/// that a `timespec64`, which some kernels name `__i_mtime`.
fn time(btf: &Btf, [sec, nsec, plain, hidden]: [&'static str; 4]) -> Result<[u32; 2], BtfError> {
    if btf.field("inode", &[sec]).is_ok() {
        return Ok([btf.field_of_size("inode", &[sec], 8)?, btf.field("inode", &[nsec])?.offset]);
    }
    let name = if btf.field("inode", &[hidden]).is_ok() { hidden } else { plain };
    Ok([btf.field_of_size("inode", &[name, "tv_sec"], 8)?, btf.field("inode", &[name, "tv_nsec"])?.offset])
}

fn optional(btf: &Btf, of: &'static str, members: &[&str]) -> u32 {
    btf.field(of, members).map_or(NO_FIELD, |field| field.offset)
}

/// One of `enum fsnotify_data_type`, whose values have moved.
fn event(btf: &Btf, name: &str) -> u32 {
    btf.enumerator(name).and_then(|value| u32::try_from(value).ok()).unwrap_or(NO_FIELD)
}

/// `I_DIRTY_PAGES`: an enumerator in newer kernels, before that a macro, which the tracepoint's own description
/// spells out. Without tracefs we take both values it has had as a macro, bit 2 and since 6.12 bit 5: what the other
/// bit meant in either time is never passed to the tracepoint.
fn dirty_pages(btf: &Btf) -> u32 {
    let enumerator = btf.enumerator("I_DIRTY_PAGES").and_then(|value| u32::try_from(value).ok());
    enumerator
        .or_else(|| printed("writeback/writeback_mark_inode_dirty", "I_DIRTY_PAGES"))
        .unwrap_or(1 << 2 | 1 << 5)
}

fn printed(tracepoint: &str, label: &str) -> Option<u32> {
    printed_value(&Tracefs::open().ok()?.format(tracepoint).ok()?, label)
}

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const TYPES: &str = "/sys/kernel/btf";

/// Structures of btrfs that are looked up.
const BTRFS: [&str; 2] = ["btrfs_inode", "btrfs_root"];

/// Those of XFS.
const XFS: [&str; 1] = ["xfs_inode"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_field_that_the_programs_need() {
        if !Path::new(VMLINUX).exists() {
            return;
        }
        let layout = find(&kernel_types().unwrap()).unwrap();
        assert_ne!(layout.dirty_pages, 0);
        assert_ne!(layout.inode_mtime_sec, layout.inode_ctime_sec);
        assert!(layout.inode_ino > 0 && layout.dentry_name > 0);
    }
}
