//! What rsync has and a sender to daemons has not, each with what to use instead.

use super::{Act, Spec, switch};

const fn refuse(names: &'static [&'static str], takes: bool, instead: &'static str) -> Spec {
    Spec { letter: None, longs: names, help: "", act: Act::Refuse { takes, instead }, no: &[] }
}

/// What is so without saying.
pub(crate) const USUAL: &[Spec] = &[
    switch(None, &["no-insecure-links"], &[], "", |_, _| {}),
    switch(None, &["no-drop-D"], &[], "", |_, _| {}),
];

/// All of them.
pub(crate) const REFUSED: &[Spec] = &[
    refuse(&["daemon"], false, "ebbtide-send only sends; run rsync --daemon"),
    refuse(&["config"], true, "it configures a daemon; run rsync --daemon"),
    refuse(&["dparam"], true, "it configures a daemon; run rsync --daemon"),
    refuse(&["detach"], false, "it belongs to a daemon; run rsync --daemon"),
    refuse(&["no-detach"], false, "it belongs to a daemon; run rsync --daemon"),
    refuse(&["server"], false, "it is rsync's own way to call itself; run rsync on the other side"),
    refuse(&["sender"], false, "it is rsync's own way to call itself; run rsync on the other side"),
    refuse(&["read-batch"], true, "batch files are rsync's own; run rsync --read-batch"),
    refuse(&["write-batch"], true, "batch files are rsync's own; run rsync --write-batch"),
    refuse(&["only-write-batch"], true, "batch files are rsync's own; run rsync --only-write-batch"),
    refuse(
        &["copy-devices"],
        false,
        "a device's content is no file of the tree; copy it into one and send that",
    ),
    refuse(&["copy-as"], true, "run ebbtide-send as that user, with sudo -u or setpriv"),
    refuse(
        &["fake-super"],
        false,
        "it stores attributes on the side where it is given; send it to the receiver with -M--fake-super",
    ),
    refuse(
        &["insecure-links"],
        false,
        "files that options name are opened as they are; a daemon never obeys this option",
    ),
    refuse(&["confine-root"], true, "confine ebbtide-send with a mount namespace or a unit's RootDirectory="),
    refuse(&["trust-sender"], false, "it has no effect on a sender; leave it out"),
    refuse(&["drop-D"], false, "it has no effect on a sender; send it to the receiver with -M--drop-D"),
    refuse(
        &["remove-sent-files"],
        false,
        "it is an old name; use --remove-source-files, which removes what was equal already too",
    ),
    refuse(&["qsort"], false, "it picks one of rsync's sorting routines; leave it out"),
];
