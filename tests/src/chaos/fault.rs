//! What goes wrong.

use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use super::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    KillSender,
    KillTracker,
    KillBoth,
    Restart,
    FreezeSender,
    FreezeTracker,
    Cut,
    BlackHole,
    FreezeRsyncd,
    RestartRsyncd,
    RsyncdStaysAway,
    FillDisk,
    DiskHasRoom,
    Reload,
    WrongReload,
}

/// How often each comes, and what it is called.
const KINDS: [(Fault, usize, &str); 15] = [
    (Fault::KillSender, 4, "kill-sender"),
    (Fault::KillTracker, 4, "kill-tracker"),
    (Fault::KillBoth, 4, "kill-both"),
    (Fault::Restart, 3, "restart"),
    (Fault::FreezeSender, 3, "freeze-sender"),
    (Fault::FreezeTracker, 3, "freeze-tracker"),
    (Fault::Cut, 5, "cut"),
    (Fault::BlackHole, 3, "black-hole"),
    (Fault::FreezeRsyncd, 3, "freeze-rsyncd"),
    (Fault::RestartRsyncd, 3, "restart-rsyncd"),
    (Fault::RsyncdStaysAway, 2, "rsyncd-stays-away"),
    (Fault::FillDisk, 3, "fill-disk"),
    (Fault::DiskHasRoom, 2, "disk-has-room"),
    (Fault::Reload, 4, "reload"),
    (Fault::WrongReload, 1, "wrong-reload"),
];

impl Fault {
    pub(super) fn random(random: &mut Rng) -> Fault {
        let total: usize = KINDS.iter().map(|(_, weight, _)| weight).sum();
        let mut at = random.usize(..total);
        for (fault, weight, _) in KINDS {
            if at < weight {
                return fault;
            }
            at -= weight;
        }
        Fault::Cut
    }

    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(fault, ..)| *fault == self).map_or("", |(.., name)| name)
    }

    /// Lets it happen; how many processes were killed.
    pub(super) fn strike(self, world: &mut World, random: &mut Rng) -> u64 {
        match self {
            Fault::KillSender => u64::from(world.daemon.kill_sender().is_some()),
            Fault::KillTracker => {
                world.daemon.kill();
                pause(random);
                world.start(random);
                1
            }
            Fault::KillBoth => {
                let sender = world.daemon.sender();
                world.daemon.kill();
                // Its parent is gone, so it may be as well.
                let sender = sender.is_some_and(|pid| signal(pid, Signal::KILL));
                pause(random);
                world.start(random);
                1 + u64::from(sender)
            }
            Fault::Restart => {
                assert!(world.daemon.terminate().success(), "ebbtide ends cleanly");
                pause(random);
                world.start(random);
                0
            }
            Fault::FreezeSender => {
                let sender = world.daemon.sender();
                freeze(sender, random)
            }
            Fault::FreezeTracker => freeze(world.daemon.pid(), random),
            Fault::Cut => {
                world.proxy.cut();
                0
            }
            Fault::BlackHole => {
                world.proxy.hold();
                pause(random);
                world.proxy.release();
                0
            }
            Fault::FreezeRsyncd => {
                world.rsyncd.freeze(true);
                pause(random);
                world.rsyncd.freeze(false);
                0
            }
            Fault::RestartRsyncd => {
                world.rsyncd.terminate();
                world.change_release(random);
                world.rsyncd.start_again();
                0
            }
            Fault::RsyncdStaysAway => {
                world.rsyncd.terminate();
                0
            }
            Fault::FillDisk => {
                world.fill();
                0
            }
            Fault::DiskHasRoom => {
                world.empty();
                0
            }
            Fault::Reload => {
                world.reload(random);
                0
            }
            Fault::WrongReload => {
                world.reload_wrongly();
                0
            }
        }
    }
}

/// Nobody reacts for a while; nobody is killed.
fn freeze(pid: Option<u32>, random: &mut Rng) -> u64 {
    if let Some(pid) = pid.filter(|pid| signal(*pid, Signal::STOP)) {
        pause(random);
        signal(pid, Signal::CONT);
    }
    0
}

/// Whether the process was there.
fn signal(pid: u32, signal: Signal) -> bool {
    Pid::from_raw(pid.cast_signed()).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn pause(random: &mut Rng) {
    std::thread::sleep(Duration::from_millis(random.u64(PAUSE_MS)));
}

/// How long something is gone or silent.
const PAUSE_MS: std::ops::Range<u64> = 0..900;
