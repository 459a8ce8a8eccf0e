//! The attempts themselves: a table, and what each of them does.
//!
//! An attempt returns whether it got through. Where the judge looks from outside it only has to try. None of them
//! harms the machine where it works: what it changes is the stage's, what it asks of the kernel is asked without
//! arguments that do anything, and what it uses up is little.

mod burden;
mod reach;

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use libc::c_long;

use self::burden::{
    HELD_FOR, hold_memory, leave_process, many_processes, many_processes_of_a_thread, many_threads,
    memory_of_many, shared_memory, write_much,
};
use self::reach::{
    append_to_file, by_clone, connect_tcp, find_entry, is_known, link_in_workspace, make_syscall,
    mount_something, no_address, nothing_open, of_self, open_socket, open_to_write, print_file, proc_path,
    read_owners, send_datagram, set_times, try_syscall,
};
use super::{Attempt, Class, Proof};
use crate::sys;

pub(super) use self::burden::{HOLD, hold_half_memory};
pub(super) use self::reach::write_stdout;

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
    /// It needs root to work outside the sandbox.
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
    "files.read" Files Said = |scene| print_file(&scene.outside.join("secret"));
    "files.list" Files Reached = |scene| fs::read_dir(&scene.outside).map(drop);
    "files.append" Files Changed = |scene| append_to_file(&scene.outside.join("victim"));
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
        print_file(&scene.workspace.join("linked"))
    };
    "files.enter" Files Said = |scene| {
        std::env::set_current_dir(&scene.outside)?;
        print_file(Path::new("secret"))
    };

    "symlinks.read" Symlinks Said = |scene| print_file(&link_in_workspace(scene, &scene.outside.join("secret"))?);
    "symlinks.write" Symlinks Changed = |scene| append_to_file(&link_in_workspace(scene, &scene.outside.join("victim"))?);
    "symlinks.directory" Symlinks Changed = |scene| fs::write(link_in_workspace(scene, &scene.outside)?.join("new"), "x");
    "symlinks.chain" Symlinks Said = |scene| {
        link_in_workspace(scene, &scene.outside)?;
        symlink("link/secret", scene.workspace.join("second"))?;
        print_file(&scene.workspace.join("second"))
    };
    "symlinks.parents" Symlinks Said = |scene| {
        let up = "../".repeat(scene.workspace.components().count());
        let down = scene.outside.strip_prefix("/").unwrap_or(&scene.outside);
        print_file(&scene.workspace.join(up).join(down).join("secret"))
    };
    "symlinks.neighbour" Symlinks Said = |scene| print_file(&scene.workspace.join("../outside/secret"));
    "symlinks.proc_root" Symlinks Said = |scene| print_file(&Path::new("/proc/self/root").join(scene.outside.strip_prefix("/").unwrap_or(&scene.outside)).join("secret"));
    "symlinks.proc_cwd" Symlinks Said = |_| print_file(Path::new("/proc/self/cwd/../outside/secret"));

    "proc_sys.environ" ProcSys Said = |scene| print_file(&proc_path(scene.witness, "environ"));
    "proc_sys.cwd" ProcSys Said = |scene| print_file(&proc_path(scene.witness, "cwd/secret"));
    "proc_sys.root" ProcSys Said = |scene| print_file(&proc_path(scene.witness, "root").join(scene.outside.strip_prefix("/").unwrap_or(&scene.outside)).join("secret"));
    "proc_sys.memory" ProcSys Reached = |scene| File::open(proc_path(scene.witness, "mem")).map(drop);
    "proc_sys.descriptors" ProcSys Reached = |scene| fs::read_dir(proc_path(scene.witness, "fd")).map(drop);
    "proc_sys.command_line" ProcSys Reached = |scene| fs::read(proc_path(scene.witness, "cmdline")).map(drop);
    "proc_sys.server" ProcSys Reached = |scene| fs::read(format!("/proc/{}/environ", scene.server)).map(drop);
    "proc_sys.kill_order" ProcSys Reached = |scene| open_to_write(&proc_path(scene.witness, "oom_score_adj"));
    "proc_sys.list" ProcSys Reached = |scene| find_entry(Path::new("/proc"), &scene.witness.to_string());
    "proc_sys.devices" ProcSys Reached = |_| fs::read_dir("/sys/class").map(drop);
    "proc_sys.core_pattern" ProcSys Reached ROOT = |_| open_to_write(Path::new("/proc/sys/kernel/core_pattern"));
    "proc_sys.sysrq" ProcSys Reached ROOT = |_| open_to_write(Path::new("/proc/sysrq-trigger"));
    "proc_sys.of_the_owner" ProcSys Reached ROOT = |_| read_owners();
    "proc_sys.shadow" ProcSys Reached ROOT = |_| File::open("/etc/shadow").map(drop);

    "descriptors.count" Descriptors Reached = |_| nothing_open();
    "descriptors.file" Descriptors Said = |scene| print_file(&of_self(scene.open_file));
    "descriptors.directory" Descriptors Said = |scene| print_file(&of_self(scene.open_dir).join("secret"));
    "descriptors.is_there" Descriptors Reached = |scene| try_syscall(libc::SYS_fcntl, [c_long::from(scene.open_file), c_long::from(libc::F_GETFD), 0, 0, 0]);

    "unix_sockets.stream" UnixSockets Reached = |scene| UnixStream::connect(scene.outside.join("server.sock")).map(drop);
    "unix_sockets.datagram" UnixSockets Reached = |scene| UnixDatagram::unbound()?.send_to(b"x", scene.outside.join("datagram.sock")).map(drop);
    "unix_sockets.abstract" UnixSockets Reached = |scene| {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&scene.abstract_name)?;
        UnixStream::connect_addr(&address).map(drop)
    };
    "unix_sockets.in_workspace" UnixSockets Reached = |scene| UnixStream::connect(scene.workspace.join("server.sock")).map(drop);
    "unix_sockets.pair_to_file" UnixSockets Reached = |scene| UnixDatagram::pair()?.0.send_to(b"x", scene.outside.join("datagram.sock")).map(drop);
    "unix_sockets.pair_to_abstract" UnixSockets Reached = |scene| {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(scene.abstract_datagrams())?;
        UnixDatagram::pair()?.0.send_to_addr(b"x", &address).map(drop)
    };
    "unix_sockets.pair_in_workspace" UnixSockets Reached = |scene| UnixDatagram::pair()?.0.send_to(b"x", scene.workspace.join("datagram.sock")).map(drop);
    "unix_sockets.pair_connected" UnixSockets Reached = |scene| {
        let (end, _other) = UnixDatagram::pair()?;
        end.connect(scene.outside.join("datagram.sock"))?;
        end.send(b"x").map(drop)
    };
    "unix_sockets.linked" UnixSockets Reached = |scene| UnixStream::connect(link_in_workspace(scene, &scene.outside.join("server.sock"))?).map(drop);
    "unix_sockets.squat" UnixSockets Reached = |scene| {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(format!("{}-squat", scene.abstract_name))?;
        UnixListener::bind_addr(&address).map(drop)
    };

    "netlink.route" Netlink Reached = |_| open_socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
    "netlink.events" Netlink Reached = |_| open_socket(libc::AF_NETLINK, libc::SOCK_DGRAM, libc::NETLINK_KOBJECT_UEVENT);
    "netlink.generic" Netlink Reached = |_| open_socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC);
    "netlink.packet" Netlink Reached ROOT = |_| open_socket(libc::AF_PACKET, libc::SOCK_RAW, 0);

    "ptrace.seize" Ptrace Reached = |scene| try_syscall(libc::SYS_ptrace, [PTRACE_SEIZE, c_long::from(scene.witness), 0, 0, 0]);
    "ptrace.read_memory" Ptrace Reached = |scene| try_syscall(libc::SYS_process_vm_readv, [c_long::from(scene.witness), 0, 0, 0, 0]);
    "ptrace.signal" Ptrace Reached = |scene| try_syscall(libc::SYS_kill, [c_long::from(scene.witness), c_long::from(libc::SIGCONT), 0, 0, 0]);
    "ptrace.signal_handle" Ptrace Reached = |scene| {
        let handle = make_syscall(libc::SYS_pidfd_open, [c_long::from(scene.witness), 0, 0, 0, 0])?;
        try_syscall(libc::SYS_pidfd_send_signal, [handle, c_long::from(libc::SIGCONT), 0, 0, 0])
    };
    "ptrace.take_descriptor" Ptrace Reached = |scene| {
        let handle = make_syscall(libc::SYS_pidfd_open, [c_long::from(scene.witness), 0, 0, 0, 0])?;
        try_syscall(libc::SYS_pidfd_getfd, [handle, 0, 0, 0, 0])
    };
    "ptrace.limit" Ptrace Reached = |scene| {
        let witness = rustix::process::Pid::from_raw(scene.witness);
        let files = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
        Ok(rustix::process::prlimit(witness, rustix::process::Resource::Nofile, files).map(drop)?)
    };
    "ptrace.priority" Ptrace Reached = |scene| try_syscall(libc::SYS_setpriority, [0, c_long::from(scene.witness), 1, 0, 0]);
    "ptrace.compare" Ptrace Reached = |scene| try_syscall(libc::SYS_kcmp, [c_long::from(scene.witness), c_long::from(scene.witness), 1, 0, 0]);

    "namespaces.user" Namespaces Reached = |_| try_syscall(libc::SYS_unshare, [c_long::from(libc::CLONE_NEWUSER), 0, 0, 0, 0]);
    "namespaces.user_and_mount" Namespaces Reached = |_| {
        try_syscall(libc::SYS_unshare, [c_long::from(libc::CLONE_NEWUSER | libc::CLONE_NEWNS), 0, 0, 0, 0])?;
        mount_something()
    };
    "namespaces.user_and_network" Namespaces Reached = |_| try_syscall(libc::SYS_unshare, [c_long::from(libc::CLONE_NEWUSER | libc::CLONE_NEWNET), 0, 0, 0, 0]);
    "namespaces.by_clone" Namespaces Reached = |_| by_clone();
    "namespaces.join" Namespaces Reached ROOT = |scene| {
        let namespace = File::open(proc_path(scene.witness, "ns/uts"))?;
        let number = c_long::from(std::os::fd::AsRawFd::as_raw_fd(&namespace));
        try_syscall(libc::SYS_setns, [number, c_long::from(libc::CLONE_NEWUTS), 0, 0, 0])
    };
    "namespaces.change_root" Namespaces Reached ROOT = |scene| Ok(rustix::process::chroot(&scene.workspace)?);
    "namespaces.mount" Namespaces Reached ROOT = |_| {
        try_syscall(libc::SYS_unshare, [c_long::from(libc::CLONE_NEWNS), 0, 0, 0, 0])?;
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
        std::env::vars_os().for_each(|(name, value)| write_stdout(format!("{}={}\n", name.display(), value.display()).as_bytes()));
        Ok(())
    };
    "environment.more_names" Environment Reached = |_| {
        if std::env::vars_os().count() > 4 { Ok(()) } else { Err(io::Error::other("four names, as it should be")) }
    };
    "environment.of_self" Environment Said = |_| print_file(Path::new("/proc/self/environ"));
    "environment.of_parent" Environment Reached = |scene| {
        let parent = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
        let text = fs::read(format!("/proc/{parent}/cmdline"))?;
        let server = fs::read(format!("/proc/{}/cmdline", scene.server))?;
        if text == server { Ok(()) } else { Err(io::Error::other("the parent is not the server")) }
    };

    "hooks.write" Hooks Hooked STRICT = |scene| append_to_file(&scene.workspace.join(".git/hooks/pre-commit"));
    "hooks.add" Hooks Hooked STRICT = |scene| fs::write(scene.workspace.join(".git/hooks/post-checkout"), "x");
    "hooks.swap" Hooks Hooked STRICT = |scene| {
        fs::rename(scene.workspace.join(".git/hooks"), scene.workspace.join(".git/old"))?;
        fs::create_dir(scene.workspace.join(".git/hooks"))
    };
    "hooks.config" Hooks Hooked STRICT = |scene| append_to_file(&scene.workspace.join(".git/config"));
    "hooks.replace_config" Hooks Hooked STRICT = |scene| fs::rename(scene.workspace.join("own"), scene.workspace.join(".git/config"));
    "hooks.delete_config" Hooks Hooked STRICT = |scene| fs::remove_file(scene.workspace.join(".git/config"));
    "hooks.commondir" Hooks Hooked STRICT = |scene| fs::write(scene.workspace.join(".git/commondir"), "../elsewhere\n");
    "hooks.replace_commondir" Hooks Hooked STRICT = |scene| fs::rename(scene.workspace.join("own"), scene.workspace.join(".git/commondir"));
    "hooks.attributes" Hooks Hooked STRICT = |scene| fs::write(scene.workspace.join(".git/info/attributes"), "* filter=x\n");
    "hooks.worktree" Hooks Hooked STRICT = |scene| fs::create_dir(scene.workspace.join(".git/worktrees/x"));
    "hooks.move_repository" Hooks Hooked STRICT = |scene| fs::rename(scene.workspace.join(".git"), scene.workspace.join("moved"));
    "hooks.shell" Hooks Hooked STRICT = |scene| append_to_file(&scene.workspace.join(".bashrc"));
    "hooks.directory" Hooks Hooked STRICT = |scene| append_to_file(&scene.workspace.join(".envrc"));
    "hooks.editor" Hooks Hooked STRICT = |scene| append_to_file(&scene.workspace.join(".vscode/tasks.json"));

    "bombs.processes" Bombs Reached = |scene| many_processes(scene);
    "bombs.processes_of_a_thread" Bombs Reached = |scene| many_processes_of_a_thread(scene);
    "bombs.threads" Bombs Reached = |scene| many_threads(scene);
    "bombs.memory" Bombs Reached = |scene| {
        hold_memory(scene.limits.memory_bytes + (64 << 20));
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
    "bombs.shared_memory" Bombs Reached = |scene| shared_memory(scene);
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

    "timing.background" Timing Late = |scene| leave_process(scene, "later", false);
    "timing.session" Timing Late = |scene| leave_process(scene, "later", true);
    "timing.twice_forked" Timing Late = |scene| leave_process(scene, "later & later &", true);
    "timing.deaf" Timing Late = |scene| leave_process(scene, "trap '' TERM HUP INT QUIT; later", true);
    "timing.closed_outputs" Timing Late = |scene| leave_process(scene, "exec >&- 2>&- <&-; later", false);

    "exfiltration.tcp" Exfiltration Reached = |scene| connect_tcp(scene.tcp);
    "exfiltration.tcp6" Exfiltration Reached = |scene| connect_tcp(scene.tcp6.ok_or_else(no_address)?);
    "exfiltration.dns" Exfiltration Reached = |scene| send_datagram("0.0.0.0:0", scene.udp);
    "exfiltration.dns6" Exfiltration Reached = |scene| send_datagram("[::]:0", scene.udp6.ok_or_else(no_address)?);
    "exfiltration.listen" Exfiltration Reached = |_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map(drop);
    "exfiltration.raw" Exfiltration Reached ROOT = |_| open_socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    "exfiltration.virtual_machine" Exfiltration Reached = |_| open_socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0);
    "exfiltration.crypto" Exfiltration Reached = |_| open_socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0);
};

const PTRACE_SEIZE: c_long = 0x4206;
