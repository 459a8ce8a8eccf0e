//! The filter of system calls: a list of what programs need, and "not implemented" for everything else.
//!
//! What is missing on purpose, beside what nobody heard of: sockets (no network, and no talk with servers of this
//! machine over their sockets; pairs of sockets are there), mounts and namespaces, tracing and other processes'
//! memory, io_uring, BPF, keys, kernel modules, clocks, System V and POSIX message queues and shared memory (`memfd`
//! too: nobody could count it), handles that open by number. "Not implemented" makes libraries take another way,
//! which "not permitted" would not.
//!
//! Calls by the numbers of another architecture kill the process.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// What may be called whatever the arguments are.
#[rustfmt::skip]
const PLAIN: &[libc::c_long] = &[
    // Files that are open.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_lseek, libc::SYS_close,
    libc::SYS_close_range, libc::SYS_dup, libc::SYS_dup3, libc::SYS_fcntl, libc::SYS_flock, libc::SYS_fsync,
    libc::SYS_fdatasync, libc::SYS_sync, libc::SYS_syncfs, libc::SYS_ftruncate,
    libc::SYS_fallocate, libc::SYS_fadvise64, libc::SYS_readahead, libc::SYS_sendfile, libc::SYS_splice,
    libc::SYS_tee, libc::SYS_copy_file_range, libc::SYS_fstat, libc::SYS_fstatfs, libc::SYS_getdents64,
    libc::SYS_fchmod, libc::SYS_fchown, libc::SYS_fchdir, libc::SYS_fgetxattr, libc::SYS_fsetxattr,
    libc::SYS_flistxattr, libc::SYS_fremovexattr, libc::SYS_pipe2,
    // Paths.
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs,
    libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlinkat, libc::SYS_mkdirat, libc::SYS_mknodat,
    libc::SYS_unlinkat, libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_truncate,
    libc::SYS_chdir, libc::SYS_getcwd, libc::SYS_umask, libc::SYS_getxattr, libc::SYS_lgetxattr,
    libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_inotify_init1, libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Memory.
    libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise, libc::SYS_brk,
    libc::SYS_msync, libc::SYS_mincore, libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_munlock, libc::SYS_mlockall,
    libc::SYS_munlockall, libc::SYS_membarrier, libc::SYS_pkey_alloc, libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect, libc::SYS_mseal, libc::SYS_get_mempolicy, libc::SYS_set_mempolicy, libc::SYS_mbind,
    // Processes and threads.
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_wait4,
    libc::SYS_waitid, libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_getpid,
    libc::SYS_getppid, libc::SYS_gettid, libc::SYS_getpgid, libc::SYS_setpgid, libc::SYS_getsid,
    libc::SYS_setsid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid,
    libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_setuid, libc::SYS_setgid,
    libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setgroups,
    libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_capget, libc::SYS_capset, libc::SYS_set_tid_address,
    libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_futex,
    libc::SYS_futex_waitv, libc::SYS_restart_syscall, libc::SYS_getpriority, libc::SYS_getrusage,
    libc::SYS_times, libc::SYS_seccomp, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    // Scheduling, as far as it asks.
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler, libc::SYS_sched_getattr, libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min, libc::SYS_sched_rr_get_interval, libc::SYS_getcpu,
    libc::SYS_ioprio_get,
    // Signals.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend, libc::SYS_rt_sigtimedwait, libc::SYS_sigaltstack, libc::SYS_signalfd4,
    // Time.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday, libc::SYS_getitimer, libc::SYS_setitimer, libc::SYS_timer_create,
    libc::SYS_timer_delete, libc::SYS_timer_getoverrun, libc::SYS_timer_gettime, libc::SYS_timer_settime,
    libc::SYS_timerfd_create, libc::SYS_timerfd_gettime, libc::SYS_timerfd_settime,
    // Waiting.
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_eventfd2,
    // Pairs of sockets, which lead nowhere else.
    libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg,
    libc::SYS_recvmmsg, libc::SYS_shutdown, libc::SYS_getsockname, libc::SYS_getpeername,
    libc::SYS_getsockopt, libc::SYS_setsockopt,
    // The machine, as far as it is asked.
    libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrandom,
];

/// What only x86-64 has: older spellings of the above.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[libc::c_long] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink,
    libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_mknod, libc::SYS_unlink, libc::SYS_rename, libc::SYS_renameat,
    libc::SYS_link, libc::SYS_symlink, libc::SYS_getdents, libc::SYS_pipe, libc::SYS_dup2, libc::SYS_fork,
    libc::SYS_vfork, libc::SYS_getpgrp, libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_create,
    libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_signalfd, libc::SYS_inotify_init, libc::SYS_alarm,
    libc::SYS_pause, libc::SYS_time, libc::SYS_arch_prctl, libc::SYS_getrlimit, libc::SYS_setrlimit,
    libc::SYS_sync_file_range,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// The number is the same on every architecture; not every `libc` names it.
const FCHMODAT2: libc::c_long = 452;

/// What changes owner, mode, times or attributes of a path. Landlock does not look at these, so they are allowed only
/// where the file system holds nothing else.
#[rustfmt::skip]
const BY_PATH: &[libc::c_long] = &[
    libc::SYS_fchmodat, FCHMODAT2, libc::SYS_fchownat, libc::SYS_setxattr,
    libc::SYS_lsetxattr, libc::SYS_removexattr, libc::SYS_lremovexattr, libc::SYS_utimensat,
];

/// The same in older spellings.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const BY_PATH_OLDER: &[libc::c_long] = &[
    libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const BY_PATH_OLDER: &[libc::c_long] = &[];

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
pub(crate) enum Paths {
    /// Over this machine's own file system.
    Shared,
    /// Over a file system of its own.
    Own,
    /// Over that of a guest, whose process 1 counts what all others use.
    Guest,
}

/// Whether the filter is written for this architecture.
pub(crate) fn is_known() -> bool {
    TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

/// Lets this process, and all that come from it, call what is listed and nothing else.
pub(crate) fn restrict(paths: Paths) -> io::Result<()> {
    let program = program(paths).map_err(|problem| io::Error::other(problem.to_string()))?;
    seccompiler::apply_filter(&program).map_err(|problem| io::Error::other(problem.to_string()))
}

fn program(paths: Paths) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        PLAIN.iter().chain(OLDER).map(|number| (*number, Vec::new())).collect();
    match paths {
        Paths::Own | Paths::Guest => {
            rules.extend(BY_PATH.iter().chain(BY_PATH_OLDER).map(|number| (*number, Vec::new())));
        }
        Paths::Shared => {
            // Without a path it changes the times of an open file. All of the pointer counts, not its lower half.
            let no_path = SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
            rules.insert(libc::SYS_utimensat, vec![when([no_path])?]);
        }
    }
    let not =
        |argument, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value);
    let none_of = |mask| SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), 0);
    let pair = u64::from(libc::AF_UNIX.unsigned_abs());
    let death = u64::from(libc::PR_SET_PDEATHSIG.unsigned_abs());
    rules.extend([
        // clone3(2) hides its flags in memory, so it is not there; libraries then take this one.
        (libc::SYS_clone, vec![when([none_of(NAMESPACES)?])?]),
        (libc::SYS_ioctl, vec![when([not(1, TIOCSTI)?, not(1, TIOCLINUX)?])?]),
        (libc::SYS_socketpair, vec![when([is(0, pair)?])?]),
        // What ends a process with its parent stays as it was set.
        (libc::SYS_prctl, vec![when([not(0, death)?])?]),
        // Of this process only: processes of the same user would obey, too.
        (libc::SYS_prlimit64, vec![when([is(0, 0)?])?]),
        (libc::SYS_sched_setaffinity, vec![when([is(0, 0)?])?]),
        (libc::SYS_sched_setscheduler, vec![when([is(0, 0)?])?]),
        (libc::SYS_sched_setparam, vec![when([is(0, 0)?])?]),
        (libc::SYS_sched_setattr, vec![when([is(0, 0)?])?]),
        (libc::SYS_setpriority, vec![when([is(0, 0)?, is(1, 0)?])?]),
    ]);
    if paths == Paths::Guest {
        // They are the same user, and this kernel lets it be stopped; who cannot name it does not stop it.
        for number in SIGNALS {
            rules.insert(number, vec![when([not(0, 1)?])?]);
        }
    }
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, absent, SeccompAction::Allow, architecture)?.try_into()
}

/// A rule whose conditions must all hold.
fn when<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions.into())
}

/// Compares an argument that the kernel takes as an `int`: it does not look at the upper half either.
fn is(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_written_for_all_kinds_of_paths_and_fits_the_kernel() {
        const INSTRUCTIONS_MAX: usize = 4096;
        let [shared, own, guest] = [Paths::Shared, Paths::Own, Paths::Guest]
            .map(|paths| program(paths).expect("it is written").len());
        assert!(
            shared < own && own < guest && guest < INSTRUCTIONS_MAX,
            "{shared}, {own} and {guest} instructions"
        );
    }

    #[test]
    fn what_crosses_walls_is_not_listed() {
        let listed: Vec<_> = PLAIN.iter().chain(OLDER).chain(BY_PATH).chain(BY_PATH_OLDER).collect();
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
            assert!(!listed.contains(&&number), "call {number} is listed");
        }
    }
}
