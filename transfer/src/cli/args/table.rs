//! The table of all options: their names, what they take, and what they change. Options act one after the other in
//! the order of the command line, so that the last of an option and its negation counts, as it does for rsync.

mod attributes;
mod connection;
mod output;
mod refused;
mod select;
mod update;

use super::given::Given;

pub(super) use refused::{REFUSED, USUAL};

/// One option.
pub(super) struct Spec {
    /// Its letter.
    pub(super) letter: Option<char>,
    /// Its long names; the first one is its own, or its letter where it has none.
    pub(super) longs: &'static [&'static str],
    /// What it is for, for the help and the man page.
    pub(super) help: &'static str,
    /// What it does.
    pub(super) act: Act,
    /// The long names that take it back.
    pub(super) no: &'static [&'static str],
}

/// What an option does.
pub(super) enum Act {
    /// It turns something on; its negation turns it off.
    Switch(fn(&mut Given, bool)),
    /// It takes a value.
    Value {
        /// What the value is called.
        takes: &'static str,
        /// Takes the value over; the error says what is wrong with it.
        set: fn(&mut Given, &[u8]) -> Result<(), String>,
        /// What its negation does.
        unset: fn(&mut Given),
    },
    /// rsync has it and we do not.
    Refuse {
        /// Whether it takes a value.
        takes: bool,
        /// What to do instead.
        instead: &'static str,
    },
}

/// Options with a heading of their own.
pub(super) struct Group {
    pub(super) heading: &'static str,
    pub(super) specs: &'static [Spec],
}

/// All options, by theme.
pub(super) const GROUPS: &[Group] = &[
    Group { heading: "Output", specs: output::SPECS },
    Group { heading: "Choosing files", specs: select::SPECS },
    Group { heading: "Symlinks and hard links", specs: attributes::LINKS },
    Group { heading: "Attributes", specs: attributes::SPECS },
    Group { heading: "Updating", specs: update::SPECS },
    Group { heading: "Places at the destination", specs: update::PLACES },
    Group { heading: "Deleting", specs: update::DELETING },
    Group { heading: "Data", specs: connection::DATA },
    Group { heading: "Connection", specs: connection::SPECS },
];

impl Spec {
    /// Its name in clap's tables.
    pub(super) fn id(&self) -> &'static str {
        self.longs[0]
    }
}

const fn switch(
    letter: Option<char>,
    longs: &'static [&'static str],
    no: &'static [&'static str],
    help: &'static str,
    act: fn(&mut Given, bool),
) -> Spec {
    Spec { letter, longs, help, act: Act::Switch(act), no }
}

const fn value(
    letter: Option<char>,
    longs: &'static [&'static str],
    takes: &'static str,
    help: &'static str,
    set: fn(&mut Given, &[u8]) -> Result<(), String>,
) -> Spec {
    Spec { letter, longs, help, act: Act::Value { takes, set, unset: |_| {} }, no: &[] }
}

impl Spec {
    /// The same with names that take its value back.
    const fn off(self, no: &'static [&'static str], unset: fn(&mut Given)) -> Spec {
        let Act::Value { takes, set, .. } = self.act else { return self };
        let act = Act::Value { takes, set, unset };
        Spec { letter: self.letter, longs: self.longs, help: self.help, act, no }
    }
}

/// One more of an option that may be repeated, or none.
fn count(number: &mut u8, on: bool) {
    *number = if on { number.saturating_add(1) } else { 0 };
}
