//! A fanotify queue that another process began.

use std::os::fd::{AsRawFd, OwnedFd};

use fanotify_fid::Fanotify;

/// Takes a descriptor for a queue, if it is one that reports with these flags of `fanotify_init(2)` and hears at least
/// `mask` of the whole file system with this device number (`super_block.s_dev`). A queue hears nothing any more of a
/// file system that was unmounted since, even if it was mounted again.
pub fn adopt(fd: OwnedFd, device: u32, mask: u64, flags: u32) -> Option<Fanotify> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    if !hears(&info, device, mask, flags) {
        return None;
    }
    // SAFETY: the kernel has just described this descriptor, which nobody else holds a number for, as a fanotify queue.
    Some(unsafe { Fanotify::from_fd(fd) })
}

/// Lines such as `fanotify flags:9210 event-flags:0` and `fanotify sdev:700001 mflags:0 mask:50000300 ignored_mask:0`;
/// see proc_pid_fdinfo(5). All numbers are in base 16.
fn hears(info: &str, device: u32, mask: u64, flags: u32) -> bool {
    let lines: Vec<_> = info.lines().filter_map(|line| line.strip_prefix("fanotify ")).collect();
    let flags = u64::from(flags);
    let reports = |line: &&str| field(line, "flags").is_some_and(|has| has & flags == flags);
    let hears = |line: &&str| {
        field(line, "sdev") == Some(u64::from(device))
            && field(line, "mask").is_some_and(|has| has & mask == mask)
    };
    lines.iter().any(reports) && lines.iter().any(hears)
}

fn field(line: &str, name: &str) -> Option<u64> {
    let value = line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix(':'))?;
    u64::from_str_radix(value, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_known_by_what_it_reports_and_hears() {
        let info = "pos:\t0\nflags:\t02004002\nfanotify flags:9e10 event-flags:0\n\
                    fanotify sdev:700001 mflags:0 mask:50000300 ignored_mask:0\n";
        assert!(hears(info, 0x70_0001, 0x5000_0300, 0x9e10));
        assert!(hears(info, 0x70_0001, 0x300, 0x10));
        assert!(!hears(info, 0x70_0002, 0x300, 0x10));
        assert!(!hears(info, 0x70_0001, 0x302, 0x10));
        assert!(!hears(info, 0x70_0001, 0x300, 0x1_0000));
        assert!(!hears("pos:\t0\n", 0, 0, 0));
    }
}
