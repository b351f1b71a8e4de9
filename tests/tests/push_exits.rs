//! What goes wrong ends with the exit code that scripts know from rsync, and says where and why.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use ebbtide_tests::{
    Client, FileSystem, HostileDaemon, Kind, Module, Outcome, Port, Proxy, Referee, Release, Rsyncd, Scratch,
    Stage, Step, Tree, Twins, beyond_stock, bytes, honest_until, mib, needs, program, skip,
};

/// Runs both clients with the same arguments and expects the same code; ours must say something, too.
#[track_caller]
fn same_end(arguments: &[&str], code: i32) -> Outcome {
    let stock = Client::stock().run(arguments);
    assert!(beyond_stock(&stock) || stock.code == code, "stock rsync: {stock:?}");
    let ours = Client::under_test().run(arguments).expect(code);
    assert!(!ours.stderr.trim().is_empty(), "failed without a word");
    ours
}

/// A source with one file.
fn source(scratch: &Scratch) -> String {
    let path = scratch.dir("source");
    Tree::at(&path).file("file", b"content");
    format!("{}/", path.display())
}

#[test]
fn a_wrong_password_an_unknown_user_and_an_unknown_module_end_with_5() {
    for release in Release::ALL {
        let scratch = Scratch::new("exits");
        let module = Module::new("m", &scratch.dir("d")).password("alice", "right");
        let daemon = needs!(Rsyncd::start(release, [module]));
        let (source, address) = (source(&scratch), daemon.address());
        let wrong = scratch.path().join("wrong");
        fs::write(&wrong, "wrong\n").unwrap();
        fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let wrong = format!("--password-file={}", wrong.display());
        let right = format!("--password-file={}", daemon.password_file("m").display());
        let ours = same_end(&["-a", &wrong, &source, &daemon.url("m")], 5);
        assert!(ours.stderr.contains("auth failed"), "{ours:?}");
        same_end(&["-a", &right, &source, &format!("rsync://bob@{address}/m/")], 5);
        let ours = same_end(&["-a", &source, &format!("rsync://{address}/nothing/")], 5);
        assert!(ours.stderr.contains("Unknown module 'nothing'"), "{ours:?}");
    }
}

#[test]
fn a_password_file_that_others_can_read_is_refused() {
    let scratch = Scratch::new("exits");
    let module = Module::new("m", &scratch.dir("d")).password("alice", "right");
    let daemon = needs!(Rsyncd::start(Release::Installed, [module]));
    let password = daemon.password_file("m");
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let password = format!("--password-file={}", password.display());
    same_end(&["-a", &password, &source(&scratch), &daemon.url("m")], 1);
}

#[test]
fn a_password_counts_only_where_one_is_wanted() {
    let scratch = Scratch::new("exits");
    let modules = [
        Module::new("open", &scratch.dir("o")),
        Module::new("m", &scratch.dir("d")).password("alice", "right"),
    ];
    let daemon = needs!(Rsyncd::start(Release::Installed, modules));
    let source = source(&scratch);
    for client in [Client::stock(), Client::under_test()] {
        client.run(["-a", "--password-file=/does/not/exist", &source, &daemon.url("open")]).expect(0);
    }
    let ours = same_end(&["-a", "--password-file=/does/not/exist", &source, &daemon.url("m")], 1);
    assert!(ours.stderr.contains("could not open password file /does/not/exist"), "{ours:?}");
}

#[test]
fn a_log_that_cannot_be_written_is_told_and_stops_nothing() {
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("file", b"x");
    let pair = twins.expect_same(&["-ai", "--log-file=/does/not/exist"]);
    assert_eq!(pair.ours.code, 0, "{:?}", pair.ours);
    assert!(pair.ours.stderr.contains("failed to open log-file /does/not/exist"), "{:?}", pair.ours);
}

#[test]
fn a_read_only_module_ends_with_1_and_a_refused_option_with_4() {
    for release in Release::ALL {
        let scratch = Scratch::new("exits");
        let modules = [
            Module::new("ro", &scratch.dir("ro")).read_only(),
            Module::new("no", &scratch.dir("no")).refuse("delete"),
        ];
        let daemon = needs!(Rsyncd::start(release, modules));
        if !daemon.is_since((3, 2)) {
            skip!("this daemon closes before its reason is read");
        }
        let source = source(&scratch);
        let ours = same_end(&["-a", &source, &daemon.url("ro")], 1);
        assert!(ours.stderr.contains("read only"), "{ours:?}");
        let ours = same_end(&["-a", "--delete", &source, &daemon.url("no")], 4);
        assert!(ours.stderr.contains("refuse --delete"), "{ours:?}");
    }
}

#[test]
fn a_missing_source_is_partial_and_deletes_nothing() {
    let scratch = Scratch::new("exits");
    let destination = scratch.dir("d");
    Tree::at(&destination).file("kept", b"x");
    let daemon = needs!(Rsyncd::start(Release::Installed, [Module::new("m", &destination)]));
    let missing = format!("{}/missing/", scratch.path().display());
    same_end(&["-a", "--delete", &missing, &daemon.url("m")], 23);
    assert!(destination.join("kept").exists());
}

#[test]
fn a_bad_option_and_a_bad_url_are_the_users_fault() {
    let scratch = Scratch::new("exits");
    let source = source(&scratch);
    same_end(&["-a", "--frobnicate", &source, "rsync://127.0.0.1/m/"], 1);
    same_end(&["-a", "--compress-choice=snappy", &source, "rsync://127.0.0.1/m/"], 4);
    same_end(&["-a", "--checksum-choice=crc", &source, "rsync://127.0.0.1/m/"], 4);
    same_end(&["-a", "--debug=bogus", &source, "rsync://127.0.0.1/m/"], 1);
    same_end(&["-a", "--files-from=/does/not/exist", &source, "rsync://127.0.0.1/m/"], 1);
    let ours = same_end(&["-a", "host:x", "127.0.0.1::m"], 1);
    assert!(ours.stderr.contains("cannot both be remote"), "{ours:?}");
}

#[test]
fn a_port_where_nobody_listens_ends_with_10() {
    let scratch = Scratch::new("exits");
    let nobody = Port::new();
    let address = nobody.address();
    let ours = same_end(&["-a", &source(&scratch), &format!("rsync://{address}/m/")], 10);
    assert!(ours.stderr.contains(&address) || !Client::under_test().is_ours(), "{ours:?}");
}

#[test]
fn a_connection_that_nobody_takes_ends_with_35_after_contimeout() {
    let scratch = Scratch::new("exits");
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    // Fills the queue, so that the kernel lets further attempts hang.
    let _queue: Vec<_> = (0..2)
        .map_while(|_| TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300)).ok())
        .collect();
    same_end(&["-a", "--contimeout=1", &source(&scratch), &format!("rsync://{address}/m/")], 35);
}

#[test]
fn a_daemon_that_falls_silent_ends_with_30_after_timeout() {
    let scratch = Scratch::new("exits");
    let source = source(&scratch);
    for stage in [Stage::Setup, Stage::Items] {
        let script = honest_until(stage).into_iter().chain([Step::Hang]);
        let daemon = HostileDaemon::playing(script);
        same_end(&["-a", "--timeout=1", &source, &daemon.url()], 30);
    }
}

#[test]
fn a_file_that_vanishes_after_it_was_listed_ends_with_24() {
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        let codes = ["stock", "ours"].map(|module| {
            twins.source().file("stays", b"x").file("is-going-to-vanish", bytes(1, 3_000));
            let doomed = twins.source_path().join("is-going-to-vanish");
            let proxy = Proxy::when(&twins.daemon().address(), b"is-going-to-vanish", move || {
                fs::remove_file(doomed).expect("it is still there");
            });
            let client = if module == "stock" { Client::stock() } else { Client::under_test() };
            let url = twins.daemon().url_at(module, &proxy.address());
            client.run(["-a", &format!("{}/", twins.source_path().display()), &url]).code
        });
        assert_eq!(codes, [24, 24]);
        assert!(twins.ours().join("stays").exists() && !twins.ours().join("is-going-to-vanish").exists());
    }
}

#[test]
fn a_full_destination_ends_with_11() {
    let full = needs!(FileSystem::sized(Kind::Ext4, mib(16)));
    let daemon = needs!(Rsyncd::start(Release::Installed, [Module::new("m", full.root())]));
    let scratch = Scratch::new("exits");
    Tree::at(&scratch.dir("source")).file("too much", vec![7; mib(40)]);
    let source = format!("{}/source/", scratch.path().display());
    let ours = same_end(&["-a", &source, &daemon.url("m")], 11);
    assert!(ours.stderr.contains("No space left on device"), "{ours:?}");
}

#[test]
fn a_destination_whose_parents_are_missing_ends_as_rsync_ends() {
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("file", b"x");
    twins.expect_same_from(&["-a"], "source/", "one-missing/");
    twins.expect_same_from(&["-a"], "source/", "two/missing/");
}

#[test]
fn one_name_that_cannot_be_stored_is_partial_and_the_others_arrive() {
    let twins = needs!(Twins::with(Release::Installed, |module| module.option("exclude", "/refused")));
    twins.source().file("a", b"x").file("refused", b"y").file("z", b"z");
    let pair = twins.expect_same(&["-a"]);
    assert_eq!(pair.ours.code, 23, "{:?}", pair.ours);
    assert!(twins.ours().join("a").exists() && twins.ours().join("z").exists());
}

/// Stock rsync ends with 4 there, which is why this is about ours alone.
#[test]
fn a_refused_option_that_only_helps_is_left_out() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync gives up");
    }
    for release in Release::ALL {
        for (refused, option) in [("compress", "-z"), ("log-format", "-i"), ("stats", "--stats")] {
            let scratch = Scratch::new("refused");
            let (source, destination) = (scratch.dir("source"), scratch.dir("destination"));
            Tree::at(&source).file("file", bytes(1, 5_000));
            let module = Module::new("m", &destination).refuse(refused);
            let daemon = needs!(Rsyncd::start(release, [module]));
            if !daemon.is_since((3, 2)) {
                skip!("this daemon closes before its reason is read");
            }
            let from = format!("{}/", source.display());
            let outcome =
                Client::under_test().run(["-a", "--delete", option, &from, &daemon.url("m")]).expect(0);
            assert!(outcome.stderr.contains("going on without it"), "{refused}: {outcome:?}");
            Referee::default().expect_equal(&source, &destination);
        }
    }
}

/// What came on standard input is there for the second session, too.
#[test]
fn names_on_standard_input_are_sent_also_where_an_option_is_refused() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync gives up");
    }
    let scratch = Scratch::new("refused");
    let (source, destination) = (scratch.dir("source"), scratch.dir("destination"));
    Tree::at(&source).file("file", b"x");
    let daemon =
        needs!(Rsyncd::start(Release::Installed, [Module::new("m", &destination).refuse("compress")]));
    let mut pipe = Command::new("sh");
    pipe.args(["-c", "echo file | \"$0\" \"$@\""]).arg(program("ebbtide-send"));
    let ended = pipe.args(["-az", "--files-from=-"]).arg(&source).arg(daemon.url("m")).output();
    assert!(ended.as_ref().is_ok_and(|ended| ended.status.success()), "{ended:?}");
    // The directory itself is not in the list: its time is that of the push.
    Referee::with("-naHcO").expect_equal(&source, &destination);
}

#[test]
fn a_refused_option_that_matters_is_named() {
    for (refused, option) in [
        ("delete", "--delete"),
        ("checksum", "--checksum"),
        ("inplace", "--inplace"),
        ("remove-source-files", "--remove-source-files"),
    ] {
        let scratch = Scratch::new("refused");
        let (source, destination) = (scratch.dir("source"), scratch.dir("destination"));
        Tree::at(&source).file("file", bytes(1, 5_000));
        let daemon =
            needs!(Rsyncd::start(Release::Installed, [Module::new("m", &destination).refuse(refused)]));
        if !daemon.is_since((3, 2)) {
            skip!("this daemon closes before its reason is read");
        }
        let from = format!("{}/", source.display());
        let outcome = Client::under_test().run(["-a", option, &from, &daemon.url("m")]).expect(4);
        assert!(outcome.stderr.contains(&format!("refuse --{refused}")), "{outcome:?}");
    }
}
