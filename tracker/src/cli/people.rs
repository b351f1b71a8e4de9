//! `ebbtide pause`, `resume` and `release`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::Failure;
use crate::control::{Answer, Client, Pick, Request};
use crate::daemon::config::RUNTIME_DIR;

/// Send nothing to some or all destinations until `ebbtide resume`; what changes meanwhile is remembered.
///
/// A pause outlives restarts.
#[derive(Debug, clap::Args)]
pub(super) struct Pause {
    #[command(flatten)]
    which: Which,
}

/// Send again to destinations that were paused.
#[derive(Debug, clap::Args)]
pub(super) struct Resume {
    #[command(flatten)]
    which: Which,
}

/// Let go what is held: removals that are more than `max-delete` allows or that an empty source would cause, and
/// mirrors whose source directory is another one than before.
#[derive(Debug, clap::Args)]
pub(super) struct Release {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Source directory of the mirror [default: all].
    #[arg(value_name = "MIRROR")]
    mirror: Option<String>,
    /// One destination only.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// The daemon's runtime folder.
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    runtime_dir: PathBuf,
}

pub(super) fn pause(arguments: &Pause) -> Result<ExitCode, Failure> {
    arguments.which.ask(|pick| Request::Pause { pick })
}

pub(super) fn resume(arguments: &Resume) -> Result<ExitCode, Failure> {
    arguments.which.ask(|pick| Request::Resume { pick })
}

pub(super) fn release(arguments: &Release) -> Result<ExitCode, Failure> {
    arguments.which.ask(|pick| Request::Release { pick })
}

impl Which {
    fn ask(&self, request: impl FnOnce(Pick) -> Request) -> Result<ExitCode, Failure> {
        let pick = Pick { mirror: self.mirror.clone(), to: self.to.clone() };
        let client = Client::connect(&self.runtime_dir).map_err(super::unreachable_daemon)?;
        match client.ask(&request(pick), Some(ANSWER)) {
            Ok(Answer::Done { said }) => {
                said.iter().for_each(|line| println!("{line}"));
                Ok(ExitCode::SUCCESS)
            }
            Ok(Answer::Error { message }) => Err(Failure::advise(
                anyhow::anyhow!(message),
                Some("see `ebbtide status` for the sources and destinations"),
            )),
            Ok(other) => Err(anyhow::anyhow!("the daemon answered something else: {other:?}").into()),
            Err(e) => Err(super::unreachable_daemon(e)),
        }
    }
}

/// How long the daemon may take.
const ANSWER: Duration = Duration::from_secs(30);
