//! Sessions whose list goes over directory by directory, while the daemon says whatever it likes.

use std::collections::VecDeque;
use std::sync::Arc;

use ebbtide_wire::Error;
use ebbtide_wire::answer::{Pieces, Progress, Source};
use ebbtide_wire::flist::{DirKind, Entry, FileList, FileListBuilder};
use ebbtide_wire::proto::{DeleteMode, ServerOptions};
use ebbtide_wire::sender::{Client, Config, Event, Ndx, Request};
use ebbtide_wire::wire::mux::{Code, frame};

use crate::{Choices, parts};

/// The data stream of a daemon that gets a list for each directory is arbitrary.
pub fn directories(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (how, bits) = (choices.byte(), choices.byte());
    let mut session = Session::begin(bits);
    for part in parts(choices.rest(), how) {
        for part in part.chunks(FRAME) {
            if session.hear(&frame(Code::Data, part)).is_err() {
                return;
            }
        }
    }
    assert_eq!(session.client.handle_eof().is_ok(), session.finished);
}

/// A frame of less than the longest length.
const FRAME: usize = 60_000;

/// After the greeting of a daemon that takes lists in parts.
const WELCOME: &[u8] =
    b"@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\n@RSYNCD: OK\n\x81\xff\x23xxh128 xxh3 xxh64 md5 md4 sha1 none\x01\0\0\0";

struct Session {
    client: Client,
    /// Directories that have no list yet, by the numbers that they got.
    unlisted: VecDeque<(Option<u32>, Vec<u8>)>,
    /// First index and list of all that went out.
    sent: Vec<(u32, Arc<FileList>)>,
    /// How many lists the daemon is done with.
    done: usize,
    /// How many lists go out after each part of what the daemon says; 0 for as many as are wanted.
    pace: usize,
    complete: bool,
    finished: bool,
}

impl Session {
    fn begin(bits: u8) -> Session {
        let options = ServerOptions {
            incremental: true,
            hard_links: bits & 1 != 0,
            delete: (bits & 2 != 0).then_some(DeleteMode::Default),
            dry_run: bits & 4 != 0,
            numeric_ids: bits & 8 != 0,
            ..ServerOptions::archive()
        };
        let mut session = Session {
            client: Client::new(Config::new("m", "", options)).expect("the configs are fine"),
            unlisted: VecDeque::from([(None, Vec::new())]),
            sent: Vec::new(),
            done: 0,
            pace: usize::from(bits >> 4 & 3),
            complete: false,
            finished: false,
        };
        session.hear(WELCOME).expect("an honest handshake goes well");
        assert!(session.client.is_incremental());
        session
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.client.handle_input(bytes)?;
        self.take_events()?;
        self.give_lists();
        self.write();
        Ok(())
    }

    /// Gives lists as they are wanted, and the end of them.
    fn give_lists(&mut self) {
        let mut left = if self.pace == 0 { usize::MAX } else { self.pace };
        while left > 0
            && self.client.wants_list()
            && let Some((number, path)) = self.unlisted.pop_front()
        {
            left -= 1;
            let list = list(&path);
            let pushed = self.client.push_list(number, Arc::clone(&list)).expect("it was wanted");
            for (number, ndx) in pushed.directories.zip(list.directories()) {
                let name = list.get(ndx).map(|entry| entry.path()).unwrap_or_default();
                if name != b"." {
                    self.unlisted.push_back((Some(number), name));
                }
            }
            self.sent.push((pushed.first.0, list));
        }
        if self.unlisted.is_empty() && !self.complete && self.client.wants_list() {
            self.client.end_lists().expect("every directory has its list");
            self.complete = true;
        }
    }

    fn take_events(&mut self) -> Result<(), Error> {
        while let Some(event) = self.client.poll_event() {
            assert!(!self.finished, "an event behind the last one: {event:?}");
            match event {
                Event::Request(request) => self.answer(&request)?,
                Event::ListDone(list) => {
                    assert_eq!(list, self.done as u64, "lists end in their order");
                    self.done += 1;
                    assert!(self.done <= self.sent.len());
                }
                Event::Finished(_) => self.finished = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> Result<(), Error> {
        let behind = self.sent.partition_point(|(first, _)| *first <= request.ndx.0);
        let (first, list) = &self.sent[behind.checked_sub(1).expect("what is wanted was sent")];
        assert!(behind > self.done, "a list is spoken of after its end: {request:?}");
        let entry = list.get(Ndx(request.ndx.0 - first)).expect("what is wanted is listed");
        assert!(entry.is_file(), "{request:?}");
        let content = vec![b'x'; entry.size as usize];
        let mut encoder = self.client.answer_context().expect("requests come after the setup").encoder()?;
        encoder.start(request, content.len())?;
        self.client.begin_answer(request.ndx)?;
        let mut pieces = Pieces::default();
        while encoder.step(&content, &mut pieces)? == Progress::More {}
        let source: Source = Arc::new(content);
        if pieces.is_own() {
            self.client.push_bytes(&pieces.scratch)?;
        } else {
            self.client.push_pieces(&mut pieces, &source)?;
        }
        self.client.end_answer()
    }

    fn write(&mut self) {
        self.client.flush();
        while self.client.output_len() > 0 {
            let waiting = self.client.output().map(<[u8]>::len).sum();
            assert_eq!(self.client.output_len(), waiting);
            self.client.advance(waiting);
        }
    }
}

/// Two directories in each directory, three levels deep, and files of two lengths.
fn list(path: &[u8]) -> Arc<FileList> {
    let mut list = FileListBuilder::of_directory(path).expect("it is fine");
    let mut add = |name: &[u8], mode: u32, size: u64| {
        let name = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        let entry = Entry { name: &name, mode, size, dir: DirKind::Content, ..Entry::default() };
        list.push(&entry).expect("it is fine");
    };
    if path.is_empty() {
        add(b".", 0o040_755, 0);
    }
    if path.len() < 4 {
        add(b"d", 0o040_755, 0);
        add(b"e", 0o040_700, 0);
    }
    add(b"long", 0o100_644, 5_000);
    add(b"short", 0o100_600, 9);
    Arc::new(list.finish(|_, _| Some(b"somebody".to_vec())).expect("it is fine"))
}
