//! Values of extended attributes within a session.

use std::sync::Arc;

use crate::answer::{Pieces, Source};
use crate::flist::{Attributes, Entry, FileListBuilder, Xattrs};
use crate::proto::ServerOptions;
use crate::sender::{Client, Config, Event, Ndx, NoSend};
use crate::wire::mux::{Code, Demux, Part, frame};
use crate::{Error, ErrorKind};

const VALUE: &[u8] = &[b'v'; 40];

/// A session whose list is sent, with files `a` to `c` that all have the same long attribute.
fn session(setup: &[u8], options: ServerOptions) -> Client {
    let attributes =
        Attributes { xattrs: Xattrs::new([(&b"user.long"[..], VALUE)]), ..Attributes::default() };
    let mut builder = FileListBuilder::new();
    for name in [b"a", b"b", b"c"] {
        let entry = Entry { name, mode: 0o100_644, attributes: Some(&attributes), ..Entry::default() };
        builder.push(&entry).unwrap();
    }
    let mut client = Client::new(Config::new("m", "", options)).unwrap();
    client.send_list(Arc::new(builder.finish(|_, _| None).unwrap())).unwrap();
    client.handle_input(b"@RSYNCD: 31.0\n@RSYNCD: OK\n").unwrap();
    client.handle_input(setup).unwrap();
    while client.poll_event().is_some() {}
    client.advance(client.output_len());
    client
}

fn modern() -> Client {
    // Seed fix, no xattr shortcut; no strings are negotiated.
    session(b"\x3e\0\0\0\0", ServerOptions { xattrs: 1, ..ServerOptions::default() })
}

fn hear(client: &mut Client, data: &[u8]) -> Result<Vec<Event>, Error> {
    client.handle_input(&frame(Code::Data, data))?;
    Ok(std::iter::from_fn(|| client.poll_event()).collect())
}

/// The data that waits to be written.
fn written(client: &mut Client) -> Vec<u8> {
    let bytes: Vec<u8> = client.output().flatten().copied().collect();
    client.advance(bytes.len());
    let (mut demux, mut input, mut data) = (Demux::default(), &bytes[..], Vec::new());
    while let Some(part) = demux.next(&mut input).unwrap() {
        if let Part::Data(bytes) = part {
            data.extend_from_slice(bytes);
        }
    }
    data
}

fn asked(events: &[Event]) -> Vec<(Ndx, Vec<Vec<u8>>)> {
    let asked = |event: &Event| match event {
        Event::Values(request) => Some((request.ndx, request.names.clone())),
        _ => None,
    };
    events.iter().filter_map(asked).collect()
}

/// `a` wants data and the value, `b` only its attributes.
const WISHES: &[u8] = b"\x01\x00\xa1\x01\x00\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x01\x00";

#[test]
fn the_value_goes_with_the_first_item_of_its_set_that_goes_out() {
    let mut client = modern();
    let events = hear(&mut client, WISHES).unwrap();
    assert_eq!(asked(&events), [(Ndx(0), vec![b"user.long".to_vec()])]);
    assert!(client.begin_answer(Ndx(0)).is_err() && written(&mut client).is_empty());
    client.give_values(vec![Some(VALUE.to_vec())]).unwrap();
    assert_eq!(written(&mut client), [&b"\x02\x00\x01\x01\x28"[..], VALUE, &[0]].concat());
    client.begin_answer(Ndx(0)).unwrap();
    let source: Source = Arc::new(b"");
    client.push_pieces(&mut Pieces::default(), &source).unwrap();
    client.end_answer().unwrap();
    assert_eq!(written(&mut client), b"\xfe\x80\0\0\0\x00\xa1\0");
}

#[test]
fn a_file_that_is_not_sent_leaves_its_value_to_the_next_one() {
    let mut client = modern();
    hear(&mut client, &WISHES[..WISHES.len() - 4]).unwrap();
    client.give_values(vec![Some(VALUE.to_vec())]).unwrap();
    client.no_send(Ndx(0), NoSend::Gone).unwrap();
    assert!(written(&mut client).is_empty());
    let events = hear(&mut client, b"\x01\x00\x01\x00").unwrap();
    assert_eq!(asked(&events), [(Ndx(1), vec![b"user.long".to_vec()])]);
    client.give_values(vec![Some(VALUE.to_vec())]).unwrap();
    assert_eq!(written(&mut client), [&b"\x02\x00\x01\x01\x28"[..], VALUE, &[0]].concat());
}

#[test]
fn one_that_waits_for_its_answer_already_gets_the_value_of_one_that_is_not_sent() {
    let mut client = modern();
    hear(&mut client, &WISHES[..WISHES.len() - 4]).unwrap();
    client.give_values(vec![Some(VALUE.to_vec())]).unwrap();
    hear(&mut client, b"\x01\x00\xa1\x00\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    client.no_send(Ndx(0), NoSend::Gone).unwrap();
    client.begin_answer(Ndx(1)).unwrap();
    client.push_pieces(&mut Pieces::default(), &(Arc::new(b"") as Source)).unwrap();
    client.end_answer().unwrap();
    assert_eq!(written(&mut client), [&b"\x02\x00\xa1\x01\x28"[..], VALUE, &[0]].concat());
}

#[test]
fn the_end_of_a_phase_waits_for_values() {
    let mut client = modern();
    let events = hear(&mut client, b"\x01\x00\x01\x01\x00\0").unwrap();
    assert_eq!(asked(&events).len(), 1);
    assert!(written(&mut client).is_empty());
    client.give_values(vec![None]).unwrap();
    assert_eq!(written(&mut client), b"\x01\x00\x01\0\0");
}

#[test]
fn a_linked_name_asks_for_nothing_only_under_the_old_shortcut() {
    let linked = b"\x01\x00\x51\x01a";
    let mut old = session(b"\x0e\0\0\0\0", ServerOptions { xattrs: 1, ..ServerOptions::default() });
    hear(&mut old, linked).unwrap();
    assert_eq!(written(&mut old), linked);
    let mut new = modern();
    hear(&mut new, linked).unwrap();
    assert!(written(&mut new).is_empty());
    hear(&mut new, b"\0").unwrap();
    assert_eq!(written(&mut new), [&linked[..], &[0]].concat());
}

#[test]
fn without_the_option_and_in_a_dry_run_items_have_no_place_for_requests() {
    for options in
        [ServerOptions::default(), ServerOptions { dry_run: true, xattrs: 1, ..ServerOptions::default() }]
    {
        let mut client = session(b"\x3e\0\0\0\0", options);
        hear(&mut client, b"\x01\x00\x01").unwrap();
        assert_eq!(written(&mut client), b"\x01\x00\x01");
    }
}

#[test]
fn a_daemon_that_asks_for_what_is_not_there_is_refused() {
    for request in [
        &b"\x02\0"[..],
        b"\x01\xf0\xff\xff\xff\xff",
        b"\xf0\xff\xff\xff\x7f\0",
        b"\x01\xf0\xff\xff\xff\x7f\0",
    ] {
        let mut client = modern();
        let error = hear(&mut client, &[b"\x01\x00\x01", request].concat()).unwrap_err();
        let kinds = matches!(error.kind, ErrorKind::PeerMisbehaved { .. } | ErrorKind::Malformed { .. });
        assert!(kinds, "{error}");
    }
}
