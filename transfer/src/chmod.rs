//! `--chmod`: how the modes that are sent differ from those on disk.

use ebbtide_wire::flist::mode;

/// Changes of modes, in rsync's words: `Dg+s,ug+w,Fo-w,+X`, `D2775,F664`. The default changes nothing.
///
/// Each clause is an octal number, or whom it is about (`u`, `g`, `o`, `a`), `+`, `-` or `=`, and permissions (`r`,
/// `w`, `x`, `X`, `s`, `t`). `D` makes it one for directories only, `F` one for all but directories. Where nobody is
/// named everybody is meant, but bits of the umask stay as they are. In place of permissions one class may stand whose
/// permissions are copied: `g=u`, `o-g`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chmod {
    clauses: Vec<Clause>,
}

/// What `--chmod` does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid argument passed to --chmod ({0})")]
pub struct BadChmod(pub String);

/// One clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clause {
    only: Only,
    action: Action,
}

/// What a clause does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Leaves the bits in `keep` and sets those in `set`. `execute_kept` is for `X`: execute bits are set for
    /// directories, and where some were set before.
    Bits { keep: u32, set: u32, execute_kept: bool },
    /// Gives, takes or sets what the class `from` (its shift in bits) has at that time.
    Copy { operator: u8, from: u32, classes: u32, mask: u32 },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Only {
    #[default]
    All,
    Directories,
    Others,
}

/// Whom a clause is about.
#[derive(Clone, Copy, Debug, Default)]
struct Who {
    /// One of 0o100, 0o010 and 0o001 for each class.
    classes: u32,
    /// Setuid and setgid bits of those classes.
    special: u32,
}

impl Chmod {
    /// Adds the clauses of one `--chmod`; `umask` is this process's.
    ///
    /// # Errors
    /// It cannot be understood.
    pub fn add(&mut self, text: &str, umask: u32) -> Result<(), BadChmod> {
        for clause in text.split(',') {
            let clause = Clause::parse(clause.as_bytes(), umask).ok_or_else(|| BadChmod(text.to_owned()))?;
            self.clauses.push(clause);
        }
        Ok(())
    }

    /// The mode that is sent for this one. Symlinks, and names to be removed, keep theirs.
    #[must_use]
    pub fn apply(&self, before: u32) -> u32 {
        let kind = before & mode::TYPE;
        if before == 0 || kind == mode::SYMLINK {
            return before;
        }
        let clauses = self.clauses.iter().filter(|clause| clause.concerns(kind));
        clauses.fold(before, |now, clause| clause.apply(now, before))
    }
}

impl Clause {
    fn parse(text: &[u8], umask: u32) -> Option<Clause> {
        let (only, text) = prefix(text)?;
        if text.first().is_some_and(u8::is_ascii_digit) {
            let action = Action::Bits { keep: 0, set: octal(text)?, execute_kept: false };
            return Some(Clause { only, action });
        }
        let at = text.iter().position(|byte| matches!(byte, b'+' | b'-' | b'='))?;
        let (who, only) = who(&text[..at], only)?;
        let (operator, what) = (text[at], &text[at + 1..]);
        let action = match what {
            [b'u'] => Action::copy(operator, 6, who, umask),
            [b'g'] => Action::copy(operator, 3, who, umask),
            [b'o'] => Action::copy(operator, 0, who, umask),
            letters => Action::bits(operator, permissions(letters, who)?, who, umask),
        };
        Some(Clause { only, action })
    }

    fn concerns(&self, kind: u32) -> bool {
        match self.only {
            Only::All => true,
            Only::Directories => kind == mode::DIRECTORY,
            Only::Others => kind != mode::DIRECTORY,
        }
    }

    /// `before` is the mode on disk, `now` what earlier clauses made of it.
    fn apply(&self, now: u32, before: u32) -> u32 {
        let kind = before & mode::TYPE;
        kind | match self.action {
            Action::Bits { keep, set, execute_kept } => {
                let no_execute = execute_kept && before & 0o111 == 0 && kind != mode::DIRECTORY;
                now & keep | if no_execute { set & !0o111 } else { set }
            }
            Action::Copy { operator, from, classes, mask } => {
                let bits = (classes * (now >> from & 7)) & mask;
                match operator {
                    b'+' => now | bits,
                    b'-' => now & !bits,
                    _ => now & !((classes * 7) | special_of(classes)) | bits,
                }
            }
        }
    }
}

impl Action {
    fn bits(operator: u8, what: What, who: Who, umask: u32) -> Action {
        let (classes, mask) = who.or_everybody(umask);
        let bits = ((classes * what.permissions) & mask) | what.special;
        let (keep, set) = match operator {
            b'+' => (ALL, bits),
            b'-' => (ALL & !bits, 0),
            _ => {
                let special = if what.special == 0 { 0 } else { who.special };
                (ALL & !(classes * 7) & !special, bits)
            }
        };
        Action::Bits { keep, set, execute_kept: what.execute_kept }
    }

    fn copy(operator: u8, from: u32, who: Who, umask: u32) -> Action {
        let (classes, mask) = who.or_everybody(umask);
        Action::Copy { operator, from, classes, mask }
    }
}

impl Who {
    /// The classes, and the bits that may be touched.
    fn or_everybody(self, umask: u32) -> (u32, u32) {
        if self.classes == 0 { (0o111, ALL & !umask) } else { (self.classes, ALL) }
    }
}

/// Of these classes: setuid of the user, setgid of the group, sticky of the others.
fn special_of(classes: u32) -> u32 {
    let bits = [(0o100, 0o4000), (0o010, 0o2000), (0o001, 0o1000)];
    bits.into_iter().filter(|(class, _)| classes & class != 0).map(|(_, special)| special).sum()
}

/// `D` and `F`, which stand in front of a number; in front of letters they may stand among them.
fn prefix(text: &[u8]) -> Option<(Only, &[u8])> {
    let mut only = Only::All;
    let mut rest = text;
    while let [letter @ (b'D' | b'F'), tail @ ..] = rest {
        only = only.narrowed(*letter)?;
        rest = tail;
    }
    Some((only, rest))
}

impl Only {
    fn narrowed(self, letter: u8) -> Option<Only> {
        match (letter, self) {
            (b'D', Only::All | Only::Directories) => Some(Only::Directories),
            (b'F', Only::All | Only::Others) => Some(Only::Others),
            _ => None,
        }
    }
}

fn octal(text: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(text).ok()?;
    u32::from_str_radix(digits, 8).ok().filter(|bits| *bits <= ALL)
}

fn who(letters: &[u8], mut only: Only) -> Option<(Who, Only)> {
    let mut who = Who::default();
    for letter in letters {
        let (classes, special) = match letter {
            b'u' => (0o100, 0o4000),
            b'g' => (0o010, 0o2000),
            b'o' => (0o001, 0),
            b'a' => (0o111, 0o6000),
            letter => {
                only = only.narrowed(*letter)?;
                (0, 0)
            }
        };
        who.classes |= classes;
        who.special |= special;
    }
    Some((who, only))
}

/// Permissions of a clause.
#[derive(Clone, Copy, Debug, Default)]
struct What {
    /// For one class: 0 to 7.
    permissions: u32,
    /// Setuid, setgid and sticky bits.
    special: u32,
    execute_kept: bool,
}

fn permissions(letters: &[u8], who: Who) -> Option<What> {
    let mut what = What::default();
    for letter in letters {
        match letter {
            b'r' => what.permissions |= 4,
            b'w' => what.permissions |= 2,
            b'x' => what.permissions |= 1,
            b'X' => {
                what.permissions |= 1;
                what.execute_kept = true;
            }
            b's' if who.special == 0 => what.special = 0o4000,
            b's' => what.special |= who.special,
            b't' => what.special |= 0o1000,
            _ => return None,
        }
    }
    Some(what)
}

/// This process's umask, read without a moment in which it is another one.
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(USUAL_UMASK)
}

/// What is taken for the umask where there is no /proc.
const USUAL_UMASK: u32 = 0o022;

/// All bits that `chmod` knows.
const ALL: u32 = 0o7777;

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str, before: u32) -> u32 {
        let mut chmod = Chmod::default();
        chmod.add(text, 0o022).unwrap();
        chmod.apply(before)
    }

    #[test]
    fn numbers_and_letters_change_what_they_name() {
        let (file, dir) = (0o100_640, 0o040_750);
        assert_eq!(changed("D2775,F664", file), 0o100_664);
        assert_eq!(changed("D2775,F664", dir), 0o042_775);
        assert_eq!(changed("Dg+s,ug+w,Fo-w,+X", file), 0o100_660);
        assert_eq!(changed("Dg+s,ug+w,Fo-w,+X", dir), 0o042_771);
        assert_eq!(changed("a=rX", 0o100_700), 0o100_555);
        assert_eq!(changed("go=,u+s", file), 0o104_600);
        assert_eq!(changed("uDg-w", dir), 0o040_550);
    }

    #[test]
    fn where_nobody_is_named_the_umask_holds() {
        assert_eq!(changed("+w", 0o100_444), 0o100_644);
        assert_eq!(changed("a+w", 0o100_444), 0o100_666);
        assert_eq!(changed("=r", 0o100_777), 0o100_444);
    }

    #[test]
    fn permissions_are_copied_from_what_a_class_has_by_then() {
        assert_eq!(changed("g=u", 0o100_640), 0o100_660);
        assert_eq!(changed("g=u", 0o102_640), 0o100_660);
        assert_eq!(changed("u=r,g=u", 0o100_751), 0o100_441);
        assert_eq!(changed("=u", 0o107_777), 0o100_755);
        assert_eq!(changed("a-o", 0o107_777), 0o107_000);
        assert_eq!(changed("+u", 0o100_751), 0o100_755);
    }

    #[test]
    fn symlinks_and_names_to_be_removed_stay_as_they_are() {
        assert_eq!(changed("a=", 0o120_777), 0o120_777);
        assert_eq!(changed("a+rwx", 0), 0);
        assert_eq!(Chmod::default().apply(0o100_644), 0o100_644);
    }

    #[test]
    fn what_no_rsync_understands_is_refused() {
        for text in
            ["", "u", "u+q", "DF+x", "888", "77777", "u+x,", "z+x", "+x+w", "u7", "g=ur", "o=ug", "g=us"]
        {
            assert!(Chmod::default().add(text, 0).is_err(), "{text}");
        }
    }
}
