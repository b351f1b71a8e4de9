//! From filter options to rules.

use std::os::unix::ffi::{OsStrExt, OsStringExt};

use ebbtide_filter::{Builder, FilterError, Filters, Settings};

use super::args::{Environment, FilterOption, Given};
use crate::source::read_named;

/// Reads all rules, in rsync's order: the options', those that other options bring, and at last those of CVS.
///
/// Peer: rsync options.c, `parse_arguments`; exclude.c, `send_filter_list`.
pub(super) fn read(given: &Given, environment: Environment<'_>) -> Result<Filters, FilterError> {
    let mut files = read_named;
    let mut builder = Builder::new(settings(given, environment), &mut files);
    let mut per_directory = 0;
    for option in &given.select.filters {
        match option {
            FilterOption::Rule(rule) => builder.filter(rule)?,
            FilterOption::Include(pattern) => builder.include(pattern)?,
            FilterOption::Exclude(pattern) => builder.exclude(pattern)?,
            FilterOption::IncludeFrom(file) => builder.include_from(file.as_os_str().as_bytes())?,
            FilterOption::ExcludeFrom(file) => builder.exclude_from(file.as_os_str().as_bytes())?,
            FilterOption::PerDirectory => {
                per_directory += 1;
                builder.per_directory(per_directory)?;
            }
            FilterOption::CvsExclude => {}
        }
    }
    if given.select.old_dirs {
        builder.filter(b"- /*/*")?;
    }
    for rule in &given.select.implied_filters {
        builder.filter(rule)?;
    }
    if given.select.filters.contains(&FilterOption::CvsExclude) {
        builder.cvs_exclude()?;
    }
    Ok(builder.finish())
}

fn settings(given: &Given, environment: Environment<'_>) -> Settings {
    let home = environment("HOME").map(|home| [home.as_bytes(), b"/.cvsignore"].concat());
    Settings {
        delete_excluded: given.delete.excluded,
        from0: given.select.from0,
        cvsignore: home,
        cvsignore_variable: environment("CVSIGNORE").map(OsStringExt::into_vec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(given: &Given) -> Vec<String> {
        let filters = read(given, &|_| None).unwrap();
        filters.to_texts().into_iter().map(|text| String::from_utf8(text).unwrap()).collect()
    }

    #[test]
    fn the_order_of_options_is_the_order_of_rules_and_cvs_comes_last() {
        let mut given = Given::default();
        given.select.filters = vec![
            FilterOption::CvsExclude,
            FilterOption::Include(b"a".to_vec()),
            FilterOption::PerDirectory,
            FilterOption::Rule(b"P b".to_vec()),
            FilterOption::PerDirectory,
            FilterOption::Exclude(b"c/".to_vec()),
        ];
        given.select.implied_filters = vec![b"-p .part/".to_vec()];
        let texts = texts(&given);
        let first = [
            "+ a",
            ": /.rsync-filter",
            "-r b",
            "- .rsync-filter",
            "- c/",
            "-p .part/",
            ":C .cvsignore",
            "-p RCS",
        ];
        assert_eq!(texts[..first.len()], first);
    }
}
