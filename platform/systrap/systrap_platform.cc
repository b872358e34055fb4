#include "platform/systrap/systrap_platform.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/executor.h"
#include "base/syscall_unsafe.h"
#include "platform/systrap/address_space.h"
#include "platform/systrap/context.h"
#include "platform/systrap/entry.h"
#include "platform/systrap/platform_impl.h"
#include "platform/systrap/stub.h"
#include "platform/systrap/zygote.h"

namespace platform::systrap {
namespace {

struct KernelSigaction {
  void (*handler)(int, siginfo_t*, void*);
  uint64_t flags;
  void (*restorer)();
  uint64_t mask;
};

extern "C" void runsc_systrap_tick_restorer();
// Returns from the handler of the tick; libc's own is not reachable by name.
asm(R"(
  .text
  .globl runsc_systrap_tick_restorer
  .type runsc_systrap_tick_restorer, @function
runsc_systrap_tick_restorer:
  mov $15, %eax
  syscall
)");

// A ring at the executor's own bell: a tick that comes before the executor waits is not lost.
__attribute__((no_sanitize("address"), no_sanitize("thread"))) void OnTickSignal(int, siginfo_t* info, void*) {
  uint32_t id = kTickId;
  (void)base::RawSyscall(SYS_write, info->si_value.sival_int, reinterpret_cast<long>(&id), sizeof(id));
}

// Not through libc: a sanitizer would wrap the handler and defer it until the wait is over.
base::Result<void> InstallTickHandler() {
  constexpr uint64_t kRestorer = 0x04000000;
  KernelSigaction tick = {OnTickSignal, SA_SIGINFO | SA_RESTART | SA_ONSTACK | kRestorer, runsc_systrap_tick_restorer,
                          0};
  TRY(base::Host(SYS_rt_sigaction, kTickSignal, &tick, nullptr, 8));
  return {};
}

constexpr uint32_t kMinBells = 8, kMaxBells = 256, kWorkers = 8;
constexpr int kDescriptorsAtStart = 1024;
// Guest thread and executor together use two CPUs while they spin.
constexpr double kSpinsFrom = 2;
constexpr base::MonotonicNs kStubSpinNs = 60'000;
constexpr base::MonotonicNs kFutexLookNs = 50'000, kCalibrationNs = 5'000;
constexpr uint64_t kMinCycles = 1'000, kMaxCycles = 1'000'000;

// A stub has no clock: how often it looks in so much time.
uint32_t LooksIn(base::MonotonicNs duration) {
  constexpr int kTried = 256;
  const base::MonotonicNs start = base::MonotonicNow();
  for (int i = 0; i < kTried; ++i) __builtin_ia32_pause();
  const base::MonotonicNs took = std::max<base::MonotonicNs>(base::MonotonicNow() - start, kTried);
  return static_cast<uint32_t>(std::clamp<base::MonotonicNs>(duration * kTried / took, 100, 20'000));
}

// Of the processor's counter, about.
uint32_t CyclesIn(base::MonotonicNs duration) {
  const base::MonotonicNs start = base::MonotonicNow();
  const uint64_t before = __builtin_ia32_rdtsc();
  base::MonotonicNs took;
  do took = base::MonotonicNow() - start;
  while (took < kCalibrationNs);
  const uint64_t cycles = __builtin_ia32_rdtsc() - before;
  return static_cast<uint32_t>(std::clamp<uint64_t>(duration * cycles / took, kMinCycles, kMaxCycles));
}

// The first of so many unused descriptor numbers in a row. As low as possible: a guest thread copies those below before
// it closes them.
int FreeDescriptors(int count) {
  int first = 3;
  for (int fd = first; fd < first + count; ++fd) {
    if (base::Host(SYS_fcntl, fd, F_GETFD).ok()) first = fd + 1;
  }
  return first;
}

}  // namespace

base::Result<std::unique_ptr<Platform>> New(Options options) {
  std::unique_ptr<SystrapPlatform> platform = TRY(SystrapPlatform::Create(options));
  return std::unique_ptr<Platform>(std::move(platform));
}

base::Result<std::unique_ptr<SystrapPlatform>> SystrapPlatform::Create(Options options) {
  constexpr unsigned long kFsgsbase = 2;  // HWCAP2_FSGSBASE
  if (!(getauxval(AT_HWCAP2) & kFsgsbase)) return base::Errno(ENOTSUP);
  if (FrameLayout(kSlotWindow).frame < 2 * FrameLayout::kWordsEnd) return base::Errno(ENOTSUP);
  std::unique_ptr<SystrapPlatform> platform(new SystrapPlatform());
  TRY(InstallTickHandler());
  CPU_ZERO(&platform->host_cpus_);
  TRY(base::Host(SYS_sched_getaffinity, 0, sizeof(cpu_set_t), &platform->host_cpus_));
  // The raw call returns 20 − nice (man 2 getpriority).
  long priority = TRY(base::Host(SYS_getpriority, PRIO_PROCESS, 0));
  platform->may_spin_ =
      CPU_COUNT(&platform->host_cpus_) > 1 && (options.cpu_limit == 0 || options.cpu_limit >= kSpinsFrom);
  if (platform->may_spin_) {
    platform->stub_spin_ = LooksIn(kStubSpinNs);
    platform->futex_look_ = CyclesIn(kFutexLookNs);
  }
  platform->executor_nice_ = 20 - static_cast<int>(priority);
  platform->guest_nice_ = std::min(19, platform->executor_nice_ + options.guest_nice);
  platform->executor_slice_ns_ = kShortSliceNs;
  for (int nice = platform->executor_nice_; nice < platform->guest_nice_; ++nice) {
    platform->executor_slice_ns_ = platform->executor_slice_ns_ * 5 / 4;  // a nice level (man 7 sched)
  }
  platform->has_entry_ = HostHasEntry();
  if (options.patching && platform->has_entry_) {
    platform->patched_files_ = TRY(PatchedFiles::Create(StubAddress(runsc_systrap_entry), {}));
  }
  platform->slots_ = TRY(SlotFile::Create());
  TRY(platform->MakePipes());
  TRY(platform->MakeZygote());
  return platform;
}

base::Result<void> SystrapPlatform::MakePipes() {
  const uint32_t cpus = static_cast<uint32_t>(CPU_COUNT(&host_cpus_));
  const uint32_t bells = std::clamp(cpus, kMinBells, kMaxBells);
  const uint32_t acks = bells + kWorkers;
  const int count = static_cast<int>(bells + acks);
  // A table of descriptors that several processes share waits for a grace period of RCU, some 15 ms, when it grows
  // (expand_fdtable, fs/file.c): it gets its size while it is ours alone.
  if (auto high = base::Host(SYS_fcntl, slots_->fd(), F_DUPFD_CLOEXEC, kDescriptorsAtStart - 1); high.ok()) {
    base::UniqueFd close(static_cast<int>(*high));
  }
  // The write ends get numbers in a row: what the filters allow.
  const int base = FreeDescriptors(count);
  std::vector<base::UniqueFd> reads;
  for (int i = 0; i < count; ++i) {
    int ends[2];
    TRY(base::Host(SYS_pipe2, ends, O_CLOEXEC));
    base::UniqueFd read(ends[0]), write(ends[1]);
    // Guests must not be able to block on a bell; the sentry asks for an answer before it waits for one.
    TRY(base::Host(SYS_fcntl, i < static_cast<int>(bells) ? write.get() : read.get(), F_SETFL, O_NONBLOCK));
    // The pipe itself may have got numbers of the row: out of the way.
    reads.emplace_back(static_cast<int>(TRY(base::Host(SYS_fcntl, read.get(), F_DUPFD_CLOEXEC, base + count))));
    base::UniqueFd high(static_cast<int>(TRY(base::Host(SYS_fcntl, write.get(), F_DUPFD_CLOEXEC, base + count))));
    read.reset();
    write.reset();
    write_ends_.emplace_back(static_cast<int>(TRY(base::Host(SYS_dup3, high.get(), base + i, O_CLOEXEC))));
  }
  const uint32_t first = static_cast<uint32_t>(write_ends_.front().get());
  descriptors_ = {first, first + bells, first + bells, first + bells + acks};
  for (uint32_t i = 0; i < bells; ++i) bell_reads_.push_back(std::move(reads[i]));
  for (uint32_t i = 0; i < acks; ++i) {
    acks_.Add({std::move(reads[bells + i]), static_cast<int>(descriptors_.first_ack + i)});
  }
  return {};
}

base::Result<void> SystrapPlatform::MakeZygote() {
  const uint32_t area = TRY(slots_->Take());
  const pid_t pid = TRY(CloneZygote(descriptors_, *slots_, text_, params_));
  zygote_ = std::make_unique<Helper>(pid, slots_->commands(area), acks_);
  zygote_area_ = area;
  slots_->state(area, 0).descriptor = {.limit = 0};
  return {};
}

SystrapPlatform::~SystrapPlatform() {
  base::MutexLock lock(mu_);
  for (Bell* bell : bells_) CHECK(bell == nullptr);  // the scheduler has to be gone
  pool_.clear();
}

Bell& SystrapPlatform::CurrentBell() {
  base::Executor* executor = base::Executor::Current();
  CHECK(executor != nullptr);
  return static_cast<Bell&>(executor->idle());
}

Bell* SystrapPlatform::IdleBell(const Bell& current) {
  if (current.running() == 0) return nullptr;
  const base::MonotonicNs now = base::MonotonicNow();
  base::MutexLock lock(mu_);
  Bell* lent = nullptr;
  for (Bell* bell : bells_) {
    if (bell == nullptr || bell->running() != 0) continue;
    if (!bell->lends(now)) return bell;
    lent = bell;
  }
  return lent;
}

int SystrapPlatform::BusyCpus(base::MonotonicNs now) const {
  int n = 0;
  for (Bell* bell : bells_) {
    if (bell == nullptr) continue;
    n += std::max(bell->running(), bell->asleep() ? 0 : 1) + (bell->lends(now) ? 1 : 0);
  }
  return n;
}

Bell* SystrapPlatform::Borrow(const Bell& bell, uint32_t borrower, base::MonotonicNs now) {
  if (!may_spin_) return nullptr;
  base::MutexLock lock(mu_);
  if (BusyCpus(now) >= CPU_COUNT(&host_cpus_)) return nullptr;
  for (Bell* other : bells_) {
    if (other != nullptr && other != &bell && other->Lend(borrower, now)) return other;
  }
  return nullptr;
}

bool SystrapPlatform::Crowded() const {
  const base::MonotonicNs now = base::MonotonicNow();
  base::MutexLock lock(mu_);
  return BusyCpus(now) > CPU_COUNT(&host_cpus_);
}

void SystrapPlatform::Register(Bell& bell, int index) {
  base::MutexLock lock(mu_);
  if (bells_.size() <= static_cast<size_t>(index)) bells_.resize(index + 1);
  bells_[index] = &bell;
}

void SystrapPlatform::Unregister(Bell& bell) {
  base::MutexLock lock(mu_);
  std::replace(bells_.begin(), bells_.end(), &bell, static_cast<Bell*>(nullptr));
}

std::unique_ptr<base::IdleStrategy> SystrapPlatform::NewIdleStrategy(int index) {
  CHECK(static_cast<size_t>(index) < bell_reads_.size());
  return std::make_unique<Bell>(*this, index, bell_reads_[index].get(), write_ends_[index].get());
}

int SystrapPlatform::RunningContexts() const {
  base::MutexLock lock(mu_);
  int n = 0;
  for (Bell* bell : bells_) n += bell ? bell->running() : 0;
  return n;
}

base::Result<Shell> SystrapPlatform::TakeShell() {
  {
    base::MutexLock lock(mu_);
    if (!pool_.empty()) {
      Shell shell = std::move(pool_.back());
      pool_.pop_back();
      return shell;
    }
  }
  const uint32_t area = TRY(slots_->Take());
  const HostOp ops[] = {
      DescriptorOp(*slots_, zygote_area_, 0),
      {SYS_clone, {kProcessCloneFlags, static_cast<uint64_t>(slots_->fd()), SlotFile::Offset(area)}, OP_IS_PROCESS}};
  // All helpers inherit the descriptor of the first slot.
  const bool has_descriptor = !has_entry_ || zygote_has_descriptor_.load(std::memory_order_relaxed);
  const Helper::Outcome made = zygote_->Execute(std::span(ops).subspan(has_descriptor ? 1 : 0));
  if (made.cloned == 0) {
    slots_->Give(area);
    return base::Errno(made.error == ESRCH ? EIO : made.error);
  }
  auto helper = std::make_unique<Helper>(made.cloned, slots_->commands(area), acks_);
  if (has_entry_) {
    zygote_has_descriptor_.store(true, std::memory_order_relaxed);
    helper->set_slot_descriptor(0);
  }
  return Shell{std::move(helper), area};
}

base::Result<base::RefPtr<AddressSpace>> SystrapPlatform::NewAddressSpace() {
  auto stub = base::MakeRef<Stub>(*this, TRY(TakeShell()));
  return base::RefPtr<AddressSpace>(base::MakeRef<SystrapAddressSpace>(*this, std::move(stub)));
}

void SystrapPlatform::Pool(Shell shell) {
  {
    base::MutexLock lock(mu_);
    if (pool_.size() < kPooledShells) {
      pool_.push_back(std::move(shell));
      return;
    }
  }
  shell.helper.reset();
  slots_->Give(shell.area);
}

base::Result<std::unique_ptr<Context>> SystrapPlatform::NewContext() {
  return std::unique_ptr<Context>(std::make_unique<SystrapContext>(*this));
}

}  // namespace platform::systrap
