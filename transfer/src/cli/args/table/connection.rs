//! How contents travel, and the way to the daemon.

use super::super::given::{Given, Stop};
use super::super::value::{number, path, size, text};
use super::{Spec, count, switch, value};

pub(super) const DATA: &[Spec] = &[
    switch(
        Some('W'),
        &["whole-file"],
        &["no-whole-file", "no-W"],
        "copy files whole (w/o delta-xfer algorithm)",
        |given, on| given.data.whole_file = Some(on),
    ),
    value(Some('B'), &["block-size"], "SIZE", "force a fixed checksum block-size", |given, value| {
        given.data.block_size = Some(block_size(value)?);
        Ok(())
    }),
    value(
        None,
        &["checksum-choice", "cc"],
        "STR",
        "choose the checksum algorithm (aka --cc)",
        |given, value| {
            let second = value.iter().position(|byte| *byte == b',');
            let halves = second.map_or((value, value), |comma| (&value[..comma], &value[comma + 1..]));
            given.data.checksum_choice = Some((halves.0.to_vec(), halves.1.to_vec()));
            Ok(())
        },
    ),
    value(None, &["checksum-seed"], "NUM", "set block/file checksum seed (advanced)", |given, value| {
        given.data.checksum_seed = Some(number(value)?);
        Ok(())
    }),
    switch(
        Some('z'),
        &["compress"],
        &["no-compress", "no-z"],
        "compress file data during the transfer",
        compress,
    ),
    value(
        None,
        &["compress-choice", "zc"],
        "STR",
        "choose the compression algorithm (aka --zc)",
        |given, value| {
            given.data.compress_choice = Some(value.to_vec());
            Ok(())
        },
    ),
    switch(None, &["new-compress"], &[], "same as --compress-choice=zlibx", |given, _| {
        given.data.compress_choice = Some(b"zlibx".to_vec());
    }),
    switch(None, &["old-compress"], &[], "same as --compress-choice=zlib", |given, _| {
        given.data.compress_choice = Some(b"zlib".to_vec());
    }),
    value(
        None,
        &["compress-level", "zl"],
        "NUM",
        "explicitly set compression level (aka --zl)",
        |given, value| {
            given.data.compress_level = Some(number(value)?);
            Ok(())
        },
    ),
    value(
        None,
        &["compress-threads", "zt"],
        "NUM",
        "explicitly set compression threads (aka --zt)",
        |given, value| {
            given.data.compress_threads = Some(number(value)?);
            Ok(())
        },
    ),
    value(None, &["skip-compress"], "LIST", "skip compressing files with suffix in LIST", |given, value| {
        given.data.skip_compress = Some(value.to_vec());
        Ok(())
    }),
    value(None, &["max-alloc"], "SIZE", "change a limit relating to memory alloc", |given, value| {
        given.data.max_alloc = Some(size(value, b'B')?);
        Ok(())
    }),
    value(None, &["bwlimit"], "RATE", "limit socket I/O bandwidth", |given, value| {
        given.data.bwlimit = bandwidth(value)?;
        Ok(())
    })
    .off(&["no-bwlimit"], |given| given.data.bwlimit = 0),
    value(
        None,
        &["stop-after", "time-limit"],
        "MINS",
        "stop after MINS minutes have elapsed",
        |given, value| {
            let minutes = number(value).ok().filter(|minutes| *minutes > 0);
            given.data.stop = Some(Stop::After(minutes.ok_or("not a number of minutes")?));
            Ok(())
        },
    ),
    value(None, &["stop-at"], "y-m-dTh:m", "stop at the specified point in time", |given, value| {
        given.data.stop = Some(Stop::At(value.to_vec()));
        Ok(())
    }),
];

pub(super) const SPECS: &[Spec] = &[
    value(None, &["port"], "PORT", "specify double-colon alternate port number", |given, value| {
        given.connection.port = Some(number(value)?);
        Ok(())
    }),
    value(None, &["address"], "ADDRESS", "bind address for outgoing socket to daemon", |given, value| {
        given.connection.address = Some(text(value)?);
        Ok(())
    }),
    switch(Some('4'), &["ipv4"], &[], "prefer IPv4", |given, _| given.connection.family = Some(4)),
    switch(Some('6'), &["ipv6"], &[], "prefer IPv6", |given, _| given.connection.family = Some(6)),
    value(None, &["sockopts"], "OPTIONS", "specify custom TCP options", |given, value| {
        given.connection.sockopts = Some(value.to_vec());
        Ok(())
    }),
    value(None, &["tls-ca"], "FILE", "trust the certificates in FILE for rsyncs://", |given, value| {
        given.connection.tls_ca = Some(path(value)?);
        Ok(())
    }),
    value(None, &["tls-cert"], "FILE", "show the daemon the certificate in FILE", |given, value| {
        given.connection.tls_cert = Some(path(value)?);
        Ok(())
    }),
    value(None, &["tls-key"], "FILE", "the private key of --tls-cert", |given, value| {
        given.connection.tls_key = Some(path(value)?);
        Ok(())
    }),
    value(None, &["timeout"], "SECONDS", "set I/O timeout in seconds", |given, value| {
        given.connection.timeout = number(value)?;
        Ok(())
    })
    .off(&["no-timeout"], |given| given.connection.timeout = 0),
    value(None, &["contimeout"], "SECONDS", "set daemon connection timeout in seconds", |given, value| {
        given.connection.contimeout = number(value)?;
        Ok(())
    })
    .off(&["no-contimeout"], |given| given.connection.contimeout = 0),
    value(None, &["password-file"], "FILE", "read daemon-access password from FILE", |given, value| {
        given.connection.password_file = Some(path(value)?);
        Ok(())
    }),
    value(None, &["early-input"], "FILE", "use FILE for daemon's early exec input", |given, value| {
        given.connection.early_input = Some(path(value)?);
        Ok(())
    }),
    value(Some('e'), &["rsh"], "COMMAND", "specify the remote shell to use", |given, value| {
        given.connection.rsh = Some(value.to_vec());
        given.connection.rsh_by_name = true;
        Ok(())
    }),
    value(None, &["rsync-path"], "PROGRAM", "specify the rsync to run on remote machine", |given, value| {
        given.connection.rsync_path = Some(value.to_vec());
        Ok(())
    }),
    switch(
        None,
        &["blocking-io"],
        &["no-blocking-io"],
        "use blocking I/O for the remote shell",
        |given, on| given.connection.blocking_io = Some(on),
    ),
    switch(
        None,
        &["old-args"],
        &["no-old-args"],
        "disable the modern argument-protection idiom",
        |given, on| given.connection.old_args = Some(on),
    ),
    switch(
        Some('s'),
        &["secluded-args", "protect-args"],
        &["no-secluded-args", "no-protect-args", "no-s"],
        "use the protocol to safely send the arguments",
        |given, on| given.connection.secluded_args = Some(on),
    ),
    value(Some('M'), &["remote-option"], "OPT", "send OPTION to the remote side only", |given, value| {
        if value.first() != Some(&b'-') {
            return Err("a remote option must start with a dash".to_owned());
        }
        given.connection.remote_options.push(value.to_vec());
        Ok(())
    }),
    value(None, &["protocol"], "NUM", "force an older protocol version to be used", |given, value| {
        given.connection.protocol = Some(number(value)?);
        Ok(())
    }),
];

/// Peer: rsync's manual page, option `--old-compress`: a second `-z` asks for zlibx.
fn compress(given: &mut Given, on: bool) {
    let data = &mut given.data;
    data.compress_denied = !on;
    count(&mut data.compress, on);
    data.compress_choice = match data.compress {
        0 => None,
        1 => data.compress_choice.take(),
        _ => Some(b"zlibx".to_vec()),
    };
}

fn block_size(value: &[u8]) -> Result<u32, String> {
    let bytes = size(value, b'b')?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= MAX_BLOCK)
        .ok_or_else(|| format!("too large (max: {MAX_BLOCK})"))
}

/// The receiver's own limit.
const MAX_BLOCK: u32 = 131_072;

/// In KiB per second, rounded; other than 0 it cannot be less than 512 bytes per second.
fn bandwidth(value: &[u8]) -> Result<u32, String> {
    let bytes = size(value, b'K')?;
    if bytes > 0 && bytes < 512 {
        return Err("too small (min: 512 or 0 for unlimited)".to_owned());
    }
    u32::try_from((bytes + 512) / 1024).map_err(|_| "too large".to_owned())
}
