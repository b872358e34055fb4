#include "platform/ptrace/zygote.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <iterator>

#include "base/syscall_unsafe.h"
#include "base/time.h"
#include "platform/forked_child_unsafe.h"
#include "platform/ptrace/ptrace_calls.h"
#include "platform/ptrace/tracer.h"
#include "platform/ptrace/xstate.h"

namespace platform::ptrace {
namespace {

// The filter of every stub. No guest thread gets as far as a filter (PTRACE_SYSEMU comes first), so this is for the day
// on which something else is broken: a helper's calls and no others. The calls that the vsyscall page stands for (man 2
// vsyscalls: the host emulates them without a system call, and asks the filter) come as SIGSYS and are the guest's
// system calls.
constexpr sock_filter kFilter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 10, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 9, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 8, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 7, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 6, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pause, 5, 0),  // a sleeping zygote
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 4, 0),  // PDEATHSIG of a sleeping zygote
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettimeofday, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_time, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getcpu, 0, 2),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};
static_assert(std::size(kFilter) == 17);

// The zygote's life before it has lost the sentry's memory (forked_child_unsafe.h).
[[noreturn]] __attribute__((no_sanitize("address"), no_sanitize("thread"))) void ZygoteMain(pid_t parent, int text_fd,
                                                                                            int command_fd) {
  using base::RawSyscall;
  LeaveSentry(parent);
  // Out of the reach of a terminal's signals.
  RawSyscall(SYS_setsid);
  // Ours may be 0 after a change of credentials, and nobody could trace it then.
  RawSyscall(SYS_prctl, PR_SET_DUMPABLE, 1);
  // Handlers and masks of the sentry mean nothing here. Layout of the kernel's struct sigaction: all zero is the
  // default.
  uint64_t action[4] = {};
  for (int sig = 1; sig <= 64; ++sig) RawSyscall(SYS_rt_sigaction, sig, reinterpret_cast<long>(action), 0, 8);
  uint64_t mask = 0;
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&mask), 0, 8);
  RawSyscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1);
  sock_fprog program = {std::size(kFilter), const_cast<sock_filter*>(kFilter)};
  if (RawSyscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, reinterpret_cast<long>(&program)) < 0)
    RawSyscall(SYS_exit_group, 3);
  runsc_stub_enter(text_fd, command_fd);
}

}  // namespace

base::Result<std::unique_ptr<CommandFile>> CommandFile::Create() {
  std::unique_ptr<CommandFile> file(new CommandFile());
  file->fd_ = TRY(MakeMemfd("runsc-commands", /*executable=*/false, nullptr, 0));
  const uint64_t bytes = uint64_t{kPages} * kStubPage;
  TRY(base::Host(SYS_ftruncate, file->fd(), bytes));
  long at =
      TRY(base::Host(SYS_mmap, nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->fd(), 0));
  file->pages_ = reinterpret_cast<CommandPage*>(at);
  return file;
}

CommandFile::~CommandFile() {
  if (pages_) (void)base::Host(SYS_munmap, pages_, uint64_t{kPages} * kStubPage);
}

base::Result<uint32_t> CommandFile::Take() {
  base::MutexLock lock(mu_);
  if (!free_.empty()) {
    uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }
  if (used_ == kPages) return base::Errno(ENOMEM);
  return used_++;
}

void CommandFile::Give(uint32_t index) {
  base::MutexLock lock(mu_);
  free_.push_back(index);
}

base::Result<FirstZygote> MakeFirstZygote(CommandFile& commands) {
  FirstZygote zygote;
  const size_t bytes = runsc_stub_text_end - runsc_stub_text_begin;
  CHECK(bytes == kStubPage);
  zygote.text = TRY(MakeMemfd("runsc-stub", /*executable=*/true, runsc_stub_text_begin, bytes));

  // CLONE_FILES: descriptors that the sentry opens later (the memory file, files donated by the gofer) are valid in
  // stubs. No exit signal: nobody is told but who waits.
  const long parent = base::RawSyscall(SYS_getpid);
  long pid = base::RawSyscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0);
  if (pid == 0) ZygoteMain(static_cast<pid_t>(parent), zygote.text.get(), commands.fd());
  if (pid < 0) return base::Errno(static_cast<int>(-pid));
  zygote.pid = static_cast<pid_t>(pid);
  // A filter around us that knows no ptrace says so here; a host that allows none, when the zygote is adopted.
  uint64_t word;
  if (long r = PeekWord(zygote.pid, 0, word); r != -ESRCH) {
    (void)base::Host(SYS_kill, pid, SIGKILL);
    (void)base::HostRetry(SYS_wait4, pid, nullptr, __WALL, nullptr);
    return base::Errno(EPERM);
  }
  return zygote;
}

base::Result<void> WaitForFirstZygote(const FirstZygote& zygote, CommandFile& commands) {
  std::atomic_ref<uint64_t> ready(commands.page(CommandFile::kFirstZygotesPage).count);
  base::MonotonicNs pause = 20'000;
  while (ready.load(std::memory_order_acquire) == 0) {
    siginfo_t info = {};
    (void)base::Host(SYS_waitid, P_PID, zygote.pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr);
    if (info.si_pid == zygote.pid) {
      (void)base::HostRetry(SYS_wait4, zygote.pid, nullptr, __WALL, nullptr);
      return base::Errno(EIO);
    }
    (void)base::Fiber::ParkUntil(base::MonotonicNow() + pause);
    pause = std::min<base::MonotonicNs>(2 * pause, 5'000'000);
  }
  return {};
}

void Event::Wait() {
  bool other_permit = false;
  waiter_ = base::RefPtr<base::Fiber>(base::Fiber::Current());
  while (!set_) {
    base::Fiber::Park();
    if (!set_) other_permit = true;
  }
  if (other_permit) waiter_->Unpark();
  waiter_.reset();
}

void Event::Set() {
  set_ = true;
  if (waiter_) waiter_->Unpark();
}

struct Zygote::Impl final : public Tracee {
  Impl(Tracer& t, pid_t p) : tracer(t), pid(p) {}
  ~Impl() {
    if (dead) return;
    tracer.Remove(pid);
    (void)base::Host(SYS_kill, pid, SIGKILL);
    (void)base::HostRetry(SYS_wait4, pid, nullptr, __WALL, nullptr);
  }

  void OnStatus(int status) override {
    if (!WIFSTOPPED(status)) {
      dead = true;
    } else if (!expected(status)) {
      if (busy) (void)Continue(pid, Resume::kHost);  // a signal from outside: not for us
      return;
    }
    if (busy) Done();
  }
  // Its first stop is the one that PTRACE_INTERRUPT made, later ones are the int3 of runsc_stub_spawn.
  bool expected(int status) const {
    int event = status >> 16;
    return seized ? event == 0 && WSTOPSIG(status) == SIGTRAP : event == PTRACE_EVENT_STOP;
  }
  void Begin() {
    busy = true;
    stopped = Event();
    tracer.BeginActive();
  }
  void Done() {
    busy = false;
    tracer.EndActive();
    stopped.Set();
  }

  Tracer& tracer;
  const pid_t pid;
  base::FiberMutex lock;
  bool dead = false, seized = false, busy = false;
  Event stopped;
};

Zygote::Zygote(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Zygote::~Zygote() = default;

pid_t Zygote::pid() const { return impl_->pid; }
bool Zygote::dead() const { return impl_->dead; }

base::Result<std::unique_ptr<Zygote>> Zygote::Adopt(Tracer& tracer, pid_t pid) {
  auto impl = std::make_unique<Impl>(tracer, pid);
  if (long r = Seize(pid); r < 0) return base::Errno(static_cast<int>(-r));
  tracer.Add(pid, *impl);
  impl->Begin();
  (void)InterruptTracee(pid);
  impl->stopped.Wait();
  if (impl->dead) return base::Errno(EIO);
  impl->seized = true;
  // Stubs inherit the state of a new program, and the CPU.
  XStateBuffer state;
  state.SetInitial();
  if (long r = SetXState(pid, state.data(), state.size()); r < 0) return base::Errno(static_cast<int>(-r));
  if (tracer.binds()) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(tracer.cpu(), &cpus);
    (void)base::Host(SYS_sched_setaffinity, pid, sizeof(cpus), &cpus);
  }
  return std::unique_ptr<Zygote>(new Zygote(std::move(impl)));
}

base::Result<pid_t> Zygote::Spawn(Child child, const CommandFile& file, uint32_t index) {
  base::FiberMutexLock lock(impl_->lock);
  if (impl_->dead) return base::Errno(EIO);
  Registers regs{};
  if (long r = GetRegisters(impl_->pid, regs); r < 0) return base::Errno(static_cast<int>(-r));
  Registers call{};
  call.cs = regs.cs;
  call.ss = regs.ss;
  call.rflags = 0x202;
  call.orig_rax = ~uint64_t{0};
  call.rip = StubAddress(runsc_stub_spawn);
  call.rax = SYS_mmap;
  call.rdi = kStubCommand;
  call.rsi = kStubPage;
  call.rdx = PROT_READ;
  call.r10 = MAP_SHARED | MAP_FIXED;
  call.r8 = static_cast<uint64_t>(file.fd());
  call.r9 = uint64_t{index} * kStubPage;
  // CLONE_PARENT: children of the sentry, so that the tracer reaps them at once, not of a zygote that never waits.
  call.rbx = CLONE_FILES | CLONE_PARENT | (child == Child::kStub ? CLONE_PTRACE : 0);
  if (long r = SetRegisters(impl_->pid, call); r < 0) return base::Errno(static_cast<int>(-r));
  impl_->Begin();
  (void)Continue(impl_->pid, Resume::kHost);  // it fails only if the zygote dies, and that comes as a status
  impl_->stopped.Wait();
  if (impl_->dead) return base::Errno(EIO);
  if (long r = GetRegisters(impl_->pid, regs); r < 0) return base::Errno(static_cast<int>(-r));
  long result = static_cast<long>(regs.rax);
  if (result < 0) return base::Errno(static_cast<int>(-result));
  return static_cast<pid_t>(result);
}

}  // namespace platform::ptrace
