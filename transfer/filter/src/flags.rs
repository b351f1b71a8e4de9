//! What a rule's prefix and modifiers say.

use bitflags::bitflags;

bitflags! {
    /// Kind, sides and modifiers of a rule.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Flags: u32 {
        /// `/`: matched against the absolute path.
        const ABSOLUTE = 1;
        /// An include.
        const INCLUDE = 1 << 1;
        /// Ended in a slash: for directories only.
        const DIRECTORY = 1 << 2;
        /// `w`: a merge file is read word by word.
        const WORDS = 1 << 3;
        /// `n`: what a per-directory file says ends with its directory.
        const NO_INHERIT = 1 << 4;
        /// `-` or `+` on a merge: its lines are patterns without prefixes.
        const NO_PREFIXES = 1 << 5;
        /// A merge of any kind.
        const MERGE = 1 << 6;
        /// A merge file that is looked for in each directory.
        const PER_DIR = 1 << 7;
        /// `e`: the merge file itself is excluded.
        const EXCLUDE_SELF = 1 << 8;
        /// `!`: it applies where the pattern does not match.
        const NEGATE = 1 << 9;
        /// `C`: as CVS ignores.
        const CVS = 1 << 10;
        /// `s`: for what is sent.
        const SENDER = 1 << 11;
        /// `r`: for what is deleted.
        const RECEIVER = 1 << 12;
        /// `!` by itself.
        const CLEAR = 1 << 13;
        /// `p`: ignored in directories that are being deleted.
        const PERISHABLE = 1 << 14;
        /// `x`: about names of extended attributes.
        const XATTR = 1 << 15;
    }
}

impl Flags {
    /// Both sides.
    pub(crate) const SIDES: Flags = Flags::SENDER.union(Flags::RECEIVER);

    /// What the rules of a merge file get from the rule that names it, beside its sides.
    pub(crate) const INHERITED: Flags = Flags::ABSOLUTE
        .union(Flags::INCLUDE)
        .union(Flags::DIRECTORY)
        .union(Flags::NEGATE)
        .union(Flags::PERISHABLE);

    /// What `C` stands for.
    pub(crate) const CVS_MODE: Flags =
        Flags::NO_PREFIXES.union(Flags::WORDS).union(Flags::NO_INHERIT).union(Flags::CVS);

    /// Whether it says nothing of a sender.
    pub(crate) fn receiver_only(self) -> bool {
        self & Flags::SIDES == Flags::RECEIVER
    }
}
