//! Filter rules from options and from files that anybody may have written into the tree.

use std::io;
use std::sync::Arc;

use ebbtide_filter::{Builder, Filters, Local, Settings, Sieve};

use crate::Choices;

/// Lines are rules, names, or lines of merge files. What is understood must say the same when it is said again, and
/// every name gets the same answer from both.
pub fn rules(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let bits = choices.byte();
    let mut sections = choices.rest().split(|byte| *byte == 1);
    let mut section = || sections.next().unwrap_or_default();
    let (given, file, names) = (section(), section(), section());
    let settings = Settings {
        delete_excluded: bits & 1 != 0,
        from0: bits & 2 != 0,
        cvsignore: (bits & 4 != 0).then(|| file.to_vec()),
        cvsignore_variable: (bits & 8 != 0).then(|| names.to_vec()),
    };
    let Some(filters) = read(settings, given, file) else { return };
    let texts = filters.to_texts();
    filters.for_receiver();
    let again = Filters::from_texts(&texts).expect("what was understood is understood again");
    assert_eq!(again.to_texts(), texts);
    let sieves = [filters, again].map(|filters| Sieve::new(Arc::new(filters), b"/srv/tree"));
    let names: Vec<&[u8]> = names.split(|byte| *byte == b'\n').chain(NAMES).collect();
    compare(&sieves, &names);
    walk(&sieves[0], file, &names);
}

fn read(settings: Settings, given: &[u8], file: &[u8]) -> Option<Filters> {
    let mut files = reader(file);
    let mut builder = Builder::new(settings, &mut files);
    for line in given.split(|byte| *byte == b'\n') {
        let (how, text) = line.split_first().unwrap_or((&0, &[]));
        let taken = match how % 8 {
            0 => builder.exclude(text),
            1 => builder.include(text),
            2 => builder.exclude_from(text),
            3 => builder.include_from(text),
            4 => builder.per_directory(text.len()),
            5 => builder.cvs_exclude(),
            _ => builder.filter(text),
        };
        if let Err(error) = taken {
            assert!(!error.to_string().is_empty());
            return None;
        }
    }
    Some(builder.finish())
}

/// Every file has the same content, and there are not many: files that merge each other must not run for ever.
fn reader(file: &[u8]) -> impl FnMut(&[u8]) -> io::Result<Vec<u8>> {
    let (content, mut left) = (file.to_vec(), 40);
    move |_: &[u8]| {
        left -= i32::from(left > 0);
        if left > 0 { Ok(content.clone()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

fn compare(sieves: &[Sieve; 2], names: &[&[u8]]) {
    let local = Local::default();
    for name in names {
        for dir in [false, true] {
            let answers = sieves.each_ref().map(|sieve| {
                let (hides, way) = (sieve.hides(&local, name, dir), sieve.hides_way(name, dir));
                (hides, way, sieve.hides_xattr(&local, name))
            });
            assert_eq!(answers[0], answers[1], "{}", name.escape_ascii());
        }
    }
}

/// Directories read their own files, and those above count for them.
fn walk(sieve: &Sieve, file: &[u8], names: &[&[u8]]) {
    let mut files = reader(file);
    let mut local = Local::default();
    for dir in [b".", &b"a"[..], b"a/b"] {
        match sieve.enter(&local, dir, &mut files) {
            Ok(entered) => local = entered,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
        for name in names {
            sieve.hides(&local, name, false);
            sieve.hides_xattr(&local, name);
        }
    }
}

const NAMES: [&[u8]; 6] = [b"a", b"a/b", b"a/b/c.o", b"[x]", b"\xff\\*", b"user.x"];
