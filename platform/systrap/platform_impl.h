// SystrapPlatform: what the parts of the platform share.
#ifndef PLATFORM_SYSTRAP_PLATFORM_IMPL_H_
#define PLATFORM_SYSTRAP_PLATFORM_IMPL_H_

#include <sched.h>
#include <signal.h>

#include <atomic>
#include <memory>
#include <vector>

#include "base/errno.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "platform/platform.h"
#include "platform/systrap/bell.h"
#include "platform/systrap/helper.h"
#include "platform/systrap/patched_files.h"
#include "platform/systrap/slot_file.h"
#include "platform/systrap/stub.h"
#include "platform/systrap/stub_filter.h"
#include "platform/systrap/systrap_platform.h"

namespace platform::systrap {

// To guest threads: ends what they are doing.
inline constexpr int kInterruptSignal = SIGSTKFLT;
// To executors: the scheduling tick. Its handler rings the executor's own bell.
inline constexpr int kTickSignal = SIGVTALRM;
// The slice of guest threads that make calls (guest_thread.cc).
inline constexpr int64_t kShortSliceNs = 200'000;
// The signals that guest threads have handlers for.
inline constexpr int kStubSignals[] = {SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, kInterruptSignal};
// What a bell hears besides the numbers of slots.
inline constexpr uint32_t kTickId = ~uint32_t{0}, kNobodyId = ~uint32_t{0} - 1;

class SystrapPlatform final : public Platform {
 public:
  static base::Result<std::unique_ptr<SystrapPlatform>> Create(Options options);
  ~SystrapPlatform() override;

  std::string_view name() const override { return "systrap"; }
  base::Range GuestRange() const override { return {kGuestStart, kGuestEnd}; }
  base::Result<base::RefPtr<AddressSpace>> NewAddressSpace() override;
  base::Result<std::unique_ptr<Context>> NewContext() override;
  std::unique_ptr<base::IdleStrategy> NewIdleStrategy(int index) override;
  int RunningContexts() const override EXCLUDES(mu_);
  std::byte* clock_page() override { return slots_->clock_page(); }
  TextPatcher* text_patcher() override { return patched_files_.get(); }

  SlotFile& slots() { return *slots_; }
  AckPipes& acks() { return acks_; }
  const cpu_set_t& host_cpus() const { return host_cpus_; }
  int executor_nice() const { return executor_nice_; }
  int guest_nice() const { return guest_nice_; }
  // Of executors. Who yields goes behind the others by a slice, which is the shorter the higher its weight: executors
  // and guest threads that make calls take turns when their slices weigh the same.
  int64_t executor_slice_ns() const { return executor_slice_ns_; }
  // Whether guest threads can use runsc_systrap_entry.
  bool has_entry() const { return has_entry_; }

  // The bell of the executor that runs the caller.
  Bell& CurrentBell();
  // A bell without running guest threads for a new guest thread, if the current executor has some and another has none.
  Bell* IdleBell(const Bell& current) EXCLUDES(mu_);
  // The bell of an executor that sleeps, whose CPU the guest thread `borrower` of `bell` may use: null if there is
  // none, or when more runs than there are CPUs.
  Bell* Borrow(const Bell& bell, uint32_t borrower, base::MonotonicNs now) EXCLUDES(mu_);
  // More guest threads and executors want to run than there are CPUs.
  bool Crowded() const EXCLUDES(mu_);
  // How often a stub looks for its answer before it sleeps.
  uint32_t stub_spin() const { return stub_spin_; }
  // How many cycles it looks at the word of a futex before it waits there.
  uint32_t futex_look() const { return futex_look_; }
  void Register(Bell& bell, int index) EXCLUDES(mu_);
  void Unregister(Bell& bell) EXCLUDES(mu_);

  // Keeps it for the next address space if there is room, else ends it.
  void Pool(Shell shell) EXCLUDES(mu_);

 private:
  SystrapPlatform() = default;
  base::Result<void> MakePipes();
  base::Result<void> MakeZygote();
  // CPUs that are in use or lent.
  int BusyCpus(base::MonotonicNs now) const REQUIRES(mu_);
  base::Result<Shell> TakeShell() EXCLUDES(mu_);

  // Two: fork and exec take one each while the last ones are still being cleared.
  static constexpr size_t kPooledShells = 2;

  // Set by Create.
  std::unique_ptr<SlotFile> slots_;
  AckPipes acks_;
  std::vector<base::UniqueFd> write_ends_;
  StubDescriptors descriptors_;
  std::vector<base::UniqueFd> bell_reads_;
  base::UniqueFd text_, params_;
  std::unique_ptr<Helper> zygote_;
  uint32_t zygote_area_ = 0;
  cpu_set_t host_cpus_;
  int executor_nice_ = 0, guest_nice_ = 0;
  int64_t executor_slice_ns_ = 0;
  bool has_entry_ = false;
  uint32_t stub_spin_ = 0, futex_look_ = 0;
  bool may_spin_ = false;
  std::unique_ptr<PatchedFiles> patched_files_;  // null: no patching

  std::atomic<bool> zygote_has_descriptor_{false};
  mutable base::Mutex mu_;
  std::vector<Bell*> bells_ GUARDED_BY(mu_);  // by index; null: not attached
  std::vector<Shell> pool_ GUARDED_BY(mu_);
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_PLATFORM_IMPL_H_
