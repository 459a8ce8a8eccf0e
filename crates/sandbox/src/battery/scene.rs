//! What an attempt finds: a workspace, things of others that it must not reach, and servers that listen.
//!
//! The stage is set up for every attempt and taken down with it. One descriptor of it is left open on purpose for
//! whatever is started meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use dromia_contracts::guarded_paths::{self, MissingGuard};
use dromia_contracts::sandbox::ProcessLimits;
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

/// Numbers the stages of this process.
static STAGES: AtomicU32 = AtomicU32::new(0);

/// The description of its surroundings that an attempt gets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AttemptScene {
    /// A directory that it must not reach.
    pub(super) outside: PathBuf,
    /// Its own workspace, as it sees it.
    pub(super) workspace: PathBuf,
    /// The name of an abstract socket.
    pub(super) abstract_name: String,
    /// Servers on the loopback.
    pub(super) tcp: SocketAddr,
    pub(super) tcp6: Option<SocketAddr>,
    pub(super) udp: SocketAddr,
    pub(super) udp6: Option<SocketAddr>,
    /// A process outside, which has the secret in its environment.
    pub(super) witness: i32,
    /// The process that started the sandbox.
    pub(super) server: u32,
    /// Descriptors that were left open: a file, a directory.
    pub(super) open_file: i32,
    pub(super) open_dir: i32,
    /// What the attempt may use.
    pub(super) limits: ProcessLimits,
}

impl AttemptScene {
    /// The name of an abstract socket that takes datagrams.
    pub(super) fn abstract_datagrams(&self) -> String {
        datagrams_of(&self.abstract_name)
    }
}

fn datagrams_of(name: &str) -> String {
    format!("{name}-datagrams")
}

/// Everything around one attempt.
#[derive(Debug)]
pub(super) struct AttemptStage {
    top: PathBuf,
    outside: PathBuf,
    workspace: PathBuf,
    secret: String,
    abstract_name: String,
    witness: Child,
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    udp: UdpSocket,
    udp6: Option<UdpSocket>,
    open_file: OwnedFd,
    open_dir: OwnedFd,
    before: Snapshot,
    hooks_before: Snapshot,
    _listening: ([UnixListener; 3], [UnixDatagram; 3]),
}

/// What lies in a directory: mode, time and content of each.
type Snapshot = BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>;

impl AttemptStage {
    /// Sets the stage in a directory of its own below `scratch`.
    pub(super) fn set_up(scratch: &Path) -> io::Result<Self> {
        let number = STAGES.fetch_add(1, Ordering::Relaxed);
        let name = format!("dromia-battery-{}-{number}", std::process::id());
        let top = scratch.canonicalize()?.join(&name);
        let (outside, workspace) = (top.join("outside"), top.join("workspace"));
        let secret = format!("canary-{name}-yranac");
        fs::create_dir_all(outside.join("sub"))?;
        fs::write(outside.join("secret"), &secret)?;
        fs::write(outside.join("victim"), "as it was")?;
        fs::write(outside.join("sub/other"), &secret)?;
        workspace_with_hooks(&workspace)?;
        let open = |path: &Path| -> io::Result<OwnedFd> {
            let file = OwnedFd::from(File::open(path)?);
            // Left open for whatever is started: the sandbox must not rely on others to close.
            rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
            Ok(file)
        };
        let abstract_address = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
        let of_datagrams = std::os::unix::net::SocketAddr::from_abstract_name(datagrams_of(&name))?;
        let streams = [
            UnixListener::bind(outside.join("server.sock"))?,
            UnixListener::bind(workspace.join("server.sock"))?,
            UnixListener::bind_addr(&abstract_address)?,
        ];
        let datagrams = [
            UnixDatagram::bind(outside.join("datagram.sock"))?,
            UnixDatagram::bind(workspace.join("datagram.sock"))?,
            UnixDatagram::bind_addr(&of_datagrams)?,
        ];
        let (open_file, open_dir) = (open(&outside.join("secret"))?, open(&outside)?);
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        // Last, because only the stage as a whole ends it.
        let witness = Command::new("sleep")
            .arg("600")
            .env("DROMIA_CANARY", &secret)
            .current_dir(&outside)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            open_file,
            open_dir,
            before: take_snapshot(&outside, &[""]),
            hooks_before: take_snapshot(&workspace, HOOKS),
            tcp,
            tcp6: TcpListener::bind("[::1]:0").ok(),
            udp,
            udp6: UdpSocket::bind("[::1]:0").ok(),
            _listening: (streams, datagrams),
            abstract_name: name,
            top,
            outside,
            workspace,
            secret,
            witness,
        })
    }

    pub(super) fn outside_path(&self) -> &Path {
        &self.outside
    }

    pub(super) fn workspace_path(&self) -> &Path {
        &self.workspace
    }

    pub(super) fn canary_secret(&self) -> &str {
        &self.secret
    }

    /// Writes the description that the attempt gets.
    pub(super) fn scene_json(
        &self,
        workspace: &Path,
        outside: &Path,
        limits: ProcessLimits,
    ) -> io::Result<String> {
        let scene = AttemptScene {
            outside: outside.to_owned(),
            workspace: workspace.to_owned(),
            abstract_name: self.abstract_name.clone(),
            tcp: self.tcp.local_addr()?,
            tcp6: self.tcp6.as_ref().map(TcpListener::local_addr).transpose()?,
            udp: self.udp.local_addr()?,
            udp6: self.udp6.as_ref().map(UdpSocket::local_addr).transpose()?,
            witness: i32::try_from(self.witness.id()).map_err(io::Error::other)?,
            server: std::process::id(),
            open_file: self.open_file.as_raw_fd(),
            open_dir: self.open_dir.as_raw_fd(),
            limits,
        };
        Ok(serde_json::to_string(&scene)?)
    }

    pub(super) fn is_outside_changed(&self) -> bool {
        take_snapshot(&self.outside, &[""]) != self.before
    }

    pub(super) fn is_hooked(&self) -> bool {
        take_snapshot(&self.workspace, HOOKS) != self.hooks_before
    }

    /// Shows what was left behind that the attempt has ended.
    pub(super) fn mark_ended(&self) {
        // The mark is gone already if the attempt took it away.
        drop(fs::remove_file(self.workspace.join(RUNNING)));
    }

    pub(super) fn is_late(&self) -> bool {
        self.workspace.join("late").exists()
    }
}

impl Drop for AttemptStage {
    fn drop(&mut self) {
        drop(self.witness.kill());
        drop(self.witness.wait());
        // An attempt outside the sandbox may have removed the rights to it; the scratch directory is not ours to force.
        drop(fs::remove_dir_all(&self.top));
    }
}

/// Is there in the workspace while the attempt runs.
const RUNNING: &str = "running";

/// What of a workspace programs outside execute.
const HOOKS: &[&str] = &[".git", ".vscode", ".bashrc", ".envrc"];

fn workspace_with_hooks(workspace: &Path) -> io::Result<()> {
    fs::create_dir_all(workspace.join(".git/hooks"))?;
    fs::create_dir_all(workspace.join(".vscode"))?;
    // A repository is given what it lacks where programs run; here nothing is missing, so that only attempts change it.
    for (name, filler) in guarded_paths::REPOSITORY_GUARDED {
        let path = workspace.join(guarded_paths::REPOSITORY).join(name);
        match filler {
            MissingGuard::Directory => fs::create_dir_all(path)?,
            MissingGuard::File(content) => fs::write(path, content)?,
        }
    }
    for (name, text) in [
        (".git/hooks/pre-commit", "#!/bin/sh\n"),
        (".git/config", "[core]\n"),
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".vscode/tasks.json", "{}\n"),
        (".bashrc", "\n"),
        (".envrc", "\n"),
        ("own", "mine\n"),
        (RUNNING, ""),
    ] {
        fs::write(workspace.join(name), text)?;
    }
    Ok(())
}

fn take_snapshot(top: &Path, names: &[&str]) -> Snapshot {
    let mut found = Snapshot::new();
    for name in names {
        add_to_snapshot(&top.join(name), &mut found);
    }
    found
}

fn add_to_snapshot(path: &Path, found: &mut Snapshot) {
    let Ok(about) = path.symlink_metadata() else { return };
    let content = if about.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
    // Reading changes no time that is compared here.
    found.insert(path.to_owned(), (about.mode(), about.mtime(), about.mtime_nsec(), content));
    if about.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            add_to_snapshot(&entry.path(), found);
        }
    }
}
