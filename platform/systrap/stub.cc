#include "platform/systrap/stub.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/executor.h"
#include "base/syscall_unsafe.h"
#include "platform/systrap/entry.h"
#include "platform/systrap/platform_impl.h"

namespace platform::systrap {
namespace {

constexpr HostOp kUnmapGuest = {SYS_munmap, {0, kGuestEnd}, OP_IS_CALL};

uint32_t NumberOf(uint64_t slot_address) { return static_cast<uint32_t>((slot_address - kSlotWindow) / kSlotBytes); }

}  // namespace

HostOp DescriptorOp(SlotFile& slots, uint32_t area, uint32_t index) {
  return {offsetof(ThreadState, descriptor) + index * sizeof(ThreadState),
          {0, kStateBlockBytes, PROT_READ, MAP_SHARED | MAP_32BIT, static_cast<uint64_t>(slots.fd()),
           SlotFile::StateOffset(area)},
          OP_IS_DESCRIPTOR};
}

uint32_t Stub::NumberOf(const Place& place) { return systrap::NumberOf(place.slot_address); }

Stub::Stub(SystrapPlatform& platform, Shell shell)
    : platform_(platform),
      areas_{shell.area},
      helper_(std::move(shell.helper)),
      first_(platform.slots().slot(shell.area, 0)),
      futex_areas_{shell.area} {}

Stub::~Stub() {
  (void)End(false);
  for (uint32_t area : areas_) platform_.slots().Give(area);
}

bool Stub::ended() const {
  base::MutexLock lock(mu_);
  return ended_;
}

base::Result<Stub::Place> Stub::TakePlace() {
  uint32_t number;
  {
    base::MutexLock lock(mu_);
    if (ended_) return base::Errno(ESRCH);
    if (!free_.empty()) {
      number = free_.back();
      free_.pop_back();
    } else {
      if (used_ == kMaxBlocks * kSlotsPerBlock) return base::Errno(EAGAIN);
      number = used_++;
    }
  }
  const uint32_t block = number / kSlotsPerBlock, index = number % kSlotsPerBlock;
  if (block == areas_.size()) {
    const uint32_t area = TRY(platform_.slots().Take());
    const uint64_t fd = static_cast<uint64_t>(platform_.slots().fd());
    HostOp ops[] = {{SYS_mmap,
                     {kStateWindow + block * kStateBlockBytes, kStateBlockBytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                      SlotFile::StateOffset(area)},
                     OP_IS_CALL},
                    {SYS_mmap,
                     {kSlotWindow + block * kBlockBytes, kBlockBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                      fd, SlotFile::SlotsOffset(area)},
                     OP_IS_CALL}};
    Helper::Outcome mapped = helper_->Execute(ops);
    if (mapped.done != std::size(ops)) {
      // The pages may be mapped: the area is lost to others until the stub ends.
      areas_.push_back(area);
      return base::Errno(mapped.error);
    }
    areas_.push_back(area);
    base::MutexLock lock(futex_mu_);
    futex_areas_.push_back(area);
    platform_.slots().state(area, 0).futexes.store(futexes_, std::memory_order_seq_cst);
  }
  return Place{areas_[block], index, kSlotWindow + uint64_t{number} * kSlotBytes};
}

base::Result<Stub::Newborn> Stub::Conceive() {
  Newborn born;
  born.place = TRY(TakePlace());
  const Place& place = born.place;
  SlotFile& slots = platform_.slots();
  ThreadState& state = slots.state(place.area, place.index);
  state.id = SlotFile::Id(place.area, place.index);
  const FrameLayout layout(place.slot_address);
  state.frame = place.slot_address + layout.frame;
  state.call_frame = place.slot_address + layout.call_frame;
  state.xstate = place.slot_address + layout.call_fpstate;
  state.features = XStateFeatures();
  state.polled.store(0, std::memory_order_relaxed);
  state.spin.store(0, std::memory_order_relaxed);
  state.look = platform_.futex_look();
  const uint32_t number = NumberOf(place);
  state.descriptor = {.limit = number};
  slots.slot(place.area, place.index).state.store(SLOT_IS_EVENT, std::memory_order_relaxed);
  if (platform_.has_entry() && helper_->slot_descriptor() != number) {
    born.ops[born.count++] = DescriptorOp(slots, place.area, place.index);
  }
  born.ops[born.count++] = {SYS_clone, {kThreadCloneFlags, place.slot_address}, OP_IS_THREAD};
  return born;
}

base::Result<base::RefPtr<GuestThread>> Stub::Adopt(const Newborn& born, const Helper::Outcome& made) {
  const Place& place = born.place;
  if (born.count > 1) helper_->set_slot_descriptor(made.cloned != 0 ? NumberOf(place) : Helper::kNoDescriptor);
  if (made.cloned == 0) {
    base::MutexLock lock(mu_);
    free_.push_back(NumberOf(place));
    return base::Errno(made.error);
  }
  SlotFile& slots = platform_.slots();
  ThreadState& state = slots.state(place.area, place.index);
  auto thread = base::MakeRef<GuestThread>(platform_, made.cloned, state.id, slots.slot(place.area, place.index), state,
                                           place.slot_address, helper_->cpu(), first_);
  bool late;
  {
    base::MutexLock lock(mu_);
    late = ended_;
    if (!late) threads_.push_back(thread);
  }
  if (late) {
    thread->Kill();
    return base::Errno(ESRCH);
  }
  return thread;
}

base::Result<base::RefPtr<GuestThread>> Stub::TakeThread() {
  {
    base::MutexLock lock(mu_);
    if (ended_) return base::Errno(ESRCH);
    if (!spare_.empty()) {
      base::RefPtr<GuestThread> thread = std::move(spare_.back());
      spare_.pop_back();
      return thread;
    }
  }
  base::FiberMutexLock use(use_);
  const Newborn born = TRY(Conceive());
  return Adopt(born, helper_->Execute({born.ops, born.count}));
}

void Stub::GiveThread(base::RefPtr<GuestThread> thread) {
  {
    base::MutexLock lock(mu_);
    if (ended_ || thread->dead()) return;
    if (spare_.size() < kSpareThreads) {
      spare_.push_back(std::move(thread));
      return;
    }
    threads_.erase(std::find(threads_.begin(), threads_.end(), thread));
  }
  thread->Kill();
  const uint32_t number = systrap::NumberOf(thread->slot_address());
  base::MutexLock lock(mu_);
  if (!ended_) free_.push_back(number);
}

void Stub::AddFutexWaiters(uint64_t address, int n) {
  const uint32_t hash = FutexHash(address);
  base::MutexLock lock(futex_mu_);
  futex_waiters_[hash] += n;
  const uint64_t bit = uint64_t{1} << hash;
  const uint64_t now = futex_waiters_[hash] != 0 ? futexes_ | bit : futexes_ & ~bit;
  if (now == futexes_) return;
  futexes_ = now;
  for (uint32_t area : futex_areas_) platform_.slots().state(area, 0).futexes.store(now, std::memory_order_seq_cst);
}

bool Stub::HasFutexWaiters(uint64_t address) const {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return first_.waiters[FutexHash(address)].load(std::memory_order_relaxed) != 0;
}

void Stub::MoveFutexWaiters(uint64_t to, int n) {
  // They still count, and will be taken back, where they began to wait; here for good.
  first_.waiters[FutexHash(to)].fetch_add(static_cast<uint32_t>(n), std::memory_order_relaxed);
}

Helper::Outcome Stub::Execute(std::span<const HostOp> ops) {
  base::FiberMutexLock use(use_);
  Helper::Outcome outcome;
  outcome.error = ESRCH;
  changes_.fetch_add(1, std::memory_order_relaxed);
  bool first;
  {
    base::MutexLock lock(mu_);
    if (ended_) return outcome;
    first = used_ == 0;
  }
  if (!first) return helper_->Execute(ops);
  // The first thread comes with the first changes, in one round trip. Whoever needs one finds it among the spare ones,
  // or finds none and sees why.
  auto born = Conceive();
  if (!born.ok()) return helper_->Execute(ops);
  std::vector<HostOp> all(ops.begin(), ops.end());
  all.insert(all.end(), born->ops, born->ops + born->count);
  outcome = helper_->Execute(all);
  auto thread = Adopt(*born, outcome);
  if (thread.ok()) {
    base::MutexLock lock(mu_);
    if (!ended_) spare_.push_back(std::move(*thread));
  }
  outcome.done = std::min(outcome.done, ops.size());
  return outcome;
}

bool Stub::HasNoThreadBut(const GuestThread& thread) const {
  base::MutexLock lock(mu_);
  return !ended_ && used_ == 1 && threads_.size() == 1 && threads_[0].get() == &thread && !thread.dead();
}

Helper::Outcome Stub::Renew(std::span<const HostOp> ops) {
  base::FiberMutexLock use(use_);
  Helper::Outcome outcome;
  outcome.error = ESRCH;
  changes_.fetch_add(1, std::memory_order_relaxed);
  {
    base::MutexLock lock(mu_);
    if (ended_) return outcome;
  }
  std::vector<HostOp> all;
  all.reserve(ops.size() + 1);
  all.push_back(kUnmapGuest);
  all.insert(all.end(), ops.begin(), ops.end());
  outcome = helper_->Execute(all);
  if (outcome.done == 0) {
    outcome.done = ~size_t{0};  // not even that: not to be taken for success without operations
    return outcome;
  }
  --outcome.done;
  // Nobody waits there any more.
  base::MutexLock lock(futex_mu_);
  std::fill(std::begin(futex_waiters_), std::end(futex_waiters_), 0);
  futexes_ = 0;
  for (uint32_t area : futex_areas_) platform_.slots().state(area, 0).futexes.store(0, std::memory_order_seq_cst);
  return outcome;
}

bool Stub::IsAlive() {
  base::MutexLock lock(mu_);
  return !ended_ && helper_->IsAlive();
}

std::optional<Shell> Stub::End(bool reuse) {
  std::vector<base::RefPtr<GuestThread>> threads;
  uint32_t used;
  {
    base::MutexLock lock(mu_);
    if (ended_) return std::nullopt;
    ended_ = true;
    threads = std::move(threads_);
    threads_.clear();
    spare_.clear();
    free_.clear();
    used = std::exchange(used_, 0);
  }
  // All of them first: they die side by side.
  if (threads.size() > 1) {
    for (auto& thread : threads) thread->SendKill();
  }
  for (auto& thread : threads) thread->Kill();
  if (!reuse) {
    helper_->Kill();
    return std::nullopt;
  }
  // A thread or a batch on its way is done before the helper goes to somebody else.
  base::FiberMutexLock use(use_);
  // One that had many threads is not worth keeping.
  if (helper_->dead() || used > kSlotsPerBlock || helper_->Execute({&kUnmapGuest, 1}).done != 1) {
    helper_->Kill();
    return std::nullopt;
  }
  {
    base::MutexLock lock(futex_mu_);
    platform_.slots().state(areas_[0], 0).futexes.store(0, std::memory_order_relaxed);
    futex_areas_.clear();
  }
  for (uint32_t i = 0; i < used; ++i) {
    memset(static_cast<void*>(&platform_.slots().slot(areas_[0], i)), 0, kSlotBytes);
  }
  Shell shell = {std::move(helper_), areas_[0]};
  areas_.clear();
  return shell;
}

}  // namespace platform::systrap
