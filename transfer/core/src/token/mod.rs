//! File data as tokens: literals and block references, plain or compressed.
