//! The command line, in rsync's words.
//!
//! `table` holds every option that rsync 3.5.0 has, `given` what they were set to, `check` what does not go together,
//! and `forward` what the daemon is told.

mod check;
mod forward;
mod given;
mod table;
mod value;

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::options::PushOptions;
pub use given::{
    Attributes, Buffering, Connection, Data, Delete, FilterOption, Given, Links, MissingArgs, Output, Select,
    StderrMode, Stop, Update,
};
use table::{Act, GROUPS, Group, REFUSED, Spec, USUAL};

/// What one run was asked to do.
#[derive(Clone, Debug)]
pub struct Args {
    /// What the daemon is asked to do, and the session's own options.
    pub push: PushOptions,
    /// Every option as it was given.
    pub given: Given,
    /// All arguments but the last.
    pub sources: Vec<OsString>,
    /// The last argument.
    pub destination: OsString,
}

/// A command line that cannot be followed, or that asks for help.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// Something to print on standard output, with exit code 0.
    #[error("{0}")]
    Help(String),
    /// An option that rsync does not have either.
    #[error("{0}: unknown option")]
    Unknown(String),
    /// An option that rsync has and we do not, or a value of one, and what to use instead.
    #[error("{0}")]
    Unsupported(String),
    /// Anything else.
    #[error("{0}")]
    Wrong(String),
}

/// Reads a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Args {
    /// Reads a command line, the program's name first, with the variables that rsync's client reads.
    ///
    /// # Errors
    /// It asks for help, or cannot be followed.
    pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Args, UsageError> {
        Args::parse_in(&|name| std::env::var_os(name), line)
    }

    /// The same in another environment.
    ///
    /// # Errors
    /// It asks for help, or cannot be followed.
    pub fn parse_in(
        environment: Environment<'_>,
        line: impl IntoIterator<Item = OsString>,
    ) -> Result<Args, UsageError> {
        let line: Vec<OsString> = line.into_iter().collect();
        if matches!(line.as_slice(), [_, only] if only == "-h") {
            return Err(UsageError::Help(command().render_help().to_string()));
        }
        let found = command().try_get_matches_from(line).map_err(|error| usage_error(&error))?;
        let mut given = given(&found)?;
        check::adopt(&mut given, environment)?;
        check::settle(&mut given).map_err(UsageError::Wrong)?;
        check::refuse(&given)?;
        let mut sources: Vec<OsString> =
            found.get_many::<OsString>("paths").into_iter().flatten().cloned().collect();
        let destination =
            sources.pop().ok_or_else(|| UsageError::Wrong("no destination was given".into()))?;
        Ok(Args { push: forward::push(&given)?, given, sources, destination })
    }
}

/// One option where it stands on the command line.
struct Use<'a> {
    /// Its place.
    at: usize,
    spec: &'a Spec,
    on: bool,
    value: &'a OsStr,
}

/// Lets all options act in their order.
fn given(found: &ArgMatches) -> Result<Given, UsageError> {
    let mut given = Given::default();
    for used in uses(found) {
        used.act(&mut given)?;
    }
    Ok(given)
}

fn uses(found: &ArgMatches) -> Vec<Use<'_>> {
    let mut uses = Vec::new();
    let mut add = |spec, id: &str, on| {
        let places = found.indices_of(id).into_iter().flatten();
        let values = found.get_many::<OsString>(id).into_iter().flatten();
        uses.extend(places.zip(values).map(|(at, value)| Use { at, spec, on, value }));
    };
    for spec in all() {
        add(spec, spec.id(), true);
        if let Some(no) = spec.no.first() {
            add(spec, no, false);
        }
    }
    uses.sort_by_key(|used| used.at);
    uses
}

fn all() -> impl Iterator<Item = &'static Spec> {
    GROUPS.iter().flat_map(|group| group.specs).chain(USUAL).chain(REFUSED)
}

impl Use<'_> {
    fn act(&self, given: &mut Given) -> Result<(), UsageError> {
        let name = self.spec.id();
        match &self.spec.act {
            Act::Switch(set) => set(given, self.on),
            Act::Value { set, .. } if self.on => set(given, bytes(self.value)).map_err(|wrong| {
                let shown = crate::text::Escaped(bytes(self.value));
                UsageError::Wrong(format!("--{name}={shown}: {wrong}"))
            })?,
            Act::Value { unset, .. } => unset(given),
            Act::Refuse { instead, .. } => {
                return Err(UsageError::Unsupported(format!("--{name}: {instead}")));
            }
        }
        Ok(())
    }
}

/// The command line as clap knows it, for the man page.
pub fn command() -> Command {
    let mut command = Command::new("ebbtide-send")
        .version(env!("CARGO_PKG_VERSION"))
        .about("pushes files to an rsync daemon or through a remote shell, with rsync's options")
        .override_usage(
            "ebbtide-send [OPTION]... SRC [SRC]... rsync://[USER@]HOST[:PORT]/MODULE/[PATH]\n       \
             ebbtide-send [OPTION]... SRC [SRC]... rsyncs://[USER@]HOST[:PORT]/MODULE/[PATH]\n       \
             ebbtide-send [OPTION]... SRC [SRC]... [USER@]HOST::MODULE/[PATH]\n       \
             ebbtide-send [OPTION]... SRC [SRC]... [USER@]HOST:[PATH]\n       \
             ebbtide-send rsync://[USER@]HOST[:PORT]/",
        )
        .after_help(refusals())
        .disable_version_flag(true)
        .disable_help_flag(true)
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("show this help"))
        .arg(
            Arg::new("version")
                .long("version")
                .short('V')
                .action(ArgAction::Version)
                .help("print the version"),
        )
        .arg(Arg::new("paths").action(ArgAction::Append).value_parser(value_parser!(OsString)).hide(true));
    for Group { heading, specs } in GROUPS {
        for spec in *specs {
            command = add(command, spec, heading);
        }
    }
    USUAL.iter().chain(REFUSED).fold(command, |command, spec| add(command, spec, ""))
}

fn add(command: Command, spec: &'static Spec, heading: &'static str) -> Command {
    let mut arg = Arg::new(spec.id()).action(ArgAction::Append).value_parser(value_parser!(OsString));
    arg = arg.help(spec.help).help_heading(heading).hide(heading.is_empty());
    if let Some(letter) = spec.letter {
        arg = arg.short(letter);
    }
    if let Some((first, others)) = spec.longs.split_first().filter(|(first, _)| first.len() > 1) {
        arg = arg.long(first).visible_aliases(others.iter().copied());
    }
    arg = match spec.act {
        Act::Value { takes, .. } => arg.value_name(takes).num_args(1).allow_hyphen_values(true),
        Act::Refuse { takes: true, .. } => arg.num_args(1).allow_hyphen_values(true),
        Act::Switch(_) | Act::Refuse { .. } => arg.num_args(0).default_missing_value(""),
    };
    let Some((first, others)) = spec.no.split_first() else { return command.arg(arg) };
    let no = Arg::new(*first).long(*first).aliases(others.iter().copied()).hide(true);
    let no = no.action(ArgAction::Append).value_parser(value_parser!(OsString));
    command.arg(arg).arg(no.num_args(0).default_missing_value(""))
}

/// What the help says about options that rsync has and we do not.
fn refusals() -> String {
    let mut out =
        "An option may be taken back by a later one with no- before its name or letter, as in --no-owner \
                   or --no-o, where rsync allows it.\n\nOptions of rsync that are refused:\n"
            .to_owned();
    for spec in REFUSED {
        if let Act::Refuse { instead, .. } = spec.act {
            out += &format!("\n--{}: {instead}\n", spec.id());
        }
    }
    out
}

fn usage_error(error: &clap::Error) -> UsageError {
    let named = || match error.get(ContextKind::InvalidArg) {
        Some(argument) => argument.to_string(),
        None => String::new(),
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => UsageError::Help(error.to_string()),
        ErrorKind::UnknownArgument => UsageError::Unknown(named()),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            UsageError::Wrong(first.strip_prefix("error: ").unwrap_or(first).to_owned())
        }
    }
}

/// The bytes of an argument.
pub(super) fn bytes(argument: &OsStr) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(argument)
}

#[cfg(test)]
mod tests;
