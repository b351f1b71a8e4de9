//! A set of bytes in brackets.

/// The bytes that a class matches, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class([u64; 4]);

impl Class {
    pub(crate) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    fn add(&mut self, fits: impl Fn(u8) -> bool) {
        for byte in (0..=u8::MAX).filter(|byte| fits(*byte)) {
            self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
    }

    /// Reads what follows the `[`, the closing bracket included. `None`: it is not closed, or names a class that does
    /// not exist.
    pub(crate) fn parse(rest: &mut &[u8]) -> Option<Class> {
        let negated = matches!(rest.first(), Some(b'!' | b'^'));
        if negated {
            *rest = &rest[1..];
        }
        let mut class = Class::default();
        let mut before = None;
        // A bracket that comes first is one of the set.
        loop {
            before = class.item(rest, before)?;
            if *rest.first()? == b']' {
                break;
            }
        }
        *rest = &rest[1..];
        if negated {
            class.0 = class.0.map(|word| !word);
        }
        class.0[usize::from(b'/' >> 6)] &= !(1 << (b'/' & 63));
        Some(class)
    }

    /// Takes one item, and says which byte can begin a range.
    fn item(&mut self, rest: &mut &[u8], before: Option<u8>) -> Option<Option<u8>> {
        let first = take(rest)?;
        let low = before.filter(|low| *low != 0);
        match (first, low) {
            (b'\\', _) => {
                let escaped = take(rest)?;
                self.add(|byte| byte == escaped);
                Some(Some(escaped))
            }
            (b'-', Some(low)) if !matches!(rest.first(), None | Some(b']')) => {
                let mut high = take(rest)?;
                if high == b'\\' {
                    high = take(rest)?;
                }
                self.add(|byte| (low..=high).contains(&byte));
                Some(None)
            }
            (b'[', _) if rest.first() == Some(&b':') => self.named(rest),
            _ => {
                self.add(|byte| byte == first);
                Some(Some(first))
            }
        }
    }

    /// `[:name:]`; without the second colon its characters stand for themselves.
    fn named(&mut self, rest: &mut &[u8]) -> Option<Option<u8>> {
        let end = 1 + rest[1..].iter().position(|byte| *byte == b']')?;
        if end < 2 || rest[end - 1] != b':' {
            self.add(|byte| byte == b'[');
            return Some(Some(b'['));
        }
        let fits = members(&rest[1..end - 1])?;
        *rest = &rest[end + 1..];
        self.add(|byte| fits(&byte));
        Some(None)
    }
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (&first, after) = rest.split_first()?;
    *rest = after;
    Some(first)
}

/// The members of a named class. Only ASCII has any, as in every UTF-8 locale.
fn members(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| crate::text::is_space(*byte),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}
