//! `--out-format` and `--log-file-format`: what is said about one entry.

use std::io::Write as _;

use super::stats::{Numbers, grouped};

/// A parsed format.
#[derive(Clone, Debug)]
pub(super) struct Format {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Vec<u8>),
    Escape(Escape),
}

/// `%`, apostrophes, a width, and a letter.
#[derive(Clone, Debug)]
struct Escape {
    /// As it was written, for a letter without a value.
    text: Vec<u8>,
    /// How many apostrophes: 0 for bare digits, else a level of [`Numbers`].
    human: u8,
    /// At least this many columns.
    width: usize,
    /// The value stands at the left of them.
    left: bool,
    letter: u8,
}

/// What may be said about an entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// `%i`: the item string.
    pub(super) item: String,
    /// `%n`: the name, directories with a slash.
    pub(super) name: Vec<u8>,
    /// `%f`: the path on this side, without a slash at either end.
    pub(super) path: Vec<u8>,
    /// `%L`: ` -> target` or ` => name`.
    pub(super) link: Vec<u8>,
    /// `%o`: `send` or `del.`.
    pub(super) operation: &'static str,
    /// `%l`: the length in bytes.
    pub(super) length: u64,
    /// `%b`: how many bytes went over for it.
    pub(super) written: u64,
    /// `%c`: how many bytes of checksums came for it.
    pub(super) sums: u64,
    /// `%C`: the file checksum; empty if there is none.
    pub(super) checksum: Vec<u8>,
    /// How many columns `%C` has where there is none.
    pub(super) checksum_width: usize,
    /// `%B`: the permission bits; `None` for a name that is gone.
    pub(super) mode: Option<u32>,
    /// `%M`: seconds since 1970.
    pub(super) mtime: i64,
    /// `%U`, as a number or a word.
    pub(super) uid: String,
    /// `%G`, likewise.
    pub(super) gid: String,
}

impl Facts {
    /// The same with names as they may be shown.
    pub(super) fn escaped(&self, shown: impl Fn(&[u8]) -> Vec<u8>) -> Facts {
        let (name, path, link) = (shown(&self.name), shown(&self.path), shown(&self.link));
        Facts { name, path, link, ..self.clone() }
    }
}

impl Format {
    /// Reads a format. Nothing is wrong in one: what is no escape stands for itself.
    pub(super) fn parse(format: &[u8]) -> Format {
        let mut parts = Vec::new();
        let mut rest = format;
        while let Some(percent) = rest.iter().position(|byte| *byte == b'%') {
            if percent > 0 {
                parts.push(Part::Text(rest[..percent].to_vec()));
            }
            let (part, taken) = escape(&rest[percent..]);
            parts.push(part);
            rest = &rest[percent + taken..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_vec()));
        }
        Format { parts }
    }

    /// Whether one of these letters occurs.
    pub(super) fn has(&self, letters: &[u8]) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Escape(escape) if letters.contains(&escape.letter)))
    }

    /// The line about an entry, without its end.
    pub(super) fn line(&self, facts: &Facts) -> Vec<u8> {
        let mut line = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => line.extend_from_slice(text),
                Part::Escape(escape) => escape.put(facts, &mut line),
            }
        }
        line
    }
}

/// The escape at the start of `text`, which begins with `%`, and its length.
fn escape(text: &[u8]) -> (Part, usize) {
    let human = text[1..].iter().take_while(|byte| **byte == b'\'').count();
    let left = text.get(1 + human) == Some(&b'-');
    let from = 1 + human + usize::from(left);
    let digits = text[from..].iter().take_while(|byte| byte.is_ascii_digit()).take(3).count();
    let width = std::str::from_utf8(&text[from..from + digits]).ok().and_then(|text| text.parse().ok());
    let Some(letter) = text.get(from + digits) else { return (Part::Text(text.to_vec()), text.len()) };
    let length = from + digits + 1;
    if *letter == b'%' {
        return (Part::Text(b"%".to_vec()), length);
    }
    let human = u8::try_from(human.min(3)).unwrap_or(3);
    let text = text[..length].to_vec();
    (Part::Escape(Escape { text, human, width: width.unwrap_or(0), left, letter: *letter }), length)
}

impl Escape {
    fn put(&self, facts: &Facts, line: &mut Vec<u8>) {
        let Some(value) = self.value(facts) else { return line.extend_from_slice(&self.text) };
        let columns = String::from_utf8_lossy(&value).chars().count();
        let padding = vec![b' '; self.width.saturating_sub(columns)];
        if self.left {
            line.extend_from_slice(&value);
            line.extend_from_slice(&padding);
        } else {
            line.extend_from_slice(&padding);
            line.extend_from_slice(&value);
        }
    }

    /// Peer: rsyncd.conf's manual page, parameter `log format`. Letters of a daemon's own have no value here.
    fn value(&self, facts: &Facts) -> Option<Vec<u8>> {
        let text = |text: &str| text.as_bytes().to_vec();
        Some(match self.letter {
            b'i' => text(&facts.item),
            b'n' => facts.name.clone(),
            b'f' => facts.path.clone(),
            b'L' => facts.link.clone(),
            b'o' => text(facts.operation),
            b'l' => self.number(facts.length),
            b'b' => self.number(facts.written),
            b'c' => self.number(facts.sums),
            b'C' => checksum(facts),
            b'B' => text(&facts.mode.map_or_else(|| "-".repeat(9), permissions)),
            b'M' => text(&local_time(facts.mtime, '-')),
            b't' => text(&local_time(jiff::Timestamp::now().as_second(), ' ')),
            b'p' => text(&std::process::id().to_string()),
            b'U' => text(&facts.uid),
            b'G' => text(&facts.gid),
            b'm' => Vec::new(),
            _ => return None,
        })
    }

    fn number(&self, number: u64) -> Vec<u8> {
        match self.human {
            0 => number.to_string(),
            1 => grouped(number),
            level => Numbers { human: level }.bytes(number),
        }
        .into_bytes()
    }
}

fn checksum(facts: &Facts) -> Vec<u8> {
    if facts.checksum.is_empty() {
        return vec![b' '; facts.checksum_width];
    }
    let mut out = Vec::with_capacity(2 * facts.checksum.len());
    for byte in &facts.checksum {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// `rwxr-x--t`.
pub(super) fn permissions(mode: u32) -> String {
    let bit = |bit: u32, letter: char| if mode & bit == 0 { '-' } else { letter };
    let with = |special: u32, execute: u32, both: char, alone: char| match (mode & special, mode & execute) {
        (0, 0) => '-',
        (0, _) => 'x',
        (_, 0) => alone,
        (_, _) => both,
    };
    [
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        with(0o4000, 0o100, 's', 'S'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        with(0o2000, 0o010, 's', 'S'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        with(0o1000, 0o001, 't', 'T'),
    ]
    .iter()
    .collect()
}

/// `2020/01/02-03:04:05`, with another sign between day and time if wanted.
pub(super) fn local_time(seconds: i64, between: char) -> String {
    let Ok(time) = jiff::Timestamp::from_second(seconds) else { return "(time out of range)".to_owned() };
    let local = time.to_zoned(jiff::tz::TimeZone::system());
    local.strftime(if between == '-' { "%Y/%m/%d-%H:%M:%S" } else { "%Y/%m/%d %H:%M:%S" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &str) -> String {
        let facts = Facts {
            item: "<f+++++++++".to_owned(),
            name: b"d/big".to_vec(),
            length: 300_000,
            mode: Some(0o644),
            checksum: vec![0xab, 0x01],
            checksum_width: 4,
            operation: "send",
            ..Facts::default()
        };
        String::from_utf8(Format::parse(format.as_bytes()).line(&facts)).unwrap()
    }

    #[test]
    fn letters_stand_for_facts_and_the_rest_for_itself() {
        assert_eq!(line("%i %n%L"), "<f+++++++++ d/big");
        assert_eq!(line("[%o|%B|%C]"), "[send|rw-r--r--|ab01]");
        assert_eq!(line("100%% of %n"), "100% of d/big");
        assert_eq!(line("%x%a%h%u%P%"), "%x%a%h%u%P%");
    }

    #[test]
    fn widths_and_apostrophes_shape_numbers() {
        assert_eq!(line("%10l|%-10l|%'l|%''l"), "    300000|300000    |300,000|300.00K");
        assert_eq!(line("%7n|%-7n|"), "  d/big|d/big  |");
    }

    #[test]
    fn permissions_show_their_special_bits() {
        assert_eq!(permissions(0o755), "rwxr-xr-x");
        assert_eq!(permissions(0o7777), "rwsrwsrwt");
        assert_eq!(permissions(0o7000), "--S--S--T");
    }

    #[test]
    fn a_format_says_which_letters_it_has() {
        assert!(Format::parse(b"%n %'b").has(b"bcC"));
        assert!(!Format::parse(b"%n %%b").has(b"bcC"));
    }
}
