//! From the first byte to the file list: passwords, early starts, remembered daemons, shells and listings.

use super::*;

#[test]
fn a_password_answers_the_challenge_with_the_strongest_digest() {
    let mut config = captured_config();
    (config.user, config.password) = (Some(b"joe".to_vec()), Some(b"secret".to_vec()));
    let mut driver = Driver::new(config, &["hello.txt"]);
    driver.hear(b"@RSYNCD: 31.0 sha256 md5\n").unwrap();
    assert_eq!(driver.take_written(), OPENING);
    driver.hear(b"@RSYNCD: AUTHREQD abc+/\n").unwrap();
    let response = crate::proto::auth::AuthDigest::Sha256.respond(b"secret", b"abc+/");
    assert_eq!(driver.take_written(), format!("joe {response}\n").into_bytes());
    let error = driver.hear(b"@ERROR: auth failed on module m\n").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::START_CLIENT);
    assert_eq!(error.to_string(), "authentication: daemon answered @ERROR: auth failed on module m");
}

#[test]
fn a_password_may_be_given_when_it_is_asked_for_and_only_then() {
    let mut driver = captured();
    driver.client.give_password(b"secret").unwrap_err();
    let mut driver = captured();
    driver.hear(b"@RSYNCD: 31.0 sha256 md5\n").unwrap();
    driver.take_written();
    driver.hear(b"@RSYNCD: AUTHREQD abc+/\n").unwrap();
    assert_eq!(driver.events, [Event::PasswordWanted]);
    driver.client.give_password(b"secret").unwrap();
    driver.write();
    let response = crate::proto::auth::AuthDigest::Sha256.respond(b"secret", b"abc+/");
    assert_eq!(driver.take_written(), format!("nobody {response}\n").into_bytes());
    driver.client.give_password(b"secret").unwrap_err();
}

#[test]
fn what_was_said_ahead_of_a_challenge_cannot_be_followed_by_a_password() {
    let mut driver = Driver::new(Config { eager: true, ..captured_config() }, &["hello.txt"]);
    driver.hear(&[GREETING, b"@RSYNCD: AUTHREQD x\n"].concat()).unwrap();
    assert_eq!(driver.events, [Event::PasswordWanted]);
    let error = driver.client.give_password(b"secret").unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Misuse(_)), "{error}");
}

#[test]
fn an_eager_session_sends_its_arguments_with_the_module() {
    let mut driver = Driver::new(Config { eager: true, ..captured_config() }, &["hello.txt"]);
    driver.write();
    let written = driver.take_written();
    assert!(written.starts_with(&[OPENING, b"--server\0"].concat()));
    driver.hear(GREETING).unwrap();
    driver.hear(b"@RSYNCD: OK\n").unwrap();
    assert!(driver.take_written().is_empty());
}

#[test]
fn an_eager_session_with_a_password_sends_its_arguments_with_the_response() {
    let mut config = Config { eager: true, ..captured_config() };
    config.password = Some(b"secret".to_vec());
    let mut driver = Driver::new(config, &["hello.txt"]);
    driver.hear(GREETING).unwrap();
    assert_eq!(driver.take_written(), OPENING);
    driver.hear(b"@RSYNCD: AUTHREQD abc\n").unwrap();
    let written = driver.take_written();
    let line = written.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    assert!(written[line..].starts_with(b"--server\0"));
    driver.hear(b"@RSYNCD: OK\n").unwrap();
    assert!(driver.take_written().is_empty());
}

/// A session that begins with the dialect of [`SETUP`], so that all is said at once.
fn remembering(password: Option<&[u8]>) -> Driver {
    let mut first = captured();
    to_list(&mut first);
    let known = first.client.dialect().cloned();
    let password = password.map(<[u8]>::to_vec);
    Driver::new(Config { known, password, ..captured_config() }, &["hello.txt"])
}

const ARGUMENTS: &[u8] = b"--server\0-te.LsfxCIvu\0--checksum-seed=305419896\0.\0m/sub/\0\0";
const LIST: &[u8] =
    b"\x06xxh128\x1d\0\0\x07\xa0\x18\x09hello.txt\x00\x0d\x00\x66\xd9\x81\x38\xe7\x15\xcd\x5b\
                      \xa4\x81\0\0\0\0";

#[test]
fn a_session_that_remembers_the_daemon_says_all_at_once() {
    let mut driver = remembering(None);
    driver.write();
    assert_eq!(driver.take_written(), [OPENING, ARGUMENTS, LIST].concat());
    assert_eq!(driver.client.stage(), Stage::Greeting);
    driver.hear(&captured_bytes()).unwrap();
    assert_eq!(driver.finished().unwrap().exit, ExitCode::OK);
}

/// How often one side waits for the other until the first file is wanted: each side takes all that the other has said,
/// then says all that it can. A connection costs one round trip before that.
fn round_trips(config: Config) -> usize {
    let mut driver = Driver::new(config, &["hello.txt"]);
    let asks = driver.client.config.password.is_some();
    // What the daemon waits for, and what it says then.
    let mut script = vec![(OPENING, if asks { &b"@RSYNCD: AUTHREQD abc\n"[..] } else { b"@RSYNCD: OK\n" })];
    let response = crate::proto::auth::AuthDigest::Sha512.respond(b"secret", b"abc");
    let response = format!("nobody {response}\n").into_bytes();
    if asks {
        script.push((&response, b"@RSYNCD: OK\n"));
    }
    script.extend([(ARGUMENTS, SETUP), (LIST, REQUEST)]);
    let (mut script, mut heard, mut said) = (script.into_iter().peekable(), Vec::new(), GREETING.to_vec());
    for turn in 1.. {
        driver.write();
        heard.extend(driver.take_written());
        while let Some((wanted, answer)) = script.next_if(|(wanted, _)| heard.starts_with(wanted)) {
            heard.drain(..wanted.len());
            said.extend_from_slice(answer);
        }
        driver.hear(&std::mem::take(&mut said)).unwrap();
        if driver.events.iter().any(|event| matches!(event, Event::Request(_))) {
            return turn;
        }
    }
    unreachable!("turns never end")
}

#[test]
fn no_wait_is_longer_than_the_protocol_forces() {
    let known = remembering(None).client.dialect().cloned();
    let password = Some(b"secret".to_vec());
    let eager = Config { eager: true, ..captured_config() };
    assert_eq!(round_trips(captured_config()), 3);
    assert_eq!(round_trips(eager.clone()), 2);
    assert_eq!(round_trips(Config { known: known.clone(), ..captured_config() }), 1);
    assert_eq!(round_trips(Config { password: password.clone(), ..captured_config() }), 4);
    assert_eq!(round_trips(Config { password: password.clone(), ..eager }), 3);
    assert_eq!(round_trips(Config { known, password, ..captured_config() }), 2);
}

#[test]
fn a_session_that_remembers_the_daemon_says_the_rest_with_its_response() {
    let mut driver = remembering(Some(b"secret"));
    driver.hear(GREETING).unwrap();
    assert_eq!(driver.take_written(), OPENING);
    driver.hear(b"@RSYNCD: AUTHREQD abc\n").unwrap();
    assert!(driver.take_written().ends_with(&[b"\n", ARGUMENTS, LIST].concat()));
    driver.hear(&[b"@RSYNCD: OK\n", SETUP, REQUEST, DONE, DONES, DONE].concat()).unwrap();
    assert_eq!(driver.finished().unwrap().exit, ExitCode::OK);
}

#[test]
fn a_daemon_that_speaks_otherwise_than_remembered_is_noticed() {
    for setup in [
        &b"\x3e\x78\x56\x34\x12"[..],
        b"\x81\xfe\x0axxh64 none\x78\x56\x34\x12",
        b"\x81\xde\x23xxh128 xxh3 xxh64 md5 md4 sha1 none\x78\x56\x34\x12",
    ] {
        let mut driver = remembering(None);
        let error = driver.hear(&[GREETING, b"@RSYNCD: OK\n", setup].concat()).unwrap_err();
        assert_eq!((error.stage, error.kind), (Stage::Setup, ErrorKind::Changed));
    }
    let mut driver = remembering(None);
    let error = driver.hear(b"@RSYNCD: 32.0 md5\n@ERROR: Unknown module 'm'\n").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::START_CLIENT);
}

#[test]
fn early_input_comes_before_the_module() {
    let config = Config { early_input: b"a\0b".to_vec(), ..captured_config() };
    let mut driver = Driver::new(config, &["hello.txt"]);
    driver.write();
    assert!(driver.take_written().ends_with(b" md5\n#early_input=3\na\0bm\n"));
    let config = Config { early_input: vec![0; 5121], ..captured_config() };
    assert!(Client::new(config).is_err());
}

#[test]
fn a_server_behind_a_remote_shell_is_told_a_version_and_no_module() {
    let config = Config { peer: Peer::Server, ..captured_config() };
    let mut driver = Driver::new(config, &["hello.txt"]);
    driver.write();
    assert_eq!(driver.take_written(), b"\x20\0\0\0");
    driver.hear(b"\x1f\0").unwrap();
    driver.hear(b"\0\0").unwrap();
    driver.hear(SETUP).unwrap();
    assert!(driver.take_written().starts_with(b"\x06xxh128\x1d\0\0\x07"));
    let dialect = driver.client.dialect().unwrap();
    assert_eq!((dialect.protocol, dialect.daemon_protocol), (Protocol::V31, 31));
    driver.hear(&[REQUEST, DONE, DONES, DONE].concat()).unwrap();
    assert_eq!(driver.finished().unwrap().exit, ExitCode::OK);
}

#[test]
fn a_secluded_server_reads_its_arguments_before_its_version() {
    let config = Config { peer: Peer::Server, secluded: true, ..captured_config() };
    let mut driver = Driver::new(config, &["hello.txt"]);
    driver.write();
    let expected = b"rsync\0--checksum-seed=305419896\0.\0sub/\0\0\x20\0\0\0";
    assert_eq!(driver.take_written(), expected);
}

#[test]
fn what_a_login_script_says_is_no_version() {
    let mut driver = Driver::new(Config { peer: Peer::Server, ..captured_config() }, &["hello.txt"]);
    let error = driver.hear(b"Welcome!\n").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::PROTOCOL);
    assert!(error.to_string().contains("\"Welc\" (is your shell clean?)"), "{error}");
    let mut driver = Driver::new(Config { peer: Peer::Server, ..captured_config() }, &["hello.txt"]);
    let error = driver.hear(b"\x1d\0\0\0").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::UNSUPPORTED);
}

#[test]
fn a_tls_alert_in_place_of_a_greeting_tells_what_to_do() {
    let mut driver = captured();
    let error = driver.hear(b"\x15\x03\x01\0\x02\x02\x46").unwrap_err();
    assert!(error.to_string().contains("rsyncs://"), "{error}");
}

#[test]
fn modules_are_listed_when_none_is_named() {
    let mut driver = Driver::new(Config::new("", "", ServerOptions::default()), &["hello.txt"]);
    driver.hear(GREETING).unwrap();
    assert_eq!(driver.take_written(), b"@RSYNCD: 32.0 sha512 sha256 sha1 md5\n#list\n");
    driver.hear(b"m              \tthe module\n@RSYNCD: EXIT\n").unwrap();
    assert_eq!(driver.events[0], Event::Listing(b"m              \tthe module".to_vec()));
    assert_eq!(driver.finished().unwrap().exit, ExitCode::OK);
}
