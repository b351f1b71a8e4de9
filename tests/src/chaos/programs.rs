//! Real programs that change the source as people's programs do. Each has a folder of its own there, works until it is
//! told to stop, and tells how often it ran.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;

use super::load::is_installed;
use crate::bytes;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Git,
    Tar,
    Sqlite,
    Rsync,
    Compiler,
}

impl Program {
    const ALL: [Program; 5] =
        [Program::Git, Program::Tar, Program::Sqlite, Program::Rsync, Program::Compiler];

    /// Some of those that are installed.
    pub(super) fn some(random: &mut Rng) -> Vec<Program> {
        let wanted = Program::ALL.into_iter().filter(|_| random.u8(..3) == 0);
        wanted.filter(|program| is_installed(program.command())).collect()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Program::Git => "git of a person",
            Program::Tar => "tar of a person",
            Program::Sqlite => "database",
            Program::Rsync => "from elsewhere",
            Program::Compiler => "build",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Program::Git => "git",
            Program::Tar => "tar",
            Program::Sqlite => "sqlite3",
            Program::Rsync => "rsync",
            Program::Compiler => "cc",
        }
    }

    /// Works in `folder` until `stop`; how often the program ran.
    pub(super) fn run(self, folder: &Path, seed: u64, stop: &AtomicBool) -> u64 {
        let mut random = Rng::with_seed(seed);
        let mut runs = 0;
        while !stop.load(Ordering::SeqCst) {
            fs::create_dir_all(folder).expect("nothing else has this name");
            runs += match self {
                Program::Git => git(folder, &mut random),
                Program::Tar => tar(folder, &mut random),
                Program::Sqlite => sqlite(folder, &mut random),
                Program::Rsync => rsync(folder, &mut random),
                Program::Compiler => compile(folder, &mut random),
            };
        }
        runs
    }
}

/// A repository whose branches are checked out and committed to.
fn git(folder: &Path, random: &mut Rng) -> u64 {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "gc.auto=20"]);
        quiet(git.args(arguments).current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder));
    };
    if !folder.join(".git").exists() {
        git(&["init", "-q", "-b", "one"]);
    }
    for _ in 0..random.u8(1..20) {
        let name = format!("{}/{}", random.u8(..4), random.u8(..20));
        let path = folder.join(&name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it is writable");
        fs::write(path, bytes(random.u64(..), random.usize(..20_000))).expect("it is writable");
    }
    let branch = ["one", "two", "three"][random.usize(..3)];
    git(&["add", "-A"]);
    git(&["commit", "-q", "--allow-empty", "-m", "a change"]);
    git(&["checkout", "-q", "-f", "-B", branch, ["HEAD", "HEAD~1"][random.usize(..2)]]);
    4
}

/// An archive of something, unpacked over and over.
fn tar(folder: &Path, random: &mut Rng) -> u64 {
    let (archive, into) = (folder.join("archive.tar"), folder.join(format!("into{}", random.u8(..3))));
    if !archive.exists() || random.u8(..4) == 0 {
        let from = ["/etc/default", "/etc/alternatives", "/usr/share/misc"][random.usize(..3)];
        quiet(Command::new("tar").arg("-cf").arg(&archive).args(["-C", from, "."]));
    }
    if random.bool() {
        let _ = fs::remove_dir_all(&into);
    }
    fs::create_dir_all(&into).expect("it is writable");
    quiet(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&into));
    1
}

/// A database that is written, with its journal as a file that comes and goes. (A write-ahead log would be written
/// through a mapping, which fanotify alone cannot see.)
fn sqlite(folder: &Path, random: &mut Rng) -> u64 {
    let size = random.u32(1..20_000);
    let journal = ["delete", "truncate", "persist"][random.usize(..3)];
    let statements = format!(
        "pragma journal_mode={journal}; pragma synchronous=off; create table if not exists t(a integer primary key, b blob);
         begin; insert into t(b) values(randomblob({size})); insert into t(b) select randomblob(100) from t limit 50;
         update t set b=randomblob(200) where a%7={}; commit; delete from t where a%11={}; delete from t where a > 2000;",
        random.u8(..7),
        random.u8(..11)
    );
    quiet(Command::new("sqlite3").arg(folder.join("db")).arg(statements));
    1
}

/// Another mirror that ends in the source.
fn rsync(folder: &Path, random: &mut Rng) -> u64 {
    let from = ["/etc/default/", "/etc/alternatives/", "/usr/include/linux/"][random.usize(..3)];
    let how: &[&str] = [&["-a", "--delete"][..], &["-aI"], &["-a", "--inplace", "-I"], &["-rlt", "--delete"]]
        [random.usize(..4)];
    quiet(Command::new("rsync").args(how).arg(from).arg(folder));
    1
}

/// Sources, objects, an archive and a program.
fn compile(folder: &Path, random: &mut Rng) -> u64 {
    let name = format!("unit{}", random.u8(..10));
    let at = |end: &str| folder.join(format!("{name}{end}"));
    let text =
        format!("int {name}(void) {{ return {}; }}\nint main(void) {{ return {name}(); }}\n", random.u8(..));
    fs::write(at(".c"), text).expect("it is writable");
    quiet(Command::new("cc").arg("-g").arg("-c").arg("-o").arg(at(".o")).arg(at(".c")));
    quiet(Command::new("cc").arg("-o").arg(at("")).arg(at(".o")));
    2
}

/// What it says, and whether it succeeds in a tree where others are at work, is not what this is about.
fn quiet(command: &mut Command) {
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
