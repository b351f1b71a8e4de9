//! The driver at moments that no peer can choose: the test acts between two steps.

use ebbtide_wire::proto::ServerOptions;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::advance;

use super::super::config;
use super::super::report::Silent;
use super::*;
use crate::transport::{Target, Wish, connect};

#[tokio::test(start_paused = true)]
async fn what_came_while_this_process_was_kept_from_running_is_read_before_a_daemon_is_taken_for_dead() {
    for (words, alive) in [(&b"@RSYNCD: 32.0 md5 md4\n"[..], true), (b"", false)] {
        let options = options().with_timeout(Duration::from_secs(60));
        let (mut driver, mut daemon) = connected(&options).await;
        if alive {
            daemon.write_all(words).await.unwrap();
            driver.stream.ready(true, false).await.unwrap();
        }
        advance(Duration::from_secs(61)).await;
        let outcome = driver.on_tick();
        assert_eq!(outcome.is_ok(), alive, "{outcome:?}");
        assert_eq!(driver.bytes_read, words.len() as u64);
    }
}

#[tokio::test]
async fn a_write_that_fails_after_the_daemons_last_word_is_no_failure() {
    for read_before in [false, true] {
        let options = options();
        let (mut driver, mut daemon) = connected(&options).await;
        daemon.write_all(b"@RSYNCD: 32.0 md5 md4\nm\tits comment\n@RSYNCD: EXIT\n").await.unwrap();
        reset(daemon);
        driver.stream.ready(true, false).await.unwrap();
        if read_before {
            driver.read().unwrap();
        }
        assert_eq!(driver.finished.is_some(), read_before);
        // What this side says unasked still waits, and nobody takes it any more.
        assert!(driver.has_output());
        let outcome = driver.write(true);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(driver.finished.is_some() && !driver.has_output());
    }
}

#[tokio::test]
async fn a_write_that_fails_before_the_daemons_last_word_is_one() {
    let options = options();
    let (mut driver, daemon) = connected(&options).await;
    reset(daemon);
    driver.stream.ready(true, false).await.unwrap();
    assert!(driver.write(true).is_err());
}

fn options() -> PushOptions {
    PushOptions::new(ServerOptions::default())
}

/// A session that asks a daemon for its modules and has done nothing yet, and the daemon's end.
async fn connected(options: &PushOptions) -> (Driver<'_>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("rsync://{}/", listener.local_addr().unwrap());
    let driver = driver(address.as_bytes(), options).await;
    (driver, listener.accept().await.unwrap().0)
}

async fn driver<'a>(address: &[u8], options: &'a PushOptions) -> Driver<'a> {
    let target = Target::parse(address).unwrap();
    let config = config(&target, options);
    let command = options.server.command(&config.path, false).unwrap();
    let wish = Wish { limit: None, bwlimit: None, command: Some(&command) };
    let stream = connect(&target, &options.way, &wish).await.unwrap();
    let (client, input) = (Client::new(config).unwrap(), Input::Whole(FileListInput::default()));
    // It has no size, so nothing is leaked.
    let observer = Box::leak(Box::new(Silent));
    Driver::new(stream, client, options, Instant::now(), input, Arc::new(Source::none()), observer)
}

/// Closes a connection so that whoever writes to it is told at once.
fn reset(peer: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer.into_std().unwrap());
}
