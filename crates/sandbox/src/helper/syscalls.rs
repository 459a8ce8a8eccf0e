//! The filter of system calls: a list of what programs need, and "not implemented" for everything else.
//!
//! What is missing on purpose, beside calls that are unknown here: sockets (no network, and no talk with servers of
//! this machine over their sockets; pairs of sockets are there, but of datagrams), mounts and namespaces, tracing and
//! other processes' memory, io_uring, BPF, keys, kernel modules, clocks, System V and POSIX message queues and shared
//! memory (`memfd` too: it could not be counted), handles that open by number. "Not implemented" makes libraries take
//! another way, which "not permitted" would not.
//!
//! A process that has a proxy socket may make sockets of TCP and connect them: its namespace has a loopback
//! interface and nothing else, so the proxy is all that they reach. It may not listen.
//!
//! Where no control group bounds memory, memory that is shared and has no file is not there either: its pages stay when
//! its process has let go of them, and are not counted then.
//!
//! Calls by the numbers of another architecture kill the process.

use std::collections::BTreeMap;
use std::io;

use dromia_contracts::sandbox::NetworkAccess;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use serde_json::{Value, json};

/// A call by its number and its name.
type Call = (libc::c_long, &'static str);

macro_rules! calls {
    ($($name:ident),* $(,)?) => {
        &[$((libc::$name, stringify!($name))),*]
    };
}

/// What may be called whatever the arguments are.
#[rustfmt::skip]
const PLAIN: &[Call] = calls![
    // Files that are open.
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64,
    SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_lseek, SYS_close,
    SYS_close_range, SYS_dup, SYS_dup3, SYS_fcntl, SYS_flock, SYS_fsync,
    SYS_fdatasync, SYS_sync, SYS_syncfs, SYS_ftruncate,
    SYS_fallocate, SYS_fadvise64, SYS_readahead, SYS_sendfile, SYS_splice,
    SYS_tee, SYS_copy_file_range, SYS_fstat, SYS_fstatfs, SYS_getdents64,
    SYS_fchmod, SYS_fchown, SYS_fchdir, SYS_fgetxattr, SYS_fsetxattr,
    SYS_flistxattr, SYS_fremovexattr, SYS_pipe2,
    // Paths.
    SYS_openat, SYS_openat2, SYS_newfstatat, SYS_statx, SYS_statfs,
    SYS_faccessat, SYS_faccessat2, SYS_readlinkat, SYS_mkdirat, SYS_mknodat,
    SYS_unlinkat, SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_truncate,
    SYS_chdir, SYS_getcwd, SYS_umask, SYS_getxattr, SYS_lgetxattr,
    SYS_listxattr, SYS_llistxattr, SYS_inotify_init1, SYS_inotify_add_watch,
    SYS_inotify_rm_watch,
    // Memory.
    SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk,
    SYS_msync, SYS_mincore, SYS_mlock, SYS_mlock2, SYS_munlock, SYS_mlockall,
    SYS_munlockall, SYS_membarrier, SYS_pkey_alloc, SYS_pkey_free,
    SYS_pkey_mprotect, SYS_mseal, SYS_get_mempolicy, SYS_set_mempolicy, SYS_mbind,
    // Processes and threads.
    SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_wait4,
    SYS_waitid, SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo, SYS_pidfd_open, SYS_pidfd_send_signal, SYS_getpid,
    SYS_getppid, SYS_gettid, SYS_getpgid, SYS_setpgid, SYS_getsid,
    SYS_setsid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
    SYS_getresuid, SYS_getresgid, SYS_getgroups, SYS_setuid, SYS_setgid,
    SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setgroups,
    SYS_setfsuid, SYS_setfsgid, SYS_capget, SYS_capset, SYS_set_tid_address,
    SYS_set_robust_list, SYS_get_robust_list, SYS_rseq, SYS_futex,
    SYS_futex_waitv, SYS_restart_syscall, SYS_getpriority, SYS_getrusage,
    SYS_times, SYS_seccomp, SYS_landlock_create_ruleset, SYS_landlock_add_rule,
    SYS_landlock_restrict_self,
    // Scheduling, as far as it asks.
    SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_getparam,
    SYS_sched_getscheduler, SYS_sched_getattr, SYS_sched_get_priority_max,
    SYS_sched_get_priority_min, SYS_sched_rr_get_interval, SYS_getcpu,
    SYS_ioprio_get,
    // Signals.
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending,
    SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_sigaltstack, SYS_signalfd4,
    // Time.
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep,
    SYS_gettimeofday, SYS_getitimer, SYS_setitimer, SYS_timer_create,
    SYS_timer_delete, SYS_timer_getoverrun, SYS_timer_gettime, SYS_timer_settime,
    SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime,
    // Waiting.
    SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait,
    SYS_epoll_pwait2, SYS_eventfd2,
    // Pairs of sockets, which lead nowhere else (`pairs`).
    SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg,
    SYS_recvmmsg, SYS_shutdown, SYS_getsockname, SYS_getpeername,
    SYS_getsockopt, SYS_setsockopt,
    // The machine, as far as it is asked.
    SYS_uname, SYS_sysinfo, SYS_getrandom,
];

/// What only x86-64 has: older spellings of the above.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[Call] = calls![
    SYS_open, SYS_creat, SYS_stat, SYS_lstat, SYS_access, SYS_readlink,
    SYS_mkdir, SYS_rmdir, SYS_mknod, SYS_unlink, SYS_rename, SYS_renameat,
    SYS_link, SYS_symlink, SYS_getdents, SYS_pipe, SYS_dup2, SYS_fork,
    SYS_vfork, SYS_getpgrp, SYS_poll, SYS_select, SYS_epoll_create,
    SYS_epoll_wait, SYS_eventfd, SYS_signalfd, SYS_inotify_init, SYS_alarm,
    SYS_pause, SYS_time, SYS_arch_prctl, SYS_getrlimit, SYS_setrlimit,
    SYS_sync_file_range,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[Call] = &[];

/// The number is the same on every architecture; not every `libc` names it.
const FCHMODAT2: Call = (452, "SYS_fchmodat2");

/// What changes owner, mode, times or attributes of a path. Landlock does not look at these, so they are allowed only
/// where the file system holds nothing else.
#[rustfmt::skip]
const BY_PATH: &[Call] = calls![
    SYS_fchmodat, SYS_fchownat, SYS_setxattr,
    SYS_lsetxattr, SYS_removexattr, SYS_lremovexattr, SYS_utimensat,
];

/// The same in older spellings.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const BY_PATH_OLDER: &[Call] = calls![
    SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes,
    SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const BY_PATH_OLDER: &[Call] = &[];

/// Every kind of namespace that clone(2) can make: mount, control group, host name, IPC, user, process and network.
const NAMESPACES: u64 = 0x7e02_0000;

/// Writes into a terminal as if a person had typed it.
const TIOCSTI: u64 = 0x5412;
/// Does the same on a console.
const TIOCLINUX: u64 = 0x541c;

/// What sends a signal to a process that its first argument names.
const SIGNALS: [libc::c_long; 6] = [
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
];

/// How far paths reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathScope {
    /// Over this machine's own file system.
    Shared,
    /// Over a file system of its own.
    Own,
    /// Over that of a guest, whose process 1 counts what all others use.
    Guest,
}

/// Memory that is shared and has no file: `MAP_SHARED | MAP_ANONYMOUS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SharedMemory {
    /// It is counted with all other memory.
    Allowed,
    /// It is not counted.
    Refused,
}

/// Whether the filter is written for this architecture.
pub(crate) fn is_known() -> bool {
    TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

/// Lets this process, and all that come from it, call what is listed and nothing else.
pub(crate) fn restrict_calls(
    paths: PathScope,
    network: NetworkAccess,
    shared: SharedMemory,
) -> io::Result<()> {
    let program =
        filter_program(paths, network, shared).map_err(|problem| io::Error::other(problem.to_string()))?;
    seccompiler::apply_filter(&program).map_err(|problem| io::Error::other(problem.to_string()))
}

/// The numbers of calls.
fn call_numbers<const N: usize>(lists: [&'static [Call]; N]) -> impl Iterator<Item = libc::c_long> {
    lists.into_iter().flatten().map(|(number, _)| *number)
}

fn filter_program(
    paths: PathScope,
    network: NetworkAccess,
    shared: SharedMemory,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        call_numbers([PLAIN, OLDER]).map(|number| (number, Vec::new())).collect();
    match paths {
        PathScope::Own | PathScope::Guest => {
            rules.extend(
                call_numbers([BY_PATH, BY_PATH_OLDER, &[FCHMODAT2]]).map(|number| (number, Vec::new())),
            );
        }
        PathScope::Shared => {
            // Without a path it changes the times of an open file. All of the pointer counts, not its lower half.
            let no_path = SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
            rules.insert(libc::SYS_utimensat, vec![rule_of_conditions([no_path])?]);
        }
    }
    let not =
        |argument, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value);
    let none_of = |mask| SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), 0);
    let death = u64::from(libc::PR_SET_PDEATHSIG.unsigned_abs());
    rules.extend([
        // clone3(2) hides its flags in memory, so it is not there; libraries then take this one.
        (libc::SYS_clone, vec![rule_of_conditions([none_of(NAMESPACES)?])?]),
        (libc::SYS_ioctl, vec![rule_of_conditions([not(1, TIOCSTI)?, not(1, TIOCLINUX)?])?]),
        (libc::SYS_socketpair, socket_pair_rules()?),
        // What ends a process with its parent stays as it was set.
        (libc::SYS_prctl, vec![rule_of_conditions([not(0, death)?])?]),
        // Of this process only: processes of the same user would obey, too.
        (libc::SYS_prlimit64, vec![rule_of_conditions([argument_equals(0, 0)?])?]),
        (libc::SYS_sched_setaffinity, vec![rule_of_conditions([argument_equals(0, 0)?])?]),
        (libc::SYS_sched_setscheduler, vec![rule_of_conditions([argument_equals(0, 0)?])?]),
        (libc::SYS_sched_setparam, vec![rule_of_conditions([argument_equals(0, 0)?])?]),
        (libc::SYS_sched_setattr, vec![rule_of_conditions([argument_equals(0, 0)?])?]),
        (libc::SYS_setpriority, vec![rule_of_conditions([argument_equals(0, 0)?, argument_equals(1, 0)?])?]),
    ]);
    if paths == PathScope::Guest {
        // They are the same user, and this kernel lets it be stopped; who cannot name it does not stop it.
        for number in SIGNALS {
            rules.insert(number, vec![rule_of_conditions([not(0, 1)?])?]);
        }
        // A signal to one's own group reaches all that are in it.
        rules.insert(libc::SYS_setpgid, vec![rule_of_conditions([not(1, 1)?])?]);
    }
    if paths == PathScope::Shared {
        // Who cannot be looked at cannot be counted: the helper is its equal there, and no more.
        let dumpable = u64::from(libc::PR_SET_DUMPABLE.unsigned_abs());
        rules.insert(libc::SYS_prctl, vec![rule_of_conditions([not(0, death)?, not(0, dumpable)?])?]);
    }
    match shared {
        SharedMemory::Allowed => {}
        SharedMemory::Refused => {
            let without = |flag: libc::c_int| {
                let flag = u64::from(flag.unsigned_abs());
                rule_of_conditions([SeccompCondition::new(
                    3,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::MaskedEq(flag),
                    0,
                )?])
            };
            // What a socket holds back is counted by how much it may be.
            let (level, buffer) = (libc::SOL_SOCKET.unsigned_abs(), libc::SO_SNDBUF.unsigned_abs());
            let other = vec![
                rule_of_conditions([not(1, level.into())?])?,
                rule_of_conditions([not(2, buffer.into())?])?,
            ];
            rules.insert(libc::SYS_setsockopt, other);
            rules.insert(libc::SYS_mmap, vec![without(libc::MAP_SHARED)?, without(libc::MAP_ANONYMOUS)?]);
        }
    }
    match network {
        NetworkAccess::None => {}
        NetworkAccess::Proxy => {
            rules.insert(libc::SYS_socket, tcp_socket_rules()?);
            rules.insert(libc::SYS_connect, Vec::new());
        }
    }
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, absent, SeccompAction::Allow, architecture)?.try_into()
}

/// Sockets of TCP over IPv4, and no others: no datagrams, no raw sockets, none of a protocol that Landlock does not know.
fn tcp_socket_rules() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let family = u64::from(libc::AF_INET.unsigned_abs());
    let tcp = u64::from(libc::IPPROTO_TCP.unsigned_abs());
    let rule = |protocol| {
        rule_of_conditions([
            argument_equals(0, family)?,
            is_kind(libc::SOCK_STREAM)?,
            argument_equals(2, protocol)?,
        ])
    };
    Ok(vec![rule(0)?, rule(tcp)?])
}

/// Kinds of pairs of sockets whose ends talk only to each other. An end of a pair of datagrams sends to every
/// socket that it can name (`sendto(2)`, or a message with an address, which no filter sees), and `SOCK_RAW` is the same
/// to the kernel.
const PAIRS: [libc::c_int; 2] = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET];

fn socket_pair_rules() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let family = u64::from(libc::AF_UNIX.unsigned_abs());
    PAIRS.into_iter().map(|kind| rule_of_conditions([argument_equals(0, family)?, is_kind(kind)?])).collect()
}

/// Compares a kind of socket, without the flags that are in the same argument.
fn is_kind(kind: libc::c_int) -> Result<SeccompCondition, seccompiler::BackendError> {
    let op = SeccompCmpOp::MaskedEq(kind_mask());
    SeccompCondition::new(1, SeccompCmpArgLen::Dword, op, u64::from(kind.unsigned_abs()))
}

/// All of a kind of socket but its flags.
fn kind_mask() -> u64 {
    let flags = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).unsigned_abs();
    u64::from(!flags)
}

/// What a process may do to itself, which is number zero there.
const OF_ITSELF: [&str; 5] =
    ["prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"];

/// The same list as a Docker engine takes it. "Traced" without a tracer is "not implemented", which older engines cannot
/// say by itself. Two calls of ioctl(2) that would type into a terminal are allowed there: a container has none.
pub(super) fn docker_profile() -> Value {
    let lists: [&[Call]; 5] = [PLAIN, OLDER, BY_PATH, BY_PATH_OLDER, &[FCHMODAT2]];
    let plain = lists.into_iter().flatten().map(|(_, name)| name.trim_start_matches("SYS_"));
    let names: Vec<_> = plain.chain(["ioctl"]).collect();
    let is =
        |index: u32, op: &str, value: u64| json!({"index": index, "op": op, "value": value, "valueTwo": 0});
    let pair = |kind: libc::c_int| {
        let family = is(0, "SCMP_CMP_EQ", u64::from(libc::AF_UNIX.unsigned_abs()));
        let kind = json!({"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": kind_mask(), "valueTwo": kind});
        allow_rule(&["socketpair"], &[family, kind])
    };
    let death = is(0, "SCMP_CMP_NE", u64::from(libc::PR_SET_PDEATHSIG.unsigned_abs()));
    let zero = is(0, "SCMP_CMP_EQ", 0);
    let architecture = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };
    json!({
        "defaultAction": "SCMP_ACT_TRACE",
        "architectures": [architecture],
        "syscalls": [
            allow_rule(&names, &[]),
            allow_rule(&["clone"], &[is(0, "SCMP_CMP_MASKED_EQ", NAMESPACES)]),
            pair(PAIRS[0]),
            pair(PAIRS[1]),
            allow_rule(&["prctl"], &[death]),
            allow_rule(&OF_ITSELF, std::slice::from_ref(&zero)),
            allow_rule(&["setpriority"], &[zero.clone(), is(1, "SCMP_CMP_EQ", 0)]),
        ],
    })
}

fn allow_rule(names: &[&str], conditions: &[Value]) -> Value {
    json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": conditions})
}

/// A rule whose conditions must all hold.
fn rule_of_conditions<const N: usize>(
    conditions: [SeccompCondition; N],
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions.into())
}

/// Compares an argument that the kernel takes as an `int`: it does not look at the upper half either.
fn argument_equals(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_fits_the_kernel_for_every_kind_of_path() {
        const INSTRUCTIONS_MAX: usize = 4096;
        let [shared, own, guest] = [PathScope::Shared, PathScope::Own, PathScope::Guest].map(|paths| {
            filter_program(paths, NetworkAccess::None, SharedMemory::Refused).expect("it is written").len()
        });
        assert!(
            shared < own && own < guest && guest < INSTRUCTIONS_MAX,
            "{shared}, {own} and {guest} instructions"
        );
        let with_proxy = filter_program(PathScope::Own, NetworkAccess::Proxy, SharedMemory::Refused)
            .expect("it is written")
            .len();
        assert!(own < with_proxy && with_proxy < INSTRUCTIONS_MAX, "{own} and {with_proxy} instructions");
    }

    #[test]
    fn the_docker_profile_lists_the_same_system_calls() {
        let profile = docker_profile();
        let names = profile["syscalls"][0]["names"].as_array().expect("a list");
        let has = |name: &str| names.iter().any(|known| known == name);
        assert!(has("execve") && has("fchmodat2") && has("ioctl"), "{names:?}");
        for name in ["socket", "mount", "ptrace", "clone", "clone3", "io_uring_setup", "prctl"] {
            assert!(!has(name), "{name} is allowed whatever its arguments are");
        }
        let count = call_numbers([PLAIN, OLDER, BY_PATH, BY_PATH_OLDER]).count();
        assert_eq!(names.len(), count + 2, "every one, fchmodat2 and ioctl");
    }

    #[test]
    fn the_docker_profile_allows_no_datagram_socket_pair() {
        let profile = docker_profile();
        let rules = profile["syscalls"].as_array().expect("a list");
        let pairs = rules.iter().filter(|rule| rule["names"] == json!(["socketpair"]));
        let kinds: Vec<_> =
            pairs.map(|rule| (&rule["args"][1]["op"], &rule["args"][1]["valueTwo"])).collect();
        let masked = json!("SCMP_CMP_MASKED_EQ");
        assert_eq!(kinds, [(&masked, &json!(libc::SOCK_STREAM)), (&masked, &json!(libc::SOCK_SEQPACKET))]);
    }

    /// A filter is of the thread that applies it, so this one is of a thread that ends.
    #[test]
    fn socket_pairs_reach_nothing_else_with_and_without_a_proxy() {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

        for network in [NetworkAccess::None, NetworkAccess::Proxy] {
            let tried = std::thread::spawn(move || {
                restrict_calls(PathScope::Shared, network, SharedMemory::Refused)
                    .expect("the kernel takes it");
                let kinds = [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM, SocketType::RAW];
                kinds.map(|kind| {
                    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                    socketpair(AddressFamily::UNIX, kind, flags, None).map(drop)
                })
            });
            let absent = Err(rustix::io::Errno::NOSYS);
            assert_eq!(tried.join().expect("it ends"), [Ok(()), Ok(()), absent, absent], "{network:?}");
        }
    }

    /// What the filter answers to memory that is shared without a file, shared with one, and not shared.
    fn mapped(shared: SharedMemory) -> [bool; 3] {
        use std::os::fd::AsRawFd as _;

        let tried = std::thread::spawn(move || {
            let file = tempfile::tempfile().expect("a file");
            file.set_len(1 << 20).expect("it grows");
            restrict_calls(PathScope::Own, NetworkAccess::None, shared).expect("the kernel takes it");
            let (nowhere, file) = (-1, libc::c_long::from(file.as_raw_fd()));
            let (one, own) = (libc::MAP_SHARED, libc::MAP_PRIVATE);
            [(one | libc::MAP_ANONYMOUS, nowhere), (one, file), (own | libc::MAP_ANONYMOUS, nowhere)].map(
                |(flags, from)| {
                    let read = libc::c_long::from(libc::PROT_READ);
                    crate::sys::raw_syscall(libc::SYS_mmap, [0, 4096, read, flags.into(), from]).is_ok()
                },
            )
        });
        tried.join().expect("it ends")
    }

    #[test]
    fn anonymous_shared_memory_is_refused_where_it_is_not_counted() {
        assert_eq!(mapped(SharedMemory::Refused), [false, true, true]);
    }

    #[test]
    fn a_filter_that_allows_uncounted_memory_is_caught() {
        assert_eq!(mapped(SharedMemory::Allowed), [true, true, true]);
    }

    #[test]
    fn system_calls_that_cross_isolation_are_not_listed() {
        let listed: Vec<_> = call_numbers([PLAIN, OLDER, BY_PATH, BY_PATH_OLDER]).collect();
        for number in [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_clone3,
            libc::SYS_io_uring_setup,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_open_by_handle_at,
            libc::SYS_memfd_create,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_shmget,
            libc::SYS_mq_open,
            libc::SYS_personality,
            libc::SYS_fanotify_init,
        ] {
            assert!(!listed.contains(&number), "call {number} is listed");
        }
    }
}
