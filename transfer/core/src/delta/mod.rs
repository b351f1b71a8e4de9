//! What the receiver has of a file already, and how to say the file in those terms.

mod rolling;
mod search;
mod strong;
mod sums;
mod table;

pub use rolling::Rolling;
pub use search::{Run, Search};
pub use strong::{Digest, FileDigest, StrongSum, file_digest};
pub use sums::{BlockSums, MAX_SUM_BYTES, SumHeader};
