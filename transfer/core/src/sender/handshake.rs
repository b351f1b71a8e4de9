//! From the first line to the seed (protocol note, sections 1 and 2).

use super::Event;
use super::client::{Client, Config, List, Peer, State};
use crate::error::{ErrorKind, Shown};
use crate::proto::auth::AuthDigest;
use crate::proto::greeting::{self, Greeting, PREFIX};
use crate::proto::negotiate::{self, MAX_NAMES};
use crate::proto::{Checksum, CompatFlags, CompressWish, Compression, Dialect, ExitCode, IoErrors, Protocol};
use crate::sender::Outcome;
use crate::wire::varint::{put_vstring, varint, vstring};
use crate::wire::{Reader, WireError};
use crate::{Error, Stage};

/// What is known before the session speaks frames.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Bytes that arrived and were not understood yet.
    input: Vec<u8>,
    /// Bytes at the front of `input` that are done with.
    at: usize,
    step: Step,
    greeting: Option<Greeting>,
    protocol: Protocol,
    compat: CompatFlags,
    checksum: Checksum,
    compression: Compression,
    /// Bytes of text lines so far.
    text: usize,
    /// The daemon's challenge. There is one: each response is one more text to guess the password from.
    challenge: Option<Vec<u8>>,
    /// The argument vector; empty once it is sent.
    arguments: Vec<u8>,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Greeting,
    /// The version of a server that a remote shell started, as an integer.
    Version,
    /// Text, a challenge, the daemon's OK, or modules.
    Lines,
    Compat,
    Names,
    Seed,
}

impl Handshake {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let odd = |text: &[u8]| text.iter().any(|byte| b"\n\r\0".contains(byte));
        if odd(&config.module) || config.module.contains(&b'/') || config.module.len() > MAX_MODULE {
            return Err(Error::misuse(
                Stage::Greeting,
                "module name holds a slash or a line end, or is too long",
            ));
        }
        if config
            .user
            .as_ref()
            .is_some_and(|user| odd(user) || user.contains(&b' ') || user.len() > MAX_MODULE)
        {
            return Err(Error::misuse(Stage::Auth, "user name holds a space or a line end, or is too long"));
        }
        if config.early_input.len() > MAX_EARLY_INPUT {
            return Err(Error::misuse(
                Stage::Greeting,
                format!("early input of more than {MAX_EARLY_INPUT} bytes"),
            ));
        }
        Ok(Handshake {
            input: Vec::new(),
            at: 0,
            step: match config.peer {
                Peer::Daemon => Step::Greeting,
                Peer::Server => Step::Version,
            },
            greeting: None,
            protocol: config.protocol,
            compat: CompatFlags::default(),
            checksum: Checksum::Md5,
            compression: Compression::None,
            text: 0,
            challenge: None,
            arguments: arguments(config)?,
        })
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, ErrorKind> {
        let rest = &self.input[self.at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return match rest.len() > MAX_LINE {
                true => {
                    Err(ErrorKind::misbehaved("line", format!("more than {MAX_LINE} bytes without an end")))
                }
                false => Ok(None),
            };
        };
        let line: Vec<u8> = rest[..end].iter().copied().filter(|byte| *byte != b'\r').collect();
        self.at += end + 1;
        self.text += end + 1;
        if self.text > MAX_TEXT {
            return Err(ErrorKind::misbehaved("greeting text", format!("more than {MAX_TEXT} bytes")));
        }
        if line.contains(&0) {
            return Err(ErrorKind::malformed("line", "it holds a NUL byte"));
        }
        Ok(Some(line))
    }

    /// Reads a number or string from the front, if it is there.
    fn read<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, WireError>,
    ) -> Result<Option<T>, ErrorKind> {
        let mut reader = Reader::new(&self.input[self.at..]);
        match read(&mut reader) {
            Ok(value) => {
                self.at += reader.position();
                Ok(Some(value))
            }
            Err(WireError::Short) => Ok(None),
            Err(WireError::Malformed(why)) => Err(ErrorKind::malformed(what, why)),
        }
    }
}

/// What travels in the session's own stream: a daemon's whole vector, or the second part of a server's, whose first
/// one is on its command line.
fn arguments(config: &Config) -> Result<Vec<u8>, Error> {
    match config.peer {
        Peer::Daemon if config.module.is_empty() => Ok(Vec::new()),
        Peer::Daemon => config.options.arguments(&[&config.module, &b"/"[..], &config.path].concat()),
        Peer::Server => Ok(config.options.command(&config.path, config.secluded)?.input),
    }
}

impl Client {
    /// Says what needs no word of the other side. A daemon greets unasked too, and both read the other's greeting
    /// later: the module's name need not wait for it.
    pub(super) fn open(&mut self) {
        if self.config.peer == Peer::Server {
            let mut out = std::mem::take(&mut self.handshake.arguments);
            out.extend_from_slice(&u32::from(self.config.protocol.number()).to_le_bytes());
            return self.output.raw(out);
        }
        let mut out = greeting::announcement(self.config.protocol);
        if !self.config.early_input.is_empty() {
            out.extend_from_slice(format!("#early_input={}\n", self.config.early_input.len()).as_bytes());
            out.extend_from_slice(&self.config.early_input);
        }
        if self.config.module.is_empty() {
            out.extend_from_slice(b"#list");
        }
        out.extend_from_slice(&self.config.module);
        out.push(b'\n');
        self.output.raw(out);
        if self.config.password.is_none() && !self.config.module.is_empty() {
            self.run_ahead();
        }
    }

    /// Sends the arguments, and what follows them if the daemon does as it did before.
    fn run_ahead(&mut self) {
        if !self.config.eager && self.config.known.is_none() {
            return;
        }
        self.output.raw(std::mem::take(&mut self.handshake.arguments));
        let Some(known) = self.config.known.clone().filter(|_| !self.config.options.incremental) else {
            return;
        };
        if known.compat.has(CompatFlags::VARINT_FLIST_FLAGS) {
            self.put_names(known.checksum, known.compression);
        }
        self.dialect = Some(known);
        self.begin_list();
    }

    /// Names what was chosen from the daemon's lists.
    fn put_names(&mut self, checksum: Checksum, compression: Compression) {
        let mut names = Vec::new();
        put_vstring(&mut names, checksum.name().as_bytes());
        if self.compresses() {
            put_vstring(&mut names, compression.name().as_bytes());
        }
        self.output.raw(names);
    }

    /// Whether a compression is agreed on.
    fn compresses(&self) -> bool {
        !matches!(self.config.options.compress, CompressWish::Off | CompressWish::Only(Compression::None))
    }

    pub(super) fn handle_handshake(&mut self, bytes: &[u8]) -> Result<(), ErrorKind> {
        self.handshake.input.drain(..self.handshake.at);
        self.handshake.at = 0;
        self.handshake.input.extend_from_slice(bytes);
        while self.state == State::Handshake {
            let went_on = match self.handshake.step {
                Step::Greeting => self.read_greeting()?,
                Step::Version => self.read_version()?,
                Step::Lines => self.read_line()?,
                Step::Compat => self.read_compat()?,
                Step::Names => self.read_names()?,
                Step::Seed => self.read_seed()?,
            };
            if !went_on {
                return Ok(());
            }
        }
        let rest = std::mem::take(&mut self.handshake.input);
        if self.state == State::Frames { self.handle_frames(&rest[self.handshake.at..]) } else { Ok(()) }
    }

    fn read_greeting(&mut self) -> Result<bool, ErrorKind> {
        if self.handshake.input[self.handshake.at..].starts_with(TLS_ALERT) {
            let found =
                "a TLS alert, expected \"@RSYNCD: <version>\": rsyncs:// goes to a port that speaks TLS";
            return Err(ErrorKind::malformed("greeting", found));
        }
        let Some(line) = self.handshake.line()? else { return Ok(false) };
        if let Some(text) = error_text(&line) {
            return Err(ErrorKind::DaemonError(text));
        }
        let greeting = Greeting::parse(&line)?;
        self.handshake.protocol = greeting.agree(self.config.protocol)?;
        self.handshake.greeting = Some(greeting);
        self.handshake.step = Step::Lines;
        self.stage = Stage::Auth;
        Ok(true)
    }

    fn read_version(&mut self) -> Result<bool, ErrorKind> {
        let Some(number) =
            self.handshake.read("version", |reader| Ok(u32::from_le_bytes(reader.array()?)))?
        else {
            return Ok(false);
        };
        if !(OLDEST_VERSION..=NEWEST_VERSION).contains(&number) {
            let found = format!("\"{}\" (is your shell clean?)", Shown(&number.to_le_bytes()));
            return Err(ErrorKind::misbehaved("protocol version mismatch", found));
        }
        let greeting = Greeting { version: number, sub: 0, digests: Vec::new() };
        self.handshake.protocol = greeting.agree(self.config.protocol)?;
        self.handshake.greeting = Some(greeting);
        self.handshake.step = Step::Compat;
        self.stage = Stage::Setup;
        Ok(true)
    }

    fn read_line(&mut self) -> Result<bool, ErrorKind> {
        let Some(line) = self.handshake.line()? else { return Ok(false) };
        let listing = self.config.module.is_empty();
        if let Some(text) = error_text(&line) {
            return Err(ErrorKind::DaemonError(text));
        }
        match line.strip_prefix(PREFIX.as_bytes()) {
            Some(b"OK") if !listing => self.begin_setup(),
            Some(b"EXIT") if listing => self.end_listing(),
            // Taken for an end, it would be a push that succeeded without a file.
            Some(b"EXIT") => return Err(ErrorKind::misbehaved("module", "it ended before the push began")),
            Some(rest) if rest.starts_with(b"AUTHREQD ") && !listing => self.authenticate(&rest[9..])?,
            _ if listing => self.events.push_back(Event::Listing(line)),
            _ => self.events.push_back(Event::Motd(line)),
        }
        Ok(true)
    }

    fn authenticate(&mut self, challenge: &[u8]) -> Result<(), ErrorKind> {
        if self.handshake.challenge.replace(challenge.to_vec()).is_some() {
            return Err(ErrorKind::misbehaved("challenge", "a second one"));
        }
        if self.config.password.is_some() {
            return self.respond();
        }
        self.events.push_back(Event::PasswordWanted);
        Ok(())
    }

    /// Whether the challenge can still be answered: nothing that follows the answer was said ahead of it.
    pub(super) fn waits_for_password(&self) -> bool {
        let ahead = self.config.eager || self.config.known.is_some();
        self.handshake.challenge.is_some() && self.config.password.is_none() && !ahead
    }

    /// Answers the challenge with the password.
    pub(super) fn respond(&mut self) -> Result<(), ErrorKind> {
        let (Some(challenge), Some(password)) = (&self.handshake.challenge, &self.config.password) else {
            return Err(ErrorKind::PasswordRequired);
        };
        let greeting = self.handshake.greeting.as_ref();
        let digest: AuthDigest = greeting.and_then(Greeting::best_digest).ok_or_else(|| {
            let offer = greeting.map(|greeting| greeting.digests.join(" ")).unwrap_or_default();
            ErrorKind::unsupported("auth digest", format!("daemon offers \"{}\"", Shown(offer.as_bytes())))
        })?;
        let user = self.config.user.as_deref().unwrap_or(b"nobody");
        let response = digest.respond(password, challenge);
        self.output.raw([user, b" ", response.as_bytes(), b"\n"].concat());
        self.run_ahead();
        Ok(())
    }

    fn begin_setup(&mut self) {
        let arguments = std::mem::take(&mut self.handshake.arguments);
        self.output.raw(arguments);
        self.handshake.step = Step::Compat;
        self.stage = Stage::Setup;
    }

    fn end_listing(&mut self) {
        self.finish(Outcome {
            exit: ExitCode::OK,
            transfer_errors: 0,
            io_errors: IoErrors::NONE,
            deleted: None,
        });
    }

    fn read_compat(&mut self) -> Result<bool, ErrorKind> {
        let Some(flags) = self.handshake.read("compat flags", varint)? else { return Ok(false) };
        let compat = CompatFlags(flags as u32);
        if flags < 0 || compat.has(CompatFlags::INC_RECURSE) && !self.config.options.incremental {
            let found = format!("{flags:#x}, but we did not offer incremental recursion");
            return Err(ErrorKind::misbehaved("compat flags", found));
        }
        self.handshake.compat = compat;
        self.handshake.step = Step::Names;
        Ok(true)
    }

    fn read_names(&mut self) -> Result<bool, ErrorKind> {
        if self.handshake.compat.has(CompatFlags::VARINT_FLIST_FLAGS) {
            return self.negotiate();
        }
        self.handshake.checksum = negotiate::implied_checksum(&self.config.checksums)?;
        let wish = self.config.options.compress;
        self.handshake.compression = negotiate::implied_compression(wish, &self.config.compressions)?;
        self.handshake.step = Step::Seed;
        Ok(true)
    }

    /// Both lists, if compression is on; then one name each.
    fn negotiate(&mut self) -> Result<bool, ErrorKind> {
        let wish = self.config.options.compress;
        let compresses = self.compresses();
        let read = self.handshake.read("negotiated names", |reader| {
            let checksums = vstring(reader, MAX_NAMES)?.to_vec();
            let compressions = if compresses { Some(vstring(reader, MAX_NAMES)?.to_vec()) } else { None };
            Ok((checksums, compressions))
        })?;
        let Some((checksums, compressions)) = read else { return Ok(false) };
        self.handshake.checksum = negotiate::checksum(&checksums, &self.config.checksums)?;
        if let Some(compressions) = compressions {
            self.handshake.compression =
                negotiate::compression(&compressions, wish, &self.config.compressions)?;
        }
        if self.dialect.is_none() {
            self.put_names(self.handshake.checksum, self.handshake.compression);
        }
        self.handshake.step = Step::Seed;
        Ok(true)
    }

    fn read_seed(&mut self) -> Result<bool, ErrorKind> {
        let Some(seed) =
            self.handshake.read("checksum seed", |reader| Ok(i32::from_le_bytes(reader.array()?)))?
        else {
            return Ok(false);
        };
        let handshake = &mut self.handshake;
        let greeting = handshake.greeting.take();
        let dialect = Dialect {
            protocol: handshake.protocol,
            daemon_protocol: greeting.as_ref().map_or(0, |greeting| greeting.version),
            digests: greeting.map(|greeting| greeting.digests).unwrap_or_default(),
            compat: handshake.compat,
            checksum: handshake.checksum,
            compression: handshake.compression,
            seed,
        };
        if self.dialect.as_ref().is_some_and(|known| !known.is_spoken_by(&dialect)) {
            return Err(ErrorKind::Changed);
        }
        self.dialect = Some(dialect.clone());
        self.state = State::Frames;
        self.stage = if matches!(self.list, List::Sent) { Stage::Transfer } else { Stage::List };
        self.events.push_back(Event::Ready(dialect));
        self.begin_list();
        Ok(true)
    }
}

/// The text behind `@ERROR`, without the colon.
fn error_text(line: &[u8]) -> Option<Vec<u8>> {
    let text = line.strip_prefix(b"@ERROR")?;
    Some(text.strip_prefix(b":").unwrap_or(text).trim_ascii().to_vec())
}

/// A record of type alert, of a TLS server that was sent a greeting instead of a handshake.
const TLS_ALERT: &[u8] = &[0x15, 0x03];

/// Versions that a server may have; anything else is what a login script said. Peer: rsync.h, MIN_PROTOCOL_VERSION
/// and MAX_PROTOCOL_VERSION.
const OLDEST_VERSION: u32 = 20;
const NEWEST_VERSION: u32 = 40;

/// Most bytes of early input that a daemon takes.
const MAX_EARLY_INPUT: usize = 5 << 10;

/// The daemon reads the module's name into 1024 bytes.
const MAX_MODULE: usize = 1023;

/// Longest line we take, in bytes; rsync's own limit is 5120, but text of the day has none.
const MAX_LINE: usize = 64 << 10;

/// Most text before the session is set up, in bytes: listings of 100,000 modules fit.
const MAX_TEXT: usize = 16 << 20;
