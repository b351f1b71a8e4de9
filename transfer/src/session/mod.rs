//! One push to one daemon: a file list goes there, and what the daemon asks for is answered.
//!
//! ```text
//!   push ── connect ──► Driver ◄──── socket
//!                        │   ▲
//!               requests ▼   │ answers, bounded
//!                      Answerer (a blocking thread: reads, searches, compresses)
//! ```

mod answer;
mod driver;
mod entry;
mod error;
mod frames;
mod list;
mod listings;
mod lists;
mod outcomes;
mod pulse;
mod report;
mod skip;
mod spare;
mod tally;

use std::sync::Arc;

use ebbtide_wire::sender::{Client, Config, Peer};

pub use entry::{DirRole, Entry, FileListInput, IoErrors};
pub use error::{SessionError, SessionErrorKind, Stage};
pub use listings::{Listing, Listings};
pub use report::{Asking, Item, Observer, Outcome, Report, Sent, Silent, Text, TextKind, Totals};
pub use skip::SkipCompress;
pub use spare::Spare;

use crate::options::PushOptions;
use crate::source::Source;
use crate::transport::{Scheme, Target, Wish, connect};
use driver::{Driver, Input};

/// Pushes a list of entries to a daemon, and answers what it asks for from `source`.
///
/// The future may be dropped at any moment: the connection is then closed, and what the destination has is what
/// the daemon had finished.
///
/// # Errors
/// The session did not run to its end. What it had done until then is unknown.
pub async fn push(
    target: &Target,
    options: &PushOptions,
    list: FileListInput,
    source: Arc<Source>,
    observer: &mut dyn Observer,
) -> Result<Report, SessionError> {
    // One list cannot come in parts.
    let mut options = options.clone();
    options.server.incremental = false;
    push_input(target, &options, Input::Whole(list), source, observer).await
}

/// The same with a list that is made while the session runs. With
/// [`ServerOptions::incremental`], and a daemon that goes along with it, entries are forgotten once the daemon is done
/// with their directory; the observer is told what became of each
/// ([`Observer::settled`]), and [`Report::outcomes`] stays empty.
///
/// # Errors
/// As of [`push`].
pub async fn push_listings(
    target: &Target,
    options: &PushOptions,
    listings: Box<dyn Listings>,
    source: Arc<Source>,
    observer: &mut dyn Observer,
) -> Result<Report, SessionError> {
    push_input(target, options, Input::Listings(listings), source, observer).await
}

async fn push_input(
    target: &Target,
    options: &PushOptions,
    input: Input,
    source: Arc<Source>,
    observer: &mut dyn Observer,
) -> Result<Report, SessionError> {
    let failed =
        |stage, kind| SessionError { destination: target.to_string(), stage, kind, texts: Vec::new() };
    let misuse = |error: ebbtide_wire::Error| failed(error.stage.into(), SessionErrorKind::Wire(error.kind));
    let config = config(target, options);
    let command = match config.peer {
        Peer::Daemon => None,
        Peer::Server => Some(options.server.command(&config.path, config.secluded).map_err(misuse)?),
    };
    let client = Client::new(config).map_err(misuse)?;
    let started = tokio::time::Instant::now();
    let wish = Wish { limit: options.contimeout, bwlimit: options.server.bwlimit, command: command.as_ref() };
    let stream = connect(target, &options.way, &wish).await.map_err(|(stage, kind)| failed(stage, kind))?;
    Driver::new(stream, client, options, started, input, source, observer).run().await.map_err(|end| {
        SessionError { destination: target.to_string(), stage: end.stage, kind: end.kind, texts: end.texts }
    })
}

/// Asks for the listing of modules; the lines come through the observer.
///
/// # Errors
/// The daemon cannot be reached, or refuses.
pub async fn list_modules(
    target: &Target,
    options: &PushOptions,
    observer: &mut dyn Observer,
) -> Result<(), SessionError> {
    let target = Target { module: String::new(), path: Vec::new(), ..target.clone() };
    let list = FileListInput::default();
    push(&target, options, list, Arc::new(Source::none()), observer).await.map(|_| ())
}

fn config(target: &Target, options: &PushOptions) -> Config {
    let mut config = Config::new(target.module.clone(), target.path.clone(), options.server.clone());
    config.user = target.user.clone().or_else(|| options.way.user.clone()).map(String::into_bytes);
    config.password = target.password.as_ref().map(|password| password.as_bytes().to_vec());
    config.filters.clone_from(&options.filters);
    config.checksums.clone_from(&options.checksums);
    config.compressions.clone_from(&options.compressions);
    config.compress_level = options.compress_level;
    config.protocol = options.protocol;
    config.known.clone_from(&options.known);
    config.early_input.clone_from(&options.early_input);
    config.eager = options.eager;
    if target.scheme == Scheme::Shell {
        config.peer = Peer::Server;
        config.secluded = options.way.shell.must_seclude(&options.server, &target.path);
    }
    config
}
