//! TLS proxies as rsync's documentation sets them up: sessions through them work, and what is wrong with a certificate
//! is told with what to do about it. With stock rsync in our place, its own script `rsync-ssl` speaks TLS, and only sessions that
//! work are tried: the script's helper may outlive one that does not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use ebbtide_tests::{
    Authority, Client, Identity, Module, Outcome, Referee, Release, Rsyncd, Scratch, Skip, TlsProxy, Tree,
    bytes, mib, needs,
};

/// A kind of proxy.
type Start = fn(&str, &Identity, Option<&Authority>) -> Result<TlsProxy, Skip>;

const PROXIES: [(&str, Start); 2] = [("stunnel", TlsProxy::stunnel), ("haproxy", TlsProxy::haproxy)];

/// Someone with something to push, and a daemon for it.
struct World {
    daemon: Rsyncd,
    scratch: Scratch,
}

impl World {
    fn new() -> Result<World, Skip> {
        let scratch = Scratch::new("tls");
        Tree::rich(&scratch.dir("source"));
        let modules = [
            Module::new("m", &scratch.dir("d")).chroot(true),
            Module::new("secret", &scratch.dir("s")).chroot(true).password("alice", "wonder"),
        ];
        Ok(World { daemon: Rsyncd::start(Release::Installed, modules)?, scratch })
    }

    /// Pushes with `options`, trusting `ca` and showing `identity`.
    fn push(&self, url: &str, ca: Option<&Path>, identity: Option<&Identity>, options: &[&str]) -> Outcome {
        let source = format!("{}/source/", self.scratch.path().display());
        if Client::under_test().is_ours() {
            let mut line: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            line.extend(ca.map(|file| format!("--tls-ca={}", file.display())));
            if let Some(identity) = identity {
                line.push(format!("--tls-cert={}", identity.certificate.display()));
                line.push(format!("--tls-key={}", identity.key.display()));
            }
            return Client::under_test().run(line.into_iter().chain([source, url.to_owned()]));
        }
        let mut client = Client::stock().with_env("RSYNC_SSL_TYPE", "openssl");
        if let Some(ca) = ca {
            client = client.with_env("RSYNC_SSL_CA_CERT", &ca.display().to_string());
        }
        if let Some(identity) = identity {
            client = client.with_env("RSYNC_SSL_CERT", &identity.certificate.display().to_string());
            client = client.with_env("RSYNC_SSL_KEY", &identity.key.display().to_string());
        }
        let shell = ["--rsh=rsync-ssl --HELPER".to_owned(), source, url.replacen("rsyncs", "rsync", 1)];
        client.run(options.iter().map(|option| (*option).to_owned()).chain(shell))
    }

    /// Expects a push to fail, and our message to hold these words.
    fn expect_refused(&self, url: &str, ca: Option<&Path>, identity: Option<&Identity>, words: &[&str]) {
        if !Client::under_test().is_ours() {
            return;
        }
        let outcome = self.push(url, ca, identity, &["-a", "--contimeout=120"]).expect(5);
        for word in words {
            assert!(outcome.stderr.contains(word), "{word:?} is not in: {}", outcome.stderr);
        }
    }
}

#[test]
fn a_tree_goes_through_either_proxy_and_arrives_whole() {
    let world = needs!(World::new());
    Tree::at(&world.scratch.path().join("source")).file("large", bytes(7, mib(9)));
    let authority = Authority::new("test authority");
    let server = authority.sign(&["localhost", "127.0.0.1"]);
    for (name, start) in PROXIES {
        let proxy = needs!(start(&world.daemon.address(), &server, None));
        // The stock client's script has openssl compare names only, not addresses.
        let hosts =
            if Client::under_test().is_ours() { &["localhost", "127.0.0.1"][..] } else { &["localhost"] };
        for host in hosts {
            Tree::at(&world.scratch.path().join("source")).file(format!("{name} {host}"), b"another");
            let url = proxy.url(host, "m");
            world.push(&url, Some(authority.certificate()), None, &["-aH", "--delete"]).expect(0);
            let (source, destination) = (world.scratch.path().join("source"), world.scratch.path().join("d"));
            Referee::default().expect_equal(&source, &destination);
        }
    }
}

#[test]
fn a_password_and_compression_travel_inside_of_tls() {
    let world = needs!(World::new());
    let authority = Authority::new("test authority");
    let proxy = needs!(TlsProxy::stunnel(&world.daemon.address(), &authority.sign(&["localhost"]), None));
    let url = proxy.url("alice@localhost", "secret");
    let password = format!("--password-file={}", world.daemon.password_file("secret").display());
    world.push(&url, Some(authority.certificate()), None, &["-aHz", &password]).expect(0);
    Referee::default().expect_equal(&world.scratch.path().join("source"), &world.scratch.path().join("s"));
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let world = needs!(World::new());
    let authority = Authority::new("test authority");
    let proxy =
        needs!(TlsProxy::stunnel(&world.daemon.address(), &authority.sign(&["backup.example"]), None));
    let words = ["certificate of localhost", "backup.example", "use the name that the certificate has"];
    world.expect_refused(&proxy.url("localhost", "m"), Some(authority.certificate()), None, &words);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let world = needs!(World::new());
    let (authority, other) = (Authority::new("test authority"), Authority::new("another authority"));
    let proxy = needs!(TlsProxy::stunnel(&world.daemon.address(), &authority.sign(&["localhost"]), None));
    let words = ["certificate of localhost is signed by nobody", "--tls-ca"];
    world.expect_refused(&proxy.url("localhost", "m"), Some(other.certificate()), None, &words);
    world.expect_refused(&proxy.url("localhost", "m"), None, None, &words);
}

#[test]
fn a_certificate_that_has_expired_is_refused() {
    let world = needs!(World::new());
    let authority = Authority::new("test authority");
    let server = authority.sign_until(&["localhost"], 2020);
    let proxy = needs!(TlsProxy::haproxy(&world.daemon.address(), &server, None));
    let words = ["certificate of localhost has expired", "renew it"];
    world.expect_refused(&proxy.url("localhost", "m"), Some(authority.certificate()), None, &words);
}

#[test]
fn a_certificate_that_signed_itself_is_known_by_itself_and_only_for_its_name() {
    let world = needs!(World::new());
    let authority = Authority::new("nobody");
    let server = authority.self_signed(&["localhost"]);
    let proxy = needs!(TlsProxy::stunnel(&world.daemon.address(), &server, None));
    let ca = Some(server.certificate.as_path());
    world.push(&proxy.url("localhost", "m"), ca, None, &["-aH"]).expect(0);
    world.expect_refused(&proxy.url("127.0.0.1", "m"), ca, None, &["certificate of 127.0.0.1", "localhost"]);
    let other = authority.self_signed(&["localhost", "other"]);
    world.expect_refused(&proxy.url("localhost", "m"), Some(&other.certificate), None, &["localhost"]);
}

#[test]
fn a_client_certificate_is_shown_where_it_is_wanted() {
    let world = needs!(World::new());
    let (authority, clients) = (Authority::new("test authority"), Authority::new("client authority"));
    let (server, good) = (authority.sign(&["localhost"]), clients.sign(&["client"]));
    let stranger = authority.sign(&["stranger"]);
    for (_, start) in PROXIES {
        let proxy = needs!(start(&world.daemon.address(), &server, Some(&clients)));
        let (url, ca) = (proxy.url("localhost", "m"), Some(authority.certificate()));
        world.push(&url, ca, Some(&good), &["-aH"]).expect(0);
        world.expect_refused(&url, ca, None, &["client certificate", "--tls-cert"]);
        world.expect_refused(&url, ca, Some(&stranger), &["client certificate"]);
    }
}

#[test]
fn a_daemon_without_tls_is_told_from_one_with_it() {
    let world = needs!(World::new());
    let authority = Authority::new("test authority");
    let url = format!("rsyncs://{}/m/", world.daemon.address());
    let words = ["speaks rsync without TLS", "rsync://"];
    world.expect_refused(&url, Some(authority.certificate()), None, &words);
}

#[test]
fn a_tls_proxy_is_told_from_a_daemon_without_tls() {
    let world = needs!(World::new());
    let authority = Authority::new("test authority");
    for (name, start) in PROXIES {
        let proxy = needs!(start(&world.daemon.address(), &authority.sign(&["localhost"]), None));
        let source = format!("{}/source/", world.scratch.path().display());
        let url = format!("rsync://localhost:{}/m/", proxy.port());
        let outcome = Client::under_test().run(["-a", "--contimeout=120", "--timeout=120", &source, &url]);
        assert!([2, 5, 12].contains(&outcome.code), "{name}: {outcome:?}");
        if Client::under_test().is_ours() {
            assert!(outcome.stderr.contains("rsyncs://"), "{name}: {outcome:?}");
        }
    }
}

#[test]
fn a_handshake_that_never_ends_is_given_up_after_contimeout() {
    if !Client::under_test().is_ours() {
        return;
    }
    let world = needs!(World::new());
    let authority = Authority::new("test authority");
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("rsyncs://{}/m/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Hears the client out, and says nothing.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    world.push(&url, Some(authority.certificate()), None, &["-a", "--contimeout=1"]).expect(35);
    server.join().unwrap();
}

#[test]
fn a_file_that_holds_no_certificate_is_named() {
    let world = needs!(World::new());
    let authority = Authority::new("test authority");
    let empty = world.scratch.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let url = "rsyncs://127.0.0.1:1/m/";
    world.expect_refused(url, Some(&empty), None, &["empty.pem", "PEM"]);
    let missing = world.scratch.path().join("missing.pem");
    world.expect_refused(url, Some(&missing), None, &["missing.pem", "No such file"]);
    let odd = Identity { key: empty, ..authority.sign(&["client"]) };
    world.expect_refused(url, Some(authority.certificate()), Some(&odd), &["empty.pem", "passphrase"]);
}

#[test]
fn a_peer_that_stops_in_the_midst_of_the_handshake_is_told_from_one_that_is_silent() {
    if !Client::under_test().is_ours() {
        return;
    }
    let world = needs!(World::new());
    let authority = Authority::new("test authority");
    for (said, word) in [(&b""[..], "when TLS was to begin"), (b"\x16\x03\x03", "during the TLS handshake")] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("rsyncs://{}/m/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 64];
            stream.read_exact(&mut hello).unwrap();
            stream.write_all(said).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        world.expect_refused(&url, Some(authority.certificate()), None, &[word]);
        server.join().unwrap();
    }
}
