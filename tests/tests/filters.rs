//! Our filter rules against rsync's own: random trees, random rules, the same names. `EBBTIDE_SEED` replays a run.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ebbtide_filter::{Builder, FilterError, Filters, Settings};
use ebbtide_tests::{Client, Outcome, Release, Scratch, Tree, Twins, needs, seed, skip};
use ebbtide_transfer::source::{Source, read_named};
use ebbtide_transfer::walk::{Depth, Walk};
use fastrand::Rng;

/// Trees, and rule lists for each of them.
const TREES: usize = 6;
const LISTS: usize = 25;
/// Pushes with deletion.
const PUSHES: usize = 24;
/// Names of a tree.
const NAMES: usize = 150;

#[test]
fn the_same_names_are_sent_as_by_rsync() {
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        skip!("this asks our matcher itself");
    }
    let mut rng = Rng::with_seed(seed());
    let scratch = Scratch::new("filters");
    let (mut refused, mut lists) = (0, 0);
    for number in 0..TREES {
        let world = World::new(&scratch.dir(&number.to_string()), &mut rng);
        for _ in 0..LISTS {
            let options = world.options(&mut rng);
            let expected = world.stock(&options);
            let ours = world.ours(&options).map_err(|error| error.to_string());
            if let (Ok(expected), Ok(ours)) = (&expected, &ours) {
                let missing: Vec<_> = expected.difference(ours).collect();
                let extra: Vec<_> = ours.difference(expected).collect();
                assert!(
                    missing.is_empty() && extra.is_empty(),
                    "{options:#?}\nonly rsync sends {missing:?}\nonly we send {extra:?}\n{}",
                    world.merge_files()
                );
            } else {
                assert!(
                    expected.is_err() && ours.is_err(),
                    "{options:#?}\nrsync: {expected:?}\nwe: {ours:?}"
                );
                refused += 1;
            }
            lists += 1;
        }
    }
    eprintln!("{lists} lists of rules, {refused} of them refused by both");
    assert!(refused < lists / 4, "most rules should be good ones");
}

#[test]
fn the_same_names_are_deleted_as_by_rsync() {
    let mut rng = Rng::with_seed(seed());
    for release in Release::ALL {
        let mut twins = needs!(Twins::new(release));
        let mut world = World::new(twins.folder(), &mut rng);
        for _ in 0..PUSHES / 2 {
            let rubbish = rng.u64(..);
            twins.destinations(|tree| fill(tree, &mut Rng::with_seed(rubbish)));
            let mut options = world.options(&mut rng);
            options.insert(0, "-a".into());
            options.push(
                pick(&mut rng, &["--delete", "--delete-excluded", "--delete-after", "-m", "--del"]).into(),
            );
            let words: Vec<&str> = options.iter().map(String::as_str).collect();
            let pair = twins.push(&words, "source/", "");
            let said = |outcome: &Outcome| format!("code {}\n{}", outcome.code, outcome.stderr);
            if pair.stock.code == 1 && pair.ours.code == 1 {
                // A wrong rule in a directory's file ended both. How much was deleted before is a matter of time, and the
                // daemons may still be at it: the next push goes to others.
                twins = needs!(Twins::new(release));
                world = World::new(twins.folder(), &mut rng);
                continue;
            }
            let (stock, ours) = (names_below(&twins.stock()), names_below(&twins.ours()));
            let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
                one.difference(other).cloned().collect::<Vec<_>>()
            };
            assert!(
                stock == ours && pair.stock.code == pair.ours.code,
                "{options:#?}\nonly rsync leaves {:?}\nonly we leave {:?}\nrsync: {}\nwe: {}\n{}",
                only(&stock, &ours),
                only(&ours, &stock),
                said(&pair.stock),
                said(&pair.ours),
                world.merge_files()
            );
        }
    }
}

/// A tree and files of rules beside it.
struct World {
    folder: std::path::PathBuf,
}

impl World {
    fn new(folder: &Path, rng: &mut Rng) -> World {
        let source = folder.join("source");
        fill(Tree::at(&source), rng);
        for name in ["rules", "plain", "words"] {
            let lines: Vec<String> = (0..rng.usize(1..5)).map(|_| file_line(name, rng)).collect();
            fs::write(folder.join(name), lines.join("\n") + "\n").expect("scratch is writable");
        }
        // Above the root, and seen only by rules that look there.
        fs::write(folder.join(".f"), rule_file(rng)).expect("scratch is writable");
        World { folder: folder.to_owned() }
    }

    fn source(&self) -> std::path::PathBuf {
        self.folder.join("source")
    }

    /// Filter options of a command line.
    fn options(&self, rng: &mut Rng) -> Vec<String> {
        let mut options: Vec<String> = (0..rng.usize(1..7)).map(|_| self.option(rng)).collect();
        if rng.u8(..) < 16 {
            options.push("-C".into());
        }
        options
    }

    fn option(&self, rng: &mut Rng) -> String {
        let file = |name: &str| self.folder.join(name).display().to_string();
        match rng.u8(0..20) {
            0..3 => format!("--exclude={}", pattern(rng)),
            3 => format!("--include={}", pattern(rng)),
            4 => format!("--exclude={} {}", pick(rng, &["-", "+"]), pattern(rng)),
            5 => format!("--exclude-from={}", file("plain")),
            6 => format!("--include-from={}", file("plain")),
            7 => format!("--filter=. {}", file("rules")),
            8 => format!("--filter=.{} {}", pick(rng, &["-", "+", "s-", "p-"]), file("plain")),
            9 => format!("--filter=merge,w {}", file("words")),
            10 => {
                format!("--filter={} {}{}", dir_merge(rng), pick(rng, &["", "", "/", "../"]), merge_name(rng))
            }
            11 => pick(rng, &["-F", "-FF"]).to_owned(),
            12 => format!("--filter=-/ {}/{}", self.source().display(), path(rng)),
            13 if rng.u8(..) < 60 => "--filter=!".to_owned(),
            14 if rng.u8(..) < 60 => pick(rng, &["--filter=:C", "--filter=-C"]).to_owned(),
            _ => format!("--filter={}", rule(rng)),
        }
    }

    /// What rsync sends.
    fn stock(&self, options: &[String]) -> Result<BTreeSet<String>, String> {
        let fixed = ["-an", "--out-format=%n"].map(str::to_owned);
        let places = [format!("{}/", self.source().display()), format!("{}/none/", self.folder.display())];
        let all: Vec<&String> = fixed.iter().chain(options).chain(&places).collect();
        let outcome = Client::stock().run_in(Some(&self.folder), all);
        match outcome.code {
            0 => Ok(outcome
                .stdout
                .lines()
                .filter(|name| *name != "./" && !name.starts_with("created "))
                .map(str::to_owned)
                .collect()),
            _ => Err(outcome.stderr),
        }
    }

    /// What we send.
    fn ours(&self, options: &[String]) -> Result<BTreeSet<String>, String> {
        let filters = filters(options).map_err(|error| error.to_string())?;
        let source = Source::open(self.source()).expect("it was just made").with_filters(&Arc::new(filters));
        let mut walk = Walk::new(&source, 0).keeping(source.rules(0));
        walk.below(b".", Depth::Tree);
        let names = walk.entries.iter().map(|entry| {
            let slash = if entry.meta.is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.name.escape_ascii())
        });
        let names = names.collect();
        source.rules_failure().map_or(Ok(names), |error| Err(error.to_string()))
    }

    /// All merge files, for the message of a failure.
    fn merge_files(&self) -> String {
        let mut text = String::new();
        let in_tree = names_below(&self.source());
        let in_tree =
            in_tree.iter().filter(|name| name.rsplit('/').next().is_some_and(|name| name.starts_with('.')));
        let all = in_tree
            .map(|name| format!("source/{name}"))
            .chain(["rules", "plain", "words", ".f"].map(str::to_owned));
        for name in all {
            let content = fs::read_to_string(self.folder.join(&name)).unwrap_or_default();
            text.push_str(&format!("--- {name}\n{content}"));
        }
        text
    }
}

/// Reads the options that [`World::option`] makes.
fn filters(options: &[String]) -> Result<Filters, FilterError> {
    let settings = Settings {
        cvsignore: std::env::var("HOME").ok().map(|home| format!("{home}/.cvsignore").into_bytes()),
        ..Settings::default()
    };
    let mut files = read_named;
    let mut builder = Builder::new(settings, &mut files);
    let mut per_directory = 0;
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.as_bytes();
        match name {
            "--filter" => builder.filter(value)?,
            "--exclude" => builder.exclude(value)?,
            "--include" => builder.include(value)?,
            "--exclude-from" => builder.exclude_from(value)?,
            "--include-from" => builder.include_from(value)?,
            "-F" | "-FF" => {
                for _ in 1..name.len() {
                    per_directory += 1;
                    builder.per_directory(per_directory)?;
                }
            }
            "-C" => {}
            other => panic!("{other} is no filter option"),
        }
    }
    if options.iter().any(|option| option == "-C") {
        builder.cvs_exclude()?;
    }
    Ok(builder.finish())
}

/// Files, directories and merge files, with few different names, so that rules hit.
fn fill(mut tree: Tree, rng: &mut Rng) -> Tree {
    for _ in 0..NAMES {
        let name: Vec<&str> = (0..rng.usize(1..5)).map(|_| name(rng)).collect();
        let path = name.join("/");
        let full = tree.path(&path);
        let parents_are_dirs = full
            .ancestors()
            .skip(1)
            .take(name.len())
            .all(|dir| !dir.is_symlink() && (!dir.exists() || dir.is_dir()));
        if !parents_are_dirs || full.exists() {
            continue;
        }
        tree = match rng.u8(0..8) {
            0..3 => tree.dir(&path),
            // rsync reads the name of such a directory as a pattern (docs/FILTERS.md).
            3 if full.parent().is_some_and(Path::is_dir) && !path.contains('[') => {
                let file = Path::new(&path).with_file_name(merge_name(rng));
                tree.file(file.as_os_str().as_bytes(), rule_file(rng))
            }
            _ => tree.file(&path, "x"),
        };
    }
    tree
}

fn name(rng: &mut Rng) -> &'static str {
    pick(rng, &["a", "b", "c", "ab", "ba", "a.o", "b.o", "c.x", "core", "a b", "[a]", ".d", "b~"])
}

fn merge_name(rng: &mut Rng) -> &'static str {
    pick(rng, &[".f", ".f", ".g", ".rsync-filter", ".cvsignore"])
}

/// The lines of a merge file in a directory. `.f` may be read with or without prefixes and split into words or not.
fn rule_file(rng: &mut Rng) -> String {
    let line = |rng: &mut Rng| match rng.u8(0..12) {
        0 => "# a comment".to_owned(),
        1 if rng.bool() => "!".to_owned(),
        2 if rng.bool() => format!("{} .g", dir_merge(rng)),
        _ => rule(rng),
    };
    let lines: Vec<String> = (0..rng.usize(0..4)).map(|_| line(rng)).collect();
    lines.join(pick(rng, &["\n", "\r\n"])) + pick(rng, &["", "\n"])
}

fn file_line(file: &str, rng: &mut Rng) -> String {
    match file {
        "rules" => rule(rng),
        "plain" => format!("{}{}", pick(rng, &["", "", "", "+ ", "- "]), pattern(rng)),
        _ => rule(rng).replacen(' ', "_", 1).replace(' ', "?"),
    }
}

fn dir_merge(rng: &mut Rng) -> String {
    let modifiers = pick(rng, &["", "", "", "n", "e", "w", "-", "+", "s", "r", "n-", "en", "C", "p", "/"]);
    match rng.bool() {
        true => format!(":{modifiers}"),
        false if modifiers.is_empty() => "dir-merge".into(),
        false => format!("dir-merge,{modifiers}"),
    }
}

fn rule(rng: &mut Rng) -> String {
    let kind = pick(
        rng,
        &["-", "-", "-", "-", "+", "+", "H", "S", "P", "R", "exclude", "include", "hide", "protect"],
    );
    let modifiers = pick(rng, &["", "", "", "", "", "", "", "!", "p", "s", "r", "sr", "x"]);
    let sided = matches!(kind, "H" | "S" | "P" | "R" | "hide" | "protect");
    let modifiers = if sided && modifiers.contains(['s', 'r']) { "" } else { modifiers };
    let comma = if kind.len() > 1 && !modifiers.is_empty() { "," } else { "" };
    format!("{kind}{comma}{modifiers} {}", pattern(rng))
}

fn pattern(rng: &mut Rng) -> String {
    let anchor = pick(rng, &["", "", "", "/", "/", "**/", "*/"]);
    let end = pick(rng, &["", "", "", "", "/", "/", "/***", "/**", "/*"]);
    format!("{anchor}{}{end}", path(rng))
}

/// One to three components.
fn path(rng: &mut Rng) -> String {
    let count = pick(rng, &[1, 1, 1, 1, 2, 2, 3]);
    let parts: Vec<&str> = (0..count).map(|_| component(rng)).collect();
    parts.join("/")
}

fn component(rng: &mut Rng) -> &'static str {
    const WILD: &[&str] = &[
        "*",
        "*.o",
        "a*",
        "*a",
        "?",
        "??",
        "**",
        "***",
        "a**",
        "**b",
        "a*b",
        "[ab]",
        "[!a]",
        "[^b]*",
        "[a-b]?",
        "[[:alpha:]]",
        "[[:alpha:]]*",
        "[![:alpha:]]*",
        "*[!ab]",
        "\\a*",
        "\\[a\\]",
        "[\\[]a]",
        "[a",
        "[]a]*",
        "[[:none:]]",
        "*b*",
        "?.?",
        "[a-]*",
        ".*",
    ];
    if rng.u8(..) < 110 { pick(rng, WILD) } else { name(rng) }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

/// All names below a directory, directories with a slash at the end.
fn names_below(root: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).expect("it is a directory").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("it is below").display().to_string();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                names.insert(format!("{name}/"));
                pending.push(path);
            } else {
                names.insert(name);
            }
        }
    }
    names
}
