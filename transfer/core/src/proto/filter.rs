//! The filter list (protocol note, section 2.4): what the receiver must not delete.

use crate::error::Shown;
use crate::{Error, Stage};

/// Writes rules as they are (such as `- *.tmp`) and the end of the list.
///
/// # Errors
/// Misuse: a rule that is empty or longer than the daemon reads.
pub fn put_filters(rules: &[Vec<u8>], out: &mut Vec<u8>) -> Result<(), Error> {
    for rule in rules {
        if rule.is_empty() || rule.len() >= MAX_RULE {
            let shown = Shown(&rule[..rule.len().min(80)]);
            return Err(Error::misuse(
                Stage::List,
                format!("filter rule \"{shown}\" is not 1 to 5119 bytes long"),
            ));
        }
        out.extend_from_slice(&(rule.len() as i32).to_le_bytes());
        out.extend_from_slice(rule);
    }
    out.extend_from_slice(&[0; 4]);
    Ok(())
}

/// rsync's buffer for a rule.
const MAX_RULE: usize = 5120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_the_note() {
        let mut out = Vec::new();
        put_filters(&[b"- zz".to_vec()], &mut out).unwrap();
        assert_eq!(out, b"\x04\0\0\0- zz\0\0\0\0");
        assert!(put_filters(&[Vec::new()], &mut out).is_err());
        assert!(put_filters(&[vec![b'x'; 5120]], &mut out).is_err());
    }
}
