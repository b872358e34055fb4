// The host calls that a gofer makes once Serve runs, for its seccomp allow-list. Everything else may be answered with
// death.
//
// Two kinds: those of gofer/server/host_unsafe.cc and gofer/protocol/channel.cc, which are all that the serving code
// asks for, and those that the C library needs underneath (memory, threads, the end of the process). Start-up up to
// Serve (namespaces, mounts, capabilities) is runsc's and done by then.
#ifndef GOFER_SERVER_HOST_CALLS_H_
#define GOFER_SERVER_HOST_CALLS_H_

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstdint>

namespace gofer {

// A condition on one argument. A rule of the filter is allowed if all its conditions hold; a call may have several
// rules.
struct HostCallCondition {
  enum class Kind : uint8_t {
    kNone,
    kMaskedEqual,  // (argument & mask) == value
    kProcSelfFd,   // argument == the descriptor of /proc/self/fd that Serve was given
  };
  Kind kind = Kind::kNone;
  uint8_t argument = 0;
  uint64_t mask = 0;
  uint64_t value = 0;
};

struct HostCall {
  long number;
  const char* reason;
  HostCallCondition conditions[2] = {};
  bool only_with_host_uds = false;
  // Nonzero: answered with this errno instead of being carried out.
  int fail_with = 0;
};

namespace internal {
constexpr HostCallCondition Masked(uint8_t argument, uint64_t mask, uint64_t value) {
  return {HostCallCondition::Kind::kMaskedEqual, argument, mask, value};
}
constexpr HostCallCondition ProcSelfFd(uint8_t argument) { return {HostCallCondition::Kind::kProcSelfFd, argument}; }
constexpr uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
constexpr uint64_t kNewNamespaces =
    CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
}  // namespace internal

// A call with several entries is allowed if one of them matches.
inline constexpr HostCall kHostCalls[] = {
    // The conversation.
    {SYS_recvmsg, "the next request"},
    {SYS_sendmsg, "a reply, with or without a donated descriptor"},
    {SYS_close, "nodes that the sentry dropped, descriptors that were donated"},
    {SYS_fcntl, "a second descriptor for a mount's root", {internal::Masked(1, ~0u, F_DUPFD_CLOEXEC)}},
    {SYS_prlimit64, "how many descriptors there are to hand out", {internal::Masked(2, ~uint64_t{0}, 0)}},
    {SYS_sched_setaffinity, "the calling thread, to the CPU that requests come from", {internal::Masked(0, ~0u, 0)}},

    // Looking up. Every name is resolved with O_NOFOLLOW; without it only the links of /proc/self/fd, which lead to
    // inodes already held.
    {SYS_openat, "a name in a directory, never through a link", {internal::Masked(2, O_NOFOLLOW, O_NOFOLLOW)}},
    {SYS_openat, "an inode that is held by O_PATH", {internal::ProcSelfFd(0), internal::Masked(2, O_CREAT, 0)}},
    {SYS_statx, "attributes"},
    {SYS_readlinkat, "the target of a link, which the sentry resolves"},
    {SYS_getdents64, "the entries of a directory"},
    {SYS_lseek, "to continue a directory at its cookie"},
    {SYS_fstatfs, "statfs"},

    // Changing.
    {SYS_fchownat,
     "owner",
     {internal::Masked(4, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)}},
    {SYS_fchmodat, "mode of an inode that is held", {internal::ProcSelfFd(0)}},
    {SYS_utimensat,
     "times",
     {internal::Masked(3, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)}},
    {SYS_ftruncate, "size"},
    {SYS_mkdirat, "mkdir"},
    {SYS_mknodat, "FIFOs, sockets, regular files, whiteouts"},
    {SYS_symlinkat, "symlink"},
    {SYS_linkat, "a further name of an inode that is held", {internal::ProcSelfFd(0)}},
    {SYS_unlinkat, "unlink and rmdir"},
    {SYS_renameat2, "rename"},
    {SYS_fsync, "fsync of a node"},
    {SYS_fdatasync, "fdatasync of a node"},
    {SYS_syncfs, "syncfs of a mount"},
    {SYS_fgetxattr, "getxattr"},
    {SYS_fsetxattr, "setxattr"},
    {SYS_flistxattr, "listxattr"},
    {SYS_fremovexattr, "removexattr"},

    // --host-uds.
    {SYS_unshare,
     "a working directory of the thread's own, for connect",
     {internal::Masked(0, ~uint64_t{0}, CLONE_FS)},
     true},
    {SYS_fchdir, "into /proc/self/fd, for connect", {internal::ProcSelfFd(0)}, true},
    {SYS_socket, "a socket to connect to the host's", {internal::Masked(0, ~0u, 1 /*AF_UNIX*/)}, true},
    {SYS_connect, "to a socket file of the host", {}, true},
    {SYS_bind, "a socket file that the guest makes on the host (--host-uds), or a socket of the sentry's to a port"},

    // The C library underneath.
    {SYS_futex, "handing the lead to another thread; joining workers; malloc's locks"},
    {SYS_brk, "malloc"},
    {SYS_openat,
     "malloc of a worker asks /proc/sys/vm/overcommit_memory before it shrinks its heap: there is no such file",
     {internal::Masked(0, ~0u, static_cast<uint32_t>(AT_FDCWD)), internal::Masked(2, ~0u, O_RDONLY | O_CLOEXEC)},
     false,
     2 /*ENOENT*/},
    {SYS_mmap,
     "malloc, a worker's stack: anonymous only",
     {internal::Masked(3, MAP_ANONYMOUS, MAP_ANONYMOUS), internal::Masked(2, PROT_EXEC, 0)}},
    {SYS_munmap, "free"},
    {SYS_mremap, "realloc"},
    {SYS_mprotect, "a worker's guard page and malloc's arenas", {internal::Masked(2, PROT_EXEC, 0)}},
    {SYS_madvise, "free, the stack of a worker that ends, code that has been used"},
    {SYS_clone3,
     "its flags are in memory, out of the filter's sight: the C library falls back to clone",
     {},
     false,
     38 /*ENOSYS*/},
    {SYS_clone,
     "a worker thread",
     {internal::Masked(0, internal::kThreadFlags | internal::kNewNamespaces, internal::kThreadFlags)}},
    {SYS_set_robust_list, "a new thread"},
    {SYS_rseq, "a new thread"},
    {SYS_rt_sigprocmask, "around starting a thread; abort"},
    {SYS_sched_getaffinity, "malloc, when it chooses the number of its arenas"},
    {SYS_getrandom, "malloc's first use in a thread"},
    {SYS_exit, "a worker ends"},
    {SYS_exit_group, "the end"},
    {SYS_write, "a failed check says why; the log"},
    {SYS_rt_sigreturn, "the return of a signal handler, if runsc set one"},
    {SYS_getpid, "abort"},
    {SYS_gettid, "abort"},
    {SYS_tgkill, "abort: a signal to ourselves"},
    {SYS_rt_sigaction, "abort"},
    {SYS_clock_gettime, "time stamps of the log where the vDSO does not have them"},
};

}  // namespace gofer

#endif  // GOFER_SERVER_HOST_CALLS_H_
