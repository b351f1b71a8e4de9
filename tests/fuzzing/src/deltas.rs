//! Answers to block sums, read as a receiver reads them.

use std::sync::Arc;

use ebbtide_wire::answer::{AnswerContext, Piece, Pieces, Progress};
use ebbtide_wire::delta::{BlockSums, Rolling, StrongSum, SumHeader, file_digest};
use ebbtide_wire::proto::{Append, Checksum, Compression};
use ebbtide_wire::sender::{Ndx, Request};
use ebbtide_wire::wire::Reader;

use crate::Choices;

/// Sums of a basis: what the receiver makes of the answer is the file.
pub fn honest_sums(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (checksum, in_place) = (checksum(choices.byte()), choices.byte() & 1 != 0);
    let block_len = u32::from(choices.byte()).max(1);
    let strong_len = (choices.byte() % 16).clamp(2, checksum.digest_len() as u8).into();
    let basis_len = usize::from(choices.byte()) * 16;
    let rest = choices.rest();
    let (basis, file) = rest.split_at(basis_len.min(rest.len()));
    if basis.is_empty() {
        return;
    }
    let strong = StrongSum { checksum, seed: SEED, seed_first: true };
    let mut sums = Vec::new();
    for block in basis.chunks(block_len as usize) {
        sums.extend_from_slice(&Rolling::new(block).value().to_le_bytes());
        sums.extend_from_slice(&strong.block(block).as_bytes()[..strong_len as usize]);
    }
    let count = basis.len().div_ceil(block_len as usize) as u32;
    let header = SumHeader { count, block_len, strong_len, remainder: basis.len() as u32 % block_len };
    let sums = BlockSums::new(header, sums).expect("it was made so");
    // Two bytes of a strong sum may match by chance; a whole digest does not.
    let certain = usize::from(strong_len as u8) >= 8;
    let made = read_answer(&answer(sums, checksum, in_place, file), checksum, file, Some(basis));
    assert!(!certain || made == file, "the receiver would have {} bytes of {}", made.len(), file.len());
}

/// Sums of nothing: the answer still has the form and the length of one.
pub fn made_up_sums(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (checksum, in_place) = (checksum(choices.byte()), choices.byte() & 1 != 0);
    let numbers: Vec<u8> = (0..4).flat_map(|_| choices.int().to_le_bytes()).collect();
    let Ok(header) = SumHeader::read(&mut Reader::new(&numbers)) else { return };
    let pattern_len = usize::from(choices.byte());
    let rest = choices.rest();
    let (pattern, file) = rest.split_at(pattern_len.min(rest.len()));
    let wanted = u64::from(header.count) * header.stride() as u64;
    if wanted > 1 << 16 {
        return;
    }
    let sums: Vec<u8> = pattern.iter().copied().chain([0]).cycle().take(wanted as usize).collect();
    let Some(sums) = BlockSums::new(header, sums) else { return };
    read_answer(&answer(sums, checksum, in_place, file), checksum, file, None);
}

const SEED: i32 = 0x1234_5678;

fn checksum(choice: u8) -> Checksum {
    Checksum::ALL[usize::from(choice) % Checksum::ALL.len()]
}

fn answer(sums: BlockSums, checksum: Checksum, in_place: bool, file: &[u8]) -> Vec<u8> {
    let context = AnswerContext {
        checksum,
        seed_first: true,
        seed: SEED,
        compression: Compression::None,
        level: None,
        append: Append::Off,
    };
    let mut encoder = context.encoder().expect("there is memory");
    let request = Request { ndx: Ndx(0), sums: Arc::new(sums), in_place, redo: false };
    encoder.start(&request, file.len()).expect("there is memory");
    let mut answer = Vec::new();
    loop {
        let mut pieces = Pieces::default();
        let progress = encoder.step(file, &mut pieces).expect("the file keeps its length");
        for piece in &pieces.list {
            answer.extend_from_slice(match piece {
                Piece::Scratch(range) => &pieces.scratch[range.clone()],
                Piece::Source(range) => &file[range.clone()],
            });
        }
        if progress == Progress::Done {
            return answer;
        }
    }
}

/// What a receiver makes of an answer, with zeros for the blocks of a basis that is not there.
fn read_answer(answer: &[u8], checksum: Checksum, file: &[u8], basis: Option<&[u8]>) -> Vec<u8> {
    let mut reader = Reader::new(answer);
    let header = SumHeader::read(&mut reader).expect("our own header is fine");
    let mut made = Vec::new();
    loop {
        match reader.i32().expect("an answer ends with its end token") {
            0 => break,
            literal @ 1.. => {
                made.extend_from_slice(reader.take(literal as usize).expect("a literal has its bytes"));
            }
            block => {
                let block = block.wrapping_add(1).unsigned_abs();
                assert!(block < header.count, "block {block} of {}", header.count);
                let start = block as usize * header.block_len as usize;
                let last = block + 1 == header.count;
                let length = if last { header.last_len() } else { header.block_len } as usize;
                match basis {
                    Some(basis) => made.extend_from_slice(&basis[start..start + length]),
                    None => made.resize(made.len() + length, 0),
                }
            }
        }
    }
    assert_eq!(made.len(), file.len(), "the receiver would have another length");
    let digest = reader.take(checksum.digest_len()).expect("an answer ends with the file's digest");
    assert_eq!(digest, file_digest(checksum, file).as_bytes());
    assert_eq!(reader.position(), answer.len());
    made
}
