//! Which symlinks are followed, and which are sent as what they are.

/// Options about symlinks. By default none is followed, and targets are sent as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// `-L`: all are followed.
    pub all: bool,
    /// `--copy-unsafe-links`: those that lead out of the tree are followed.
    pub leading_out: bool,
    /// `-k`: those that lead to a directory are followed.
    pub to_directories: bool,
    /// `--munge-links`: the prefix that a daemon put before targets is taken away.
    pub unmunge: bool,
}

impl Links {
    /// Whether some may be followed. Then whoever writes in the tree can lead us out of it, which is what was asked for.
    pub fn follow_some(self) -> bool {
        self.all || self.leading_out || self.to_directories
    }

    /// Whether a name of a regular file may be a symlink that is followed.
    pub(super) fn follow_to_files(self) -> bool {
        self.all || self.leading_out
    }

    /// Whether the symlink `link`, a path below the root, is followed; `to_directory` finds out whether that is where
    /// it leads.
    pub(crate) fn follow(self, link: &[u8], target: &[u8], to_directory: impl FnOnce() -> bool) -> bool {
        self.all || self.leading_out && leads_out(link, target) || self.to_directories && to_directory()
    }

    /// The target that is sent.
    pub(crate) fn sent(self, target: Box<[u8]>) -> Box<[u8]> {
        match target.strip_prefix(MUNGED) {
            Some(rest) if self.unmunge && !rest.is_empty() => rest.into(),
            _ => target,
        }
    }
}

/// Whether a symlink leads out of the tree, in rsync's strict sense: a target that is absolute, that has `..` anywhere
/// but in front, or that has more of them there than there are directories above the link.
///
/// Peer: rsync's util1.c, unsafe_symlink, as of 3.4.0.
pub(crate) fn leads_out(link: &[u8], target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") {
        return true;
    }
    let parts = || target.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
    let upwards = parts().take_while(|part| *part == b"..").count();
    if parts().skip(upwards).any(|part| part == b"..") {
        return true;
    }
    upwards > depth(link)
}

/// How many directories stand above a name.
fn depth(link: &[u8]) -> usize {
    link.iter().filter(|&&byte| byte == b'/').count()
}

/// What a daemon that does not trust symlinks puts before their targets.
const MUNGED: &[u8] = b"/rsyncd-munged/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_out_when_it_is_absolute_or_climbs_above_the_root() {
        for (link, target) in
            [("l", "f"), ("l", "d/f"), ("d/l", "../f"), ("a/b/l", "../../f"), ("d/l", "./f")]
        {
            assert!(!leads_out(link.as_bytes(), target.as_bytes()), "{link} -> {target}");
        }
        for (link, target) in [
            ("l", "/etc"),
            ("l", "../f"),
            ("d/l", "../../f"),
            ("l", ""),
            ("a/b/l", "c/../f"),
            ("a/l", "c/.."),
        ] {
            assert!(leads_out(link.as_bytes(), target.as_bytes()), "{link} -> {target}");
        }
    }

    #[test]
    fn the_prefix_of_a_daemon_is_taken_away_when_asked_for() {
        let target = || Box::from(&b"/rsyncd-munged/a"[..]);
        assert_eq!(&*Links::default().sent(target()), b"/rsyncd-munged/a");
        let links = Links { unmunge: true, ..Links::default() };
        assert_eq!(&*links.sent(target()), b"a");
        assert_eq!(&*links.sent(Box::from(&b"/rsyncd-munged/"[..])), b"/rsyncd-munged/");
    }
}
