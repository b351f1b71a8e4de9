//! Writes that no safe interface makes: through io_uring, and through the kernel's asynchronous I/O.
#![expect(unsafe_code, reason = "the kernel reads a buffer after the call that hands it over")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

/// Writes through io_uring, and returns when it is done.
pub(super) fn write_by_ring(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut ring = IoUring::new(4)?;
    let length = u32::try_from(bytes.len()).expect("tests write little");
    let write =
        opcode::Write::new(types::Fd(file.as_raw_fd()), bytes.as_ptr(), length).offset(offset).build();
    // SAFETY: the buffer and the file outlive this function, which waits for the completion below.
    unsafe { ring.submission().push(&write).expect("a new ring has room") };
    ring.submit_and_wait(1)?;
    let done = ring.completion().next().expect("one completion was waited for").result();
    whole(i64::from(done), bytes.len())
}

/// Writes through `io_submit`, and returns when it is done.
pub(super) fn write_by_aio(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut context: libc::c_ulong = 0;
    // SAFETY: the kernel writes one word to the address, which is that of a word.
    checked(unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) })?;
    let mut request = Request {
        opcode: PWRITE,
        file: file.as_raw_fd().cast_unsigned(),
        buffer: bytes.as_ptr() as u64,
        length: bytes.len() as u64,
        offset: offset.cast_signed(),
        ..Request::default()
    };
    let mut requests = [&raw mut request];
    let mut event = Event::default();
    // SAFETY: request, event and buffer live until `io_destroy` below, which waits for what is under way.
    let done = checked(unsafe { libc::syscall(libc::SYS_io_submit, context, 1, requests.as_mut_ptr()) })
        .and_then(|_| {
            // SAFETY: as above; no timeout is given.
            checked(unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    context,
                    1,
                    1,
                    &raw mut event,
                    std::ptr::null::<libc::timespec>(),
                )
            })
        });
    // SAFETY: the context was set up above and is not used after this.
    let ended = checked(unsafe { libc::syscall(libc::SYS_io_destroy, context) });
    done.and(ended)?;
    whole(event.result, bytes.len())
}

/// Kernel: include/uapi/linux/aio_abi.h, struct iocb, on little-endian machines.
#[derive(Default)]
#[repr(C)]
struct Request {
    data: u64,
    key: u32,
    flags_of_write: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    result_file: u32,
}

/// Kernel: include/uapi/linux/aio_abi.h, struct io_event.
#[derive(Default)]
#[repr(C)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    second_result: i64,
}

/// `IOCB_CMD_PWRITE`.
const PWRITE: u16 = 1;

fn checked(returned: libc::c_long) -> io::Result<libc::c_long> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

fn whole(result: i64, length: usize) -> io::Result<()> {
    match usize::try_from(result) {
        Ok(written) if written == length => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EIO))),
    }
}
