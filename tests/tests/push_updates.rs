//! Options that choose which files are brought up to date, and in what manner: each does what it does in stock rsync,
//! with old and new daemons.

use ebbtide_tests::{Release, Tree, Twins, bytes, needs};

/// Files that are older, newer, longer, shorter, equal and missing at the destination.
fn source(tree: Tree) -> Tree {
    tree.file("older", bytes(1, 3_000))
        .mtime("older", 1_600_000_000, 5)
        .file("newer", bytes(2, 3_000))
        .mtime("newer", 1_600_000_000, 5)
        .file("longer", bytes(3, 90_000))
        .mtime("longer", 1_600_000_000, 0)
        .file("same size", b"12345")
        .mtime("same size", 1_600_000_000, 0)
        .file("second off", b"abcde")
        .mtime("second off", 1_600_000_000, 0)
        .file("nanosecond off", b"fghij")
        .mtime("nanosecond off", 1_600_000_000, 77)
        .file("dir/missing", b"new")
        .file("dir/holes", [&[0_u8; 100_000][..], b"end"].concat())
        .mtime("dir/holes", 1_600_000_000, 0)
        .dir("empty/deep")
        .dir("chain/of")
        .file("run", b"#!/bin/sh")
        .mode("run", 0o755)
        .mtime("run", 1_600_000_000, 0)
        .mtime("dir", 1_600_000_000, 0)
        .mtime("", 1_600_000_000, 0)
}

fn destination(tree: Tree) -> Tree {
    tree.file("older", bytes(1, 2_000))
        .mtime("older", 1_500_000_000, 0)
        .file("newer", bytes(1, 2_000))
        .mtime("newer", 1_650_000_000, 0)
        .file("longer", bytes(3, 40_000))
        .mtime("longer", 1_500_000_000, 0)
        .file("same size", b"54321")
        .mtime("same size", 1_600_000_000, 0)
        .file("second off", b"edcba")
        .mtime("second off", 1_600_000_001, 0)
        .file("nanosecond off", b"jihgf")
        .mtime("nanosecond off", 1_600_000_000, 78)
        .file("run", b"#!/bin/sh")
        .mode("run", 0o640)
        .mtime("run", 1_600_000_000, 0)
        .file("extra/one", b"x")
        .file("extra/two", b"x")
        .file("more", b"x")
        .mtime("extra/one", 1_500_000_000, 0)
        .mtime("extra/two", 1_500_000_000, 0)
        .mtime("more", 1_500_000_000, 0)
}

#[track_caller]
fn expect_same(options: &[&[&str]]) {
    for release in Release::ALL {
        for options in options {
            let twins = needs!(Twins::new(release));
            source(twins.source());
            twins.destinations(destination);
            twins.expect_same_but_dir_times(options);
        }
    }
}

#[test]
fn what_counts_as_up_to_date_is_as_rsync_says() {
    expect_same(&[
        &["-aui"],
        &["-ai", "--existing"],
        &["-ai", "--ignore-non-existing"],
        &["-ai", "--ignore-existing"],
        &["-ai", "--existing", "--ignore-existing"],
        &["-aIi"],
        &["-ai", "--size-only"],
        &["-ai", "--modify-window=1"],
        &["-ai", "-@-1"],
        &["-ai@0"],
        &["-aci"],
    ]);
}

#[test]
fn the_manner_of_writing_makes_the_same_files() {
    expect_same(&[
        &["-ai", "--inplace"],
        &["-ai", "--inplace", "--partial", "--sparse"],
        &["-aSi"],
        &["-ai", "--preallocate"],
        &["-aSi", "--preallocate"],
        &["-ai", "--fsync"],
        &["-aWi"],
        &["-aWi", "--no-W"],
        &["-aiB700"],
        &["-ai", "--block-size=8K"],
        &["-ayi"],
        &["-ayyi"],
        &["-rltEi"],
        &["-aEi"],
        &["-aKi"],
        &["-aOi"],
        &["-aJi"],
        &["-ai", "--super"],
        &["-ai", "--no-super"],
        &["-ai", "--max-alloc=1g"],
    ]);
}

#[test]
fn files_are_appended_to_as_rsync_does() {
    for option in ["--append", "--append-verify"] {
        for release in Release::ALL {
            let twins = needs!(Twins::new(release));
            let content = bytes(9, 300_000);
            let begin = content[..100_000].to_vec();
            twins
                .source()
                .file("log", &content)
                .file("fresh", b"new")
                .file("changed", bytes(4, 9_000))
                .mtime("changed", 1_600_000_000, 0);
            twins.destinations(|tree| tree.file("log", &begin).file("changed", bytes(5, 4_000)));
            twins.expect_same(&["-ai", option]);
            let log = std::fs::read(twins.ours().join("log")).unwrap();
            assert!(log == content);
        }
    }
}

#[test]
fn sizes_bound_what_is_sent() {
    expect_same(&[
        &["-ai", "--max-size=2k"],
        &["-ai", "--max-size=3000"],
        &["-ai", "--max-size=3000-1"],
        &["-ai", "--min-size=3000"],
        &["-ai", "--min-size=3000+1"],
        &["-ai", "--min-size=6", "--max-size=0.05mb"],
    ]);
}

#[test]
fn empty_chains_of_directories_are_pruned() {
    expect_same(&[&["-ami"], &["-ami", "--delete"], &["-amni"], &["-am", "--no-m", "-i"]]);
}

#[test]
fn each_manner_of_deleting_leaves_the_same_tree() {
    expect_same(&[
        &["-ai", "--delete"],
        &["-ai", "--del"],
        &["-ai", "--delete-before"],
        &["-ai", "--delete-during"],
        &["-ai", "--delete-delay"],
        &["-ai", "--delete-after"],
        &["-ai", "--delete", "--ignore-errors", "--force"],
        &["-ai", "--delete", "--max-delete=100"],
        &["-ai", "--delete", "--max-delete=0"],
        &["-ai", "--delete", "--max-delete", "-1"],
        &["-dti", "--delete"],
        &["-dti", "--old-dirs"],
    ]);
}

#[test]
fn as_many_are_deleted_as_max_delete_allows() {
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        source(twins.source());
        twins.destinations(destination);
        let pair = twins.push(&["-ai", "--delete", "--max-delete=1"], "source/", "");
        assert_eq!(pair.ours.code, pair.stock.code, "{:?}", pair.ours);
        let left = |folder: &std::path::Path| {
            ["extra/one", "extra/two", "more"].iter().filter(|name| folder.join(name).exists()).count()
        };
        assert_eq!((left(&twins.ours()), left(&twins.stock())), (2, 2));
    }
}

#[test]
fn the_way_there_is_made_with_mkpath_only() {
    for (options, code) in [(&["-ai"][..], 11), (&["-ai", "--mkpath"], 0), (&["-ai", "--mkpath", "-n"], 0)] {
        for release in Release::ALL {
            let twins = needs!(Twins::new(release));
            source(twins.source());
            let pair = twins.expect_same_but_dir_times_at(options, "a/b/c/");
            assert_eq!(pair.ours.code, code, "{:?}", pair.ours);
        }
    }
}

#[test]
fn devices_are_written_only_where_the_daemon_allows_it() {
    let twins = needs!(Twins::new(Release::Installed));
    source(twins.source());
    let pair = twins.push(&["-a", "--write-devices"], "source/", "");
    assert_eq!((pair.ours.code, pair.stock.code), (4, 4), "{:?}", pair.ours);
}

#[test]
fn older_protocols_make_the_same_tree() {
    expect_same(&[
        &["-ai", "--protocol=30"],
        &["-ai", "--protocol=31", "--delete"],
        &["-aci", "--protocol=30"],
    ]);
}

#[test]
fn options_for_the_other_side_alone_reach_it() {
    expect_same(&[
        &["-ai", "-M--fsync"],
        &["-ai", "--remote-option=--size-only"],
        &["-ai", "-M", "--existing"],
    ]);
}

#[test]
fn arguments_may_be_secluded_or_in_the_old_form() {
    expect_same(&[&["-asi"], &["-ai", "--protect-args"], &["-ai", "--old-args"], &["-asi", "--no-s"]]);
}
