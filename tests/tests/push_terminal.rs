//! What a person at a terminal sees: a password is asked for, and progress is a bar. `script` makes the terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use ebbtide_tests::{
    Client, Module, Referee, Release, Rsyncd, Scratch, Tree, bytes, kib, mib, needs, program, skip,
};

/// Runs the sender on a terminal of 100 columns. Types `keys` when it is asked for a password, and returns its exit code
/// with all that the terminal showed, and at the end whether it shows what is typed: `echo` or `-echo`.
fn at_a_terminal(arguments: &[&str], keys: &[u8]) -> (i32, String) {
    let sender = program("ebbtide-send");
    let words = [&[sender.to_str().expect("it is built below a plain path")], arguments].concat().join(" ");
    // Ctrl-C goes to the shell as well, and not every shell waits for its command then.
    let line = format!(
        "trap : INT; stty cols 100; {words}; code=$?; stty -a | tr ' ' '\\n' | grep -x -e -\\*echo; exit $code"
    );
    let mut command = Command::new("timeout");
    command
        .args(["120", "script", "-qec", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env_remove("RSYNC_PASSWORD")
        .env("TERM", "xterm");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is a part of every Linux");
    let mut keyboard = child.stdin.take().expect("it was asked for");
    let mut screen = child.stdout.take().expect("it was asked for");
    let (mut shown, mut byte) = (Vec::new(), [0]);
    while screen.read_exact(&mut byte).is_ok() {
        shown.push(byte[0]);
        if shown.ends_with(b"Password: ") {
            keyboard.write_all(keys).expect("script is running");
        }
    }
    let code = child.wait().expect("it is our child").code().unwrap_or(128);
    (code, String::from_utf8_lossy(&shown).into_owned())
}

struct World {
    scratch: Scratch,
    daemon: Rsyncd,
    from: String,
    url: String,
}

impl World {
    /// A daemon that wants a password.
    fn new() -> Result<World, ebbtide_tests::Skip> {
        let scratch = Scratch::new("terminal");
        Tree::at(&scratch.dir("source")).file("f", b"x");
        let module = Module::new("m", &scratch.dir("d")).password("alice", "open sesame");
        let daemon = Rsyncd::start(Release::Installed, [module])?;
        let (from, url) = (format!("{}/", scratch.path().join("source").display()), daemon.url("m"));
        Ok(World { scratch, daemon, from, url })
    }

    fn expect_synced(&self) {
        let [source, destination] = ["source", "d"].map(|name| self.scratch.path().join(name));
        Referee::default().expect_equal(&source, &destination);
    }
}

#[test]
fn a_password_is_asked_for_once_and_not_shown() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync needs nothing of this");
    }
    let world = needs!(World::new());
    for (keys, end) in [(&b"wrong\n"[..], 5), (b"open sesame\n", 0)] {
        let (code, shown) = at_a_terminal(&["-a", &world.from, &world.url], keys);
        assert_eq!(code, end, "{shown}");
        assert_eq!(shown.matches("Password: ").count(), 1, "{shown}");
        assert!(!shown.contains("sesame") && !shown.contains("wrong"), "{shown}");
        assert!(shown.ends_with("\r\necho\r\n"), "{shown}");
        assert_eq!(shown.contains("auth failed"), end == 5, "{shown}");
    }
    world.expect_synced();
}

#[test]
fn a_question_for_a_password_can_be_interrupted() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync takes it for a part of the password");
    }
    let world = needs!(World::new());
    let (code, shown) = at_a_terminal(&["-a", &world.from, &world.url], b"op\x03");
    assert!(code == 20 && shown.contains("(code 20)"), "{shown}");
    assert!(shown.ends_with("\r\necho\r\n"), "{shown}");
}

#[test]
fn nobody_is_asked_for_a_password_that_is_given_or_where_nobody_is() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync needs nothing of this");
    }
    let world = needs!(World::new());
    let file = world.scratch.path().join("absent");
    let option = format!("--password-file={}", file.display());
    let (code, shown) = at_a_terminal(&["-a", &option, &world.from, &world.url], b"open sesame\n");
    assert!(code == 1 && shown.contains("could not open password file"), "{shown}");
    assert!(!shown.contains("Password: "), "{shown}");
    let given = format!("--password-file={}", world.daemon.password_file("m").display());
    let (code, shown) = at_a_terminal(&["-a", &given, &world.from, &world.url], b"");
    assert!(code == 0 && !shown.contains("Password: "), "{shown}");
    let mut alone = Command::new("setsid");
    alone.args(["--wait"]).arg(program("ebbtide-send")).args(["-a", &world.from, &world.url]);
    let ended = alone
        .env_remove("RSYNC_PASSWORD")
        .stdin(Stdio::null())
        .output()
        .expect("it is a part of every Linux");
    assert_eq!(ended.status.code(), Some(5), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("wants a password"), "{ended:?}");
}

#[test]
fn progress_is_a_bar_on_a_terminal() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync has no bar");
    }
    let scratch = Scratch::new("terminal");
    let (source, destination) = (scratch.dir("source"), scratch.dir("d"));
    Tree::at(&source).file("one", bytes(1, mib(2))).file("two", bytes(2, kib(1024)));
    let daemon = needs!(Rsyncd::start(Release::Installed, [Module::new("m", &destination)]));
    let from = format!("{}/", source.display());
    for option in ["--info=progress2", "--progress"] {
        let (code, shown) = at_a_terminal(&["-aI", option, "--stats", &from, &daemon.url("m")], b"");
        assert_eq!(code, 0, "{shown}");
        let lines: Vec<&str> = shown.split("\r\n").collect();
        // The bar draws over itself, below the names; what it ends with stays, on a line of its own.
        let bar = lines.iter().rposition(|line| line.contains("left")).expect("there is one");
        let last = lines[bar].rsplit('\r').next().expect("there is a first");
        for part in ["3.00 MiB/3.00 MiB", "100%", "/s left 0s", "(xfr#2, to-chk=0/3)"] {
            assert!(last.contains(part), "{option}: {part} is not in {last:?} of\n{shown}");
        }
        assert!(lines[bar + 1..].iter().any(|line| line.starts_with("Number of files: 3")), "{shown}");
    }
}
