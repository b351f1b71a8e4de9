//! What a daemon says reaches a terminal or a log without the power to steer it.

use ebbtide_transfer::text::Escaped;
use ebbtide_wire::wire::mux::{Code, frame};

use crate::player::Player;
use crate::sessions::welcomed;
use crate::{Choices, parts};

/// The text arrives as the daemon's refusal, as messages of each kind, and as its last words.
pub fn texts(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (how, code) = (choices.byte(), choices.byte());
    let text = choices.rest();
    let shown = Escaped(text).to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\t' && c != '\x7f'), "{shown:?}");

    let line: Vec<u8> = text.iter().copied().filter(|byte| !b"\n\0".contains(byte)).collect();
    let mut refused = welcomed_not();
    assert!(refused.hear(&[b"@RSYNCD: 32.0 sha512\n@ERROR: ", &line[..], b"\n"].concat()).is_err());

    let mut session = welcomed(3, 0);
    for (part, kind) in parts(text, how).into_iter().zip(KINDS.into_iter().cycle()) {
        if session.hear(&frame(kind, &part[..part.len().min(4_000)])).is_err() {
            return;
        }
    }
    if code != 0 && session.hear(&frame(Code::ErrorExit, &u32::from(code).to_le_bytes())).is_err() {
        return;
    }
    assert!(!session.is_finished());
    session.end();
}

const KINDS: [Code; 5] = [Code::Error, Code::Info, Code::ErrorXfer, Code::Warning, Code::Deleted];

fn welcomed_not() -> Player {
    let config = ebbtide_wire::sender::Config::new("m", "", ebbtide_wire::proto::ServerOptions::archive());
    Player::new(config, false)
}
