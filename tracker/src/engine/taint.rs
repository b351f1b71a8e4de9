//! Whether everything that changed below a mirror's root is known.

use std::time::SystemTime;

/// Why and since when coverage is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tainted {
    /// When it was noticed.
    pub since: SystemTime,
    /// What was lost.
    pub reason: Reason,
}

/// What breaks coverage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Tracking has only begun.
    #[error("what changed before tracking began is not known")]
    Start,
    /// What the last daemon left cannot be taken over.
    #[error("what was marked before this start cannot be taken over: {0}")]
    NotKept(String),
    /// The kernel dropped fanotify events.
    #[error("the kernel's queue of name events overflowed")]
    QueueOverflow,
    /// The kernel dropped marks.
    #[error("the bitmap of changed inodes was full")]
    BitmapFull,
    /// The programs gave up on marks.
    #[error("marks were skipped while the bitmap was flipped")]
    MarksSkipped,
    /// An inode changed and no name for it could be found.
    #[error("a changed inode could not be traced to a name ({0} of them in one drain)")]
    Untraceable(u64),
    /// The source directory is not the one it was.
    #[error("the source directory is gone or is another one than at the start: {0}")]
    Root(String),
    /// The source directory is back.
    #[error("the source directory was away")]
    RootWasAway,
    /// The source directory was moved while its changes were looked up.
    #[error("the source directory was moved while its changes were looked up")]
    RootMoved,
    /// What is mounted below the source changed.
    #[error("a file system was mounted or unmounted below the source")]
    MountsChanged,
    /// Listening failed.
    #[error("{0}")]
    Failed(String),
}

/// What is known of one mirror's coverage.
///
/// A taint stays until a `Subtree` fact of the whole mirror, made after it, is durable.
#[derive(Debug)]
pub struct Coverage {
    tainted: Option<Tainted>,
    /// The batch in flight carries the `Subtree` that answers `tainted`.
    answered: bool,
    root_lost: bool,
    taints: u64,
}

impl Coverage {
    pub(super) fn new(tainted: Option<Tainted>) -> Self {
        let taints = u64::from(tainted.is_some());
        Coverage { tainted, answered: false, root_lost: false, taints }
    }

    /// Why coverage is not complete, if it is not.
    pub fn tainted(&self) -> Option<&Tainted> {
        self.tainted.as_ref()
    }

    /// Whether the source directory is not there, so that nothing can be done about it.
    pub fn root_lost(&self) -> bool {
        self.root_lost
    }

    /// How often coverage broke, the start included.
    pub fn taints(&self) -> u64 {
        self.taints
    }

    pub(super) fn wants_a_subtree(&self) -> bool {
        self.tainted.is_some() && !self.answered && !self.root_lost
    }

    /// A loss after the answer was made is not covered by it. The first reason is the one that is shown.
    pub(super) fn lose(&mut self, why: Tainted) {
        if self.tainted.is_none() || self.answered || self.root_lost {
            self.tainted = Some(why);
            self.taints += 1;
        }
        self.answered = false;
    }

    pub(super) fn lose_root(&mut self, why: Tainted) {
        self.lose(why);
        self.root_lost = true;
    }

    pub(super) fn find_root(&mut self, why: Tainted) {
        self.lose(why);
        self.root_lost = false;
    }

    /// Whether the batch that is made now must hold a `Subtree` of the mirror.
    pub(super) fn hand_over(&mut self) -> bool {
        let wants = self.wants_a_subtree();
        self.answered |= wants;
        wants
    }

    pub(super) fn durable(&mut self) {
        if self.answered {
            self.tainted = None;
            self.answered = false;
        }
    }
}
