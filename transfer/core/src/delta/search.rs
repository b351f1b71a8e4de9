//! Says a file as literals and blocks of the receiver's basis.

use std::ops::Range;
use std::sync::Arc;

use super::strong::Digest;
use super::table::Table;
use super::{BlockSums, Rolling, StrongSum};

/// A stretch of the file, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// These bytes of the file, at least one.
    Literal(Range<usize>),
    /// Consecutive blocks of the basis, at least one.
    Blocks {
        /// Number of the first block.
        first: u32,
        /// How many.
        count: u32,
    },
}

/// One search after the other; the table's memory is reused.
///
/// A window of one block's length slides over the file. Where its rolling sum is that of a block, the strong sum
/// decides; a match jumps behind the block, anything else slides by a byte.
#[derive(Debug)]
pub struct Search {
    strong: StrongSum,
    sums: Arc<BlockSums>,
    /// What takes their place between files.
    none: Arc<BlockSums>,
    /// Blocks may only be used at their own offset or at a smaller output offset.
    in_place: bool,
    table: Table,
    /// How many blocks have the whole length; the last one may be shorter.
    whole_blocks: u32,
    /// Start of the window.
    at: usize,
    /// All before this offset is emitted or in `run`; `sent <= at`.
    sent: usize,
    /// Blocks matched and not emitted, ending at `sent`: first and count.
    run: Option<(u32, u32)>,
    /// The block that continues the run.
    want: u32,
    /// Where the last match ended; `want` belongs there.
    matched_to: usize,
    /// Work done for rolling sums that matched by chance, in bytes hashed.
    wasted: u64,
}

impl Search {
    /// A search that has nothing to do yet.
    pub fn new(strong: StrongSum) -> Self {
        Search {
            strong,
            sums: Arc::default(),
            none: Arc::default(),
            in_place: false,
            table: Table::default(),
            whole_blocks: 0,
            at: 0,
            sent: 0,
            run: None,
            want: 0,
            matched_to: 0,
            wasted: 0,
        }
    }

    /// Begins at the front of a file, with the sums of another basis.
    pub fn start(&mut self, sums: Arc<BlockSums>, in_place: bool) {
        let header = sums.header();
        self.whole_blocks = header.count - u32::from(header.last_len() < header.block_len);
        if sums.is_empty() {
            self.whole_blocks = 0;
        }
        self.table.fill(&sums, self.whole_blocks);
        self.sums = sums;
        self.in_place = in_place;
        (self.at, self.sent, self.run, self.want, self.wasted) = (0, 0, None, 0, 0);
        self.matched_to = 0;
    }

    /// Leaves out the first `bytes` bytes of the file, right after [`Search::start`].
    pub(crate) fn skip(&mut self, bytes: usize) {
        (self.at, self.sent, self.matched_to) = (bytes, bytes, bytes);
    }

    /// Goes on for about `limit` bytes of `file` and emits what it finds; all of the file before
    /// [`Search::position`] is emitted then. Returns whether that was the end of the file.
    pub fn step(&mut self, file: &[u8], limit: usize, emit: &mut impl FnMut(Run)) -> bool {
        let end = file.len().min(self.at.saturating_add(limit.max(1)));
        if self.sums.is_empty() || self.gave_up() {
            self.at = end;
        } else {
            self.scan(file, end, emit);
        }
        self.flush(emit);
        self.at == file.len()
    }

    /// Gives back the sums, and the table if it is a large one.
    pub(crate) fn release(&mut self) {
        self.sums = Arc::clone(&self.none);
        self.whole_blocks = 0;
        self.table.release();
    }

    /// Offset in the file up to which all is emitted.
    pub fn position(&self) -> usize {
        self.sent
    }

    fn scan(&mut self, file: &[u8], end: usize, emit: &mut impl FnMut(Run)) {
        let length = self.sums.header().block_len as usize;
        // Where the last window starts.
        let last = file.len().checked_sub(length).filter(|_| self.whole_blocks > 0);
        while let Some(last) = last.filter(|last| self.at < end && self.at <= *last) {
            match self.next_match(file, end.min(last)) {
                Some(block) => self.matched(block, length, emit),
                None if end <= last => {
                    self.at = end;
                    return;
                }
                None => break,
            }
        }
        if self.at < end || last.is_none_or(|last| self.at > last) {
            self.tail(file, emit);
        }
    }

    /// Slides the window until it is a block; `None` when none of those up to `stop` is one.
    fn next_match(&mut self, file: &[u8], stop: usize) -> Option<u32> {
        let length = self.sums.header().block_len as usize;
        let mut sum = Rolling::new(&file[self.at..self.at + length]);
        while !self.gave_up() {
            if let Some(block) = self.find(&file[self.at..self.at + length], sum.value()) {
                return Some(block);
            }
            let behind = (self.at - self.matched_to) / length * length + self.matched_to;
            if behind == self.at
                && let Some(block) = self.changed_in_place(file, stop)
            {
                return Some(block);
            }
            // At the next block that would follow the last match, the window stops.
            let next = stop.min(behind + length);
            let (leaving, entering) = (&file[self.at..next], &file[self.at + length..next + length]);
            // Lossless: block lengths came as ints.
            match self.table.slide(&mut sum, length as u32, leaving, entering) {
                Some(count) => self.at += count,
                None if next == stop => return None,
                None => self.at = next,
            }
        }
        None
    }

    /// The window stands where a block of the basis would follow the last match, and is not that block. Where what comes
    /// behind it is the block after that, one block was changed where it stands: the window moves behind it at once. To
    /// slide through it could find a match that reaches into the next block, and would gain nothing: what is left of
    /// that block behind the match is literal then.
    fn changed_in_place(&mut self, file: &[u8], stop: usize) -> Option<u32> {
        let length = self.sums.header().block_len as usize;
        let (here, next) = (self.at, self.at + length);
        let number = u64::from(self.want) + ((here - self.matched_to) / length) as u64 + 1;
        // A file may have more blocks than the basis.
        let block = u32::try_from(number).ok().filter(|block| *block < self.whole_blocks)?;
        if next > stop {
            return None;
        }
        let window = &file[next..next + length];
        let mut digest = None;
        self.at = next;
        if self.is_block(block, window, Rolling::new(window).value(), &mut digest) {
            return Some(block);
        }
        self.at = here;
        if digest.is_some() {
            self.wasted += length as u64;
        }
        None
    }

    /// The block that equals the window. The one that continues a run is preferred, so that runs stay long; with a
    /// basis that is overwritten the one at the same offset is, because it need not be written.
    fn find(&mut self, window: &[u8], rolling: u32) -> Option<u32> {
        let mut digest = None;
        let same_place = (self.at / window.len()) as u32;
        if self.in_place
            && self.at.is_multiple_of(window.len())
            && self.is_block(same_place, window, rolling, &mut digest)
        {
            return Some(same_place);
        }
        if self.is_block(self.want, window, rolling, &mut digest) {
            return Some(self.want);
        }
        if !self.table.may_hold(rolling) {
            return None;
        }
        let candidates = self.table.candidates(rolling);
        let candidates = &candidates[..candidates.len().min(MAX_CANDIDATES)];
        let found =
            candidates.iter().copied().find(|block| self.is_block(*block, window, rolling, &mut digest));
        if found.is_none() && digest.is_some() {
            self.wasted += window.len() as u64 + COMPARE_COST * candidates.len() as u64;
        }
        found
    }

    fn is_block(&self, block: u32, window: &[u8], rolling: u32, digest: &mut Option<Digest>) -> bool {
        if block >= self.whole_blocks || !self.allowed(block) {
            return false;
        }
        let (expected, strong) = self.sums.block(block);
        expected == rolling && self.strong_matches(strong, window, digest)
    }

    fn strong_matches(&self, expected: &[u8], window: &[u8], digest: &mut Option<Digest>) -> bool {
        let digest = digest.get_or_insert_with(|| self.strong.block(window));
        // Sums longer than the digest have garbage behind it.
        let length = expected.len().min(digest.as_bytes().len());
        expected[..length] == digest.as_bytes()[..length]
    }

    fn allowed(&self, block: u32) -> bool {
        !self.in_place || u64::from(block) * u64::from(self.sums.header().block_len) >= self.at as u64
    }

    /// The end of the file, where no whole block fits: only a shorter last block can match, and only the very end.
    fn tail(&mut self, file: &[u8], emit: &mut impl FnMut(Run)) {
        let header = self.sums.header();
        let short = header.count - self.whole_blocks == 1;
        let start = file.len().checked_sub(header.last_len() as usize);
        if let Some(start) = start.filter(|start| short && *start >= self.at) {
            let block = header.count - 1;
            let window = &file[start..];
            self.at = start;
            let (rolling, strong) = self.sums.block(block);
            if rolling == Rolling::new(window).value()
                && self.allowed(block)
                && self.strong_matches(strong, window, &mut None)
            {
                self.matched(block, window.len(), emit);
            }
        }
        self.at = file.len();
    }

    /// The window is this block.
    fn matched(&mut self, block: u32, length: usize, emit: &mut impl FnMut(Run)) {
        match &mut self.run {
            Some((first, count)) if self.sent == self.at && *first + *count == block => *count += 1,
            _ => {
                self.flush(emit);
                self.run = Some((block, 1));
            }
        }
        self.at += length;
        self.sent = self.at;
        self.want = block + 1;
        self.matched_to = self.at;
    }

    /// Emits all before the window.
    fn flush(&mut self, emit: &mut impl FnMut(Run)) {
        if let Some((first, count)) = self.run.take() {
            emit(Run::Blocks { first, count });
        }
        if self.sent < self.at {
            emit(Run::Literal(self.sent..self.at));
            self.sent = self.at;
        }
    }

    /// Whether chance matches cost more than they can gain: sums made up by a hostile daemon would have us hash a
    /// block at each byte.
    fn gave_up(&self) -> bool {
        self.wasted > MAX_WASTED + 4 * self.at as u64
    }
}

/// Blocks with one rolling sum that are compared at one offset; rsync 3.5.0 stops there too.
const MAX_CANDIDATES: usize = 1024;

/// What it costs to look at a candidate, in bytes hashed.
const COMPARE_COST: u64 = 64;

/// Bytes hashed in vain that are always granted; beyond them four for each byte of the file.
const MAX_WASTED: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delta::SumHeader;
    use crate::proto::Checksum;

    const STRONG: StrongSum = StrongSum { checksum: Checksum::Xxh64, seed: 99, seed_first: true };

    pub(crate) fn sums(basis: &[u8], block_len: u32, strong_len: u32) -> Arc<BlockSums> {
        let mut bytes = Vec::new();
        for block in basis.chunks(block_len as usize) {
            bytes.extend_from_slice(&Rolling::new(block).value().to_le_bytes());
            bytes.extend_from_slice(&STRONG.block(block).as_bytes()[..strong_len as usize]);
        }
        let count = basis.len().div_ceil(block_len as usize) as u32;
        let remainder = basis.len() as u32 % block_len;
        Arc::new(BlockSums::new(SumHeader { count, block_len, strong_len, remainder }, bytes).unwrap())
    }

    fn runs(search: &mut Search, file: &[u8], limit: usize) -> Vec<Run> {
        let mut runs = Vec::new();
        while !search.step(file, limit, &mut |run| runs.push(run)) {}
        runs
    }

    /// What the receiver makes of the runs; checks the in-place rule when asked to.
    fn apply(runs: &[Run], file: &[u8], basis: &[u8], block_len: usize, in_place: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for run in runs {
            match run {
                Run::Literal(range) => out.extend_from_slice(&file[range.clone()]),
                Run::Blocks { first, count } => {
                    let start = *first as usize * block_len;
                    assert!(!in_place || start >= out.len());
                    let end = (start + *count as usize * block_len).min(basis.len());
                    out.extend_from_slice(&basis[start..end]);
                }
            }
        }
        out
    }

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn search(sums: Arc<BlockSums>, in_place: bool) -> Search {
        let mut search = Search::new(STRONG);
        search.start(sums, in_place);
        search
    }

    #[test]
    fn an_unchanged_file_is_one_run() {
        for length in [1, 699, 700, 701, 7000, 7350] {
            let basis = noise(length, 5);
            let found = runs(&mut search(sums(&basis, 700, 2), false), &basis, usize::MAX);
            assert_eq!(found, [Run::Blocks { first: 0, count: length.div_ceil(700) as u32 }]);
        }
    }

    #[test]
    fn an_insertion_costs_its_own_block() {
        let basis = noise(10_000, 6);
        let mut file = basis.clone();
        file.splice(1000..1000, *b"inserted");
        let found = runs(&mut search(sums(&basis, 500, 4), false), &file, usize::MAX);
        assert_eq!(
            found,
            [
                Run::Blocks { first: 0, count: 2 },
                Run::Literal(1000..1008),
                Run::Blocks { first: 2, count: 18 },
            ]
        );
    }

    #[test]
    fn blocks_that_changed_where_they_stand_cost_themselves() {
        let basis = noise(20_000, 8);
        for changed in [&[3][..], &[0], &[38], &[3, 4, 5], &[1, 3, 5], &[39]] {
            let mut file = basis.clone();
            changed.iter().for_each(|block| file[block * 500 + 77] ^= 1);
            for (in_place, limit) in [(false, usize::MAX), (true, usize::MAX), (false, 700)] {
                let found = runs(&mut search(sums(&basis, 500, 4), in_place), &file, limit);
                assert_eq!(apply(&found, &file, &basis, 500, in_place), file);
                let literal = |run: &Run| if let Run::Literal(range) = run { range.len() } else { 0 };
                assert_eq!(found.iter().map(literal).sum::<usize>(), changed.len() * 500, "{changed:?}");
            }
        }
    }

    #[test]
    fn equal_blocks_are_named_in_their_order() {
        let basis = vec![0; 700 * 100];
        let found = runs(&mut search(sums(&basis, 700, 2), false), &basis, usize::MAX);
        assert_eq!(found, [Run::Blocks { first: 0, count: 100 }]);
    }

    #[test]
    fn no_basis_means_one_literal_for_each_step() {
        let found = runs(&mut search(Arc::default(), false), &[7; 100], 60);
        assert_eq!(found, [Run::Literal(0..60), Run::Literal(60..100)]);
        assert_eq!(runs(&mut search(Arc::default(), false), &[], 60), []);
    }

    #[test]
    fn sums_that_lie_do_not_make_us_hash_for_ever() {
        // Every block claims the rolling sum of zeros, none has its strong sum.
        let header = SumHeader { count: 1000, block_len: 131_072, strong_len: 2, remainder: 0 };
        let bytes = [0, 0, 0, 0, 0xaa, 0xbb].repeat(1000);
        let file = vec![0; 1 << 20];
        let mut search = search(Arc::new(BlockSums::new(header, bytes).unwrap()), false);
        assert_eq!(apply(&runs(&mut search, &file, 1 << 16), &file, &[], 131_072, false), file);
        assert!(search.wasted < MAX_WASTED + (8 << 20));
    }

    fn edited() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let edit = (any::<prop::sample::Index>(), 0..600usize, 0..600usize, any::<u64>());
        ((0..6000usize, any::<u64>()), prop::collection::vec(edit, 0..6)).prop_map(
            |((length, seed), edits)| {
                let basis = noise(length, seed);
                let mut file = basis.clone();
                for (place, remove, insert, seed) in edits {
                    let start = place.index(file.len() + 1);
                    let end = (start + remove).min(file.len());
                    let new = if seed % 3 == 0 {
                        basis[..insert.min(basis.len())].to_vec()
                    } else {
                        noise(insert, seed)
                    };
                    file.splice(start..end, new);
                }
                (basis, file)
            },
        )
    }

    proptest! {
        #[test]
        fn any_edit_comes_back(
            (basis, file) in edited(), block_len in 1..900u32, limit in 1..5000usize, in_place: bool,
        ) {
            let sums = sums(&basis, block_len, 8);
            let runs = runs(&mut search(sums, in_place), &file, limit);
            prop_assert_eq!(apply(&runs, &file, &basis, block_len as usize, in_place), file);
        }
    }
}
