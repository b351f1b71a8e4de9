//! The same push by stock rsync and by the sender under test, to two destinations that are equal before.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Client, Module, Outcome, Referee, Release, Rsyncd, Scratch, Skip, Tree};

/// A source, a daemon, and two destinations on it.
#[derive(Debug)]
pub struct Twins {
    daemon: Rsyncd,
    scratch: Scratch,
}

/// How the two pushes ended.
#[derive(Debug)]
pub struct Pair {
    /// Stock rsync's.
    pub stock: Outcome,
    /// Ours.
    pub ours: Outcome,
}

impl Twins {
    /// Empty trees, and a daemon of this release.
    ///
    /// # Errors
    /// This release is not on this machine.
    pub fn new(release: Release) -> Result<Twins, Skip> {
        Twins::with(release, |module| module)
    }

    /// The same with both modules as `shape` makes them.
    ///
    /// # Errors
    /// This release is not on this machine.
    pub fn with(release: Release, shape: impl Fn(Module) -> Module) -> Result<Twins, Skip> {
        let scratch = Scratch::new("twins");
        scratch.dir("source");
        let modules = ["stock", "ours"].map(|name| {
            let root = scratch.dir(name);
            // They may have been made in two different seconds.
            Tree::at(&root).mtime("", 1_000_000_000, 0);
            shape(Module::new(name, &root))
        });
        Ok(Twins { daemon: Rsyncd::start(release, modules)?, scratch })
    }

    /// The source.
    pub fn source(&self) -> Tree {
        Tree::at(&self.source_path())
    }

    /// The source's path.
    pub fn source_path(&self) -> PathBuf {
        self.scratch.path().join("source")
    }

    /// The folder that holds the source, for relative names and lists.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The daemon, with its modules `stock` and `ours`.
    pub fn daemon(&self) -> &Rsyncd {
        &self.daemon
    }

    /// Builds the same at both destinations, with the same times.
    pub fn destinations(&self, build: impl Fn(Tree) -> Tree) {
        let [first, second] = self.both();
        build(Tree::at(&first));
        build(Tree::at(&second)).timed_as(&first);
    }

    /// Copies the source to both destinations as it is.
    pub fn in_sync(&self) {
        for path in self.both() {
            let from = format!("{}/", self.source_path().display());
            Client::stock().run(["-aH", "--delete", &from, &format!("{}/", path.display())]).expect(0);
        }
        self.expect_twins("-naHc");
    }

    /// Pushes with both, from `from` (relative to [`Twins::folder`]) to `to` in the module.
    pub fn push(&self, options: &[&str], from: &str, to: &str) -> Pair {
        let run = |client: &Client, module: &str| {
            let url = format!("{}{to}", self.daemon.url(module));
            client.run_in(Some(self.folder()), options.iter().copied().chain([from, &url]))
        };
        Pair { stock: run(&Client::stock(), "stock"), ours: run(&Client::under_test(), "ours") }
    }

    /// Pushes the whole source with both, and expects the same exit code, the same itemized lines and the same trees.
    ///
    /// # Panics
    /// With what differs.
    #[track_caller]
    pub fn expect_same(&self, options: &[&str]) -> Pair {
        self.expect_same_from(options, "source/", "")
    }

    /// The same with another source and another place in the module.
    ///
    /// # Panics
    /// With what differs.
    #[track_caller]
    pub fn expect_same_from(&self, options: &[&str], from: &str, to: &str) -> Pair {
        let pair = self.push(options, from, to);
        pair.expect_same(options);
        if beyond_stock(&pair.stock) {
            return pair;
        }
        let root_is_listed =
            from == "source/" && to.is_empty() && !options.iter().any(|o| o.starts_with("--files-from"));
        if !root_is_listed {
            // Its mtime is the moment in which the last entry was stored.
            for path in self.both() {
                Tree::at(&path).mtime("", 1_000_000_000, 0);
            }
        }
        let letters = options.iter().filter(|o| !o.starts_with("--")).flat_map(|o| o.chars());
        let times = letters.into_iter().any(|letter| matches!(letter, 't' | 'a'));
        self.expect_twins(if times { "-naHc" } else { "-nrlpgoDHc" });
        pair
    }

    /// [`Twins::expect_same`] for pushes that leave directories with the time of their last change.
    ///
    /// # Panics
    /// With what differs.
    #[track_caller]
    pub fn expect_same_but_dir_times(&self, options: &[&str]) -> Pair {
        self.expect_same_but_dir_times_at(options, "")
    }

    /// The same at another place in the module.
    ///
    /// # Panics
    /// With what differs.
    #[track_caller]
    pub fn expect_same_but_dir_times_at(&self, options: &[&str], to: &str) -> Pair {
        let pair = self.push(options, "source/", to);
        pair.expect_same(options);
        self.expect_twins("-naHcO");
        pair
    }

    /// Expects the destination of the push under test to equal the source.
    ///
    /// # Panics
    /// With what differs.
    #[track_caller]
    pub fn expect_synced(&self) {
        Referee::default().expect_equal(&self.source_path(), &self.ours());
    }

    /// The destination of the push under test.
    pub fn ours(&self) -> PathBuf {
        self.scratch.path().join("ours")
    }

    /// The destination of stock rsync's push.
    pub fn stock(&self) -> PathBuf {
        self.scratch.path().join("stock")
    }

    /// Writes a list of names for `--files-from`, each ended by `end`.
    pub fn list<N: AsRef<[u8]>>(&self, names: impl IntoIterator<Item = N>, end: u8) -> String {
        let mut list = Vec::new();
        for name in names {
            list.extend_from_slice(name.as_ref());
            list.push(end);
        }
        fs::write(self.scratch.path().join("list"), list).expect("a scratch folder is writable");
        "--files-from=list".into()
    }

    #[track_caller]
    fn expect_twins(&self, options: &str) {
        Referee::with(options).expect_equal(&self.stock(), &self.ours());
    }

    fn both(&self) -> [PathBuf; 2] {
        [self.stock(), self.ours()]
    }
}

impl Pair {
    /// Expects the same exit code and, where `-i` was given, the same itemized lines.
    ///
    /// # Panics
    /// With what differs.
    #[track_caller]
    pub fn expect_same(&self, options: &[&str]) {
        let said = format!("{options:?}\nstock said {}\nwe said {}", self.stock.stderr, self.ours.stderr);
        if beyond_stock(&self.stock) {
            return;
        }
        assert_eq!(self.ours.code, self.stock.code, "exit code of {said}");
        if options.iter().any(|o| !o.starts_with("--") && o.contains('i')) {
            assert_eq!(self.ours.itemized(), self.stock.itemized(), "itemized lines of {said}");
        }
    }
}

/// Whether this is where stock rsync fails with a daemon that stands in for the installed one, and we need not: it sends
/// 3.0 options that came later, and 3.4.3 entries in an order that it refuses; and releases before 3.2 may close before
/// their reason is read.
pub fn beyond_stock(stock: &Outcome) -> bool {
    std::env::var_os("EBBTIDE_TEST_RSYNCD").is_some() && matches!(stock.code, 2 | 4 | 10 | 12)
}
