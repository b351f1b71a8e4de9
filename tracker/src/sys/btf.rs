//! Reads BTF, the kernel's own description of its types: where fields are, and what enumerators are worth.
//!
//! Rust programs have no CO-RE relocations, so offsets are looked up here, by name, at load.
//! Format: <https://docs.kernel.org/bpf/btf.html>.

use std::{collections::HashMap, io, path::Path};

/// A parsed BTF blob. Ids are the kernel's: 0 is `void`.
#[derive(Clone)]
pub struct Btf {
    bytes: Vec<u8>,
    /// Byte ranges of the strings in `bytes`: the kernel's, then a module's, whose offsets go on where the kernel's end.
    strings: Vec<std::ops::Range<usize>>,
    /// Where each type starts in `bytes`; entry 0 stands for `void` and is not used.
    types: Vec<u32>,
    /// Structures that are looked up, by name. The first definition of a name counts.
    structs: HashMap<&'static str, u32>,
}

/// Where a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// From the start of the outermost structure, in bytes.
    pub offset: u32,
    /// In bytes; 0 for an array of unknown length.
    pub size: u32,
}

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file could not be read; without `CONFIG_DEBUG_INFO_BTF` there is none.
    #[error("cannot read kernel types from {path}")]
    Read {
        /// The file.
        path: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The bytes are not BTF.
    #[error("kernel types are malformed at byte {at}: {what}")]
    Malformed {
        /// Offset in the blob.
        at: usize,
        /// What was expected.
        what: &'static str,
    },
    /// A field that the programs need does not exist.
    #[error("kernel has no field {path}")]
    NoField {
        /// Dotted path of the field.
        path: String,
    },
    /// A field has a size that the programs do not expect.
    #[error("kernel field {path} has {found} bytes, expected {expected}")]
    Size {
        /// Dotted path of the field.
        path: String,
        /// In bytes.
        found: u32,
        /// In bytes.
        expected: u32,
    },
}

impl Btf {
    /// Reads the types of the running kernel. `structs` names the structures that will be asked for.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is malformed.
    pub fn read(path: &Path, structs: &[&'static str]) -> Result<Self, BtfError> {
        let bytes = std::fs::read(path)
            .map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Self::parse(bytes, structs)
    }

    /// Reads a blob.
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn parse(bytes: Vec<u8>, structs: &[&'static str]) -> Result<Self, BtfError> {
        let header = Header::parse(&bytes)?;
        let mut btf = Btf { bytes, strings: vec![header.strings], types: vec![0], structs: HashMap::new() };
        btf.index_all(header.types, structs)?;
        Ok(btf)
    }

    /// These types and those of one module, such as `/sys/kernel/btf/btrfs`, which build on the kernel's own.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is malformed.
    pub fn with_module(&self, path: &Path, structs: &[&'static str]) -> Result<Self, BtfError> {
        let bytes = std::fs::read(path)
            .map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        self.with_module_of(&bytes, structs)
    }

    /// The same with a module's blob.
    ///
    /// # Errors
    ///
    /// When the blob is malformed.
    pub fn with_module_of(&self, module: &[u8], structs: &[&'static str]) -> Result<Self, BtfError> {
        let header = Header::parse(module)?;
        let mut both = self.clone();
        let start = both.bytes.len();
        both.bytes.extend_from_slice(module);
        let moved = |range: std::ops::Range<usize>| range.start + start..range.end + start;
        both.strings.push(moved(header.strings));
        both.index_all(moved(header.types), structs)?;
        Ok(both)
    }

    fn index_all(&mut self, types: std::ops::Range<usize>, structs: &[&'static str]) -> Result<(), BtfError> {
        let mut at = types.start;
        while at < types.end {
            let kind = self.kind_at(at)?;
            let next = at + HEAD + kind.tail()?;
            if next > types.end {
                return Err(malformed(at, "a type runs past the end of the types"));
            }
            self.index(at, kind.code, structs);
            at = next;
        }
        Ok(())
    }

    /// Looks up a field by the names of structure and members; members of anonymous members count as the outer
    /// structure's own.
    ///
    /// # Errors
    ///
    /// When there is no such field.
    pub fn field(&self, of: &'static str, members: &[&str]) -> Result<Field, BtfError> {
        let missing = || BtfError::NoField { path: dotted(of, members) };
        let mut id = *self.structs.get(of).ok_or_else(missing)?;
        let mut offset = 0;
        for name in members {
            let (bits, inner) = self.member(id, name.as_bytes(), DEPTH).ok_or_else(missing)?;
            offset += bits / 8;
            id = inner;
        }
        Ok(Field { offset, size: self.size(id, DEPTH).ok_or_else(missing)? })
    }

    /// As [`field`](Self::field), but refuses a field that is not `size` bytes long.
    ///
    /// # Errors
    ///
    /// When there is no such field, or it has another size.
    pub fn field_of_size(&self, of: &'static str, members: &[&str], size: u32) -> Result<u32, BtfError> {
        let field = self.field(of, members)?;
        if field.size == size {
            return Ok(field.offset);
        }
        Err(BtfError::Size { path: dotted(of, members), found: field.size, expected: size })
    }

    /// The value of an enumerator, whichever enumeration it is in.
    pub fn enumerator(&self, name: &str) -> Option<i64> {
        self.ids()
            .find_map(|id| self.enumerators(id).find(|(n, _)| *n == name.as_bytes()).map(|(_, value)| value))
    }

    /// Whether there is a type definition of this name: each BTF tracepoint `x` has `btf_trace_x`.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.ids().any(|id| {
            self.kind(id).is_some_and(|kind| kind.code == TYPEDEF)
                && self.name_of(id) == Some(name.as_bytes())
        })
    }

    fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        // There are fewer types than bytes, and offsets are 32 bits: the cast is lossless.
        1..self.types.len() as u32
    }

    fn index(&mut self, at: usize, code: u32, structs: &[&'static str]) {
        let id = self.types.len() as u32;
        self.types.push(at as u32);
        if code != STRUCT {
            return;
        }
        let found = self.name_of(id).and_then(|name| structs.iter().find(|s| s.as_bytes() == name).copied());
        if let Some(name) = found {
            self.structs.entry(name).or_insert(id);
        }
    }

    /// Bit offset and type of a member.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let id = self.strip(id)?;
        let depth = depth.checked_sub(1)?;
        self.members(id).find_map(|(member, ty, bits)| {
            if member == name {
                return Some((bits, ty));
            }
            let (inner, ty) = member.is_empty().then(|| self.member(ty, name, depth)).flatten()?;
            Some((bits + inner, ty))
        })
    }

    /// Name, type and bit offset of each member of a structure or union; none of another type.
    fn members(&self, id: u32) -> impl Iterator<Item = (&[u8], u32, u32)> {
        let kind = self.kind(id).filter(|kind| kind.code == STRUCT || kind.code == UNION);
        let (count, bitfields) = kind.map_or((0, false), |kind| (kind.count, kind.flag));
        let at = self.at(id).unwrap_or(0) + HEAD;
        (0..count as usize).filter_map(move |i| {
            let at = at + i * 12;
            let offset = self.u32(at + 8)?;
            let bits = if bitfields { offset & 0x00ff_ffff } else { offset };
            Some((self.string(self.u32(at)?)?, self.u32(at + 4)?, bits))
        })
    }

    /// Name and value of each enumerator; none of another type.
    fn enumerators(&self, id: u32) -> impl Iterator<Item = (&[u8], i64)> {
        let kind = self.kind(id).filter(|kind| kind.code == ENUM || kind.code == ENUM64);
        let count = kind.map_or(0, |kind| kind.count as usize);
        let wide = kind.is_some_and(|kind| kind.code == ENUM64);
        let at = self.at(id).unwrap_or(0) + HEAD;
        (0..count).filter_map(move |i| {
            let at = at + i * if wide { 12 } else { 8 };
            let low = self.u32(at + 4)?;
            let value = if wide {
                i64::from(low) | i64::from(self.u32(at + 8)?) << 32
            } else {
                i64::from(low as i32)
            };
            Some((self.string(self.u32(at)?)?, value))
        })
    }

    fn size(&self, id: u32, depth: u32) -> Option<u32> {
        let id = self.strip(id)?;
        let at = self.at(id)?;
        match self.kind(id)?.code {
            PTR => Some(8),
            ARRAY => {
                let (element, count) = (self.u32(at + HEAD)?, self.u32(at + HEAD + 8)?);
                self.size(element, depth.checked_sub(1)?)?.checked_mul(count)
            }
            INT | STRUCT | UNION | ENUM | FLOAT | ENUM64 => self.u32(at + 8),
            _ => None,
        }
    }

    /// The type behind definitions and qualifiers.
    fn strip(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH {
            match self.kind(id)?.code {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = self.u32(self.at(id)? + 8)?,
                _ => return Some(id),
            }
        }
        None
    }

    fn name_of(&self, id: u32) -> Option<&[u8]> {
        self.string(self.u32(self.at(id)?)?)
    }

    fn at(&self, id: u32) -> Option<usize> {
        (id != 0).then(|| self.types.get(id as usize).map(|at| *at as usize)).flatten()
    }

    fn kind(&self, id: u32) -> Option<Kind> {
        self.kind_at(self.at(id)?).ok()
    }

    fn kind_at(&self, at: usize) -> Result<Kind, BtfError> {
        let info = self.u32(at + 4).ok_or(malformed(at, "a type"))?;
        Ok(Kind { at, code: info >> 24 & 0x1f, count: info & 0xffff, flag: info >> 31 == 1 })
    }

    fn string(&self, offset: u32) -> Option<&[u8]> {
        let mut offset = offset as usize;
        let range = self.strings.iter().find(|range| {
            let inside = offset < range.len();
            offset -= if inside { 0 } else { range.len() };
            inside
        })?;
        let rest = self.bytes.get(range.clone())?.get(offset..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(&rest[..end])
    }

    fn u32(&self, at: usize) -> Option<u32> {
        u32_at(&self.bytes, at)
    }
}

/// What the second word of a type says.
#[derive(Clone, Copy)]
struct Kind {
    at: usize,
    code: u32,
    /// Members, enumerators or parameters.
    count: u32,
    flag: bool,
}

impl Kind {
    /// Bytes after the three words that each type has.
    fn tail(self) -> Result<usize, BtfError> {
        let count = self.count as usize;
        match self.code {
            INT | VAR | DECL_TAG => Ok(4),
            ARRAY => Ok(12),
            STRUCT | UNION | DATASEC | ENUM64 => Ok(count * 12),
            ENUM | FUNC_PROTO => Ok(count * 8),
            PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => Ok(0),
            _ => Err(malformed(self.at, "a kind of type that is known")),
        }
    }
}

struct Header {
    types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let word = |at| u32_at(bytes, at).ok_or(malformed(at, "a header"));
        if word(0)? & 0xffff != MAGIC {
            return Err(malformed(0, "the magic number 0xeb9f in this machine's byte order"));
        }
        let base = word(4)? as usize;
        let range = |offset: u32, len: u32| {
            let start = base + offset as usize;
            let range = start..start + len as usize;
            (range.end <= bytes.len()).then_some(range).ok_or(malformed(8, "a section inside the blob"))
        };
        Ok(Header { types: range(word(8)?, word(12)?)?, strings: range(word(16)?, word(20)?)? })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn malformed(at: usize, what: &'static str) -> BtfError {
    BtfError::Malformed { at, what }
}

fn dotted(of: &str, members: &[&str]) -> String {
    std::iter::once(&of).chain(members).copied().collect::<Vec<_>>().join(".")
}

const MAGIC: u32 = 0xeb9f;

/// Bytes of name, info and size or type.
const HEAD: usize = 12;

/// Deepest nesting that is followed; the kernel's types have fewer than ten.
const DEPTH: u32 = 32;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
