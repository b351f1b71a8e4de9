//! The command line of a remote shell that starts rsync on the other host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use ebbtide_wire::proto::{ServerCommand, ServerOptions};

use super::Family;

/// How rsync is started on the other host.
#[derive(Clone, Debug, Default)]
pub struct RemoteShell {
    /// `-e`: the remote shell and its own arguments, separated by spaces; `RSYNC_RSH` or `ssh` without it.
    pub command: Option<OsString>,
    /// `--rsync-path`: the command that starts rsync there, read by the shell there.
    pub rsync_path: Option<Vec<u8>>,
    /// `--old-args`, repeated: 1 leaves the path to the shell there, 2 everything.
    pub old_args: u8,
    /// `-s`: arguments travel in the stream, not on the command line.
    pub secluded: bool,
}

/// Why a remote shell cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShellError {
    /// A quoted part of `-e` has no end.
    #[error("Missing trailing-{0} in remote-shell command.")]
    Quote(char),
    /// `-e` holds nothing.
    #[error("the remote-shell command of -e is empty")]
    Empty,
}

/// What is started there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    /// One session with these arguments.
    Server(&'a ServerCommand),
    /// A daemon for one session, as the user whom the shell lets in.
    Daemon,
}

impl RemoteShell {
    /// Whether `-e` can be taken apart.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), ShellError> {
        self.words().map(|_| ())
    }

    fn words(&self) -> Result<Vec<Vec<u8>>, ShellError> {
        words(self.command.as_deref().unwrap_or(OsStr::new("ssh")).as_bytes())
    }

    /// The whole command line: the shell, its arguments, the host, and the command for it.
    pub(super) fn command_line(
        &self,
        host: &str,
        user: Option<&str>,
        family: Family,
        start: Start<'_>,
    ) -> Result<Vec<OsString>, ShellError> {
        let mut line = self.words()?;
        let user_is_set = line.windows(2).any(|pair| pair[0] == b"-l" && !pair[1].starts_with(b"-"));
        if let Some(user) = user
            && !(user_is_set && matches!(start, Start::Daemon))
        {
            line.extend([b"-l".to_vec(), user.as_bytes().to_vec()]);
        }
        line.extend(family_option(&line[0], family));
        line.push(host.as_bytes().to_vec());
        line.push(self.rsync_path.clone().unwrap_or_else(|| b"rsync".to_vec()));
        match start {
            Start::Daemon => line.extend([b"--server".to_vec(), b"--daemon".to_vec(), b".".to_vec()]),
            Start::Server(command) => line.extend(self.quoted(command)),
        }
        Ok(line.into_iter().map(OsString::from_vec).collect())
    }

    /// Whether the arguments must keep out of the command line: an escaped line end is none at all to a shell.
    pub(crate) fn must_seclude(&self, options: &ServerOptions, path: &[u8]) -> bool {
        let has_line_end = |command: ServerCommand| command.words.iter().any(|word| word.contains(&b'\n'));
        self.secluded || options.command(path, false).is_ok_and(has_line_end)
    }

    /// The server's arguments as the shell there must see them.
    fn quoted(&self, command: &ServerCommand) -> Vec<Vec<u8>> {
        if !command.input.is_empty() {
            return command.words.clone();
        }
        let Some((path, options)) = command.words.split_last() else { return Vec::new() };
        let option = |word: &Vec<u8>| match self.old_args {
            0 | 1 => escaped(word, &[SHELL, WILD].concat()),
            _ => word.clone(),
        };
        let mut out: Vec<_> = options.iter().map(option).collect();
        out.push(self.path(path));
        out
    }

    /// Wild characters and a tilde of a path are the shell's there, as they always were.
    ///
    /// Peer: rsync's options.c:safe_arg, since 3.2.4.
    fn path(&self, path: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if path.starts_with(b"-") {
            out.extend_from_slice(b"./");
        }
        if self.old_args > 0 {
            out.extend_from_slice(path);
            return out;
        }
        out.extend_from_slice(&escaped(path, SHELL));
        out
    }
}

fn escaped(word: &[u8], special: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| if special.contains(byte) { vec![b'\\', *byte] } else { vec![*byte] };
    word.iter().flat_map(escape).collect()
}

/// `-4` and `-6` are known to be options of ssh, and of no other shell.
fn family_option(shell: &[u8], family: Family) -> Option<Vec<u8>> {
    let name = Path::new(OsStr::from_bytes(shell)).file_name()?;
    match family {
        _ if name != "ssh" => None,
        Family::Any => None,
        Family::V4 => Some(b"-4".to_vec()),
        Family::V6 => Some(b"-6".to_vec()),
    }
}

/// The words of `-e`: separated by spaces, parts in quotes kept together, a doubled quote in them is one.
fn words(command: &[u8]) -> Result<Vec<Vec<u8>>, ShellError> {
    let (mut out, mut word): (Vec<Vec<u8>>, Option<Vec<u8>>) = (Vec::new(), None);
    let mut bytes = command.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' => out.extend(word.take()),
            b'\'' | b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    let inner = bytes.next().ok_or(ShellError::Quote(byte.into()))?;
                    if inner == byte && bytes.next_if_eq(&byte).is_none() {
                        break;
                    }
                    word.push(inner);
                }
            }
            _ => word.get_or_insert_default().push(byte),
        }
    }
    out.extend(word);
    if out.is_empty() { Err(ShellError::Empty) } else { Ok(out) }
}

/// What a shell does not take as it is.
const SHELL: &[u8] = b"!#$&;|<>(){}\"'` \t\n\\";

/// What a shell replaces by names of files.
const WILD: &[u8] = b"*?[]";

#[cfg(test)]
mod tests {
    use super::*;

    fn split(command: &str) -> Vec<String> {
        let words = words(command.as_bytes()).unwrap();
        words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    fn line(shell: &RemoteShell, start: Start<'_>, user: Option<&str>) -> String {
        let line = shell.command_line("h", user, Family::V6, start).unwrap();
        line.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join("|")
    }

    fn server(words: &[&str]) -> ServerCommand {
        let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        ServerCommand { words, input: Vec::new() }
    }

    #[test]
    fn quotes_in_the_shells_command_keep_spaces() {
        assert_eq!(split("ssh -p 22"), ["ssh", "-p", "22"]);
        assert_eq!(split("  a  'b c' d\"e f\"g ''"), ["a", "b c", "de fg", ""]);
        assert_eq!(split("'it''s' \"say \"\"so\"\"\""), ["it's", "say \"so\""]);
        assert_eq!(words(b"a 'b"), Err(ShellError::Quote('\'')));
        assert_eq!(words(b"  "), Err(ShellError::Empty));
    }

    #[test]
    fn the_user_and_the_family_are_options_of_ssh() {
        let shell = RemoteShell::default();
        let command = server(&["--server", "-te.LsfxCIvu", ".", "/a/"]);
        let expected = "ssh|-l|me|-6|h|rsync|--server|-te.LsfxCIvu|.|/a/";
        assert_eq!(line(&shell, Start::Server(&command), Some("me")), expected);
        let shell = RemoteShell {
            command: Some("/opt/rsh -l other".into()),
            rsync_path: Some(b"sudo rsync".to_vec()),
            ..RemoteShell::default()
        };
        let expected = "/opt/rsh|-l|other|h|sudo rsync|--server|--daemon|.";
        assert_eq!(line(&shell, Start::Daemon, Some("me")), expected);
    }

    #[test]
    fn what_a_shell_would_change_is_escaped_and_a_paths_wild_characters_are_not() {
        let shell = RemoteShell::default();
        let path = |path: &str| String::from_utf8(shell.path(path.as_bytes())).unwrap();
        assert_eq!(path("/a b/$c*"), "/a\\ b/\\$c*");
        assert_eq!(path("-x"), "./-x");
        assert_eq!((path("~/x"), path("~x")), ("~/x".into(), "~x".into()));
        let command = server(&["--server", "--usermap=*:x", "--temp-dir", "/a b", ".", "p"]);
        let expected = ["--server", "--usermap=\\*:x", "--temp-dir", "/a\\ b", ".", "p"];
        assert_eq!(shell.quoted(&command), expected.map(|word| word.as_bytes().to_vec()));
    }

    #[test]
    fn old_arguments_are_left_to_the_shell() {
        let command = server(&["--usermap=*:x", ".", "a b*"]);
        let quoted = |old_args| RemoteShell { old_args, ..RemoteShell::default() }.quoted(&command);
        assert_eq!(quoted(1), [&b"--usermap=\\*:x"[..], b".", b"a b*"]);
        assert_eq!(quoted(2), [&b"--usermap=*:x"[..], b".", b"a b*"]);
    }
}
