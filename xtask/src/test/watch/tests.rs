use super::super::count::Count;
use super::*;

/// A shell script in the place of a test program.
fn script(text: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", text]);
    command
}

fn an_hour_ahead() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Runs it to its end; what it counts, how it ended, and which tests hung.
fn watched(text: &str, silence: Duration, end: Instant) -> (Count, End, Vec<String>) {
    let mut count = Count::default();
    let end = Watch::new(silence)
        .run(&mut script(text), end, |line| count.see(&String::from_utf8_lossy(line)))
        .unwrap();
    let hung = count.hung().map(str::to_owned).collect();
    (count.ended(matches!(end, End::Exited(true))), end, hung)
}

/// A busy machine takes a while to start a shell.
const SHORT: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_program_that_ends_is_left_alone() {
    let text =
        "echo running 1 test; echo test a ... ok; echo 'test result: ok. 1 passed; 0 failed; 0 ignored'";
    let (count, end, hung) = watched(text, LONG, an_hour_ahead());
    assert_eq!((count.to_string().as_str(), end), ("1 passed, 0 failed, 0 skipped", End::Exited(true)));
    assert_eq!(hung, Vec::<String>::new());
}

#[test]
fn what_arrives_when_a_program_has_ended_counts() {
    // A shell outside its group, with the same output, writes when the program is gone altogether.
    let text = "echo running 1 test
        setsid sh -c \"while kill -0 $$ 2>&-; do :; done; echo 'test result: ok. 1 passed; 0 failed'\" &
        until kill -0 -$! 2>&-; do :; done";
    let (count, end, _) = watched(text, LONG, an_hour_ahead());
    assert_eq!((count.to_string().as_str(), end), ("1 passed, 0 failed, 0 skipped", End::Exited(true)));
}

#[test]
fn a_program_that_hangs_is_ended_and_its_test_named() {
    let text = "echo running 3 tests; echo test a ... ok; echo test b ... ok
        echo test slow::c has been running for over 60 seconds; exec sleep 3600";
    let (count, end, hung) = watched(text, SHORT, an_hour_ahead());
    assert!(matches!(&end, End::Hung { why, .. } if why.starts_with("no test ended for")), "{end:?}");
    assert!(matches!(&end, End::Hung { stuck, .. } if stuck.contains("comm sleep")), "{end:?}");
    assert_eq!(hung, ["slow::c"]);
    assert_eq!(count.to_string(), "2 passed, 1 failed, 0 skipped");
}

#[test]
fn a_test_that_hangs_while_it_prints_is_ended_too() {
    let text = "echo running 1 test; while :; do echo chatter; done";
    let (count, end, _) = watched(text, SHORT, an_hour_ahead());
    assert!(matches!(end, End::Hung { .. }));
    assert_eq!(count.failed, 1);
}

#[test]
fn the_only_thread_s_test_is_named_by_the_line_it_began() {
    let (count, _, hung) =
        watched("echo running 2 tests; printf 'test only ... '; exec sleep 3600", SHORT, an_hour_ahead());
    assert_eq!(hung, ["only"]);
    assert_eq!(count.failed, 2);
}

#[test]
fn the_whole_run_has_a_limit() {
    let text = "echo running 1 test; while :; do echo test a ... ok; done";
    let (_, end, _) = watched(text, LONG, Instant::now() + SHORT);
    assert!(matches!(&end, End::Hung { why, .. } if why == "the whole run takes too long"), "{end:?}");
}

#[test]
fn what_a_hung_program_started_ends_with_it() {
    let mut told = Vec::new();
    let mut command = script("sleep 3600 & echo started $!; wait");
    let end = Watch::new(SHORT)
        .run(&mut command, an_hour_ahead(), |line| told.push(String::from_utf8_lossy(line).into_owned()))
        .unwrap();
    assert!(matches!(end, End::Hung { .. }));
    let started =
        told.iter().find_map(|line| line.trim().strip_prefix("started ")).expect("it said so").to_owned();
    wait::until("the child is dead", Instant::now(), Duration::from_secs(60), || Ok(is_dead(&started)))
        .unwrap();
}

/// Nobody may have collected it yet.
fn is_dead(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, after)| after.starts_with('Z'))
}

#[test]
fn a_program_that_closes_its_output_and_goes_on_is_ended() {
    let (count, end, _) = watched("echo running 1 test; exec sleep 3600 >&- 2>&-", SHORT, an_hour_ahead());
    assert!(matches!(end, End::Hung { .. }));
    assert_eq!(count.failed, 1);
}

#[test]
fn a_program_whose_child_keeps_its_output_open_has_ended() {
    let (_, end, _) = watched("sleep 3600 & exit 0", LONG, an_hour_ahead());
    assert_eq!(end, End::Exited(true));
}
