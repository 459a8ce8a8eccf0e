//! The system calls that no safe library offers. All `unsafe` of this crate is here.
//!
//! Invariant: [`fork`], [`unshare`] and [`close_from`] are called by the helper only, which has one thread.

#![expect(unsafe_code, reason = "these system calls have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::UnshareFlags;

/// Forks this process; returns nothing in the new one, and the number of the new one in the old one.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the helper has one thread, so no lock can be held by a thread that the new process lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Leaves the namespaces of this process for new ones.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the table of descriptors stays shared (`FILES` is never asked for), and there is one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the helper has opened nothing yet, so no owner of a descriptor is left with a closed one.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns how much processor time this process has used.
pub(crate) fn processor_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock writes one `timespec`, and it has the place of one.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) else {
        return Err(io::Error::other("the clock is before its beginning"));
    };
    Ok(Duration::new(seconds, nanoseconds))
}

/// How long a turn is of a thread that keeps a processor busy, in nanoseconds: the longest that Linux knows.
const LONG_TURN: u64 = 100_000_000;

/// What leaves a thread the policy that it has.
const KEEP_POLICY: u64 = 8;

/// Gives this thread less of a claim on a processor, and long turns: who has those gives way at once to a thread that wakes up
/// and has short ones. Before Linux 6.12, only the claim has an effect.
pub(crate) fn lower_thread_claim(by: i32) -> io::Result<()> {
    let nice = rustix::process::getpriority_process(None)?.saturating_add(by).min(19);
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).map_err(io::Error::other)?,
        sched_policy: 0,
        sched_flags: KEEP_POLICY,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: LONG_TURN,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads as many bytes as the attributes say that they have, and writes none but their size.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a limit set in the process that a command starts, just before it becomes the program.
pub(crate) fn limit_what_starts(command: &mut Command, resource: Resource, limit: Rlimit) {
    let set = move || Ok(setrlimit(resource, limit)?);
    // SAFETY: between fork and exec there is one system call, and no allocation and no lock.
    unsafe { command.pre_exec(set) };
}

/// Has what a command starts begin in a session of its own, as this user, in this directory, which only that user may be
/// able to enter. This process must be allowed to become that user.
pub(crate) fn start_apart(command: &mut Command, user: Uid, directory: CString) {
    let leave = move || {
        // Old releases of gVisor answer 0, which is no number of a session.
        // SAFETY: it takes nothing and writes nothing.
        if unsafe { libc::setsid() } < 0 {
            return Err(io::Error::last_os_error());
        }
        rustix::thread::set_thread_res_uid(user, user, user)?;
        Ok(rustix::process::chdir(&directory)?)
    };
    // SAFETY: between fork and exec there are three system calls, and no allocation and no lock.
    unsafe { command.pre_exec(leave) };
}

/// Memory that was shared, held until this is dropped.
pub(crate) struct SharedMapping {
    at: *mut libc::c_void,
    length: usize,
}

/// Shares memory without a file, writes to each page of it, and has the pages leave this process, though they stay.
pub(crate) fn share_memory(length: usize) -> io::Result<SharedMapping> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses where, so nothing else lies there.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let shared = SharedMapping { at, length };
    // SAFETY: all of it was just mapped for writing, and no other code knows of it.
    unsafe {
        std::ptr::write_bytes(at.cast::<u8>(), 1, length);
        libc::madvise(at, length, libc::MADV_DONTNEED);
    }
    Ok(shared)
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no other code knows of it.
        unsafe { libc::munmap(self.at, self.length) };
    }
}

/// The argument of SIOCSIFFLAGS, as netdevice(7) has it: a name, flags, and the rest of a union.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Raises the loopback interface of this process's network namespace, which a new one has and which is down.
pub(crate) fn raise_loopback() -> io::Result<()> {
    const UP: libc::c_short = 1;
    // The C libraries disagree about the type of its number.
    const SIOCSIFFLAGS: libc::Ioctl = 0x8914;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    let interface = InterfaceRequest { name, flags: UP, rest: [0; 22] };
    // SAFETY: the kernel reads one `ifreq`, which has 40 bytes and lives as long as the call, and writes nothing.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &raw const interface) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Connects from a virtual machine to a port of whatever runs it.
pub(crate) fn connect_to_host(port: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: it takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_VSOCK, kind, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, so nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let family = libc::sa_family_t::try_from(libc::AF_VSOCK).map_err(io::Error::other)?;
    let address = libc::sockaddr_vm {
        svm_family: family,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: libc::VMADDR_CID_HOST,
        svm_zero: [0; 4],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_vm>()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads one address of that length, which lives as long as the call.
    let done = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if done == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// What a mount, and all below it, gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MountAttributes {
    /// Nothing can be changed through it.
    pub(crate) read_only: bool,
    /// Device files in it are dead.
    pub(crate) no_devices: bool,
}

/// The argument of mount_setattr(2).
#[repr(C)]
struct MountAttrArgument {
    set: u64,
    clear: u64,
    propagation: u64,
    namespace: u64,
}

/// Sets attributes of a mount and of all mounts below it, and takes none away; set-user-id files are always dead.
pub(crate) fn set_mount(path: &Path, attributes: MountAttributes) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    set_attributes(libc::AT_FDCWD, &path, libc::AT_SYMLINK_NOFOLLOW, &attributes.raw_attributes(0))
}

/// The same for a tree that is held. What is mounted in it shows up in no other mount, and the other way round.
pub(crate) fn set_tree(tree: &OwnedFd, attributes: MountAttributes) -> io::Result<()> {
    // What is mounted in a tree that is only read is only read, too.
    let below = if attributes.read_only { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::AT_EMPTY_PATH | below;
    set_attributes(tree.as_raw_fd(), c"", flags, &attributes.raw_attributes(libc::MS_PRIVATE))
}

impl MountAttributes {
    fn raw_attributes(self, propagation: u64) -> MountAttrArgument {
        const READ_ONLY: u64 = 1;
        const NO_SUID: u64 = 2;
        const NO_DEVICES: u64 = 4;
        let read_only = if self.read_only { READ_ONLY } else { 0 };
        let no_devices = if self.no_devices { NO_DEVICES } else { 0 };
        MountAttrArgument { set: NO_SUID | read_only | no_devices, clear: 0, propagation, namespace: 0 }
    }
}

fn set_attributes(
    at: RawFd,
    path: &CStr,
    flags: libc::c_int,
    attributes: &MountAttrArgument,
) -> io::Result<()> {
    // SAFETY: both pointers live as long as the call, and the size is that of the structure.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at,
            path.as_ptr(),
            flags | libc::AT_RECURSIVE,
            std::ptr::from_ref(attributes),
            size_of::<MountAttrArgument>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a system call whose arguments are numbers, the sixth of them zero: for attempts of the battery and to ask
/// for versions.
///
/// None of the calls that the battery makes so writes to this process's memory: where one takes a pointer it is
/// given none.
pub(crate) fn raw_syscall(number: libc::c_long, arguments: [libc::c_long; 5]) -> io::Result<libc::c_long> {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: see above; the caller passes no pointers.
    let done = unsafe { libc::syscall(number, first, second, third, fourth, fifth, 0) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(done) }
}
