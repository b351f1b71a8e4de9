//! What tests of the token writers share.

use crate::answer::{Piece, Pieces};

/// The bytes that go on the wire.
pub(super) fn flat(pieces: &Pieces, file: &[u8]) -> Vec<u8> {
    let bytes = |piece: &Piece| match piece {
        Piece::Scratch(range) => pieces.scratch[range.clone()].to_vec(),
        Piece::Source(range) => file[range.clone()].to_vec(),
    };
    pieces.list.iter().flat_map(bytes).collect()
}

/// The bytes that are in the chunks of a stream that has nothing else.
pub(super) fn chunks_of(mut stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [first, second, rest @ ..] = stream {
        assert_eq!(first & 0xc0, 0x40, "no chunk");
        let (chunk, behind) = rest.split_at(usize::from(first & 0x3f) << 8 | usize::from(*second));
        out.extend_from_slice(chunk);
        stream = behind;
    }
    out
}
