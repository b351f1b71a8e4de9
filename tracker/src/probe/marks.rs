//! The bitmap of changed inodes, as the rest of the tracker sees it.

use std::os::fd::BorrowedFd;

use super::bpf::{Account, Told};
use crate::engine::Marked;
use crate::id::Fs;
use crate::resolve::Bits;
use crate::sys;

/// The kernel half that marks changed inodes: two sides of a bitmap, one written while the other is drained, and
/// records about the inodes that were marked for the first time in an epoch.
pub trait Marks {
    /// Readable while there are records.
    fn as_fd(&self) -> BorrowedFd<'_>;
    /// Hands over the records that are there: its epoch and its bytes to `keep` before it is taken from the queue, then
    /// what it says to `note`.
    ///
    /// # Errors
    /// The records cannot be read.
    fn read(&mut self, keep: &mut dyn FnMut(u64, &[u8]), note: &mut dyn FnMut(Fs, Marked))
    -> sys::Result<()>;
    /// What a record says that was kept.
    fn parse(&self, record: &[u8]) -> Vec<(Fs, Marked)>;
    /// Whether another process had marked this file system before, all of it is still there, and marking never ended.
    ///
    /// # Errors
    /// Why not.
    fn is_kept(&self, fs: Fs) -> Result<(), String>;
    /// Whether the next flip yields what another process had begun to drain; what has been marked since waits for the
    /// one after.
    fn is_resumed(&self) -> bool;
    /// All that is marked now, of every epoch.
    ///
    /// # Errors
    /// The bitmap cannot be looked at.
    fn all_marked(&self, fs: Fs) -> sys::Result<Bits>;
    /// Lets the programs write the other side, waits until none writes the old one any more, and returns the epoch
    /// that ended.
    ///
    /// # Errors
    /// The side that would be written next was not forgotten yet, or a program does not end.
    fn flip(&mut self) -> sys::Result<u64>;
    /// The bits of the ended epoch.
    fn bits(&mut self, fs: Fs) -> Bits;
    /// Zeroes the bits of the ended epoch: what they stand for is durable.
    ///
    /// # Errors
    /// The programs cannot be given back what they need; the bits are zero nevertheless. The bitmap cannot be looked
    /// at: they are not.
    fn forget(&mut self) -> sys::Result<()>;
    /// Marks seen since the programs were attached.
    fn seen(&self) -> u64;
    /// What became of the inodes that were marked.
    ///
    /// # Errors
    /// The bitmap cannot be looked at.
    fn account(&self) -> sys::Result<Account>;
    /// Marks that were lost, and records of marks that found no room, since the programs were attached.
    fn all_lost(&self) -> (u64, u64);
    /// Marks lost for good since this was asked last.
    fn lost(&mut self) -> Vec<MarksLost>;
    /// The losses that were told, for whoever takes over.
    fn told(&self) -> Told;
}

/// Marks that were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarksLost {
    /// On this file system, or on all.
    pub fs: Option<Fs>,
    /// Because the bitmap was full; otherwise because it was flipped too often while a program tried.
    pub full: bool,
}
