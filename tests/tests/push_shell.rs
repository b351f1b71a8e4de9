//! Destinations behind a remote shell: one that runs its command here, and a real ssh. Both clients push the same tree
//! to equal destinations and must end alike; a shell that fails decides the exit code.

use std::fs;
use std::path::{Path, PathBuf};

use ebbtide_tests::{
    Client, Module, Outcome, Referee, Release, Rsyncd, Scratch, Sshd, Tree, bytes, mib, needs,
};

/// A source, and a folder for what comes of it.
struct World {
    scratch: Scratch,
}

impl World {
    fn new() -> World {
        let scratch = Scratch::new("shell");
        scratch.dir("source");
        World { scratch }
    }

    fn source(&self) -> Tree {
        Tree::at(&self.scratch.path().join("source"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A remote shell: a script that gets the words behind the host in `$@`, and all of them in `$*`.
    fn shell(&self, body: &str) -> String {
        let start = "#!/bin/sh\n[ \"$1\" = -l ] && shift 2\nhost=$1; shift\n";
        self.scratch.script("shell.sh", &format!("{start}{body}\n")).display().to_string()
    }

    /// One that does what ssh does there: hands the words, joined, to a shell.
    fn local(&self) -> String {
        self.local_then("exit")
    }

    /// The same, with something to do behind it.
    fn local_then(&self, end: &str) -> String {
        self.shell(&format!("cd {} && eval \"$*\"\n{end}", self.scratch.path().display()))
    }

    /// Pushes with stock rsync to `stock` and with ours to `ours`; `{}` in `to` stands for the two names.
    fn push(&self, options: &[&str], shell: &str, to: &str) -> [Outcome; 2] {
        let shell = format!("--rsh={shell}");
        let run = |client: Client, name: &str| {
            let to = to.replace("{}", name);
            let line = [&[shell.as_str()], options, &["source/", &to]].concat();
            client.run_in(Some(self.scratch.path()), line)
        };
        [run(Client::stock(), "stock"), run(Client::under_test(), "ours")]
    }

    #[track_caller]
    fn expect_same(&self, options: &[&str], shell: &str, to: &str) -> [Outcome; 2] {
        let [stock, ours] = self.push(options, shell, to);
        assert_eq!(ours.code, stock.code, "stock: {stock:?}\nours: {ours:?}");
        assert_eq!(ours.itemized(), stock.itemized(), "{options:?}");
        [stock, ours]
    }

    #[track_caller]
    fn expect_arrived(&self, name: &str) {
        Referee::default().expect_equal(&self.path("source"), &self.path(name));
    }
}

#[test]
fn a_tree_goes_through_a_shell_and_arrives_whole() {
    for release in Release::ALL {
        let world = World::new();
        Tree::rich(&world.path("source"));
        world.source().file("large", bytes(3, mib(5)));
        let path = format!("--rsync-path={}", needs!(release.program()).display());
        let options = ["-aHi", "--delete", &path];
        world.expect_same(&options, &world.local(), "host:{}/");
        world.expect_arrived("ours");
        // Another length: both versions may come within one second, and that is all that the quick check looks at.
        world.source().file("large", bytes(4, mib(5) + 1)).remove("kinds");
        world.expect_same(&options, &world.local(), "me@host:{}");
        world.expect_arrived("ours");
        let again = world.expect_same(&options, &world.local(), "host:{}/");
        assert_eq!(again[1].itemized(), Vec::<&str>::new());
    }
}

#[test]
fn options_go_through_a_shell_as_they_go_to_a_daemon() {
    for options in [
        &["-aiz", "--delete-after"][..],
        &["-ai", "--checksum", "--backup", "--backup-dir=b $HOME *"],
        &["-ai", "--temp-dir=."],
        &["-rti", "--inplace", "--compress-choice=zlibx"],
        &["-ai", "-s", "--backup-dir=b $HOME *", "--backup"],
        &["-ai", "--protocol=30"],
        &["-nai"],
    ] {
        let world = World::new();
        world.source().file("a b", b"1").file("dir/c", bytes(1, 70_000)).symlink("l", "a b");
        for name in ["stock", "ours"] {
            let tree = Tree::at(&world.path(name)).file("dir/c", bytes(1, 60_000)).file("extra", b"x");
            tree.mtime("dir/c", 1_000_000_000, 0).mtime("dir", 1_000_000_000, 0).mtime("", 1_000_000_000, 0);
        }
        world.expect_same(options, &world.local(), "host:{}/");
        Referee::with("-nrlpgoDc").expect_equal(&world.path("stock"), &world.path("ours"));
    }
}

#[test]
fn names_that_a_shell_would_change_arrive_as_they_are() {
    for odd in
        ["with space", "$HOME", "q'u\"o`te", "semi;colon & co", "back\\slash", "(round) {curly}", "#hash!"]
    {
        for options in [&["-ai"][..], &["-ai", "-s"]] {
            let world = World::new();
            world.source().file("f", b"x");
            world.expect_same(options, &world.local(), &format!("host:{{}}-{odd}/"));
            assert!(world.path(&format!("ours-{odd}/f")).exists(), "{odd}");
        }
    }
}

#[test]
fn the_shell_sees_the_path_that_it_sees_from_rsync() {
    let world = World::new();
    world.source().file("f", b"x");
    // The last word is the path; nothing is run.
    let seen = world.path("seen");
    let shell = world.shell(&format!("for word; do :; done; printf '%s\\n' \"$word\" >> {}", seen.display()));
    let paths = ["p", "a b/", "~/x", "~x", "-dash", "wild*?[a]", "a\\b", "", "/abs/ü/"];
    for options in [&["-a"][..], &["-aR"], &["-a", "--old-args"], &["-a", "-s"]] {
        for path in paths {
            let _ = fs::remove_file(&seen);
            let codes = world.push(options, &shell, &format!("host:{path}")).map(|outcome| outcome.code);
            assert_eq!(codes, [12, 12]);
            let text = fs::read_to_string(&seen).unwrap();
            let words: Vec<_> = text.lines().collect();
            if options.contains(&"-s") {
                // The last word holds the letters, which differ in what each client can do.
                assert!(words.iter().all(|word| word.starts_with("-s")), "{words:?}");
            } else {
                assert_eq!(words[0], words[1], "{options:?} {path:?}");
            }
        }
    }
}

#[test]
fn a_path_with_a_line_end_arrives_as_it_is() {
    // The stock client sends it unescaped, in effect, unless it is told -s.
    let world = World::new();
    world.source().file("f", b"x");
    let shell = format!("--rsh={}", world.local());
    let options: &[&str] = if Client::under_test().is_ours() { &["-a"] } else { &["-a", "-s"] };
    let line = [options, &[shell.as_str(), "source/", "host:line\nend/"]].concat();
    Client::under_test().run_in(Some(world.scratch.path()), line).expect(0);
    assert!(world.path("line\nend/f").exists());
}

#[test]
fn a_shell_that_fails_decides_the_exit_code() {
    let world = World::new();
    world.source().file("f", b"x");
    for (body, code, word) in [
        ("exit 255", 255, "(code 255)"),
        ("echo 'rsync: not found' >&2; exit 127", 127, "remote command not found (code 127)"),
        ("exit 126", 126, "remote command could not be run (code 126)"),
        ("exit 1", 12, "(code 12)"),
        ("exit 0", 12, "(code 12)"),
    ] {
        let shell = world.shell(body);
        // The stock client looks whether the shell has ended, and does not wait for it: its code may be 12.
        let [stock, ours] = world.push(&["-a"], &shell, "host:{}/");
        assert!([code, 12].contains(&stock.code), "{body}: {stock:?}");
        if Client::under_test().is_ours() {
            assert_eq!(ours.code, code, "{body}: {ours:?}");
            assert!(ours.stderr.contains(word), "{body}: {ours:?}");
        }
    }
    // Stock's two processes race for the code, too.
    let [stock, ours] = world.push(&["-a"], "/does/not/exist", "host:{}/");
    assert!([14, 12].contains(&stock.code), "{stock:?}");
    if Client::under_test().is_ours() {
        assert_eq!(ours.code, 14, "{ours:?}");
    }
    let [_, ours] = world.expect_same(&["-a"], "ssh 'x", "host:{}/");
    assert!(ours.stderr.contains("Missing trailing-' in remote-shell command."), "{ours:?}");
}

#[test]
fn a_shell_that_fails_when_all_is_sent_decides_the_exit_code_too() {
    for (end, code) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", 16)] {
        let world = World::new();
        world.source().file("f", b"x");
        let [_, ours] = world.expect_same(&["-a"], &world.local_then(end), "host:{}/");
        assert_eq!(ours.code, code, "{end}: {ours:?}");
        world.expect_arrived("ours");
    }
}

#[test]
fn a_login_script_that_talks_is_found_out() {
    let world = World::new();
    world.source().file("f", b"x");
    let shell = world.shell("echo Welcome to this machine; cat > /dev/null");
    let [_, ours] = world.expect_same(&["-a"], &shell, "host:{}/");
    assert_eq!(ours.code, 2);
    assert!(ours.stderr.contains("is your shell clean?"), "{ours:?}");
}

#[test]
fn what_the_other_side_cannot_do_ends_as_with_rsync() {
    let world = World::new();
    world.source().file("f", b"x");
    let [_, ours] = world.expect_same(&["-a"], &world.local(), "host:missing/{}/");
    assert_eq!(ours.code, 11, "{ours:?}");
    world.expect_same(&["-a", "--backup-dir=../../b", "--backup"], &world.local(), "host:{}/");
}

#[test]
fn a_daemon_may_be_started_by_the_shell() {
    let world = World::new();
    Tree::rich(&world.path("source"));
    let config = world.path("rsyncd.conf");
    let module = |name: &str| {
        let folder = world.scratch.dir(name);
        // They may have been made in two different seconds.
        drop(Tree::at(&folder).mtime("", 1_000_000_000, 0));
        format!("[{name}]\npath = {}\n", folder.display())
    };
    let text = format!(
        "use chroot = no\nread only = no\nmunge symlinks = no\nuid = 0\ngid = 0\n{}{}",
        module("stock"),
        module("ours")
    );
    fs::write(&config, text).unwrap();
    let shell = world.shell(&format!("exec rsync --server --daemon --config={} .", config.display()));
    world.expect_same(&["-aHi"], &shell, "host::{}/");
    Referee::default().expect_equal(&world.path("stock"), &world.path("ours"));
    world.source().file("more", b"x");
    world.expect_same(&["-aHi"], &shell, "rsync://host/{}/");
    assert!(world.path("ours/more").exists());
    let [_, ours] = world.expect_same(&["-a"], &shell, "host::nothing/");
    assert!(ours.stderr.contains("Unknown module"), "{ours:?}");
}

#[test]
fn a_tree_goes_through_ssh() {
    let sshd = needs!(Sshd::start());
    let world = World::new();
    Tree::rich(&world.path("source"));
    world.source().file("large", bytes(9, mib(9)));
    let to = |name: &str| format!("127.0.0.1:{}", world.path(name).join("a b").display());
    world.scratch.dir("stock");
    world.scratch.dir("ours");
    world.expect_same(&["-aHiz", "--delete"], &sshd.shell(), &to("{}"));
    world.expect_arrived("ours/a b");
    // ssh's own failure: nobody of that name gets in.
    let [_, ours] = world.push(&["-a"], &sshd.shell(), "nobody-here@127.0.0.1:{}");
    assert!(ours.code == 255 || !Client::under_test().is_ours(), "{ours:?}");
}

#[test]
fn a_connection_may_come_from_a_program() {
    let world = World::new();
    Tree::rich(&world.path("source"));
    let module = Module::new("m", &world.scratch.dir("d")).chroot(true);
    let daemon = needs!(Rsyncd::start(Release::Installed, [module]));
    let address = daemon.address();
    let port = address.rsplit(':').next().unwrap();
    let program = connector(&world.scratch, port);
    let client = Client::under_test().with_env("RSYNC_CONNECT_PROG", &program);
    let source = format!("{}/", world.path("source").display());
    client.run(["-aH", &source, "rsync://127.0.0.1/m/"]).expect(0);
    world.expect_arrived("d");
    let client = Client::under_test().with_env("RSYNC_CONNECT_PROG", "exit 3");
    client.run(["-aH", &source, "rsync://127.0.0.1/m/"]).expect(5);
}

/// A program that connects its standard streams with `%H` and a port.
fn connector(scratch: &Scratch, port: &str) -> String {
    let path: PathBuf = Path::new(scratch.path()).join("connect.py");
    let text = "import socket, sys, threading, os\n\
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n\
        def up():\n    while True:\n        b = os.read(0, 65536)\n        if not b: break\n        s.sendall(b)\n    \
        s.shutdown(socket.SHUT_WR)\n\
        threading.Thread(target=up, daemon=True).start()\n\
        while True:\n    b = s.recv(65536)\n    if not b: break\n    os.write(1, b)\n";
    fs::write(&path, text).expect("scratch is writable");
    format!("python3 {} %H {port}", path.display())
}
