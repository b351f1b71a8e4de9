//! Variables of the environment, and addresses, as scripts that knew rsync have them.

use std::fs;

use ebbtide_tests::{
    Client, Module, Outcome, Release, Rsyncd, Scratch, Tree, Twins, bytes, kib, needs, skip,
};

fn both() -> [(Client, &'static str); 2] {
    [(Client::stock(), "stock"), (Client::under_test(), "ours")]
}

/// Pushes with both clients under a variable.
fn push_with(twins: &Twins, variable: (&str, &str), options: &[&str]) -> [Outcome; 2] {
    let source = format!("{}/", twins.source_path().display());
    both().map(|(client, module)| {
        let url = twins.daemon().url(module);
        let words = options.iter().copied().chain([source.as_str(), &url]);
        client.with_env(variable.0, variable.1).run(words)
    })
}

#[test]
fn a_list_of_checksums_says_which_may_be_used() {
    for release in Release::ALL {
        for list in ["xxh64", "bogus sha1", "xxh3 & bogus", " & md5", "bogus", "md5 bogus"] {
            let twins = needs!(Twins::new(release));
            if !twins.daemon().is_since((3, 2)) {
                skip!("this daemon does not negotiate");
            }
            twins.source().file("f", bytes(1, kib(20)));
            // The length of the sum tells which it is.
            let [stock, ours] = push_with(&twins, ("RSYNC_CHECKSUM_LIST", list), &["-a", "--out-format=%C"]);
            assert_eq!(ours.code, stock.code, "{list}: {ours:?}\n{stock:?}");
            assert_eq!(ours.stdout.len(), stock.stdout.len(), "{list}: {ours:?}\n{stock:?}");
        }
    }
}

#[test]
fn a_list_of_compressions_says_which_may_be_used() {
    for release in Release::ALL {
        for (list, option) in [
            ("lz4", "-z"),
            ("zlib bogus", "-z"),
            ("none", "-z"),
            ("bogus", "-z"),
            ("bogus", "-i"),
            ("bogus", "--zc=zstd"),
        ] {
            let twins = needs!(Twins::new(release));
            if !twins.daemon().is_since((3, 2)) {
                skip!("this daemon does not negotiate");
            }
            twins.source().file("f", bytes(1, kib(20)));
            let [stock, ours] = push_with(&twins, ("RSYNC_COMPRESS_LIST", list), &["-a", option]);
            assert_eq!(ours.code, stock.code, "{list} {option}: {ours:?}\n{stock:?}");
            if ours.code == 0 {
                twins.expect_synced();
            }
        }
    }
}

#[test]
fn a_conversion_of_names_is_refused_wherever_it_is_asked_for() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync converts");
    }
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("f", b"x");
    let conversion = ("RSYNC_ICONV", "utf8,latin1");
    let [_, ours] = push_with(&twins, conversion, &["-a"]);
    assert!(ours.code == 4 && ours.stderr.contains("RSYNC_ICONV"), "{ours:?}");
    for option in ["--no-iconv", "--iconv=-"] {
        let [stock, ours] = push_with(&twins, conversion, &["-a", option]);
        assert_eq!((stock.code, ours.code), (0, 0), "{ours:?}");
    }
}

#[test]
fn the_port_is_that_of_the_address_before_that_of_the_option() {
    let scratch = Scratch::new("port");
    Tree::at(&scratch.dir("source")).file("f", b"x");
    let module = Module::new("m", &scratch.dir("d"));
    let daemon = needs!(Rsyncd::start(Release::Installed, [module]));
    let (_, port) = daemon
        .address()
        .rsplit_once(':')
        .map(|(host, port)| (host.to_owned(), port.to_owned()))
        .expect("host:port");
    let option = format!("--port={port}");
    for (client, name) in both() {
        let run = |options: &[&str], to: &str| {
            let words = [&["-a"], options, &["source/", to]].concat();
            client.run_in(Some(scratch.path()), words)
        };
        run(&[&option], &format!("127.0.0.1::m/{name}")).expect(0);
        run(&["--port", &port], &format!("rsync://127.0.0.1/m/{name}")).expect(0);
        run(&["--port=1"], &daemon.url("m")).expect(0);
        run(&["--port=1"], "127.0.0.1::m").expect(10);
        assert!(scratch.path().join("d").join(name).join("f").exists());
    }
}

#[test]
fn options_of_a_daemon_mean_nothing_to_a_remote_shell() {
    let scratch = Scratch::new("shell");
    Tree::at(&scratch.dir("source")).file("f", b"x");
    fs::write(scratch.path().join("password"), "secret\n").expect("scratch is writable");
    for option in ["--password-file=password", "--contimeout=3"] {
        let ends = both().map(|(client, _)| {
            let line = ["-a", "--rsh=false", option, "source/", "host:d"];
            client.run_in(Some(scratch.path()), line).expect(1)
        });
        let said = ends[0].stderr.lines().next().expect("rsync says why");
        assert!(ends[1].stderr.contains(said), "{said:?} is not in\n{}", ends[1].stderr);
    }
}

#[test]
fn a_list_of_names_at_the_other_side_is_refused_by_name() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync reads it there");
    }
    let scratch = Scratch::new("list");
    Tree::at(&scratch.dir("source")).file("f", b"x");
    for list in [":list", "host:list"] {
        let option = format!("--files-from={list}");
        let outcome = Client::under_test().run_in(Some(scratch.path()), ["-a", &option, "source/", "host:d"]);
        assert!(outcome.code == 4 && outcome.stderr.contains("--files-from=-"), "{outcome:?}");
    }
}

#[test]
fn the_program_that_connects_may_be_run_by_another_shell() {
    let scratch = Scratch::new("shell");
    let shell = scratch.script("shell", "#!/bin/sh\necho \"$2\" > seen\nexit 3\n");
    Tree::at(&scratch.dir("source")).file("f", b"x");
    for (client, name) in both() {
        let client = client.with_env("RSYNC_CONNECT_PROG", "connect %H");
        let client = client.with_env("RSYNC_SHELL", &shell.display().to_string());
        let outcome = client.run_in(Some(scratch.path()), ["-a", "source/", "rsync://somewhere/m/"]);
        // Stock rsync's code depends on whether it writes before it reads that the other side is gone.
        assert!(outcome.code == 5 || name == "stock" && outcome.code > 0, "{outcome:?}");
        let seen = fs::read_to_string(scratch.path().join("seen")).expect("it ran");
        assert!(seen.starts_with("connect ") && seen.contains("somewhere"), "{seen}");
        fs::remove_file(scratch.path().join("seen")).expect("it was there");
    }
}
