#include "platform/ptrace/ptrace_platform.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>

#include "base/syscall_unsafe.h"
#include "platform/ptrace/address_space.h"
#include "platform/ptrace/context.h"
#include "platform/ptrace/platform_impl.h"
#include "platform/ptrace/tracer.h"

extern "C" {
void runsc_kick_handler(int, siginfo_t*, void*);
void runsc_kick_restorer();
}

namespace platform::ptrace {
namespace {

struct KernelSigaction {
  void (*handler)(int, siginfo_t*, void*);
  uint64_t flags;
  void (*restorer)();
  uint64_t mask;
};

// Not through libc: a sanitizer would wrap the handler and defer it until the wait is over.
base::Result<void> InstallHandlers() {
  constexpr uint64_t kRestorer = 0x04000000;
  // SA_RESTART: only the wait of runsc_wait4 has to end, which the handler sees to.
  KernelSigaction kick = {runsc_kick_handler, SA_SIGINFO | SA_RESTART | SA_ONSTACK | kRestorer, runsc_kick_restorer, 0};
  TRY(base::Host(SYS_rt_sigaction, kKickSignal, &kick, nullptr, 8));
  // Every stop of a tracee would send a SIGCHLD; with SA_NOCLDSTOP the host does not even try.
  KernelSigaction old = {};
  TRY(base::Host(SYS_rt_sigaction, SIGCHLD, nullptr, &old, 8));
  old.flags |= SA_NOCLDSTOP;
  TRY(base::Host(SYS_rt_sigaction, SIGCHLD, &old, nullptr, 8));
  return {};
}

}  // namespace

base::Result<std::unique_ptr<Platform>> New(Options options) {
  std::unique_ptr<PtracePlatform> platform = TRY(PtracePlatform::Create(options));
  return std::unique_ptr<Platform>(std::move(platform));
}

base::Result<std::unique_ptr<PtracePlatform>> PtracePlatform::Create(Options options) {
  std::unique_ptr<PtracePlatform> platform(new PtracePlatform());
  TRY(InstallHandlers());
  platform->commands_ = TRY(CommandFile::Create());
  CPU_ZERO(&platform->host_cpus_);
  TRY(base::Host(SYS_sched_getaffinity, 0, sizeof(cpu_set_t), &platform->host_cpus_));
  // The raw call returns 20 − nice (man 2 getpriority).
  long priority = TRY(base::Host(SYS_getpriority, PRIO_PROCESS, 0));
  platform->guest_nice_ = std::min<int>(19, 20 - static_cast<int>(priority) + options.guest_nice);
  FirstZygote zygote = TRY(MakeFirstZygote(*platform->commands_));
  base::MutexLock lock(platform->mu_);
  platform->first_ = std::move(zygote);
  return platform;
}

PtracePlatform::~PtracePlatform() {
  base::MutexLock lock(mu_);
  for (Tracer* t : tracers_) CHECK(t == nullptr);  // the scheduler has to be gone
  if (!first_) return;
  (void)base::Host(SYS_kill, first_->pid, SIGKILL);
  (void)base::HostRetry(SYS_wait4, first_->pid, nullptr, __WALL, nullptr);
}

void PtracePlatform::Register(Tracer& tracer, int index) {
  base::MutexLock lock(mu_);
  if (tracers_.size() <= static_cast<size_t>(index)) tracers_.resize(index + 1);
  tracers_[index] = &tracer;
}

void PtracePlatform::Unregister(Tracer& tracer) {
  base::MutexLock lock(mu_);
  std::replace(tracers_.begin(), tracers_.end(), &tracer, static_cast<Tracer*>(nullptr));
}

std::unique_ptr<base::IdleStrategy> PtracePlatform::NewIdleStrategy(int index) {
  return std::make_unique<Tracer>(*this, index);
}

int PtracePlatform::RunningContexts() const {
  base::MutexLock lock(mu_);
  int n = 0;
  for (Tracer* t : tracers_) n += t ? t->running() : 0;
  return n;
}

// The creator's executor keeps its children near, for a shell that waits for them. When another guest runs there (the
// creator itself does not: it is in a system call) and some executor has none, the new address space goes to that one
// (make -j, a pipeline).
Tracer& PtracePlatform::ChooseHome() {
  base::Executor* current = base::Executor::Current();
  CHECK(current != nullptr);
  base::MutexLock lock(mu_);
  Tracer* home = tracers_.at(current->index());
  CHECK(home != nullptr);
  if (home->running() == 0) return *home;
  for (Tracer* t : tracers_) {
    if (t && t->running() == 0) return *t;
  }
  return *home;
}

base::Result<pid_t> PtracePlatform::TakeSleepingZygote() {
  Tracer* giver = nullptr;
  std::optional<FirstZygote> first;
  {
    base::MutexLock lock(mu_);
    first = std::exchange(first_, std::nullopt);
    for (Tracer* t : tracers_) {
      if (t && t->has_zygote()) giver = t;
    }
  }
  if (first) {
    TRY(WaitForFirstZygote(*first, *commands_));
    return first->pid;
  }
  if (!giver) return base::Errno(EIO);
  uint32_t page = TRY(commands_->Take());
  giver->Enter();
  base::Result<pid_t> pid = giver->zygote()->Spawn(Zygote::Child::kZygote, *commands_, page);
  // A zygote's own page is replaced in each of its children before they are born; nobody uses it.
  commands_->Give(page);
  return pid;
}

base::Result<base::RefPtr<AddressSpace>> PtracePlatform::NewAddressSpace() {
  Tracer& home = ChooseHome();
  home.Enter();
  Stub* stub = TRY(home.TakeStub());
  return base::RefPtr<AddressSpace>(base::MakeRef<PtraceAddressSpace>(home, base::RefPtr<Stub>::Adopt(stub)));
}

base::Result<std::unique_ptr<Context>> PtracePlatform::NewContext() {
  return std::unique_ptr<Context>(std::make_unique<PtraceContext>());
}

}  // namespace platform::ptrace
