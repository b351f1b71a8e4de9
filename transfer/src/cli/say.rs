//! Where lines go: standard output with its buffering, standard error, the log, and around the progress bar.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use indicatif::ProgressBar;

use super::args::{Buffering, Output, StderrMode};
use super::log::Log;
use crate::text::Escaped;

/// All that lines are written to.
pub(super) struct Mouth {
    out: BufWriter<Stdout>,
    /// Each line is written at once.
    at_once: bool,
    /// What would go to standard output goes to standard error.
    all_to_stderr: bool,
    eight_bit: bool,
    /// What was written last did not end its line.
    open_line: bool,
    bar: Option<ProgressBar>,
    pub(super) log: Option<Log>,
}

impl Mouth {
    pub(super) fn new(output: &Output, log: Option<Log>) -> Mouth {
        let at_once = match output.buffering {
            Some(Buffering::None | Buffering::Line) => true,
            Some(Buffering::Block) => false,
            None => io::stdout().is_terminal(),
        };
        Mouth {
            out: BufWriter::new(io::stdout()),
            at_once,
            all_to_stderr: output.stderr == StderrMode::All,
            eight_bit: output.eight_bit,
            open_line: false,
            bar: None,
            log,
        }
    }

    /// Lines are written above this bar from now on.
    pub(super) fn keep_clear_of(&mut self, bar: Option<ProgressBar>) {
        self.bar = bar;
    }

    /// Bytes from outside as they may be printed.
    pub(super) fn shown(&self, bytes: &[u8]) -> Vec<u8> {
        if self.eight_bit { eight_bit(bytes) } else { Escaped(bytes).to_string().into_bytes() }
    }

    /// A line on standard output. When nobody reads it any more, that is no reason to stop.
    pub(super) fn line(&mut self, text: impl AsRef<[u8]>) {
        let text = [text.as_ref(), b"\n"].concat();
        if std::mem::take(&mut self.open_line) {
            let _ = self.out.write_all(b"\n");
        }
        if self.all_to_stderr {
            self.to_stderr(&text);
        } else {
            self.raw(&text);
        }
    }

    /// Progress, which may leave its line open.
    pub(super) fn progress(&mut self, text: &str) {
        self.raw(text.as_bytes());
        let _ = self.out.flush();
        self.open_line = !text.ends_with('\n');
    }

    /// A line on standard error, and in the log.
    pub(super) fn complain(&mut self, text: impl AsRef<[u8]>) {
        let _ = self.out.flush();
        self.to_stderr(&[text.as_ref(), b"\n"].concat());
        self.note(text);
    }

    /// A line in the log alone.
    pub(super) fn note(&mut self, text: impl AsRef<[u8]>) {
        if let Some(log) = &mut self.log {
            log.line(text.as_ref());
        }
    }

    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.open_line) {
            let _ = self.out.write_all(b"\n");
        }
        let _ = self.out.flush();
    }

    fn raw(&mut self, text: &[u8]) {
        let (out, at_once) = (&mut self.out, self.at_once);
        let mut write = || {
            let _ = out.write_all(text);
            if at_once {
                let _ = out.flush();
            }
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn to_stderr(&self, text: &[u8]) {
        let write = || {
            let _ = io::stderr().write_all(text);
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// Bytes with only control characters escaped, as a log and `--8-bit-output` have them.
pub(super) fn eight_bit(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\t' | b' '..=b'~' | 0x80.. => out.push(*byte),
            byte => out.extend_from_slice(format!("\\#{byte:03o}").as_bytes()),
        }
    }
    out
}
