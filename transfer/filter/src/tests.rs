//! Rules as a user gives them, on trees that are only names.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crate::{Builder, FilterError, Filters, Local, Settings, Sieve};

/// Files by name.
type Files = HashMap<&'static str, &'static str>;

fn reader(files: &Files) -> impl FnMut(&[u8]) -> io::Result<Vec<u8>> + use<'_> {
    |name| {
        let name = std::str::from_utf8(name).expect("names are text");
        files.get(name).map(|text| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn try_filters(rules: &[&str], files: &Files) -> Result<Filters, FilterError> {
    let mut read = reader(files);
    let mut builder = Builder::new(Settings::default(), &mut read);
    for rule in rules {
        builder.filter(rule.as_bytes())?;
    }
    Ok(builder.finish())
}

fn filters(rules: &[&str]) -> Filters {
    try_filters(rules, &Files::new()).unwrap()
}

fn texts(texts: &[Vec<u8>]) -> Vec<&str> {
    texts.iter().map(|text| std::str::from_utf8(text).unwrap()).collect()
}

/// Which of `names` are sent from `/srv/www`; a trailing slash makes a directory.
fn sent(filters: Filters, files: &Files, names: &[&'static str]) -> Vec<&'static str> {
    let sieve = Sieve::new(Arc::new(filters), b"/srv/www");
    let mut locals: HashMap<&str, Local> = HashMap::new();
    let root = sieve.enter(&Local::default(), b".", &mut reader(files)).unwrap();
    locals.insert("", root);
    let mut kept = Vec::new();
    for name in names {
        let (path, dir) = name.strip_suffix('/').map_or((*name, false), |path| (path, true));
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let Some(local) = locals.get(parent).cloned() else { continue };
        if sieve.hides(&local, path.as_bytes(), dir) {
            continue;
        }
        if dir {
            let below = sieve.enter(&local, path.as_bytes(), &mut reader(files)).unwrap();
            locals.insert(path, below);
        }
        kept.push(*name);
    }
    kept
}

#[test]
fn the_first_rule_that_applies_decides() {
    let names = ["a.c", "a.o", "d/", "d/b.c", "d/keep.o"];
    let rules = filters(&["+ keep.o", "- *.o"]);
    assert_eq!(sent(rules, &Files::new(), &names), ["a.c", "d/", "d/b.c", "d/keep.o"]);
    let rules = filters(&["+ */", "+ *.c", "- *"]);
    assert_eq!(sent(rules, &Files::new(), &names), ["a.c", "d/", "d/b.c"]);
}

#[test]
fn an_excluded_directory_hides_what_is_below() {
    let sieve = Sieve::new(Arc::new(filters(&["- /d/", "+ x"])), b"/srv");
    assert!(sieve.hides_way(b"d/x", false) && sieve.hides_way(b"d", true));
    assert!(!sieve.hides_way(b"d", false) && !sieve.hides_way(b"e/d/x", false));
}

#[test]
fn sides_decide_who_follows_a_rule() {
    let rules = filters(&["H a", "P b", "-s c", "-r d", "-sr e", "- f", "R g", "S h"]);
    let kept = ["-r b", "-r d", "-sr e", "- f", "+r g"];
    assert_eq!(texts(&rules.for_receiver()), kept);
    assert_eq!(sent(rules, &Files::new(), &["a", "b", "c", "d", "e", "f"]), ["b", "d"]);
}

#[test]
fn with_delete_excluded_plain_rules_stay_at_home() {
    let mut none = |_: &[u8]| Err(io::ErrorKind::NotFound.into());
    let settings = Settings { delete_excluded: true, ..Settings::default() };
    let mut builder = Builder::new(settings, &mut none);
    for rule in ["- a", "P b", ": .f", ":- .g", "-sr c", "+ d"] {
        builder.filter(rule.as_bytes()).unwrap();
    }
    let rules = builder.finish();
    assert_eq!(texts(&rules.for_receiver()), ["-r b", ": .f", "-sr c"]);
    assert_eq!(sent(rules, &Files::new(), &["a", "b", "c", "d"]), ["b", "d"]);
}

#[test]
fn rules_travel_with_their_modifiers() {
    let given = ["-/!p /a/*", "+x user.*", "- dir/", ":n- .f", ":Cs", ":Cr", "dir-merge,e- .g", "-p x y "];
    let expected =
        ["-/!p /a/*", "+x user.*", "- dir/", ":n- .f", ":Cr .cvsignore", "- .g", ":- .g", "-p x y "];
    let rules = filters(&[given[0], given[1], given[2], given[3], given[5], given[6], given[7]]);
    assert_eq!(texts(&rules.for_receiver()), expected);
    let again = Filters::from_texts(&rules.to_texts()).unwrap();
    assert_eq!(again.to_texts(), rules.to_texts());
}

#[test]
fn merge_files_are_read_in_their_place() {
    let files = Files::from([
        ("rules", "# no rule\n\n; nor this\n+ a\r\n- b\nmerge dir/more\n"),
        ("dir/more", "- c\n"),
        ("words", "+_x\n-_y  -_z"),
        ("names", "one\ntwo/\n"),
    ]);
    let rules = ["- 1", ". rules", "merge,w words", ".- names", ".+ names", "- 2"];
    let expected =
        ["- 1", "+ a", "- b", "- c", "+ x", "- y", "- z", "- one", "- two/", "+ one", "+ two/", "- 2"];
    assert_eq!(texts(&try_filters(&rules, &files).unwrap().to_texts()), expected);
}

#[test]
fn a_wrong_rule_is_told_with_its_place() {
    let files = Files::from([("rules", "- a\nbad\n"), ("outer", "- x\n. rules\n"), ("sided", "-s a\n")]);
    let told = |rule: &str| try_filters(&[rule], &files).unwrap_err().to_string();
    assert_eq!(told("bad"), "Unknown filter rule: bad");
    assert_eq!(told(". rules"), "Unknown filter rule: bad (rules line 2)");
    assert_eq!(told(". outer"), "Unknown filter rule: bad (rules line 2)");
    assert_eq!(
        told(".r sided"),
        "specified-side merge file contains specified-side filter: -s a (sided line 1)"
    );
    assert_eq!(told(". none"), "failed to open exclude file none");
    assert_eq!(told(".+ none"), "failed to open include file none");
    assert_eq!(told("-q x"), "invalid modifier 'q' at position 1 in filter rule: -q x");
    let looped = Files::from([("loop", ". loop\n")]);
    let error = try_filters(&[". loop"], &looped).unwrap_err().to_string();
    assert_eq!(error, "merge-file include depth limit (32) exceeded at loop");
}

#[test]
fn clearing_forgets_what_came_before() {
    assert_eq!(texts(&filters(&["- a", ": .f", "!", "- b"]).to_texts()), ["- b"]);
    let files = Files::from([("list", "a\n!\nb\n!c\n")]);
    let mut read = reader(&files);
    let mut builder = Builder::new(Settings::default(), &mut read);
    builder.filter(b"- x").unwrap();
    builder.exclude_from(b"list").unwrap();
    assert_eq!(texts(&builder.finish().to_texts()), ["- b", "- !c"]);
}

#[test]
fn files_that_end_lines_with_zero_keep_their_newlines() {
    let files = Files::from([("list", "a\nb\0+ c\0\0")]);
    let mut read = reader(&files);
    let mut builder = Builder::new(Settings { from0: true, ..Settings::default() }, &mut read);
    builder.exclude_from(b"list").unwrap();
    builder.include_from(b"list").unwrap();
    assert_eq!(texts(&builder.finish().to_texts()), ["- a\nb", "+ c", "+ a\nb", "+ c"]);
}

#[test]
fn per_directory_files_are_inherited_and_anchor_where_they_are() {
    let files = Files::from([
        ("/srv/www/.f", "- /x\n- y\n"),
        ("/srv/www/d/.f", "+ y\n- /z\n"),
        ("/srv/www/d/e/.f", "!\n- w\n"),
    ]);
    let names =
        ["x", "y", "d/", "d/x", "d/y", "d/z", "d/e/", "d/e/y", "d/e/z", "d/e/w", "d/e/x", "k/", "k/y"];
    let rules = try_filters(&[": .f"], &files).unwrap();
    assert_eq!(sent(rules, &files, &names), ["d/", "d/x", "d/y", "d/e/", "d/e/y", "d/e/z", "d/e/x", "k/"]);
    let rules = try_filters(&[":n .f"], &files).unwrap();
    let kept = sent(rules, &files, &names);
    assert_eq!(kept, ["d/", "d/x", "d/y", "d/e/", "d/e/y", "d/e/z", "d/e/x", "k/", "k/y"]);
}

#[test]
fn a_slash_in_the_name_looks_for_the_file_above_the_root() {
    let files = Files::from([
        ("/.f", "- top\n"),
        ("/srv/.f", "- /www/x\n- /x\n- s\n"),
        ("/srv/www/.f", "- y\n"),
        ("/srv/www/d/.f", "+ top\n"),
    ]);
    let names = ["x", "y", "s", "top", "d/", "d/top", "d/s", "d/x"];
    let all = try_filters(&[": /.f"], &files).unwrap();
    assert_eq!(sent(all, &files, &names), ["d/", "d/top", "d/x"]);
    let one = try_filters(&[": ../.f"], &files).unwrap();
    assert_eq!(sent(one, &files, &names), ["top", "d/", "d/top", "d/x"]);
    let own = try_filters(&[": .f"], &files).unwrap();
    assert_eq!(sent(own, &files, &names), ["x", "s", "top", "d/", "d/top", "d/s", "d/x"]);
}

#[test]
fn a_per_directory_file_may_name_others() {
    let files = Files::from([
        ("/srv/www/d/.f", ": .g\n"),
        ("/srv/www/d/.g", "- a\n"),
        ("/srv/www/d/e/.g", "- b\n"),
        ("/srv/www/.g", "- c\n"),
    ]);
    let names = ["a", "c", "d/", "d/a", "d/b", "d/e/", "d/e/a", "d/e/b", "k/", "k/a"];
    let rules = try_filters(&[": .f"], &files).unwrap();
    assert_eq!(sent(rules, &files, &names), ["a", "c", "d/", "d/b", "d/e/", "k/", "k/a"]);
}

#[test]
fn cvs_rules_come_from_three_places_and_each_directory() {
    let files = Files::from([("home", "mine"), ("/srv/www/d/.cvsignore", "here *.q")]);
    let settings = Settings {
        cvsignore: Some(b"home".to_vec()),
        cvsignore_variable: Some(b"var1 var2".to_vec()),
        ..Settings::default()
    };
    let mut read = reader(&files);
    let mut builder = Builder::new(settings, &mut read);
    builder.cvs_exclude().unwrap();
    let rules = builder.finish();
    let travelling = rules.for_receiver();
    assert_eq!(texts(&travelling)[..2], [":C .cvsignore", "-p RCS"]);
    assert_eq!(
        texts(&travelling[travelling.len() - 7..]),
        ["-p .svn/", "-p .git/", "-p .hg/", "-p .bzr/", "- mine", "- var1", "- var2"]
    );
    let names = ["a.o", "a.c", "mine", "var2", ".git/", "here", "d/", "d/here", "d/x.q", "d/e/", "d/e/here"];
    assert_eq!(sent(rules, &files, &names), ["a.c", "here", "d/", "d/e/", "d/e/here"]);
}

#[test]
fn many_names_keep_their_order_in_the_table() {
    let mut rules: Vec<String> = (0..20).map(|number| format!("- n{number}")).collect();
    rules.insert(0, "+ n1*".into());
    rules.push("+ /first".into());
    rules.push("- first".into());
    rules.push("- dir/".into());
    rules.push("- *".into());
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let names = ["n1", "n2", "n15", "first", "dir"];
    assert_eq!(sent(filters(&rules), &Files::new(), &names), ["n1", "n15", "first"]);
}

#[test]
fn extended_attributes_have_rules_of_their_own() {
    let sieve = Sieve::new(Arc::new(filters(&["-x user.tmp*", "- user.b"])), b"/");
    let local = Local::default();
    assert!(sieve.has_xattr_rules(&local));
    assert!(sieve.hides_xattr(&local, b"user.tmp1") && !sieve.hides_xattr(&local, b"user.b"));
    assert!(!sieve.hides(&local, b"user.tmp1", false) && sieve.hides(&local, b"user.b", false));
}
