//! rsync's item strings: `<f.st......`.

use ebbtide_wire::sender::Iflags;
use rustix::fs::FileType;

/// What of the session's options the letters depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Whether modification times are preserved.
    pub(super) kept: bool,
    /// Whether the receiver can set those of symlinks.
    pub(super) of_links: bool,
}

/// The eleven letters for an entry that is sent.
///
/// Peer: rsync's manual page, option `--itemize-changes`.
pub(super) fn letters(kind: FileType, flags: Iflags, times: Times) -> String {
    let link = kind == FileType::Symlink;
    let mut out = String::with_capacity(11);
    out.push(action(flags));
    out.push(kind_letter(kind));
    let first = action(flags);
    if flags.has(Iflags::IS_NEW) {
        out.push_str("+++++++++");
        return out;
    }
    let mark = |flag: u16, letter: char| if flags.has(flag) { letter } else { '.' };
    let not_kept = !times.kept || link && (!times.of_links || flags.has(Iflags::SIZE));
    let marks = [
        mark(Iflags::CHANGE, 'c'),
        if link { '.' } else { mark(Iflags::SIZE, 's') },
        mark(Iflags::TIME, if not_kept { 'T' } else { 't' }),
        mark(Iflags::PERMS, 'p'),
        mark(Iflags::OWNER, 'o'),
        mark(Iflags::GROUP, 'g'),
        time_mark(flags, link),
        mark(Iflags::ACL, 'a'),
        mark(Iflags::XATTR, 'x'),
    ];
    let blank = first != '<' && marks.iter().all(|mark| *mark == '.');
    out.extend(marks.iter().map(|mark| if blank { ' ' } else { *mark }));
    out
}

fn action(flags: Iflags) -> char {
    if flags.has(Iflags::LOCAL_CHANGE) {
        if flags.has(Iflags::XNAME_FOLLOWS) { 'h' } else { 'c' }
    } else if flags.has(Iflags::TRANSFER) {
        '<'
    } else {
        '.'
    }
}

fn kind_letter(kind: FileType) -> char {
    match kind {
        FileType::Directory => 'd',
        FileType::Symlink => 'L',
        FileType::CharacterDevice | FileType::BlockDevice => 'D',
        FileType::Fifo | FileType::Socket => 'S',
        _ => 'f',
    }
}

fn time_mark(flags: Iflags, link: bool) -> char {
    match (flags.has(Iflags::ATIME), flags.has(Iflags::CRTIME)) {
        (true, true) => 'b',
        (false, true) => 'n',
        (true, false) if link => 'U',
        (true, false) => 'u',
        (false, false) => '.',
    }
}

/// The flags that make an item worth showing: all but those that only say how it is encoded or done.
pub(super) fn significant(flags: Iflags) -> bool {
    flags.has(!(Iflags::BASIS_TYPE_FOLLOWS | Iflags::XNAME_FOLLOWS | Iflags::LOCAL_CHANGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { kept: true, of_links: true };

    fn file(flags: u16) -> String {
        letters(FileType::RegularFile, Iflags(flags), TIMES)
    }

    #[test]
    fn files_show_what_differs() {
        assert_eq!(file(Iflags::TRANSFER | Iflags::IS_NEW), "<f+++++++++");
        assert_eq!(file(Iflags::TRANSFER | Iflags::SIZE | Iflags::TIME), "<f.st......");
        assert_eq!(file(Iflags::PERMS), ".f...p.....");
        assert_eq!(file(0), ".f         ");
        assert_eq!(file(Iflags::TRANSFER), "<f.........");
    }

    #[test]
    fn local_changes_are_told_apart() {
        let made = letters(FileType::Directory, Iflags(Iflags::LOCAL_CHANGE | Iflags::IS_NEW), TIMES);
        assert_eq!(made, "cd+++++++++");
        assert_eq!(file(Iflags::LOCAL_CHANGE | Iflags::XNAME_FOLLOWS), "hf         ");
    }

    #[test]
    fn times_that_are_not_kept_are_capital() {
        let times = Times { kept: false, of_links: true };
        assert_eq!(
            letters(FileType::RegularFile, Iflags(Iflags::TRANSFER | Iflags::TIME), times),
            "<f..T......"
        );
        let times = Times { kept: true, of_links: false };
        assert_eq!(letters(FileType::Symlink, Iflags(Iflags::TIME), times), ".L..T......");
    }
}
