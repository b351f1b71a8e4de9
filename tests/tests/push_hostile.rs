//! A daemon that lies, stops or floods: the sender ends with an error that names the destination and the stage, within
//! bounded memory. What it says is a stranger's text, and is escaped.
//!
//! These tests are about promises that stock rsync does not make, so it cannot stand in for our sender here.

use ebbtide_tests::{
    Client, HostileDaemon, Outcome, Scratch, Stage, Step, Tree, bytes, honest_until, mib, skip,
};

/// Address space that a sender may take: its own needs are far below, a buffer sized by a liar's length is above.
const MEMORY: usize = mib(700);

/// Pushes one file to a peer that is honest until `stage` and then does `then`. Its silence is a failure after so many seconds.
#[track_caller]
fn push_to(stage: Stage, then: impl IntoIterator<Item = Step>, timeout: u32) -> Outcome {
    let scratch = Scratch::new("hostile");
    Tree::at(scratch.path()).file("file", bytes(1, 20_000));
    let daemon = HostileDaemon::playing(honest_until(stage).into_iter().chain(then));
    let file = scratch.path().join("file");
    let client = Client::under_test().with_memory(MEMORY);
    let outcome =
        client.run(["-t", &format!("--timeout={timeout}"), &file.display().to_string(), &daemon.url()]);
    let said = &outcome.stderr;
    assert!(said.contains(&daemon.address()), "the destination is not named: {outcome:?}");
    assert!(STAGES.iter().any(|stage| said.contains(stage)), "no stage is named: {outcome:?}");
    assert!(!said.contains("panicked") && !said.contains("memory allocation"), "{outcome:?}");
    outcome
}

/// Words for the stages of a session, as the sender's errors use them.
const STAGES: [&str; 8] =
    ["connecting", "greeting", "authenticating", "setup", "file list", "transfer", "goodbye", "resolving"];

macro_rules! ours_only {
    () => {
        if !Client::under_test().is_ours() {
            skip!("stock rsync makes no such promise");
        }
    };
}

#[track_caller]
fn refused(stage: Stage, then: impl IntoIterator<Item = Step>) -> Outcome {
    no_success(push_to(stage, then, 1))
}

/// The same where the answer matters, however long a busy machine lets the peer wait with it.
#[track_caller]
fn answered(stage: Stage, then: impl IntoIterator<Item = Step>) -> Outcome {
    no_success(push_to(stage, then, 60))
}

#[track_caller]
fn no_success(outcome: Outcome) -> Outcome {
    assert_ne!(outcome.code, 0, "taken as a success: {outcome:?}");
    assert!(outcome.code < 128, "ended by a signal: {outcome:?}");
    outcome
}

#[test]
fn a_peer_that_is_no_rsync_daemon_is_refused() {
    ours_only!();
    let noise: Vec<u8> = bytes(3, 100_000);
    for greeting in
        [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"@RSYNCD: \n", &noise]
    {
        refused(Stage::Greeting, [Step::Say(greeting.into())]);
    }
    for greeting in
        ["@RSYNCD: 99999999999999999999.0\n", "@RSYNCD: -1.0\n", "@RSYNCD: 20.0\n", "@RSYNCD: 31\n"]
    {
        refused(Stage::Greeting, [Step::Say(greeting.into())]);
    }
}

#[test]
fn a_peer_that_closes_at_any_stage_is_no_success() {
    ours_only!();
    for stage in Stage::ALL {
        refused(stage, []);
    }
}

#[test]
fn a_peer_that_falls_silent_at_any_stage_ends_by_the_timeout() {
    ours_only!();
    for stage in Stage::ALL {
        assert_eq!(refused(stage, [Step::Hang]).code, 30, "{stage:?}");
    }
}

#[test]
fn a_message_that_stops_in_its_middle_is_no_success() {
    ours_only!();
    let parts: [(Stage, &[u8]); 7] = [
        (Stage::Greeting, b"@RSYN"),
        (Stage::Module, b"@RSYNCD: O"),
        (Stage::Setup, &[0x81]),
        (Stage::Negotiation, &[30, b'x', b'x']),
        (Stage::Seed, &[1, 2]),
        (Stage::Items, &[19, 0]),
        (Stage::Items, &[19, 0, 0, 7, 1, 0, 0xa0, 0]),
    ];
    for (stage, part) in parts {
        refused(stage, [Step::Say(part.into())]);
        refused(stage, [Step::Say(part.into()), Step::Hang]);
    }
}

#[test]
fn an_endless_message_of_the_day_is_cut_off() {
    ours_only!();
    refused(Stage::Module, [Step::SayForever(b"welcome, please wait\n".repeat(100))]);
    refused(Stage::Module, [Step::SayForever(vec![b'x'; 10_000])]);
}

#[test]
fn garbage_at_any_stage_is_an_error() {
    ours_only!();
    for stage in Stage::ALL {
        for seed in 0..6 {
            let noise = (0..5_000).map({
                let mut random = fastrand::Rng::with_seed(seed);
                move |_| random.u8(..)
            });
            refused(stage, [Step::Say(noise.collect())]);
        }
    }
}

#[test]
fn compat_flags_that_we_cannot_follow_are_refused() {
    ours_only!();
    // Incremental recursion was not offered; the last two are longer than any 32-bit number.
    for flags in [&[0x81, 0xff][..], &[0xf8, 1, 1, 1, 1, 1], &[0xff; 9]] {
        refused(Stage::Setup, [Step::Say(flags.into())]);
    }
}

#[test]
fn a_list_of_checksums_without_one_that_we_know_is_refused() {
    ours_only!();
    refused(Stage::Negotiation, [Step::Say(b"\x0aholy grail".into()), Step::Hang]);
    refused(Stage::Negotiation, [Step::Say(vec![0xff, 0xff]), Step::SayForever(vec![b'a'; 1_000])]);
}

#[test]
fn block_sums_of_impossible_sizes_are_refused() {
    ours_only!();
    let most = i32::MAX;
    let headers = [
        (most, 131_072, 16, 0),
        (-1, 700, 2, 0),
        (1, most, 2, 0),
        (1, -700, 2, 0),
        (1, 0, 2, 0),
        (1, 700, 17, 0),
        (1, 700, -2, 0),
        (1, 700, 2, 701),
        (1, 700, 2, -1),
        (1, 131_073, 2, 0),
    ];
    for (count, block, sum, remainder) in headers {
        refused(Stage::Items, [Step::request(count, block, sum, remainder), Step::Hang]);
    }
}

#[test]
fn sums_that_never_end_do_not_fill_memory() {
    ours_only!();
    let count = 400_000_000;
    let flood = Step::frame(0, &vec![0x55; 60_000]);
    let Step::Say(flood) = flood else { unreachable!("a frame is said") };
    refused(Stage::Items, [Step::request(count, 700, 16, 0), Step::SayForever(flood)]);
}

#[test]
fn items_that_were_never_listed_are_refused() {
    ours_only!();
    let items: [&[u8]; 5] = [
        // index 1 of a list with one entry
        &[0x02, 0x00, 0xa0],
        // an absolute index of 2^31 - 1
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0xa0],
        // a sub-list, which needs incremental recursion
        &[0xff, 0x64],
        // a name of 32767 bytes
        &[0x01, 0x00, 0xb0, 0xff, 0xff],
        // an alternative basis that was never offered
        &[0x01, 0x00, 0xa8, 0x55],
    ];
    for item in items {
        let mut item = item.to_vec();
        item.extend([0; 16]);
        refused(Stage::Items, [Step::frame(0, &item), Step::Hang]);
    }
}

#[test]
fn frames_that_no_daemon_sends_are_refused() {
    ours_only!();
    for code in [5, 9, 10, 55, 120] {
        refused(Stage::Items, [Step::frame(code, b"abcd"), Step::Hang]);
    }
    refused(Stage::Items, [Step::frame_that_claims(3, 0xff_ffff, b"an error text"), Step::Hang]);
    refused(Stage::Items, [Step::Say(vec![4, 0, 0, 3, 1, 2, 3, 4]), Step::Hang]);
}

#[test]
fn the_code_of_a_daemon_that_gives_up_becomes_ours() {
    ours_only!();
    for code in [11u8, 23, 4] {
        let outcome = answered(
            Stage::Items,
            [
                Step::frame(3, b"rsync error: something (code x)\n"),
                Step::frame(86, &[code, 0, 0, 0]),
                Step::Hang,
            ],
        );
        assert_eq!(outcome.code, i32::from(code), "{outcome:?}");
        assert!(outcome.stderr.contains("something"), "{outcome:?}");
    }
}

#[test]
fn what_a_daemon_says_cannot_steer_the_terminal() {
    ours_only!();
    let outcome = answered(Stage::Module, [Step::Say(b"@ERROR: \x1b]0;owned\x07\x1b[2J no\n".into())]);
    assert_eq!(outcome.code, 5);
    assert!(!outcome.stderr.contains('\x1b') && !outcome.stdout.contains('\x1b'), "{outcome:?}");
    let outcome =
        answered(Stage::Items, [Step::frame(3, b"\x1b[2Jfailed\n"), Step::frame(86, &[1, 0, 0, 0])]);
    assert!(!outcome.stderr.contains('\x1b'), "{outcome:?}");
}

#[test]
fn texts_without_end_do_not_fill_memory() {
    ours_only!();
    let Step::Say(flood) = Step::frame(2, &b"chatter chatter\n".repeat(200)) else {
        unreachable!("a frame is said")
    };
    // The text is printed as it comes, so only its end tells; the peer closes after 64 MiB.
    let much = flood.repeat(mib(64) / flood.len());
    refused(Stage::Items, [Step::Say(much)]);
}
