//! Frames that are no data: texts, deletions, the daemon's farewell (protocol note, sections 3.2 and 3.3).

use super::client::{Client, State};
use super::{Deleted, Event, MessageKind, Ndx};
use crate::error::ErrorKind;
use crate::proto::IoErrors;
use crate::wire::mux::{Code, Part, frame};

/// The last error text, kept for the error that ends the session.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    text: Vec<u8>,
    /// The code in `rsync error: … (code N) at …`: the only place where protocol 30 has it.
    code: Option<u8>,
}

impl LastWords {
    fn hear(&mut self, text: &[u8]) {
        if text.starts_with(b"rsync error:") {
            self.code = code_in(text);
        } else {
            self.text = text[..text.len().min(MAX_LAST_WORDS)].to_vec();
        }
    }

    pub(super) fn exit(&self, code: u8) -> ErrorKind {
        ErrorKind::RemoteExit { code, text: self.text.clone() }
    }

    /// The connection ended without a farewell.
    pub(super) fn closed(&self) -> ErrorKind {
        match self.code {
            Some(code) if code != 0 => self.exit(code),
            _ => ErrorKind::Closed { text: self.text.clone() },
        }
    }
}

impl Client {
    pub(super) fn handle_frames(&mut self, mut bytes: &[u8]) -> Result<(), ErrorKind> {
        if let State::Leaving { patience, .. } = &mut self.state {
            *patience = patience.checked_sub(bytes.len()).ok_or_else(|| {
                ErrorKind::misbehaved("error exit", "the daemon goes on talking after it gave up")
            })?;
        }
        while self.state != State::Finished {
            match self.demux.next(&mut bytes)? {
                None => break,
                Some(Part::Data(data)) => {
                    if self.state == State::Frames {
                        self.stream.push(data);
                    }
                }
                Some(Part::Message(code, payload)) => {
                    // In the order of arrival: what was said before the message comes first.
                    self.read_stream()?;
                    if self.state == State::Finished {
                        break;
                    }
                    self.handle_message(code, payload)?;
                }
            }
        }
        self.read_stream()
    }

    fn handle_message(&mut self, code: Code, payload: Vec<u8>) -> Result<(), ErrorKind> {
        match code {
            Code::ErrorXfer => {
                self.transfer.errors += 1;
                self.text(MessageKind::TransferError, payload);
            }
            Code::Info => self.text(MessageKind::Info, payload),
            Code::Error => self.text(MessageKind::Error, payload),
            Code::Warning => self.text(MessageKind::Warning, payload),
            Code::IoError => {
                let bits = int("IO_ERROR", &payload)?;
                self.transfer.daemon_io_errors.add(IoErrors::from_bits(bits as u32));
            }
            Code::IoTimeout => match int("IO_TIMEOUT", &payload)? {
                seconds @ 1..=MAX_TIMEOUT => self.events.push_back(Event::IoTimeout(seconds as u32)),
                seconds => {
                    let found = format!("{seconds} s, expected 1 to {MAX_TIMEOUT}");
                    return Err(ErrorKind::misbehaved("IO_TIMEOUT", found));
                }
            },
            Code::Success => {
                let ndx = self.known_index(int("SUCCESS", &payload)?)?;
                self.events.push_back(Event::Success(ndx));
            }
            Code::Deleted => self.deleted(payload),
            Code::ErrorExit => self.farewell(&payload)?,
            Code::Noop | Code::Data => {}
            Code::NoSend => return Err(ErrorKind::misbehaved("message", "NO_SEND, which only senders send")),
        }
        Ok(())
    }

    fn text(&mut self, kind: MessageKind, mut text: Vec<u8>) {
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        if matches!(kind, MessageKind::Error | MessageKind::TransferError) {
            self.last_words.hear(&text);
        }
        self.events.push_back(Event::Message { kind, text });
    }

    fn deleted(&mut self, mut name: Vec<u8>) {
        let directory = name.last() == Some(&0);
        if directory {
            name.pop();
        }
        self.events.push_back(Event::Deleted(Deleted { name, directory }));
    }

    /// The daemon gives up and waits until we have said that we heard it.
    fn farewell(&mut self, payload: &[u8]) -> Result<(), ErrorKind> {
        if self.state != State::Frames {
            return Ok(());
        }
        let code = if payload.is_empty() { 0 } else { int("ERROR_EXIT", payload)? };
        // An exit without a code, or with the one of success, is still no end of a session.
        let code = u8::try_from(code).ok().filter(|code| *code != 0).unwrap_or(STREAM_ERROR);
        self.output.cut();
        self.output.raw(frame(Code::ErrorExit, &[]));
        self.state = State::Leaving { code, patience: MAX_FAREWELL };
        Ok(())
    }

    /// An index that leads to an entry of a list that the daemon is not done with.
    pub(super) fn known_index(&self, index: i32) -> Result<Ndx, ErrorKind> {
        if self.lists.is_empty() {
            return Err(ErrorKind::misbehaved("index", format!("{index} when there is no list")));
        }
        let known = u32::try_from(index).ok().map(Ndx).filter(|ndx| self.lists.place(*ndx).is_some());
        known.ok_or_else(|| ErrorKind::misbehaved("index", format!("{index}, which no entry has")))
    }
}

fn int(what: &'static str, payload: &[u8]) -> Result<i32, ErrorKind> {
    let bytes = <[u8; 4]>::try_from(payload)
        .map_err(|_| ErrorKind::malformed(what, format!("{} bytes, expected 4", payload.len())))?;
    Ok(i32::from_le_bytes(bytes))
}

/// The N of `(code N)`.
fn code_in(text: &[u8]) -> Option<u8> {
    let text = String::from_utf8_lossy(text);
    let rest = text.split("(code ").nth(1)?;
    rest.split(')').next()?.parse().ok()
}

/// rsync's own limit, in seconds: a day.
const MAX_TIMEOUT: i32 = 86_400;

/// What the last error text may be long, in bytes.
const MAX_LAST_WORDS: usize = 1024;

/// What a daemon may say after it gave up, in bytes.
const MAX_FAREWELL: usize = 1 << 20;

/// rsync's code for a broken stream.
const STREAM_ERROR: u8 = 12;
