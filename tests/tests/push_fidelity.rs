//! Attributes arrive as stock rsync sends them: ACLs, extended attributes, access times, modes and owners that are
//! changed on the way, symlinks that are followed, file systems that are not crossed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use ebbtide_tests::{
    Client, FileSystem, Kind, Module, Referee, Release, Rsyncd, Tree, Twins, bytes, kib, needs,
};

/// Everything that the protocols differ in.
const PROTOCOLS: [&str; 3] = ["--protocol=30", "--protocol=31", "--protocol=32"];

/// Runs a tool on an entry below `root`.
#[track_caller]
fn tool(root: &Path, program: &str, args: &[&str], name: &str) {
    let done = Command::new(program).args(args).arg(root.join(name)).output().expect("the tool is installed");
    assert!(done.status.success(), "{program} {args:?} {name}: {}", String::from_utf8_lossy(&done.stderr));
}

fn acl(root: &Path, args: &[&str], name: &str) {
    tool(root, "setfacl", args, name);
}

fn xattr(root: &Path, attribute: &str, value: &[u8], name: &str) {
    rustix::fs::lsetxattr(root.join(name), attribute, value, rustix::fs::XattrFlags::empty())
        .unwrap_or_else(|error| panic!("{attribute} of {name}: {error}"));
}

/// Entries of all kinds with ACLs: access and default ones, with and without a mask, shared and not.
fn with_acls(tree: Tree, root: &Path) {
    let tree = (0..40).fold(tree, |tree, n| tree.file(format!("many/{n}"), n.to_string()));
    tree.file("plain", b"p")
        .file("named", b"n")
        .file("twin", b"n")
        .file("masked", b"m")
        .mode("masked", 0o640)
        .dir("inherits/below")
        .fifo("fifo")
        .device("null", 1, 3)
        .symlink("link", "named")
        .file("linked", b"l")
        .link("inherits/linked", "linked");
    for name in ["named", "twin", "linked"] {
        acl(root, &["-m", "u:1:rw,u:54321:r,g:2:rwx"], name);
    }
    acl(root, &["-m", "m::r"], "masked");
    acl(root, &["-m", "u:0:rwx"], "fifo");
    acl(root, &["-m", "g:3:r"], "null");
    acl(root, &["-d", "-m", "u:1:rwx,g:2:r,o::-"], "inherits");
    acl(root, &["-m", "u:5:x"], "inherits/below");
    for n in 0..40 {
        acl(root, &["-m", &format!("u:{}:rw,g:{n}:r", 1000 + n % 20)], &format!("many/{n}"));
    }
    acl(root, &["-m", "u:7:rwx"], "named");
    tool(root, "chmod", &["600"], "named");
    Tree::at(root).aged();
}

/// Entries of all kinds with extended attributes: short and long values, shared and not, of all that a list may hold.
fn with_xattrs(tree: Tree, root: &Path) {
    let tree = (0..40).fold(tree, |tree, n| tree.file(format!("many/{n}"), n.to_string()));
    tree.file("plain", b"p")
        .file("short", b"s")
        .file("long", bytes(1, kib(40)))
        .file("twin", b"l")
        .file("empty value", b"")
        .file("not ours", b"")
        .dir("dir")
        .fifo("fifo")
        .device("null", 1, 3)
        .symlink("link", "long")
        .file("linked", b"l")
        .link("dir/linked", "linked");
    xattr(root, "user.short", b"32 bytes, the most that is inline", "short");
    xattr(root, "user.a", &[7; 32], "short");
    for name in ["long", "twin", "linked"] {
        xattr(root, "user.long", &bytes(9, 3_000), name);
        xattr(root, "user.\u{e9}t\u{e9} and more", b"odd name", name);
        xattr(root, "user.rsync.note", b"no % in it", name);
    }
    xattr(root, "user.empty", b"", "empty value");
    xattr(root, "user.rsync.%stat", b"100644 0,0 0:0", "not ours");
    xattr(root, "user.kept", b"yes", "not ours");
    xattr(root, "user.dir", &[b'd'; 100], "dir");
    for name in ["dir", "fifo", "null", "link", "long"] {
        xattr(root, "trusted.any", &[b't'; 33], name);
    }
    for n in 0..40_u8 {
        xattr(root, "user.n", &[n % 20; 50], &format!("many/{n}"));
    }
    Tree::at(root).aged();
}

/// Entries with ACLs, entries with extended attributes, and one with both.
fn with_both(twins: &Twins) {
    let root = twins.source_path();
    with_acls(Tree::at(&root.join("acls")), &root.join("acls"));
    with_xattrs(Tree::at(&root.join("xattrs")), &root.join("xattrs"));
    acl(&root, &["-m", "u:9:rw"], "xattrs/long");
    twins.source().mtime("", 1_000_000_000, 0);
}

/// The test's own symlinks are stored as they are: a daemon without chroot would change their targets.
fn twins(release: Release) -> Result<Twins, ebbtide_tests::Skip> {
    Twins::with(release, |module| module.option("munge symlinks", "no"))
}

#[test]
fn acls_of_all_kinds_arrive_and_nothing_is_left_to_do() {
    for release in Release::ALL {
        for protocol in PROTOCOLS {
            let twins = needs!(twins(release));
            with_acls(twins.source(), &twins.source_path());
            let pair = twins.expect_same(&["-aHAi", protocol]);
            assert_eq!(pair.ours.code, 0, "{:?}", pair.ours);
            twins.expect_synced();
            let again = twins.expect_same(&["-aHAi", protocol]);
            assert_eq!(again.ours.itemized(), Vec::<&str>::new());
        }
    }
}

#[test]
fn extended_attributes_of_all_kinds_arrive_and_nothing_is_left_to_do() {
    for release in Release::ALL {
        for protocol in PROTOCOLS {
            let twins = needs!(twins(release));
            with_xattrs(twins.source(), &twins.source_path());
            let pair = twins.expect_same(&["-aHXi", protocol]);
            assert_eq!(pair.ours.code, 0, "{:?}", pair.ours);
            twins.expect_synced();
            let again = twins.expect_same(&["-aHXi", protocol]);
            assert_eq!(again.ours.itemized(), Vec::<&str>::new());
        }
    }
}

#[test]
fn a_change_of_nothing_but_an_acl_or_an_extended_attribute_arrives() {
    for release in Release::ALL {
        let twins = needs!(twins(release));
        let root = twins.source_path();
        with_both(&twins);
        twins.expect_same(&["-aHAXi"]);
        acl(&root, &["-m", "u:1:x"], "acls/plain");
        acl(&root, &["-b"], "acls/linked");
        acl(&root, &["-k"], "acls/inherits");
        xattr(&root, "user.long", &bytes(10, 3_000), "xattrs/twin");
        xattr(&root, "user.long", &bytes(10, 3_000), "xattrs/linked");
        xattr(&root, "user.fresh", &[1; 400], "xattrs/many/3");
        rustix::fs::removexattr(root.join("xattrs/short"), "user.a").unwrap();
        xattr(&root, "trusted.any", b"now short", "xattrs/link");
        let pair = twins.expect_same(&["-aHAXi"]);
        let changed = |line: &&&str| line.contains(".......a") || line.contains("x ");
        assert!(pair.ours.itemized().iter().filter(changed).count() >= 7, "{:?}", pair.ours);
        assert!(!pair.ours.itemized().iter().any(|line| line.starts_with('<')), "{:?}", pair.ours);
        twins.expect_synced();
    }
}

#[test]
fn one_that_must_be_sent_and_one_that_must_not_share_their_attributes() {
    for release in Release::ALL {
        let twins = needs!(twins(release));
        let root = twins.source_path();
        (0..30).fold(twins.source(), |tree, n| tree.file(format!("f{n:02}"), bytes(n, 2_000))).aged();
        twins.in_sync();
        for n in 0..30 {
            xattr(&root, "user.shared", &[b's'; 500], &format!("f{n:02}"));
            if n % 3 == 0 {
                twins.source().file(format!("f{n:02}"), bytes(n + 100, 200_000));
            }
        }
        twins.expect_same(&["-aXi"]);
        twins.expect_synced();
    }
}

#[test]
fn an_attribute_that_cannot_be_had_twice_is_copied_with_two_letters() {
    let twins = needs!(twins(Release::Installed));
    with_xattrs(twins.source(), &twins.source_path());
    twins.expect_same(&["-aXXi"]);
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(twins.ours().join("not ours"), "user.rsync.%stat", &mut value);
    assert_eq!(length, Ok(14));
}

#[test]
fn rules_choose_among_extended_attributes() {
    for options in [
        &["-aXi", "--filter=-x user.n"][..],
        &["-aXi", "--filter=-x trusted.*", "--filter=+x *.long", "--filter=-x user.*"],
        &["-aXi", "--delete", "--filter=-x user.rsync.note", "--filter=-x system.*"],
    ] {
        let twins = needs!(twins(Release::Installed));
        with_xattrs(twins.source(), &twins.source_path());
        twins.expect_same(options);
        Referee::default().expect_equal(&twins.stock(), &twins.ours());
    }
}

#[test]
fn values_as_long_as_the_kernel_takes_arrive() {
    for release in Release::ALL {
        // ext4 has no room for them.
        let fs = needs!(FileSystem::new(Kind::Xfs));
        let (source, destination) = (fs.dir("source"), fs.dir("destination"));
        let rsyncd = needs!(Rsyncd::start(release, [Module::new("m", &destination)]));
        Tree::at(&source).file("f", b"f").dir("d").file("d/g", b"g").aged();
        for (n, name) in ["f", "d", "d/g"].into_iter().enumerate() {
            xattr(&source, "user.large", &bytes(n as u64, kib(64)), name);
            xattr(&source, "trusted.also large", &bytes(7, kib(64) - 1), name);
        }
        let args = ["-aHXi", &format!("{}/", source.display()), &rsyncd.url("m")];
        Client::under_test().run(args).expect(0);
        Referee::default().expect_equal(&source, &destination);
        xattr(&source, "user.large", &bytes(9, kib(64)), "d/g");
        let again = Client::under_test().run(args).expect(0);
        assert_eq!(again.itemized(), [".f........x d/g"]);
        Referee::default().expect_equal(&source, &destination);
    }
}

#[test]
fn what_an_older_copy_has_is_taken_from_there_and_attributes_that_differ_are_sent() {
    for option in ["--link-dest=/old", "--copy-dest=/old", "--compare-dest=/old", "-yy"] {
        for release in Release::ALL {
            let twins = needs!(twins(release));
            let root = twins.source_path();
            with_both(&twins);
            twins.destinations(|tree| tree.dir("old").dir("new"));
            twins.expect_same_from(&["-aHAXi"], "source/", "old/");
            xattr(&root, "user.long", &bytes(10, 3_000), "xattrs/twin");
            xattr(&root, "user.fresh", &[1; 400], "xattrs/many/3");
            acl(&root, &["-m", "u:1:x"], "acls/plain");
            twins.source().file("xattrs/long", bytes(2, kib(40))).mtime("xattrs/long", 1_000_000_000, 0);
            let pair = twins.expect_same_from(&["-aHAXi", option], "source/", "new/");
            assert_eq!(pair.ours.code, 0, "{:?}", pair.ours);
            Referee::default().expect_equal(&twins.stock().join("new"), &twins.ours().join("new"));
            // Of what the daemon copies by itself, it leaves out attributes of anything but files.
            if option == "--link-dest=/old" {
                Referee::default().expect_equal(&root, &twins.ours().join("new"));
            }
        }
    }
}

#[test]
fn attributes_cost_about_the_bytes_that_they_cost_stock_rsync() {
    let twins = needs!(twins(Release::Installed));
    with_both(&twins);
    let pair = twins.push(&["-aHAX", "--stats", "--no-inc-recursive"], "source/", "");
    let sent = |text: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix("Total bytes sent: "));
        line.expect("stats are printed").replace(',', "").parse().expect("a number")
    };
    let (ours, stock) = (sent(&pair.ours.stdout), sent(&pair.stock.stdout));
    assert!(ours <= stock + stock / 50, "we sent {ours} bytes, stock {stock}");
}

#[test]
fn access_times_arrive_and_need_no_second_push() {
    for release in Release::ALL {
        for protocol in PROTOCOLS {
            let twins = needs!(twins(release));
            let root = twins.source_path();
            twins
                .source()
                .file("a", b"a")
                .file("d/b", bytes(2, 3_000))
                .file("epoch", b"")
                // A symlink's is changed by whoever reads it.
                .fifo("l")
                .aged();
            for (name, at) in [("a", "1000000001"), ("d/b", "2000000002"), ("epoch", "0"), ("l", "77")] {
                tool(&root, "touch", &["-h", "-a", "-d", &format!("@{at}")], name);
            }
            // Comparing contents would change them.
            let pair = twins.push(&["-aUUi", protocol], "source/", "");
            pair.expect_same(&["-aUUi", protocol]);
            for name in ["a", "d/b", "epoch", "l"] {
                let atime = |path: &Path| fs::symlink_metadata(path.join(name)).unwrap().atime();
                assert_eq!(atime(&twins.ours()), atime(&root), "{name}");
            }
            tool(&root, "touch", &["-a", "-d", "@5"], "a");
            let pair = twins.push(&["-aUUi", protocol], "source/", "");
            pair.expect_same(&["-aUUi", protocol]);
            assert_eq!(pair.ours.itemized(), [".f......u.. a"]);
        }
    }
}

#[test]
fn reading_a_file_leaves_its_access_time_alone() {
    let twins = needs!(twins(Release::Installed));
    let root = twins.source_path();
    twins.source().file("a", b"a").file("large", bytes(1, kib(500))).aged();
    for name in ["a", "large"] {
        tool(&root, "touch", &["-a", "-d", "@1000000001"], name);
    }
    Client::under_test().run(["-a", &format!("{}/", root.display()), &twins.daemon().url("ours")]).expect(0);
    for name in ["a", "large"] {
        let atime = fs::metadata(root.join(name)).unwrap().atime();
        // Stock rsync does so only when it is told to, on purpose of compatibility.
        assert_eq!(atime == 1_000_000_001, Client::under_test().is_ours(), "{name}");
    }
}

#[test]
fn creation_times_are_refused_by_name() {
    let outcome = Client::under_test().run(["-aN", "/nowhere/", "rsync://127.0.0.1:9/m/"]);
    if Client::under_test().is_ours() {
        assert!(outcome.stderr.contains("--crtimes (-N)"), "{outcome:?}");
        assert_eq!(outcome.code, 4);
    } else {
        assert_ne!(outcome.code, 0);
    }
}

/// Modes of all sorts.
fn modes(tree: Tree) -> Tree {
    [0o644, 0o600, 0o755, 0o4711, 0o2640, 0o000, 0o111].iter().fold(tree, |tree, &mode| {
        let (file, dir) = (format!("f{mode:04o}"), format!("d{mode:04o}"));
        tree.file(&file, &file).mode(&file, mode).dir(&dir).mode(&dir, mode | 0o700)
    })
}

#[test]
fn modes_are_changed_on_the_way_as_rsync_changes_them() {
    let changes = [
        "Dg+s,ug+w,Fo-w,+X",
        "D2775,F664",
        "a=rX",
        "go=,u+s",
        "+w",
        "=r",
        "-x",
        "u+st",
        "g=u",
        "ugo+t",
        "o+s",
        "a+s",
        "+s",
        "u-s,g-s",
        "F=rw,D=rwx",
        "u=rwxs",
        "DFu+x",
        "u=",
        "7",
        "00644",
        "8",
        "10000",
        "u",
        "u+x,",
        ",u+x",
        "uDg-w",
        "+X",
        "a-rwx,+X",
    ];
    for change in changes {
        let twins = needs!(twins(Release::Installed));
        modes(twins.source()).symlink("link", "f0644");
        let option = format!("--chmod={change}");
        let pair = twins.push(&["-a", &option], "source/", "");
        assert_eq!(
            pair.ours.code, pair.stock.code,
            "{option}: {} and {}",
            pair.ours.stderr, pair.stock.stderr
        );
        let verdict = Referee::with("-nac").compare(&twins.stock(), &twins.ours());
        assert!(verdict.is_equal(), "{option}:\n{verdict}");
    }
    let twins = needs!(twins(Release::Installed));
    modes(twins.source());
    twins.expect_same(&["-ai", "--chmod=u+x", "--chmod=Dgo-rx,Fgo="]);
}

#[test]
fn an_acl_and_a_changed_mode_end_as_with_rsync() {
    for change in ["--chmod=g=", "--chmod=g=rwx", "--chmod=u=r", "--chmod=F600"] {
        let twins = needs!(twins(Release::Installed));
        with_acls(twins.source(), &twins.source_path());
        twins.expect_same(&["-aAi", change]);
        Referee::default().expect_equal(&twins.stock(), &twins.ours());
    }
}

#[test]
fn owners_are_mapped_as_rsync_maps_them() {
    let maps = [
        &["-ai", "--chown=bin:daemon"][..],
        &["-rti", "--usermap=0:1,1-5:7,*:nobody"],
        &["-ri", "--groupmap=:3,root:1"],
        &["-ai", "--numeric-ids", "--chown=5"],
        &["-ai", "--usermap=54321:6", "--groupmap=*:54321"],
    ];
    for options in maps {
        let twins = needs!(twins(Release::Installed));
        twins
            .source()
            .file("root", b"")
            .file("bin", b"")
            .owner("bin", 1, 2)
            .file("nobody knows", b"")
            .owner("nobody knows", 54_321, 54_321)
            .aged();
        twins.expect_same(options);
    }
}

#[test]
fn attributes_may_be_left_out_as_rsync_leaves_them_out() {
    for options in [
        &["-rltEi"][..],
        &["-aOi"],
        &["-aJi"],
        &["-aSi"],
        &["-ai", "--super"],
        &["-ai", "--no-super"],
        &["-aKi"],
        &["-ai", "--open-noatime"],
        &["-aUUi"],
    ] {
        for release in Release::ALL {
            let twins = needs!(twins(release));
            twins
                .source()
                .file("program", b"#!")
                .mode("program", 0o755)
                .file("data", b"d")
                .dir("dir")
                .symlink("link", "data")
                .sparse("sparse", 3 << 20)
                .aged();
            twins.destinations(|tree| {
                tree.file("program", b"#!")
                    .file("data", b"d")
                    .mode("data", 0o777)
                    .dir("real")
                    .symlink("dir", "real")
            });
            let pair = twins.push(options, "source/", "");
            pair.expect_same(options);
            // Times that are left out are those of the two pushes.
            let letters = if options[0].contains(['O', 'J']) { "-nrlpgoDHc" } else { "-naHc" };
            Referee::with(letters).expect_equal(&twins.stock(), &twins.ours());
            assert_eq!(pair.ours.code, 0, "{:?}", pair.ours);
            if options.contains(&"-aSi") {
                assert!(fs::metadata(twins.ours().join("sparse")).unwrap().blocks() < 200);
            }
        }
    }
}

/// Symlinks of all sorts.
fn links(tree: Tree) -> Tree {
    tree.file("file", b"content")
        .file("dir/inner", b"inner")
        .symlink("to file", "file")
        .symlink("to dir", "dir")
        .symlink("dir/up", "../file")
        .symlink("dir/out", "../../elsewhere/secret")
        .symlink("out", "../elsewhere")
        .symlink("through", "dir/../file")
        .symlink("absolute", "/etc/hostname")
        .symlink("munged", "/rsyncd-munged/file")
        .aged()
}

#[test]
fn symlinks_are_followed_as_far_as_rsync_follows_them() {
    let sets = [
        &["-ai"][..],
        &["-aLi"],
        &["-ai", "--no-links"],
        &["-ai", "--copy-unsafe-links"],
        &["-ai", "--safe-links"],
        &["-ai", "--munge-links"],
        &["-aki"],
        &["-rtLi"],
        &["-aki", "--copy-unsafe-links"],
        &["-aHLi"],
        &["-rkti"],
        &["-aXLi"],
        &["-rti", "--copy-unsafe-links"],
    ];
    for options in sets {
        let twins = needs!(twins(Release::Installed));
        Tree::at(&twins.folder().join("elsewhere")).file("secret", b"outside").aged();
        links(twins.source());
        twins.expect_same(options);
    }
}

#[test]
fn a_symlink_to_be_followed_that_leads_nowhere_is_told_and_stops_deletion() {
    for options in [&["-aLi", "--delete"][..], &["-ai", "--copy-unsafe-links", "--delete"]] {
        let twins = needs!(twins(Release::Installed));
        twins.source().file("file", b"").symlink("nowhere", "/no/such/thing").aged();
        twins.destinations(|tree| tree.file("extra", b""));
        let pair = twins.expect_same(options);
        assert_eq!(pair.ours.code, 23, "{:?}", pair.ours);
        assert!(pair.ours.stderr.contains("symlink has no referent: \""), "{:?}", pair.ours);
        assert!(twins.ours().join("extra").exists());
    }
}

#[test]
fn links_as_arguments_are_followed_as_rsync_follows_them() {
    for options in [&["-ai"][..], &["-aLi"], &["-aki"], &["-ai", "--copy-unsafe-links"]] {
        for from in ["source/to dir", "source/to file", "source/out", "source/to dir/"] {
            let twins = needs!(twins(Release::Installed));
            Tree::at(&twins.folder().join("elsewhere")).file("secret", b"outside").aged();
            links(twins.source());
            twins.expect_same_from(options, from, "");
        }
    }
}

#[test]
fn names_of_one_inode_are_linked_also_when_they_come_from_different_arguments() {
    for release in Release::ALL {
        let twins = needs!(twins(release));
        twins
            .source()
            .file("one/a", b"linked")
            .dir("two")
            .link("two/b", "one/a")
            .file("two/c", b"alone")
            .aged();
        let from = twins.source_path();
        let names = [from.join("one"), from.join("two")].map(|path| path.to_str().unwrap().to_owned());
        for (client, module) in [(Client::stock(), "stock"), (Client::under_test(), "ours")] {
            client.run(["-aH", &names[0], &names[1], &twins.daemon().url(module)]).expect(0);
        }
        // The destination's own mtime is when the last entry was made.
        twins.destinations(|tree| tree.mtime("", 1_000_000_000, 0));
        Referee::with("-naHc").expect_equal(&twins.stock(), &twins.ours());
        let inode = |name| fs::metadata(twins.ours().join(name)).unwrap().ino();
        assert_eq!(inode("one/a"), inode("two/b"));
    }
}

/// A mounted file system, for as long as it is in scope.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn at(path: &Path) -> Option<Mounted> {
        fs::create_dir_all(path).expect("a directory can be made");
        let done = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(path).output().ok()?;
        done.status.success().then(|| Mounted(path.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn another_file_system_is_an_empty_directory_or_nothing() {
    for options in [&["-ai"][..], &["-axi"], &["-axxi"], &["-axi", "--delete"], &["-axxi", "--delete"]] {
        let twins = needs!(twins(Release::Installed));
        twins.source().file("here/file", b"");
        let Some(mounted) = Mounted::at(&twins.source_path().join("here/mounted")) else { return };
        Tree::at(&mounted.0).file("on it/file", b"").aged();
        twins.source().aged();
        twins.destinations(|tree| tree.file("here/mounted/kept", b"").file("here/extra", b""));
        twins.expect_same(options);
    }
}
