//! Frames mean the same however they arrive.

use ebbtide_wire::wire::mux::{Code, Demux, Part};

use crate::{Choices, parts};

/// Takes a stream apart at once and in parts, and compares.
pub fn frames(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let how = choices.byte();
    let stream = choices.rest();
    let whole = taken([stream]);
    assert_eq!(taken(parts(stream, how)), whole);
    let carried: usize = whole.0.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(carried <= stream.len());
}

/// What frames carried, data joined, and whether they failed.
fn taken<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<(Code, Vec<u8>)>, bool) {
    let mut demux = Demux::default();
    let mut carried: Vec<(Code, Vec<u8>)> = Vec::new();
    for mut part in parts {
        loop {
            match demux.next(&mut part) {
                Ok(None) => break,
                Ok(Some(Part::Message(code, payload))) => carried.push((code, payload)),
                Ok(Some(Part::Data(data))) => match carried.last_mut() {
                    Some((Code::Data, last)) => last.extend_from_slice(data),
                    _ => carried.push((Code::Data, data.to_vec())),
                },
                Err(_) => return (carried, true),
            }
        }
    }
    (carried, false)
}
