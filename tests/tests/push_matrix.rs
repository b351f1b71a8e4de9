//! The sender against every dialect: release, confinement, password, compression.

use ebbtide_tests::{
    Client, Module, Proxy, Referee, Release, Rsyncd, Scratch, Skip, Tree, bytes, mib, needs,
};

/// Pushes one of everything, changes some of it, pushes again; the referee must have nothing to say.
fn push_twice(release: Release, chroot: bool, password: bool, compression: &[&str]) -> Result<(), Skip> {
    let case = format!("{release:?}, chroot {chroot}, password {password}, {compression:?}");
    eprintln!("{case}");
    let scratch = Scratch::new("matrix");
    let (source, destination) = (scratch.dir("source"), scratch.dir("destination"));
    let mut module = Module::new("m", &destination).chroot(chroot);
    if password {
        module = module.password("alice", "a secret with spaces");
    }
    let daemon = Rsyncd::start(release, [module])?;
    if compression == ["--compress-choice=zstd"] && !daemon.is_since((3, 2)) {
        return Ok(());
    }
    let mut arguments: Vec<String> = vec!["-aH".into(), "--delete".into(), "--numeric-ids".into()];
    arguments.extend(compression.iter().map(|&o| o.to_owned()));
    if password {
        arguments.push(format!("--password-file={}", daemon.password_file("m").display()));
    }
    arguments.extend([format!("{}/", source.display()), daemon.url("m")]);

    let tree = Tree::rich(&source).file("large", bytes(1, mib(2))).aged();
    Client::under_test().run(&arguments).expect(0);
    let mut referee = Referee::default();
    if !chroot {
        // An unconfined daemon stores symlinks that lead out of the module with another target.
        referee = referee.without("/kinds/absolute").without("/kinds/upwards");
    }
    // Protocol 30 has whole seconds only.
    let exact = if daemon.is_since((3, 1)) { referee.clone().to_the_nanosecond() } else { referee.clone() };
    exact.expect_equal(&source, &destination);

    let mut changed = bytes(1, mib(2));
    changed[mib(1)] ^= 0xff;
    changed.truncate(mib(2) - 5);
    tree.file("large", &changed)
        .remove("odd")
        .remove("kinds/fifo")
        .file("kinds/fifo", b"now a file")
        .mode("modes/f0644", 0o600);
    Client::under_test().run(&arguments).expect(0);
    referee.expect_equal(&source, &destination);
    Ok(())
}

macro_rules! dialects {
    ($($name:ident: $release:expr, $chroot:expr, $password:expr;)*) => {$(
        #[test]
        fn $name() {
            for compression in [&[][..], &["-z"], &["--compress-choice=zstd"], &["--compress-choice=zlibx"]] {
                needs!(push_twice($release, $chroot, $password, compression));
            }
        }
    )*};
}

dialects! {
    the_installed_release_takes_everything: Release::Installed, false, false;
    the_installed_release_takes_everything_into_a_chroot: Release::Installed, true, false;
    the_installed_release_takes_everything_with_a_password: Release::Installed, false, true;
    the_installed_release_takes_everything_into_a_chroot_with_a_password: Release::Installed, true, true;
    the_old_release_takes_everything: Release::Old, false, false;
    the_old_release_takes_everything_into_a_chroot: Release::Old, true, false;
    the_old_release_takes_everything_with_a_password: Release::Old, false, true;
    the_old_release_takes_everything_into_a_chroot_with_a_password: Release::Old, true, true;
}

#[test]
fn a_connection_that_gives_single_bytes_is_as_good_as_any() {
    let scratch = Scratch::new("drip");
    let (source, destination) = (scratch.dir("source"), scratch.dir("destination"));
    Tree::at(&source).odd_names().file("middle", bytes(2, 70_000));
    let daemon =
        needs!(Rsyncd::start(Release::Installed, [Module::new("m", &destination).password("alice", "x")]));
    let proxy = Proxy::dripping(&daemon.address());
    let password = format!("--password-file={}", daemon.password_file("m").display());
    let url = daemon.url_at("m", &proxy.address());
    Client::under_test().run(["-az", &password, &format!("{}/", source.display()), &url]).expect(0);
    Referee::default().expect_equal(&source, &destination);
}

#[test]
fn a_tree_of_many_small_files_arrives_whole() {
    let scratch = Scratch::new("many");
    let (source, destination) = (scratch.dir("source"), scratch.dir("destination"));
    let tree = Tree::at(&source);
    (0..5_000).fold(tree, |tree, n| tree.file(format!("{}/{n}", n % 50), bytes(n, n as usize % 3_000)));
    let daemon = needs!(Rsyncd::start(Release::Installed, [Module::new("m", &destination)]));
    Client::under_test()
        .run(["-a", "--delete", &format!("{}/", source.display()), &daemon.url("m")])
        .expect(0);
    Referee::default().expect_equal(&source, &destination);
}
