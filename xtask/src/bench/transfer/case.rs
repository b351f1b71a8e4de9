//! What is pushed, and what we want it to cost.

use clap::ValueEnum;

use crate::bench::Bench;
use crate::world::table::{bytes, count};

/// One kind of push.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::bench) enum Case {
    /// A large file that the destination does not have.
    NewFile,
    /// The same with zstd.
    NewFileZstd,
    /// A large file of noise, with zstd.
    NoiseZstd,
    /// A large file of which some blocks have changed, with zstd.
    Delta,
    /// A tree of small texts, with zstd.
    TextsZstd,
    /// Many small files have changed and are named.
    Named,
    /// One small file has changed and is named.
    One,
    /// The same, to a daemon that is 50 ms away.
    Far,
    /// A large tree that the destination does not have.
    FirstSync,
    /// A large tree that the destination has.
    NothingToDo,
}

impl Case {
    /// All, cheap ones first.
    pub(super) const ALL: [Case; 10] = [
        Case::One,
        Case::Far,
        Case::NewFile,
        Case::NewFileZstd,
        Case::NoiseZstd,
        Case::Delta,
        Case::TextsZstd,
        Case::Named,
        Case::FirstSync,
        Case::NothingToDo,
    ];

    /// Its name in the raw figures.
    pub(super) fn word(self) -> &'static str {
        match self {
            Case::NewFile => "new-file",
            Case::NewFileZstd => "new-file-zstd",
            Case::NoiseZstd => "noise-zstd",
            Case::Delta => "delta",
            Case::TextsZstd => "texts-zstd",
            Case::Named => "named",
            Case::One => "one",
            Case::Far => "far",
            Case::FirstSync => "first-sync",
            Case::NothingToDo => "nothing-to-do",
        }
    }

    /// Its name in the table.
    pub(super) fn title(self, bench: &Bench) -> String {
        let size = bytes(bench.options.mib << 20);
        let files = count(self.files(bench));
        match self {
            Case::NewFile => format!("new file of {size}"),
            Case::NewFileZstd => format!("new file of {size}, zstd"),
            Case::NoiseZstd => format!("new file of {size}, noise, zstd"),
            Case::Delta => format!("1 % of {size} changed, zstd"),
            Case::TextsZstd => format!("{files} new texts, zstd"),
            Case::Named => format!("{files} changed files, named"),
            Case::One => format!("1 changed file of {files}, named"),
            Case::Far => format!("1 changed file of {files}, named, 50 ms each way"),
            Case::FirstSync => format!("first sync of {files} files"),
            Case::NothingToDo => format!("nothing to do in {files} files"),
        }
    }

    /// What it may cost, in shares of the stock client's costs.
    pub(super) fn aim(self) -> &'static str {
        match self {
            Case::NewFile => "processor 0.5x",
            Case::NewFileZstd => "processor 0.7x, clock 0.6x",
            Case::NoiseZstd => "processor as without zstd",
            Case::Delta => "processor 0.4x, sent 1x",
            Case::TextsZstd => "sent 1.02x",
            Case::Named => "processor 0.25x",
            Case::One => "clock 20 ms",
            Case::Far => "no wait but the protocol's",
            Case::FirstSync => "processor 0.4x, memory 64 MB",
            Case::NothingToDo => "processor 0.7x",
        }
    }

    /// Turns for each tool, when nobody says how many.
    pub(super) fn rounds(self) -> usize {
        match self {
            Case::One => 20,
            Case::Far => 5,
            Case::FirstSync | Case::NothingToDo => 2,
            _ => 3,
        }
    }

    /// Files in its tree; 0 for one large file.
    pub(super) fn files(self, bench: &Bench) -> u64 {
        match self {
            Case::NewFile | Case::NewFileZstd | Case::NoiseZstd | Case::Delta => 0,
            Case::TextsZstd => (bench.options.named / 5).max(1),
            Case::Named | Case::One | Case::Far => bench.options.named,
            Case::FirstSync | Case::NothingToDo => bench.options.files.iter().copied().max().unwrap_or(0),
        }
    }

    /// The options that both clients get.
    pub(super) fn options(self) -> &'static [&'static str] {
        match self {
            Case::NewFile | Case::FirstSync | Case::NothingToDo | Case::Named | Case::One | Case::Far => {
                &["-a"]
            }
            Case::NewFileZstd | Case::NoiseZstd | Case::Delta | Case::TextsZstd => {
                &["-a", "-z", "--compress-choice=zstd"]
            }
        }
    }
}
