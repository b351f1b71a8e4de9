//! A driver of one session that watches over the core's promises.

use std::collections::HashSet;
use std::sync::Arc;

use ebbtide_wire::answer::{Encoder, Pieces, Progress, Source};
use ebbtide_wire::flist::{Attributes, Device, DirKind, Entry, FileList, FileListBuilder, Mtime, Xattrs};
use ebbtide_wire::sender::{Client, Config, Event, Ndx, NoSend, Request};
use ebbtide_wire::{Error, ErrorKind};

/// The sessions' files: content by length, as the list says it.
const FILES: [(&[u8], usize); 4] = [(b"d/inner", 5), (b"empty", 0), (b"file", 3_000), (b"large", 70_000)];

/// One session, and what must hold for it.
pub(crate) struct Player {
    client: Client,
    list: Arc<FileList>,
    encoder: Option<Encoder>,
    /// Which requests came, with whether they were the second ones.
    requested: HashSet<(Ndx, bool)>,
    finished: bool,
    /// Whether every other file vanishes.
    vanishing: bool,
}

impl Player {
    pub(crate) fn new(config: Config, vanishing: bool) -> Player {
        let list = list();
        let mut client = Client::new(config).expect("the configs are fine");
        client.send_list(Arc::clone(&list)).expect("the list fits the options");
        let requested = HashSet::new();
        let mut player = Player { client, list, encoder: None, requested, finished: false, vanishing };
        player.write();
        player
    }

    /// Lets bytes arrive. The failure of the session comes back as it came first, with everything that follows.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let result = self.client.handle_input(bytes).and_then(|()| self.take_events());
        self.write();
        if let Err(error) = &result {
            self.failed(error);
        }
        result
    }

    /// The daemon closes. Only a session that is finished is no failure.
    pub(crate) fn end(&mut self) {
        let result = self.client.handle_eof();
        assert_eq!(result.is_ok(), self.finished, "{result:?}");
        if let Err(error) = &result {
            self.failed(error);
        }
        self.write();
    }

    /// Whether the session came to its end.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// A failure lasts, has a code, and can be shown.
    fn failed(&mut self, error: &Error) {
        assert_eq!(self.client.handle_input(b"@RSYNCD: OK\n").as_ref(), Err(error));
        assert_ne!(error.exit_code().0, 0, "{error}");
        assert!(!matches!(error.kind, ErrorKind::Misuse(_)), "{error}");
        assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    }

    fn take_events(&mut self) -> Result<(), Error> {
        while let Some(event) = self.client.poll_event() {
            assert!(!self.finished, "an event behind the last one: {event:?}");
            match event {
                Event::Request(request) => self.answer(&request)?,
                Event::Values(wanted) => {
                    let values = wanted.names.iter().map(|name| Some(name.repeat(3))).collect();
                    self.client.give_values(values)?;
                }
                Event::Item(item) => assert!(self.list.get(item.ndx).is_some(), "{item:?}"),
                Event::Success(ndx) => assert!(self.list.get(ndx).is_some(), "{ndx:?}"),
                Event::Finished(_) => self.finished = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> Result<(), Error> {
        let entry = self.list.get(request.ndx).expect("what is wanted is listed");
        assert!(entry.is_file(), "{request:?}");
        assert!(self.requested.insert((request.ndx, request.redo)), "twice: {request:?}");
        let length = FILES.iter().find(|(name, _)| *name == entry.path()).map_or(0, |(_, length)| *length);
        if self.vanishing && request.ndx.0.is_multiple_of(2) {
            return self.client.no_send(request.ndx, NoSend::Gone);
        }
        let content = content(length);
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => self.client.answer_context().expect("requests come after the setup").encoder()?,
        };
        encoder.start(request, content.len())?;
        self.client.begin_answer(request.ndx)?;
        let source: Source = Arc::new(content.clone());
        let mut pieces = Pieces::default();
        loop {
            let progress = encoder.step(&content, &mut pieces)?;
            self.client.push_pieces(&mut pieces, &source)?;
            if progress == Progress::Done {
                break;
            }
        }
        self.encoder = Some(encoder);
        self.client.end_answer()
    }

    /// Writes all.
    fn write(&mut self) {
        while self.client.output_len() > 0 {
            let waiting: Vec<u8> = self.client.output().flatten().copied().collect();
            assert_eq!(waiting.len(), self.client.output_len());
            self.client.advance(waiting.len());
        }
    }
}

/// One of everything, so that a daemon can want what it must not want.
fn list() -> Arc<FileList> {
    let mut list = FileListBuilder::new();
    let mtime = Mtime { secs: 1_715_000_000, nanos: 5 };
    let entry = Entry { mtime, ..Entry::default() };
    for (name, mode) in [(&b"."[..], 0o040_755), (b"d", 0o040_700)] {
        list.push(&Entry { name, mode, dir: DirKind::Content, ..entry }).expect("it is fine");
    }
    let xattrs = Xattrs::new([(&b"user.long"[..], &[b'x'; 40][..]), (b"user.short", b"short")]);
    let attributes = Attributes { xattrs, ..Attributes::default() };
    for (name, size) in FILES {
        let attributes = (size > 0).then_some(&attributes);
        let file = Entry { name, mode: 0o100_644, size: size as u64, attributes, ..entry };
        list.push(&file).expect("it is fine");
    }
    list.push(&Entry { name: b"link", mode: 0o120_777, target: b"file", ..entry }).expect("it is fine");
    let device = Device { major: 1, minor: 3 };
    list.push(&Entry { name: b"null", mode: 0o020_666, device, ..entry }).expect("it is fine");
    Arc::new(list.finish(|_, _| None).expect("it is fine"))
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 % 251) as u8).collect()
}
