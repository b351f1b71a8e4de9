//! Names of files that hold compressed data already.

use std::collections::HashSet;

/// A list of name endings, as `--skip-compress` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkipCompress {
    /// In lower case, without the dot.
    suffixes: HashSet<Vec<u8>>,
    /// The longest of them, in bytes.
    longest: usize,
}

impl SkipCompress {
    /// Reads `gz/mp[34]/zip`: suffixes without their dot, between slashes, in which a class of letters in brackets
    /// stands for one of them. Upper and lower case are the same; nothing is skipped by an empty list.
    ///
    /// # Errors
    /// A bracket has no partner, or a class holds nothing; the suffix comes back.
    pub fn parse(list: &[u8]) -> Result<SkipCompress, Vec<u8>> {
        let mut suffixes = HashSet::new();
        for suffix in list.split(|byte| *byte == b'/').filter(|suffix| !suffix.is_empty()) {
            suffixes.extend(expand(suffix).ok_or(suffix)?);
        }
        let longest = suffixes.iter().map(Vec::len).max().unwrap_or(0);
        Ok(SkipCompress { suffixes, longest })
    }

    /// Whether a file of this name is taken as compressed.
    pub fn holds(&self, name: &[u8]) -> bool {
        let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
        let Some(dot) = base.iter().rposition(|byte| *byte == b'.') else { return false };
        let suffix = &base[dot + 1..];
        suffix.len() <= self.longest && self.suffixes.contains(&suffix.to_ascii_lowercase())
    }
}

impl Default for SkipCompress {
    fn default() -> Self {
        SkipCompress::parse(USUAL.as_bytes()).unwrap_or_else(|_| SkipCompress::none())
    }
}

impl SkipCompress {
    /// A list without suffixes.
    pub fn none() -> SkipCompress {
        SkipCompress { suffixes: HashSet::new(), longest: 0 }
    }
}

/// All that a suffix with classes stands for.
fn expand(suffix: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut all = vec![Vec::new()];
    let mut rest = suffix;
    while let Some((first, behind)) = rest.split_first() {
        let class = match first {
            b']' => return None,
            b'[' => {
                let end = behind.iter().position(|byte| *byte == b']').filter(|end| *end > 0)?;
                rest = &behind[end + 1..];
                &behind[..end]
            }
            _ => {
                rest = behind;
                std::slice::from_ref(first)
            }
        };
        if all.len() * class.len() > MAX_EXPANDED {
            return None;
        }
        all = all
            .iter()
            .flat_map(|start| class.iter().map(|byte| [start, &[byte.to_ascii_lowercase()][..]].concat()))
            .collect();
    }
    Some(all)
}

/// More than this many suffixes from one are a mistake.
const MAX_EXPANDED: usize = 10_000;

/// What rsync's manual lists under `--skip-compress`.
const USUAL: &str = "3g2/3gp/7z/aac/ace/apk/avi/bz2/deb/dmg/ear/f4v/flac/flv/gpg/gz/iso/jar/jpeg/jpg/lrz/lz/lz4/lzma/lzo/\
    m1a/m1v/m2a/m2ts/m2v/m4a/m4b/m4p/m4r/m4v/mka/mkv/mov/mp1/mp2/mp3/mp4/mpa/mpeg/mpg/mpv/mts/odb/odf/odg/odi/odm/odp/\
    ods/odt/oga/ogg/ogm/ogv/ogx/opus/otg/oth/otp/ots/ott/oxt/png/qt/rar/rpm/rz/rzip/spx/squashfs/sxc/sxd/sxg/sxm/sxw/sz/\
    tbz/tbz2/tgz/tlz/ts/txz/tzo/vob/war/webm/webp/xz/z/zip/zst";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_list_knows_archives_and_pictures_in_any_case() {
        let usual = SkipCompress::default();
        for name in [&b"a.gz"[..], b"d.x/B.JPG", b".hidden.zip", b"a.tar.zst"] {
            assert!(usual.holds(name), "{name:?}");
        }
        for name in [&b"gz"[..], b"d.gz/file", b"a.txt", b"a.", b""] {
            assert!(!usual.holds(name), "{name:?}");
        }
    }

    #[test]
    fn a_class_stands_for_each_of_its_letters() {
        let list = SkipCompress::parse(b"mp[34]/7z//[ab][cd]e").unwrap();
        for name in [&b"x.mp3"[..], b"x.mp4", b"x.7z", b"x.ace", b"x.bde"] {
            assert!(list.holds(name), "{name:?}");
        }
        assert!(!list.holds(b"x.mp2") && !list.holds(b"x.gz"));
        assert!(!SkipCompress::parse(b"").unwrap().holds(b"x.gz"));
        assert_eq!(SkipCompress::parse(b"gz/mp[3"), Err(b"mp[3".to_vec()));
        assert!(SkipCompress::parse(b"x[]").is_err() && SkipCompress::parse(b"x]").is_err());
    }
}
