//! Worlds for tests: real file systems, stock rsync daemons, hostile peers, and ebbtide itself.
//!
//! A test builds its world from the types below and lets it go out of scope; everything then ends by itself, after a
//! failed test too. Nothing here sleeps for a guessed time: it waits for a state, and gives up loudly after
//! [`PATIENCE`].
//!
//! | variable | meaning |
//! | --- | --- |
//! | `EBBTIDE_BIN`, `EBBTIDE_SEND_BIN` | the two programs under test; default: beside the test's own build |
//! | `EBBTIDE_TEST_CLIENT=rsync` | stock rsync takes the place of ours, which proves the tests themselves |
//! | `EBBTIDE_RSYNC_OLD` | rsync 3.2.7; default: `tools/rsync-3.2.7/usr/bin/rsync` in the target folder |
//! | `EBBTIDE_TEST_RSYNCD` | another release of rsync, which takes the place of every daemon; what needs 3.2.7 is skipped |
//! | `EBBTIDE_SEED` | what random operations are drawn from; default: a new seed, with `cargo xtask test` a fixed one, there `random` for a new one |
//! | `EBBTIDE_CHAOS_MINUTES` | how long the tests of chaos take, each; default: 2 |
//! | `EBBTIDE_SKIPS` | file that gets one line for each skipped test |
//! | `CI=true` | a skip is a failure |
#![deny(unsafe_code)]

mod change;
mod chaos;
mod client;
mod daemon;
mod filesystem;
mod hostile;
mod machine;
mod manager;
mod mapped;
mod metered;
mod mirror;
mod ops;
mod port;
mod programs;
mod proxy;
mod referee;
mod rsyncd;
mod scratch;
mod server;
mod skip;
mod sshd;
mod tls;
mod tree;
mod twins;
mod watch;

pub use change::{Change, Done, Expected, Later, Place, Quiet};
pub use chaos::{Chaos, Summary, Total, expect_accounted, work};
pub use client::{Client, Outcome};
pub use daemon::{Daemon, Setup};
pub use filesystem::{FileSystem, Kind};
pub use hostile::{HostileDaemon, Stage, Step, honest_until};
pub use machine::{PATIENCE, eventually, run};
pub use manager::Manager;
pub use mapped::Mapped;
pub use metered::{Metered, expect_cheap, many};
pub use mirror::Mirror;
pub use ops::{Ops, Stores, seed};
pub use port::Port;
pub use programs::{Release, program, target_dir};
pub use proxy::{Proxy, Tap};
pub use referee::{Referee, Verdict, links_too_many};
pub use rsyncd::{Module, Occupied, Rsyncd, rsyncd_has_begun};
pub use scratch::Scratch;
pub use skip::{Skip, report};
pub use sshd::Sshd;
pub use tls::{Authority, Identity, TlsProxy};
pub use tree::{Tree, bytes, name};
pub use twins::{Pair, Twins, beyond_stock};
pub use watch::{Told, Watch};

/// `n` KiB in bytes.
pub const fn kib(n: usize) -> usize {
    n << 10
}

/// `n` MiB in bytes.
pub const fn mib(n: usize) -> usize {
    n << 20
}
