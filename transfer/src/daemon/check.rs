//! Whether each destination can be reached, lets us in, and what it speaks.

use std::process::ExitCode;

use ebbtide_feed::{DestinationSpec, MirrorSpec, Start, codec};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::destination::account::dialect;
use crate::destination::courier::Daemon;

/// What one destination answered.
#[derive(Debug, Serialize)]
struct Answer {
    /// Index of the mirror.
    mirror: usize,
    /// The URL as configured.
    url: String,
    /// It can be reached, lets us in, and can be written to.
    ok: bool,
    /// Such as `protocol 32, xxh128, zstd`.
    dialect: Option<String>,
    /// Why not, with the stage.
    error: Option<String>,
    /// What was negotiated.
    capabilities: Option<Capabilities>,
}

/// What was negotiated with a daemon.
#[derive(Debug, Serialize)]
struct Capabilities {
    protocol: u8,
    daemon_protocol: u32,
    checksum: &'static str,
    compression: &'static str,
    digests: Vec<String>,
    /// Whether names can be removed without comparing directories.
    delete_missing_args: bool,
}

/// Reads a [`Start`] from stdin, asks every destination, and prints a JSON array, in the order of the configuration.
pub(super) async fn check() -> ExitCode {
    let start: Start = match codec::read(std::io::stdin().lock()) {
        Ok(start) => start,
        Err(error) => {
            tracing::error!(%error, "cannot read what to check");
            return ExitCode::FAILURE;
        }
    };
    let mut asked = JoinSet::new();
    for (at, mirror) in start.mirrors.iter().enumerate() {
        for spec in &mirror.destinations {
            let (order, mirror, spec) = (asked.len(), mirror.clone(), spec.clone());
            asked.spawn(async move { (order, ask(at, &mirror, &spec).await) });
        }
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(order, _)| *order);
    let answers: Vec<Answer> = answers.into_iter().map(|(_, answer)| answer).collect();
    match serde_json::to_writer(std::io::stdout().lock(), &answers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot print the answers");
            ExitCode::FAILURE
        }
    }
}

async fn ask(at: usize, mirror: &MirrorSpec, spec: &DestinationSpec) -> Answer {
    let probed = match Daemon::new(mirror, spec) {
        Ok(daemon) => daemon.probe().await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    let spoken = probed.as_ref().ok().and_then(|report| report.dialect.clone());
    Answer {
        mirror: at,
        url: spec.url.clone(),
        ok: probed.is_ok(),
        error: probed.err(),
        dialect: spoken.as_ref().map(dialect),
        capabilities: spoken.map(|spoken| Capabilities {
            protocol: spoken.protocol.number(),
            daemon_protocol: spoken.daemon_protocol,
            checksum: spoken.checksum.name(),
            compression: spoken.compression.name(),
            digests: spoken.digests,
            // Came with 3.1.0, the first release of protocol 31.
            delete_missing_args: spoken.daemon_protocol >= 31,
        }),
    }
}
