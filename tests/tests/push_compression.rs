//! Compressed pushes: what arrives is the file, and it costs no more bytes than stock rsync's.

use ebbtide_tests::{Client, Proxy, Release, Twins, bytes, kib, mib, needs, skip};

/// Words as in a log: they compress well, and no two stretches are equal.
fn words(seed: u64, length: usize) -> Vec<u8> {
    let noise = bytes(seed, length / 4);
    let mut text = Vec::with_capacity(length + 100);
    for (at, byte) in noise.iter().enumerate() {
        let word =
            ["alpha", "beta", "gamma", "delta", "omega", "sigma", "lambda", "kappa"][usize::from(byte % 8)];
        text.extend_from_slice(word.as_bytes());
        text.push(if byte % 16 == 0 { b'\n' } else { b' ' });
        if byte % 32 == 0 {
            text.extend_from_slice(format!("{at:x} ").as_bytes());
        }
        if text.len() >= length {
            break;
        }
    }
    text
}

/// Large and small files, texts and noise, also in one file.
fn mixture(twins: &Twins) {
    let mixed = [words(1, mib(5)), bytes(2, mib(3)), words(3, kib(700)), bytes(4, 5)].concat();
    twins
        .source()
        .file("a-small", words(5, 3_000))
        .file("b-mixed", mixed)
        .file("c-small", words(6, 3_000))
        .file("d-noise", bytes(7, mib(9)))
        .file("e-picture.jpg", bytes(8, kib(300)))
        .file("f-text.gz", words(9, kib(300)))
        .file("g-small", words(5, 3_000))
        .file("h-words", words(10, mib(9)))
        .file("i-empty", b"")
        .file("j-small", words(11, 3_000));
}

/// Bytes that a client sends for a push of the source to its own destination.
fn cost(twins: &Twins, client: &Client, module: &str, options: &[&str]) -> u64 {
    let proxy = Proxy::to(&twins.daemon().address());
    let url = twins.daemon().url_at(module, &proxy.address());
    let source = format!("{}/", twins.source_path().display());
    client.run(options.iter().copied().chain([source.as_str(), &url])).expect(0);
    proxy.sent()
}

#[test]
fn a_mixture_of_texts_and_noise_arrives_with_each_compression() {
    for release in Release::ALL {
        for options in [
            &["-az"][..],
            &["-az", "--compress-level=1"],
            &["-az", "--compress-level=9"],
            &["-a", "--compress-choice=zlib"],
            &["-a", "--compress-choice=zlibx"],
            &["-a", "--compress-choice=lz4"],
        ] {
            let twins = needs!(Twins::new(release));
            mixture(&twins);
            twins.expect_same(options);
            twins.expect_synced();
        }
    }
}

#[test]
fn a_mixture_costs_no_more_bytes_than_stock() {
    let twins = needs!(Twins::new(Release::Installed));
    mixture(&twins);
    let stock = cost(&twins, &Client::stock(), "stock", &["-az"]);
    let ours = cost(&twins, &Client::under_test(), "ours", &["-az"]);
    // The text that is named as if it were compressed goes as it is.
    assert!(ours < stock + stock / 50 + kib(300) as u64, "stock sent {stock} bytes, we sent {ours}");
}

#[test]
fn small_texts_are_told_in_terms_of_those_before_them() {
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        (0..600).fold(twins.source(), |tree, n| tree.file(format!("{}/{n}.txt", n % 7), words(n, 1_500)));
        let stock = cost(&twins, &Client::stock(), "stock", &["-az"]);
        let ours = cost(&twins, &Client::under_test(), "ours", &["-az"]);
        assert!(ours < stock + stock / 50, "stock sent {stock} bytes, we sent {ours}");
        twins.expect_synced();
    }
}

#[test]
fn a_changed_large_file_costs_its_changes_also_between_frames_of_others() {
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        let mut text = words(20, mib(6));
        twins.source().file("b-changes", &text).mtime("b-changes", 1_000_000_000, 0);
        twins.in_sync();
        text[mib(2)..mib(2) + 9].copy_from_slice(b"different");
        twins
            .source()
            .file("a-new", words(21, mib(5)))
            .file("b-changes", &text)
            .file("c-new", words(22, mib(5)))
            .file("d-new", words(23, 100));
        let stock = cost(&twins, &Client::stock(), "stock", &["-az"]);
        let ours = cost(&twins, &Client::under_test(), "ours", &["-az"]);
        assert!(ours < stock + stock / 50, "stock sent {stock} bytes, we sent {ours}");
        twins.expect_synced();
    }
}

#[test]
fn a_list_of_endings_says_what_goes_as_it_is() {
    if !Client::under_test().is_ours() {
        skip!("stock rsync takes such a list and compresses all the same");
    }
    let twins = needs!(Twins::new(Release::Installed));
    let size = kib(300) as u64;
    twins.source().file("a.gz", words(1, kib(300))).file("b.txt", words(2, kib(300)));
    for (list, uncompressed) in [
        (None, 1),
        (Some("--skip-compress="), 0),
        (Some("--skip-compress=g/xt"), 0),
        (Some("--skip-compress=TXT"), 1),
        (Some("--skip-compress=t[xy]t"), 1),
        (Some("--skip-compress=gz/txt"), 2),
    ] {
        let options: Vec<&str> = ["-azIW"].into_iter().chain(list).collect();
        let sent = cost(&twins, &Client::under_test(), "ours", &options);
        let expected = uncompressed * size..uncompressed * size + size / 2;
        assert!(expected.contains(&sent), "{list:?} cost {sent} bytes, not {expected:?}");
        twins.expect_synced();
    }
}
