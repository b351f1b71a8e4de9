//! What releases of the daemon say and choke on, without any of them: what each announces is scripted, and what the
//! sender then says is held against the traps of that release (protocol note, sections 1.2, 2.2, 9.1, 10.2 and 11).

use super::*;
use crate::delta::{BlockSums, SumHeader};

/// A release, by what it announces.
struct Release {
    name: &'static str,
    greeting: &'static str,
    /// Compat flags, checksums if they are negotiated, and the seed.
    setup: &'static [u8],
    protocol: Protocol,
    checksum: Checksum,
}

const STRINGS: &[u8] = b"\x81\xfe\x1exxh128 xxh3 xxh64 md5 md4 none\x01\0\0\0";
const DIGESTS_31: &str = "@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\n";
const DIGESTS_32: &str = "@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\n";

const fn release(
    name: &'static str,
    greeting: &'static str,
    setup: &'static [u8],
    protocol: Protocol,
) -> Release {
    let checksum = if setup.len() > 8 { Checksum::Xxh128 } else { Checksum::Md5 };
    Release { name, greeting, setup, protocol, checksum }
}

const RELEASES: [Release; 9] = [
    release("3.0.9", "@RSYNCD: 30.0\n", b"\x0e\x01\0\0\0", Protocol::V30),
    release("3.1.3", "@RSYNCD: 31.0\n", b"\x3e\x01\0\0\0", Protocol::V31),
    release("3.2.3", "@RSYNCD: 31.0\n", STRINGS, Protocol::V31),
    release("3.2.7", DIGESTS_31, STRINGS, Protocol::V31),
    release("3.2.7 without OpenSSL", "@RSYNCD: 31.0 md5 md4\n", STRINGS, Protocol::V31),
    release("3.4.1", DIGESTS_32, STRINGS, Protocol::V32),
    release("3.4.3", DIGESTS_32, STRINGS, Protocol::V32),
    release("3.4.4", DIGESTS_32, STRINGS, Protocol::V32),
    release("a later one", "@RSYNCD: 33.0 sha512\n", STRINGS, Protocol::V32),
];

/// A session up to its list, with these options; what was written since the handshake comes with it.
fn begun(release: &Release, change: impl Fn(&mut Config)) -> Driver {
    let mut config = captured_config();
    change(&mut config);
    let mut driver = Driver::new(config, &["hello.txt"]);
    for part in [release.greeting.as_bytes(), b"@RSYNCD: OK\n"] {
        driver.hear(part).unwrap();
    }
    driver.take_written();
    driver.hear(release.setup).unwrap();
    driver
}

/// The data stream behind the answer to the setup, and its messages.
fn said(driver: &mut Driver, release: &Release) -> (Vec<u8>, Vec<Code>) {
    let written = driver.take_written();
    let name = driver.client.dialect().unwrap().checksum.name().len();
    let answer = if release.setup.len() > 8 && written.get(4) != Some(&7) { 1 + name } else { 0 };
    apart(&written[answer..])
}

#[test]
fn every_release_is_spoken_to_in_its_own_way() {
    for release in &RELEASES {
        let driver = begun(release, |_| ());
        let dialect = driver.client.dialect().unwrap();
        let found = (dialect.protocol, dialect.checksum);
        assert_eq!(found, (release.protocol, release.checksum), "{}", release.name);
    }
}

#[test]
fn every_release_gets_as_many_ends_of_phases_as_it_waits_for_and_no_texts() {
    for release in &RELEASES {
        let mut driver = begun(release, |_| ());
        let (_, messages) = said(&mut driver, release);
        assert_eq!(messages, [], "{}", release.name);
        driver.hear(REQUEST).unwrap();
        driver.hear(&frame(Code::Data, &[0, 0, 0])).unwrap();
        driver.take_written();
        if release.protocol > Protocol::V30 {
            assert_eq!(driver.finished(), None, "{}", release.name);
            driver.hear(DONE).unwrap();
            assert_eq!(apart(&driver.take_written()), (vec![0], vec![]), "{}", release.name);
        }
        driver.hear(DONE).unwrap();
        assert_eq!(driver.finished().map(|outcome| outcome.exit), Some(ExitCode::OK), "{}", release.name);
        assert!(driver.take_written().is_empty());
    }
}

#[test]
fn no_release_gets_a_literal_that_3_4_3_refuses() {
    const LIMIT: usize = 32 << 10;
    let content = vec![b'x'; 3 * LIMIT + 5];
    for release in &RELEASES {
        let driver = begun(release, |_| ());
        let mut encoder = driver.client.answer_context().unwrap().encoder().unwrap();
        let request = Request { ndx: Ndx(0), sums: Arc::default(), in_place: false, redo: false };
        encoder.start(&request, content.len()).unwrap();
        let mut pieces = Pieces::default();
        while encoder.step(&content, &mut pieces).unwrap() == Progress::More {}
        let bytes: Vec<u8> = pieces
            .list
            .iter()
            .flat_map(|piece| match piece {
                crate::answer::Piece::Scratch(range) => pieces.scratch[range.clone()].to_vec(),
                crate::answer::Piece::Source(range) => content[range.clone()].to_vec(),
            })
            .collect();
        let (mut at, mut total) = (16, 0);
        loop {
            let token = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            at += 4 + token;
            total += token;
            if token == 0 {
                break;
            }
            assert!(token <= LIMIT, "{}: {token}", release.name);
        }
        assert_eq!((total, bytes.len() - at), (content.len(), release.checksum.digest_len()));
    }
}

#[test]
fn a_redo_that_announces_longer_sums_than_there_are_is_answered_with_their_length() {
    // 3.2.0 to 3.4.2 announce 16 bytes in a redo with xxh64, and die of an echo of that.
    let header = SumHeader { count: 1, block_len: 700, strong_len: 16, remainder: 13 };
    for release in RELEASES.iter().filter(|release| release.setup.len() > 8) {
        let driver = begun(release, |config| config.checksums = vec![Checksum::Xxh64]);
        let mut encoder = driver.client.answer_context().unwrap().encoder().unwrap();
        let sums = Arc::new(BlockSums::new(header, vec![0; header.stride()]).unwrap());
        let request = Request { ndx: Ndx(0), sums, in_place: false, redo: true };
        encoder.start(&request, HELLO.len()).unwrap();
        let mut pieces = Pieces::default();
        encoder.step(HELLO, &mut pieces).unwrap();
        assert_eq!(pieces.scratch[8..12], [8, 0, 0, 0], "{}", release.name);
    }
}

#[test]
fn names_to_be_removed_need_no_mode_of_their_own() {
    for release in RELEASES.iter().filter(|release| release.protocol > Protocol::V30) {
        let mut config = captured_config();
        config.options.delete_missing_args = true;
        let mut list = FileListBuilder::new();
        let mtime = Mtime { secs: 1, nanos: 0 };
        for (name, mode) in [(&b"a"[..], 0o100_644), (b"b", 0), (b"c", 0)] {
            list.push(&Entry { name, mode, mtime, ..Entry::default() }).unwrap();
        }
        let mut driver = Driver::new(captured_config(), &["hello.txt"]);
        driver.client = Client::new(config).unwrap();
        driver.client.send_list(Arc::new(list.finish(|_, _| None).unwrap())).unwrap();
        for part in [release.greeting.as_bytes(), b"@RSYNCD: OK\n"] {
            driver.hear(part).unwrap();
        }
        driver.take_written();
        driver.hear(release.setup).unwrap();
        let (data, _) = said(&mut driver, release);
        // Their flags say "the same mode as before", which nothing was: 3.4.3 takes a mode of 0 in no other way.
        let varint = release.setup.len() > 8;
        let flags = if varint && data[0] & 0x80 != 0 { data[1] } else { data[0] };
        assert_eq!(flags & 0x02, 0x02, "{}: {data:02x?}", release.name);
        assert!(
            data.windows(2).position(|bytes| bytes == b"\x01b")
                < data.windows(2).position(|bytes| bytes == b"\x01a")
        );
    }
}

#[test]
fn refusals_of_every_release_end_with_their_own_code_and_words() {
    let refusals = [
        ("rsync: The server is configured to refuse --delete\n", 4),
        ("rsync: on remote machine: --delete-missing-args: unknown option\n", 4),
        ("ERROR: module is read only\n", 1),
        ("rsync: mkdir \"x/y\" (in m) failed: No such file or directory (2)\n", 11),
        ("ERROR: destination must be a directory when copying more than 1 file\n", 3),
    ];
    for release in &RELEASES {
        for (text, code) in refusals {
            let mut driver = begun(release, |_| ());
            let last = format!("rsync error: it failed (code {code}) at main.c(1) [Receiver=3]\n");
            driver.hear(&frame(Code::Error, text.as_bytes())).unwrap();
            driver.hear(&frame(Code::Error, last.as_bytes())).unwrap();
            let ended = match release.protocol {
                Protocol::V30 => driver.client.handle_eof(),
                _ => driver
                    .hear(&frame(Code::ErrorExit, &[code, 0, 0, 0]))
                    .and_then(|()| driver.client.handle_eof()),
            };
            let error = ended.unwrap_err();
            assert_eq!(error.exit_code().0, code, "{}: {text}", release.name);
            let told = driver.events.iter().any(|event| {
                matches!(event, Event::Message { text: bytes, .. } if text.as_bytes().starts_with(bytes.trim_ascii_end()))
            });
            assert!(told, "{}: {text}", release.name);
        }
    }
}
