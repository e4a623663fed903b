//! The system calls of the agent once its rights have ended: which, with which arguments, and what for.
//!
//! Numbers differ between machines, and so do the calls: arm64 has only the `…at` form of what works on names.

use libc::c_long;

/// Calls with one reason.
pub(super) struct Group {
    /// What they are for, or why they are never made.
    pub(super) why: &'static str,
    pub(super) calls: &'static [c_long],
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    /// It is one of the values.
    Equal,
    /// These bits of it are.
    Masked(u64),
}

/// A call of which an argument decides.
pub(super) struct Limited {
    pub(super) why: &'static str,
    pub(super) call: c_long,
    /// Counted from 0.
    pub(super) argument: u8,
    /// Whether all 64 bits count; else the lower 32 do.
    pub(super) wide: bool,
    pub(super) test: Test,
    /// Values that pass; others fail.
    pub(super) allowed: &'static [u64],
    /// Values that end the process.
    pub(super) fatal: &'static [u64],
}

/// What passes, whatever its arguments.
pub(super) const ALLOWED: &[Group] = &[
    Group {
        why: "memory of its own",
        calls: &[libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk, libc::SYS_membarrier],
    },
    Group {
        why: "threads and waiting for each other",
        calls: &[
            libc::SYS_futex,
            libc::SYS_clone3,
            libc::SYS_set_robust_list,
            libc::SYS_rseq,
            libc::SYS_gettid,
            libc::SYS_getpid,
            libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity,
            libc::SYS_getcpu,
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_set_tid_address,
            libc::SYS_restart_syscall,
        ],
    },
    Group {
        why: "signals that stop the agent or have it read things again",
        calls: &[libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack],
    },
    Group {
        why: "time and sleep",
        calls: &[
            libc::SYS_clock_gettime,
            libc::SYS_clock_getres,
            libc::SYS_clock_nanosleep,
            libc::SYS_nanosleep,
            libc::SYS_gettimeofday,
        ],
    },
    Group {
        why: "what the machine and the process are",
        calls: &[
            libc::SYS_uname,
            libc::SYS_sysinfo,
            libc::SYS_getrusage,
            libc::SYS_getuid,
            libc::SYS_geteuid,
            libc::SYS_getgid,
            libc::SYS_getegid,
            libc::SYS_getppid,
            libc::SYS_getrandom,
        ],
    },
    Group {
        why: "open files and sockets",
        calls: &[
            libc::SYS_read,
            libc::SYS_readv,
            libc::SYS_pread64,
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_pwrite64,
            libc::SYS_lseek,
            libc::SYS_close,
            libc::SYS_close_range,
            libc::SYS_dup,
            libc::SYS_dup3,
            libc::SYS_fcntl,
            libc::SYS_fstat,
            libc::SYS_fstatfs,
            libc::SYS_ftruncate,
            libc::SYS_fallocate,
            libc::SYS_fadvise64,
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_flock,
            libc::SYS_getdents64,
            libc::SYS_pipe2,
            libc::SYS_eventfd2,
            libc::SYS_copy_file_range,
            libc::SYS_sendfile,
        ],
    },
    Group {
        why: "files by name: logs and their rotation, alerts, cached models, tokens, certificates; Landlock says which",
        calls: &[
            libc::SYS_openat,
            libc::SYS_newfstatat,
            libc::SYS_statx,
            libc::SYS_statfs,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
            libc::SYS_readlinkat,
            libc::SYS_mkdirat,
            libc::SYS_unlinkat,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            libc::SYS_getcwd,
            libc::SYS_umask,
        ],
    },
    Group {
        why: "waiting for descriptors",
        calls: &[
            libc::SYS_epoll_create1,
            libc::SYS_epoll_ctl,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
            libc::SYS_ppoll,
            libc::SYS_pselect6,
        ],
    },
    Group {
        why: "the API, sinks, models from servers, names",
        calls: &[
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_accept4,
            libc::SYS_connect,
            libc::SYS_shutdown,
            libc::SYS_getsockname,
            libc::SYS_getpeername,
            libc::SYS_getsockopt,
            libc::SYS_setsockopt,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
            libc::SYS_recvfrom,
            libc::SYS_recvmsg,
            libc::SYS_recvmmsg,
            libc::SYS_socketpair,
        ],
    },
    #[cfg(target_arch = "x86_64")]
    Group {
        why: "older forms of the above that the C library and SQLite still use on x86-64",
        calls: &[
            libc::SYS_open,
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_access,
            libc::SYS_readlink,
            libc::SYS_mkdir,
            libc::SYS_rmdir,
            libc::SYS_unlink,
            libc::SYS_rename,
            libc::SYS_chmod,
            libc::SYS_poll,
            libc::SYS_select,
            libc::SYS_epoll_wait,
            libc::SYS_accept,
            libc::SYS_dup2,
            libc::SYS_time,
        ],
    },
];

/// What the kernel pretends not to have.
pub(super) const HIDDEN: &[c_long] = &[libc::SYS_clone3];

/// What ends the process.
pub(super) const FATAL: &[Group] = &[
    Group { why: "the agent starts no program", calls: &[libc::SYS_execve, libc::SYS_execveat] },
    Group {
        why: "nor looks into other processes",
        calls: &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
        ],
    },
    Group {
        why: "nor changes what is mounted, or where it lives",
        calls: &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_open_by_handle_at,
        ],
    },
    Group {
        why: "nor changes the kernel or the machine",
        calls: &[
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_acct,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
        ],
    },
    Group {
        why: "ways into the kernel that had many holes and that nothing here needs",
        calls: &[
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
        ],
    },
    #[cfg(target_arch = "x86_64")]
    Group { why: "nor talks to devices by ports", calls: &[libc::SYS_iopl, libc::SYS_ioperm] },
];

const WRITE_AND_EXECUTE: u64 = (libc::PROT_WRITE | libc::PROT_EXEC) as u64;
const WRITE: u64 = libc::PROT_WRITE as u64;
const EXECUTE: u64 = libc::PROT_EXEC as u64;

// Commands of bpf(2) (include/uapi/linux/bpf.h).
const MAP_LOOKUP: u64 = 1;
const MAP_UPDATE: u64 = 2;
const MAP_DELETE: u64 = 3;
const MAP_NEXT_KEY: u64 = 4;
const PROG_LOAD: u64 = 5;
const OBJ_PIN: u64 = 6;
const OBJ_GET: u64 = 7;
const PROG_TEST_RUN: u64 = 10;
const OBJ_GET_INFO: u64 = 15;
const BTF_LOAD: u64 = 18;
const MAP_LOOKUP_AND_DELETE: u64 = 21;
const MAP_LOOKUP_BATCH: u64 = 24;
const MAP_LOOKUP_AND_DELETE_BATCH: u64 = 25;
const LINK_CREATE: u64 = 28;
const LINK_UPDATE: u64 = 29;
const LINK_DETACH: u64 = 34;

/// `PR_SET_VMA` (include/uapi/linux/prctl.h): the C library names its memory.
const PR_SET_VMA: u64 = 0x5356_4d41;

/// What passes with some arguments.
pub(super) const LIMITED: &[Limited] = &[
    Limited {
        why: "memory, but none that can be written and executed at a time",
        call: libc::SYS_mmap,
        argument: 2,
        wide: false,
        test: Test::Masked(WRITE_AND_EXECUTE),
        allowed: &[0, WRITE, EXECUTE],
        fatal: &[],
    },
    Limited {
        why: "memory, but none that can be written and executed at a time",
        call: libc::SYS_mprotect,
        argument: 2,
        wide: false,
        test: Test::Masked(WRITE_AND_EXECUTE),
        allowed: &[0, WRITE, EXECUTE],
        fatal: &[],
    },
    Limited {
        why: "threads, but no processes and no namespaces, which are never of the same thread group",
        call: libc::SYS_clone,
        argument: 0,
        wide: true,
        test: Test::Masked(libc::CLONE_THREAD as u64),
        allowed: &[libc::CLONE_THREAD as u64],
        fatal: &[],
    },
    Limited {
        why: "maps and links of the programs that were loaded at the start; no others",
        call: libc::SYS_bpf,
        argument: 0,
        wide: false,
        test: Test::Equal,
        allowed: &[
            MAP_LOOKUP,
            MAP_UPDATE,
            MAP_DELETE,
            MAP_NEXT_KEY,
            OBJ_PIN,
            OBJ_GET,
            PROG_TEST_RUN,
            OBJ_GET_INFO,
            MAP_LOOKUP_AND_DELETE,
            MAP_LOOKUP_BATCH,
            MAP_LOOKUP_AND_DELETE_BATCH,
            LINK_CREATE,
            LINK_UPDATE,
            LINK_DETACH,
        ],
        fatal: &[PROG_LOAD, BTF_LOAD],
    },
    Limited {
        why: "the API, sinks and model servers; lists of interfaces and addresses; no raw packets",
        call: libc::SYS_socket,
        argument: 0,
        wide: false,
        test: Test::Equal,
        allowed: &[libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_INET6 as u64, libc::AF_NETLINK as u64],
        fatal: &[],
    },
    Limited {
        why: "descriptors that do not block, what a peer has not taken, terminals, interfaces; no input into terminals",
        call: libc::SYS_ioctl,
        argument: 1,
        wide: false,
        test: Test::Equal,
        allowed: &[
            libc::FIONBIO,
            libc::FIOCLEX,
            libc::FIONREAD,
            libc::TIOCOUTQ,
            libc::TCGETS,
            libc::TIOCGWINSZ,
            libc::SIOCGIFINDEX,
            libc::SIOCGIFNAME,
        ],
        fatal: &[],
    },
    Limited {
        why: "names of threads and of memory",
        call: libc::SYS_prctl,
        argument: 0,
        wide: false,
        test: Test::Equal,
        allowed: &[libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64, PR_SET_VMA],
        fatal: &[],
    },
    Limited {
        why: "limits are read, not set",
        call: libc::SYS_prlimit64,
        argument: 2,
        wide: true,
        test: Test::Equal,
        allowed: &[0],
        fatal: &[],
    },
    Limited {
        why: "the agent may abort itself",
        call: libc::SYS_tgkill,
        argument: 2,
        wide: false,
        test: Test::Equal,
        allowed: &[libc::SIGABRT as u64],
        fatal: &[],
    },
];
