//! Whole sessions: a daemon says arbitrary bytes from the start, from the first frame, or as its data stream.

use ebbtide_wire::proto::{Append, CompressWish, Protocol, ServerOptions};
use ebbtide_wire::sender::{Config, Peer};
use ebbtide_wire::wire::mux::{Code, frame};

use crate::player::Player;
use crate::{Choices, parts};

/// Everything that a daemon says is arbitrary.
pub fn handshake(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (how, bits) = (choices.byte(), choices.byte());
    let mut config = config(choices.byte());
    if bits & 1 != 0 {
        config.module.clear();
    }
    if bits & 2 != 0 {
        config.user = Some(b"user".into());
        config.password = Some(b"password".into());
    }
    config.eager = bits & 4 != 0;
    if bits & 8 != 0 {
        config.peer = Peer::Server;
    }
    play(Player::new(config, bits & 16 != 0), parts(choices.rest(), how));
}

/// What a daemon says after an honest handshake is arbitrary.
pub fn session(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (how, bits) = (choices.byte(), choices.byte());
    let player = welcomed(bits, choices.byte());
    play(player, parts(choices.rest(), how));
}

/// The data stream of a daemon is arbitrary.
pub fn requests(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (how, bits) = (choices.byte(), choices.byte());
    let player = welcomed(bits, choices.byte());
    let frames: Vec<Vec<u8>> = parts(choices.rest(), how)
        .into_iter()
        .flat_map(|part| part.chunks(FRAME))
        .map(|part| frame(Code::Data, part))
        .collect();
    play(player, frames.iter().map(Vec::as_slice).collect());
}

/// A frame of less than the longest length.
const FRAME: usize = 60_000;

fn play(mut player: Player, said: Vec<&[u8]>) {
    if said.into_iter().all(|part| player.hear(part).is_ok()) {
        player.end();
    }
}

/// A session whose daemon was honest until the first frame.
pub(crate) fn welcomed(bits: u8, dialect: u8) -> Player {
    let mut player = Player::new(config(bits), dialect & 0x80 != 0);
    for part in welcome(bits, dialect) {
        player.hear(&part).expect("an honest handshake goes well");
    }
    player
}

fn welcome(bits: u8, dialect: u8) -> Vec<Vec<u8>> {
    let greeting: &[u8] = match bits & 3 {
        0 => b"@RSYNCD: 30.0\n",
        1 => b"@RSYNCD: 31.0\n",
        2 => b"@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\n",
        _ => b"@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\n",
    };
    let mut setup = Vec::new();
    if bits & 2 != 0 {
        // With and without the shortcut for attributes of hard links.
        setup.extend_from_slice(if dialect & 8 == 0 { &[0x81, 0xfe] } else { &[0x81, 0xee] });
        let sums: [&[u8]; 4] = [b"\x06xxh128", b"\x05xxh64", b"\x03md5", b"\x04sha1"];
        setup.extend_from_slice(sums[usize::from(dialect & 3)]);
        if compresses(bits) {
            let names: [&[u8]; 2] = [b"\x04zstd", b"\x05zlibx"];
            setup.extend_from_slice(names[usize::from(dialect >> 2 & 1)]);
        }
    } else {
        setup.push(0x2e);
    }
    setup.extend_from_slice(&[1, 2, 3, 4]);
    vec![greeting.to_vec(), b"@RSYNCD: OK\n".to_vec(), setup]
}

/// Of every kind of session one.
fn config(bits: u8) -> Config {
    let mut options = ServerOptions { dry_run: bits & 0x20 != 0, ..ServerOptions::archive() };
    options.inplace = bits & 8 != 0;
    options.append = if bits & 0x10 != 0 { Append::On } else { Append::Off };
    options.xattrs = u8::from(bits & 0x40 != 0);
    if compresses(bits) {
        options.compress = CompressWish::Best;
    }
    let mut config = Config::new("m", "", options);
    config.protocol = [Protocol::V30, Protocol::V31, Protocol::V32, Protocol::V32][usize::from(bits & 3)];
    config
}

fn compresses(bits: u8) -> bool {
    bits & 4 != 0
}
