//! Records and constants that the eBPF programs and user space share.
#![no_std]
