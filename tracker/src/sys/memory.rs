//! What this process and its child keep of memory that they do not need any more.

/// The C library gives freed memory back to the kernel soon. By itself it keeps more the more was once in use: here the
/// types of the kernel, which are read once at the start.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: `mallopt` takes two numbers, and is called before there are other threads. An option that this library
        // does not have is refused, which changes nothing.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, SPARE);
        }
    }
}

/// The same for a program that is to be started: a variable of its environment.
pub fn keeps_little() -> (&'static str, String) {
    let settings = [("arena_max", ARENAS), ("mmap_threshold", LARGE), ("trim_threshold", SPARE)];
    let settings = settings.map(|(name, value)| format!("glibc.malloc.{name}={value}"));
    ("GLIBC_TUNABLES", settings.join(":"))
}

/// Threads share one heap: another one would keep what it once needed for what is still in its midst.
const ARENAS: i32 = 1;

/// What is so large, in bytes, is memory of its own, and goes back when it is freed.
const LARGE: i32 = 256 << 10;

/// So many free bytes at a heap's end stay.
const SPARE: i32 = 512 << 10;
