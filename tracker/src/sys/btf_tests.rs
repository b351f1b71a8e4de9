//! Tests of the BTF reader on blobs made here, and on the running kernel's where there is one.

use super::*;

/// Builds blobs: types are numbered from 1 in the order they are added.
#[derive(Default)]
struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Blob {
    fn new() -> Self {
        Blob { types: Vec::new(), strings: vec![0] }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(mut self, words: &[u32]) -> Self {
        words.iter().for_each(|word| self.types.extend_from_slice(&word.to_ne_bytes()));
        self
    }

    fn int(mut self, name: &str, size: u32) -> Self {
        let name = self.string(name);
        self.words(&[name, INT << 24, size, 0])
    }

    fn plain(mut self, kind: u32, name: &str, of: u32) -> Self {
        let name = self.string(name);
        self.words(&[name, kind << 24, of])
    }

    fn compound(mut self, kind: u32, name: &str, size: u32, members: &[(&str, u32, u32)]) -> Self {
        let name = self.string(name);
        self = self.words(&[name, kind << 24 | members.len() as u32, size]);
        for (member, ty, bits) in members {
            let member = self.string(member);
            self = self.words(&[member, *ty, *bits]);
        }
        self
    }

    fn build(self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let header = [MAGIC | 1 << 16, 24, 0, types, types, strings];
        let header = header.iter().flat_map(|word| word.to_ne_bytes());
        header.chain(self.types).chain(self.strings).collect()
    }
}

/// 1 u32, 2 u64, 3 const u64, 4 struct pair, 5 anonymous union, 6 struct inode, 7 enumeration.
fn sample() -> Vec<u8> {
    let mut blob = Blob::new()
        .int("u32", 4)
        .int("u64", 8)
        .plain(CONST, "", 2)
        .compound(STRUCT, "pair", 16, &[("first", 1, 0), ("second", 3, 64)])
        .compound(UNION, "", 8, &[("narrow", 1, 0), ("wide", 2, 0)])
        .compound(STRUCT, "inode", 40, &[("i_mode", 1, 0), ("", 5, 64), ("i_time", 4, 128)])
        .plain(TYPEDEF, "btf_trace_some_event", 2);
    let (name, one) = (blob.string("flags"), blob.string("I_DIRTY_PAGES"));
    blob.words(&[name, ENUM << 24 | 1, 4, one, 64]).build()
}

#[test]
fn a_member_of_a_nested_structure_is_found_behind_its_qualifiers() {
    let btf = Btf::parse(sample(), &["inode"]).unwrap();
    assert_eq!(btf.field("inode", &["i_time", "second"]).unwrap(), Field { offset: 24, size: 8 });
}

#[test]
fn a_member_of_an_anonymous_union_counts_as_the_outer_structures_own() {
    let btf = Btf::parse(sample(), &["inode"]).unwrap();
    assert_eq!(btf.field("inode", &["wide"]).unwrap(), Field { offset: 8, size: 8 });
}

#[test]
fn a_missing_field_is_named() {
    let btf = Btf::parse(sample(), &["inode"]).unwrap();
    let error = btf.field("inode", &["i_time", "third"]).unwrap_err();
    assert_eq!(error.to_string(), "kernel has no field inode.i_time.third");
}

#[test]
fn a_field_of_another_size_is_refused() {
    let btf = Btf::parse(sample(), &["inode"]).unwrap();
    let error = btf.field_of_size("inode", &["i_mode"], 2).unwrap_err();
    assert_eq!(error.to_string(), "kernel field inode.i_mode has 4 bytes, expected 2");
}

#[test]
fn enumerators_and_type_definitions_are_found_by_name() {
    let btf = Btf::parse(sample(), &[]).unwrap();
    assert_eq!(btf.enumerator("I_DIRTY_PAGES"), Some(64));
    assert_eq!(btf.enumerator("I_NEW"), None);
    assert!(btf.has_typedef("btf_trace_some_event"));
    assert!(!btf.has_typedef("u32"));
}

#[test]
fn a_blob_cut_anywhere_is_refused_or_read_but_never_panics() {
    let whole = sample();
    for len in 0..whole.len() {
        if let Ok(btf) = Btf::parse(whole[..len].to_vec(), &["inode"]) {
            let _ = btf.field("inode", &["i_time", "second"]);
        }
    }
}

#[test]
fn a_damaged_blob_never_panics() {
    let whole = sample();
    for at in 0..whole.len() {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut blob = whole.clone();
            blob[at] = byte;
            if let Ok(btf) = Btf::parse(blob, &["inode"]) {
                let _ = btf.field("inode", &["i_time", "second"]);
                let _ = btf.field("inode", &["wide"]);
                let _ = (btf.enumerator("I_DIRTY_PAGES"), btf.has_typedef("x"));
            }
        }
    }
}

#[test]
fn the_running_kernels_inode_has_an_inode_number_of_eight_bytes() {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    if !path.exists() {
        return;
    }
    let btf = Btf::read(path, &["inode"]).unwrap();
    assert_eq!(btf.field("inode", &["i_ino"]).unwrap().size, 8);
}
