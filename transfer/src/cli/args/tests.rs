use std::time::Duration;

use ebbtide_wire::proto::{CompressWish, Compression, ServerOptions};

use super::*;

fn parse(line: &str) -> Result<Args, UsageError> {
    let words = std::iter::once("ebbtide-send").chain(line.split_whitespace());
    Args::parse_in(&|_| None, words.map(OsString::from))
}

fn server(line: &str) -> ServerOptions {
    parse(&format!("{line} src rsync://h/m/")).unwrap().push.server
}

#[test]
fn archive_means_what_it_means_for_rsync() {
    let archive = ServerOptions { incremental: true, ..ServerOptions::archive() };
    assert_eq!(server("-a"), archive);
    assert_eq!(server("-rlptgoD"), archive);
    assert_eq!(server("-a --no-i-r"), ServerOptions::archive());
}

#[test]
fn the_last_of_an_option_and_its_negation_counts() {
    assert!(!server("-a --no-o").owner);
    assert!(server("--no-o -a").owner);
    assert!(server("-a --no-owner -o").owner);
    assert!(!server("-z --no-z").times);
}

#[test]
fn halves_of_the_devices_letter_are_told_to_the_daemon() {
    let half = server("-a --no-specials");
    assert!(half.devices);
    assert_eq!(half.extra, [b"--no-specials".to_vec()]);
    assert!(!server("-a --no-D").devices);
}

#[test]
fn letters_cluster_and_repeat() {
    let args = parse("-avvzin src rsync://h/m/").unwrap();
    assert_eq!((args.given.output.verbose, args.given.output.itemize), (2, 1));
    assert_eq!(args.push.server.compress, CompressWish::Best);
    assert!(args.push.server.dry_run);
}

#[test]
fn an_option_we_do_not_have_is_refused_by_name_with_what_to_use_instead() {
    let error = parse("-a --frobnicate src rsync://h/m/").unwrap_err();
    assert_eq!(error.to_string(), "--frobnicate: unknown option");
    // Nothing is completed: rsync does not either.
    assert!(matches!(parse("-a --delet s d").unwrap_err(), UsageError::Unknown(_)));
    let error = parse("--daemon s d").unwrap_err();
    assert_eq!(error.to_string(), "--daemon: ebbtide-send only sends; run rsync --daemon");
    for spec in REFUSED {
        let error = parse(&format!("--{} x s d", spec.id())).unwrap_err();
        assert!(matches!(error, UsageError::Unsupported(_)), "{error}");
    }
}

#[test]
fn every_name_and_letter_is_in_the_table_once() {
    let mut names: Vec<&str> = all().flat_map(|spec| spec.longs.iter().chain(spec.no)).copied().collect();
    let mut letters: Vec<char> = all().filter_map(|spec| spec.letter).collect();
    let (all_names, all_letters) = (names.len(), letters.len());
    names.sort_unstable();
    names.dedup();
    letters.sort_unstable();
    letters.dedup();
    assert_eq!((names.len(), letters.len()), (all_names, all_letters));
}

#[test]
fn counts_begin_anew_after_their_negation() {
    let verbose = |line: &str| parse(line).unwrap().given.output.verbose;
    assert_eq!(verbose("-vv --no-v -v s d"), 1);
    assert_eq!(verbose("-v --no-verbose s d"), 0);
    let human = |line: &str| parse(line).unwrap().given.output.human;
    assert_eq!((human("-r s d"), human("-h s d"), human("-hhh s d"), human("--no-h s d")), (1, 2, 3, 0));
}

#[test]
fn a_letter_takes_its_value_in_every_form() {
    for line in ["-B700 s d", "-B 700 s d", "-B=700 s d", "-rB700 s d", "-rB 700 s d", "--block-size 700 s d"]
    {
        assert_eq!(parse(line).unwrap().push.server.block_size, Some(700), "{line}");
    }
    let args = parse("-a@-1 s d").unwrap();
    assert_eq!(args.push.server.modify_window, Some(-1));
    assert_eq!(parse("-a --max-delete -1 s d").unwrap().push.server.max_delete, Some(-1));
}

#[test]
fn what_does_not_go_together_is_refused() {
    for line in [
        "-a --delete-before --delete-after",
        "--delete",
        "-a --inplace --partial-dir=p",
        "-a --append --delay-updates",
        "-a --append -W",
        "-a --link-dest=a --copy-dest=b",
        "-ab --suffix=",
        "-a --suffix=",
        "-a --temp-dir=",
        "-a --link-dest=",
        "-ab --suffix=a/b",
        "-s --old-args",
        "--chown=a:b --usermap=c:d",
        "--stderr=x",
        "--outbuf=x",
        "--max-size=x",
        "--timeout=x",
        "-Mx",
    ] {
        let error = parse(&format!("{line} s d")).unwrap_err();
        assert!(matches!(error, UsageError::Wrong(_)), "{line}: {error}");
    }
}

#[test]
fn partial_files_go_where_the_variable_says_unless_an_option_says_it() {
    let dir = |line: &str| {
        let words = format!("ebbtide-send {line} s d");
        let set = |name: &str| (name == "RSYNC_PARTIAL_DIR").then(|| OsString::from(".parts"));
        let args = Args::parse_in(&set, words.split_whitespace().map(OsString::from)).unwrap();
        (args.push.server.partial, args.push.server.partial_dir)
    };
    assert_eq!(dir("-a --partial"), (false, Some(b".parts".to_vec())));
    assert_eq!(dir("-a"), (false, None));
    assert_eq!(dir("-a --partial --partial-dir=q"), (false, Some(b"q".to_vec())));
    assert_eq!(dir("-a --partial --inplace"), (false, None));
    assert_eq!(dir("-a --partial-dir=."), (true, None));
}

#[test]
fn a_level_asks_for_compression_unless_it_means_none() {
    assert_eq!(server("--zl=3").compress, CompressWish::Best);
    assert_eq!(server("--zl=0").compress, CompressWish::Off);
    assert_eq!(server("--zl=3 --no-z").compress, CompressWish::Off);
    assert_eq!(server("--zc=zlib --zl=0").compress, CompressWish::Off);
    assert_eq!(server("-zz").compress, CompressWish::Only(Compression::Zlibx));
    assert_eq!(server("--old-compress").compress, CompressWish::Only(Compression::Zlib));
}

#[test]
fn filter_options_keep_their_order() {
    let line = "--include=a -f -_b --exclude-from=c -FF -C s d";
    let words = std::iter::once("ebbtide-send").chain(line.split_whitespace());
    let found = command().try_get_matches_from(words).unwrap();
    let filters = given(&found).unwrap().select.filters;
    let expected = [
        FilterOption::Include(b"a".to_vec()),
        FilterOption::Rule(b"-_b".to_vec()),
        FilterOption::ExcludeFrom("c".into()),
        FilterOption::PerDirectory,
        FilterOption::PerDirectory,
        FilterOption::CvsExclude,
    ];
    assert_eq!(filters, expected);
}

#[test]
fn values_come_with_and_without_an_equals_sign() {
    let args = parse("--timeout=7 --contimeout 3 --checksum-seed=-5 --zc=zlibx s d").unwrap();
    assert_eq!(args.push.timeout, Some(Duration::from_secs(7)));
    assert_eq!(args.push.server.timeout, Some(7));
    assert_eq!(args.push.contimeout, Some(Duration::from_secs(3)));
    assert_eq!(args.push.server.checksum_seed, Some(-5));
    assert_eq!(args.push.server.compress, CompressWish::Only(Compression::Zlibx));
    assert_eq!((args.sources, args.destination), (vec!["s".into()], "d".into()));
}

#[test]
fn unknown_algorithms_are_refused() {
    assert!(parse("--cc=crc32 s d").is_err());
    assert!(parse("--zc=rar s d").is_err());
    assert!(parse("--protocol=29 s d").is_err());
}
