//! A session with incremental recursion, as the stock client was seen to hold it.

use std::sync::Arc;

use super::lists::Place;
use super::*;
use crate::answer::{Pieces, Progress, Source};
use crate::error::ErrorKind;
use crate::flist::{DirKind, Entry, FileList, FileListBuilder, IdKind, Mtime};
use crate::proto::{DeleteMode, ExitCode, IoErrors, ServerOptions};
use crate::wire::mux::{Code, Demux, Part, frame};

const HANDSHAKE: &[u8] =
    b"@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\n@RSYNCD: OK\n\x81\xff\x23xxh128 xxh3 xxh64 md5 \
                           md4 sha1 none\x01\0\0\0";

/// `rsync -aH --delete --checksum-seed=1`
fn options() -> ServerOptions {
    ServerOptions {
        incremental: true,
        hard_links: true,
        delete: Some(DeleteMode::Default),
        checksum_seed: Some(1),
        ..ServerOptions::archive()
    }
}

fn ready(options: ServerOptions) -> Client {
    let mut client = Client::new(Config::new("m", "", options)).unwrap();
    client.handle_input(HANDSHAKE).unwrap();
    let written: Vec<u8> = client.output().flatten().copied().collect();
    client.advance(written.len());
    client
}

fn part(path: &str, entries: &[Entry<'_>]) -> Arc<FileList> {
    let mut builder = FileListBuilder::of_directory(path.as_bytes()).unwrap();
    for entry in entries {
        let mtime = Mtime { secs: 0x6638_81d9, nanos: 0 };
        builder.push(&Entry { mtime, dir: DirKind::Content, ..*entry }).unwrap();
    }
    let name = |kind, id| match (kind, id) {
        (_, 0) => Some(b"root".to_vec()),
        (IdKind::User, 1) => Some(b"daemon".to_vec()),
        (IdKind::Group, 2) => Some(b"bin".to_vec()),
        _ => None,
    };
    Arc::new(builder.finish(name).unwrap())
}

fn dir(name: &str, size: u64) -> Entry<'_> {
    Entry { name: name.as_bytes(), mode: 0o040_755, size, ..Entry::default() }
}

fn file(name: &str, size: u64) -> Entry<'_> {
    Entry { name: name.as_bytes(), mode: 0o100_644, size, ..Entry::default() }
}

/// The first list of the captured session.
fn top() -> Arc<FileList> {
    let sym = Entry { name: b"sym", mode: 0o120_777, target: b"f", ..Entry::default() };
    let f = Entry { link_group: Some(0), ..file("f", 3) };
    part("", &[dir("z", 60), dir("e", 40), dir(".", 140), f, sym, dir("a", 100)])
}

/// The data stream that waits to be written, and the messages in it.
fn written(client: &mut Client) -> (Vec<u8>, Vec<Code>) {
    let bytes: Vec<u8> = client.output().flatten().copied().collect();
    client.advance(bytes.len());
    let (mut demux, mut input) = (Demux::default(), &bytes[..]);
    let (mut data, mut messages) = (Vec::new(), Vec::new());
    while let Some(part) = demux.next(&mut input).unwrap() {
        match part {
            Part::Data(bytes) => data.extend_from_slice(bytes),
            Part::Message(code, _) => messages.push(code),
        }
    }
    (data, messages)
}

fn hear(client: &mut Client, data: &str) -> Vec<Event> {
    client.handle_input(&frame(Code::Data, &bytes(data))).unwrap();
    std::iter::from_fn(|| client.poll_event()).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(client: &mut Client, request: &Request, content: &'static [u8]) {
    let mut encoder = client.answer_context().unwrap().encoder().unwrap();
    let source: Source = Arc::new(content);
    encoder.start(request, content.len()).unwrap();
    client.begin_answer(request.ndx).unwrap();
    let mut pieces = Pieces::default();
    assert_eq!(encoder.step(content, &mut pieces).unwrap(), Progress::Done);
    client.push_pieces(&mut pieces, &source).unwrap();
    client.end_answer().unwrap();
}

fn requests(events: &[Event]) -> Vec<Request> {
    let request =
        |event: &Event| if let Event::Request(request) = event { Some(request.clone()) } else { None };
    events.iter().filter_map(request).collect()
}

#[test]
fn the_captured_session_is_spoken_byte_for_byte() {
    let mut client = ready(options());
    assert!(client.is_incremental() && client.wants_list());
    assert_eq!(client.push_list(None, top()).unwrap(), Pushed { first: Ndx(1), directories: 0..4 });
    let first = "000000008c01012e008c0066d98138ed4100000004726f6f740004726f6f7492980166000300a481000080980373796d\
                 000100ffa10000016680980161006400ed410000809a0165002800809a017a003c000000";
    assert_eq!(hex(&written(&mut client).0), first);

    let g = Entry { link_group: Some(1), uid: 1, gid: 2, ..file("a/g", 6) };
    let link = Entry { link_group: Some(0), ..file("a/link", 3) };
    assert_eq!(client.push_list(Some(1), part("a", &[dir("a/b", 60), link, g])).unwrap().directories, 4..5);
    let l2 = Entry { link_group: Some(1), uid: 1, gid: 2, ..file("a/b/l2", 6) };
    assert_eq!(client.push_list(Some(4), part("a/b", &[l2])).unwrap().directories, 5..5);
    assert!(client.end_lists().is_err(), "two directories have no list");
    client.push_list(Some(2), part("e", &[])).unwrap();
    client.push_list(Some(3), part("z", &[file("z/q", 2)])).unwrap();
    assert!(client.wants_list());
    client.end_lists().unwrap();
    assert!(!client.wants_list());
    let others = "ff659e8003612f67000600a481000001066461656d6f6e020362696e82a202046c696e6b02000300000080b8020162003c\
                  00ed4100000000ff0382a003032f6c3208000600a481000001020000fffe806700000000ff018082037a2f71000200000000\
                  00fffe80020000";
    assert_eq!(hex(&written(&mut client).0), others);

    hear(&mut client, "010800");
    assert_eq!(hex(&written(&mut client).0), "010800");
    let events = hear(
        &mut client,
        "0302600400600200a0000000000000000000000000000000000200600100a0000000000000000000000000000000000100600100\
         600100a000000000000000000000000000000000",
    );
    let wanted = requests(&events);
    let places: Vec<_> = wanted.iter().map(|request| client.lists.place(request.ndx).unwrap()).collect();
    let at = |list, entry| Place { list, entry: Some(Ndx(entry)) };
    assert_eq!(places, [at(1, 1), at(2, 0), at(4, 0)]);
    assert_eq!(client.lists.place(Ndx(7)), Some(Place { list: 1, entry: None }));
    // Items are repeated at once. The stock client repeats them in the order of the daemon's, and the daemon does not
    // mind.
    assert_eq!(hex(&written(&mut client).0), "030260040060040060020060010060");
    for (request, content) in wanted.iter().zip([&b"hi\n"[..], b"hello\n", b"q\n"]) {
        answer(&mut client, request, content);
    }
    let events = hear(&mut client, "fe80020000007006612f6c696e6b0006007006612f622f6c3200000000");
    let done: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::ListDone(list) = event { Some(*list) } else { None })
        .collect();
    // The end of the last list is the end of the first phase.
    assert_eq!(done, [0, 1, 2, 3, 4]);
    assert_eq!(client.lists.place(Ndx(9)), None);
    let said = hex(&written(&mut client).0);
    assert!(said.ends_with("fe80020000007006612f6c696e6b0006007006612f622f6c3200000000"), "{said}");
    hear(&mut client, "0000ff020000000000");
    assert_eq!(hex(&written(&mut client).0), "0000");
    hear(&mut client, "00");
    assert_eq!(hex(&written(&mut client).0), "00");
    let events = hear(&mut client, "00");
    assert!(matches!(events[..], [Event::Finished(Outcome { exit: ExitCode::OK, .. })]), "{events:?}");
}

#[test]
fn the_end_of_a_list_is_repeated_behind_the_open_answer() {
    let mut client = ready(options());
    client.push_list(None, part("", &[dir(".", 0), dir("d", 0)])).unwrap();
    client.push_list(Some(1), part("d", &[file("d/f", 3)])).unwrap();
    client.end_lists().unwrap();
    written(&mut client);
    // `d` and `d/f` have the indexes 2 and 4; 3 stands for the content of `d`.
    let events = hear(&mut client, &format!("0500a0{}", "00".repeat(16)));
    let [request] = &requests(&events)[..] else { panic!("{events:?}") };
    assert_eq!(client.lists.place(request.ndx), Some(Place { list: 1, entry: Some(Ndx(0)) }));
    client.begin_answer(request.ndx).unwrap();
    assert!(!client.wants_list());
    assert_eq!(hear(&mut client, "00"), [Event::ListDone(0)]);
    assert_eq!(hex(&written(&mut client).0), "0500a0");
    client.end_answer().unwrap();
    assert_eq!(hex(&written(&mut client).0), "00");
}

#[test]
fn a_file_may_be_wanted_twice_and_not_a_third_time() {
    let mut client = ready(options());
    client.push_list(None, part("", &[dir(".", 0), file("f", 3)])).unwrap();
    client.end_lists().unwrap();
    for (ask, redo) in [("0300a0", false), ("fe000000a0", true)] {
        let events = hear(&mut client, &format!("{ask}{}", "00".repeat(16)));
        let [request] = &requests(&events)[..] else { panic!("{events:?}") };
        assert_eq!(request.redo, redo);
        answer(&mut client, request, b"abc");
    }
    let third = frame(Code::Data, &bytes(&format!("fe000000a0{}", "00".repeat(16))));
    let error = client.handle_input(&third).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::PeerMisbehaved { .. }), "{error}");
}

#[test]
fn errors_travel_with_the_list_that_they_came_with() {
    let mut client = ready(options());
    client.push_list(None, part("", &[dir(".", 0), dir("a", 0), dir("b", 0)])).unwrap();
    written(&mut client);
    client.add_io_errors(IoErrors::GENERAL);
    client.push_list(Some(1), part("a", &[])).unwrap();
    assert_eq!(hex(&written(&mut client).0), "ff650001");
    client.push_list(Some(2), part("b", &[])).unwrap();
    assert_eq!(hex(&written(&mut client).0), "ff010000");
}

#[test]
fn lists_that_no_daemon_could_place_are_misuse() {
    let mut client = ready(options());
    assert!(client.push_list(Some(0), part("a", &[])).is_err(), "the first list is the root's");
    assert!(client.push_list(None, part("", &[])).is_err(), "it says nothing");
    client.push_list(None, part("", &[dir(".", 0), dir("a", 0)])).unwrap();
    assert!(client.push_list(None, top()).is_err(), "there is a first list");
    assert!(client.push_list(Some(0), part("a", &[])).is_err(), "the root has its list");
    assert!(client.push_list(Some(2), part("a", &[])).is_err(), "there is no such directory");
    client.push_list(Some(1), part("a", &[])).unwrap();
    assert!(client.push_list(Some(1), part("a", &[])).is_err(), "it has its list");
    client.end_lists().unwrap();
    assert!(client.end_lists().is_err());
    assert!(client.send_list(top()).is_err());
}

#[test]
fn entries_of_other_directories_are_refused() {
    let mut builder = FileListBuilder::of_directory(b"a").unwrap();
    assert!(builder.push(&file("f", 0)).is_err());
    assert!(builder.push(&file("a/b/f", 0)).is_err());
    assert!(FileListBuilder::of_directory(b"../x").is_err());
}

#[test]
fn a_daemon_that_is_done_with_what_it_did_not_get_is_refused() {
    for lists in [0, 1] {
        let mut client = ready(options());
        if lists > 0 {
            client.push_list(None, part("", &[dir(".", 0), dir("a", 0)])).unwrap();
        }
        let error = client.handle_input(&frame(Code::Data, &[0])).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::PeerMisbehaved { .. }), "{error}");
    }
    let mut client = ready(options());
    client.push_list(None, part("", &[dir(".", 0), file("f", 1)])).unwrap();
    client.end_lists().unwrap();
    hear(&mut client, &format!("0300a0{}", "00".repeat(16)));
    let error = client.handle_input(&frame(Code::Data, &[0])).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::PeerMisbehaved { .. }), "{error}");
}

#[test]
fn a_daemon_that_recurses_incrementally_without_being_asked_is_refused() {
    let mut client = Client::new(Config::new("m", "", ServerOptions::archive())).unwrap();
    assert!(client.handle_input(HANDSHAKE).is_err());
}

/// A session that has sent 10,000 files, from index 5 on, and has another directory to come.
fn far_ahead() -> Client {
    let mut client = ready(options());
    client.push_list(None, part("", &[dir(".", 0), dir("a", 0), dir("b", 0)])).unwrap();
    let names: Vec<String> = (0..10_000).map(|number| format!("a/{number}")).collect();
    let entries: Vec<_> = names.iter().map(|name| file(name, 0)).collect();
    client.push_list(Some(1), part("a", &entries)).unwrap();
    written(&mut client);
    client
}

#[test]
fn no_more_lists_are_wanted_than_the_daemon_needs_for_a_while() {
    let mut client = far_ahead();
    assert!(!client.wants_list());
    // The daemon speaks of an entry of that list.
    hear(&mut client, "090800");
    assert!(client.wants_list());
}

#[test]
fn no_more_lists_are_wanted_while_the_daemon_waits_for_as_many_answers() {
    let mut client = far_ahead();
    let request = format!("00a0{}", "00".repeat(16));
    hear(&mut client, &format!("06{request}"));
    for _ in 1..10_000 {
        hear(&mut client, &format!("01{request}"));
    }
    assert!(!client.wants_list());
    client.no_send(Ndx(5), NoSend::Gone).unwrap();
    written(&mut client);
    assert!(client.wants_list());
}

/// A directory that changes while it is read can show a name twice.
#[test]
fn of_names_that_come_twice_one_stays_and_a_directory_rather_than_another_entry() {
    let list = part(
        "a",
        &[file("a/x", 1), file("a/y", 1), dir("a/z", 0), file("a/x", 2), dir("a/z", 0), dir("a/y", 0)],
    );
    let names: Vec<_> = list.iter().map(|(_, entry)| (entry.base.to_vec(), entry.is_dir())).collect();
    assert_eq!(names, [(b"x".to_vec(), false), (b"y".to_vec(), true), (b"z".to_vec(), true)]);
    assert_eq!(list.directories().count(), 2);
}
