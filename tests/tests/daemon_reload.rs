//! HUP: mirrors and destinations come and go in a running daemon, and what did not change is not compared.

use std::path::PathBuf;
use std::process::Command;
use std::thread;

use ebbtide_tests::{
    Daemon, FileSystem, Kind, Module, Referee, Release, Rsyncd, Setup, Skip, Tree, eventually, needs, run,
};

/// Two sources and three places for them.
struct World {
    fs: FileSystem,
    rsyncd: Rsyncd,
}

impl World {
    fn new() -> Result<World, Skip> {
        let fs = FileSystem::new(Kind::Ext4)?;
        for name in ["s", "t"] {
            let tree = Tree::at(&fs.dir(name));
            (0..300).fold(tree, |tree, n| tree.file(format!("d{}/f{n}", n % 10), format!("{name}{n}")));
        }
        let modules = ["a", "b", "c"].map(|name| Module::new(name, &fs.beside(name)).chroot(true));
        let rsyncd = Rsyncd::start(Release::Installed, modules)?;
        Ok(World { fs, rsyncd })
    }

    fn source(&self, name: &str) -> PathBuf {
        self.fs.root().join(name)
    }

    /// A config file with these mirrors, each a source and its modules.
    fn config(&self, mirrors: &[(&str, &[&str])]) -> String {
        let mut text = String::new();
        for (source, modules) in mirrors {
            text += &format!("[[mirror]]\nsource = \"{}\"\ndelete = true\n", self.source(source).display());
            for module in *modules {
                text += &format!("[[mirror.to]]\nurl = \"{}\"\n", self.rsyncd.url(module));
            }
        }
        text
    }

    fn expect_equal(&self, source: &str, module: &str) {
        Referee::default().expect_equal(&self.source(source), &self.fs.beside(module));
    }
}

/// Writes a config, sends HUP, and waits until the daemon has begun anew with so many destinations.
fn reload(daemon: &mut Daemon, text: &str, destinations: usize) {
    let before = daemon.sender();
    daemon.reload(text);
    eventually("the daemon has begun anew", || {
        let output = daemon.ask(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let now = status["transfer"]["destinations"].as_array()?.len();
        (now == destinations && status["transfer"]["pid"].as_u64() != before.map(u64::from)).then_some(())
    });
}

#[test]
fn mirrors_and_destinations_come_and_go_and_the_others_are_not_compared_again() {
    let world = needs!(World::new());
    let mut daemon = Setup::from_file(&world.config(&[("s", &["a"])])).start();
    let pid = daemon.pid();
    daemon.wait();
    world.expect_equal("s", "a");
    Tree::at(&world.source("s")).file("d1/before", b"1");
    reload(&mut daemon, &world.config(&[("s", &["a", "b"]), ("t", &["c"])]), 3);
    assert_eq!(daemon.pid(), pid);
    Tree::at(&world.source("t")).file("d1/after", b"1");
    daemon.wait();
    [("s", "a"), ("s", "b"), ("t", "c")]
        .iter()
        .for_each(|(source, module)| world.expect_equal(source, module));
    for module in ["a", "b", "c"] {
        let compared = format!("compared as a whole to={}", world.rsyncd.url(module));
        assert_eq!(daemon.log().matches(&compared).count(), 1, "{module}");
    }
    // One goes, and the config stays as it is while the new one is wrong.
    reload(&mut daemon, &world.config(&[("s", &["b"])]), 1);
    daemon.reload("[[mirror]]\nsorce = \"/x\"\n");
    eventually("the daemon says what is wrong", || {
        daemon.log().contains("key `sorce` is not known").then_some(())
    });
    Tree::at(&world.source("s")).file("d1/last", b"1").remove("d2");
    daemon.wait();
    world.expect_equal("s", "b");
    assert!(!world.fs.beside("a").join("d1/last").exists());
    assert_eq!(daemon.transfer()["destinations"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_asked_while_the_daemon_begins_anew_is_answered() {
    let world = needs!(World::new());
    let daemon = Setup::from_file(&world.config(&[("s", &["a"])])).start();
    daemon.wait();
    let ask = |arguments: &[&str]| {
        let output = daemon.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", daemon.log());
        output
    };
    ask(&["pause"]);
    Tree::at(&world.source("s")).file("d1/new", b"1");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ask(&["wait"]));
        for _ in 0..3 {
            let before = daemon.sender();
            run(Command::new("kill").args(["-HUP", &daemon.pid().unwrap().to_string()]));
            eventually("the daemon has begun anew", || {
                let status: serde_json::Value =
                    serde_json::from_slice(&ask(&["status", "--json"]).stdout).ok()?;
                let sender = &status["sender"];
                (sender["ready"] == true && sender["pid"].as_u64() != before.map(u64::from)).then_some(())
            });
        }
        assert!(!waiting.is_finished(), "nothing is sent while the destination is paused");
        ask(&["resume"]);
        waiting.join().unwrap();
    });
    world.expect_equal("s", "a");
}
