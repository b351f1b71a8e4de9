//! Lists against the protocol note: its captured fragment, its order, its rules.

use std::cmp::Ordering;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::proto::{Checksum, CompatFlags, Compression, Dialect, IoErrors, Protocol, ServerOptions};
use crate::sender::Ndx;

fn dialect(protocol: Protocol, compat: u32) -> Dialect {
    Dialect {
        protocol,
        daemon_protocol: 32,
        digests: Vec::new(),
        compat: CompatFlags(compat),
        checksum: Checksum::Md5,
        compression: Compression::None,
        seed: 0,
    }
}

fn modern() -> Dialect {
    dialect(Protocol::V32, 0x1fe)
}

fn layout(options: &ServerOptions, dialect: &Dialect) -> Layout {
    Layout::new(options, dialect)
}

fn archive() -> ServerOptions {
    ServerOptions { hard_links: true, ..ServerOptions::archive() }
}

fn list(entries: &[Entry<'_>]) -> FileList {
    let mut builder = FileListBuilder::new();
    entries.iter().for_each(|entry| assert!(builder.push(entry).is_ok(), "{entry:?}"));
    builder.finish(|_, _| None).unwrap()
}

fn refused(entries: &[Entry<'_>]) -> String {
    let mut builder = FileListBuilder::new();
    let pushed: Result<Vec<_>, _> = entries.iter().map(|entry| builder.push(entry)).collect();
    pushed.err().unwrap_or_else(|| builder.finish(|_, _| None).unwrap_err()).to_string()
}

fn encoded(list: FileList, options: &ServerOptions, dialect: &Dialect, errors: IoErrors) -> Vec<u8> {
    let mut encoder = ListEncoder::new(layout(options, dialect));
    encoder.begin(Arc::new(list), 0);
    let mut out = Vec::new();
    while !encoder.encode(&mut out, usize::MAX) {}
    encoder.end(errors, &mut out);
    out
}

fn file(name: &str) -> Entry<'_> {
    Entry { name: name.as_bytes(), mode: 0o100_644, ..Entry::default() }
}

fn dir(name: &str) -> Entry<'_> {
    Entry { name: name.as_bytes(), mode: 0o040_755, ..Entry::default() }
}

/// The entries of the captured fragment, in the order in which they travelled.
fn captured() -> FileList {
    let mtime = Mtime { secs: 0x5e0b_e100, nanos: 0 };
    let base = Entry { mtime, ..Entry::default() };
    let dir = Entry { mode: 0o040_755, size: 4096, dir: DirKind::Content, ..base };
    let link = Entry { mode: 0o100_644, size: 1, uid: 1000, gid: 100, link_group: Some(77), ..base };
    let device = Device { major: 5, minor: 1 };
    let entries = [
        Entry { name: b".", ..dir },
        Entry { name: b"fifo", mode: 0o010_644, ..base },
        Entry { name: b"dev", mode: 0o020_644, device, ..base },
        Entry { name: b"d1", ..dir },
        Entry { name: b"sym", mode: 0o120_777, target: b"target/x", ..base },
        Entry { name: b"a", ..link },
        Entry { name: b"d1/d2", ..dir },
        Entry { name: b"d1/alink", ..link },
        Entry { name: b"d1/d2/alink2", ..link },
    ];
    let mut builder = FileListBuilder::new();
    entries.iter().for_each(|entry| assert!(builder.push(entry).is_ok()));
    let name = |kind, id| match (kind, id) {
        (_, 0) => Some(b"root".to_vec()),
        (IdKind::User, 1000) => Some(b"somebody".to_vec()),
        (IdKind::Group, 100) => Some(b"users".to_vec()),
        _ => None,
    };
    builder.finish(name).unwrap()
}

#[test]
fn the_captured_list_is_encoded_byte_for_byte() {
    let mut list = captured();
    // The stock sender does not sort before it sends; the encoder follows the order that it is given.
    let order = std::mem::replace(&mut list.order, (0..9).collect());
    let expected: &[&[u8]] = &[
        b"\x01\x01.\x00\x00\x10\x5e\x00\xe1\x0b\xed\x41\x00\x00\x00\x00",
        b"\x80\x98\x04fifo\x00\x00\x00\xa4\x11\x00\x00",
        b"\x80\x98\x03dev\x00\x00\x00\xa4\x21\x00\x00\x05\x01",
        b"\x80\xb8\x01\x011\x00\x00\x10\xed\x41\x00\x00",
        b"\x80\x98\x03sym\x00\x08\x00\xff\xa1\x00\x00\x08target/x",
        b"\x92\x80\x01a\x00\x01\x00\xa4\x81\x00\x00\x83\xe8\x64",
        b"\x80\x80\x05d1/d2\x00\x00\x10\xed\x41\x00\x00\x00\x00",
        b"\x82\xa0\x03\x05alink\x05",
        b"\x82\xba\x03\x09d2/alink2\x05",
        b"\x00\x00",
        b"\x83\xe8\x08somebody\x00\x04root",
        b"\x64\x05users\x00\x04root",
    ];
    assert_eq!(encoded(list, &archive(), &modern(), IoErrors::NONE), expected.concat());
    let sorted: Vec<Vec<u8>> = {
        let list = FileList { order, ..captured() };
        list.iter().map(|(_, entry)| entry.path()).collect()
    };
    let names = [".", "a", "dev", "fifo", "sym", "d1", "d1/alink", "d1/d2", "d1/d2/alink2"];
    assert_eq!(sorted, names.map(|name| name.as_bytes().to_vec()));
}

#[test]
fn indexes_lead_back_to_what_was_pushed() {
    let list = captured();
    let pushed: Vec<_> = (0..10).map(|ndx| list.pushed(Ndx(ndx))).collect();
    assert_eq!(
        pushed,
        [Some(0), Some(5), Some(2), Some(1), Some(4), Some(3), Some(7), Some(6), Some(8), None]
    );
    assert_eq!(list.find(b"d1/d2"), Some(Ndx(7)));
    assert_eq!(list.get(Ndx(4)).unwrap().target, b"target/x");
    assert!(list.get(Ndx(9)).is_none());
}

#[test]
fn a_lone_member_of_a_link_group_is_a_plain_entry() {
    let alone = Entry { link_group: Some(1), ..file("a") };
    let plain = encoded(list(&[file("a")]), &archive(), &modern(), IoErrors::NONE);
    assert_eq!(encoded(list(&[alone]), &archive(), &modern(), IoErrors::NONE), plain);
}

#[test]
fn names_to_be_removed_come_first_and_need_no_mode() {
    let entries = [dir("d"), file("d/new"), Entry::missing(b"d/old"), Entry::missing(b"gone")];
    let out = encoded(list(&entries), &ServerOptions::default(), &modern(), IoErrors::NONE);
    // 0x9a: same time, gid, uid, mode.
    assert!(out.starts_with(b"\x80\x9a\x04gone\x00\x00\x00\x80\x9a\x05d/old\x00\x00\x00"), "{out:x?}");
    let sorted: Vec<_> = list(&entries).iter().map(|(_, entry)| entry.path()).collect();
    assert_eq!(sorted, [&b"gone"[..], b"d", b"d/new", b"d/old"]);
}

#[test]
fn directories_say_what_the_list_knows_of_them() {
    let flags =
        |kind| encoded(list(&[Entry { dir: kind, ..dir("d") }]), &archive(), &modern(), IoErrors::NONE);
    // No ids in the first entry's flags; time 0 is the initial one.
    assert!(flags(DirKind::Content).starts_with(&[0x80, 0x80, 1, b'd']));
    assert!(flags(DirKind::Plain).starts_with(&[0x81, 0x80, 1, b'd']));
    assert!(flags(DirKind::Implied).starts_with(&[0x81, 0x81, 1, b'd']));
}

#[test]
fn the_end_of_the_list_carries_errors_where_it_can() {
    let end = |dialect: &Dialect, errors| {
        let options = ServerOptions { numeric_ids: true, ..ServerOptions::default() };
        let out = encoded(list(&[file("a")]), &options, dialect, errors);
        out[out.len() - 3..].to_vec()
    };
    let mode_end = 0;
    assert_eq!(end(&modern(), IoErrors::VANISHED), [mode_end, 0, 2]);
    assert_eq!(end(&dialect(Protocol::V31, 0x3e), IoErrors::GENERAL), [4, 0x10, 1]);
    assert_eq!(end(&dialect(Protocol::V30, 0x08), IoErrors::GENERAL), [4, 0x10, 1]);
    assert_eq!(end(&dialect(Protocol::V30, 0), IoErrors::GENERAL), [mode_end, mode_end, 0]);
    assert_eq!(end(&dialect(Protocol::V31, 0x3e), IoErrors::NONE), [mode_end, mode_end, 0]);
}

#[test]
fn byte_flags_are_never_the_end_marker() {
    let old = dialect(Protocol::V30, 0x0e);
    let all_differs = Entry { mtime: Mtime { secs: 9, nanos: 5 }, uid: 7, gid: 8, ..file("a") };
    let out = encoded(list(&[all_differs]), &archive(), &old, IoErrors::NONE);
    assert!(out.starts_with(&[0x01, 1, b'a']), "a file takes TOP_DIR: {out:x?}");
    let plain =
        Entry { mtime: Mtime { secs: 9, nanos: 0 }, uid: 7, gid: 8, dir: DirKind::Content, ..dir("d") };
    let out = encoded(list(&[plain]), &archive(), &old, IoErrors::NONE);
    assert!(out.starts_with(&[0x04, 0x00, 1, b'd']), "a directory takes two bytes: {out:x?}");
}

#[test]
fn checksums_and_long_names_have_their_place() {
    let long = "n".repeat(300);
    let options = ServerOptions { checksum: true, ..ServerOptions::default() };
    let entry = Entry { checksum: &[0xcc; 16], ..file(&long) };
    let out = encoded(list(&[entry]), &options, &modern(), IoErrors::NONE);
    // 0xd8: LONG_NAME, same time, gid, uid. 300 is a varint.
    assert!(out.starts_with(&[0x80, 0xd8, 0x81, 0x2c, b'n']));
    assert!(out.ends_with(&[&[0xcc; 16][..], &[0, 0]].concat()));
}

#[test]
fn protocol_30_specials_have_device_numbers() {
    let fifo = Entry { name: b"f", mode: 0o010_644, ..Entry::default() };
    let options = ServerOptions { devices: true, ..ServerOptions::default() };
    let ends = |dialect| encoded(list(&[fifo]), &options, &dialect, IoErrors::NONE);
    // SAME_RDEV_MAJOR, and the minor number behind the mode.
    assert_eq!(ends(dialect(Protocol::V30, 0x0e)), b"\x9c\x01\x01f\0\0\0\xa4\x11\0\0\0\0");
    assert_eq!(ends(dialect(Protocol::V31, 0x3e)), b"\x98\x01f\0\0\0\xa4\x11\0\0\0");
}

#[test]
fn what_cannot_be_sent_is_refused() {
    for name in ["", "/a", "a/", "a//b", "./a", "a/..", "a\0b", ".."] {
        assert!(refused(&[file(name)]).contains("misuse"), "{name:?}");
    }
    assert!(refused(&[file(&"x".repeat(4096))]).contains("4095"));
    assert!(refused(&[Entry { mode: 0o644, ..file("a") }]).contains("type"));
    assert!(refused(&[Entry { mode: 0o120_777, ..file("a") }]).contains("target"));
    assert!(refused(&[file(".")]).contains("directory"));
    let nanos = Mtime { secs: 0, nanos: 1_000_000_000 };
    assert!(refused(&[Entry { mtime: nanos, ..file("a") }]).contains("time"));
}

#[test]
fn parents_must_be_listed_as_directories() {
    assert!(refused(&[file("d/f")]).contains("\"d\" is the parent"));
    assert!(refused(&[dir("d"), file("d/e/f")]).contains("\"d/e\" is the parent"));
    assert!(refused(&[file("d"), file("d/f")]).contains("\"d\" is the parent"));
    list(&[file("d/f"), dir("d")]);
}

#[test]
fn a_name_is_listed_once() {
    assert!(refused(&[file("a"), file("b"), file("a")]).contains("\"a\" is in the list twice"));
    assert!(refused(&[dir("d"), dir("d")]).contains("twice"));
    assert!(refused(&[dir("d"), Entry::missing(b"d")]).contains("twice"));
    assert!(refused(&[dir("."), dir(".")]).contains("twice"));
    assert!(refused(&[dir("."), dir("x"), file("+"), file("x")]).contains("\"x\" is in the list twice"));
}

#[test]
fn very_deep_paths_do_not_exhaust_the_stack() {
    let paths: Vec<String> = (1..=2000).map(|depth| vec!["d"; depth].join("/")).collect();
    let entries: Vec<_> = paths.iter().rev().map(|path| dir(path)).collect();
    let sorted: Vec<_> = list(&entries).iter().map(|(_, entry)| entry.path().len()).collect();
    assert!(sorted.is_sorted());
}

/// The order as the note defines it: components, a slash behind those that are directories, files before them.
fn by_definition(a: &(Vec<u8>, bool), b: &(Vec<u8>, bool)) -> Ordering {
    let components = |(path, is_dir): &(Vec<u8>, bool)| {
        if path == b"." {
            return Vec::new();
        }
        let count = path.split(|byte| *byte == b'/').count();
        let component = |(at, name): (usize, &[u8])| match at + 1 < count || *is_dir {
            true => (1, [name, b"/"].concat()),
            false => (0, name.to_vec()),
        };
        path.split(|byte| *byte == b'/').enumerate().map(component).collect::<Vec<_>>()
    };
    components(a).cmp(&components(b))
}

fn tree() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
    let name = prop::collection::vec(prop::sample::select(&b"ab.-0 \xff\n"[..]), 1..4);
    let name = name.prop_filter("not a dot name", |name| name != b"." && name != b"..");
    let place = (any::<prop::sample::Index>(), name, any::<bool>());
    prop::collection::vec(place, 0..40).prop_map(|places| {
        let mut entries: Vec<(Vec<u8>, bool)> = vec![(b".".to_vec(), true)];
        for (place, name, is_dir) in places {
            let dirs: Vec<_> =
                entries.iter().filter(|(_, is_dir)| *is_dir).map(|(path, _)| path.clone()).collect();
            let parent = &dirs[place.index(dirs.len())];
            let path = if parent == b"." { name } else { [&parent[..], b"/", &name].concat() };
            if !entries.iter().any(|(other, _)| *other == path) {
                entries.push((path, is_dir));
            }
        }
        entries
    })
}

proptest! {
    #[test]
    fn lists_come_in_rsyncs_order(entries in tree().prop_shuffle()) {
        let mut expected = entries.clone();
        expected.sort_by(by_definition);
        let entries: Vec<_> = entries.iter().map(|(path, is_dir)| {
            Entry { name: path, mode: if *is_dir { 0o040_755 } else { 0o100_644 }, ..Entry::default() }
        }).collect();
        let list = list(&entries);
        let sorted: Vec<_> = list.iter().map(|(_, entry)| (entry.path(), entry.is_dir())).collect();
        prop_assert_eq!(sorted, expected);
    }

    #[test]
    fn a_list_encoded_in_parts_is_the_same(entries in tree(), limit in 1..200usize) {
        let build = || list(&entries.iter().map(|(path, is_dir)| {
            Entry { name: path, mode: if *is_dir { 0o040_755 } else { 0o100_644 }, ..Entry::default() }
        }).collect::<Vec<_>>());
        let whole = encoded(build(), &archive(), &modern(), IoErrors::NONE);
        let mut encoder = ListEncoder::new(layout(&archive(), &modern()));
        encoder.begin(Arc::new(build()), 0);
        let mut parts = Vec::new();
        loop {
            let mut part = Vec::new();
            let done = encoder.encode(&mut part, limit);
            parts.extend(part);
            if done {
                break;
            }
        }
        encoder.end(IoErrors::NONE, &mut parts);
        prop_assert_eq!(parts, whole);
    }
}

/// Entries of a stock client's `-HAX` session, in the order in which they travelled.
fn with_attributes() -> FileList {
    let base = Entry { mtime: Mtime { secs: 1_000_000_000, nanos: 0 }, ..Entry::default() };
    let named = |kind, id, permissions| AclName { kind, id, permissions };
    let acl = |user, group, mask, other, names| Acl {
        user: Some(user),
        group: Some(group),
        mask: Some(mask),
        other: Some(other),
        names,
    };
    let long = [b'x'; 40];
    let xattrs =
        Xattrs::new([(&b"user.big"[..], &long[..]), (b"user.one", b"1234"), (b"user.rsync.foo", b"q")]);
    let names = vec![named(IdKind::User, 1000, 6), named(IdKind::Group, 1, 5)];
    let linked = Attributes { access: acl(6, 4, 7, 4, names), xattrs, ..Attributes::default() };
    let link = Entry { mode: 0o100_674, size: 3, link_group: Some(1), attributes: Some(&linked), ..base };
    let masked = Attributes { access: acl(6, 4, 4, 4, Vec::new()), ..Attributes::default() };
    let symlink =
        Attributes { xattrs: Xattrs::new([(&b"trusted.t"[..], &b"sym"[..])]), ..Attributes::default() };
    let inherited = acl(7, 5, 7, 5, vec![named(IdKind::User, 1000, 6)]);
    let dir = Attributes { default: inherited, ..Attributes::default() };
    list(&[
        Entry { name: b".", mode: 0o040_755, size: 4096, dir: DirKind::Content, ..base },
        Entry { name: b"a", ..link },
        Entry { name: b"b", ..link },
        Entry { name: b"m1", mode: 0o100_644, size: 2, attributes: Some(&masked), ..base },
        Entry { name: b"sym", mode: 0o120_777, target: b"target", attributes: Some(&symlink), ..base },
        Entry {
            name: b"d",
            mode: 0o040_755,
            size: 4096,
            dir: DirKind::Content,
            attributes: Some(&dir),
            ..base
        },
    ])
}

#[test]
fn acls_and_extended_attributes_travel_once_and_then_as_numbers() {
    let options = ServerOptions { acls: true, xattrs: 1, numeric_ids: true, ..archive() };
    let bytes = encoded(with_attributes(), &options, &modern(), IoErrors::NONE);
    let digest = b"\x2e\x5a\x5d\xf3\x0e\xbd\x85\x39\x44\x5b\xa6\xe0\xf6\x38\xb6\xf9";
    let expected = [
        &b"\x01\x01.\x00\x00\x10\x3b\x00\xca\x9a\xed\x41\0\0\0\0\0\0\0\0\0\0"[..],
        b"\x92\x98\x01a\x00\x03\x00\xbc\x81\0\0\0\x12\x04\x02\x83\xe8\x1a\x01\x14",
        b"\0\x03\x09\x28user.big\0",
        digest,
        b"\x09\x04user.one\x001234\x0f\x01user.rsync.foo\0q",
        b"\x82\x9a\x01b\x01\x02\x02",
        b"\x80\x98\x02m1\x00\x02\x00\xa4\x81\0\0\0\x04\x04\x01",
        b"\x80\x98\x03sym\x00\x06\x00\xff\xa1\0\0\x06target\0\x01\x0a\x03trusted.t\0sym",
        b"\x80\x98\x01d\x00\x00\x10\xed\x41\0\0\x01\0\x1f\x07\x05\x07\x05\x01\x83\xe8\x1a\x01",
        b"\0\0",
    ];
    assert_eq!(bytes.escape_ascii().to_string(), expected.concat().escape_ascii().to_string());
}

#[test]
fn ids_of_acls_are_named_even_where_owners_are_not_sent() {
    let options = ServerOptions { acls: true, perms: true, ..ServerOptions::default() };
    let mut builder = FileListBuilder::new();
    let name = AclName { kind: IdKind::Group, id: 7, permissions: 7 };
    let access = Acl { names: vec![name], ..Default::default() };
    let attributes = Attributes { access, ..Default::default() };
    builder.push(&Entry { attributes: Some(&attributes), ..file("f") }).unwrap();
    let list = builder.finish(|kind, id| Some(format!("{kind:?}{id}").into_bytes())).unwrap();
    let bytes = encoded(list, &options, &modern(), IoErrors::NONE);
    assert!(bytes.ends_with(b"\0\0\0\x05User0\x07\x06Group7\0\x06Group0"), "{}", bytes.escape_ascii());
}

#[test]
fn access_times_travel_with_all_but_directories() {
    let options = ServerOptions { atimes: 1, ..ServerOptions::default() };
    let entries = [dir("."), Entry { atime: 5, ..file("a") }, Entry { atime: 5, ..file("b") }, file("c")];
    let bytes = encoded(list(&entries), &options, &modern(), IoErrors::NONE);
    let expected = [
        &b"\x81\x98\x01.\0\0\0\xed\x41\0\0"[..],
        b"\x80\x98\x01a\0\0\0\xa4\x81\0\0\0\x05\0\0",
        b"\xc0\x9a\x40\x01b\0\0\0",
        b"\x80\x9a\x01c\0\0\0\0\0\0\0",
        b"\0\0",
    ];
    assert_eq!(bytes.escape_ascii().to_string(), expected.concat().escape_ascii().to_string());
}
