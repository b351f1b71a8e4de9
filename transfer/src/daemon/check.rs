//! Whether each destination can be reached, lets us in, and what it speaks.

use std::process::ExitCode;

use ebbtide_feed::{DestinationSpec, MirrorSpec, Start, codec};
use ebbtide_wire::proto::{CompatFlags, Compression, Dialect};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::destination::account::dialect;
use crate::destination::courier::{Daemon, Probed};
use crate::destination::refusal::Refusal;
use crate::session::Spare;

/// What one destination answered.
#[derive(Debug, Serialize)]
struct Answer {
    /// Index of the mirror.
    mirror: usize,
    /// The URL as configured.
    url: String,
    /// It can be reached, lets us in, and can be written to, and does what the mirror needs.
    ok: bool,
    /// Such as `protocol 32, xxh128, zstd`.
    dialect: Option<String>,
    /// Which releases of rsync speak like this.
    release: Option<&'static str>,
    /// Why not, with the stage.
    error: Option<String>,
    /// What was negotiated.
    capabilities: Option<Capabilities>,
    /// What that means for the mirror, in sentences.
    notes: Vec<String>,
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
    /// Times are kept to the nanosecond.
    nanoseconds: bool,
    /// The times of symlinks can be set.
    symlink_times: bool,
    /// Checksums and compression are negotiated by name.
    negotiates: bool,
    /// Options that the module refuses.
    refused: Vec<&'static str>,
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
        Ok(daemon) => daemon.probe().await.map_err(|error| match Refusal::of(&error) {
            Some(refusal) => format!("{error}; {}", refusal.hint()),
            None => error.to_string(),
        }),
        Err(error) => Err(error),
    };
    let mut answer = Answer {
        mirror: at,
        url: spec.url.clone(),
        ok: false,
        dialect: None,
        release: None,
        error: None,
        capabilities: None,
        notes: Vec::new(),
    };
    match probed {
        Ok(Probed { report, refused }) => {
            let cannot_delete = mirror.delete && refused.contains(&Refusal::Delete);
            answer.error = cannot_delete.then(|| Refusal::Delete.hint().to_owned());
            answer.ok = !cannot_delete;
            if let Some(spoken) = &report.dialect {
                answer.learn(spoken, &refused, mirror);
            }
        }
        Err(error) => answer.error = Some(error),
    }
    answer
}

impl Answer {
    fn learn(&mut self, spoken: &Dialect, refused: &[Refusal], mirror: &MirrorSpec) {
        // Came with 3.1.0, the first release of protocol 31.
        let is_old = spoken.daemon_protocol < 31;
        let has = |flag| spoken.compat.has(flag);
        self.dialect = Some(dialect(spoken));
        self.release = Some(release(spoken));
        self.notes.extend(refused.iter().map(|refusal| refusal.hint().to_owned()));
        if is_old {
            self.notes.push("this release keeps whole seconds only, and has no --delete-missing-args".into());
        }
        if !has(CompatFlags::SYMLINK_TIMES) {
            self.notes.push("the times of symlinks are not kept".into());
        }
        if spoken.compression == Compression::None && !refused.contains(&Refusal::Spare(Spare::Compression)) {
            self.notes.push("data goes as it is".into());
        }
        if mirror.xattrs {
            self.notes.push(
                "trusted.* attributes are not seen by the sender: see `xattrs` in ebbtide.toml(5) if this daemon is root".into(),
            );
        }
        self.capabilities = Some(Capabilities {
            protocol: spoken.protocol.number(),
            daemon_protocol: spoken.daemon_protocol,
            checksum: spoken.checksum.name(),
            compression: spoken.compression.name(),
            digests: spoken.digests.clone(),
            delete_missing_args: !is_old && !refused.contains(&Refusal::MissingArgs),
            nanoseconds: !is_old,
            symlink_times: has(CompatFlags::SYMLINK_TIMES),
            negotiates: has(CompatFlags::VARINT_FLIST_FLAGS),
            refused: refused.iter().filter_map(|refusal| refusal.option()).collect(),
        });
    }
}

/// Peer: greetings and compat flags of rsync 3.0.9 to 3.5.0.
fn release(spoken: &Dialect) -> &'static str {
    let negotiates = spoken.compat.has(CompatFlags::VARINT_FLIST_FLAGS);
    match spoken.daemon_protocol {
        ..=30 => "3.0",
        31 if !spoken.digests.is_empty() => "3.2.7 or 3.3",
        31 if negotiates => "3.2.0 to 3.2.6",
        31 => "3.1",
        32 => "3.4, 3.5, or an older one with their security fixes",
        _ => "newer than 3.5",
    }
}

#[cfg(test)]
mod tests {
    use ebbtide_wire::proto::{Checksum, Protocol};

    use super::*;

    #[test]
    fn releases_are_told_by_greeting_and_flags() {
        let spoken = |daemon_protocol, digests: &[&str], flags| Dialect {
            protocol: Protocol::V30,
            daemon_protocol,
            digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
            compat: CompatFlags(flags),
            checksum: Checksum::Md5,
            compression: Compression::Zlib,
            seed: 0,
        };
        assert_eq!(release(&spoken(30, &[], 0x0e)), "3.0");
        assert_eq!(release(&spoken(31, &[], 0x3e)), "3.1");
        assert_eq!(release(&spoken(31, &[], 0x1fe)), "3.2.0 to 3.2.6");
        assert_eq!(release(&spoken(31, &["md5"], 0x1fe)), "3.2.7 or 3.3");
        assert_eq!(
            release(&spoken(32, &["md5"], 0x1fe)),
            "3.4, 3.5, or an older one with their security fixes"
        );
    }
}
