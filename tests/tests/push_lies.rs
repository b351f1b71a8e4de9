//! A daemon that is honest but for one field: what it says there, and how the push ends. `docs/HOSTILE.md` gives the
//! reasons of the bounds.
//!
//! Stock rsync makes no such promises, so it cannot stand in for our sender here.

use ebbtide_tests::{
    Client, HostileDaemon, Outcome, Scratch, Stage, Step, Tree, bytes, honest_until, mib, skip,
};

/// One lie: its name, where it is told, what is said, the exit code, and words of the error.
type Lie = (&'static str, Stage, Vec<Step>, i32, &'static str);

/// Address space that a sender may take: its own needs are far below.
const MEMORY: usize = mib(700);

/// rsync's exit codes.
const OK: i32 = 0;
const PROTOCOL: i32 = 2;
const UNSUPPORTED: i32 = 4;
const START: i32 = 5;
const STREAM: i32 = 12;

#[track_caller]
fn expect(lies: impl IntoIterator<Item = Lie>) {
    if !Client::under_test().is_ours() {
        skip!("stock rsync makes no such promise");
    }
    for (what, stage, said, code, words) in lies {
        let outcome = push_to(stage, said);
        assert_eq!(outcome.code, code, "{what}: {outcome:?}");
        assert!(outcome.stderr.contains(words), "{what}: no \"{words}\" in {outcome:?}");
        for text in [&outcome.stdout, &outcome.stderr] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{what}: {outcome:?}");
        }
        assert!(!outcome.stderr.contains("panicked"), "{what}: {outcome:?}");
        assert!(!outcome.stderr.contains("memory allocation"), "{what}: {outcome:?}");
    }
}

/// Pushes one file, index 0, to a peer that is honest until `stage` and then does `then`.
fn push_to(stage: Stage, then: Vec<Step>) -> Outcome {
    let scratch = Scratch::new("lies");
    Tree::at(scratch.path()).file("file", bytes(1, 20_000));
    let daemon = HostileDaemon::playing(honest_until(stage).into_iter().chain(then));
    let file = scratch.path().join("file").display().to_string();
    Client::under_test().with_memory(MEMORY).run(["-tiv", "--timeout=30", &file, &daemon.url()])
}

fn say(text: impl AsRef<[u8]>) -> Vec<Step> {
    vec![Step::Say(text.as_ref().to_vec()), Step::Hang]
}

fn data(stream: &[u8]) -> Vec<Step> {
    vec![Step::frame(0, stream), Step::Hang]
}

fn message(code: u8, payload: &[u8]) -> Vec<Step> {
    vec![Step::frame(code, payload), Step::Hang]
}

/// A session in which the file was up to date, and `before` its end.
fn honest_end(before: Vec<Step>) -> Vec<Step> {
    let ends = [&[0][..], &[0, 0, 0], &[0]].map(|dones| Step::frame(0, dones));
    before.into_iter().chain(ends).collect()
}

/// A request for the file's data with these sums, not in a frame.
fn request(header: [i32; 4]) -> Vec<u8> {
    let numbers = header.iter().flat_map(|number| number.to_le_bytes());
    [0x01, 0x00, 0xa0].into_iter().chain(numbers).collect()
}

#[test]
fn a_lie_in_the_greeting() {
    let greeting = |text: &str| say(format!("{text}\n"));
    expect([
        ("no version", Stage::Greeting, greeting("@RSYNCD: "), PROTOCOL, "malformed greeting"),
        ("a word", Stage::Greeting, greeting("@RSYNCD: new.0"), PROTOCOL, "malformed greeting"),
        ("a negative version", Stage::Greeting, greeting("@RSYNCD: -31.0"), PROTOCOL, "malformed greeting"),
        ("a version beyond all", Stage::Greeting, greeting("@RSYNCD: 256.0"), PROTOCOL, "malformed greeting"),
        (
            "a sub-version of letters",
            Stage::Greeting,
            greeting("@RSYNCD: 31.x"),
            PROTOCOL,
            "malformed greeting",
        ),
        ("too old", Stage::Greeting, greeting("@RSYNCD: 29"), UNSUPPORTED, "daemon speaks 29"),
        ("a pre-release of 30", Stage::Greeting, greeting("@RSYNCD: 30.1"), UNSUPPORTED, "protocol"),
        ("a NUL", Stage::Greeting, say(b"@RSYNCD: 32.0 \0\n"), PROTOCOL, "NUL"),
        ("no end", Stage::Greeting, vec![Step::SayForever(vec![b'x'; 5_000])], PROTOCOL, "without an end"),
    ]);
}

#[test]
fn a_lie_where_the_module_is_welcomed() {
    expect([
        ("an end", Stage::Module, say("@RSYNCD: EXIT\n"), PROTOCOL, "ended before the push began"),
        ("a refusal", Stage::Module, say("@ERROR: \x1b[2Jno\n"), START, "@ERROR"),
        (
            "text for ever",
            Stage::Module,
            vec![Step::SayForever(b"hi\n".repeat(9_000))],
            PROTOCOL,
            "greeting text",
        ),
        (
            "a line for ever",
            Stage::Module,
            vec![Step::SayForever(vec![b'x'; 9_000])],
            PROTOCOL,
            "without an end",
        ),
        ("a NUL", Stage::Module, say(b"welcome\0\n"), PROTOCOL, "NUL"),
    ]);
}

#[test]
fn a_lie_in_the_setup() {
    expect([
        ("recursion that was not offered", Stage::Setup, say([0x81, 0xff]), PROTOCOL, "compat flags"),
        ("negative flags", Stage::Setup, say([0xf0, 0xff, 0xff, 0xff, 0xff]), PROTOCOL, "compat flags"),
        ("flags beyond an int", Stage::Setup, say([0xf8, 1, 1, 1, 1, 1]), PROTOCOL, "compat flags"),
        ("names of no length", Stage::Negotiation, say([0]), UNSUPPORTED, "no common checksum"),
        ("unknown names", Stage::Negotiation, say(b"\x0aholy\x1bgrail"), UNSUPPORTED, "no common checksum"),
        ("names beyond the limit", Stage::Negotiation, say([0xff, 0xff]), PROTOCOL, "negotiated names"),
        ("half a seed", Stage::Seed, vec![Step::Say(vec![1, 2])], STREAM, "connection ended"),
    ]);
}

#[test]
fn a_lie_in_a_frame() {
    expect(
        [0_u8, 3, 6]
            .map(|tag| ("a tag below all", Stage::Items, say([1, 0, 0, tag, 0]), PROTOCOL, "transfer")),
    );
    expect([5_u8, 6, 7, 8, 9, 10, 11, 21, 23, 43, 85, 87, 103, 200].map(|code| {
        ("a code that no socket carries", Stage::Items, message(code, b"abcd"), PROTOCOL, "transfer")
    }));
    let too_long = vec![Step::frame_that_claims(3, 0xff_ffff, b"text"), Step::Hang];
    expect([
        ("a text beyond the limit", Stage::Items, too_long, PROTOCOL, "transfer"),
        ("what only senders say", Stage::Items, message(102, &[0; 4]), PROTOCOL, "NO_SEND"),
        ("bits that are none", Stage::Items, message(22, b"abc"), PROTOCOL, "IO_ERROR"),
        ("no timeout", Stage::Items, message(33, &[0; 4]), PROTOCOL, "IO_TIMEOUT"),
        ("a timeout of years", Stage::Items, message(33, &i32::MAX.to_le_bytes()), PROTOCOL, "IO_TIMEOUT"),
        ("a negative timeout", Stage::Items, message(33, &(-1_i32).to_le_bytes()), PROTOCOL, "IO_TIMEOUT"),
        ("a file that is not listed", Stage::Items, message(100, &1_i32.to_le_bytes()), PROTOCOL, "index"),
        ("a negative file", Stage::Items, message(100, &(-1_i32).to_le_bytes()), PROTOCOL, "index"),
        ("half a file", Stage::Items, message(100, &[0; 2]), PROTOCOL, "SUCCESS"),
        ("an exit of five bytes", Stage::Items, message(86, &[1; 5]), PROTOCOL, "ERROR_EXIT"),
    ]);
}

#[test]
fn a_lie_in_the_farewell() {
    let exit = |code: i32| vec![Step::frame(86, &code.to_le_bytes())];
    expect([
        ("an exit with success", Stage::Items, exit(0), STREAM, "code 12"),
        ("an exit with no byte's code", Stage::Items, exit(300), STREAM, "code 12"),
        ("an exit with a negative code", Stage::Items, exit(-1), STREAM, "code 12"),
        ("an exit without a code", Stage::Items, vec![Step::frame(86, b"")], STREAM, "code 12"),
        (
            "talk after the exit",
            Stage::Items,
            vec![Step::frame(86, &11_i32.to_le_bytes()), Step::SayForever([0, 0, 0, 7].repeat(9_000))],
            PROTOCOL,
            "gave up",
        ),
    ]);
}

#[test]
fn a_lie_in_an_item() {
    expect([
        ("behind the list", Stage::Items, data(&[0x02, 0x00, 0x20]), PROTOCOL, "index"),
        ("the last index", Stage::Items, data(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0, 0x20]), PROTOCOL, "index"),
        ("a sub-list", Stage::Items, data(&[0xff, 0x64]), PROTOCOL, "index is negative"),
        ("an end of lists", Stage::Items, data(&[0xff, 0x01]), PROTOCOL, "index is negative"),
        (
            "a name beyond the limit",
            Stage::Items,
            data(&[0x01, 0x00, 0xb0, 0xff, 0xff]),
            PROTOCOL,
            "malformed request",
        ),
        (
            "deletions below none",
            Stage::Items,
            data(&[0xff, 0x02, 0xf0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
            PROTOCOL,
            "count of deletions",
        ),
        ("items for ever", Stage::Items, vec![again(&[0xfe, 0x80, 0, 0, 0, 0x08, 0])], PROTOCOL, "items"),
        (
            "deletions counted for ever",
            Stage::Items,
            vec![again(&[0xff, 0xfe, 0x80, 3, 0, 0, 0, 0, 0, 0, 0])],
            PROTOCOL,
            "items",
        ),
        (
            "a file twice",
            Stage::Items,
            data(&[request([0; 4]), [&[0xfe, 0, 0, 0, 0xa0][..], &[0; 16]].concat()].concat()),
            PROTOCOL,
            "is wanted",
        ),
        (
            "a file behind the redo",
            Stage::Items,
            data(&[&[0, 0][..], &request([0; 4])].concat()),
            PROTOCOL,
            "after the redo phase",
        ),
    ]);
}

/// A frame of many times the same, for ever.
fn again(item: &[u8]) -> Step {
    let Step::Say(frame) = Step::frame(0, &item.repeat(500)) else { unreachable!("a frame is said") };
    Step::SayForever(frame)
}

#[test]
fn a_lie_in_the_head_of_sums() {
    let most = i32::MAX;
    let heads = [
        ("a negative count", [-1, 700, 2, 0]),
        ("a negative block", [1, -700, 2, 0]),
        ("no block", [1, 0, 2, 0]),
        ("a block beyond the limit", [1, 131_073, 2, 0]),
        ("the largest block", [1, most, 2, 0]),
        ("no sum", [1, 700, 0, 0]),
        ("a sum beyond every digest", [1, 700, 65, 0]),
        ("a negative sum", [1, 700, -2, 0]),
        ("a last block beyond the others", [1, 700, 2, 701]),
        ("a negative last block", [1, 700, 2, -1]),
    ];
    expect(
        heads.map(|(what, head)| (what, Stage::Items, data(&request(head)), PROTOCOL, "malformed request")),
    );
    // As many as there can be, and then none of them.
    let none = vec![Step::frame(0, &request([most, 131_072, 16, 0]))];
    let some = vec![Step::frame(0, &[request([100, 700, 2, 0]), vec![0; 30]].concat())];
    expect([
        ("sums that do not come", Stage::Items, none, STREAM, "connection ended"),
        ("sums that stop", Stage::Items, some, STREAM, "connection ended"),
    ]);
}

#[test]
fn a_lie_at_the_end() {
    let early = vec![Step::frame(0, &[0, 0, 0, 0])];
    let more = honest_end(vec![]).into_iter().chain([Step::frame(0, &[0; 50])]).collect();
    expect([
        ("the last word is missing", Stage::Items, early, STREAM, "connection ended"),
        ("more than the last word", Stage::Items, more, OK, ""),
    ]);
}

#[test]
fn names_and_texts_cannot_steer_the_terminal() {
    let evil = b"../../\x1b]0;owned\x07\x1b[2J\xff\xc2\x9b\r\n";
    let deleted = honest_end(vec![Step::frame(101, evil), Step::frame(101, &[&evil[..], b"\0"].concat())]);
    let texts = honest_end([2, 4].map(|code| Step::frame(code, evil)).to_vec());
    let errors = honest_end(vec![Step::frame(3, evil)]);
    let failure = honest_end(vec![Step::frame(1, evil)]);
    let item = [&[0x01, 0x00, 0x70, evil.len() as u8][..], evil].concat();
    expect([
        ("a name", Stage::Items, deleted, OK, ""),
        ("texts", Stage::Items, texts, OK, ""),
        ("an error", Stage::Items, errors, OK, "owned"),
        ("a failure", Stage::Items, failure, 23, "owned"),
        ("a link", Stage::Items, honest_end(vec![Step::frame(0, &item)]), OK, ""),
        ("text of the day", Stage::Module, say([&evil[..], b"@ERROR: no\n"].concat()), START, "@ERROR"),
    ]);
}
