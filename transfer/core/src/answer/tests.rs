//! Answers against a small receiver: what it makes of the tokens must be the file.

use flate2::{Decompress, FlushDecompress};
use proptest::prelude::*;
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::*;
use crate::delta::{BlockSums, Rolling, file_digest};
use crate::sender::Ndx;
use crate::wire::Reader;

/// A receiver, for as long as a session lasts.
struct Receiver {
    context: AnswerContext,
    inflate: Decompress,
    zstd: DCtx<'static>,
}

impl Receiver {
    fn new(context: &AnswerContext) -> Self {
        Receiver { context: context.clone(), inflate: Decompress::new(false), zstd: DCtx::create() }
    }

    /// Reads one answer to its end; `None` when its checksum is not that of the result.
    fn receive(&mut self, answer: &[u8], basis: &[u8]) -> Option<Vec<u8>> {
        let mut reader = Reader::new(answer);
        let header = SumHeader::read(&mut reader).unwrap();
        let mut out = Vec::new();
        match self.context.compression {
            Compression::None => plain_tokens(&mut reader, header, basis, &mut out),
            _ => self.compressed_tokens(&mut reader, header, basis, &mut out),
        }
        let digest = file_digest(self.context.checksum, &out);
        (reader.rest() == digest.as_bytes()).then_some(out)
    }

    fn compressed_tokens(
        &mut self,
        reader: &mut Reader<'_>,
        header: SumHeader,
        basis: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.inflate.reset(false);
        let mut number = 0;
        // Whether data came since the last block or the beginning.
        let mut data = false;
        loop {
            let first = reader.u8().unwrap();
            let (start, more) = match first {
                0x40..=0x7f => {
                    let length = usize::from(first & 0x3f) << 8 | usize::from(reader.u8().unwrap());
                    self.decompress(reader.take(length).unwrap(), out);
                    data = true;
                    continue;
                }
                _ if data => {
                    self.sync(out);
                    data = false;
                    match first {
                        0 => return,
                        _ => block_token(first, number, reader),
                    }
                }
                0 => return,
                _ => block_token(first, number, reader),
            };
            (start..=start + more).for_each(|block| out.extend_from_slice(block_of(header, basis, block)));
            number = start + more;
        }
    }

    fn decompress(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.context.compression == Compression::Lz4 {
            // What receivers have room for.
            let block = lz4_flex::block::decompress(chunk, 32_912).unwrap();
            assert!(!block.is_empty(), "read as the end of the file");
            return out.extend_from_slice(&block);
        }
        let mut buffer = vec![0; 1 << 20];
        if self.context.compression == Compression::Zstd {
            let mut input = InBuffer::around(chunk);
            loop {
                let mut output = OutBuffer::around(&mut buffer[..]);
                self.zstd.decompress_stream(&mut output, &mut input).unwrap();
                let written = output.pos();
                out.extend_from_slice(&buffer[..written]);
                if input.pos == chunk.len() && written < buffer.len() {
                    return;
                }
            }
        }
        let mut left = chunk;
        loop {
            let (read, wrote) = (self.inflate.total_in(), self.inflate.total_out());
            self.inflate.decompress(left, &mut buffer, FlushDecompress::Sync).unwrap();
            let wrote = (self.inflate.total_out() - wrote) as usize;
            left = &left[(self.inflate.total_in() - read) as usize..];
            out.extend_from_slice(&buffer[..wrote]);
            if left.is_empty() && wrote < buffer.len() {
                return;
            }
        }
    }

    /// Puts back what ends a flush; with zlib the decoder must be at such a place.
    fn sync(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.context.compression, Compression::Zstd | Compression::Lz4) {
            let before = out.len();
            self.decompress(&[0, 0, 0xff, 0xff], out);
            assert_eq!(out.len(), before, "data was not flushed");
        }
    }
}

fn block_token(first: u8, number: u32, reader: &mut Reader<'_>) -> (u32, u32) {
    let far = first & 0x80 == 0;
    let run = if far { first == 0x21 } else { first & 0x40 != 0 };
    assert!(!far || first == 0x20 || run, "token {first:#x}");
    let start = if far { reader.i32().unwrap() as u32 } else { number + u32::from(first & 0x3f) };
    let more = if run { reader.u16().unwrap().into() } else { 0 };
    assert!(!run || more > 0, "3.4.3 refuses a run of one");
    (start, more)
}

fn plain_tokens(reader: &mut Reader<'_>, header: SumHeader, basis: &[u8], out: &mut Vec<u8>) {
    loop {
        match reader.i32().unwrap() {
            0 => return,
            length @ 1.. => {
                assert!(length <= 32768, "3.4.3 refuses longer literals");
                out.extend_from_slice(reader.take(length as usize).unwrap());
            }
            block => out.extend_from_slice(block_of(header, basis, !block as u32)),
        }
    }
}

fn block_of(header: SumHeader, basis: &[u8], block: u32) -> &[u8] {
    assert!(block < header.count);
    let start = block as usize * header.block_len as usize;
    &basis[start..basis.len().min(start + header.block_len as usize)]
}

fn sums(context: &AnswerContext, basis: &[u8], block_len: u32, strong_len: u32) -> BlockSums {
    let strong = StrongSum { checksum: context.checksum, seed: context.seed, seed_first: context.seed_first };
    let mut bytes = Vec::new();
    for block in basis.chunks(block_len as usize) {
        bytes.extend_from_slice(&Rolling::new(block).value().to_le_bytes());
        // Longer than the digest: the generator's garbage.
        let mut digest = strong.block(block).as_bytes().to_vec();
        digest.resize(strong_len as usize, 0x99);
        bytes.extend_from_slice(&digest);
    }
    let count = basis.len().div_ceil(block_len as usize) as u32;
    let remainder = basis.len() as u32 % block_len;
    let header =
        if count == 0 { SumHeader::default() } else { SumHeader { count, block_len, strong_len, remainder } };
    BlockSums::new(header, bytes).unwrap()
}

fn request(sums: BlockSums) -> Request {
    Request { ndx: Ndx(0), sums: Arc::new(sums), in_place: false, redo: false }
}

fn context(checksum: Checksum, compression: Compression) -> AnswerContext {
    AnswerContext { checksum, seed_first: true, seed: 77, compression, level: None, append: Append::Off }
}

fn bytes_of(pieces: &Pieces, file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in &pieces.list {
        out.extend_from_slice(match piece {
            Piece::Scratch(range) => &pieces.scratch[range.clone()],
            Piece::Source(range) => &file[range.clone()],
        });
    }
    assert_eq!(out.len(), pieces.len());
    out
}

fn answer(encoder: &mut Encoder, request: &Request, file: &[u8]) -> Vec<u8> {
    encoder.start(request, file.len()).unwrap();
    finish(encoder, file)
}

fn finish(encoder: &mut Encoder, file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let mut pieces = Pieces::default();
        let progress = encoder.step(file, &mut pieces).unwrap();
        out.extend(bytes_of(&pieces, file));
        if progress == Progress::Done {
            return out;
        }
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

const COMPRESSIONS: [Compression; 5] =
    [Compression::None, Compression::Zlib, Compression::Zlibx, Compression::Zstd, Compression::Lz4];

#[test]
fn one_encoder_serves_many_files_of_all_sizes_in_one_session() {
    for compression in COMPRESSIONS {
        for checksum in Checksum::ALL {
            let context = context(checksum, compression);
            let (mut encoder, mut receiver) = (context.encoder().unwrap(), Receiver::new(&context));
            let large = if checksum == Checksum::Xxh128 { 1_500_000 } else { 70_000 };
            for size in [0, 1, 13, 700, 20_000, 65_536, large, 5] {
                let text: Vec<u8> =
                    b"some text again and again; ".iter().copied().cycle().take(size).collect();
                for file in [text, noise(size, size as u64)] {
                    let answer = answer(&mut encoder, &request(BlockSums::none()), &file);
                    assert!(receiver.receive(&answer, &[]).as_ref() == Some(&file), "{compression:?} {size}");
                }
            }
        }
    }
}

#[test]
fn a_large_edited_file_costs_its_edits() {
    let basis = noise(4_000_000, 3);
    let mut file = basis.clone();
    file.splice(1_000_000..1_000_010, noise(5_000, 8));
    file.splice(3_000_000..3_100_000, []);
    for compression in COMPRESSIONS {
        let context = context(Checksum::Xxh128, compression);
        let (mut encoder, mut receiver) = (context.encoder().unwrap(), Receiver::new(&context));
        let request = request(sums(&context, &basis, 2000, 2));
        let answer = answer(&mut encoder, &request, &file);
        assert!(receiver.receive(&answer, &basis).as_ref() == Some(&file));
        assert!(answer.len() < 30_000, "{compression:?}: {} bytes", answer.len());
    }
}

#[test]
fn runs_longer_than_a_token_can_say_are_cut() {
    let basis = vec![1; 140_000];
    for compression in COMPRESSIONS {
        let context = context(Checksum::Xxh64, compression);
        let (mut encoder, mut receiver) = (context.encoder().unwrap(), Receiver::new(&context));
        let answer = answer(&mut encoder, &request(sums(&context, &basis, 1, 8)), &basis);
        assert!(receiver.receive(&answer, &basis).as_ref() == Some(&basis), "{compression:?}");
    }
}

#[test]
fn literals_of_large_files_are_not_copied() {
    let file = noise(5 << 20, 1);
    let mut encoder = context(Checksum::Xxh128, Compression::None).encoder().unwrap();
    encoder.start(&request(BlockSums::none()), file.len()).unwrap();
    let mut pieces = Pieces::default();
    while encoder.step(&file, &mut pieces).unwrap() == Progress::More {}
    assert!(pieces.scratch.len() < 1000);
    assert_eq!(bytes_of(&pieces, &file).len(), 16 + file.len() + 160 * 4 + 4 + 16);
}

#[test]
fn a_redo_header_with_sums_longer_than_the_digest_is_echoed_shorter() {
    let context = context(Checksum::Xxh64, Compression::None);
    let basis = noise(3000, 4);
    let answer = answer(&mut context.encoder().unwrap(), &request(sums(&context, &basis, 700, 16)), &basis);
    let header = SumHeader::read(&mut Reader::new(&answer)).unwrap();
    assert_eq!(header, SumHeader { count: 5, block_len: 700, strong_len: 8, remainder: 200 });
    assert!(Receiver::new(&context).receive(&answer, &basis).as_ref() == Some(&basis));
    assert!(answer.len() < 100, "garbage behind the digest was compared");
}

#[test]
fn a_spoiled_answer_is_complete_and_its_checksum_never_matches() {
    for compression in COMPRESSIONS {
        let context = context(Checksum::Md5, compression);
        let (mut encoder, mut receiver) = (context.encoder().unwrap(), Receiver::new(&context));
        encoder.start(&request(BlockSums::none()), 5).unwrap();
        encoder.spoil();
        let spoiled = finish(&mut encoder, b"hello");
        assert_eq!(spoiled[spoiled.len() - 16..], [0; 16]);
        assert_eq!(receiver.receive(&spoiled, &[]), None);
        let good = answer(&mut encoder, &request(BlockSums::none()), b"hello");
        assert!(receiver.receive(&good, &[]).is_some());
    }
}

#[test]
fn appending_sends_the_tail_and_sums_what_it_should() {
    let header = SumHeader { count: 2, block_len: 700, strong_len: 2, remainder: 300 };
    let file = noise(1500, 9);
    for (append, summed) in [(Append::On, &file[1000..]), (Append::Verify, &file[..])] {
        let context = AnswerContext { append, ..context(Checksum::Md5, Compression::None) };
        let request = request(BlockSums::without_sums(header));
        let answer = answer(&mut context.encoder().unwrap(), &request, &file);
        let mut expected = Vec::new();
        header.put(&mut expected);
        expected.extend_from_slice(&500i32.to_le_bytes());
        expected.extend_from_slice(&file[1000..]);
        expected.extend_from_slice(&[0; 4]);
        expected.extend_from_slice(file_digest(Checksum::Md5, summed).as_bytes());
        assert!(answer == expected);
    }
}

#[test]
fn frames_of_several_makers_and_the_stream_of_small_files_follow_each_other() {
    let context = context(Checksum::Xxh128, Compression::Zstd);
    let (mut encoder, mut receiver) = (context.encoder().unwrap(), Receiver::new(&context));
    let mut framers = [context.framer().unwrap(), context.framer().unwrap()];
    let file: Vec<u8> = (0..400_000_u32).flat_map(|n| (n / 3 * 7919).to_le_bytes()).collect();
    for _ in 0..2 {
        let request = request(BlockSums::none());
        let (small, large) = (&file[..3000], &file[..]);
        encoder.start(&request, small.len()).unwrap();
        let mut pieces = Pieces::default();
        while encoder.step(small, &mut pieces).unwrap() == Progress::More {}
        assert_eq!(receiver.receive(&bytes_of(&pieces, small), &[]).unwrap(), small);

        encoder.start(&request, large.len()).unwrap();
        let range = encoder.frames().unwrap();
        let mut pieces = Pieces::default();
        encoder.begin_frames(large, &mut pieces).unwrap();
        let middle = range.end / 2;
        for (at, part) in [range.start..middle, middle..range.end].into_iter().enumerate() {
            framers[at].encode(large, part.clone(), false, &mut pieces).unwrap();
            encoder.pass(&large[part]);
        }
        encoder.end_frames(&mut pieces).unwrap();
        assert_eq!(encoder.literal_bytes(), large.len() as u64);
        assert!(receiver.receive(&bytes_of(&pieces, large), &[]).unwrap() == large);
    }
}

#[test]
fn only_whole_files_go_as_frames() {
    let basis = vec![7; 10_000];
    for compression in COMPRESSIONS {
        let context = context(Checksum::Xxh128, compression);
        let mut encoder = context.encoder().unwrap();
        assert_eq!(encoder.frames(), None);
        encoder.start(&request(BlockSums::none()), 9).unwrap();
        assert_eq!(encoder.frames().is_some(), compression == Compression::Zstd);
        encoder.start(&request(sums(&context, &basis, 700, 8)), 9).unwrap();
        assert_eq!(encoder.frames(), None);
    }
}

#[test]
fn misuse_of_an_encoder_is_told() {
    let mut encoder = context(Checksum::Md5, Compression::None).encoder().unwrap();
    assert!(encoder.step(b"", &mut Pieces::default()).is_err());
    encoder.start(&request(BlockSums::none()), 5).unwrap();
    assert!(encoder.step(b"four", &mut Pieces::default()).is_err());
}

fn edited() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let edit = (any::<prop::sample::Index>(), 0..900usize, 0..900usize, any::<u64>());
    ((0..60_000usize, any::<u64>(), any::<bool>()), prop::collection::vec(edit, 0..8)).prop_map(
        |((length, seed, text), edits)| {
            let mut basis = noise(length, seed);
            if text {
                basis.iter_mut().for_each(|byte| *byte = b'a' + *byte % 4);
            }
            let mut file = basis.clone();
            for (place, remove, insert, seed) in edits {
                let start = place.index(file.len() + 1);
                let end = (start + remove).min(file.len());
                file.splice(start..end, noise(insert, seed));
            }
            (basis, file)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn every_edit_comes_through_every_compression(
        files in prop::collection::vec(edited(), 1..4),
        block_len in 100..3000u32,
        compression in prop::sample::select(&COMPRESSIONS[..]),
        checksum in prop::sample::select(&Checksum::ALL[..]),
    ) {
        let context = context(checksum, compression);
        let (mut encoder, mut receiver) = (context.encoder().unwrap(), Receiver::new(&context));
        for (basis, file) in files {
            let request = request(sums(&context, &basis, block_len, 8));
            let answer = answer(&mut encoder, &request, &file);
            prop_assert!(receiver.receive(&answer, &basis).as_ref() == Some(&file));
        }
    }
}
