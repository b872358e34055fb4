#include "tests/unit/system_calls/object_calls.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/charged_memory.h"
#include "base/check.h"
#include "base/errno.h"
#include "tests/unit/system_calls/guest_program.h"
#include "tests/unit/system_calls/guest_run.h"

namespace sentry::testing {
namespace {

// What an earlier call returned.
struct ResultOf {
  size_t call;
};

struct Argument {  // Its constructors are implicit for lists of arguments.
  template <typename T>
  requires std::is_integral_v<T> || std::is_enum_v<T> Argument(T v)  // NOLINT
      : value(static_cast<uint64_t>(v)) {}
  Argument(ResultOf r) : value(r.call), is_result(true) {}  // NOLINT
  uint64_t value;
  bool is_result = false;
};

enum class Child : uint8_t { kNone, kExits, kExecs, kLeads };

struct Call {
  uint64_t number;
  std::vector<Argument> arguments;
  Child child;
};

// The calls of the first process, and the memory that their pointers point to.
struct Script {
  std::vector<Call> calls;
  std::vector<uint8_t> memory;

  ResultOf Add(uint64_t number, std::vector<Argument> arguments, Child child = Child::kNone) {
    calls.push_back({number, std::move(arguments), child});
    return {calls.size() - 1};
  }
  // Addresses in the guest.
  uint64_t Bytes(const void* data, size_t bytes) {
    const size_t at = (memory.size() + 15) & ~size_t{15};
    memory.resize(at + bytes);
    memcpy(memory.data() + at, data, bytes);
    CHECK(kBytesAt + memory.size() <= kProgramEnd);
    return kBytesAt + at;
  }
  template <typename T>
  uint64_t Put(const T& value) {
    return Bytes(&value, sizeof(value));
  }
  uint64_t Text(std::string_view text) { return Bytes(std::string(text).c_str(), text.size() + 1); }
  uint64_t Room(size_t bytes) { return Bytes(std::vector<uint8_t>(bytes).data(), bytes); }
};

void AddMemory(Script& s) {
  constexpr uint64_t kPage = 4096;
  ResultOf at =
      s.Add(SYS_mmap, {0, 64 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0});
  s.Add(SYS_mprotect, {at, kPage, PROT_READ});
  s.Add(SYS_mlock, {at, 2 * kPage});
  s.Add(SYS_mremap, {at, kPage, 128 * kPage, MREMAP_MAYMOVE, 0});
  s.Add(SYS_mmap, {0, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0});
  s.Add(SYS_brk, {0});
  ResultOf file = s.Add(SYS_memfd_create, {s.Text("memory"), 0});
  s.Add(SYS_ftruncate, {file, 4 * kPage});
  s.Add(SYS_mmap, {0, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0});
  s.Add(SYS_mmap, {0, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, file, 0});
  s.Add(SYS_write, {file, kProgramBase, 3 * kPage});
}

void AddFiles(Script& s) {
  const uint64_t path = s.Text("/tmp/objects"), inside = s.Text("/tmp/objects/a"), room = s.Room(1024);
  s.Add(SYS_mkdir, {path, 0755});
  ResultOf file = s.Add(SYS_open, {inside, O_RDWR | O_CREAT, 0644});
  s.Add(SYS_write, {file, kProgramBase, 5000});
  s.Add(SYS_fallocate, {file, 0, 0, 100'000});
  s.Add(SYS_setxattr, {inside, s.Text("user.name"), kProgramBase, 100, 0});
  s.Add(SYS_link, {inside, s.Text("/tmp/objects/b")});
  s.Add(SYS_symlink, {inside, s.Text("/tmp/objects/c")});
  s.Add(SYS_mknod, {s.Text("/tmp/objects/fifo"), S_IFIFO | 0644, 0});
  s.Add(SYS_open, {s.Text("/tmp/objects/fifo"), O_RDWR});
  s.Add(SYS_rename, {s.Text("/tmp/objects/b"), s.Text("/tmp/objects/d")});
  s.Add(SYS_unlink, {s.Text("/tmp/objects/d")});
  s.Add(SYS_open, {path, O_RDWR | O_TMPFILE, 0600});
  ResultOf directory = s.Add(SYS_open, {path, O_RDONLY | O_DIRECTORY});
  s.Add(SYS_getdents64, {directory, room, 1024});
  s.Add(SYS_open, {path, O_PATH});
  ResultOf maps = s.Add(SYS_open, {s.Text("/proc/self/maps"), O_RDONLY});
  s.Add(SYS_read, {maps, room, 1024});
  s.Add(SYS_open, {s.Text("/proc/self/ns/mnt"), O_RDONLY});
  s.Add(SYS_open, {s.Text("/proc/self/mem"), O_RDWR});
  s.Add(SYS_open, {s.Text("/proc/self/fd/3"), O_RDONLY});
  s.Add(SYS_open, {s.Text("/dev/zero"), O_RDWR});
  ResultOf master = s.Add(SYS_open, {s.Text("/dev/pts/ptmx"), O_RDWR | O_NOCTTY});
  s.Add(SYS_ioctl, {master, TIOCSPTLCK, s.Put(int{0})});
  s.Add(SYS_open, {s.Text("/dev/pts/0"), O_RDWR | O_NOCTTY});
  s.Add(SYS_write, {master, kProgramBase, 100});
  s.Add(SYS_chdir, {path});
  s.Add(SYS_dup3, {file, 60, 0});
  // Locks, leases, watches.
  s.Add(SYS_flock, {file, LOCK_EX | LOCK_NB});
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_len = 10;
  s.Add(SYS_fcntl, {file, F_SETLK, s.Put(lock)});
  lock.l_start = 100;
  s.Add(SYS_fcntl, {file, F_SETLK, s.Put(lock)});
  s.Add(SYS_fcntl, {s.Add(SYS_open, {s.Text("/tmp/objects/lease"), O_RDONLY | O_CREAT, 0644}), F_SETLEASE, F_RDLCK});
  ResultOf inotify = s.Add(SYS_inotify_init1, {IN_NONBLOCK});
  s.Add(SYS_inotify_add_watch, {inotify, path, IN_ALL_EVENTS});
  s.Add(SYS_mkdir, {s.Text("/tmp/objects/e"), 0755});
  s.Add(SYS_read, {inotify, room, 1024});
  // Mounts.
  s.Add(SYS_mkdir, {s.Text("/tmp/mnt"), 0755});
  s.Add(SYS_mount, {s.Text("none"), s.Text("/tmp/mnt"), s.Text("tmpfs"), 0, 0});
  s.Add(SYS_mkdir, {s.Text("/tmp/mnt/x"), 0755});
  s.Add(SYS_mount, {path, s.Text("/tmp/mnt/x"), 0, MS_BIND, 0});
}

void AddChannels(Script& s) {
  const uint64_t pair = s.Room(8), room = s.Room(256);
  s.Add(SYS_pipe2, {pair, O_NONBLOCK});
  ResultOf fifo = s.Add(SYS_open, {s.Text("/tmp/objects/fifo"), O_RDWR | O_NONBLOCK});
  s.Add(SYS_write, {fifo, kProgramBase, 20'000});
  s.Add(SYS_fcntl, {fifo, F_SETPIPE_SZ, 1 << 18});
  s.Add(SYS_write, {fifo, kProgramBase, 60'000});

  // UNIX sockets: streams with descriptors in flight, and datagrams.
  s.Add(SYS_socketpair, {AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair});
  s.Add(SYS_socketpair, {AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair});
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  strcpy(name.sun_path, "/tmp/objects/socket");
  ResultOf listener = s.Add(SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0});
  s.Add(SYS_bind, {listener, s.Put(name), sizeof(name)});
  s.Add(SYS_listen, {listener, 5});
  ResultOf client = s.Add(SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0});
  s.Add(SYS_connect, {client, s.Put(name), sizeof(name)});
  s.Add(SYS_accept4, {listener, 0, 0, 0});
  s.Add(SYS_write, {client, kProgramBase, 10'000});
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))] = {};
  cmsghdr header = {};
  header.cmsg_len = CMSG_LEN(sizeof(int));
  header.cmsg_level = SOL_SOCKET;
  header.cmsg_type = SCM_RIGHTS;
  memcpy(control, &header, sizeof(header));  // descriptor 0 follows
  const iovec iov{reinterpret_cast<void*>(kProgramBase), 100};
  msghdr message = {};
  message.msg_iov = reinterpret_cast<iovec*>(s.Put(iov));
  message.msg_iovlen = 1;
  message.msg_control = reinterpret_cast<void*>(s.Put(control));
  message.msg_controllen = sizeof(control);
  s.Add(SYS_sendmsg, {client, s.Put(message), 0});

  // Loopback.
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(4711);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const uint64_t at = s.Put(address);
  ResultOf server = s.Add(SYS_socket, {AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0});
  s.Add(SYS_bind, {server, at, sizeof(address)});
  s.Add(SYS_listen, {server, 5});
  ResultOf tcp = s.Add(SYS_socket, {AF_INET, SOCK_STREAM, 0});
  s.Add(SYS_connect, {tcp, at, sizeof(address)});
  s.Add(SYS_accept4, {server, 0, 0, 0});
  s.Add(SYS_sendto, {tcp, kProgramBase, 10'000, MSG_NOSIGNAL, 0, 0});
  ResultOf udp = s.Add(SYS_socket, {AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0});
  s.Add(SYS_bind, {udp, at, sizeof(address)});
  s.Add(SYS_sendto, {udp, kProgramBase, 1000, 0, at, sizeof(address)});
  ResultOf netlink = s.Add(SYS_socket, {AF_NETLINK, SOCK_RAW, NETLINK_ROUTE});
  nlmsghdr request = {};
  request.nlmsg_len = 32;
  request.nlmsg_type = 18;  // RTM_GETLINK
  request.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  uint8_t bytes[32] = {};
  memcpy(bytes, &request, sizeof(request));
  s.Add(SYS_sendto, {netlink, s.Put(bytes), sizeof(bytes), 0, 0, 0});
  s.Add(SYS_recvfrom, {netlink, room, 256, MSG_DONTWAIT, 0, 0});

  // System V and POSIX queues.
  ResultOf shm = s.Add(SYS_shmget, {IPC_PRIVATE, 8192, IPC_CREAT | 0600});
  s.Add(SYS_shmat, {shm, 0, 0});
  ResultOf sem = s.Add(SYS_semget, {IPC_PRIVATE, 10, IPC_CREAT | 0600});
  const sembuf up{0, 1, SEM_UNDO};
  s.Add(SYS_semop, {sem, s.Put(up), 1});
  ResultOf msg = s.Add(SYS_msgget, {IPC_PRIVATE, IPC_CREAT | 0600});
  s.Add(SYS_msgsnd, {msg, s.Put(int64_t{1}), 100, IPC_NOWAIT});
  ResultOf mq = s.Add(SYS_mq_open, {s.Text("queue"), O_RDWR | O_CREAT | O_NONBLOCK, 0600, 0});
  s.Add(SYS_mq_timedsend, {mq, kProgramBase, 100, 1, 0});
  s.Add(SYS_mq_unlink, {s.Text("queue")});
}

void AddEvents(Script& s) {
  ResultOf event = s.Add(SYS_eventfd2, {0, O_NONBLOCK});
  ResultOf timer = s.Add(SYS_timerfd_create, {CLOCK_MONOTONIC, 0});
  const itimerspec soon{{0, 0}, {1000, 0}};
  s.Add(SYS_timerfd_settime, {timer, 0, s.Put(soon), 0});
  const uint64_t rt = uint64_t{1} << (SIGRTMIN - 1);
  const uint64_t set = s.Put(rt), room = s.Room(256);
  s.Add(SYS_signalfd4, {-1, set, 8, 0});
  ResultOf epoll = s.Add(SYS_epoll_create1, {0});
  const epoll_event wanted{.events = EPOLLIN, .data = {.u64 = 1}};
  for (ResultOf fd : {event, timer}) s.Add(SYS_epoll_ctl, {epoll, EPOLL_CTL_ADD, fd, s.Put(wanted)});
  s.Add(SYS_epoll_wait, {epoll, room, 4, 0});
  s.Add(SYS_pidfd_open, {1, 0});
  // Signals that wait, timers.
  s.Add(SYS_rt_sigprocmask, {SIG_BLOCK, set, 0, 8});
  siginfo_t info = {};
  info.si_code = SI_QUEUE;
  for (int i = 0; i < 3; ++i) s.Add(SYS_rt_sigqueueinfo, {1, SIGRTMIN, s.Put(info)});
  ResultOf posix = s.Add(SYS_timer_create, {CLOCK_MONOTONIC, 0, s.Room(4)});
  (void)posix;
  s.Add(SYS_timer_settime, {0, 0, s.Put(soon), 0});
  const int64_t interval[4] = {0, 0, 1000, 0};
  s.Add(SYS_setitimer, {0, s.Put(interval), 0});
  s.Add(SYS_poll, {room, 4, 0});
}

void AddProcesses(Script& s) {
  s.Add(SYS_fork, {}, Child::kExits);
  s.Add(SYS_wait4, {-1, 0, 0, 0});
  s.Add(SYS_vfork, {}, Child::kExecs);
  s.Add(SYS_wait4, {-1, 0, 0, 0});
  s.Add(SYS_fork, {}, Child::kExecs);
  s.Add(SYS_wait4, {-1, 0, 0, 0});
  s.Add(SYS_fork, {}, Child::kLeads);
  s.Add(SYS_wait4, {-1, 0, 0, 0});
  const uint64_t thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_FILES | CLONE_FS | CLONE_SYSVSEM;
  s.Add(SYS_clone, {thread, kProgramEnd - 64, 0, 0, 0}, Child::kExits);
  s.Add(SYS_clone, {CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD, 0, 0, 0, 0}, Child::kExits);
  s.Add(SYS_wait4, {-1, 0, 0, 0});
  s.Add(SYS_unshare, {CLONE_FILES | CLONE_FS | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS});
  const uint32_t groups[] = {1, 2, 3};
  s.Add(SYS_setgroups, {3, s.Put(groups)});
  s.Add(SYS_setresuid, {0, 0, 0});
  s.Add(SYS_prctl, {PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0});
  const sock_filter allow{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
  struct {
    uint16_t length;
    uint64_t filter;
  } program = {1, s.Put(allow)};
  s.Add(SYS_seccomp, {SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, s.Put(program)});
}

Script MakeScript() {
  Script s;
  AddMemory(s);
  AddFiles(s);
  AddChannels(s);
  AddEvents(s);
  AddProcesses(s);
  return s;
}

class ObjectCalls final : public GuestCalls {
 public:
  ObjectCalls(const Script& script, uint64_t first_failure, uint64_t every)
      : script_(script), first_failure_(first_failure), every_(every) {}

  void Next(platform::Registers& r, int thread) override {
    std::lock_guard lock(mu_);
    if (thread != 0) return NextOfChild(r, static_cast<size_t>(thread));
    if (!armed_) {
      armed_ = true;
      base::ChargedMemory::FailFrom(first_failure_, every_);
    } else {
      results_.push_back(static_cast<int64_t>(r.rax));
    }
    if (results_.size() == script_.calls.size()) return Make(r, SYS_exit_group, {});
    const Call& call = script_.calls[results_.size()];
    next_child_ = call.child;
    Make(r, call.number, call.arguments);
  }

  std::string failed() const {
    std::string failed;
    for (size_t i = 0; i < results_.size(); ++i) {
      if (results_[i] >= 0 || results_[i] < -4095) continue;
      failed += std::to_string(script_.calls[i].number) + ": " + base::ErrnoName(static_cast<int>(-results_[i])) + "\n";
    }
    return failed;
  }

 private:
  void NextOfChild(platform::Registers& r, size_t thread) {
    if (children_.size() <= thread) children_.resize(thread + 1);
    Child& child = children_[thread];
    if (child == Child::kNone) child = next_child_;
    switch (std::exchange(child, Child::kExits)) {
      case Child::kExecs: {
        Make(r, SYS_execve, {kNamesAt + 5 * kNameBytes, 0, 0});  // /bin/guest
        return;
      }
      case Child::kLeads:
        return Make(r, SYS_setsid, {});
      default:
        return Make(r, SYS_exit, {});
    }
  }

  void Make(platform::Registers& r, uint64_t number, const std::vector<Argument>& arguments) {
    SetCall(r, number);
    uint64_t* const places[] = {&r.rdi, &r.rsi, &r.rdx, &r.r10, &r.r8, &r.r9};
    for (size_t i = 0; i < 6; ++i) {
      *places[i] = 0;
      if (i >= arguments.size()) continue;
      const Argument& a = arguments[i];
      *places[i] = a.is_result ? static_cast<uint64_t>(results_[a.value]) : a.value;
    }
  }

  const Script& script_;
  const uint64_t first_failure_, every_;
  std::mutex mu_;
  bool armed_ = false;
  std::vector<int64_t> results_;
  Child next_child_ = Child::kExits;
  std::vector<Child> children_;
};

}  // namespace

ObjectCallsOutcome MakeObjectCalls(uint64_t first_failure, uint64_t every) {
  static const Script* const script = new Script(MakeScript());
  ObjectCalls calls(*script, first_failure, every);
  ObjectCallsOutcome outcome;
  outcome.status = RunGuest(calls, script->memory, /*root=*/true);
  outcome.asked = base::ChargedMemory::asked();
  outcome.refused = base::ChargedMemory::failed();
  base::ChargedMemory::FailFrom(0, 0);
  outcome.failed = calls.failed();
  return outcome;
}

}  // namespace sentry::testing
