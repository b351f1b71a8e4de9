//! Ways to a daemon other than a plain connection: a web proxy, chosen addresses and socket options, a limit of the
//! rate, and input for the daemon's hook.

#![allow(clippy::unwrap_used, reason = "what fails in a helper of a test fails the test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use ebbtide_tests::{Client, Module, Outcome, Release, Rsyncd, Scratch, Tree, Twins, bytes, kib, needs};

/// A web proxy for one connection. Its thread returns what the client asked for.
struct WebProxy {
    address: String,
    thread: JoinHandle<String>,
}

impl WebProxy {
    /// One that answers `status`, and connects to `daemon` if that is a success.
    fn answering(status: &'static str, daemon: String) -> WebProxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            // Not one byte more than the header: what follows is the daemon's.
            let mut header = Vec::new();
            while !header.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                header.push(byte[0]);
            }
            write!(client, "HTTP/1.1 {status}\r\nVia: test\r\n\r\n").unwrap();
            if status.starts_with('2') {
                join(&client, &TcpStream::connect(daemon).unwrap());
            }
            String::from_utf8(header).unwrap()
        });
        WebProxy { address, thread }
    }
}

/// Passes bytes in both directions until both end.
fn join(one: &TcpStream, other: &TcpStream) {
    let pump = |from: &TcpStream, to: &TcpStream| {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    let pumps = [pump(one, other), pump(other, one)];
    pumps.into_iter().for_each(|pump| pump.join().unwrap());
}

fn both() -> [(Client, &'static str); 2] {
    [(Client::stock(), "stock"), (Client::under_test(), "ours")]
}

fn source(twins: &Twins) -> String {
    format!("{}/", twins.source_path().display())
}

#[test]
fn a_web_proxy_is_asked_for_the_daemon_with_credentials() {
    let twins = needs!(Twins::with(Release::Installed, |module| module.chroot(true)));
    Tree::rich(&twins.source_path());
    let asked = both().map(|(client, module)| {
        let proxy = WebProxy::answering("200 Connection established", twins.daemon().address());
        let client = client.with_env("RSYNC_PROXY", &format!("me:secret@{}", proxy.address));
        client.run(["-aH", &source(&twins), &twins.daemon().url(module)]).expect(0);
        proxy.thread.join().unwrap()
    });
    assert_eq!(asked[0], asked[1]);
    assert!(asked[1].contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{}", asked[1]);
    twins.expect_synced();
}

#[test]
fn a_web_proxy_that_refuses_ends_with_10() {
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("f", b"x");
    let ends = both().map(|(client, module)| {
        let proxy = WebProxy::answering("407 Proxy Authentication Required", String::new());
        let client = client.with_env("RSYNC_PROXY", &proxy.address);
        let outcome = client.run(["-a", &source(&twins), &twins.daemon().url(module)]);
        proxy.thread.join().unwrap();
        outcome.expect(10)
    });
    assert!(ends[1].stderr.contains("407 Proxy Authentication Required"), "{:?}", ends[1]);
    for (client, module) in both() {
        let client = client.with_env("RSYNC_PROXY", "no-port");
        let outcome = client.run(["-a", &source(&twins), &twins.daemon().url(module)]).expect(10);
        assert!(outcome.stderr.contains("invalid proxy specification"), "{outcome:?}");
    }
}

#[test]
fn a_host_with_several_addresses_is_tried_at_each() {
    // The daemon listens on 127.0.0.1; localhost may be ::1 first.
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("f", b"x");
    let address = twins.daemon().address().replace("127.0.0.1", "localhost");
    for (client, module) in both() {
        let url = twins.daemon().url_at(module, &address);
        client.run(["-a", &source(&twins), &url]).expect(0);
        client.run(["-a4", &source(&twins), &url]).expect(0);
        client.run(["-a6", &source(&twins), &url]).expect(10);
    }
}

#[test]
fn an_address_to_come_from_is_used() {
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("f", b"x");
    for (client, module) in both() {
        let url = twins.daemon().url(module);
        client.run(["-a", "--address=127.0.0.9", &source(&twins), &url]).expect(0);
        client.run(["-a", "--address=192.0.2.1", &source(&twins), &url]).expect(10);
    }
    let seen = twins.daemon().log().matches("(127.0.0.9)").count();
    assert!(seen >= 2, "{}", twins.daemon().log());
}

#[test]
fn socket_options_are_set_by_name() {
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("f", bytes(1, kib(900)));
    let options = "--sockopts=SO_SNDBUF=65536,SO_KEEPALIVE TCP_NODELAY=1 IPTOS_THROUGHPUT";
    twins.expect_same(&["-ai", options]);
    if Client::under_test().is_ours() {
        // The stock client says the same and goes on.
        let url = twins.daemon().url("ours");
        let outcome = Client::under_test().run(["-a", "--sockopts=SO_FAST", &source(&twins), &url]).expect(1);
        assert!(outcome.stderr.contains("Unknown socket option SO_FAST"), "{outcome:?}");
    }
}

#[test]
fn a_limit_of_the_rate_is_kept_and_loses_nothing() {
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("f", bytes(1, kib(1500)));
    let start = Instant::now();
    twins.expect_same(&["-a", "--bwlimit=1m"]);
    // Two pushes of 1.5 MiB at 1 MiB/s each: sooner would be faster than allowed; later says nothing.
    assert!(start.elapsed().as_secs_f64() > 2.5, "{:?}", start.elapsed());
    twins.expect_synced();
}

#[test]
fn early_input_reaches_the_hook() {
    let scratch = Scratch::new("early");
    let seen = scratch.path().join("seen");
    let hook = scratch.script("hook", &format!("#!/bin/sh\ncat > {}\n", seen.display()));
    let module = Module::new("m", &scratch.dir("d")).option("early exec", &hook.display().to_string());
    let daemon = needs!(Rsyncd::start(Release::Installed, [module]));
    Tree::at(&scratch.dir("source")).file("f", b"x");
    let input = scratch.path().join("input");
    fs::write(&input, "for the hook\nand more").unwrap();
    let option = format!("--early-input={}", input.display());
    let run = |option: &str| -> Outcome {
        let source = format!("{}/source/", scratch.path().display());
        Client::under_test().run(["-a", option, &source, &daemon.url("m")])
    };
    run(&option).expect(0);
    assert_eq!(fs::read_to_string(&seen).unwrap(), "for the hook\nand more");
    fs::write(&input, vec![b'x'; 6000]).unwrap();
    run(&option).expect(5);
    run("--early-input=/does/not/exist").expect(5);
}

#[test]
fn the_user_of_the_environment_is_named_when_the_address_names_none() {
    let scratch = Scratch::new("user");
    let module = Module::new("m", &scratch.dir("d")).password("alice", "right");
    let daemon = needs!(Rsyncd::start(Release::Installed, [module]));
    Tree::at(&scratch.dir("source")).file("f", b"x");
    let source = format!("{}/source/", scratch.path().display());
    let url = format!("rsync://{}/m/", daemon.address());
    let run = |user: &str, logname: &str| {
        let client = Client::under_test().with_env("RSYNC_PASSWORD", "right");
        client.with_env("USER", user).with_env("LOGNAME", logname).run(["-a", &source, &url])
    };
    run("alice", "bob").expect(0);
    run("bob", "alice").expect(5);
}

#[test]
fn the_header_of_a_proxy_is_read_to_its_last_byte_and_no_further() {
    // The greeting comes in the same packet as the header.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(b"HTTP/1.0 200 OK\r\n\r\n@RSYNCD: 32.0 md5\n@ERROR: it is closed\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        BufReader::new(client).lines().map_while(Result::ok).count()
    });
    let scratch = Scratch::new("header");
    Tree::at(&scratch.dir("source")).file("f", b"x");
    let source = format!("{}/source/", scratch.path().display());
    let client = Client::under_test().with_env("RSYNC_PROXY", &address);
    let outcome = client.run(["-a", &source, "rsync://127.0.0.1:1/m/"]).expect(5);
    assert!(outcome.stderr.contains("it is closed"), "{outcome:?}");
    thread.join().unwrap();
}
