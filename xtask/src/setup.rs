//! `cargo xtask setup`: installs what this machine lacks to build, test and measure, and says what and why.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{self, as_root, cargo};
use crate::toolchain::{self, Toolchain};
use crate::world;

/// Installs what is missing for everything but the tests of servers; quick when nothing is.
pub(crate) fn run() -> Result<()> {
    packages(&PACKAGES)?;
    let toolchain = toolchain::find().context(
        "no compiler for eBPF: install Debian's rustc-web and rust-web-src, \
         or a rustup toolchain with `rustup component add rust-src`",
    )?;
    install_linker(&toolchain)?;
    old_rsync()
}

/// Installs what the tests need besides: servers, which are neither started now nor at the next boot.
pub(crate) fn for_tests() -> Result<()> {
    run()?;
    let guard = NoStart::new()?;
    let new = packages(&SERVERS)?;
    drop(guard);
    if on_path("systemctl") {
        let units = SERVERS.iter().zip(UNITS).filter(|((name, ..), _)| new.contains(name));
        for (_, unit) in units {
            // Where systemd does not run there is nothing to disable.
            let _ = as_root("systemctl").args(["disable", "--quiet", unit]).stderr(Stdio::null()).status();
        }
    }
    Ok(())
}

/// While this lives, packages do not start their services: `invoke-rc.d` asks this program, and 101 means no.
struct NoStart(Option<PathBuf>);

impl NoStart {
    fn new() -> Result<Self> {
        let path = PathBuf::from("/usr/sbin/policy-rc.d");
        // A policy that is there is the administrator's.
        if path.exists() || !on_path("apt-get") {
            return Ok(NoStart(None));
        }
        let script =
            "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d";
        process::run(as_root("sh").args(["-c", script]), "root may write /usr/sbin/policy-rc.d")?;
        Ok(NoStart(Some(path)))
    }
}

impl Drop for NoStart {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = as_root("rm").arg("-f").arg(path).status();
        }
    }
}

/// Where tools of our own are.
pub(crate) fn tools() -> Result<PathBuf> {
    Ok(world::target()?.join("tools"))
}

/// The linker for eBPF programs.
pub(crate) fn bpf_linker() -> Result<PathBuf> {
    Ok(tools()?.join("bin/bpf-linker"))
}

/// What a package is called, a program in it (or nothing), and what it is for.
type Package = (&'static str, &'static str, &'static str);

/// Installs those that are missing, and tells which.
fn packages(wanted: &[Package]) -> Result<Vec<&'static str>> {
    if !on_path("apt-get") {
        return without_apt(wanted).map(|()| Vec::new());
    }
    let installed = installed(wanted);
    let missing: Vec<_> = wanted.iter().filter(|(name, ..)| !installed.iter().any(|it| it == name)).collect();
    let names = missing.iter().map(|(name, ..)| *name).collect();
    if missing.is_empty() {
        return Ok(names);
    }
    println!("setup: these packages are missing and will be installed with apt-get:");
    missing.iter().for_each(|(name, _, why)| println!("  {name}: {why}"));
    let apt = || {
        let mut apt = as_root("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    update()?;
    let mut install = apt();
    install.args(["install", "-q", "-y", "--no-install-recommends"]);
    install.args(missing.iter().map(|(name, ..)| name));
    process::run(&mut install, "install these packages by hand, then run setup again")?;
    Ok(names)
}

/// Reads the package lists anew.
pub(crate) fn update() -> Result<()> {
    process::run(as_root("apt-get").args(["update", "-q"]), "check /etc/apt/sources.list and the network")
}

/// Downloads a package and unpacks it into `folder`, without installing it.
pub(crate) fn download(package: &str, folder: &Path) -> Result<()> {
    let mut download = folder.as_os_str().to_owned();
    download.push(".download");
    let download = PathBuf::from(download);
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download).with_context(|| format!("make {}", download.display()))?;
    let mut get = Command::new("apt-get");
    get.args(["download", "-q", package]).current_dir(&download);
    if process::run(&mut get, "the package lists may be old").is_err() {
        update()?;
        process::run(&mut get, "this release of Debian does not have it")?;
    }
    unpack(&download, folder)?;
    fs::remove_dir_all(&download).with_context(|| format!("remove {}", download.display()))
}

/// Whether packages can be had here.
pub(crate) fn has_apt() -> bool {
    on_path("apt-get")
}

/// Not Debian or its kin: looks for the programs themselves.
fn without_apt(wanted: &[Package]) -> Result<()> {
    let missing: Vec<_> =
        wanted.iter().filter(|(_, program, _)| !program.is_empty() && !on_path(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (name, program, why) in &missing {
        println!("  {program} (Debian package {name}): {why}");
    }
    bail!("there is no apt-get here; install the {} programs above by hand", missing.len())
}

/// Those that are installed.
fn installed(wanted: &[Package]) -> Vec<String> {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(wanted.iter().map(|(name, ..)| name))
        .stderr(Stdio::null())
        .output();
    let listed = query.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    listed.lines().filter_map(|line| line.strip_suffix(" installed")).map(str::to_owned).collect()
}

fn on_path(program: &str) -> bool {
    folders().any(|folder| folder.join(program).is_file())
}

/// Where programs are, those for root too.
fn folders() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).collect::<Vec<_>>().into_iter()
}

/// `PATH` for those that start programs for root, whoever started us: without `mkfs.ext4` most tests would be skipped.
pub(crate) fn path() -> Result<OsString> {
    std::env::join_paths(folders()).context("PATH cannot be told to others")
}

/// Builds bpf-linker for the compiler's LLVM, if it is not there or is for another.
fn install_linker(toolchain: &Toolchain) -> Result<()> {
    let (tools, llvm) = (tools()?, toolchain.llvm);
    let stamp = tools.join("bpf-linker.for");
    let wanted = format!("{BPF_LINKER} llvm {llvm}\n");
    if bpf_linker()?.is_file() && fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    println!(
        "setup: building bpf-linker {BPF_LINKER} into {}, which links the eBPF programs that {} compiles \
         (about 2 minutes, once)",
        tools.display(),
        toolchain.version
    );
    let features = format!("llvm-{llvm},rust-llvm-{llvm}");
    let mut install = cargo();
    install
        .args(["install", "--quiet", "--locked", "--force", "bpf-linker", "--version", BPF_LINKER])
        .args(["--no-default-features", "--features", &features])
        .arg("--root")
        .arg(&tools)
        .env("CARGO_TARGET_DIR", tools.join("build"))
        .env_remove("RUSTC");
    process::run(&mut install, "it comes from crates.io: check the network")?;
    let _ = fs::remove_dir_all(tools.join("build"));
    fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))
}

/// Unpacks the older rsync that tests run against, without installing it.
fn old_rsync() -> Result<()> {
    let folder = tools()?.join(format!("rsync-{OLD_RSYNC}"));
    if folder.join("usr/bin/rsync").is_file() {
        return Ok(());
    }
    if !on_path("apt-get") {
        println!("setup: no apt-get, so no rsync {OLD_RSYNC}: the tests against it will be skipped");
        return Ok(());
    }
    println!(
        "setup: unpacking rsync {OLD_RSYNC} into {}, the older release that tests run against",
        folder.display()
    );
    download(&format!("rsync={OLD_RSYNC}*"), &folder)
        .with_context(|| format!("put a rsync {OLD_RSYNC} into {} by hand", folder.display()))
}

fn unpack(download: &Path, to: &Path) -> Result<()> {
    let mut files = fs::read_dir(download).with_context(|| format!("read {}", download.display()))?.flatten();
    let package = files.find(|entry| entry.path().extension().is_some_and(|end| end == "deb"));
    let package =
        package.with_context(|| format!("apt-get left no package in {}", download.display()))?.path();
    process::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(to), "the package is damaged")
}

const BPF_LINKER: &str = "0.10.3";
const OLD_RSYNC: &str = "3.2.7";

const PACKAGES: [Package; 21] = [
    ("gcc", "cc", "links the binaries, and builds zstd for compression"),
    ("libc6-dev", "", "headers and start files for the linker"),
    ("rustc-web", "", "a compiler that can build for the eBPF target"),
    ("rust-web-src", "", "the sources of its core library, which that target needs"),
    ("rsync", "rsync", "the stock daemon that we mirror to, and the referee of all tests"),
    ("lsyncd", "lsyncd", "a peer in the benches"),
    ("inotify-tools", "inotifywait", "a peer in the benches"),
    ("e2fsprogs", "mkfs.ext4", "makes file systems for tests"),
    ("xfsprogs", "mkfs.xfs", "makes file systems for tests"),
    ("btrfs-progs", "mkfs.btrfs", "makes file systems for tests"),
    ("acl", "setfacl", "changes access lists in tests"),
    ("attr", "setfattr", "changes extended attributes in tests"),
    ("git", "git", "changes a tree in tests as people do"),
    ("sqlite3", "sqlite3", "changes a database in tests"),
    ("python3", "python3", "is the program that a sender goes through in a test"),
    ("bpftool", "bpftool", "shows the loaded programs and maps"),
    ("iproute2", "ss", "watches sockets in tests and benches"),
    ("util-linux", "unshare", "mount namespaces for tests and benches"),
    ("mount", "mount", "mounts file systems for tests"),
    ("procps", "ps", "looks at processes in tests"),
    ("ca-certificates", "", "fetches from crates.io"),
];

/// The services of the first of [`SERVERS`], as systemd names them.
const UNITS: [&str; 3] = ["stunnel4", "haproxy", "ssh"];

const SERVERS: [Package; 6] = [
    ("stunnel4", "stunnel4", "a TLS proxy before daemons in tests"),
    ("haproxy", "haproxy", "another TLS proxy before daemons in tests"),
    ("openssh-server", "sshd", "a remote shell in tests"),
    ("qemu-system-x86", "qemu-system-x86_64", "a machine with another kernel for tests"),
    ("busybox-static", "busybox", "the shell of that machine"),
    ("systemd", "systemctl", "runs the service in that machine; nothing of it is started here"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_for_root_are_found_whatever_the_path_of_the_caller() {
        let path = path().unwrap();
        assert!(std::env::split_paths(&path).any(|folder| folder == Path::new("/usr/sbin")), "{path:?}");
    }
}
