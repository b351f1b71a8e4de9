//! The rules, as `docs/ARCHITECTURE.md` states them.

use super::paths::Found;

/// What one crate's manifest may name.
pub(super) struct Crate {
    /// Where its manifest is.
    pub(super) folder: &'static str,
    /// Those of our own crates that it may use.
    pub(super) ours: &'static [&'static str],
    /// Beginnings of names of foreign crates that it must not use.
    pub(super) never: &'static [&'static str],
}

/// What the modules of one crate must not name.
pub(super) struct Inside {
    /// Modules, as paths without `.rs`.
    pub(super) files: &'static [&'static str],
    /// Paths that must not begin any path in them.
    pub(super) never: &'static [&'static str],
    /// The rule in words.
    pub(super) why: &'static str,
}

/// Every crate of the workspace.
pub(super) const CRATES: [Crate; 10] = [
    Crate { folder: "tracker", ours: &["ebbtide-abi", "ebbtide-feed", "ebbtide-filter"], never: NETWORK },
    Crate { folder: "tracker/feed", ours: &[], never: NETWORK },
    Crate { folder: "tracker-ebpf", ours: &["ebbtide-abi"], never: &[] },
    Crate { folder: "tracker-ebpf/abi", ours: &[], never: NETWORK },
    Crate { folder: "transfer", ours: &["ebbtide-wire", "ebbtide-feed", "ebbtide-filter"], never: KERNEL },
    Crate { folder: "transfer/core", ours: &[], never: OUTSIDE },
    Crate { folder: "transfer/filter", ours: &[], never: OUTSIDE },
    Crate {
        folder: "tests",
        ours: &[
            "ebbtide",
            "ebbtide-abi",
            "ebbtide-feed",
            "ebbtide-filter",
            "ebbtide-transfer",
            "ebbtide-wire",
        ],
        never: &[],
    },
    Crate {
        folder: "tests/fuzzing",
        ours: &["ebbtide-feed", "ebbtide-filter", "ebbtide-transfer", "ebbtide-wire"],
        never: &[],
    },
    Crate {
        folder: "xtask",
        ours: &["ebbtide", "ebbtide-abi", "ebbtide-feed", "ebbtide-transfer", "ebbtide-wire"],
        never: &[],
    },
];

/// Runtimes and sockets beyond this host.
const NETWORK: &[&str] = &["tokio", "async-std", "smol", "mio", "socket2", "hyper", "reqwest", "rustls"];
/// The tracker's tools.
const KERNEL: &[&str] = &["aya", "libbpf", "fanotify", "inotify"];
/// Everything that reaches out of the process.
const OUTSIDE: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "mio",
    "socket2",
    "hyper",
    "reqwest",
    "rustls",
    "rustix",
    "libc",
    "nix",
    "memmap2",
    "tempfile",
    "uzers",
    "chrono",
    "time",
    "aya",
    "fanotify",
];

/// The tracker's modules that decide and do not act.
const PURE: &[&str] =
    &["tracker/src/engine", "tracker/src/fact", "tracker/src/id", "tracker/src/resolve", "tracker/src/scope"];

/// The lines inside crates. Unit tests are left out.
pub(super) const INSIDE: [Inside; 6] = [
    Inside {
        files: &["transfer/core/src", "transfer/filter/src"],
        never: &[
            "std::fs",
            "std::net",
            "std::os",
            "std::process",
            "std::thread",
            "std::env",
            "std::time::Instant",
            "std::time::SystemTime",
            "tokio",
            "rustix",
        ],
        why: "the wire protocol and the filter rules own no file, socket, clock or runtime",
    },
    Inside {
        files: &["tracker/src"],
        never: &[
            "std::net",
            "rustix::net::SocketAddrV4",
            "rustix::net::SocketAddrV6",
            "rustix::net::ipproto",
            "rustix::net::AddressFamily::INET",
            "rustix::net::AddressFamily::INET6",
            "ebbtide_transfer",
            "ebbtide_wire",
        ],
        why: "the process with the kernel's keys has no network socket",
    },
    Inside {
        files: &["transfer/src"],
        never: &["ebbtide", "ebbtide_abi", "aya", "fanotify_fid"],
        why: "the process that parses strangers' bytes has nothing of the tracker",
    },
    Inside {
        files: PURE,
        never: &[
            "crate::probe",
            "crate::sys",
            "crate::daemon",
            "ebbtide::probe",
            "ebbtide::sys",
            "ebbtide::daemon",
        ],
        why: "what decides does not ask the kernel itself",
    },
    Inside {
        files: PURE,
        never: &[
            "Instant::now",
            "SystemTime::now",
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "rustix::time",
            "libc::clock_gettime",
        ],
        why: "what decides has no clock: time is an argument",
    },
    Inside {
        files: &[
            "tracker/src",
            "tracker/feed/src",
            "tracker-ebpf/src",
            "tracker-ebpf/abi/src",
            "transfer/src",
            "transfer/core/src",
            "transfer/filter/src",
        ],
        never: &["xtask", "ebbtide_tests"],
        why: "nothing that is shipped knows how it is built and tested",
    },
];

impl Inside {
    /// One line for each path that breaks the rule.
    pub(super) fn violations(&self, file: &str, found: &[Found]) -> Vec<String> {
        let module = module_of(file);
        let breaks = |found: &&Found| {
            let path = absolute(&found.path, &module);
            self.never.iter().any(|never| begins(&path, never))
        };
        let line =
            |found: &Found| format!("{file}:{}: `{}`: {}", found.line, found.path.join("::"), self.why);
        found.iter().filter(breaks).map(line).collect()
    }
}

/// The module that a file is, below its crate: `tracker/src/engine/mod.rs` is `engine`.
fn module_of(file: &str) -> Vec<&str> {
    let inner = file.split_once("/src/").map_or(file, |(_, inner)| inner);
    let path = inner.strip_suffix(".rs").unwrap_or(inner);
    path.split('/').filter(|name| !matches!(*name, "mod" | "lib" | "main")).collect()
}

/// A path from the crate's root: `super::x` in the module `a::b` is `crate::a::x`.
fn absolute<'a>(path: &'a [String], module: &[&'a str]) -> Vec<&'a str> {
    let above = path.iter().take_while(|name| *name == "super").count();
    let here = path.first().is_some_and(|name| name == "self");
    let rest = path.iter().map(String::as_str).skip(if here { 1 } else { above });
    if above == 0 && !here {
        return rest.collect();
    }
    let kept = module.len().saturating_sub(above);
    std::iter::once("crate").chain(module[..kept].iter().copied()).chain(rest).collect()
}

fn begins(path: &[&str], never: &str) -> bool {
    let mut names = path.iter();
    never.split("::").all(|name| names.next().is_some_and(|found| *found == name))
}

#[cfg(test)]
mod tests {
    use super::super::paths;
    use super::*;

    fn engine() -> &'static Inside {
        INSIDE.iter().find(|rule| rule.never.contains(&"crate::sys")).expect("the rule is there")
    }

    #[test]
    fn a_violation_is_found_however_it_is_written() {
        let written = [
            "use crate::sys::file;",
            "use crate::{fact::Fact, sys::{self as door}};",
            "use super::super::sys as door;",
            "fn f() { crate::daemon::start(1); }",
            "fn f(x: &crate::probe::Marks<u8>) {}",
            "macro_call!(crate::sys::now());",
        ];
        for text in written {
            let found = engine().violations("tracker/src/engine/fold.rs", &paths::of(text).unwrap());
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].starts_with("tracker/src/engine/fold.rs:1: "), "{found:?}");
        }
    }

    #[test]
    fn what_only_looks_like_a_violation_is_let_through() {
        let written = [
            "// use crate::sys::file;\n/// [`crate::sys`]\nfn f() {}",
            "fn f() { let text = \"use crate::sys;\"; }",
            "use crate::system::X; use crate::fact::sys;",
            "#[cfg(test)]\nmod tests { use crate::sys; }",
            "use super::scope;",
        ];
        for text in written {
            let found = engine().violations("tracker/src/engine/fold.rs", &paths::of(text).unwrap());
            assert_eq!(found, Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_clock_in_the_wire_protocol_is_a_violation() {
        let wire =
            INSIDE.iter().find(|rule| rule.files.contains(&"transfer/core/src")).expect("the rule is there");
        let text = "use std::time::{Duration, Instant};\nuse std::collections::HashMap;";
        let found = wire.violations("transfer/core/src/mux.rs", &paths::of(text).unwrap());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("std::time::Instant"), "{found:?}");
    }
}
