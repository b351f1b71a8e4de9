//! The committed man pages say what the command lines take. `EBBTIDE_WRITE_MAN=1` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;

use clap_mangen::Man;

#[test]
fn the_man_pages_say_what_the_command_lines_take() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/man");
    for (name, page) in pages() {
        let path = folder.join(&name);
        if std::env::var_os("EBBTIDE_WRITE_MAN").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == page, "{name} is out of date; run this test with EBBTIDE_WRITE_MAN=1");
    }
}

#[test]
fn the_man_page_of_the_config_names_every_key() {
    let page = include_str!("../../packaging/man/ebbtide.toml.5");
    let keys: &[&[&str]] = &[
        ebbtide::daemon::config_file::FILE_KEYS,
        ebbtide::daemon::config_file::MIRROR_KEYS,
        ebbtide::daemon::config_file::DESTINATION_KEYS,
    ];
    for key in keys.concat().iter().filter(|key| !matches!(**key, "mirror" | "to")) {
        assert!(page.lines().any(|line| line.starts_with(&format!(".BR {key} "))), "{key} is missing");
    }
}

/// All pages by file name.
fn pages() -> BTreeMap<String, String> {
    let ebbtide = ebbtide::cli::command();
    let verbs = ebbtide.get_subcommands().map(|verb| (format!("ebbtide-{}", verb.get_name()), verb.clone()));
    let mut commands: Vec<(String, clap::Command)> = verbs.collect();
    commands.push(("ebbtide".to_owned(), ebbtide));
    commands.push(("ebbtide-send".to_owned(), ebbtide_transfer::cli::command()));
    commands.into_iter().map(|(name, command)| (format!("{name}.1"), render(&name, command))).collect()
}

fn render(name: &str, command: clap::Command) -> String {
    let mut page = Vec::new();
    // A clap name lives for ever; these few may.
    let name: &'static str = name.to_owned().leak();
    Man::new(command.name(name))
        .title(name)
        .date("")
        .source("ebbtide")
        .render(&mut page)
        .expect("a page in memory");
    String::from_utf8(page).expect("clap's texts are UTF-8")
}
