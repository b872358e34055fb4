// Stub: the host processes behind an AddressSpace: a helper, and the guest threads.
#ifndef PLATFORM_SYSTRAP_STUB_H_
#define PLATFORM_SYSTRAP_STUB_H_

#include <sched.h>

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/errno.h"
#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "platform/host_op.h"
#include "platform/platform.h"
#include "platform/systrap/guest_thread.h"
#include "platform/systrap/helper.h"
#include "platform/systrap/slot_file.h"

namespace platform::systrap {

class SystrapPlatform;

// Children of the sentry (CLONE_PARENT), which reaps them; no signal tells it of their end (the zygote has none, and
// CLONE_PARENT passes that on). They share the sentry's descriptors, for mmap, until a guest thread closes its copies.
inline constexpr uint64_t kProcessCloneFlags = CLONE_FILES | CLONE_PARENT;
// A process of its own, so that a fatal signal of one guest thread ends nobody else.
inline constexpr uint64_t kThreadCloneFlags = CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_PARENT;

// What of a stub can be used again for another address space: a helper without guest mappings and threads.
struct Shell {
  std::unique_ptr<Helper> helper;
  uint32_t area = 0;
};

// Sets what the next process that a helper clones inherits: the descriptor by which it finds its slot, that of the
// index in the area.
HostOp DescriptorOp(SlotFile& slots, uint32_t area, uint32_t index);

class Stub final : public base::RefCounted {
 public:
  Stub(SystrapPlatform& platform, Shell shell);
  ~Stub() override;

  // Parks. See Helper::Execute. The first batch makes the first guest thread as well.
  Helper::Outcome Execute(std::span<const HostOp> ops) EXCLUDES(mu_);
  // A thread without owner: a spare one, or a new one. Parks. EAGAIN, ENOMEM; ESRCH if the stub is dead.
  base::Result<base::RefPtr<GuestThread>> TakeThread() EXCLUDES(mu_);
  // Takes back a thread at rest whose owner has left it.
  void GiveThread(base::RefPtr<GuestThread> thread) EXCLUDES(mu_);
  // Whether `thread` is the only one that it has, alive, and no other has left anything.
  bool HasNoThreadBut(const GuestThread& thread) const EXCLUDES(mu_);
  // For a new program: unmaps what the guest had mapped and makes `ops`, in one round trip. No context has a thread of
  // it meanwhile but the one that asks. See Helper::Execute, but `done` counts ops alone.
  Helper::Outcome Renew(std::span<const HostOp> ops) EXCLUDES(mu_);
  // Ends all guest threads; their contexts complete with kDead. Then unmaps what the guest had mapped and returns what
  // is to be used again, if `reuse` asks for it; or kills the helper.
  std::optional<Shell> End(bool reuse) EXCLUDES(mu_);
  bool ended() const EXCLUDES(mu_);

  // See AddressSpace.
  void AddFutexWaiters(uint64_t address, int n) EXCLUDES(futex_mu_);
  // Whether guest threads may wait on the host for a futex with the address's hash: their claim.
  bool HasFutexWaiters(uint64_t address) const;
  void MoveFutexWaiters(uint64_t to, int n);
  // False if the helper has died: the address space is lost then.
  bool IsAlive() EXCLUDES(mu_);
  // How often the address space was changed: each time is an interrupt for every CPU on which one of its threads runs.
  uint32_t changes() const { return changes_.load(std::memory_order_relaxed); }
  // For tests, which play the host's killer.
  pid_t helper_pid() EXCLUDES(mu_) {
    base::MutexLock lock(mu_);
    return ended_ ? -1 : helper_->pid();
  }

 private:
  static constexpr size_t kSpareThreads = 8;
  struct Place {
    uint32_t area, index;
    uint64_t slot_address;
  };
  // A thread that is to be made, and the operations that make it.
  struct Newborn {
    Place place;
    HostOp ops[2];
    size_t count = 0;
  };
  static uint32_t NumberOf(const Place& place);
  // With use_ held.
  base::Result<Place> TakePlace() EXCLUDES(mu_);
  base::Result<Newborn> Conceive() EXCLUDES(mu_);
  base::Result<base::RefPtr<GuestThread>> Adopt(const Newborn& born, const Helper::Outcome& made) EXCLUDES(mu_);

  SystrapPlatform& platform_;
  std::vector<uint32_t> areas_;  // one per block; use_
  // Null after End(true), which takes it away with use_ held and ended_ set: used by whoever holds one of the locks and
  // has seen that ended_ is not.
  std::unique_ptr<Helper> helper_;
  Slot& first_;  // slot, for its Slot::waiters
  base::Mutex futex_mu_;
  std::vector<uint32_t> futex_areas_ GUARDED_BY(futex_mu_);  // as areas_
  int futex_waiters_[FUTEX_HASHES] GUARDED_BY(futex_mu_) = {};
  uint64_t futexes_ GUARDED_BY(futex_mu_) = 0;  // where there are some: what the state pages say
  base::FiberMutex use_;                        // one new thread or batch at a time
  std::atomic<uint32_t> changes_{0};
  mutable base::Mutex mu_;
  bool ended_ GUARDED_BY(mu_) = false;
  std::vector<base::RefPtr<GuestThread>> threads_ GUARDED_BY(mu_);
  std::vector<base::RefPtr<GuestThread>> spare_ GUARDED_BY(mu_);
  std::vector<uint32_t> free_ GUARDED_BY(mu_);  // slots of threads that have ended
  uint32_t used_ GUARDED_BY(mu_) = 0;           // slots that were ever used
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_STUB_H_
