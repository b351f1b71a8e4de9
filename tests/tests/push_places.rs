//! Options that name places at the destination: backups, partial files, and other trees to take contents from. Their
//! values may hold any bytes.

use std::os::unix::fs::MetadataExt;

use ebbtide_tests::{Client, Release, Tree, Twins, bytes, needs};

fn source(tree: Tree) -> Tree {
    tree.file("changed", bytes(1, 9_000))
        .mtime("changed", 1_600_000_000, 0)
        .file("dir/changed", b"new words")
        .mtime("dir/changed", 1_600_000_000, 0)
        .file("dir/fresh", b"fresh")
        .mtime("dir/fresh", 1_600_000_000, 0)
        .symlink("link", "changed")
        .mtime("dir", 1_600_000_000, 0)
        .mtime("", 1_600_000_000, 0)
}

fn destination(tree: Tree) -> Tree {
    tree.file("changed", bytes(1, 8_000))
        .mtime("changed", 1_500_000_000, 0)
        .file("dir/changed", b"old words")
        .mtime("dir/changed", 1_500_000_000, 0)
        .symlink("link", "elsewhere")
        .mtime("link", 1_500_000_000, 0)
        .file("extra", b"x")
        .mtime("extra", 1_500_000_000, 0)
        .file("dir/extra", b"y")
        .mtime("dir/extra", 1_500_000_000, 0)
}

/// Names that something on the way might take apart.
const ODD: &[&str] =
    &["with blank", "quo'te", "dou\"ble", "back\\slash", "st*r", "quest?ion", "br[a]cket", "a$b;c&d"];

#[test]
fn backups_are_kept_where_rsync_keeps_them() {
    for options in [
        &["-abi"][..],
        &["-abi", "--delete"],
        &["-abi", "--delete-after"],
        &["-abi", "--suffix=.old"],
        &["-abi", "--suffix=.old", "--delete"],
        &["-ai", "--backup-dir=kept"],
        &["-ai", "--backup-dir=kept", "--delete"],
        &["-abi", "--backup-dir=kept/deep", "--suffix=.x", "--delete-delay"],
        &["-ab", "--no-backup", "-i"],
        &["-abi", "--inplace"],
    ] {
        for release in Release::ALL {
            let twins = needs!(Twins::new(release));
            source(twins.source());
            twins.destinations(destination);
            twins.expect_same_but_dir_times(options);
            // Backups of before are no extraneous files.
            twins.source().file("changed", b"once more").mtime("changed", 1_650_000_000, 0);
            twins.expect_same_but_dir_times(options);
        }
    }
}

#[test]
fn partial_and_delayed_files_end_in_their_place() {
    for options in [
        &["-ai", "--partial"][..],
        &["-ai", "--partial-dir=.parts"],
        &["-ai", "--partial-dir=.parts", "--delete"],
        &["-ai", "--partial-dir=/parts", "--delete"],
        &["-ai", "--delay-updates"],
        &["-ai", "--delay-updates", "--delete"],
        &["-ai", "--delay-updates", "--partial-dir=.parts", "--delete-after"],
        &["-ai", "--temp-dir=tmp"],
        &["-aiT", "/tmp"],
    ] {
        for release in Release::ALL {
            let twins = needs!(Twins::new(release));
            source(twins.source());
            twins.destinations(|tree| {
                destination(tree)
                    .dir("tmp")
                    .file("dir/.parts/fresh", b"fr")
                    .mtime("dir/.parts/fresh", 1_500_000_000, 0)
                    .dir(".parts/x")
            });
            twins.expect_same_but_dir_times(options);
        }
    }
}

#[test]
fn a_temp_dir_that_is_missing_is_an_error() {
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        source(twins.source());
        let pair = twins.push(&["-a", "--temp-dir=none"], "source/", "");
        assert_eq!((pair.ours.code, pair.stock.code), (1, 1), "{:?}", pair.ours);
    }
}

#[test]
fn contents_are_taken_from_other_trees() {
    for option in ["--link-dest", "--copy-dest", "--compare-dest"] {
        for more in [&[][..], &["--delete"], &["-H"], &["-y"]] {
            for release in Release::ALL {
                let twins = needs!(Twins::new(release));
                source(twins.source());
                let stored = |tree: Tree| {
                    let tree = destination(tree).file("old/1/changed", bytes(1, 9_000));
                    tree.mtime("old/1/changed", 1_600_000_000, 0)
                        .file("old/2/dir/fresh", b"fresh")
                        .mode("old/2/dir/fresh", 0o600)
                        .mtime("old/2/dir/fresh", 1_600_000_000, 0)
                };
                twins.destinations(stored);
                let places = [format!("{option}=/old/1"), format!("{option}=/old/2")];
                let options = [&["-ai", &places[0], &places[1]], more].concat();
                twins.expect_same_but_dir_times_at(&options, "new/");
                if option == "--link-dest" {
                    let inode = |name: &str| std::fs::metadata(twins.ours().join(name)).unwrap().ino();
                    assert_eq!(inode("new/changed"), inode("old/1/changed"));
                }
            }
        }
    }
}

#[test]
fn relative_places_start_at_the_destination() {
    for option in ["--link-dest=../old", "--copy-dest=../old", "--compare-dest=../old"] {
        let twins = needs!(Twins::with(Release::Installed, |module| module.chroot(true)));
        source(twins.source());
        twins.destinations(|tree| {
            tree.file("old/changed", bytes(1, 9_000)).mtime("old/changed", 1_600_000_000, 0)
        });
        twins.expect_same_but_dir_times_at(&["-ai", option], "new/");
    }
}

/// Our odd values travel in the secluded form, which every release takes. Stock rsync escapes them, which only daemons
/// from 3.4.4 on take back; so it is compared with under `-s`.
#[test]
fn values_of_any_bytes_arrive_as_they_are() {
    for release in Release::ALL {
        for odd in ODD {
            let twins = needs!(Twins::new(release));
            source(twins.source());
            twins.destinations(|tree| {
                let tree = destination(tree).dir(odd);
                let stored = format!("{odd}/dir/fresh");
                tree.file(&stored, b"fresh").mtime(&stored, 1_600_000_000, 0)
            });
            let (temp, old, suffix) =
                (format!("--temp-dir={odd}"), format!("--link-dest=/{odd}"), format!("--suffix={odd}"));
            let options = ["-abi", "-s", &temp, &old, &suffix];
            twins.expect_same_but_dir_times(&options);
            assert!(twins.ours().join(format!("changed{odd}")).exists());
            let plain: Vec<&str> = options.into_iter().filter(|option| *option != "-s").collect();
            twins.source().file("changed", b"again");
            let pair = twins.push(&plain, "source/", "");
            let expected = if Client::under_test().is_ours() { 0 } else { pair.stock.code };
            assert_eq!(pair.ours.code, expected, "{:?}", pair.ours);
        }
    }
}
