//! Certificates made on the spot, and TLS proxies before daemons as rsync's manual page of rsync-ssl sets them up.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustix::process::{Pid, Signal};

use crate::machine::{bound_to_us, eventually};
use crate::{Port, Scratch, Skip};

/// Somebody who signs certificates.
#[derive(Debug)]
pub struct Authority {
    certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    folder: Scratch,
}

/// A certificate and its key, in files of PEM form.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one file, as haproxy wants them.
    pub combined: PathBuf,
}

impl Authority {
    /// A new one, whom nobody knows yet.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("the machine has random bytes");
        let certificate = params.self_signed(&key).expect("the parameters are sound");
        let folder = Scratch::new("authority");
        let path = folder.path().join("ca.pem");
        fs::write(&path, certificate.pem()).expect("a scratch folder is writable");
        Authority { certificate: path, issuer: Issuer::new(params, key), folder }
    }

    /// Its own certificate, for those who trust it.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Signs a certificate for these hosts.
    pub fn sign(&self, hosts: &[&str]) -> Identity {
        self.sign_until(hosts, 2099)
    }

    /// The same, at an end since the first day of a year.
    pub fn sign_until(&self, hosts: &[&str], year: i32) -> Identity {
        let mut params = params(hosts);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("the machine has random bytes");
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are sound");
        self.store(hosts, &certificate.pem(), &key.serialize_pem())
    }

    /// A certificate that signed itself, as `openssl req -x509` makes it: an authority's by its own words.
    pub fn self_signed(&self, hosts: &[&str]) -> Identity {
        let mut params = params(hosts);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("the machine has random bytes");
        let certificate = params.self_signed(&key).expect("the parameters are sound");
        self.store(&[&["self"], hosts].concat(), &certificate.pem(), &key.serialize_pem())
    }

    fn store(&self, hosts: &[&str], certificate: &str, key: &str) -> Identity {
        let path = |end: &str| self.folder.path().join(format!("{}.{end}", hosts.join("-")));
        let identity = Identity { certificate: path("crt"), key: path("key"), combined: path("pem") };
        let files = [
            (&identity.certificate, certificate.to_owned()),
            (&identity.key, key.to_owned()),
            (&identity.combined, format!("{certificate}{key}")),
        ];
        for (file, text) in files {
            fs::write(file, text).expect("a scratch folder is writable");
            fs::set_permissions(file, Permissions::from_mode(0o600)).expect("it is ours");
        }
        identity
    }
}

fn params(hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    CertificateParams::new(hosts).expect("host names are text")
}

/// A TLS proxy before a daemon. Ends on drop.
#[derive(Debug)]
pub struct TlsProxy {
    port: Port,
    process: Child,
    folder: Scratch,
}

impl TlsProxy {
    /// stunnel before `upstream`; with `clients`, it wants certificates that this authority signed.
    ///
    /// # Errors
    /// It is not on this machine.
    pub fn stunnel(upstream: &str, server: &Identity, clients: Option<&Authority>) -> Result<TlsProxy, Skip> {
        let verify = clients.map_or(String::new(), |authority| {
            format!("CAfile = {}\nverifyChain = yes\n", authority.certificate.display())
        });
        TlsProxy::start("stunnel4", |port| {
            let config = format!(
                "foreground = yes\nsyslog = no\npid =\ndebug = info\n\
                 [rsync]\nclient = no\naccept = 127.0.0.1:{port}\nconnect = {upstream}\n\
                 cert = {certificate}\nkey = {key}\n{verify}",
                certificate = server.certificate.display(),
                key = server.key.display(),
            );
            (config, &[])
        })
    }

    /// haproxy before `upstream`; with `clients`, it wants certificates that this authority signed.
    ///
    /// # Errors
    /// It is not on this machine.
    pub fn haproxy(upstream: &str, server: &Identity, clients: Option<&Authority>) -> Result<TlsProxy, Skip> {
        let verify = clients.map_or(String::new(), |authority| {
            format!(" ca-file {} verify required", authority.certificate.display())
        });
        TlsProxy::start("haproxy", |port| {
            let config = format!(
                "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  \
                 timeout server 60s\nfrontend fe_rsync-ssl\n  bind 127.0.0.1:{port} ssl crt {crt}{verify}\n  \
                 use_backend be_rsync\nbackend be_rsync\n  server local-rsync {upstream}\n",
                crt = server.combined.display(),
            );
            (config, &["-db", "-f"])
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `rsyncs://host:port/module/`.
    pub fn url(&self, host: &str, module: &str) -> String {
        format!("rsyncs://{host}:{}/{module}/", self.port.number())
    }

    fn start(
        name: &str,
        config: impl Fn(u16) -> (String, &'static [&'static str]),
    ) -> Result<TlsProxy, Skip> {
        let program = installed(name)?;
        let folder = Scratch::new(name);
        let path = folder.path().join("config");
        let (port, process) = eventually("a TLS proxy listens", || {
            let port = Port::new();
            let (text, options) = config(port.number());
            fs::write(&path, text).expect("a scratch folder is writable");
            let mut command = bound_to_us(&program);
            command.args(options).arg(&path).current_dir(folder.path()).process_group(0);
            let output =
                fs::File::create(folder.path().join("output")).expect("a scratch folder is writable");
            let copy = output.try_clone().expect("descriptors are left");
            command.stdin(Stdio::null()).stdout(output).stderr(copy);
            let mut process = command.spawn().expect("setpriv is installed");
            eventually("the TLS proxy accepts connections or ends", || {
                if process.try_wait().expect("it is our child").is_some() {
                    return Some(false);
                }
                TcpStream::connect(port.address()).is_ok().then_some(true)
            })
            .then_some((port, process))
        });
        Ok(TlsProxy { port, process, folder })
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.process.id().cast_signed()).expect("process ids are positive");
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = self.process.wait();
        if std::thread::panicking() {
            let text = fs::read(self.folder.path().join("output")).unwrap_or_default();
            eprintln!("--- output of the TLS proxy\n{}---", String::from_utf8_lossy(&text));
        }
    }
}

/// Where a program of the system is; some are for root's path only.
pub(crate) fn installed(name: &str) -> Result<PathBuf, Skip> {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Skip(format!("no {name} here; `cargo xtask setup` brings it")))
}

/// A command that runs without a terminal and without the tester's environment.
pub(crate) fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}
