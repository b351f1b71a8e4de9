//! LZ4 (protocol note, section 9.5): each chunk is a block of its own, without a frame.

use lz4_flex::block::{compress_into, get_maximum_output_size};

use super::compressed::{CHUNK, Compressor, MAX_CHUNK};
use super::failed;
use crate::Error;
use crate::answer::Pieces;

#[derive(Debug)]
pub(super) struct Lz4 {
    /// Literal bytes that are in no chunk yet, fewer than [`BLOCK`].
    waiting: Vec<u8>,
    room: Vec<u8>,
}

impl Lz4 {
    pub(super) fn new() -> Self {
        Lz4 { waiting: Vec::with_capacity(BLOCK), room: vec![0; get_maximum_output_size(BLOCK)] }
    }

    /// A chunk with up to [`BLOCK`] bytes, or a few if they do not get short enough for one.
    fn put_block(&mut self, bytes: &[u8], out: &mut Pieces) -> Result<(), Error> {
        let length = compress_into(bytes, &mut self.room).map_err(|why| failed("lz4", why))?;
        if length > MAX_CHUNK {
            return bytes.chunks(SURE).try_for_each(|part| self.put_block(part, out));
        }
        out.put(&[CHUNK | (length >> 8) as u8, length as u8]);
        out.put(&self.room[..length]);
        Ok(())
    }
}

impl Compressor for Lz4 {
    fn start(&mut self, _: Option<u64>) -> Result<(), Error> {
        self.waiting.clear();
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], out: &mut Pieces) -> Result<(), Error> {
        if !self.waiting.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
            if self.waiting.len() == BLOCK {
                self.flush(out)?;
            }
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / BLOCK * BLOCK);
        blocks.chunks(BLOCK).try_for_each(|block| self.put_block(block, out))?;
        self.waiting.extend_from_slice(rest);
        Ok(())
    }

    fn flush(&mut self, out: &mut Pieces) -> Result<(), Error> {
        // A block of nothing would be read as the end of the file.
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        let done = self.put_block(&waiting, out);
        waiting.clear();
        self.waiting = waiting;
        done
    }
}

/// Bytes in one block: receivers have room for 32912.
const BLOCK: usize = 32 << 10;

/// So many bytes fit into a chunk whatever they are: LZ4 adds at most a byte for each 255, and 16.
const SURE: usize = 16_000;
