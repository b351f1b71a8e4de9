//! What is the same is not sent, and what was damaged on the way is sent again.

use std::fs;
use std::os::unix::fs::FileExt;

use ebbtide_tests::{Client, Proxy, Release, Twins, bytes, mib, needs};

/// Bytes that a client sends for a push of the source to its own destination.
fn cost(twins: &Twins, client: &Client, module: &str, options: &[&str]) -> u64 {
    let proxy = Proxy::to(&twins.daemon().address());
    let url = twins.daemon().url_at(module, &proxy.address());
    let source = format!("{}/", twins.source_path().display());
    client.run(options.iter().copied().chain([source.as_str(), &url])).expect(0);
    proxy.sent()
}

/// Expects ours to send no more than a little above what stock rsync sends.
#[track_caller]
fn no_dearer_than_stock(twins: &Twins, options: &[&str]) -> u64 {
    let stock = cost(twins, &Client::stock(), "stock", options);
    let ours = cost(twins, &Client::under_test(), "ours", options);
    assert!(ours <= stock + stock / 4 + 2_000, "{options:?}: stock sent {stock} bytes, we sent {ours}");
    twins.expect_synced();
    ours
}

#[test]
fn one_changed_block_of_a_large_file_costs_about_a_block() {
    for release in Release::ALL {
        for options in
            [&["-a"][..], &["-az"], &["-a", "--compress-choice=zlibx"], &["-a", "--checksum-choice=md5"]]
        {
            let twins = needs!(Twins::new(release));
            if options.contains(&"--compress-choice=zlibx") && !twins.daemon().is_since((3, 1)) {
                continue;
            }
            let mut content = bytes(5, mib(8));
            twins.source().file("large", &content).mtime("large", 1_000_000_000, 0);
            twins.in_sync();
            content[mib(4) + 17] ^= 1;
            twins.source().file("large", &content);
            let sent = no_dearer_than_stock(&twins, options);
            assert!(sent < 60_000, "{sent} bytes for one changed block");
        }
    }
}

#[test]
fn inserted_and_removed_bytes_do_not_cost_what_follows_them() {
    let twins = needs!(Twins::new(Release::Installed));
    let content = bytes(6, mib(4));
    twins.source().file("grows", &content).file("shrinks", &content).file("turns", &content).aged();
    twins.in_sync();
    let grown = [&content[..mib(1)], b"inserted", &content[mib(1)..]].concat();
    let shrunk = [&content[..mib(1)], &content[mib(1) + 100..]].concat();
    let turned = [&content[mib(2)..], &content[..mib(2)]].concat();
    twins.source().file("grows", grown).file("shrinks", shrunk).file("turns", turned);
    let sent = no_dearer_than_stock(&twins, &["-a"]);
    assert!(sent < 200_000, "{sent} bytes");
}

#[test]
fn in_place_no_block_is_used_that_was_overwritten_before() {
    for release in Release::ALL {
        for options in
            [&["-a", "--inplace"][..], &["-az", "--inplace"], &["-a", "--inplace", "--block-size=2000"]]
        {
            let twins = needs!(Twins::new(release));
            let content = bytes(6, mib(1));
            let block = content[..10_000].repeat(30);
            twins.source().file("back", &content).file("forth", &content).file("again", &block).aged();
            twins.in_sync();
            // What stood in front is needed behind, where it is gone by then; the other way round it is still there.
            let back = [&content[700_000..], &content[..700_000]].concat();
            let forth = [&content[1_000..], b"end"].concat();
            let again = [&block[..155_000], b"in between", &block[155_000..]].concat();
            twins.source().file("back", back).file("forth", forth).file("again", again);
            twins.expect_same(options);
            twins.expect_synced();
        }
    }
}

#[test]
fn an_append_costs_what_was_appended() {
    let twins = needs!(Twins::new(Release::Old));
    let mut content = bytes(7, mib(4));
    twins.source().file("log", &content);
    twins.in_sync();
    content.extend_from_slice(&bytes(8, 10_000));
    twins.source().file("log", &content);
    no_dearer_than_stock(&twins, &["-a"]);
}

#[test]
fn a_second_push_of_an_unchanged_tree_costs_its_list_only() {
    let twins = needs!(Twins::new(Release::Installed));
    (0..500).fold(twins.source(), |tree, n| tree.file(format!("{}/{n}", n % 7), bytes(n, 2_000)));
    twins.in_sync();
    no_dearer_than_stock(&twins, &["-a"]);
}

#[test]
fn a_file_that_was_damaged_on_the_way_is_sent_again() {
    for release in Release::ALL {
        for choice in ["xxh128", "xxh64", "md5"] {
            let twins = needs!(Twins::new(release));
            if choice.starts_with("xxh") && !twins.daemon().is_since((3, 2)) {
                continue;
            }
            twins.source().file("new", b"this text is damaged on its way").file("other", b"untouched");
            let choice = format!("--checksum-choice={choice}");
            let proxy = Proxy::damaging(&twins.daemon().address(), b"damaged on its way");
            let url = twins.daemon().url_at("ours", &proxy.address());
            let source = format!("{}/", twins.source_path().display());
            Client::under_test().run(["-a", &choice, &source, &url]).expect(0);
            twins.expect_synced();
        }
    }
}

#[test]
fn a_delta_that_was_damaged_on_the_way_is_sent_again() {
    let twins = needs!(Twins::new(Release::Installed));
    let content = bytes(9, mib(1));
    twins.source().file("large", &content);
    twins.in_sync();
    let changed = [&content[..500_000], b"this insertion is damaged", &content[500_000..]].concat();
    twins.source().file("large", changed);
    let proxy = Proxy::damaging(&twins.daemon().address(), b"insertion is damaged");
    let url = twins.daemon().url_at("ours", &proxy.address());
    let source = format!("{}/", twins.source_path().display());
    Client::under_test().run(["-a", &source, &url]).expect(0);
    twins.expect_synced();
}

#[test]
fn a_file_that_grows_after_it_was_listed_does_not_end_the_push() {
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("is-going-to-grow", bytes(1, 3_000)).file("z", b"after it");
    let growing = twins.source_path().join("is-going-to-grow");
    let proxy = Proxy::when(&twins.daemon().address(), b"is-going-to-grow", move || {
        let mut file = fs::OpenOptions::new().append(true).open(growing).expect("it is there");
        std::io::Write::write_all(&mut file, &bytes(2, 50_000)).expect("it can be written");
    });
    let source = format!("{}/", twins.source_path().display());
    let url = twins.daemon().url_at("ours", &proxy.address());
    let first = Client::under_test().run(["-a", &source, &url]);
    assert!([0, 23, 24].contains(&first.code), "{first:?}");
    assert!(twins.ours().join("z").exists());
    // Whatever was stored, the next push sees that it is not the file.
    Client::under_test().run(["-a", &source, &twins.daemon().url("ours")]).expect(0);
    twins.expect_synced();
}

#[test]
fn a_file_that_is_cut_short_after_it_was_listed_does_not_end_the_push() {
    let twins = needs!(Twins::new(Release::Installed));
    twins.source().file("is-going-to-shrink", bytes(1, mib(3))).file("z", b"after it");
    let shrinking = twins.source_path().join("is-going-to-shrink");
    let proxy = Proxy::when(&twins.daemon().address(), b"is-going-to-shrink", move || {
        fs::File::options().write(true).open(shrinking).and_then(|f| f.set_len(100)).expect("it can be cut");
    });
    let source = format!("{}/", twins.source_path().display());
    let url = twins.daemon().url_at("ours", &proxy.address());
    let first = Client::under_test().run(["-a", &source, &url]);
    assert!([0, 23, 24].contains(&first.code), "{first:?}");
    assert!(twins.ours().join("z").exists());
    Client::under_test().run(["-a", &source, &twins.daemon().url("ours")]).expect(0);
    twins.expect_synced();
}

/// Lengths and places that 32 bits do not hold, in the list, the request and the answer. Only what is appended is read:
/// the whole of such a file would take a minute here.
#[test]
fn a_file_beyond_four_gigabytes_gets_what_was_appended_to_it() {
    const BEFORE: u64 = (4 << 30) + 1;
    for release in Release::ALL {
        let twins = needs!(Twins::new(release));
        let end = bytes(1, 100_000);
        let path = twins.source_path().join("large");
        twins.source().sparse("large", BEFORE);
        let source = fs::OpenOptions::new().write(true).open(path).expect("it was made");
        source.write_all_at(&end, BEFORE).expect("it can be written");
        twins.source().mtime("large", 1_600_000_000, 0);
        twins.destinations(|tree| tree.sparse("large", BEFORE));
        let pair = twins.push(&["-a", "--append", "--no-h", "--out-format=%i %l"], "source/", "");
        assert_eq!((pair.ours.code, pair.stock.code), (0, 0), "{:?}", pair.ours);
        assert_eq!(pair.ours.stdout, pair.stock.stdout);
        assert!(pair.ours.stdout.contains(" 4295067297\n"), "{pair:?}");
        let arrived = fs::File::open(twins.ours().join("large")).expect("it was there before");
        let mut tail = vec![0; end.len() + 1];
        arrived.read_exact_at(&mut tail, BEFORE - 1).expect("it is long enough");
        assert!(tail[0] == b'!' && tail[1..] == end);
        assert_eq!(arrived.metadata().expect("it is open").len(), BEFORE + 100_000);
    }
}
