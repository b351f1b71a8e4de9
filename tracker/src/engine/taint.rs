//! Whether everything that changed below a mirror's root is known.

use std::time::SystemTime;

/// Why and since when coverage is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tainted {
    /// When it was noticed.
    pub since: SystemTime,
    /// What was lost.
    pub reason: Reason,
    /// What makes up for it.
    pub remedy: Remedy,
}

/// How what is not known any more is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The source is looked through for what changed since coverage was complete; only that is told.
    Scan,
    /// The whole mirror is compared with its destinations.
    Compare,
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
    /// The record of how far the last daemon got cannot be used.
    #[error("how far the last daemon got is not known: {0}")]
    Distrusted(String),
    /// Somebody asked for it.
    #[error("it was asked for")]
    Asked,
    /// The scan that was to make up for a loss failed.
    #[error("the source could not be looked through: {0}")]
    Scan(String),
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
    /// A person said that another source directory is the right one.
    #[error("another source directory was accepted")]
    RootAccepted,
    /// The source directory was moved while its changes were looked up.
    #[error("the source directory was moved while its changes were looked up")]
    RootMoved,
    /// Listening failed.
    #[error("{0}")]
    Failed(String),
}

impl Reason {
    /// The best that can make up for this. Not every loss shows in times of change: what a mount hid or uncovered has
    /// old ones.
    pub fn remedy(&self) -> Remedy {
        match self {
            Reason::Start | Reason::Distrusted(_) | Reason::Scan(_) | Reason::RootAccepted => Remedy::Compare,
            _ => Remedy::Scan,
        }
    }
}

/// What is known of one mirror's coverage.
///
/// A taint stays until what makes up for it, begun after it, is durable: a `Subtree` fact of the whole mirror, or all
/// that a scan found.
#[derive(Debug)]
pub struct Coverage {
    tainted: Option<Tainted>,
    answer: Answer,
    /// Something was lost while a scan was under way, which may have passed the place by then.
    again: bool,
    root_lost: bool,
    taints: u64,
}

/// What is being done about a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing yet, or not enough: something was lost after it had begun.
    Open,
    /// A scan is under way.
    Scanning,
    /// A scan is through; the next batch carries the last of what it found.
    Scanned,
    /// The batch in flight carries the whole answer, or the end of it.
    InFlight,
}

impl Coverage {
    pub(super) fn new(tainted: Option<Tainted>) -> Self {
        let taints = u64::from(tainted.is_some());
        Coverage { tainted, answer: Answer::Open, again: false, root_lost: false, taints }
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

    fn wants(&self, remedy: Remedy) -> bool {
        let wanted = self.tainted.as_ref().is_some_and(|tainted| tainted.remedy == remedy);
        wanted && self.answer == Answer::Open && !self.root_lost
    }

    pub(super) fn wants_a_subtree(&self) -> bool {
        self.wants(Remedy::Compare)
    }

    pub(super) fn wants_a_scan(&self) -> bool {
        self.wants(Remedy::Scan)
    }

    /// Whether what changed before is still being looked for, so that no barrier can be said to be reached.
    pub fn is_searching(&self) -> bool {
        self.wants_a_scan() || ((self.answer == Answer::Scanning || self.again) && !self.root_lost)
    }

    /// A loss after the answer was begun is not covered by it. The first reason is the one that is shown; a comparison
    /// makes up for whatever a scan would.
    pub(super) fn lose(&mut self, why: Tainted) {
        let compare = why.remedy == Remedy::Compare;
        match (&mut self.tainted, self.answer) {
            (Some(tainted), Answer::Open) if !self.root_lost => {
                if compare {
                    tainted.remedy = Remedy::Compare;
                }
                return;
            }
            (Some(_), Answer::Scanning) if !compare => {
                self.again = true;
                return;
            }
            (Some(before), Answer::Open) if before.remedy == Remedy::Compare => {
                *before = Tainted { remedy: Remedy::Compare, ..why };
            }
            _ => self.tainted = Some(why),
        }
        self.taints += 1;
        self.answer = Answer::Open;
        self.again = false;
    }

    pub(super) fn lose_root(&mut self, why: Tainted) {
        if self.answer == Answer::Scanning {
            self.answer = Answer::Open;
        }
        self.lose(why);
        self.root_lost = true;
    }

    pub(super) fn find_root(&mut self, why: Tainted) {
        self.lose(why);
        self.root_lost = false;
    }

    /// Whether a scan is through and nothing of its end was handed over.
    pub(super) fn is_scanned(&self) -> bool {
        self.answer == Answer::Scanned && !self.root_lost
    }

    pub(super) fn scan_begins(&mut self) {
        self.answer = Answer::Scanning;
    }

    pub(super) fn scan_ends(&mut self) {
        if self.answer == Answer::Scanning {
            self.answer = Answer::Scanned;
        }
    }

    /// Whether the batch that is made now must hold a `Subtree` of the mirror.
    pub(super) fn hand_over(&mut self) -> bool {
        let wants = self.wants_a_subtree();
        if wants || self.answer == Answer::Scanned {
            self.answer = Answer::InFlight;
        }
        wants
    }

    pub(super) fn durable(&mut self) {
        if self.answer == Answer::InFlight {
            self.answer = Answer::Open;
            if !std::mem::take(&mut self.again) {
                self.tainted = None;
            }
        }
    }
}
