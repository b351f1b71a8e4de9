//! The eBPF programs that mark changed inodes.
//!
//! Each program finds its inode and what the event proves about it, and calls [`note::note`]; user space does all
//! thinking. The programs are loaded by `ebbtide`, which sets their read-only globals from the running kernel's BTF.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    allow(internal_features, reason = "atomics on this target")
)]

#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod chunk;
#[cfg(target_arch = "bpf")]
mod device;
#[cfg(target_arch = "bpf")]
mod epoch;
#[cfg(target_arch = "bpf")]
mod functions;
#[cfg(target_arch = "bpf")]
mod hooks;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod note;
#[cfg(target_arch = "bpf")]
mod record;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends some helpers to programs under a GPL-compatible licence only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this program runs in the kernel only; build it with `cargo xtask build`");
}
