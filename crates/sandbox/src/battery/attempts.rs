//! The attempts themselves: a table, and what each of them does.
//!
//! An attempt returns whether it got through. Where the judge looks from outside it only has to try. None of them
//! harms the machine where it works: what it changes is the stage's, what it asks of the kernel is asked without
//! arguments that do anything, and what it uses up is little.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libc::c_long;

use super::scene::Scene;
use super::{Attempt, Class, Proof};
use crate::{ATTEMPT_FLAG, sys};

/// The name under which an attempt starts itself again, to hold memory.
pub(super) const HOLD: &str = "hold";

/// How long something too large is held, so that whoever counts sees it, also on a busy machine: looks are half a second
/// apart on an idle one.
const HELD_FOR: Duration = Duration::from_secs(3);

macro_rules! attempts {
    ($($name:literal $class:ident $proof:ident $($flag:ident)* = $body:expr;)+) => {
        &[$(Attempt {
            name: $name,
            class: Class::$class,
            proof: Proof::$proof,
            needs_root: flag::has(&[$(flag::$flag),*], flag::ROOT),
            is_strict: flag::has(&[$(flag::$flag),*], flag::STRICT),
            body: $body,
        }),+]
    };
}

/// What the table says beside an attempt.
mod flag {
    /// It needs root to work without walls.
    pub(super) const ROOT: u8 = 1;
    /// Only a file system of its own can hold it.
    pub(super) const STRICT: u8 = 2;

    /// Whether one is among all.
    pub(super) const fn has(all: &[u8], one: u8) -> bool {
        let mut at = 0;
        while at < all.len() {
            if all[at] == one {
                return true;
            }
            at += 1;
        }
        false
    }
}

/// Every attempt.
pub(super) const ALL: &[Attempt] = attempts! {
    "files.read" Files Said = |scene| tell(&scene.outside.join("secret"));
    "files.list" Files Reached = |scene| fs::read_dir(&scene.outside).map(drop);
    "files.append" Files Changed = |scene| append(&scene.outside.join("victim"));
    "files.create" Files Changed = |scene| fs::write(scene.outside.join("new"), "x");
    "files.delete" Files Changed = |scene| fs::remove_file(scene.outside.join("victim"));
    "files.rename" Files Changed = |scene| fs::rename(scene.outside.join("victim"), scene.outside.join("moved"));
    "files.truncate" Files Changed = |scene| File::options().write(true).truncate(true).open(scene.outside.join("victim")).map(drop);
    "files.make_directory" Files Changed = |scene| fs::create_dir(scene.outside.join("directory"));
    "files.remove_directory" Files Changed = |scene| fs::remove_dir_all(scene.outside.join("sub"));
    "files.mode" Files Changed = |scene| fs::set_permissions(scene.outside.join("victim"), Permissions::from_mode(0o777));
    "files.times" Files Changed = |scene| set_times(&scene.outside.join("victim"));
    "files.move_in" Files Changed = |scene| fs::rename(scene.workspace.join("own"), scene.outside.join("own"));
    "files.move_out" Files Changed = |scene| fs::rename(scene.outside.join("victim"), scene.workspace.join("victim"));
    "files.link_in" Files Said = |scene| {
        fs::hard_link(scene.outside.join("secret"), scene.workspace.join("linked"))?;
        tell(&scene.workspace.join("linked"))
    };
    "files.enter" Files Said = |scene| {
        std::env::set_current_dir(&scene.outside)?;
        tell(Path::new("secret"))
    };

    "symlinks.read" Symlinks Said = |scene| tell(&linked(scene, &scene.outside.join("secret"))?);
    "symlinks.write" Symlinks Changed = |scene| append(&linked(scene, &scene.outside.join("victim"))?);
    "symlinks.directory" Symlinks Changed = |scene| fs::write(linked(scene, &scene.outside)?.join("new"), "x");
    "symlinks.chain" Symlinks Said = |scene| {
        linked(scene, &scene.outside)?;
        symlink("link/secret", scene.workspace.join("second"))?;
        tell(&scene.workspace.join("second"))
    };
    "symlinks.parents" Symlinks Said = |scene| {
        let up = "../".repeat(scene.workspace.components().count());
        let down = scene.outside.strip_prefix("/").unwrap_or(&scene.outside);
        tell(&scene.workspace.join(up).join(down).join("secret"))
    };
    "symlinks.neighbour" Symlinks Said = |scene| tell(&scene.workspace.join("../outside/secret"));
    "symlinks.proc_root" Symlinks Said = |scene| tell(&Path::new("/proc/self/root").join(scene.outside.strip_prefix("/").unwrap_or(&scene.outside)).join("secret"));
    "symlinks.proc_cwd" Symlinks Said = |_| tell(Path::new("/proc/self/cwd/../outside/secret"));

    "proc_sys.environ" ProcSys Said = |scene| tell(&of(scene.witness, "environ"));
    "proc_sys.cwd" ProcSys Said = |scene| tell(&of(scene.witness, "cwd/secret"));
    "proc_sys.root" ProcSys Said = |scene| tell(&of(scene.witness, "root").join(scene.outside.strip_prefix("/").unwrap_or(&scene.outside)).join("secret"));
    "proc_sys.memory" ProcSys Reached = |scene| File::open(of(scene.witness, "mem")).map(drop);
    "proc_sys.descriptors" ProcSys Reached = |scene| fs::read_dir(of(scene.witness, "fd")).map(drop);
    "proc_sys.command_line" ProcSys Reached = |scene| fs::read(of(scene.witness, "cmdline")).map(drop);
    "proc_sys.server" ProcSys Reached = |scene| fs::read(format!("/proc/{}/environ", scene.server)).map(drop);
    "proc_sys.kill_order" ProcSys Reached = |scene| open_to_write(&of(scene.witness, "oom_score_adj"));
    "proc_sys.list" ProcSys Reached = |scene| named(Path::new("/proc"), &scene.witness.to_string());
    "proc_sys.devices" ProcSys Reached = |_| fs::read_dir("/sys/class").map(drop);
    "proc_sys.core_pattern" ProcSys Reached ROOT = |_| open_to_write(Path::new("/proc/sys/kernel/core_pattern"));
    "proc_sys.sysrq" ProcSys Reached ROOT = |_| open_to_write(Path::new("/proc/sysrq-trigger"));
    "proc_sys.shadow" ProcSys Reached ROOT = |_| File::open("/etc/shadow").map(drop);

    "descriptors.count" Descriptors Reached = |_| nothing_open();
    "descriptors.file" Descriptors Said = |scene| tell(&of_self(scene.open_file));
    "descriptors.directory" Descriptors Said = |scene| tell(&of_self(scene.open_dir).join("secret"));
    "descriptors.is_there" Descriptors Reached = |scene| raw(libc::SYS_fcntl, [c_long::from(scene.open_file), c_long::from(libc::F_GETFD), 0, 0, 0]);

    "unix_sockets.stream" UnixSockets Reached = |scene| UnixStream::connect(scene.outside.join("server.sock")).map(drop);
    "unix_sockets.datagram" UnixSockets Reached = |scene| UnixDatagram::unbound()?.send_to(b"x", scene.outside.join("datagram.sock")).map(drop);
    "unix_sockets.abstract" UnixSockets Reached = |scene| {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&scene.abstract_name)?;
        UnixStream::connect_addr(&address).map(drop)
    };
    "unix_sockets.in_workspace" UnixSockets Reached = |scene| UnixStream::connect(scene.workspace.join("server.sock")).map(drop);
    "unix_sockets.linked" UnixSockets Reached = |scene| UnixStream::connect(linked(scene, &scene.outside.join("server.sock"))?).map(drop);
    "unix_sockets.squat" UnixSockets Reached = |scene| {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(format!("{}-squat", scene.abstract_name))?;
        UnixListener::bind_addr(&address).map(drop)
    };

    "netlink.route" Netlink Reached = |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
    "netlink.events" Netlink Reached = |_| socket(libc::AF_NETLINK, libc::SOCK_DGRAM, libc::NETLINK_KOBJECT_UEVENT);
    "netlink.generic" Netlink Reached = |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC);
    "netlink.packet" Netlink Reached ROOT = |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0);

    "ptrace.seize" Ptrace Reached = |scene| raw(libc::SYS_ptrace, [PTRACE_SEIZE, c_long::from(scene.witness), 0, 0, 0]);
    "ptrace.read_memory" Ptrace Reached = |scene| raw(libc::SYS_process_vm_readv, [c_long::from(scene.witness), 0, 0, 0, 0]);
    "ptrace.signal" Ptrace Reached = |scene| raw(libc::SYS_kill, [c_long::from(scene.witness), c_long::from(libc::SIGCONT), 0, 0, 0]);
    "ptrace.signal_handle" Ptrace Reached = |scene| {
        let handle = call(libc::SYS_pidfd_open, [c_long::from(scene.witness), 0, 0, 0, 0])?;
        raw(libc::SYS_pidfd_send_signal, [handle, c_long::from(libc::SIGCONT), 0, 0, 0])
    };
    "ptrace.take_descriptor" Ptrace Reached = |scene| {
        let handle = call(libc::SYS_pidfd_open, [c_long::from(scene.witness), 0, 0, 0, 0])?;
        raw(libc::SYS_pidfd_getfd, [handle, 0, 0, 0, 0])
    };
    "ptrace.limit" Ptrace Reached = |scene| {
        let witness = rustix::process::Pid::from_raw(scene.witness);
        let files = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
        Ok(rustix::process::prlimit(witness, rustix::process::Resource::Nofile, files).map(drop)?)
    };
    "ptrace.priority" Ptrace Reached = |scene| raw(libc::SYS_setpriority, [0, c_long::from(scene.witness), 1, 0, 0]);
    "ptrace.compare" Ptrace Reached = |scene| raw(libc::SYS_kcmp, [c_long::from(scene.witness), c_long::from(scene.witness), 1, 0, 0]);

    "namespaces.user" Namespaces Reached = |_| raw(libc::SYS_unshare, [c_long::from(libc::CLONE_NEWUSER), 0, 0, 0, 0]);
    "namespaces.user_and_mount" Namespaces Reached = |_| {
        raw(libc::SYS_unshare, [c_long::from(libc::CLONE_NEWUSER | libc::CLONE_NEWNS), 0, 0, 0, 0])?;
        mount_something()
    };
    "namespaces.user_and_network" Namespaces Reached = |_| raw(libc::SYS_unshare, [c_long::from(libc::CLONE_NEWUSER | libc::CLONE_NEWNET), 0, 0, 0, 0]);
    "namespaces.by_clone" Namespaces Reached = |_| by_clone();
    "namespaces.join" Namespaces Reached ROOT = |scene| {
        let namespace = File::open(of(scene.witness, "ns/uts"))?;
        let number = c_long::from(std::os::fd::AsRawFd::as_raw_fd(&namespace));
        raw(libc::SYS_setns, [number, c_long::from(libc::CLONE_NEWUTS), 0, 0, 0])
    };
    "namespaces.change_root" Namespaces Reached ROOT = |scene| Ok(rustix::process::chroot(&scene.workspace)?);
    "namespaces.mount" Namespaces Reached ROOT = |_| {
        raw(libc::SYS_unshare, [c_long::from(libc::CLONE_NEWNS), 0, 0, 0, 0])?;
        mount_something()
    };
    "namespaces.open_tree" Namespaces Reached ROOT = |_| {
        let flags = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE;
        Ok(rustix::mount::open_tree(rustix::fs::CWD, "/", flags).map(drop)?)
    };
    "namespaces.new_file_system" Namespaces Reached ROOT = |_| Ok(rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::empty()).map(drop)?);

    "kernel.io_uring" Kernel Reached = |_| is_known(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]);
    "kernel.bpf" Kernel Reached = |_| is_known(libc::SYS_bpf, [0, 0, 0, 0, 0]);
    "kernel.keys" Kernel Reached = |_| is_known(libc::SYS_keyctl, [0, -3, 0, 0, 0]);
    "kernel.add_key" Kernel Reached = |_| is_known(libc::SYS_add_key, [0, 0, 0, 0, 0]);
    "kernel.perf" Kernel Reached = |_| is_known(libc::SYS_perf_event_open, [0, 0, -1, -1, 0]);
    "kernel.userfaultfd" Kernel Reached = |_| is_known(libc::SYS_userfaultfd, [-1, 0, 0, 0, 0]);
    "kernel.open_by_handle" Kernel Reached = |_| is_known(libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0]);
    "kernel.modules" Kernel Reached = |_| is_known(libc::SYS_finit_module, [-1, 0, 0, 0, 0]);
    "kernel.shared_memory" Kernel Reached = |_| is_known(libc::SYS_shmget, [0, 0, 0, 0, 0]);
    "kernel.personality" Kernel Reached = |_| is_known(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0]);

    "environment.own" Environment Said = |_| {
        std::env::vars_os().for_each(|(name, value)| say(format!("{}={}\n", name.display(), value.display()).as_bytes()));
        Ok(())
    };
    "environment.more_names" Environment Reached = |_| {
        if std::env::vars_os().count() > 4 { Ok(()) } else { Err(io::Error::other("four names, as it should be")) }
    };
    "environment.of_self" Environment Said = |_| tell(Path::new("/proc/self/environ"));
    "environment.of_parent" Environment Reached = |scene| {
        let parent = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
        let text = fs::read(format!("/proc/{parent}/cmdline"))?;
        let server = fs::read(format!("/proc/{}/cmdline", scene.server))?;
        if text == server { Ok(()) } else { Err(io::Error::other("the parent is not the server")) }
    };

    "hooks.write" Hooks Hooked STRICT = |scene| append(&scene.workspace.join(".git/hooks/pre-commit"));
    "hooks.add" Hooks Hooked STRICT = |scene| fs::write(scene.workspace.join(".git/hooks/post-checkout"), "x");
    "hooks.swap" Hooks Hooked STRICT = |scene| {
        fs::rename(scene.workspace.join(".git/hooks"), scene.workspace.join(".git/old"))?;
        fs::create_dir(scene.workspace.join(".git/hooks"))
    };
    "hooks.config" Hooks Hooked STRICT = |scene| append(&scene.workspace.join(".git/config"));
    "hooks.replace_config" Hooks Hooked STRICT = |scene| fs::rename(scene.workspace.join("own"), scene.workspace.join(".git/config"));
    "hooks.delete_config" Hooks Hooked STRICT = |scene| fs::remove_file(scene.workspace.join(".git/config"));
    "hooks.move_repository" Hooks Hooked STRICT = |scene| fs::rename(scene.workspace.join(".git"), scene.workspace.join("moved"));
    "hooks.shell" Hooks Hooked STRICT = |scene| append(&scene.workspace.join(".bashrc"));
    "hooks.directory" Hooks Hooked STRICT = |scene| append(&scene.workspace.join(".envrc"));
    "hooks.editor" Hooks Hooked STRICT = |scene| append(&scene.workspace.join(".vscode/tasks.json"));

    "bombs.processes" Bombs Reached = |scene| many_processes(scene);
    "bombs.threads" Bombs Reached = |scene| many_threads(scene);
    "bombs.memory" Bombs Reached = |scene| {
        fill(scene.limits.memory_bytes + (64 << 20));
        Ok(())
    };
    "bombs.memory_of_many" Bombs Reached = |_| memory_of_many();
    "bombs.file" Bombs Reached = |scene| write_much(&scene.workspace.join("big"), scene.limits.disk_bytes + (4 << 20));
    "bombs.files" Bombs Reached = |scene| {
        for number in 0..8 {
            write_much(&scene.workspace.join(format!("big{number}")), scene.limits.disk_bytes / 4)?;
        }
        std::thread::sleep(HELD_FOR);
        Ok(())
    };
    "bombs.temporary" Bombs Reached = |scene| {
        let place = std::env::temp_dir().join(&scene.abstract_name);
        fs::create_dir(&place)?;
        let written = (0..8).try_for_each(|number| write_much(&place.join(number.to_string()), scene.limits.disk_bytes / 4));
        std::thread::sleep(HELD_FOR);
        fs::remove_dir_all(&place)?;
        written
    };
    "bombs.output" Bombs Reached = |scene| {
        let piece = vec![b'x'; 64 << 10];
        let mut left = scene.limits.output_bytes * 3;
        while left > 0 {
            io::stdout().write_all(&piece)?;
            left = left.saturating_sub(piece.len() as u64);
        }
        Ok(())
    };
    "bombs.processor" Bombs Reached = |scene| {
        // Counted by what it got of a processor, however little a busy machine gives.
        let end = sys::processor_time()? + Duration::from_millis(scene.limits.cpu_ms) * 5 / 2;
        while sys::processor_time()? < end {
            std::hint::spin_loop();
        }
        Ok(())
    };
    "bombs.time" Bombs Reached = |scene| {
        std::thread::sleep(Duration::from_millis(scene.limits.wall_ms + 1_000));
        Ok(())
    };

    "timing.background" Timing Late = |scene| leave(scene, "later", false);
    "timing.session" Timing Late = |scene| leave(scene, "later", true);
    "timing.twice_forked" Timing Late = |scene| leave(scene, "later & later &", true);
    "timing.deaf" Timing Late = |scene| leave(scene, "trap '' TERM HUP INT QUIT; later", true);
    "timing.closed_outputs" Timing Late = |scene| leave(scene, "exec >&- 2>&- <&-; later", false);

    "exfiltration.tcp" Exfiltration Reached = |scene| connect(scene.tcp);
    "exfiltration.tcp6" Exfiltration Reached = |scene| connect(scene.tcp6.ok_or_else(absent)?);
    "exfiltration.dns" Exfiltration Reached = |scene| send("0.0.0.0:0", scene.udp);
    "exfiltration.dns6" Exfiltration Reached = |scene| send("[::]:0", scene.udp6.ok_or_else(absent)?);
    "exfiltration.listen" Exfiltration Reached = |_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map(drop);
    "exfiltration.raw" Exfiltration Reached ROOT = |_| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    "exfiltration.virtual_machine" Exfiltration Reached = |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0);
    "exfiltration.crypto" Exfiltration Reached = |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0);
};

const PTRACE_SEIZE: c_long = 0x4206;

/// Writes where it is heard.
pub(super) fn say(bytes: &[u8]) {
    // If nobody hears it nothing is lost.
    drop(io::stdout().write_all(bytes));
}

fn tell(path: &Path) -> io::Result<()> {
    let mut text = Vec::new();
    File::open(path)?.take(64 << 10).read_to_end(&mut text)?;
    say(&text);
    Ok(())
}

fn append(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(b"changed")
}

fn open_to_write(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

fn set_times(path: &Path) -> io::Result<()> {
    let then = rustix::event::Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: then, last_modification: then };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())?)
}

/// Makes a link in the workspace and returns where it is.
fn linked(scene: &Scene, to: &Path) -> io::Result<std::path::PathBuf> {
    let link = scene.workspace.join("link");
    symlink(to, &link)?;
    Ok(link)
}

fn of(process: i32, name: &str) -> std::path::PathBuf {
    Path::new("/proc").join(process.to_string()).join(name)
}

fn of_self(descriptor: i32) -> std::path::PathBuf {
    Path::new("/proc/self/fd").join(descriptor.to_string())
}

fn named(directory: &Path, name: &str) -> io::Result<()> {
    let found = fs::read_dir(directory)?.flatten().any(|entry| entry.file_name() == name);
    if found { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Succeeds if a descriptor beyond the usual three is open.
fn nothing_open() -> io::Result<()> {
    for number in 3..1024 {
        if call(libc::SYS_fcntl, [number, c_long::from(libc::F_GETFD), 0, 0, 0]).is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::other("nothing else is open"))
}

fn call(number: c_long, arguments: [c_long; 5]) -> io::Result<c_long> {
    sys::call(number, arguments)
}

fn raw(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    call(number, arguments).map(drop)
}

/// Succeeds if the kernel looks at the call at all, whatever it says.
fn is_known(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    match call(number, arguments) {
        Err(problem) if problem.raw_os_error() == Some(libc::ENOSYS) => Err(problem),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    raw(libc::SYS_socket, [c_long::from(family), c_long::from(kind), c_long::from(protocol), 0, 0])
}

fn mount_something() -> io::Result<()> {
    let flags = rustix::mount::MountFlags::NOSUID;
    Ok(rustix::mount::mount("none", std::env::temp_dir(), "tmpfs", flags, c"size=1m")?)
}

/// Makes a process in a user namespace; it ends at once.
fn by_clone() -> io::Result<()> {
    let flags = c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    if call(libc::SYS_clone, [flags, 0, 0, 0, 0])? == 0 {
        std::process::exit(0);
    }
    Ok(())
}

fn connect(to: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&to, Duration::from_secs(2)).map(drop)
}

/// Sends a datagram, as whoever asks for a name does.
fn send(from: &str, to: SocketAddr) -> io::Result<()> {
    UdpSocket::bind(from)?.send_to(b"secret.example", to).map(drop)
}

fn absent() -> io::Error {
    io::Error::other("there is no such address here")
}

/// Touches that much memory, holds it for a while, and lets it go.
fn fill(bytes: u64) {
    let mut memory = vec![0_u8; usize::try_from(bytes).unwrap_or(usize::MAX)];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    std::thread::sleep(HELD_FOR);
    drop(std::hint::black_box(memory));
}

/// What each of several processes does: holds half of what all may have.
pub(super) fn hold(scene: &Scene) {
    fill(scene.limits.memory_bytes / 2);
}

fn memory_of_many() -> io::Result<()> {
    let words: Vec<_> = std::env::args_os().collect();
    let [program, _, _, scene] = &words[..] else { return Err(io::Error::other("there is no scene")) };
    let children: Vec<Child> = (0..4)
        .map(|_| Command::new(program).args([ATTEMPT_FLAG, HOLD]).arg(scene).spawn())
        .collect::<io::Result<_>>()?;
    let ends: Vec<_> = children.into_iter().map(|mut child| child.wait()).collect::<io::Result<_>>()?;
    if ends.iter().all(std::process::ExitStatus::success) {
        Ok(())
    } else {
        Err(io::Error::other("one died"))
    }
}

fn many_processes(scene: &Scene) -> io::Result<()> {
    let mut children = Vec::new();
    let mut result = Ok(());
    for _ in 0..scene.limits.processes * 2 {
        let child = Command::new("sleep").arg("5").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match child {
            Ok(child) => children.push(child),
            Err(problem) => {
                result = Err(problem);
                break;
            }
        }
    }
    std::thread::sleep(HELD_FOR);
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    result
}

fn many_threads(scene: &Scene) -> io::Result<()> {
    let threads: Vec<_> = (0..scene.limits.processes * 2)
        .map(|_| {
            let builder = std::thread::Builder::new().stack_size(64 << 10);
            builder.spawn(|| std::thread::sleep(HELD_FOR))
        })
        .collect::<io::Result<_>>()?;
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread died"))?;
    }
    Ok(())
}

fn write_much(path: &Path, bytes: u64) -> io::Result<()> {
    let piece = vec![1_u8; 1 << 20];
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        file.write_all(&piece)?;
        left = left.saturating_sub(piece.len() as u64);
    }
    Ok(())
}

/// What does something in the workspace once the judge has seen this attempt's end, however long that takes.
const LATER: &str = "later() { while test -e running; do sleep 0.1; done; echo x > late; }; ";

/// Leaves a process behind that does something later.
fn leave(scene: &Scene, script: &str, is_session: bool) -> io::Result<()> {
    let mut command = if is_session { Command::new("setsid") } else { Command::new("sh") };
    if is_session {
        command.arg("sh");
    }
    let child: Child = command
        .args(["-c", &format!("{LATER}{script}")])
        .current_dir(&scene.workspace)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // It is left behind on purpose; whoever inherits it buries it.
    std::mem::forget(child);
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}
