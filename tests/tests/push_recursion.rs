//! Trees that are listed while they are sent: what arrives is what arrives with stock rsync, whatever their shape.

use std::fs;

use ebbtide_tests::{
    Client, Module, Proxy, Referee, Release, Rsyncd, Scratch, Tree, Twins, bytes, mib, name, needs,
};

/// Directories of all shapes: wide, deep, empty, empty within empty ones, with odd names, and names of one inode in
/// different directories.
fn shapes(tree: Tree) -> Tree {
    let tree = (0..40).fold(tree, |tree, number| {
        let dir = [b"wide/", name(number), b"/", number.to_string().as_bytes()].concat();
        tree.file([&dir, &b"/file"[..]].concat(), bytes(number as u64, number * 97))
            .dir([&dir, &b"/none"[..]].concat())
    });
    tree.deep("deep", 30)
        .dir("empty/of/all")
        .dir("a.b")
        .file("a/first", b"one inode")
        .file("a.b/x", b"y")
        .file("zz/solitary", b"of another owner")
        .link("deep/second", "a/first")
        .link("zz/third", "a/first")
        .link("a/fourth", "a/first")
        .file("top", bytes(9, mib(1)))
        .symlink("zz/symlink", "../top")
        .owner("zz/solitary", 1, 2)
        .owner("a", 3, 4)
        .aged()
}

/// The same tree after some days.
fn later(tree: Tree) -> Tree {
    tree.remove("wide")
        .file("wide/another/file", b"new")
        .file("a/first", b"still one inode, with more in it")
        .remove("empty")
        .file("empty", b"a file where a directory was")
        .remove("a.b/x")
        .dir("a.b/x/y")
        .file("deep/and deeper/and deeper/new", b"deep down")
        .link("deep/and deeper/fifth", "a/first")
        .aged()
        .mtime("zz", 1_234_567_890, 5)
}

#[test]
fn trees_of_all_shapes_arrive_and_are_itemized_as_by_rsync() {
    for release in Release::ALL {
        for options in [
            &["-aHi"][..],
            &["-aHi", "--delete"],
            &["-ai", "--delete-delay", "--numeric-ids"],
            &["-aHi", "--delete", "--no-inc-recursive"],
            &["-aHi", "--delete-before"],
            &["-aHi", "--delete-after"],
            &["-rti", "--delete", "-c"],
            &["-aHi", "--delete", "--inplace"],
        ] {
            let twins = needs!(Twins::new(release));
            shapes(twins.source());
            twins.expect_same(options);
            later(twins.source());
            twins.destinations(|tree| tree.file("wide/extra/deep/file", b"x").file("zz/extra", b"y"));
            twins.expect_same(options);
            let again = twins.expect_same(options);
            assert_eq!(again.ours.itemized(), Vec::<&str>::new(), "{options:?}");
        }
    }
}

#[test]
fn every_protocol_and_compression_takes_trees_in_parts() {
    for release in Release::ALL {
        for protocol in ["30", "31", "32"] {
            for compression in ["--no-compress", "-z"] {
                let twins = needs!(Twins::new(release));
                shapes(twins.source());
                let protocol = format!("--protocol={protocol}");
                twins.push(&["-aH", "--delete", &protocol, compression], "source/", "").ours.expect(0);
                later(twins.source());
                twins.destinations(|tree| tree.file("wide/extra", b"x"));
                twins.push(&["-aH", "--delete", &protocol, compression], "source/", "").ours.expect(0);
                twins.expect_synced();
            }
        }
    }
}

#[test]
fn several_arguments_and_arguments_without_a_slash_arrive_as_by_rsync() {
    let twins = needs!(Twins::new(Release::Installed));
    shapes(twins.source());
    for options in [
        &["-aHi", "source/wide", "source/deep", "source/top"][..],
        &["-aHi", "source"],
        &["-ai", "source/wide/", "source/deep/"],
    ] {
        twins.expect_same_from(&options[..options.len() - 1], options[options.len() - 1], "");
    }
}

#[test]
fn a_directory_that_cannot_be_read_is_named_and_nothing_is_removed_from_there_on() {
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        let tree = twins.source().file("b/inner", b"x").file("c/inner", b"x").file("z/inner", b"x");
        twins.in_sync();
        tree.mode("c", 0o000);
        twins.destinations(|tree| tree.file("a-extra", b"x").file("c/extra", b"x").file("z/extra", b"x"));
        let url = twins.daemon().url("ours");
        let source = format!("{}/", twins.source_path().display());
        let outcome = Client::under_test().bound_by_modes().run(["-a", "--delete", &source, &url]).expect(23);
        assert!(outcome.stderr.contains("opendir"), "{outcome:?}");
        assert!(twins.ours().join("c/extra").exists() && twins.ours().join("z/extra").exists());
        assert!(twins.ours().join("c/inner").exists());
    }
}

#[test]
fn what_vanishes_while_the_tree_is_sent_ends_with_24_and_the_rest_arrives() {
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        let tree = (0..50)
            .fold(twins.source(), |tree, number| tree.file(format!("d{number}/f"), bytes(number, 3000)));
        let doomed = tree.file("e/is-going-to-vanish", bytes(1, 5000)).path("e/is-going-to-vanish");
        let proxy = Proxy::when(&twins.daemon().address(), b"is-going-to-vanish", move || {
            fs::remove_file(doomed).expect("it was there");
        });
        let url = twins.daemon().url_at("ours", &proxy.address());
        let source = format!("{}/", twins.source_path().display());
        let outcome = Client::under_test().run(["-a", &source, &url]).expect(24);
        assert!(outcome.stderr.contains("vanished"), "{outcome:?}");
        assert!(twins.ours().join("d49/f").exists() && !twins.ours().join("e/is-going-to-vanish").exists());
    }
}

#[test]
fn a_file_whose_answer_is_damaged_is_asked_for_again_and_arrives() {
    let twins = needs!(Twins::new(Release::Installed));
    shapes(twins.source()).file("wide/marked", b"this is the content that is damaged on its way");
    let proxy = Proxy::damaging(&twins.daemon().address(), b"content that is damaged");
    let url = twins.daemon().url_at("ours", &proxy.address());
    let source = format!("{}/", twins.source_path().display());
    Client::under_test().run(["-aH", "--no-compress", &source, &url]).expect(0);
    twins.expect_synced();
}

#[test]
fn names_from_a_list_are_sent_in_one_piece() {
    let twins = needs!(Twins::new(Release::Installed));
    shapes(twins.source());
    let list = twins.list(["wide", "deep/and deeper", "top"], b'\n');
    twins.expect_same(&["-ari", &list]);
}

#[test]
fn a_hundred_thousand_entries_in_one_directory_take_little_memory() {
    let scratch = Scratch::new("recursion");
    let (source, destination) = (scratch.dir("source"), scratch.dir("destination"));
    for number in 0..100_000 {
        fs::write(source.join(format!("entry number {number}")), b"").expect("a scratch folder is writable");
    }
    let daemon = needs!(Rsyncd::start(Release::Installed, [Module::new("m", &destination)]));
    let arguments = ["-aW", &format!("{}/", source.display()), &daemon.url("m")];
    Client::under_test().with_memory(mib(1024)).run(arguments).expect(0);
    Referee::default().expect_equal(&source, &destination);
}

#[test]
fn twenty_thousand_directories_arrive_and_leave() {
    let scratch = Scratch::new("recursion");
    let (source, destination) = (scratch.dir("source"), scratch.dir("destination"));
    for number in 0..20_000 {
        let dir = source.join(format!("{}/{number}", number % 100));
        fs::create_dir_all(&dir).expect("a scratch folder is writable");
        if number % 3 == 0 {
            fs::write(dir.join("file"), b"").expect("a scratch folder is writable");
        }
    }
    let daemon = needs!(Rsyncd::start(Release::Installed, [Module::new("m", &destination)]));
    let arguments = ["-a", "--delete", &format!("{}/", source.display()), &daemon.url("m")];
    Client::under_test().run(arguments).expect(0);
    Referee::default().expect_equal(&source, &destination);
    fs::remove_dir_all(source.join("7")).expect("it is ours");
    Client::under_test().run(arguments).expect(0);
    Referee::default().expect_equal(&source, &destination);
}
