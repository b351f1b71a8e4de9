//! The config file: TOML, with no key that is not known.

use std::ops::Range;
use std::path::{Path, PathBuf};

use ebbtide_feed::{DestinationSpec, MaxDelete, MirrorSpec, PaceSpec, TlsSpec};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::config::{self, Config, Invalid, RuleKind};
use crate::probe::ProbeChoice;

/// Why a config file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("config {}: cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// It is not such a file.
    #[error("config {}, line {line}: {what}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        what: String,
        /// What would be right.
        advice: Option<String>,
    },
}

impl ConfigError {
    /// What the user can do about it, where that is known.
    pub fn advice(&self) -> Option<&str> {
        match self {
            ConfigError::Line { advice, .. } => advice.as_deref(),
            ConfigError::Read { .. } => None,
        }
    }
}

/// Reads a config file.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|wrong| ConfigError::Line {
        path: path.to_owned(),
        line: text.get(..wrong.at.start).unwrap_or_default().matches('\n').count() + 1,
        what: wrong.what,
        advice: wrong.advice,
    })
}

/// Something wrong, and where in the text.
#[derive(Debug, PartialEq)]
struct Wrong {
    at: Range<usize>,
    what: String,
    advice: Option<String>,
}

impl From<toml::de::Error> for Wrong {
    fn from(error: toml::de::Error) -> Self {
        Wrong { at: error.span().unwrap_or_default(), what: error.message().to_owned(), advice: None }
    }
}

impl Wrong {
    fn at(at: Range<usize>) -> impl FnOnce(Invalid) -> Wrong {
        |Invalid { what, advice }| Wrong { at, what, advice: Some(advice) }
    }
}

fn parse(text: &str) -> Result<Config, Wrong> {
    known_keys(&DeTable::parse(text)?.into_inner())?;
    let file: File = toml::from_str(text)?;
    let mirrors = file.mirror.into_iter().map(mirror).collect::<Result<Vec<_>, _>>()?;
    config::check_together(&mirrors).map_err(Wrong::at(0..0))?;
    let settle = match file.settle {
        Some(ms) => config::check_settle(*ms.get_ref()).map_err(Wrong::at(ms.span()))?,
        None => std::time::Duration::from_millis(config::SETTLE_MS),
    };
    let max_delay = match file.max_delay {
        Some(ms) => config::check_max_delay(*ms.get_ref()).map_err(Wrong::at(ms.span()))?,
        None => std::time::Duration::from_millis(config::MAX_DELAY_MS),
    };
    let rest = match file.rest {
        Some(times) => config::check_rest(*times.get_ref()).map_err(Wrong::at(times.span()))?,
        None => config::REST,
    };
    Ok(Config {
        forget: false,
        state_dir: file.state_dir.unwrap_or_else(|| config::STATE_DIR.into()),
        runtime_dir: file.runtime_dir.unwrap_or_else(|| config::RUNTIME_DIR.into()),
        probes: file.probes,
        user: file.user,
        settle,
        max_delay,
        rest,
        reconcile_margin: std::time::Duration::from_secs(
            file.reconcile_margin.unwrap_or(config::RECONCILE_MARGIN_S).into(),
        ),
        mirrors,
    }
    .paced())
}

fn mirror(section: Mirror) -> Result<MirrorSpec, Wrong> {
    config::check_source(section.source.get_ref()).map_err(Wrong::at(section.source.span()))?;
    if let Some(staying) = &section.one_file_system {
        config::check_one_file_system(*staying.get_ref()).map_err(Wrong::at(staying.span()))?;
    }
    let filters = rules(&section)?;
    Ok(MirrorSpec {
        root: None,
        halted: None,
        closed: Vec::new(),
        source: section.source.into_inner(),
        delete: section.delete,
        follow_renames: section.follow_renames.unwrap_or(true),
        numeric_ids: section.numeric_ids,
        hard_links: section.hard_links.unwrap_or(true),
        acls: section.acls,
        xattrs: section.xattrs,
        max_delete: section.max_delete.map(max_delete).transpose()?,
        filters,
        pace: PaceSpec::default(),
        destinations: section.to.into_iter().map(destination).collect::<Result<_, _>>()?,
    })
}

fn max_delete(value: Spanned<NumberOrText>) -> Result<MaxDelete, Wrong> {
    let at = value.span();
    match value.into_inner() {
        NumberOrText::Number(count) => Ok(MaxDelete::Count(count)),
        NumberOrText::Text(text) => config::read_max_delete(&text).map_err(Wrong::at(at)),
    }
}

/// In the order in which rsync's daemon takes its own: what `filter` says, then includes, then excludes.
fn rules(section: &Mirror) -> Result<Vec<Vec<u8>>, Wrong> {
    let lists = [
        (RuleKind::Filter, &section.filter),
        (RuleKind::Include, &section.include),
        (RuleKind::Exclude, &section.exclude),
    ];
    let rules = lists
        .into_iter()
        .flat_map(|(kind, list)| list.iter().map(move |rule| (kind, rule.get_ref().as_str(), rule.span())));
    config::read_rules(rules).map_err(|(at, invalid)| Wrong::at(at)(invalid))
}

fn destination(section: Destination) -> Result<DestinationSpec, Wrong> {
    let at = section.url.span();
    let spec = DestinationSpec {
        url: section.url.into_inner(),
        tls: TlsSpec { ca: section.tls_ca, cert: section.tls_cert, key: section.tls_key },
        password_file: section.password_file,
        compress_choice: section.compress_choice,
        compress_level: section.compress_level,
        checksum_choice: section.checksum_choice,
        bwlimit: section.bwlimit.filter(|limit| *limit > 0),
        temp_dir: section.temp_dir,
        partial_dir: section.partial_dir,
        fsync: section.fsync,
        timeout_s: section.timeout.unwrap_or(config::TIMEOUT_S),
        contimeout_s: section.contimeout.unwrap_or(config::CONTIMEOUT_S),
        paused: false,
    };
    config::check_destination(&spec).map_err(Wrong::at(at))?;
    Ok(spec)
}

/// A misspelt key must not be skipped in silence: serde would find it, too, but not say what was meant.
fn known_keys(file: &DeTable<'_>) -> Result<(), Wrong> {
    check_keys(file, FILE_KEYS, "the file")?;
    for mirror in tables(file, "mirror") {
        check_keys(mirror, MIRROR_KEYS, "a [[mirror]]")?;
        for to in tables(mirror, "to") {
            check_keys(to, DESTINATION_KEYS, "a [[mirror.to]]")?;
        }
    }
    Ok(())
}

fn check_keys(table: &DeTable<'_>, known: &[&str], place: &str) -> Result<(), Wrong> {
    for key in table.keys() {
        let name = key.get_ref().as_ref();
        if !known.contains(&name) {
            let what = format!("key `{name}` is not known in {place}");
            return Err(Wrong { at: key.span(), what, advice: Some(nearest(name, known)) });
        }
    }
    Ok(())
}

fn nearest(name: &str, known: &[&str]) -> String {
    let scored = known.iter().map(|key| (strsim::damerau_levenshtein(&name.replace('_', "-"), key), *key));
    match scored.min() {
        Some((distance, key)) if distance <= 3 => format!("did you mean `{key}`?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}

fn tables<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> impl Iterator<Item = &'a DeTable<'i>> {
    let value = table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value.get_ref());
    let entries = match value {
        Some(DeValue::Array(entries)) => Some(entries.iter()),
        _ => None,
    };
    entries.into_iter().flatten().filter_map(|entry| match entry.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    })
}

/// Keys at the top level.
pub const FILE_KEYS: &[&str] = &[
    "state-dir",
    "runtime-dir",
    "probes",
    "user",
    "settle",
    "max-delay",
    "rest",
    "reconcile-margin",
    "mirror",
];
/// Keys of a `[[mirror]]`.
pub const MIRROR_KEYS: &[&str] = &[
    "source",
    "delete",
    "max-delete",
    "follow-renames",
    "numeric-ids",
    "hard-links",
    "acls",
    "xattrs",
    "one-file-system",
    "filter",
    "include",
    "exclude",
    "to",
];
/// Keys of a `[[mirror.to]]`.
pub const DESTINATION_KEYS: &[&str] = &[
    "url",
    "password-file",
    "tls-ca",
    "tls-cert",
    "tls-key",
    "compress-choice",
    "compress-level",
    "checksum-choice",
    "bwlimit",
    "temp-dir",
    "partial-dir",
    "fsync",
    "timeout",
    "contimeout",
];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    state_dir: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    #[serde(default)]
    probes: ProbeChoice,
    user: Option<String>,
    settle: Option<Spanned<u64>>,
    max_delay: Option<Spanned<u64>>,
    rest: Option<Spanned<u32>>,
    reconcile_margin: Option<u32>,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    source: Spanned<PathBuf>,
    #[serde(default)]
    delete: bool,
    max_delete: Option<Spanned<NumberOrText>>,
    follow_renames: Option<bool>,
    #[serde(default)]
    numeric_ids: bool,
    hard_links: Option<bool>,
    #[serde(default)]
    acls: bool,
    #[serde(default)]
    xattrs: bool,
    one_file_system: Option<Spanned<bool>>,
    #[serde(default)]
    filter: Vec<Spanned<String>>,
    #[serde(default)]
    include: Vec<Spanned<String>>,
    #[serde(default)]
    exclude: Vec<Spanned<String>>,
    #[serde(default)]
    to: Vec<Destination>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Destination {
    url: Spanned<String>,
    password_file: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    compress_choice: Option<String>,
    compress_level: Option<i32>,
    checksum_choice: Option<String>,
    bwlimit: Option<u32>,
    temp_dir: Option<String>,
    partial_dir: Option<String>,
    #[serde(default)]
    fsync: bool,
    timeout: Option<u32>,
    contimeout: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        settle = 5
        rest = 3
        [[mirror]]
        source = "/srv/www"
        delete = true
        xattrs = true
        [[mirror.to]]
        url = "rsync://a/www/"
        password-file = "/etc/ebbtide/a"
        [[mirror.to]]
        url = "rsyncs://c/www/"
        tls-ca = "/etc/ebbtide/ca.pem"
        [[mirror.to]]
        url = "rsync://b/www/"
        timeout = 5
        checksum-choice = "md5"
        bwlimit = 500
        temp-dir = "/tmp"
        partial-dir = ".partial"
        fsync = true
    "#;

    fn wrong(text: &str) -> (usize, String, Option<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        match read(&path).unwrap_err() {
            ConfigError::Line { line, what, advice, .. } => (line, what, advice),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_file_with_one_mirror_and_two_destinations_is_read() {
        let config = parse(GOOD).unwrap();
        assert_eq!((config.settle.as_millis(), config.max_delay.as_millis(), config.rest), (5, 1000, 3));
        let pace = PaceSpec { settle_ms: 5, max_delay_ms: 1000, rest: 3 };
        assert!(config.mirrors.iter().all(|mirror| mirror.pace == pace));
        assert_eq!(config.state_dir, Path::new("/var/lib/ebbtide"));
        let [mirror] = &config.mirrors[..] else { panic!() };
        assert!(mirror.delete && mirror.hard_links && mirror.follow_renames && !mirror.numeric_ids);
        assert_eq!(mirror.destinations[0].password_file.as_deref(), Some(Path::new("/etc/ebbtide/a")));
        assert_eq!((mirror.destinations[0].timeout_s, mirror.destinations[2].timeout_s), (60, 5));
        assert!(mirror.xattrs && !mirror.acls);
        let [plain, tls, other] = &mirror.destinations[..] else { panic!() };
        assert_eq!(tls.tls.ca.as_deref(), Some(Path::new("/etc/ebbtide/ca.pem")));
        assert_eq!((plain.bwlimit, other.bwlimit), (None, Some(500)));
        assert_eq!(
            (other.temp_dir.as_deref(), other.partial_dir.as_deref()),
            (Some("/tmp"), Some(".partial"))
        );
        assert!(other.fsync && !plain.fsync && other.checksum_choice.as_deref() == Some("md5"));
    }

    #[test]
    fn a_misspelt_key_is_told_with_its_line_and_what_was_meant() {
        let (line, what, advice) = wrong("[[mirror]]\nsource = \"/a\"\ndelte = true\n");
        assert_eq!((line, what.as_str()), (3, "key `delte` is not known in a [[mirror]]"));
        assert_eq!(advice.unwrap(), "did you mean `delete`?");
        let (line, _, advice) = wrong("[[mirror]]\nsource = \"/a\"\n[[mirror.to]]\npassword_file = \"/p\"\n");
        assert_eq!((line, advice.unwrap().as_str()), (4, "did you mean `password-file`?"));
    }

    #[test]
    fn a_value_of_the_wrong_kind_or_range_is_told_with_its_line() {
        assert_eq!(wrong("settle = \"x\"\n").0, 1);
        let (line, what, _) =
            wrong("\nsettle = 100000\n[[mirror]]\nsource=\"/a\"\n[[mirror.to]]\nurl=\"rsync://h/m\"\n");
        assert_eq!((line, what.as_str()), (2, "settle 100000: is out of range"));
        assert_eq!(
            wrong("max-delay = 3600001\n[[mirror]]\nsource=\"/a\"\n[[mirror.to]]\nurl=\"rsync://h/m\"\n").1,
            "max-delay 3600001: is out of range"
        );
        assert_eq!(
            wrong("\nrest = 1001\n[[mirror]]\nsource=\"/a\"\n[[mirror.to]]\nurl=\"rsync://h/m\"\n").0,
            2
        );
        let (line, what, _) = wrong("[[mirror]]\nsource = \"a\"\n");
        assert_eq!((line, what.as_str()), (2, "source a: is not an absolute path"));
        let (line, _, _) = wrong("[[mirror]]\nsource = \"/a\"\n[[mirror.to]]\nurl = \"h::m\"\n");
        assert_eq!(line, 4);
    }

    #[test]
    fn rules_are_read_in_their_order_and_a_wrong_one_is_told_with_its_line() {
        let to = "[[mirror.to]]\nurl = \"rsync://h/m\"\n";
        let text = |rules: &str| format!("[[mirror]]\nsource = \"/a\"\n{rules}\n{to}");
        let good = text("exclude = [\"*.o\"]\nfilter = [\"P x\",\n \"+ y/\"]\ninclude = [\"z\"]");
        let filters = parse(&good).unwrap().mirrors.remove(0).filters;
        assert_eq!(filters, [&b"-r x"[..], b"+ y/", b"+ z", b"- *.o"]);
        let (line, what, _) = wrong(&text("filter = [\"- a\",\n\"bad\"]"));
        assert_eq!((line, what.as_str()), (4, "filter: Unknown filter rule: bad"));
        let (_, what, advice) = wrong(&text("filter = [\": .rsync-filter\"]"));
        assert_eq!(what, "filter : .rsync-filter: a mirror cannot follow merge files in directories");
        assert!(advice.unwrap().contains("merge /path"));
        let (_, what, _) = wrong(&text("filter = [\". rules\"]"));
        assert_eq!(what, "filter: failed to open exclude file rules: it is not an absolute path");
    }

    #[test]
    fn a_limit_for_removals_is_a_number_or_a_share() {
        let text = |value: &str| {
            format!(
                "[[mirror]]\nsource = \"/a\"\nmax-delete = {value}\n[[mirror.to]]\nurl = \"rsync://h/m\"\n"
            )
        };
        let limit = |value: &str| parse(&text(value)).unwrap().mirrors[0].max_delete;
        assert_eq!(limit("0"), Some(MaxDelete::Count(0)));
        assert_eq!(limit("\"500\""), Some(MaxDelete::Count(500)));
        assert_eq!(limit("\"10%\""), Some(MaxDelete::Percent(10)));
        for bad in ["-1", "\"101%\"", "\"x\"", "\"%\""] {
            assert_eq!(wrong(&text(bad)).0, 3, "{bad}");
        }
    }

    #[test]
    fn a_mirror_stays_on_one_file_system_and_says_so() {
        let text = |value: &str| {
            format!(
                "[[mirror]]\nsource = \"/a\"\none-file-system = {value}\n[[mirror.to]]\nurl = \"rsync://h/m\"\n"
            )
        };
        assert!(parse(&text("true")).is_ok());
        let (line, what, advice) = wrong(&text("false"));
        assert_eq!((line, what.as_str()), (3, "one-file-system false: a mirror does not follow mounts"));
        assert!(advice.unwrap().contains("[[mirror]]"));
    }

    #[test]
    fn a_file_without_mirrors_is_refused() {
        assert_eq!(wrong("settle = 1\n").1, "there is no mirror");
        assert_eq!(wrong("[[mirror]]\nsource = \"/a\"\n").1, "mirror of /a: it goes nowhere");
        assert_eq!(wrong("[[mirror]]\n").1, "missing field `source`");
    }
}
