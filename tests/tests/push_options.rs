//! Each option does what it does in stock rsync: both push the same tree to equal destinations, and must end with
//! the same exit code, the same itemized lines, and the same tree.

use ebbtide_tests::{Client, Outcome, Release, Tree, Twins, bytes, name, needs, skip};

/// A source with one of everything that options tell apart, small enough to read in a failure.
fn small(tree: Tree) -> Tree {
    tree.file("file", bytes(1, 5_000))
        .mtime("file", 1_600_000_000, 123)
        .file("dir/inner", b"inner")
        .mode("dir/inner", 0o640)
        .owner("dir/inner", 1, 2)
        .mtime("dir/inner", 1_500_000_000, 0)
        .symlink("link", "file")
        .fifo("fifo")
        .device("null", 1, 3)
        .file("twin a", b"twins")
        .link("dir/twin b", "twin a")
        .dir("empty")
        .mtime("dir", 1_400_000_000, 7)
        .mtime("empty", 1_300_000_000, 0)
        .mtime("", 1_700_000_000, 0)
}

/// A destination that was in sync and then drifted in every way.
fn drifted(tree: Tree) -> Tree {
    tree.file("file", bytes(1, 4_000))
        .mode("dir/inner", 0o600)
        .owner("dir/inner", 3, 3)
        .mtime("dir/inner", 1_500_000_000, 0)
        .remove("link")
        .symlink("link", "elsewhere")
        .remove("fifo")
        .file("extra/deep/file", b"x")
        .file("dir/extra", b"y")
        .mtime("", 1_000_000_000, 0)
}

#[test]
fn single_letters_keep_what_they_keep_in_rsync() {
    let sets = ["-ri", "-rli", "-rpi", "-rti", "-rgi", "-roi", "-rDi", "-rlptgoDi", "-ai", "-aHi", "-rlHi"];
    for options in sets {
        let twins = needs!(Twins::new(Release::Installed));
        small(twins.source());
        twins.expect_same(&[options]);
    }
}

#[test]
fn a_destination_that_drifted_is_mended_as_rsync_mends_it() {
    for options in [
        &["-ri"][..],
        &["-rlti"],
        &["-ai"],
        &["-aHi"],
        &["-aHi", "--delete"],
        &["-aHi", "--numeric-ids"],
        &["-avvi"],
    ] {
        for release in Release::ALL {
            let twins = needs!(Twins::new(release));
            small(twins.source());
            twins.in_sync();
            twins.destinations(drifted);
            twins.expect_same(options);
        }
    }
}

#[test]
fn one_of_everything_is_itemized_as_rsync_itemizes_it() {
    for release in Release::ALL {
        let twins = needs!(Twins::with(release, |module| module.chroot(true)));
        Tree::rich(&twins.source_path());
        twins.expect_same(&["-aHi", "--delete"]);
        twins.expect_synced();
        let again = twins.expect_same(&["-aHi", "--delete"]);
        assert_eq!(again.ours.itemized(), Vec::<&str>::new());
    }
}

#[test]
fn a_dry_run_tells_everything_and_changes_nothing() {
    let twins = needs!(Twins::new(Release::Installed));
    small(twins.source());
    twins.in_sync();
    twins.destinations(drifted);
    let pair = twins.expect_same(&["-naHi", "--delete"]);
    assert!(pair.ours.itemized().contains(&"*deleting   dir/extra"), "{:?}", pair.ours);
    assert!(twins.ours().join("extra/deep/file").exists());
    // The announced changes are those that come.
    let real = twins.expect_same(&["-aHi", "--delete"]);
    assert_eq!(real.ours.itemized(), pair.ours.itemized());
}

#[test]
fn without_recursion_directories_alone_are_made() {
    for options in [&["-di"][..], &["-dlptgoDi"], &["-dti", "--delete"]] {
        let twins = needs!(Twins::new(Release::Installed));
        small(twins.source());
        twins.destinations(|tree| tree.file("extra", b"x").file("dir/kept", b"y"));
        twins.expect_same(options);
    }
}

/// The receiver leaves it out, and says so; its name at the destination is no extraneous one.
#[test]
fn what_is_of_a_kind_that_is_not_kept_protects_its_name_from_deletion() {
    for release in Release::ALL {
        for options in [
            &["-rti", "--delete"][..],
            &["-rti", "--delete-after", "--no-i-r"],
            &["-rlti", "--delete"],
            &["-rtiD", "--delete"],
            &["-rti", "--devices", "--delete"],
            &["-dti", "--delete"],
            &["-ai", "--no-links", "--delete", "--info=nonreg0"],
        ] {
            let twins = needs!(Twins::new(release));
            small(twins.source());
            twins.destinations(|tree| {
                tree.file("link", b"a file")
                    .file("fifo", b"a file")
                    .file("null", b"a file")
                    .file("extra", b"x")
            });
            let pair = twins.expect_same(options);
            assert!(!twins.ours().join("extra").exists() && twins.ours().join("link").exists());
            let skipped = |outcome: &Outcome| -> Vec<String> {
                let lines = outcome.stdout.lines().filter(|line| line.starts_with("skipping "));
                lines.map(str::to_owned).collect()
            };
            assert_eq!(skipped(&pair.ours), skipped(&pair.stock), "{options:?}");
        }
    }
}

#[test]
fn a_directory_of_a_list_is_left_out_without_dirs() {
    let twins = needs!(Twins::new(Release::Installed));
    small(twins.source());
    let list = twins.list(["file", "empty/", "dir"], b'\n');
    twins.expect_same(&["-ai", "--no-dirs", &list]);
    assert!(!twins.ours().join("empty").exists());
}

#[test]
fn relative_names_keep_their_parents() {
    for from in ["source/dir", "source/./dir", "source/./dir/inner", "./source/dir/"] {
        let twins = needs!(Twins::new(Release::Installed));
        small(twins.source());
        twins.expect_same_from(&["-aRi"], from, "");
    }
}

#[test]
fn a_source_without_a_slash_is_itself_copied() {
    for (from, to) in
        [("source", ""), ("source/file", ""), ("source/file", "renamed"), ("source/dir/", "below/")]
    {
        let twins = needs!(Twins::new(Release::Installed));
        small(twins.source());
        twins.expect_same_from(&["-ai"], from, to);
    }
}

#[test]
fn a_symlink_to_a_directory_is_followed_only_where_a_slash_says_so() {
    for from in ["alias", "alias/"] {
        let twins = needs!(Twins::new(Release::Installed));
        small(twins.source());
        std::os::unix::fs::symlink("source", twins.folder().join("alias")).unwrap();
        twins.expect_same_from(&["-ai"], from, "");
    }
}

#[test]
fn delete_removes_what_the_source_does_not_have() {
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        small(twins.source());
        twins.destinations(|tree| {
            let tree = tree.file("extra/deep/file", b"x").symlink("dir", "extra").fifo("empty");
            (0..16).fold(tree, |tree, n| tree.file([b"extra/", name(n)].concat(), b"odd"))
        });
        twins.expect_same(&["-ai", "--delete"]);
        twins.expect_same(&["-aHi", "--delete"]);
        twins.expect_synced();
    }
}

#[test]
fn force_lets_a_file_take_the_place_of_a_full_directory() {
    for (options, code) in [(&["-ai"][..], 23), (&["-ai", "--force"], 0)] {
        let twins = needs!(Twins::new(Release::Installed));
        small(twins.source());
        twins.destinations(|tree| tree.file("file/in/the/way", b"x"));
        let pair = twins.expect_same(options);
        assert_eq!(pair.ours.code, code, "{:?}", pair.ours);
    }
}

#[test]
fn files_from_sends_the_names_of_a_list_and_no_others() {
    for options in [&["-ai"][..], &["-ti"], &["-ari"]] {
        let twins = needs!(Twins::new(Release::Installed));
        small(twins.source());
        let list =
            twins.list(["dir/inner", "./link", "empty/", "# a comment", "", "; another", "dir"], b'\n');
        let options = [options, &[list.as_str()]].concat();
        twins.expect_same(&options);
        assert!(!twins.ours().join("file").exists());
    }
}

/// `source/current` leads to a directory in `folder`, which holds more of them.
fn release_links(twins: &Twins) {
    twins.source().file("v1/www/page", b"page").file("v1/www/deep/page", b"deep").symlink("current", "v1");
}

#[test]
fn symlinked_directories_that_a_relative_argument_names_are_followed() {
    for from in [
        "source/current/www/",
        "source/current/www",
        "source/./current/www/page",
        "source/./current/www/deep/page",
        "source/current/./www/page",
        "source/current/",
        "source/current",
    ] {
        let twins = needs!(Twins::new(Release::Installed));
        release_links(&twins);
        twins.expect_same_from(&["-aRi"], from, "");
        twins.expect_same_from(&["-aRi", "--no-implied-dirs"], from, "");
    }
}

#[test]
fn symlinked_directories_on_the_way_of_a_listed_name_are_refused_with_what_to_do() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync follows them");
    }
    let twins = needs!(Twins::new(Release::Installed));
    release_links(&twins);
    let list = twins.list(["v1/www/page", "current/www/page", "current/www"], b'\n');
    let outcome = twins.push(&["-a", &list], "source/", "").ours;
    assert_eq!(outcome.code, 23, "{outcome:?}");
    let advice = "a symlink on the way is not followed, name the real path";
    assert_eq!(outcome.stderr.matches(advice).count(), 2, "{outcome:?}");
    assert!(twins.ours().join("v1/www/page").exists() && !twins.ours().join("current").exists());
}

#[test]
fn listed_names_that_lead_above_the_source_start_at_its_top() {
    for name in ["../file", "dir/../../file", "../nothing"] {
        let twins = needs!(Twins::new(Release::Installed));
        small(twins.source());
        let list = twins.list([name], b'\n');
        let pair = twins.expect_same(&["-ai", &list]);
        assert_eq!(pair.ours.code, if name == "../nothing" { 23 } else { 0 }, "{:?}", pair.ours);
    }
}

#[test]
fn a_list_of_names_needs_a_directory_that_they_are_in() {
    let twins = needs!(Twins::new(Release::Installed));
    small(twins.source());
    let list = twins.list(["file"], b'\n');
    for from in ["source/file", "source/nothing"] {
        let pair = twins.push(&["-ai", &list], from, "");
        assert_eq!((pair.ours.code, pair.stock.code), (3, 3), "{:?}", pair.ours);
    }
}

#[test]
fn from0_allows_names_that_no_line_could_hold() {
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        twins.source().odd_names();
        let names = (0..16).map(|n| [b"odd/", name(n)].concat());
        let list = twins.list(names, 0);
        twins.expect_same(&["-ai", "--from0", &list]);
    }
}

#[test]
fn delete_missing_args_removes_listed_names_that_are_gone() {
    let twins = needs!(Twins::new(Release::Installed));
    if !twins.daemon().is_since((3, 1)) {
        skip!("this daemon has no --delete-missing-args");
    }
    small(twins.source());
    twins.destinations(|tree| {
        tree.file("gone/deep/file", b"x")
            .file("dir/gone", b"y")
            .symlink("gone link", "x")
            .file("not named", b"z")
    });
    let list = twins.list(["dir/gone", "file", "gone link"], b'\n');
    twins.expect_same(&["-ai", "--delete-missing-args", &list]);
    let list = twins.list(["gone", "dir/inner", "never was"], b'\n');
    twins.expect_same(&["-ai", "--delete-missing-args", "--force", &list]);
    assert!(!twins.ours().join("gone").exists() && twins.ours().join("not named").exists());
}

#[test]
fn a_listed_name_that_is_gone_is_partial_without_delete_missing_args() {
    let twins = needs!(Twins::new(Release::Installed));
    small(twins.source());
    let list = twins.list(["file", "never was"], b'\n');
    let pair = twins.expect_same(&["-ai", &list]);
    assert_eq!(pair.ours.code, 23, "{:?}", pair.ours);
}

#[test]
fn each_checksum_and_each_seed_gives_the_same_tree() {
    let choices = ["--checksum-choice=XXH128", "--checksum-choice=xxh64", "--checksum-choice=md5"];
    for release in Release::ALL {
        for choice in choices.into_iter().chain(["--checksum-seed=1", "--checksum-seed=2147483647"]) {
            let twins = needs!(Twins::new(release));
            if choice.contains("xxh") && !twins.daemon().is_since((3, 2)) {
                continue;
            }
            small(twins.source().file("delta", bytes(3, 900_000)));
            twins.destinations(|tree| {
                tree.file("delta", [&bytes(3, 500_000)[..], b"!", &bytes(4, 9_000)].concat())
            });
            twins.expect_same(&["-aHi", choice]);
            twins.expect_synced();
        }
    }
}

#[test]
fn each_compression_gives_the_same_tree() {
    let choices = [
        &["-z"][..],
        &["--compress-choice=zstd"],
        &["--compress-choice=zlibx"],
        &["-z", "--compress-choice=none"],
    ];
    for release in Release::ALL {
        for choice in
            choices.into_iter().chain([&["-z", "--compress-level=1"][..], &["-z", "--compress-level=9"]])
        {
            let twins = needs!(Twins::new(release));
            if choice[0] == "--compress-choice=zstd" && !twins.daemon().is_since((3, 2)) {
                continue;
            }
            small(twins.source().file("delta", bytes(3, 900_000)));
            twins.destinations(|tree| {
                tree.file("delta", [&bytes(3, 500_000)[..], b"!", &bytes(4, 9_000)].concat())
            });
            twins.expect_same(&[&["-aHi"], choice].concat());
            twins.expect_synced();
        }
    }
}

#[test]
fn quiet_says_nothing_and_verbose_names_what_is_sent() {
    let twins = needs!(Twins::new(Release::Installed));
    small(twins.source());
    let quiet = twins.expect_same(&["-aq"]);
    assert_eq!((quiet.ours.stdout.as_str(), quiet.ours.stderr.as_str()), ("", ""));
    twins.source().file("fresh", b"news");
    let verbose = twins.expect_same(&["-av"]);
    assert!(verbose.ours.stdout.lines().any(|line| line == "fresh"), "{:?}", verbose.ours);
}

#[test]
fn itemized_names_cannot_forge_a_line() {
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().odd_names();
    let pair = twins.expect_same(&["-ai"]);
    assert!(pair.ours.itemized().iter().any(|line| line.ends_with(r"new\#012line")), "{:?}", pair.ours);
}
