//! What is printed is what stock rsync prints, but for how the list is announced and for counts of bytes, which depend on
//! how frames and lists are cut.

use std::collections::BTreeSet;
use std::path::Path;

use ebbtide_tests::{Client, Outcome, Pair, Release, Tree, Twins, bytes, needs};

fn source(tree: Tree) -> Tree {
    tree.file("file", bytes(1, 5_000))
        .mtime("file", 1_600_000_000, 0)
        .file("dir/inner", b"inner")
        .mode("dir/inner", 0o4640)
        .owner("dir/inner", 1, 2)
        .mtime("dir/inner", 1_500_000_000, 0)
        .file("dir/big", bytes(2, 300_000))
        .mtime("dir/big", 1_600_000_000, 0)
        .symlink("link", "file")
        .fifo("fifo")
        .file("mode only", b"same")
        .mode("mode only", 0o600)
        .mtime("mode only", 1_600_000_000, 0)
        .file(b"tab\tbell\x07\xff", b"odd")
        .mtime(b"tab\tbell\x07\xff", 1_600_000_000, 0)
        .file("umlaut ä", b"text")
        .mtime("umlaut ä", 1_600_000_000, 0)
        .mtime("dir", 1_400_000_000, 0)
        .mtime("", 1_700_000_000, 0)
}

fn destination(tree: Tree) -> Tree {
    tree.file("file", bytes(1, 4_000))
        .mtime("file", 1_500_000_000, 0)
        .file("mode only", b"same")
        .mode("mode only", 0o644)
        .mtime("mode only", 1_600_000_000, 0)
        .file("extra/one", b"x")
        .file("two", b"y")
        .mtime("", 1_000_000_000, 0)
}

/// The lines of an output, without the announcement and without what was sent, in the order of their bytes: programs may
/// walk a tree in different orders.
fn lines(outcome: &Outcome) -> Vec<String> {
    let lines = outcome.stdout.split(['\n', '\r']).filter(|line| {
        let announced = line.starts_with("sending incremental") || line.starts_with("building file list");
        let counted = line.starts_with("sent ") || line.starts_with("total size is ");
        !line.is_empty() && !announced && !counted
    });
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[track_caller]
fn push(twins: &Twins, options: &[&str]) -> Pair {
    source(twins.source());
    twins.destinations(destination);
    let pair = twins.push(options, "source/", "");
    assert_eq!(pair.ours.code, pair.stock.code, "{options:?}: {:?}", pair.ours);
    pair
}

#[test]
fn names_and_items_are_printed_as_rsync_prints_them() {
    for options in [
        &["-a"][..],
        &["-av"],
        &["-av", "--delete"],
        &["-ai"],
        &["-aii"],
        &["-aiv", "--delete"],
        &["-aiiv"],
        &["-anv", "--delete"],
        &["-ani"],
        &["-aq"],
        &["-avq"],
        &["-av", "--no-v"],
        &["-a", "--info=name"],
        &["-a", "--info=name,del", "--delete"],
        &["-av", "--info=name0"],
        &["-ai8"],
        &["-rv"],
        &["-rvl", "--info=nonreg0"],
        &["-ai", "--stderr=all"],
    ] {
        for release in Release::ALL {
            let twins = needs!(Twins::new(release));
            let pair = push(&twins, options);
            assert_eq!(lines(&pair.ours), lines(&pair.stock), "{options:?}\n{:?}", pair.ours);
        }
    }
}

#[test]
fn formats_say_what_rsyncs_say() {
    for format in [
        "%n",
        "%i %n%L",
        "%o %n|%l|%'l|%''l|%12l|%-12l|",
        "%f|%B|%U|%G|%M",
        "%C %n",
        "%c %n",
        "100%% %x %a %h %u %P %m| %n",
        "%i|%o|%f",
    ] {
        for options in [&["-a"][..], &["-a", "--delete"], &["-rt"], &["-ac"], &["-an"]] {
            let twins = needs!(Twins::new(Release::Installed));
            let option = format!("--out-format={format}");
            let options = [options, &[&option, "--checksum-choice=md5"]].concat();
            let pair = push(&twins, &options);
            assert_eq!(lines(&pair.ours), lines(&pair.stock), "{options:?}");
        }
    }
}

#[test]
fn checksums_of_every_kind_are_shown_as_rsync_shows_them() {
    for kind in ["xxh128", "xxh3", "xxh64", "md5", "sha1"] {
        let twins = needs!(Twins::new(Release::Installed));
        let choice = format!("--checksum-choice={kind}");
        let pair = push(&twins, &["-a", "--out-format=%C %n", &choice]);
        assert_eq!(lines(&pair.ours), lines(&pair.stock), "{kind}");
    }
}

#[test]
fn bytes_of_each_file_are_counted_as_rsync_counts_them() {
    let twins = needs!(Twins::new(Release::Installed));
    let pair = push(&twins, &["-a", "-W", "--out-format=%b %n"]);
    let count = |outcome: &Outcome, name: &str| -> i64 {
        let line = lines(outcome).into_iter().find(|line| line.ends_with(name)).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    for name in ["dir/inner", "dir/big", "file"] {
        let (ours, stock) = (count(&pair.ours, name), count(&pair.stock, name));
        // Literals may be cut at other places.
        assert!((ours - stock).abs() <= 64, "{name}: {ours} and {stock}");
    }
}

/// Numbers at the end of a run, without those that depend on time and on how frames are cut.
fn numbers(outcome: &Outcome) -> BTreeSet<String> {
    let moving = ["File list", "Total bytes", "sent ", "total size"];
    let lines = outcome.stdout.lines().filter(|line| line.contains(": "));
    lines.filter(|line| !moving.iter().any(|word| line.starts_with(word))).map(str::to_owned).collect()
}

fn total_sent(outcome: &Outcome) -> u64 {
    let line = outcome.stdout.lines().find(|line| line.starts_with("Total bytes sent: "));
    let line = line.expect("--stats prints it");
    line.chars().filter(char::is_ascii_digit).collect::<String>().parse().expect("it has digits")
}

#[test]
fn the_numbers_at_the_end_are_rsyncs() {
    for options in [
        &["-a", "--stats"][..],
        &["-a", "--stats", "--delete"],
        &["-an", "--stats", "--delete"],
        &["-ah", "--stats"],
        &["-ahh", "--stats"],
        &["-a", "--stats", "--no-h"],
        &["-a", "--info=stats2"],
    ] {
        for release in Release::ALL {
            let twins = needs!(Twins::new(release));
            let pair = push(&twins, options);
            assert_eq!(numbers(&pair.ours), numbers(&pair.stock), "{options:?}");
            let names = |outcome: &Outcome| -> Vec<String> {
                let lines = outcome.stdout.lines().filter_map(|line| line.split_once(": "));
                lines.map(|(name, _)| name.to_owned()).collect()
            };
            assert_eq!(names(&pair.ours), names(&pair.stock));
        }
    }
}

#[test]
fn no_more_bytes_go_over_than_rsync_sends() {
    for options in [&["-a", "--stats", "--no-h"][..], &["-az", "--zc=zlibx", "--stats", "--no-h"]] {
        let twins = needs!(Twins::new(Release::Installed));
        let pair = push(&twins, options);
        let (ours, stock) = (total_sent(&pair.ours), total_sent(&pair.stock));
        assert!(ours <= stock + stock / 100 + 512, "we sent {ours}, rsync {stock}");
    }
}

/// Progress without what depends on time.
fn progress(outcome: &Outcome) -> Vec<String> {
    let parts = outcome.stdout.split(['\n', '\r']).filter(|part| part.contains("(xfr#"));
    parts
        .map(|part| {
            part.split_whitespace()
                .filter(|word| !word.contains("/s") && !word.contains("0:0"))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[test]
fn progress_has_rsyncs_lines_where_no_terminal_is() {
    for options in
        [&["-a", "--progress"][..], &["-aP"], &["-avP"], &["-aiP"], &["-ahP"], &["-a", "--info=progress2"]]
    {
        let twins = needs!(Twins::new(Release::Installed));
        source(twins.source());
        // How much of a list is known when a file is done depends on the moment, unless all of it is.
        let options = [options, &["--no-i-r"]].concat();
        let pair = twins.push(&options, "source/", "");
        let distinct = |outcome: &Outcome| progress(outcome).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(distinct(&pair.ours), distinct(&pair.stock), "{options:?}\n{}", pair.ours.stdout);
        assert!(pair.ours.stdout.ends_with('\n'));
    }
}

#[test]
fn each_name_stands_above_its_own_progress() {
    let twins = needs!(Twins::new(Release::Installed));
    source(twins.source());
    let pair = twins.push(&["-aP"], "source/", "");
    let parts: Vec<&str> = pair.ours.stdout.split(['\n', '\r']).filter(|part| !part.is_empty()).collect();
    let at = parts.iter().position(|part| *part == "dir/big").unwrap();
    assert!(parts[at + 1].contains("% "), "{parts:?}");
}

/// A log's lines without their time and process.
fn log(path: &Path) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(&std::fs::read(path).expect("the run wrote its log")).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once("] ")).map(|(_, rest)| rest.to_owned());
    lines.filter(|line| !line.starts_with("sent ") && !line.contains(" error: ")).collect()
}

#[test]
fn a_log_file_tells_what_rsyncs_log_tells() {
    for options in [
        &["-a"][..],
        &["-ai", "--delete"],
        &["-aiq"],
        &["-a", "--log-file-format=%o %n %l"],
        &["-a", "--out-format=%i", "--log-file-format=%n%L", "--delete"],
        &["-a", "missing"],
    ] {
        let twins = needs!(Twins::new(Release::Installed));
        source(twins.source());
        twins.destinations(destination);
        let paths = ["stock", "ours"].map(|name| twins.folder().join(format!("{name}.log")));
        for (client, path, module) in
            [(Client::stock(), &paths[0], "stock"), (Client::under_test(), &paths[1], "ours")]
        {
            let log_file = format!("--log-file={}", path.display());
            let url = twins.daemon().url(module);
            let words = options.iter().copied().chain([log_file.as_str(), "source/", &url]);
            let outcome = client.run_in(Some(twins.folder()), words);
            assert!(matches!(outcome.code, 0 | 23), "{outcome:?}");
        }
        assert_eq!(log(&paths[1]), log(&paths[0]), "{options:?}");
    }
}

#[test]
fn modules_are_listed_and_their_contents_are_not() {
    let twins = needs!(Twins::new(Release::Installed));
    let url = format!("rsync://{}/", twins.daemon().address());
    for options in [&[][..], &["--list-only"], &["-v"]] {
        let listing = Client::under_test().run(options.iter().copied().chain([url.as_str()])).expect(0);
        let stock = Client::stock().run([url.as_str()]).expect(0);
        assert_eq!(listing.stdout, stock.stdout);
    }
    let client = Client::under_test();
    if client.is_ours() {
        let refused = client.run(["--list-only", &twins.daemon().url("ours")]).expect(1);
        assert!(refused.stderr.contains("only pushes"), "{refused:?}");
    }
}

#[test]
fn sent_files_are_removed_once_they_are_safe() {
    for release in Release::ALL {
        for options in
            [&["-ai", "--remove-source-files"][..], &["-aHi", "--remove-source-files", "--info=remove"]]
        {
            let twins = needs!(Twins::new(release));
            source(twins.source()).file("same", b"same").mtime("same", 1_600_000_000, 0);
            twins
                .destinations(|tree| destination(tree).file("same", b"same").mtime("same", 1_600_000_000, 0));
            // Both remove from the same source: the other gets a copy of it.
            let copy = twins.folder().join("copy");
            Client::stock()
                .run(["-aH", "source/", "copy"].map(|word| {
                    if word == "-aH" {
                        word.to_owned()
                    } else {
                        twins.folder().join(word).display().to_string()
                            + if word == "source/" { "/" } else { "" }
                    }
                }))
                .expect(0);
            let stock = Client::stock().run_in(
                Some(twins.folder()),
                options.iter().copied().chain(["copy/", &twins.daemon().url("stock")]),
            );
            let ours = Client::under_test().run_in(
                Some(twins.folder()),
                options.iter().copied().chain(["source/", &twins.daemon().url("ours")]),
            );
            assert_eq!((ours.code, stock.code), (0, 0), "{ours:?}");
            assert_eq!(lines(&ours), lines(&stock));
            ebbtide_tests::Referee::with("-naHO").expect_equal(&copy, &twins.source_path());
            assert!(!twins.source_path().join("file").exists() && !twins.source_path().join("same").exists());
            assert!(twins.source_path().join("dir").exists());
        }
    }
}

#[test]
fn a_run_stops_at_the_given_time_or_not_at_all() {
    let twins = needs!(Twins::new(Release::Installed));
    source(twins.source());
    let pair = twins.push(&["-a", "--stop-after=5"], "source/", "");
    assert_eq!((pair.ours.code, pair.stock.code), (0, 0));
    for wrong in ["--stop-at=2001-01-01", "--stop-at=noon", "--stop-after=0"] {
        let pair = twins.push(&["-a", wrong], "source/", "");
        assert_eq!((pair.ours.code, pair.stock.code), (1, 1), "{wrong}: {:?}", pair.ours);
    }
}
