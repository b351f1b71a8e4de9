//! The config file of a run, which HUP changes while ebbtide runs.

use std::fmt::Write as _;
use std::path::PathBuf;

use fastrand::Rng;

/// What the file says.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) source: PathBuf,
    /// fanotify alone.
    pub(super) fanotify_alone: bool,
    /// In milliseconds.
    settle: u32,
    /// URLs of the destination that is always there, and of one that comes and goes.
    pub(super) urls: [String; 2],
    pub(super) both: bool,
}

impl Config {
    pub(super) fn new(source: PathBuf, fanotify_alone: bool, urls: [String; 2]) -> Config {
        Config { source, fanotify_alone, settle: 10, urls, both: false }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("settle = {}\n", self.settle);
        if self.fanotify_alone {
            text.push_str("probes = \"fanotify\"\n");
        }
        let _ = writeln!(text, "[[mirror]]\nsource = {:?}\ndelete = true", self.source);
        for url in self.urls.iter().take(if self.both { 2 } else { 1 }) {
            let _ = writeln!(text, "[[mirror.to]]\nurl = {url:?}\ntimeout = 20");
        }
        text
    }

    /// Changes something, or nothing at all.
    pub(super) fn change(&mut self, random: &mut Rng) {
        match random.u8(..4) {
            0 => {}
            1 => self.settle = random.u32(1..200),
            _ => self.both = !self.both,
        }
    }
}
