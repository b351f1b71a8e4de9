//! Asks a person for a password, on the terminal of the session whatever standard input is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::task::spawn_blocking;

use crate::session::Asking;
use crate::transport::Password;

/// The password that a person types; `None` where there is no terminal.
pub(super) fn password() -> Option<Asking> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    let quiet = Quiet::new(terminal.try_clone().ok()?).ok()?;
    terminal.write_all(b"Password: ").ok()?;
    let typed = spawn_blocking(|| read_line(terminal));
    Some(Box::pin(async move {
        // A signal drops it, too; the thread that reads is left behind.
        let _quiet = quiet;
        typed.await.ok().flatten()
    }))
}

fn read_line(terminal: File) -> Option<Password> {
    let mut line = Vec::new();
    BufReader::new(terminal).read_until(b'\n', &mut line).ok()?;
    (!line.is_empty()).then(|| Password::first_line(&line))
}

/// A terminal that does not show what is typed, as long as this lives.
struct Quiet {
    terminal: File,
    usual: Termios,
}

impl Quiet {
    fn new(terminal: File) -> io::Result<Quiet> {
        let usual = tcgetattr(&terminal)?;
        let mut quiet = usual.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Quiet { terminal, usual })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.usual);
        // The line end that was typed was not shown either.
        let _ = self.terminal.write_all(b"\n");
    }
}
