//! Contents: text that compresses to about a quarter, and noise; both the same in every run.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};

/// Changes are made in pages of this many bytes.
pub(super) const PAGE: usize = 4096;

/// A stock of text: far larger than the window of zstd's usual levels, so that its repetition is not seen.
const STOCK: usize = 16 << 20;

/// Pages of text, and how to make new ones of them.
pub(in crate::bench) struct Text {
    stock: Vec<u8>,
}

impl Text {
    /// Makes the stock.
    pub(in crate::bench) fn new() -> Self {
        let mut random = Random(1);
        let words: Vec<String> = (0..3000).map(|_| random.word()).collect();
        let mut stock = Vec::with_capacity(STOCK + 200);
        while stock.len() < STOCK {
            let line = stock.len();
            let _ = write!(stock, "{line:08x} {:04x} ", random.below(65_536));
            for _ in 0..random.below(12) + 3 {
                // Some words are much more frequent than others.
                let word = random.below(words.len()) * random.below(1000) / 1000;
                stock.extend_from_slice(words[word].as_bytes());
                stock.push(b' ');
            }
            stock.push(b'\n');
        }
        stock.truncate(STOCK);
        Self { stock }
    }

    /// Page `number` of version `version`; no two are equal.
    fn page(&self, number: u64, version: u64) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let shift = version * 1_000_003;
        let start = (number.wrapping_mul(PAGE as u64) + shift) as usize % (self.stock.len() - PAGE);
        page.copy_from_slice(&self.stock[start..start + PAGE]);
        let stamp = format!("{number:012x}.{version:03x}");
        page[..stamp.len()].copy_from_slice(stamp.as_bytes());
        page
    }

    /// The first `length` bytes of version 0.
    pub(in crate::bench) fn pages(&self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(PAGE) as u64).flat_map(|number| self.page(number, 0)).take(length).collect()
    }

    /// Writes `mib` MiB. In every version but 0, one page of a hundred is another one than in version 0.
    pub(super) fn write(&self, path: &Path, mib: u64, version: u64) -> Result<()> {
        let changed = |page: u64| version > 0 && mix(page).is_multiple_of(100);
        write_pages(path, mib, |page| self.page(page, if changed(page) { version } else { 0 }))?;
        // rsync's quick check takes times within one second as equal.
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000 + version);
        let file = File::options().write(true).open(path);
        file.and_then(|file| file.set_modified(time)).with_context(|| format!("touch {}", path.display()))
    }

    /// A small text, 200 bytes to 12 KiB.
    pub(super) fn small(&self, number: u64) -> &[u8] {
        let length = 200 + mix(number) as usize % 400 * (mix(number + 7) as usize % 30 + 1);
        let start = mix(number + 13) as usize % (self.stock.len() - length);
        &self.stock[start..start + length]
    }
}

/// Writes `mib` MiB that no compressor makes shorter.
pub(super) fn write_noise(path: &Path, mib: u64) -> Result<()> {
    write_pages(path, mib, |page| {
        let mut bytes = [0; PAGE];
        for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&mix(page * 512 + at as u64).to_le_bytes());
        }
        bytes
    })
}

fn write_pages(path: &Path, mib: u64, page: impl Fn(u64) -> [u8; PAGE]) -> Result<()> {
    let wrote = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        (0..(mib << 20) / PAGE as u64).try_for_each(|number| file.write_all(&page(number)))?;
        file.into_inner()?.sync_all()
    };
    wrote().with_context(|| format!("write {}", path.display()))
}

/// A number without visible relation to `seed`.
pub(super) fn mix(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 += 1;
        (mix(self.0) % limit as u64) as usize
    }

    fn word(&mut self) -> String {
        (0..self.below(8) + 2).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_differs_in_about_one_page_of_a_hundred() {
        let folder = tempfile();
        let text = Text::new();
        let versions = [0, 1].map(|version| {
            let path = folder.join(version.to_string());
            text.write(&path, 16, version).unwrap();
            fs::read(path).unwrap()
        });
        let pages = versions[0].chunks(PAGE).zip(versions[1].chunks(PAGE));
        let differ = pages.filter(|(one, two)| one != two).count();
        assert!((20..65).contains(&differ), "{differ} of 4096");
        fs::remove_dir_all(folder).unwrap();
    }

    fn tempfile() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("ebbtide-bench-data-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}
