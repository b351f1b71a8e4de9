//! The socket pair between the two halves of ebbtide.

use std::fmt::Debug;

use ebbtide_feed::codec::{Decoder, encode};
use ebbtide_feed::{ToSender, ToTracker};

use crate::{Choices, parts};

/// Arbitrary bytes as messages of both directions: what is understood can be said again.
pub fn feed(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let how = choices.byte();
    let stream = parts(choices.rest(), how);
    drain::<ToSender>(&stream);
    drain::<ToTracker>(&stream);
}

fn drain<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(parts: &[&[u8]]) {
    let mut decoder = Decoder::default();
    for part in parts {
        decoder.push(part);
        loop {
            match decoder.next_message::<T>() {
                Ok(Some(message)) => said_again(&message),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn said_again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(message: &T) {
    let mut decoder = Decoder::default();
    decoder.push(&encode(message).expect("what was short enough is"));
    assert_eq!(decoder.next_message::<T>().expect("it is a message").as_ref(), Some(message));
}
