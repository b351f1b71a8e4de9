//! Tokens without compression: an int, and for literals the bytes.

use std::ops::Range;

use crate::answer::Pieces;

/// Literal bytes. Longer ones stay in the file and are only pointed at.
pub(super) fn literal(range: Range<usize>, file: &[u8], out: &mut Pieces) {
    let mut start = range.start;
    while start < range.end {
        let end = range.end.min(start + MAX_LITERAL);
        out.put(&((end - start) as i32).to_le_bytes());
        if end - start < MIN_REFERENCE {
            out.put(&file[start..end]);
        } else {
            out.refer(start..end);
        }
        start = end;
    }
}

/// Block references: -(n + 1) each.
pub(super) fn blocks(first: u32, count: u32, out: &mut Pieces) {
    for block in first..first + count {
        out.put(&(!(block as i32)).to_le_bytes());
    }
}

/// rsync 3.4.3 and 3.4.4 refuse longer literals.
const MAX_LITERAL: usize = 32 << 10;

/// Below this many bytes a copy is cheaper than another element of a gathered write.
const MIN_REFERENCE: usize = 2 << 10;
