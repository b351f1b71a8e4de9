//! What tracefs tells about tracepoints: the values of kernel macros, which BTF does not have.

use std::{fs::File, io::Read};

use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

use super::{Named, Result};

/// A tracefs that is mounted nowhere.
#[derive(Debug)]
pub struct Tracefs(OwnedFd);

impl Tracefs {
    /// Opens the kernel's tracefs without mounting it in anybody's view (Linux 5.2).
    ///
    /// # Errors
    ///
    /// When the kernel has none, or we may not.
    pub fn open() -> Result<Self> {
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC).named("fsopen")?;
        fsconfig_create(&context).named("fsconfig")?;
        let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY);
        Ok(Tracefs(root.named("fsmount")?))
    }

    /// The description of a tracepoint, `group/name`.
    ///
    /// # Errors
    ///
    /// When there is no such tracepoint.
    pub fn format(&self, tracepoint: &str) -> Result<String> {
        let path = format!("events/{tracepoint}/format");
        let file = openat(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).named("openat")?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).named("read")?;
        Ok(text)
    }
}

/// The value that a tracepoint's description prints as `label`: `{ (1 << 18), "WRITE" }` gives 0x40000.
/// `None` when it is not there, or not a number (an enumerator's name, say).
pub fn printed_value(format: &str, label: &str) -> Option<u32> {
    let quoted = format!("\"{label}\"");
    let (before, _) = format.split_once(&quoted)?;
    let expression = before.trim_end().strip_suffix(',')?.rsplit('{').next()?;
    value(&expression.replace(['(', ')'], ""))
}

fn value(expression: &str) -> Option<u32> {
    match expression.split_once("<<") {
        Some((base, shift)) => number(base)?.checked_shl(number(shift)?),
        None => number(expression),
    }
}

fn number(text: &str) -> Option<u32> {
    let text = text.trim().trim_end_matches(['u', 'U', 'l', 'L']);
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macro_is_read_from_what_the_tracepoint_prints() {
        let format = r#"__print_flags(REC->flags, "|", { (1 << 0), "I_DIRTY_SYNC"}, {((1UL << 2)), "I_DIRTY_PAGES"}, {0x40, "X" })"#;
        assert_eq!(printed_value(format, "I_DIRTY_PAGES"), Some(4));
        assert_eq!(printed_value(format, "I_DIRTY_SYNC"), Some(1));
        assert_eq!(printed_value(format, "X"), Some(0x40));
    }

    #[test]
    fn an_enumerator_or_a_missing_label_has_no_printed_value() {
        let format = r#"{I_DIRTY_PAGES, "I_DIRTY_PAGES"}, "WRITE""#;
        assert_eq!(printed_value(format, "I_DIRTY_PAGES"), None);
        assert_eq!(printed_value(format, "WRITE"), None);
        assert_eq!(printed_value(format, "READ"), None);
        assert_eq!(printed_value("", "READ"), None);
    }
}
