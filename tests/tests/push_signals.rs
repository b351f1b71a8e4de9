//! A push that a signal ends: its code, its words, and what it leaves behind. The remote shell is a script that sends the
//! signal to whoever started it, so nothing depends on when that is.

use std::fs;
use std::path::Path;

use ebbtide_tests::{Client, Outcome, Scratch, Tree, bytes, eventually, kib, mib};

/// Pushes `source/` to `d/` with a script as the remote shell.
fn push_through(scratch: &Scratch, script: &str, options: &[&str]) -> Outcome {
    let shell = format!("--rsh={}", scratch.script("shell", &format!("#!/bin/sh\n{script}\n")).display());
    let target = format!("host:{}/", scratch.path().join("d").display());
    let words = ["-a", &shell].into_iter().chain(options.iter().copied()).chain(["source/", &target]);
    Client::under_test().run_in(Some(scratch.path()), words)
}

#[test]
fn a_signal_ends_a_push_with_20_and_rsyncs_words() {
    let scratch = Scratch::new("signals");
    Tree::at(&scratch.dir("source")).file("f", b"x");
    for signal in ["INT", "TERM", "HUP"] {
        // It hears, and never answers.
        let script = format!("kill -{signal} $PPID; exec cat > /dev/null");
        let outcome = push_through(&scratch, &script, &[]).expect(20);
        assert!(outcome.stderr.contains("received SIGINT, SIGTERM, or SIGHUP (code 20)"), "{outcome:?}");
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_shell_that_does_not_end() {
    let scratch = Scratch::new("signals");
    Tree::at(&scratch.dir("source")).file("f", b"x");
    // Its input ends when nothing is left but to wait for it; then it stops for good.
    let script = "exec 1>&-; while read line; do :; done; kill -INT $PPID; kill -STOP $$";
    if Client::under_test().is_ours() {
        push_through(&scratch, script, &[]).expect(20);
    }
}

#[test]
fn what_an_interrupted_push_had_sent_is_kept_with_partial() {
    for (option, kept) in [("--partial", "d/large"), ("--partial-dir=.parts", "d/.parts/large")] {
        let scratch = Scratch::new("signals");
        let (content, folder) = (bytes(1, mib(4)), scratch.dir("d"));
        Tree::at(&scratch.dir("source")).file("large", &content);
        // The signal comes in the middle of the file; the other side goes on until it hears nothing more.
        let some = "dd bs=64k count=2000000 iflag=count_bytes status=none";
        let script =
            format!("exec 2> /dev/null; shift; {{ {some}; kill -TERM $PPID; cat > /dev/null; }} | \"$@\"");
        push_through(&scratch, &script, &[option]).expect(20);
        let kept = scratch.path().join(kept);
        let part =
            eventually("what had arrived is kept", || fs::read(&kept).ok().filter(|_| is_alone(&folder)));
        assert!(part.len() > kib(500) && content.starts_with(&part), "{} bytes", part.len());
        // What is there already need not be sent again.
        let whole = "shift; exec \"$@\"";
        let again = push_through(&scratch, whole, &[option, "--no-whole-file", "--stats"]).expect(0);
        assert!(!again.stdout.contains("Matched data: 0 bytes"), "{again:?}");
        assert!(fs::read(folder.join("large")).is_ok_and(|arrived| arrived == content));
    }
}

/// Whether no temporary file is left.
fn is_alone(folder: &Path) -> bool {
    let names = fs::read_dir(folder).expect("it is there").flatten().map(|entry| entry.file_name());
    names.into_iter().all(|name| !name.to_string_lossy().starts_with(".large."))
}
