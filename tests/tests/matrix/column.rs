//! One file system watched by one plan: a daemon, a stock rsync daemon, and all changes one after the other.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use ebbtide_tests::{
    Change, Done, FileSystem, Kind, Module, Place, Referee, Release, Rsyncd, Setup, Skip, Told, Watch,
    run as run_command,
};
use serde_json::Value;

use crate::harness::Harness;
use crate::judge::{self, Cell, Seen};

/// A file system and a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) kind: Kind,
    pub(crate) plan: String,
}

/// What ran in a column.
pub(crate) struct Results {
    pub(crate) column: Column,
    /// What sees which kind of change, as `ebbtide status` says it.
    pub(crate) plan: Value,
    /// By the name of the change; a cell that failed is missing.
    pub(crate) cells: BTreeMap<&'static str, Cell>,
}

impl Column {
    /// The test's name.
    pub(crate) fn cell(&self, change: &Change) -> String {
        format!("matrix::{}::{}::{}", self.kind.name(), self.plan, change.slug())
    }
}

/// Runs the wanted cells of all columns, some columns at the same time.
pub(crate) fn run_all(columns: Vec<Column>, threads: usize, harness: &Harness) -> Vec<Results> {
    let order = columns.clone();
    let (waiting, results) = (Mutex::new(columns.into_iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(column) = { waiting.lock().expect("nobody panics with it").next() } {
                    let done = run(column, harness);
                    results.lock().expect("nobody panics with it").extend(done);
                }
            });
        }
    });
    let mut results: Vec<Results> = results.into_inner().expect("nobody panics with it");
    results.sort_by_key(|result| order.iter().position(|column| *column == result.column));
    results
}

/// Runs and tells the wanted cells of one column.
fn run(column: Column, harness: &Harness) -> Option<Results> {
    let changes: Vec<&'static Change> =
        Change::all().filter(|change| harness.wants(&column.cell(change))).collect();
    if changes.is_empty() {
        return None;
    }
    let ran = catch_unwind(AssertUnwindSafe(|| World::new(&column, &changes).map(World::run)));
    let (plan, ended) = match ran {
        Ok(Ok(ended)) => ended,
        Ok(Err(Skip(why))) => return tell_all(&column, &changes, harness, &why),
        Err(panic) => return tell_all(&column, &changes, harness, &text_of(panic.as_ref())),
    };
    let mut cells = BTreeMap::new();
    for (change, seen) in ended {
        let judged = judge::judge(change, column.kind, &plan, &seen);
        if let Ok(cell) = &judged {
            cells.insert(change.name, cell.clone());
        }
        harness.tell(&column.cell(change), judged.map(|cell| cell.remark()));
    }
    Some(Results { column, plan, cells })
}

/// The whole column failed. A machine that lacks what the matrix needs fails too: it is there to run all of it.
fn tell_all(column: &Column, changes: &[&Change], harness: &Harness, why: &str) -> Option<Results> {
    // At once, since a machine that is emulated may not come to its end.
    println!("{}, {}: {why}", column.kind.name(), column.plan);
    changes.iter().for_each(|change| harness.tell(&column.cell(change), Err(why.to_owned())));
    None
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The fields end in this order.
struct World {
    watch: Watch,
    daemon: ebbtide_tests::Daemon,
    _rsyncd: Rsyncd,
    fs: FileSystem,
    places: Vec<(&'static Change, Place)>,
}

impl World {
    /// A tree in which all stands that the changes need, and a destination that is equal to it.
    fn new(column: &Column, changes: &[&'static Change]) -> Result<World, Skip> {
        let fs = FileSystem::new(column.kind)?;
        // A mapping or a read would move the time of access, and that alone marks an inode.
        drop(run_command(Command::new("mount").args(["-o", "remount,noatime"]).arg(fs.root())));
        let (tree, outside) = (fs.dir("tree"), fs.dir("outside"));
        let places = changes.iter().map(|change| (*change, change.prepare(&tree, &outside))).collect();
        // XFS shows root its access lists as extended attributes of its own, which nobody else sees.
        let module = Module::new("m", &fs.beside("destination")).chroot(true);
        let module = module.option("filter", "-x_trusted.* -x_system.*");
        let rsyncd = Rsyncd::start(Release::Installed, [module])?;
        let setup = Setup::new(&tree).to(rsyncd.url("m")).option("--probes", &column.plan);
        let daemon = setup.flag("--acls").flag("--xattrs").start();
        let watch = Watch::start(&tree, &column.plan);
        let world = World { watch, daemon, _rsyncd: rsyncd, fs, places };
        let before = world.differences();
        assert!(before.is_empty(), "before any change the destination differs:\n{}", before.join("\n"));
        Ok(world)
    }

    /// Makes all changes, and gathers what came of each.
    fn run(mut self) -> (Value, Vec<(&'static Change, Seen)>) {
        let plan = self.daemon.status()["mirrors"][0]["plan"].clone();
        self.watch.facts();
        let done: Vec<_> = self.places.iter().map(|(change, place)| change.make(place)).collect();
        let mut facts = self.watch.facts();
        let mut later = done.iter().any(|done| matches!(done, Ok(Done::Made(Some(_)))));
        if later {
            self.daemon.wait();
        }
        let mut ends = Vec::new();
        for ((change, _), done) in self.places.iter().zip(done) {
            let done = done.and_then(|done| match done {
                Done::NotPossible(errno) => Ok(Some(errno)),
                Done::Made(None) => Ok(None),
                Done::Made(Some(step)) => {
                    // What the first step brought proves nothing about the second.
                    facts.retain(|fact| !judge::is_about(fact, change));
                    step().map(|()| None)
                }
            });
            ends.push((*change, done));
        }
        if std::mem::take(&mut later) {
            facts.extend(self.watch.facts());
        }
        let differences = self.differences();
        let ends =
            ends.into_iter().map(|(change, done)| (change, Seen::of(change, done, &facts, &differences)));
        let ends = ends.collect();
        judge::expect_nothing_else(&self.places, &facts, &differences);
        (plan, ends)
    }

    /// What the referee finds when everything has been mirrored, line by line.
    fn differences(&self) -> Vec<String> {
        self.daemon.wait();
        let referee = Referee::default().filtered(&["-x trusted.*", "-x system.*"]);
        let verdict = referee.compare(&self.fs.root().join("tree"), &self.fs.beside("destination"));
        verdict.to_string().lines().map(str::to_owned).collect()
    }
}

/// Facts of one cell.
pub(crate) fn facts_of(change: &Change, facts: &[Told]) -> Vec<Told> {
    facts.iter().filter(|fact| judge::is_about(fact, change)).cloned().collect()
}
