//! `--log-file`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::format::{Format, local_time};

/// A file that lines are appended to, each with the time and our process.
pub(super) struct Log {
    file: File,
    /// What is logged of an entry.
    pub(super) format: Format,
}

impl Log {
    /// Opens or makes the file.
    pub(super) fn open(path: &Path, format: Option<&[u8]>) -> io::Result<Log> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Log { file, format: Format::parse(format.unwrap_or(b"%i %n%L")) })
    }

    /// Appends a line. A log that cannot be written is no reason to stop a transfer.
    pub(super) fn line(&mut self, text: &[u8]) {
        let now = local_time(jiff::Timestamp::now().as_second(), ' ');
        let mut line = format!("{now} [{}] ", std::process::id()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let _ = self.file.write_all(&line);
    }
}
