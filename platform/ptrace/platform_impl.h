// The platform object behind ptrace::New.
#ifndef PLATFORM_PTRACE_PLATFORM_IMPL_H_
#define PLATFORM_PTRACE_PLATFORM_IMPL_H_

#include <sched.h>

#include <memory>
#include <optional>
#include <vector>

#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "platform/platform.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/ptrace/zygote.h"

namespace platform::ptrace {

class Tracer;

// The kick that ends a wait4 of an executor: a signal that nothing else uses, not a real-time one, which the host may
// refuse to queue.
inline constexpr int kKickSignal = 16;  // SIGSTKFLT
// What stops a running guest thread for Context::Interrupt: ignored by default, should it ever arrive where nobody
// traces.
inline constexpr int kInterruptSignal = 17;  // SIGCHLD

class PtracePlatform final : public Platform {
 public:
  static base::Result<std::unique_ptr<PtracePlatform>> Create(Options options);
  ~PtracePlatform() override;

  std::string_view name() const override { return "ptrace"; }
  base::Range GuestRange() const override { return {kGuestStart, kGuestEnd}; }
  base::Result<base::RefPtr<AddressSpace>> NewAddressSpace() override;
  base::Result<std::unique_ptr<Context>> NewContext() override;
  std::unique_ptr<base::IdleStrategy> NewIdleStrategy(int index) override;
  int RunningContexts() const override;

  CommandFile& commands() { return *commands_; }
  // The CPUs that the sandbox may use, as the host said at the start.
  const cpu_set_t& host_cpus() const { return host_cpus_; }
  int guest_nice() const { return guest_nice_; }

  // Held by the fiber that gets a zygote for its tracer.
  base::FiberMutex& adoption() { return adoption_; }
  // With adoption() held. An untraced zygote: the first one, or a new one from another tracer's. Parks, and may move
  // the fiber.
  base::Result<pid_t> TakeSleepingZygote();
  void Register(Tracer& tracer, int index);
  void Unregister(Tracer& tracer);

 private:
  PtracePlatform() = default;
  Tracer& ChooseHome();

  std::unique_ptr<CommandFile> commands_;
  cpu_set_t host_cpus_;
  int guest_nice_ = 0;
  base::FiberMutex adoption_;
  mutable base::Mutex mu_;
  std::optional<FirstZygote> first_ GUARDED_BY(mu_);  // until somebody takes it
  std::vector<Tracer*> tracers_ GUARDED_BY(mu_);      // by executor index
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_PLATFORM_IMPL_H_
