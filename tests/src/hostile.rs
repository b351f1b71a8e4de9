//! A peer that says it is an rsync daemon and is not.
//!
//! A script is a list of [`Step`]s; [`honest_until`] gives the beginning that any client accepts, and the test adds
//! what comes instead of the next honest step.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::server::{Clients, Server};

/// One thing the peer does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Sends these bytes again and again, until the client goes away.
    SayForever(Vec<u8>),
    /// Sends one of these bytes every 20 ms.
    Drip(Vec<u8>),
    /// Reads up to and including a newline.
    HearLine,
    /// Reads an argument vector: up to and including two NULs.
    HearArguments,
    /// Reads a string with its length in one byte.
    HearString,
    /// Reads whatever comes next, at least one byte.
    HearSomething,
    /// Neither reads nor writes until the client goes away or the test ends.
    Hang,
}

/// Where an honest beginning ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was said.
    Greeting,
    /// Greetings were exchanged and the module named: message of the day, challenge, or OK are due.
    Module,
    /// OK was said and the arguments heard: compat flags are due.
    Setup,
    /// The compat flags were sent: the list of checksums is due.
    Negotiation,
    /// The checksum was agreed on: the seed is due.
    Seed,
    /// The seed was sent and something of the file list heard: frames are due.
    Items,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Stage; 6] =
        [Stage::Greeting, Stage::Module, Stage::Setup, Stage::Negotiation, Stage::Seed, Stage::Items];

    /// What an honest daemon does from this stage to the next.
    fn honestly(self) -> Vec<Step> {
        match self {
            Stage::Greeting => vec![
                Step::Say(b"@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\n".into()),
                Step::HearLine,
                Step::HearLine,
            ],
            Stage::Module => vec![Step::Say(b"@RSYNCD: OK\n".into()), Step::HearArguments],
            Stage::Setup => vec![Step::Say(vec![0x81, 0xfe])],
            Stage::Negotiation => vec![Step::Say(b"\x06xxh128".into()), Step::HearString],
            Stage::Seed => vec![Step::Say(vec![1, 2, 3, 4]), Step::HearSomething],
            Stage::Items => vec![],
        }
    }
}

/// What an honest daemon of release 3.5.0 does before `stage`, for a push with negotiated checksums, without `-z` and
/// without a password.
pub fn honest_until(stage: Stage) -> Vec<Step> {
    Stage::ALL.iter().take_while(|&&s| s != stage).flat_map(|s| s.honestly()).collect()
}

impl Step {
    /// A frame with its length in its header.
    pub fn frame(code: u8, payload: &[u8]) -> Step {
        Step::frame_that_claims(code, payload.len() as u32, payload)
    }

    /// A frame whose header gives another length (of 24 bits).
    pub fn frame_that_claims(code: u8, length: u32, payload: &[u8]) -> Step {
        let mut bytes = (u32::from(7 + code) << 24 | length & 0xff_ffff).to_le_bytes().to_vec();
        bytes.extend_from_slice(payload);
        Step::Say(bytes)
    }

    /// A request for the data of file 0, with this checksum header and nothing after it.
    pub fn request(count: i32, block_length: i32, sum_length: i32, remainder: i32) -> Step {
        let mut item = vec![0x01, 0x00, 0xa0];
        for field in [count, block_length, sum_length, remainder] {
            item.extend_from_slice(&field.to_le_bytes());
        }
        Step::frame(0, &item)
    }
}

/// Plays one script to every client; ends on drop.
#[derive(Debug)]
pub struct HostileDaemon {
    server: Server,
}

impl HostileDaemon {
    /// Plays `script`, then closes the connection.
    pub fn playing(script: impl IntoIterator<Item = Step>) -> HostileDaemon {
        let script: Vec<Step> = script.into_iter().collect();
        let server = Server::start(move |clients, client| {
            clients.count();
            clients.keep(&client);
            // A client that goes away in the middle is the end of the play, not a failure.
            let _ = play(&script, clients, client);
        });
        HostileDaemon { server }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// A URL on it.
    pub fn url(&self) -> String {
        format!("rsync://{}/m/", self.address())
    }

    /// Clients that came so far.
    pub fn clients(&self) -> u64 {
        self.server.served()
    }
}

fn play(script: &[Step], clients: &Clients, mut client: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    for step in script {
        match step {
            Step::Say(bytes) => client.write_all(bytes)?,
            Step::SayForever(bytes) => {
                while !clients.is_stopping() {
                    client.write_all(bytes)?;
                }
            }
            Step::Drip(bytes) => bytes.chunks(1).try_for_each(|byte| {
                thread::sleep(Duration::from_millis(20));
                client.write_all(byte)
            })?,
            Step::HearLine => hear_until(&mut client, b"\n")?,
            Step::HearArguments => hear_until(&mut client, b"\0\0")?,
            Step::HearString => {
                let mut length = [0];
                client.read_exact(&mut length)?;
                client.read_exact(&mut vec![0; length[0].into()])?;
            }
            Step::HearSomething => drop(client.read(&mut [0; 4096])?),
            Step::Hang => {
                while !clients.is_stopping() && is_there(&client) {
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
    client.shutdown(Shutdown::Both)
}

fn hear_until(client: &mut TcpStream, end: &[u8]) -> std::io::Result<()> {
    let mut heard = Vec::new();
    while !heard.ends_with(end) {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        heard.push(byte[0]);
    }
    Ok(())
}

/// Whether the client still holds its end, without reading what it sent.
fn is_there(client: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::new(client, PollFlags::RDHUP)];
    match poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => !fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR),
        Err(_) => false,
    }
}
