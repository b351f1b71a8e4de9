//! The object file that holds programs and maps: where it comes from, and how it is prepared for this kernel.

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::{
    Btf as KernelBtf, Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapError},
    pin::PinError,
};
use ebbtide_abi::{Layout, SIDES, globals, maps};

use super::{error::BpfError, layout};
use crate::probe::bitmap::slab_words;
use crate::sys::{
    bpf::{LayoutGlobal, Windows, Words},
    btf::Btf,
};

/// How to load the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Chunks in the slab, of 4096 inodes and 3 KiB each; at least 1. They are shared by all devices and are
    /// taken for inodes that change, so the default of 16384 (48 MiB) covers 67 million inodes that change at once.
    pub chunks: u32,
    /// Size of the ring that carries names, in bytes; rounded up to a power of two of whole pages. A record is 104
    /// bytes, or 312 for a name of more than 48 bytes. Default 8 MiB.
    pub ring_bytes: u32,
    /// Where the programs are.
    pub object: Object,
    /// Which of the programs are wanted.
    pub hooks: Hooks,
    /// A directory on a bpffs where programs, their links and maps are pinned, so that they stay when this process
    /// ends. It must exist and be empty.
    pub pin: Option<PathBuf>,
}

/// Which of the programs are wanted; those for stores through mappings always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hooks {
    /// All that the kernel permits.
    #[default]
    All,
    /// Those on functions of VFS, and nothing of one file system's own.
    Functions,
    /// Those on tracepoints.
    Tracepoints,
}

/// Where the programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// In this binary.
    Embedded,
    /// In a file.
    Path(PathBuf),
}

impl Default for Options {
    fn default() -> Self {
        Options {
            chunks: 1 << 14,
            ring_bytes: 8 << 20,
            object: Object::Embedded,
            hooks: Hooks::All,
            pin: None,
        }
    }
}

impl Options {
    /// The defaults, but for what `EBBTIDE_CHUNKS` and `EBBTIDE_RING_BYTES` say: tests have them small, so that they
    /// overflow.
    pub fn of_this_process() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let usual = Options::default();
        Options {
            chunks: number("EBBTIDE_CHUNKS").unwrap_or(usual.chunks),
            ring_bytes: number("EBBTIDE_RING_BYTES").unwrap_or(usual.ring_bytes),
            ..usual
        }
    }

    pub(super) fn chunks(&self) -> u32 {
        self.chunks.clamp(1, MAX_CHUNKS)
    }

    fn ring_bytes(&self) -> u32 {
        self.ring_bytes.clamp(page_size(), 1 << 30).next_power_of_two()
    }
}

/// An object whose maps exist and whose programs wait to be loaded.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// The kernel's types as the loader wants them.
    pub(super) btf: KernelBtf,
    /// The kernel's types as we read them.
    pub(super) types: Btf,
    pub(super) layout: Layout,
    /// One more than the highest number of a CPU that may ever be there.
    pub(super) cpus: u32,
    source: Vec<u8>,
    pub(super) options: Options,
}

pub(super) fn load(options: &Options) -> Result<Loaded, BpfError> {
    let source = bytes(&options.object)?;
    let types = layout::kernel_types()?;
    let layout = layout::find(&types)?;
    let btf = KernelBtf::from_sys_fs().map_err(|error| BpfError::Load(Box::new(error.into())))?;
    let cpus = possible_cpus();
    let ebpf = prepare(&source, options, &layout, &btf, cpus)?;
    Ok(Loaded { ebpf, btf, types, layout, cpus, source, options: options.clone() })
}

impl Loaded {
    /// Starts over with a layout that makes the programs read kernel memory through the helper.
    pub(super) fn without_plain_loads(&mut self) -> Result<(), BpfError> {
        self.layout.plain_loads = 0;
        self.ebpf = prepare(&self.source, &self.options, &self.layout, &self.btf, self.cpus)?;
        Ok(())
    }
}

/// The mapped memory of a map.
pub(super) fn memory(ebpf: &Ebpf, name: &'static str, words: usize) -> Result<Words, BpfError> {
    let Some(Map::Array(map)) = ebpf.map(name) else { return Err(BpfError::Missing { what: "map", name }) };
    Ok(Words::of_map(map.fd().as_fd(), words)?)
}

/// The memory of the chunks.
pub(super) fn slab(ebpf: &Ebpf, chunks: u32) -> Result<Windows, BpfError> {
    let name = maps::SLAB;
    let Some(Map::Array(map)) = ebpf.map(name) else { return Err(BpfError::Missing { what: "map", name }) };
    let (words, window) = slab_words(chunks);
    Ok(Windows::of_map(map.fd().as_fd(), words, window)?)
}

/// Takes a map out of the object.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, BpfError> {
    let map = ebpf.take_map(name).ok_or(BpfError::Missing { what: "map", name })?;
    M::try_from(map).map_err(|source| BpfError::map(name, source))
}

/// Pins every map.
pub(super) fn pin_maps(ebpf: &Ebpf, dir: &Path) -> Result<(), BpfError> {
    ebpf.maps().try_for_each(|(name, map)| pin(name, dir, |path| map.pin(path)))
}

/// Where something of this name is pinned below `dir`.
pub(super) fn pin_path(name: &str, dir: &Path) -> PathBuf {
    dir.join(name.trim_start_matches('.').replace('.', "_"))
}

/// Pins something below `dir` by its name, and says what if that fails. A bpffs keeps names with dots to itself.
pub(super) fn pin(
    name: &str,
    dir: &Path,
    pin: impl FnOnce(&Path) -> Result<(), PinError>,
) -> Result<(), BpfError> {
    let path = pin_path(name, dir);
    pin(&path).map_err(|source| BpfError::Pin { path, source: Box::new(source) })
}

/// Tells apart what must not be taken over by a process with these options: other programs, other sizes of maps.
///
/// # Errors
///
/// When there are no programs.
pub fn fingerprint(options: &Options) -> Result<u64, BpfError> {
    let mut hash = FNV_OFFSET;
    // Other programs are another layout, too: none must go on unseen that is not wanted.
    let sizes = [options.chunks(), options.ring_bytes(), possible_cpus(), options.hooks as u32];
    let sizes = sizes.iter().flat_map(|size| size.to_ne_bytes());
    for byte in bytes(&options.object)?.into_iter().chain(sizes) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
    }
    Ok(hash)
}

fn prepare(
    source: &[u8],
    options: &Options,
    layout: &Layout,
    btf: &KernelBtf,
    cpus: u32,
) -> Result<Ebpf, BpfError> {
    let (layout, chunks) = (LayoutGlobal(*layout), options.chunks());
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(btf))
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global(globals::LAYOUT, &layout, true)
        .override_global(globals::CHUNKS, &chunks, true)
        .map_max_entries(maps::RECORDS, options.ring_bytes())
        .map_max_entries(maps::DIRTY, SIDES as u32 * chunks.div_ceil(64))
        .map_max_entries(maps::CPUS, cpus);
    for name in [maps::DIRECTORY, maps::HINTS, maps::SLAB, maps::HEADS, maps::FREE] {
        loader.map_max_entries(name, chunks);
    }
    loader.load(source).map_err(|error| BpfError::Load(Box::new(error)))
}

fn bytes(object: &Object) -> Result<Vec<u8>, BpfError> {
    let bytes = match object {
        Object::Embedded => EMBEDDED.to_vec(),
        Object::Path(path) => read(path)?,
    };
    if bytes.is_empty() { Err(BpfError::NotBuilt) } else { Ok(bytes) }
}

fn read(path: &Path) -> Result<Vec<u8>, BpfError> {
    let error = |error| BpfError::Load(Box::new(aya::EbpfError::FileError { path: path.to_owned(), error }));
    std::fs::read(path).map_err(error)
}

/// One more than the highest number in a list such as `0-3,8-11`.
pub(super) fn possible_cpus() -> u32 {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<u32>().ok());
    last.map_or(MAX_CPUS, |last| last + 1)
}

fn page_size() -> u32 {
    rustix::param::page_size() as u32
}

static EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ebbtide.o"));

/// FNV-1a of 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01b3;

/// 12 GiB of bitmap: more than any use, and its sizes still fit 32 bits.
const MAX_CHUNKS: u32 = 1 << 22;

/// When the kernel does not tell; 1 MiB of counters.
const MAX_CPUS: u32 = 8192;
