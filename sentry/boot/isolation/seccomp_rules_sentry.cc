#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>

#include <cerrno>
#include <span>

#include "platform/kvm/host_calls.h"
#include "platform/ptrace/host_calls.h"
#include "platform/systrap/host_calls.h"
#include "sentry/boot/isolation/seccomp_rules.h"

namespace sentry::isolation {
namespace {

constexpr uint64_t kLow32 = 0xffffffff;  // the kernel looks at an int argument's lower half only

ArgumentCheck Is(unsigned index, uint64_t value, uint64_t mask = ~uint64_t{0}) { return {index, mask, value}; }
ArgumentCheck IsInt(unsigned index, uint64_t value) { return {index, kLow32, value}; }
ArgumentCheck Without(unsigned index, uint64_t bits) { return {index, bits, 0}; }

constexpr uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
constexpr uint64_t kNewNamespaces =
    CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;

// What the C library and base/ need to run threads, allocate and wait.
const SeccompRule kRuntime[] = {
    {SYS_futex, "locks, parked executors, joining threads"},
    {SYS_brk, "malloc"},
    // Answered, not carried out: without an answer the sentry dies when an arena shrinks for the first time.
    {SYS_openat,
     "malloc reads /proc/sys/vm/overcommit_memory before it gives a heap's end back: there is no such file here",
     {IsInt(0, static_cast<uint32_t>(AT_FDCWD)), IsInt(2, O_RDONLY | O_CLOEXEC)},
     ENOENT},
    // The sentry never makes memory executable: guest code is mapped by the stubs, which are not under this filter.
    {SYS_mmap, "malloc, stacks, windows of the memory file and of donated files", {Without(2, PROT_EXEC)}},
    {SYS_mprotect, "guard pages, malloc's arenas", {Without(2, PROT_EXEC)}},
    {SYS_munmap, "free, stacks of fibers, windows"},
    {SYS_mremap, "realloc"},
    {SYS_madvise, "gives memory back"},
    {SYS_clone3, "its flags are in memory, out of the filter's sight: the C library falls back to clone", {}, ENOSYS},
    {SYS_clone,
     "a blocking worker, an executor in place of a stuck one",
     {Is(0, kThreadFlags, kThreadFlags | kNewNamespaces)}},
    {SYS_set_robust_list, "a new thread"},
    {SYS_rseq, "a new thread; an executor takes the registration back"},
    {SYS_exit, "a thread ends"},
    {SYS_exit_group, "the sandbox ends"},
    {SYS_sched_yield, "a short wait for another thread"},
    {SYS_sched_getaffinity, "malloc's number of arenas; where executors may run"},
    {SYS_sched_setaffinity, "an executor that starts chooses its CPU"},
    {SYS_getcpu, "where a thread runs"},
    {SYS_rt_sigprocmask, "starting a thread; abort"},
    {SYS_rt_sigaction, "abort; a platform's handlers on a thread that starts"},
    {SYS_rt_sigreturn, "the end of a handler: faults in copies from guest memory, kicks"},
    {SYS_sigaltstack, "a thread's stack for those handlers"},
    {SYS_restart_syscall, "a wait that was stopped and continued"},
    {SYS_getpid, "abort; our own id for tgkill"},
    {SYS_gettid, "abort; a thread that starts"},
    {SYS_tgkill, "abort; kicks of our own threads"},
    {SYS_clock_gettime, "where the vDSO has no clock"},
    {SYS_clock_getres, "where the vDSO has no clock"},
    {SYS_clock_nanosleep, "a bounded wait of a worker"},
    {SYS_nanosleep, "a bounded wait of a worker"},
    {SYS_getrandom, "keys of hash tables, AT_RANDOM, the guest's getrandom"},
    {SYS_getrusage, "the sandbox's CPU time"},
    {SYS_sysinfo, "the host's memory, for the guest's meminfo"},
    {SYS_prlimit64, "how many descriptors are left", {IsInt(0, 0), Is(2, 0)}},
    {SYS_prctl, "the name of a thread", {IsInt(0, 15 /*PR_SET_NAME*/)}},
    {SYS_membarrier, "ordering against guest threads"},

    // The reactor: timers and descriptors.
    {SYS_epoll_ctl, "watches of descriptors"},
    {SYS_epoll_wait, "the reactor waits"},
    {SYS_epoll_pwait, "the reactor waits"},
    {SYS_epoll_pwait2, "the reactor waits"},
    {SYS_eventfd2, "a wake-up of a thread that starts"},
    {SYS_timerfd_settime, "the next deadline"},
    {SYS_timerfd_create, "a guest's timer wants to know when the host's clock is set (TFD_TIMER_CANCEL_ON_SET)"},
};

// Descriptors that the sentry was given: standard streams, donated files, the gofer, the control socket.
const SeccompRule kDescriptors[] = {
    {SYS_read, "event descriptors, standard input, donated files"},
    {SYS_write, "event descriptors, standard output, donated files, logs"},
    {SYS_readv, "standard input, donated files"},
    {SYS_writev, "standard output, donated files"},
    {SYS_pread64, "donated files"},
    {SYS_pwrite64, "donated files, the memory file"},
    {SYS_preadv, "donated files"},
    {SYS_pwritev, "donated files"},
    {SYS_preadv2, "donated files, without waiting for a disk"},
    {SYS_pwritev2, "donated files, with the flags of the guest's call"},
    {SYS_lseek, "holes of files"},
    {SYS_fstat, "size and type of a descriptor"},
    {SYS_newfstatat,
     "the C library's fstat: an empty path only, which a confined process cannot abuse",
     {IsInt(3, AT_EMPTY_PATH)}},
    {SYS_fstatfs, "the type of a donated file's file system"},
    {SYS_ftruncate, "size of the memory file and of donated files"},
    {SYS_fallocate, "holes in the memory file, the guest's fallocate"},
    {SYS_fsync, "donated files"},
    {SYS_fdatasync, "donated files"},
    {SYS_sync_file_range, "donated files"},
    {SYS_fadvise64, "donated files"},
    {SYS_msync, "shared mappings of donated files"},
    {SYS_mincore, "which pages of a donated file are cached"},
    {SYS_close, "descriptors that are done with"},
    {SYS_fcntl, "a second descriptor for the same file", {IsInt(1, F_DUPFD_CLOEXEC)}},
    {SYS_fcntl, "the access mode of a donated file", {IsInt(1, F_GETFL)}},
    {SYS_fcntl, "non-blocking mode of a standard stream", {IsInt(1, F_SETFL)}},
    {SYS_fcntl, "whether a descriptor is open", {IsInt(1, F_GETFD)}},
    {SYS_fcntl, "close-on-exec", {IsInt(1, F_SETFD)}},
    {SYS_fcntl, "seals of the memory file", {IsInt(1, F_GET_SEALS)}},
    {SYS_fcntl, "the size of a pipe that is a standard stream", {IsInt(1, F_GETPIPE_SZ)}},
    {SYS_poll, "the state of one descriptor"},
    {SYS_ppoll, "the control thread waits; the state of one descriptor"},
    {SYS_recvmsg, "the gofer, the control interface, a host socket that is a standard stream"},
    {SYS_sendmsg, "the same"},
    {SYS_shutdown, "the end of a conversation"},
    {SYS_accept4, "a connection to the control interface, or to a socket that the gofer bound for the guest"},
    {SYS_listen, "the guest's call on a socket that the gofer bound for it"},

    // The container's terminal, a host pseudo-terminal. Nothing that injects input or takes a terminal over.
    {SYS_ioctl, "bytes ready on a standard stream", {IsInt(1, FIONREAD)}},
    {SYS_ioctl, "terminal attributes", {IsInt(1, TCGETS)}},
    {SYS_ioctl, "terminal attributes", {IsInt(1, TCSETS)}},
    {SYS_ioctl, "terminal attributes", {IsInt(1, TCSETSW)}},
    {SYS_ioctl, "terminal attributes", {IsInt(1, TCSETSF)}},
    {SYS_ioctl, "window size", {IsInt(1, TIOCGWINSZ)}},
    {SYS_ioctl, "window size", {IsInt(1, TIOCSWINSZ)}},
    {SYS_ioctl, "output not yet sent", {IsInt(1, TIOCOUTQ)}},
    {SYS_ioctl, "tcdrain, tcsendbreak", {IsInt(1, TCSBRK)}},
    {SYS_ioctl, "tcflow", {IsInt(1, TCXONC)}},
    {SYS_ioctl, "tcflush", {IsInt(1, TCFLSH)}},
};

// network=host: the guest's internet sockets are the host's.
const SeccompRule kHostNetwork[] = {
    {SYS_socket, "IPv4", {IsInt(0, AF_INET)}},
    {SYS_socket, "IPv6", {IsInt(0, AF_INET6)}},
    {SYS_socket, "interfaces and routes", {IsInt(0, AF_NETLINK), IsInt(2, 0 /*NETLINK_ROUTE*/)}},
    {SYS_bind, "the guest's call"},
    {SYS_connect, "the guest's call"},
    {SYS_getsockname, "the guest's call"},
    {SYS_getpeername, "the guest's call"},
    {SYS_getsockopt, "the guest's call"},
    {SYS_setsockopt, "the guest's call"},
    {SYS_sendto, "the guest's call"},
    {SYS_recvfrom, "the guest's call"},
    {SYS_sendmmsg, "the guest's call"},
    {SYS_recvmmsg, "the guest's call"},
    {SYS_ioctl, "what interfaces there are", {IsInt(1, SIOCGIFCONF)}},
    {SYS_ioctl, "an interface's name", {IsInt(1, SIOCGIFNAME)}},
    {SYS_ioctl, "an interface's index", {IsInt(1, SIOCGIFINDEX)}},
    {SYS_ioctl, "an interface's flags", {IsInt(1, SIOCGIFFLAGS)}},
    {SYS_ioctl, "an interface's address", {IsInt(1, SIOCGIFADDR)}},
    {SYS_ioctl, "an interface's other end", {IsInt(1, SIOCGIFDSTADDR)}},
    {SYS_ioctl, "an interface's broadcast address", {IsInt(1, SIOCGIFBRDADDR)}},
    {SYS_ioctl, "an interface's network mask", {IsInt(1, SIOCGIFNETMASK)}},
    {SYS_ioctl, "an interface's metric", {IsInt(1, SIOCGIFMETRIC)}},
    {SYS_ioctl, "an interface's largest packet", {IsInt(1, SIOCGIFMTU)}},
    {SYS_ioctl, "an interface's hardware address", {IsInt(1, SIOCGIFHWADDR)}},
    {SYS_ioctl, "the length of an interface's queue", {IsInt(1, SIOCGIFTXQLEN)}},
};

SeccompFilter SentryFilter(const char* name, std::span<const platform::HostCall> platform_calls, bool host_network) {
  SeccompFilter filter{name, {}};
  filter.rules.assign(std::begin(kRuntime), std::end(kRuntime));
  filter.rules.insert(filter.rules.end(), std::begin(kDescriptors), std::end(kDescriptors));
  for (std::span<const platform::HostCall> calls :
       {std::span<const platform::HostCall>(platform::kCommonHostCalls), platform_calls}) {
    for (const platform::HostCall& call : calls) {
      // A call that this table admits under conditions stays under them.
      bool known = false;
      for (const SeccompRule& rule : filter.rules) known = known || rule.number == call.number;
      if (!known) filter.rules.push_back({call.number, call.reason, {}, 0});
    }
  }
  if (host_network) filter.rules.insert(filter.rules.end(), std::begin(kHostNetwork), std::end(kHostNetwork));
  return filter;
}

SeccompFilter KvmFilter(const char* name, bool host_network) {
  SeccompFilter filter = SentryFilter(name, platform::kvm::kHostCalls, host_network);
  for (const auto& ioctl : platform::kvm::kIoctls) {
    filter.rules.push_back({SYS_ioctl, ioctl.reason, {IsInt(1, ioctl.request)}, 0});
  }
  return filter;
}

}  // namespace

std::vector<SeccompFilter> SentryFilters() {
  return {SentryFilter("kSentrySystrapFilter", platform::systrap::kHostCalls, false),
          SentryFilter("kSentrySystrapHostNetworkFilter", platform::systrap::kHostCalls, true),
          SentryFilter("kSentryPtraceFilter", platform::ptrace::kHostCalls, false),
          SentryFilter("kSentryPtraceHostNetworkFilter", platform::ptrace::kHostCalls, true),
          KvmFilter("kSentryKvmFilter", false),
          KvmFilter("kSentryKvmHostNetworkFilter", true)};
}

}  // namespace sentry::isolation
