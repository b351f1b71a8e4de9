//! Numbers and frames: one concept, one file.
