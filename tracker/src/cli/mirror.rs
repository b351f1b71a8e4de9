//! The options that say what is mirrored where, on the command line or in a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ebbtide_feed::{DestinationSpec, MirrorSpec, PaceSpec, TlsSpec};

use super::Failure;
use crate::daemon::config::{self, Config, Invalid, RuleKind};
use crate::daemon::config_file;
use crate::probe::ProbeChoice;

/// One mirror by options, or any number by file.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct MirrorArguments {
    /// The config file; it says all that the other options here would.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["source", "to"])]
    config: Option<PathBuf>,
    /// The directory to mirror.
    #[arg(long, value_name = "DIR", requires = "to")]
    source: Option<PathBuf>,
    /// Where it goes; may be given several times.
    #[arg(long, value_name = "URL", requires = "source")]
    to: Vec<String>,
    /// File whose first line is the password of the destinations.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    password_file: Option<PathBuf>,
    /// Certificates to trust for rsyncs:// instead of the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    tls_ca: Option<PathBuf>,
    /// Certificate to show the destinations.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    tls_cert: Option<PathBuf>,
    /// Its key, if its file does not hold it.
    #[arg(long, value_name = "FILE", conflicts_with = "config", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Remove at the destinations what the source does not have.
    #[arg(long, conflicts_with = "config")]
    delete: bool,
    /// Hold removals at a destination that would be more than so many names, or than a share such as 10%, within ten
    /// minutes, until `ebbtide release` [default: any number].
    #[arg(long, value_name = "NUM", conflicts_with = "config", requires = "delete")]
    max_delete: Option<String>,
    /// Link what was renamed to what the destination has under the old name, rather than send it again (the default
    /// where --delete is given).
    #[arg(long, conflicts_with_all = ["config", "no_follow_renames"], requires = "delete")]
    follow_renames: bool,
    /// Send what was renamed again under its new name.
    #[arg(long, conflicts_with = "config")]
    no_follow_renames: bool,
    /// Send owner and group as numbers, never as names.
    #[arg(long, conflicts_with = "config")]
    numeric_ids: bool,
    /// Keep hard links between names of the source (the default).
    #[arg(long, conflicts_with_all = ["config", "no_hard_links"])]
    hard_links: bool,
    /// Do not keep hard links.
    #[arg(long, conflicts_with = "config")]
    no_hard_links: bool,
    /// Keep access control lists.
    #[arg(short = 'A', long, conflicts_with = "config")]
    acls: bool,
    /// Keep extended attributes.
    #[arg(short = 'X', long, conflicts_with = "config")]
    xattrs: bool,
    /// A filter rule in rsync's language, such as `- *.tmp`; may be given several times, the first that applies decides.
    #[arg(long, value_name = "RULE", conflicts_with = "config", allow_hyphen_values = true)]
    filter: Vec<String>,
    /// zstd, lz4, zlibx or none; by default the best that both ends know.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    compress_choice: Option<String>,
    /// Compression level of that method.
    #[arg(long, value_name = "LEVEL", conflicts_with = "config", allow_negative_numbers = true)]
    compress_level: Option<i32>,
    /// Checksum of blocks and files; by default the best that both ends know.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    checksum_choice: Option<String>,
    /// The most KiB per second that are sent to each destination; 0 means no limit.
    #[arg(long, value_name = "KIB", conflicts_with = "config")]
    bwlimit: Option<u32>,
    /// Where the daemons make files before they put them in their place.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    temp_dir: Option<String>,
    /// Where the daemons keep what they have of a file when a session breaks.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    partial_dir: Option<String>,
    /// The daemons write each file to their disk before they call it done.
    #[arg(long, conflicts_with = "config")]
    fsync: bool,
    /// Seconds without a byte after which a session is given up; 0 means never [default: 60].
    #[arg(long, value_name = "SECONDS", conflicts_with = "config")]
    timeout: Option<u32>,
    /// Seconds a connection attempt may take; 0 means the system's own limit [default: 10].
    #[arg(long, value_name = "SECONDS", conflicts_with = "config")]
    contimeout: Option<u32>,
    /// Folder for what must survive a restart [default: /var/lib/ebbtide].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Folder for the lock and the control socket [default: /run/ebbtide].
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// Which probes may be used [default: auto].
    #[arg(long, value_enum)]
    probes: Option<ProbeChoice>,
    /// The user that the sender runs as [default: ebbtide where it exists, else nobody].
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Milliseconds from the first hint until facts are handed over, and for which a file must be quiet: what changes
    /// meanwhile is sent once [default: 10].
    #[arg(long, value_name = "MS")]
    settle: Option<u64>,
    /// Milliseconds after which a file is sent that never is quiet for so long [default: 1000].
    #[arg(long, value_name = "MS")]
    max_delay: Option<u64>,
    /// A file of 8 MiB or more that took longer than a second to send, or any that changed meanwhile, is sent again after so
    /// many times as long [default: 2].
    #[arg(long, value_name = "TIMES")]
    rest: Option<u32>,
    /// Seconds before the last drain from which on a reconcile looks for changes; five times as many after a reboot
    /// [default: 120].
    #[arg(long, value_name = "SECONDS")]
    reconcile_margin: Option<u32>,
}

impl MirrorArguments {
    /// All of it, checked; what the command line says about the daemon itself wins over the file.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        if !self.is_given() {
            let error = anyhow::anyhow!("nothing says what to mirror");
            return Err(Failure::advise(
                error,
                Some("give --source DIR and --to URL, or a config file with -c"),
            ));
        }
        let mut config = match &self.config {
            Some(path) => config_file::read(path).map_err(|e| {
                let advice = e.advice().map(str::to_owned);
                Failure::advise(e, advice)
            })?,
            None => self.one_mirror()?,
        };
        if let Some(ms) = self.settle {
            config.settle = config::check_settle(ms).map_err(invalid)?;
        }
        if let Some(ms) = self.max_delay {
            config.max_delay = config::check_max_delay(ms).map_err(invalid)?;
        }
        if let Some(times) = self.rest {
            config.rest = config::check_rest(times).map_err(invalid)?;
        }
        if let Some(seconds) = self.reconcile_margin {
            config.reconcile_margin = Duration::from_secs(seconds.into());
        }
        for (given, value) in
            [(&self.state_dir, &mut config.state_dir), (&self.runtime_dir, &mut config.runtime_dir)]
        {
            if let Some(given) = given {
                value.clone_from(given);
            }
            *value = std::path::absolute(&value)?;
        }
        config.probes = self.probes.unwrap_or(config.probes);
        config.user = self.user.clone().or(config.user);
        Ok(config.paced())
    }

    fn one_mirror(&self) -> Result<Config, Failure> {
        let source = std::path::absolute(self.source.as_deref().unwrap_or("".as_ref()))?;
        config::check_source(&source).map_err(invalid)?;
        let destinations = self.to.iter().map(|url| self.destination(url)).collect::<Result<_, _>>()?;
        let rules = self.filter.iter().map(|rule| (RuleKind::Filter, rule.as_str(), ()));
        let mirrors = vec![MirrorSpec {
            root: None,
            halted: None,
            closed: Vec::new(),
            source,
            delete: self.delete,
            follow_renames: self.follow_renames || !self.no_follow_renames,
            numeric_ids: self.numeric_ids,
            hard_links: self.hard_links || !self.no_hard_links,
            acls: self.acls,
            xattrs: self.xattrs,
            max_delete: self
                .max_delete
                .as_deref()
                .map(config::read_max_delete)
                .transpose()
                .map_err(invalid)?,
            filters: config::read_rules(rules).map_err(|(_, wrong)| invalid(wrong))?,
            pace: PaceSpec::default(),
            destinations,
        }];
        config::check_together(&mirrors).map_err(invalid)?;
        Ok(Config {
            forget: false,
            state_dir: config::STATE_DIR.into(),
            runtime_dir: config::RUNTIME_DIR.into(),
            probes: ProbeChoice::Auto,
            user: None,
            settle: Duration::from_millis(config::SETTLE_MS),
            max_delay: Duration::from_millis(config::MAX_DELAY_MS),
            rest: config::REST,
            reconcile_margin: Duration::from_secs(config::RECONCILE_MARGIN_S.into()),
            mirrors,
        })
    }

    fn destination(&self, url: &str) -> Result<DestinationSpec, Failure> {
        let to = DestinationSpec {
            url: url.to_owned(),
            password_file: absolute(self.password_file.as_deref())?,
            tls: TlsSpec {
                ca: absolute(self.tls_ca.as_deref())?,
                cert: absolute(self.tls_cert.as_deref())?,
                key: absolute(self.tls_key.as_deref())?,
            },
            compress_choice: self.compress_choice.clone(),
            compress_level: self.compress_level,
            checksum_choice: self.checksum_choice.clone(),
            bwlimit: self.bwlimit.filter(|limit| *limit > 0),
            temp_dir: self.temp_dir.clone(),
            partial_dir: self.partial_dir.clone(),
            fsync: self.fsync,
            timeout_s: self.timeout.unwrap_or(config::TIMEOUT_S),
            contimeout_s: self.contimeout.unwrap_or(config::CONTIMEOUT_S),
            paused: false,
        };
        config::check_destination(&to).map_err(invalid)?;
        Ok(to)
    }

    /// Whether a config file says it.
    pub(super) fn has_file(&self) -> bool {
        self.config.is_some()
    }

    /// Whether anything says what to mirror.
    pub(super) fn is_given(&self) -> bool {
        self.config.is_some() || self.source.is_some()
    }
}

fn absolute(file: Option<&Path>) -> std::io::Result<Option<PathBuf>> {
    file.map(std::path::absolute).transpose()
}

fn invalid(e: Invalid) -> Failure {
    let advice = e.advice.clone();
    Failure::advise(e, Some(advice))
}
