//! Filter options where they meet arguments, lists of names, directories above, deletion and exit codes: the same as the
//! stock client's.

use std::fs;

use ebbtide_tests::{Client, Release, Twins, needs};

fn world(release: Release) -> Result<Twins, ebbtide_tests::Skip> {
    let twins = Twins::new(release)?;
    let tree = twins.source().file("a.o", b"x").file("a.c", b"x").file("d/x.o", b"x").file("d/y", b"x");
    let tree = tree.file("d/e/z.o", b"x").file("d/e/w", b"x").file("core", b"x").dir("empty/er").dir("only");
    let tree = tree.file("only/x.o", b"x").file("d/.rsync-filter", b"- /y\n+ z.o\n").file("CVS/x", b"x");
    tree.file("d/.cvsignore", b"w y");
    fs::write(twins.folder().join(".rsync-filter"), "- w\n").expect("scratch is writable");
    fs::write(twins.folder().join("patterns"), "# objects\n*.o\n\n; and\nempty/\n+ core\n")
        .expect("the same");
    fs::write(twins.folder().join("zeros"), b"*.o\0d/e/\0").expect("the same");
    Ok(twins)
}

/// What the destinations have before: some of it is to go, some is protected.
fn before(twins: &Twins) {
    const FILES: [&str; 6] = ["old.o", "old", "d/old.o", "gone/p.o", "d/e/old", "CVS/old"];
    const DIRS: [&str; 6] = ["gone", "d/e", "d", "CVS", "empty", ""];
    twins.destinations(|tree| {
        let tree = FILES.iter().fold(tree, |tree, name| tree.file(name, b"y")).dir("empty");
        // The two are not made in the same moment.
        FILES.iter().chain(&DIRS).fold(tree, |tree, name| tree.mtime(name, 1_000_000_000, 0))
    });
}

const TREES: &[&[&str]] = &[
    &["-ai", "--exclude=*.o"],
    &["-ai", "--delete", "--exclude=*.o"],
    &["-ai", "--delete-after", "--include=z.o", "--exclude=*.o", "--exclude=/d/e/w"],
    &["-ai", "--delete-excluded", "--exclude=*.o"],
    &["-ai", "--delete-excluded", "--filter=P old.o", "--exclude=*.o"],
    &["-ai", "--delete", "--filter=R old.o", "--exclude=*.o"],
    &["-ai", "--delete", "--filter=hide *.o"],
    &["-ai", "--delete", "--filter=-p *.o"],
    &["-ai", "--delete", "--filter=protect,p gone/", "--filter=+ */", "--filter=-! *.o"],
    &["-ai", "--delete", "-F"],
    &["-ai", "--delete", "-FF"],
    &["-aiC"],
    &["-aiC", "--delete"],
    &["-ai", "--delete", "--filter=:C"],
    &["-ai", "--delete", "--filter=dir-merge,e- .cvsignore"],
    &["-aim", "--exclude=*.o"],
    &["-aim", "--delete", "--include=*/", "--include=*.c", "--exclude=*"],
    &["-ai", "--delete", "--exclude-from=patterns"],
    &["-ai", "--delete", "--filter=. patterns2", "--filter=.- patterns"],
    &["-ai", "--delete", "-0", "--exclude-from=zeros"],
    &["-di", "--exclude=*.o"],
    &["-ai", "--delete", "--filter=merge,w words", "--exclude=d"],
];

fn trees(release: Release) -> Result<(), ebbtide_tests::Skip> {
    let twins = world(release)?;
    fs::write(twins.folder().join("patterns2"), "+ x.o\n- x.*\n").expect("scratch is writable");
    fs::write(twins.folder().join("words"), "+_x.o  -_*.o\n\t-_core").expect("scratch is writable");
    for options in TREES {
        before(&twins);
        twins.expect_same(options);
    }
    Ok(())
}

#[test]
fn trees_are_filtered_as_by_the_stock_client() {
    needs!(trees(Release::Installed));
}

#[test]
fn trees_are_filtered_as_by_the_stock_client_against_an_old_daemon() {
    needs!(trees(Release::Old));
}

#[test]
fn arguments_and_lists_are_filtered_as_by_the_stock_client() {
    let twins = needs!(world(Release::Installed));
    for (options, from) in [
        (&["-ai", "--exclude=source"][..], "source"),
        (&["-ai", "--exclude=/source/d"], "source"),
        (&["-ai", "--exclude=y"], "source/d/y"),
        (&["-ai", "--exclude=y/"], "source/d/y"),
        (&["-aiR", "--exclude=d"], "source/./d/e"),
        (&["-aiR", "--exclude=e"], "source/./d/e"),
        (&["-aiR", "--filter=: .rsync-filter"], "source/./d/e"),
        (&["-aiRF"], "source/./d/e"),
        (&["-aiR", "--filter=: .rsync-filter"], "source/./d"),
    ] {
        twins.expect_same_from(options, from, "");
    }
    let list = twins.list(["d/x.o", "d/y", "a.c", "only/", "empty/er", "none"], b'\n');
    for more in
        ["--exclude=*.o", "--exclude=d/", "--exclude=/d/y", "--filter=: .rsync-filter", "--exclude=none"]
    {
        twins.expect_same_from(&["-ai", &list, more, "--ignore-missing-args"], "source/", "");
        twins.expect_same_from(&["-air", &list, more, "--ignore-missing-args"], "source/", "");
    }
}

/// On purpose not as by the stock client, for which the order of the names decides: the first one in a directory goes
/// before that one's merge file is read, and with a name at the top before it, so do the others.
#[test]
fn what_a_merge_file_on_the_way_to_a_name_excludes_is_not_sent_in_any_order() {
    if !Client::under_test().is_ours() {
        ebbtide_tests::skip!("stock rsync sends some of it");
    }
    let mut names = ["a.o", "d/y", "d/x.o", "d/e/z.o", "d/e/w"];
    for _ in 0..names.len() {
        names.rotate_left(1);
        let twins = needs!(world(Release::Installed));
        let list = twins.list(names, b'\n');
        twins.push(&["-a", "-F", &list], "source/", "");
        let (sent, excluded) = (["a.o", "d/x.o", "d/e/z.o"], ["d/y", "d/e/w"]);
        assert!(sent.iter().all(|name| twins.ours().join(name).exists()), "{names:?}");
        assert!(!excluded.iter().any(|name| twins.ours().join(name).exists()), "{names:?}");
    }
}

#[test]
fn what_is_wrong_with_rules_ends_as_for_the_stock_client() {
    let twins = needs!(world(Release::Installed));
    twins.source().file("only/.bad", b"- x\nwrong\n").file("only/.worse", b". none\n");
    for option in [
        "--filter=foo",
        "--filter=-q x",
        "--filter=-",
        "--filter=! x",
        "--filter=Ps x",
        "--filter=. none",
        "--exclude-from=none",
        "--include-from=none",
        "--filter=: .bad",
        "--filter=: .worse",
    ] {
        let pair = twins.push(&["-a", option], "source/", "");
        assert_eq!(pair.ours.code, pair.stock.code, "{option}\n{}\n{}", pair.stock.stderr, pair.ours.stderr);
        assert_ne!(pair.ours.code, 0, "{option}");
        let said =
            pair.stock.stderr.lines().next().unwrap_or_default().trim_start_matches("rsync: [client] ");
        let said = said.trim_start_matches("rsync: [sender] ").split("<rule from").next().unwrap_or_default();
        assert!(pair.ours.stderr.contains(said), "{option}: {said:?} is not in\n{}", pair.ours.stderr);
    }
}

#[test]
fn each_of_several_arguments_has_the_rules_from_above() {
    let twins = needs!(world(Release::Installed));
    let url = format!("{}several/", twins.daemon().url("ours"));
    let client = Client::under_test();
    client.run_in(Some(twins.folder()), ["-aF", "source/d", "source/empty", "source/d/e", &url]).expect(0);
    let arrived = |name: &str| twins.ours().join("several").join(name).exists();
    assert!(arrived("d/e/z.o") && arrived("e/z.o") && !arrived("d/e/w"));
    // Stock rsync forgets them after the first argument: its `e/w` arrives.
    assert_eq!(arrived("e/w"), !client.is_ours());
}
