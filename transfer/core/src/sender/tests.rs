//! Whole sessions without a network.

mod dialects;
mod handshake;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::answer::{Pieces, Progress, Source};
use crate::flist::{Entry, FileListBuilder, Mtime};
use crate::proto::{Checksum, CompressWish, DeleteMode, ExitCode, Protocol, ServerOptions};
use crate::wire::mux::{Code, Demux, Part, frame};
use crate::wire::ndx::NdxState;
use crate::{Error, ErrorKind, Stage};

const HELLO: &[u8] = b"hello, world\n";
const HELLO_SUM: [u8; 16] =
    [0xb8, 0x2c, 0x42, 0xcc, 0xef, 0xfa, 0xc4, 0x2f, 0x63, 0x1a, 0xa1, 0x64, 0x33, 0xd7, 0xf7, 0xae];

/// A driver whose files all hold [`HELLO`].
struct Driver {
    client: Client,
    written: Vec<u8>,
    events: Vec<Event>,
    /// Requests that are left open.
    ignored: Vec<Ndx>,
    answers: bool,
}

impl Driver {
    fn new(config: Config, names: &[&str]) -> Self {
        let mut builder = FileListBuilder::new();
        for name in names {
            let (name, mode) = name.strip_suffix('/').map_or((*name, 0o100_644), |name| (name, 0o040_755));
            let mtime = Mtime { secs: 0x6638_81d9, nanos: 123_456_789 };
            let size = HELLO.len() as u64;
            builder.push(&Entry { name: name.as_bytes(), mode, size, mtime, ..Entry::default() }).unwrap();
        }
        let list = Arc::new(builder.finish(|_, _| None).unwrap());
        let mut client = Client::new(config).unwrap();
        client.send_list(Arc::clone(&list)).unwrap();
        Driver { client, written: Vec::new(), events: Vec::new(), ignored: Vec::new(), answers: true }
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.client.handle_input(bytes)?;
        while let Some(event) = self.client.poll_event() {
            match &event {
                Event::Request(request) if self.answers => self.answer(request)?,
                Event::Request(request) => self.ignored.push(request.ndx),
                _ => {}
            }
            self.events.push(event);
        }
        self.write();
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> Result<(), Error> {
        let mut encoder = self.client.answer_context().unwrap().encoder()?;
        let source: Source = Arc::new(HELLO);
        encoder.start(request, HELLO.len())?;
        self.client.begin_answer(request.ndx)?;
        loop {
            let mut pieces = Pieces::default();
            let progress = encoder.step(HELLO, &mut pieces)?;
            self.client.push_pieces(&mut pieces, &source)?;
            if progress == Progress::Done {
                return self.client.end_answer();
            }
        }
    }

    /// Writes in odd parts.
    fn write(&mut self) {
        while self.client.output_len() > 0 {
            let waiting: Vec<u8> = self.client.output().flatten().copied().collect();
            assert_eq!(waiting.len(), self.client.output_len());
            let part = waiting.len().min(7 + waiting.len() / 3);
            self.written.extend_from_slice(&waiting[..part]);
            self.client.advance(part);
        }
    }

    fn take_written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }

    fn finished(&self) -> Option<Outcome> {
        self.events
            .iter()
            .find_map(|event| if let Event::Finished(outcome) = event { Some(*outcome) } else { None })
    }
}

/// The captured session's options: `-t --checksum-seed=305419896`.
fn captured_config() -> Config {
    let options = ServerOptions { times: true, checksum_seed: Some(0x1234_5678), ..ServerOptions::default() };
    Config::new("m", "sub/", options)
}

fn captured() -> Driver {
    Driver::new(captured_config(), &["hello.txt"])
}

const GREETING: &[u8] = b"@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\n";
/// Our own, and the module, both said unasked.
const OPENING: &[u8] = b"@RSYNCD: 32.0 sha512 sha256 sha1 md5\nm\n";
const SETUP: &[u8] = b"\x81\xfe\x23xxh128 xxh3 xxh64 md5 md4 sha1 none\x78\x56\x34\x12";
const REQUEST: &[u8] = b"\x13\0\0\x07\x01\x00\xa0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const DONE: &[u8] = b"\x01\0\0\x07\0";
const DONES: &[u8] = b"\x03\0\0\x07\0\0\0";

/// All that the daemon says in the captured session.
fn captured_bytes() -> Vec<u8> {
    [GREETING, b"@RSYNCD: OK\n", SETUP, REQUEST, DONE, DONES, DONE].concat()
}

/// The data stream in these frames, and the messages.
fn apart(bytes: &[u8]) -> (Vec<u8>, Vec<Code>) {
    let (mut demux, mut input) = (Demux::default(), bytes);
    let (mut data, mut messages) = (Vec::new(), Vec::new());
    while let Some(part) = demux.next(&mut input).unwrap() {
        match part {
            Part::Data(bytes) => data.extend_from_slice(bytes),
            Part::Message(code, _) => messages.push(code),
        }
    }
    (data, messages)
}

/// From the greeting to the list; returns what was written behind the handshake.
fn to_list(driver: &mut Driver) {
    driver.hear(GREETING).unwrap();
    driver.hear(b"@RSYNCD: OK\n").unwrap();
    driver.hear(SETUP).unwrap();
    driver.take_written();
}

#[test]
fn the_captured_session_is_spoken_byte_for_byte() {
    let mut driver = captured();
    driver.write();
    assert_eq!(driver.take_written(), OPENING);
    driver.hear(GREETING).unwrap();
    assert!(driver.take_written().is_empty());
    driver.hear(b"@RSYNCD: OK\n").unwrap();
    let arguments = b"--server\0-te.LsfxCIvu\0--checksum-seed=305419896\0.\0m/sub/\0\0";
    assert_eq!(driver.take_written(), arguments);
    driver.hear(SETUP).unwrap();
    // The stock client names all checksums; we have read the daemon's and name one.
    let list = b"\x06xxh128\x1d\0\0\x07\xa0\x18\x09hello.txt\x00\x0d\x00\x66\xd9\x81\x38\xe7\x15\xcd\x5b\
                 \xa4\x81\0\0\0\0";
    assert_eq!(driver.take_written(), list);
    driver.hear(REQUEST).unwrap();
    let head = b"\x01\x00\xa0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0d\0\0\0";
    let answer = [&head[..], HELLO, &[0; 4], &HELLO_SUM].concat();
    assert_eq!(apart(&driver.take_written()).0, answer);
    driver.hear(DONE).unwrap();
    assert_eq!(driver.take_written(), DONE);
    driver.hear(DONES).unwrap();
    // The stock client needs two frames for these.
    assert_eq!(apart(&driver.take_written()).0, [0, 0, 0]);
    assert_eq!(driver.finished(), None);
    driver.hear(DONE).unwrap();
    assert!(driver.take_written().is_empty());
    assert_eq!(driver.finished().unwrap().exit, ExitCode::OK);
    driver.client.handle_eof().unwrap();
}

#[test]
fn a_session_may_arrive_in_any_parts() {
    let bytes = captured_bytes();
    let mut whole = captured();
    whole.hear(&bytes).unwrap();
    for step in [1, 2, 3, 5, 50] {
        let mut driver = captured();
        bytes.chunks(step).for_each(|part| driver.hear(part).unwrap());
        assert_eq!(driver.events, whole.events);
        let handshake = driver.written.windows(4).position(|bytes| bytes == b"\x1d\0\0\x07").unwrap();
        assert_eq!(driver.written[..handshake], whole.written[..handshake]);
        assert_eq!(apart(&driver.written[handshake..]), apart(&whole.written[handshake..]));
    }
}

#[test]
fn protocol_30_has_one_done_less() {
    let mut driver = captured();
    let setup = b"\x0e\x78\x56\x34\x12";
    driver.hear(b"@RSYNCD: 30.0\nhello\n@RSYNCD: OK\n").unwrap();
    driver.hear(setup).unwrap();
    assert_eq!(driver.events[0], Event::Motd(b"hello".to_vec()));
    let dialect = driver.client.dialect().unwrap();
    assert_eq!((dialect.protocol, dialect.checksum), (Protocol::V30, Checksum::Md5));
    let written = driver.take_written();
    // One byte of flags, no nanoseconds, one byte of end.
    let list = b"\x1b\0\0\x07\x18\x09hello.txt\x00\x0d\x00\x66\xd9\x81\x38\xa4\x81\0\0\0";
    let list = [&[list.len() as u8 - 4][..], &list[1..]].concat();
    assert_eq!(written[written.len() - list.len()..], list);
    driver.hear(&frame(Code::Data, &[0, 0, 0])).unwrap();
    assert_eq!(apart(&driver.take_written()).0, [0, 0, 0]);
    driver.hear(&frame(Code::Data, &[0])).unwrap();
    assert!(driver.finished().is_some());
}

#[test]
fn phases_end_only_when_all_is_answered_and_redo_answers_come_after() {
    let mut driver = captured();
    to_list(&mut driver);
    driver.answers = false;
    // The redo request arrives before the first answer is made.
    let redo = b"\xfe\x00\x00\x00\xa0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let request = &REQUEST[4..];
    driver.hear(&frame(Code::Data, &[request, &[0], &redo[..], &[0, 0, 0]].concat())).unwrap();
    assert_eq!(driver.ignored, [Ndx(0)]);
    assert!(driver.take_written().is_empty());
    driver.answers = true;
    let request = Request { ndx: Ndx(0), sums: Arc::default(), in_place: false, redo: false };
    driver.answer(&request).unwrap();
    driver.hear(b"").unwrap();
    let redone = driver.events.iter().filter(|event| matches!(event, Event::Request(r) if r.redo)).count();
    assert_eq!(redone, 1);
    let data = apart(&driver.take_written()).0;
    assert!(data.starts_with(b"\x01\x00\xa0"));
    let sum = data.windows(16).position(|bytes| bytes == HELLO_SUM).unwrap();
    assert_eq!(data[sum + 16..][..4], [0, 0xfe, 0, 0]);
    assert!(data.ends_with(&[&HELLO_SUM[..], &[0, 0, 0]].concat()));
}

#[test]
fn a_file_that_went_is_said_to_be_gone() {
    let mut driver = captured();
    to_list(&mut driver);
    driver.answers = false;
    driver.hear(REQUEST).unwrap();
    driver.hear(DONE).unwrap();
    driver.client.no_send(Ndx(0), NoSend::Gone).unwrap();
    driver.write();
    assert_eq!(driver.take_written(), [&frame(Code::NoSend, &[0; 4])[..], DONE].concat());
    driver.hear(DONES).unwrap();
    let data =
        [&frame(Code::Data, &[0])[..], &frame(Code::IoError, &[2, 0, 0, 0]), &frame(Code::Data, &[0, 0])];
    assert_eq!(driver.take_written(), data.concat());
    driver.hear(DONE).unwrap();
    assert_eq!(driver.finished().unwrap().exit, ExitCode::VANISHED);
}

#[test]
fn items_wait_for_the_open_answer_and_are_not_echoed_after_the_third_done() {
    let mut driver = captured();
    to_list(&mut driver);
    driver.answers = false;
    driver.hear(REQUEST).unwrap();
    driver.client.begin_answer(Ndx(0)).unwrap();
    driver.hear(&frame(Code::Data, &[0xfe, 0, 0, 8, 0])).unwrap();
    assert_eq!(apart(&driver.take_written()).0, [1, 0, 0xa0]);
    driver.client.end_answer().unwrap();
    driver.write();
    assert_eq!(apart(&driver.take_written()).0, [0xfe, 0, 0, 8, 0]);
    // A hard link that waited for a redo comes behind DONE #4 (seen with 3.5.0).
    driver.hear(DONE).unwrap();
    driver.hear(&frame(Code::Data, &[0, 0, 0, 0xfe, 0, 0, 0, 0x70, 1, b'x'])).unwrap();
    assert_eq!(apart(&driver.take_written()).0, [0, 0, 0, 0]);
    driver.hear(DONE).unwrap();
    assert_eq!(driver.finished().unwrap().exit, ExitCode::OK);
}

#[test]
fn an_error_exit_is_answered_and_its_code_and_text_are_kept() {
    let mut driver = captured();
    to_list(&mut driver);
    let texts = [
        frame(Code::Error, b"rsync: The server is configured to refuse --delete\n"),
        frame(Code::Error, b"rsync error: requested action not supported (code 4) at x.c(1)\n"),
        frame(Code::ErrorExit, &[4, 0, 0, 0]),
        frame(Code::Info, b"late\n"),
    ];
    driver.hear(&texts.concat()).unwrap();
    assert_eq!(driver.take_written(), frame(Code::ErrorExit, &[]));
    let error = driver.client.handle_eof().unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::UNSUPPORTED);
    let text = "transfer: daemon exited with code 4: rsync: The server is configured to refuse --delete";
    assert_eq!(error.to_string(), text);
    assert_eq!(driver.client.handle_input(b"x"), Err(error));
}

#[test]
fn protocol_30_tells_its_exit_code_in_the_text() {
    let mut driver = captured();
    to_list(&mut driver);
    driver.hear(&frame(Code::Error, b"rsync error: error in file IO (code 11) at x.c(1)\n")).unwrap();
    assert_eq!(driver.client.handle_eof().unwrap_err().exit_code(), ExitCode::FILE_IO);
    let mut driver = captured();
    to_list(&mut driver);
    assert_eq!(driver.client.handle_eof().unwrap_err().exit_code(), ExitCode::STREAM);
}

#[test]
fn messages_become_events() {
    let mut driver = captured();
    to_list(&mut driver);
    let before = driver.events.len();
    let frames = [
        frame(Code::ErrorXfer, b"mkstemp failed\n"),
        frame(Code::Deleted, b"old"),
        frame(Code::Deleted, b"olddir\0"),
        frame(Code::Success, &[0; 4]),
        frame(Code::IoTimeout, &[60, 0, 0, 0]),
        frame(Code::Noop, b""),
        frame(Code::IoError, &[1, 0, 0, 0]),
        frame(Code::Data, &[0, 0, 0, 0xff, 2, 1, 2, 3, 4, 5, 0, 0]),
    ];
    driver.hear(&frames.concat()).unwrap();
    let stats = DeleteStats { files: 1, dirs: 2, symlinks: 3, devices: 4, specials: 5 };
    let expected = [
        Event::Message { kind: MessageKind::TransferError, text: b"mkstemp failed".to_vec() },
        Event::Deleted(Deleted { name: b"old".to_vec(), directory: false }),
        Event::Deleted(Deleted { name: b"olddir".to_vec(), directory: true }),
        Event::Success(Ndx(0)),
        Event::IoTimeout(60),
        Event::DeleteStats(stats),
    ];
    assert_eq!(driver.events[before..before + 6], expected);
    let outcome = driver.finished().unwrap();
    assert_eq!((outcome.exit, outcome.transfer_errors, outcome.deleted), (ExitCode::PARTIAL, 1, Some(stats)));
}

#[test]
fn what_no_daemon_says_ends_the_session_with_a_code_and_an_error_exit() {
    let wrong: [&[u8]; 9] = [
        b"\x02\x00\xa0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", // index 1 of 1
        b"\xff\x09",                                     // index -10
        b"\x01\x00\xa0\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0", // -1 blocks
        b"\x01\x00\xa0\x01\0\0\0\x01\0\x02\0\x02\0\0\0\0\0\0\0", // blocks of 131073 bytes
        b"\x01\x00\x90\xff\xff",                         // a name of 32767 bytes
        &[0xff, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],  // deletions without number
        b"\0\0\x01\x00\xa0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", // a request after the redo phase
        b"\xfe\xff\xff\xff\xff\0\0",                     // index 2147483647
        b"\x01\x00\x80\x01\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0", // sums without a strong part
    ];
    for bytes in wrong {
        let mut driver = captured();
        to_list(&mut driver);
        let error = driver.hear(&frame(Code::Data, bytes)).unwrap_err();
        assert_eq!((error.stage, error.exit_code()), (Stage::Transfer, ExitCode::PROTOCOL), "{error}");
        driver.write();
        assert!(driver.take_written().ends_with(&frame(Code::ErrorExit, &[2, 0, 0, 0])), "{error}");
        assert_eq!(driver.client.handle_input(b""), Err(error.clone()));
        assert_eq!(driver.client.begin_answer(Ndx(0)), Err(error));
    }
}

#[test]
fn a_file_is_sent_once_in_a_phase() {
    let mut driver = captured();
    to_list(&mut driver);
    driver.hear(REQUEST).unwrap();
    let again = b"\xfe\0\0\x00\xa0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let error = driver.hear(&frame(Code::Data, again)).unwrap_err();
    assert!(error.to_string().contains("wanted twice"), "{error}");
}

#[test]
fn directories_are_never_sent() {
    let mut driver = Driver::new(captured_config(), &["dir/"]);
    to_list(&mut driver);
    assert!(driver.hear(REQUEST).unwrap_err().to_string().contains("no regular file"));
}

#[test]
fn sums_without_end_are_kept_up_to_a_limit_and_reading_pauses() {
    let mut driver = captured();
    to_list(&mut driver);
    driver.answers = false;
    let count = 45_000_000i32;
    let numbers: Vec<u8> = [count, 700, 2, 0].iter().flat_map(|n: &i32| n.to_le_bytes()).collect();
    driver.hear(&frame(Code::Data, &[&b"\x01\x00\x80"[..], &numbers].concat())).unwrap();
    let part = frame(Code::Data, &[7; 60_000]);
    let mut left = i64::from(count) * 6;
    while left > 0 {
        let part = if left < 60_000 { &frame(Code::Data, &vec![7; left as usize]) } else { &part };
        driver.hear(part).unwrap();
        left -= 60_000;
        assert!(driver.client.wants_input());
    }
    assert_eq!(driver.ignored, [Ndx(0)]);
    let request =
        driver.events.iter().find_map(|e| if let Event::Request(r) = e { Some(r) } else { None }).unwrap();
    assert!(request.sums.is_empty() && request.sums.memory() == 0);
}

#[test]
fn sums_of_a_very_large_file_arrive_whole_before_reading_pauses() {
    let mut driver = captured();
    to_list(&mut driver);
    driver.answers = false;
    let count = 12_000_000i32;
    let numbers: Vec<u8> = [count, 700, 2, 0].iter().flat_map(|n: &i32| n.to_le_bytes()).collect();
    driver.hear(&frame(Code::Data, &[&b"\x01\x00\x80"[..], &numbers].concat())).unwrap();
    for _ in 0..1200 {
        assert!(driver.client.wants_input());
        driver.hear(&frame(Code::Data, &[7; 60_000])).unwrap();
    }
    assert_eq!(driver.ignored, [Ndx(0)]);
    assert!(!driver.client.wants_input());
    driver.client.no_send(Ndx(0), NoSend::Other).unwrap();
    driver.events.clear();
    assert!(driver.client.wants_input());
}

#[test]
fn lists_that_do_not_fit_the_options_are_misuse() {
    for entry in [
        Entry { name: b"d", mode: 0o040_755, dir: crate::flist::DirKind::Implied, ..Entry::default() },
        Entry::missing(b"x"),
    ] {
        let mut builder = FileListBuilder::new();
        builder.push(&entry).unwrap();
        let list = Arc::new(builder.finish(|_, _| None).unwrap());
        assert!(Client::new(captured_config()).unwrap().send_list(list).is_err());
    }
}

#[test]
fn a_daemon_that_asks_and_does_not_read_is_no_longer_read() {
    let mut driver = captured();
    to_list(&mut driver);
    driver.answers = false;
    driver.hear(REQUEST).unwrap();
    driver.hear(DONE).unwrap();
    let mut fed = 0;
    while driver.client.wants_input() {
        driver.client.handle_input(&frame(Code::Data, &[1; 60_000])).unwrap();
        fed += 60_000;
        assert!(fed < 100 << 20, "input is taken without end");
    }
}

#[test]
fn lines_and_texts_without_end_are_refused() {
    let mut driver = captured();
    assert!(driver.hear(&[b'x'; 70_000]).is_err());
    let mut driver = captured();
    driver.hear(GREETING).unwrap();
    let lines = [&[b'x'; 1023][..], b"\n"].concat().repeat(1 << 10);
    let error = (0..100).find_map(|_| driver.hear(&lines).err()).unwrap();
    assert_eq!(error.stage, Stage::Auth);
}

#[test]
fn nothing_in_common_is_an_error_of_the_setup() {
    let mut driver = captured();
    driver.hear(GREETING).unwrap();
    driver.hear(b"@RSYNCD: OK\n").unwrap();
    let error = driver.hear(b"\x81\xfe\x03md4").unwrap_err();
    assert_eq!(error.to_string(), "setup: no common checksum: daemon offers \"md4\"");
    assert_eq!(error.exit_code(), ExitCode::UNSUPPORTED);
    let mut driver = captured();
    driver.hear(GREETING).unwrap();
    driver.hear(b"@RSYNCD: OK\n").unwrap();
    assert!(driver.hear(b"\x81\xff").is_err(), "incremental recursion was not offered");
}

#[test]
fn both_names_are_answered_when_compression_is_on() {
    let options = ServerOptions { compress: CompressWish::Best, ..ServerOptions::default() };
    let mut driver = Driver::new(Config::new("m", "", options), &["hello.txt"]);
    driver.hear(GREETING).unwrap();
    driver.hear(b"@RSYNCD: OK\n").unwrap();
    driver.take_written();
    driver.hear(b"\x81\xfe\x0axxh128 md5").unwrap();
    assert!(driver.take_written().is_empty());
    driver.hear(b"\x09zstd zlib").unwrap();
    assert_eq!(driver.take_written(), b"\x06xxh128\x04zstd");
}

#[test]
fn the_filter_list_comes_first_when_something_is_deleted() {
    let options = ServerOptions { delete: Some(DeleteMode::Default), ..ServerOptions::default() };
    let config = Config { filters: vec![b"- zz".to_vec()], ..Config::new("m", "", options) };
    let mut driver = Driver::new(config, &["hello.txt"]);
    driver.hear(GREETING).unwrap();
    driver.hear(b"@RSYNCD: OK\n").unwrap();
    driver.take_written();
    driver.hear(SETUP).unwrap();
    let written = driver.take_written();
    let data = apart(written.strip_prefix(b"\x06xxh128").unwrap()).0;
    assert!(data.starts_with(b"\x04\0\0\0- zz\0\0\0\0"));
}

#[test]
fn a_dry_run_repeats_wishes_without_data() {
    let mut config = captured_config();
    config.options.dry_run = true;
    let mut driver = Driver::new(config, &["hello.txt"]);
    to_list(&mut driver);
    driver.hear(&frame(Code::Data, &[1, 0, 0xa0, 0])).unwrap();
    assert_eq!(apart(&driver.take_written()).0, [1, 0, 0xa0, 0]);
}

#[test]
fn misuse_is_told_and_harms_nothing() {
    let mut driver = captured();
    let empty = Arc::new(FileListBuilder::new().finish(|_, _| None).unwrap());
    assert!(driver.client.send_list(empty).is_err());
    assert!(driver.client.begin_answer(Ndx(0)).is_err());
    assert!(driver.client.end_answer().is_err());
    assert!(driver.client.no_send(Ndx(0), NoSend::Other).is_err());
    to_list(&mut driver);
    driver.answers = false;
    driver.hear(REQUEST).unwrap();
    driver.client.begin_answer(Ndx(0)).unwrap();
    assert!(driver.client.no_send(Ndx(0), NoSend::Other).is_err());
    let mut pieces = Pieces { scratch: Vec::new(), list: vec![crate::answer::Piece::Source(0..14)] };
    let source: Source = Arc::new(HELLO);
    assert!(driver.client.push_pieces(&mut pieces, &source).is_err());
    for config in [
        Config::new("a/b", "", ServerOptions::default()),
        Config::new("a\n", "", ServerOptions::default()),
        Config::new("a", "x\0", ServerOptions::default()),
        Config { user: Some(b"a b".to_vec()), ..captured_config() },
    ] {
        assert!(Client::new(config).is_err());
    }
}

#[test]
fn an_abort_keeps_frames_whole() {
    let mut driver = captured();
    to_list(&mut driver);
    driver.answers = false;
    driver.hear(REQUEST).unwrap();
    driver.client.begin_answer(Ndx(0)).unwrap();
    let source: Source = Arc::new(vec![5; 100_000]);
    let list = vec![crate::answer::Piece::Source(0..100_000)];
    driver.client.push_pieces(&mut Pieces { scratch: Vec::new(), list }, &source).unwrap();
    driver.client.advance(10);
    let error = Error { stage: Stage::Transfer, kind: ErrorKind::Misuse("enough".into()) };
    driver.client.abort(&error);
    driver.write();
    // The first frame was begun and stays whole.
    let (data, messages) = apart(&driver.take_written()[(64 << 10) + 4 - 10..]);
    assert!(data.is_empty());
    assert_eq!(messages, [Code::ErrorExit]);
}

#[test]
fn a_sign_of_life_is_an_empty_frame() {
    let mut driver = captured();
    driver.write();
    driver.client.keep_alive();
    assert_eq!(driver.client.output_len(), 0);
    to_list(&mut driver);
    driver.client.keep_alive();
    driver.client.keep_alive();
    driver.write();
    assert_eq!(driver.take_written(), frame(Code::Data, &[]));
}

/// Something of everything that a daemon says.
fn rich_bytes() -> Vec<u8> {
    let mut data = Vec::new();
    let mut ndx = NdxState::default();
    for index in 0..40 {
        ndx.put(&mut data, index);
        match index % 4 {
            0 => data.extend_from_slice(b"\x08\x00"),
            1 => data.extend_from_slice(
                &[b"\x08\x80\x01\0\0\0\xbc\x02\0\0\x02\0\0\0\x0d\0\0\0", &[7; 6][..]].concat(),
            ),
            2 => data.extend_from_slice(b"\x00\xa0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            _ => data.extend_from_slice(b"\x00\x78\x83\x04name"),
        }
    }
    data.extend_from_slice(&[0, 0, 0, 0xff, 2, 1, 2, 3, 4, 5, 0]);
    let messages = [frame(Code::Warning, b"careful\n"), frame(Code::Success, &[3, 0, 0, 0])].concat();
    let data: Vec<u8> =
        data.chunks(100).flat_map(|part| [frame(Code::Data, part), messages.clone()].concat()).collect();
    [GREETING, b"motd\n@RSYNCD: OK\n", SETUP, &data, DONE].concat()
}

fn rich_driver() -> Driver {
    let names: Vec<String> = (0..40).map(|n| format!("file{n:02}")).collect();
    Driver::new(captured_config(), &names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_rich_session_ends_well() {
    let mut driver = rich_driver();
    driver.hear(&rich_bytes()).unwrap();
    assert_eq!(driver.finished().unwrap().exit, ExitCode::OK);
}

/// Drives until an error or the end of the bytes; nothing may panic, and what waits stays bounded.
fn survive(mut driver: Driver, bytes: &[u8], step: usize) {
    for part in bytes.chunks(step) {
        if driver.hear(part).is_err() {
            break;
        }
    }
    let _ = driver.client.handle_eof();
    assert!(driver.client.output_len() < 1 << 20);
}

proptest! {
    #[test]
    fn no_bytes_make_a_session_panic(bytes in prop::collection::vec(any::<u8>(), 0..500), step in 1..100usize) {
        survive(rich_driver(), &bytes, step);
        let setup = [GREETING, b"@RSYNCD: OK\n", &bytes].concat();
        survive(rich_driver(), &setup, step);
        let frames = [GREETING, b"@RSYNCD: OK\n", SETUP, &bytes].concat();
        survive(rich_driver(), &frames, step);
        let data = [GREETING, b"@RSYNCD: OK\n", SETUP, &frame(Code::Data, &bytes)].concat();
        survive(rich_driver(), &data, step);
    }

    #[test]
    fn no_damage_to_a_valid_session_makes_it_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..6),
        step in 1..200usize,
    ) {
        let mut bytes = rich_bytes();
        for (place, byte, kind) in damage {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at.max(1)),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                bytes.push(byte);
            }
        }
        survive(rich_driver(), &bytes, step);
    }
}
