//! By what attempts reach: files, what `/proc` shows, calls of the kernel and sockets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use libc::c_long;

use crate::battery::scene::AttemptScene;
use crate::sys;

/// Writes where it is heard.
pub(in crate::battery) fn write_stdout(bytes: &[u8]) {
    // If the output is not read nothing is lost.
    drop(io::stdout().write_all(bytes));
}

pub(super) fn print_file(path: &Path) -> io::Result<()> {
    let mut text = Vec::new();
    File::open(path)?.take(64 << 10).read_to_end(&mut text)?;
    write_stdout(&text);
    Ok(())
}

pub(super) fn append_to_file(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(b"changed")
}

pub(super) fn open_to_write(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

pub(super) fn set_times(path: &Path) -> io::Result<()> {
    let then = rustix::event::Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: then, last_modification: then };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())?)
}

/// Makes a link in the workspace and returns where it is.
pub(super) fn link_in_workspace(scene: &AttemptScene, to: &Path) -> io::Result<std::path::PathBuf> {
    let link = scene.workspace.join("link");
    symlink(to, &link)?;
    Ok(link)
}

pub(super) fn proc_path(process: i32, name: &str) -> std::path::PathBuf {
    Path::new("/proc").join(process.to_string()).join(name)
}

/// Succeeds if any of what is for the owner of `/proc` alone can be read.
pub(super) fn read_owners() -> io::Result<()> {
    for name in ["slabinfo", "vmallocinfo", "timer_list", "pagetypeinfo", "kpagecount"] {
        let mut text = Vec::new();
        // One that this kernel does not have cannot be read.
        let Ok(file) = File::open(Path::new("/proc").join(name)) else { continue };
        if file.take(64).read_to_end(&mut text).is_ok_and(|bytes| bytes > 0) {
            return Ok(());
        }
    }
    Err(io::Error::other("nothing of it can be read"))
}

pub(super) fn of_self(descriptor: i32) -> std::path::PathBuf {
    Path::new("/proc/self/fd").join(descriptor.to_string())
}

pub(super) fn find_entry(directory: &Path, name: &str) -> io::Result<()> {
    let found = fs::read_dir(directory)?.flatten().any(|entry| entry.file_name() == name);
    if found { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Succeeds if a descriptor beyond the usual three is open.
pub(super) fn nothing_open() -> io::Result<()> {
    for number in 3..1024 {
        if make_syscall(libc::SYS_fcntl, [number, c_long::from(libc::F_GETFD), 0, 0, 0]).is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::other("nothing else is open"))
}

pub(super) fn make_syscall(number: c_long, arguments: [c_long; 5]) -> io::Result<c_long> {
    sys::raw_syscall(number, arguments)
}

pub(super) fn try_syscall(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    make_syscall(number, arguments).map(drop)
}

/// Succeeds if the kernel looks at the call at all, whatever it says.
pub(super) fn is_known(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    match make_syscall(number, arguments) {
        Err(problem) if problem.raw_os_error() == Some(libc::ENOSYS) => Err(problem),
        Ok(_) | Err(_) => Ok(()),
    }
}

pub(super) fn open_socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    try_syscall(libc::SYS_socket, [c_long::from(family), c_long::from(kind), c_long::from(protocol), 0, 0])
}

pub(super) fn mount_something() -> io::Result<()> {
    let flags = rustix::mount::MountFlags::NOSUID;
    Ok(rustix::mount::mount("none", std::env::temp_dir(), "tmpfs", flags, c"size=1m")?)
}

/// Makes a process in a user namespace; it ends at once.
pub(super) fn by_clone() -> io::Result<()> {
    let flags = c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    if make_syscall(libc::SYS_clone, [flags, 0, 0, 0, 0])? == 0 {
        std::process::exit(0);
    }
    Ok(())
}

pub(super) fn connect_tcp(to: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&to, Duration::from_secs(2)).map(drop)
}

/// Sends a datagram, as a resolver of names does.
pub(super) fn send_datagram(from: &str, to: SocketAddr) -> io::Result<()> {
    UdpSocket::bind(from)?.send_to(b"secret.example", to).map(drop)
}

pub(super) fn no_address() -> io::Error {
    io::Error::other("there is no such address here")
}
