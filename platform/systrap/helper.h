// Helper: the sentry's side of a process that makes host calls in an address space (stub_text.S: `helper`). The zygote
// is one too.
#ifndef PLATFORM_SYSTRAP_HELPER_H_
#define PLATFORM_SYSTRAP_HELPER_H_

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "base/errno.h"
#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "platform/host_op.h"
#include "platform/systrap/stub_layout.h"

namespace platform::systrap {

// The pipes through which helpers answer. One is taken for each batch, so that whoever reads an answer knows whose it
// is: guest threads cannot write to them.
class AckPipes {
 public:
  struct Pipe {
    base::UniqueFd read;
    int write = -1;  // the number in stubs as well
  };
  // Takes ownership of nothing but the read ends.
  void Add(Pipe pipe) EXCLUDES(mu_);
  // Waits for nobody: null when all are in use.
  Pipe* Take() EXCLUDES(mu_);
  void Give(Pipe* pipe) EXCLUDES(mu_);

 private:
  base::Mutex mu_;
  std::vector<std::unique_ptr<Pipe>> all_ GUARDED_BY(mu_);
  std::vector<Pipe*> free_ GUARDED_BY(mu_);
};

class Helper {
 public:
  Helper(pid_t pid, CommandPages& commands, AckPipes& acks) : pid_(pid), commands_(commands), acks_(acks) {}
  // Kills and reaps it.
  ~Helper();

  struct Outcome {
    size_t done = 0;   // operations that succeeded; all if the batch did
    int error = 0;     // of the first that did not; ESRCH if the helper is dead
    pid_t cloned = 0;  // or, of OP_IS_VALUE, one more than the result
  };
  // Makes the calls until one fails, one round trip for each CommandPages::kOps of them. An operation that clones comes
  // last. Waits for a batch in progress (parks) and then blocks the calling host thread, for microseconds unless the
  // operations say otherwise: those go to a blocking worker.
  Outcome Execute(std::span<const HostOp> ops) EXCLUDES(lock_);

  pid_t pid() const { return pid_; }
  // The CPU it is bound to and what it clones starts on; −1: none. Between batches, like the next ones.
  int cpu() const { return cpu_; }
  // The number of the slot that what it clones finds (stub_layout.h: SlotDescriptor), as far as it is known.
  static constexpr uint32_t kNoDescriptor = ~uint32_t{0};
  uint32_t slot_descriptor() const { return slot_descriptor_; }
  void set_slot_descriptor(uint32_t number) { slot_descriptor_ = number; }
  bool dead() const { return dead_.load(std::memory_order_acquire); }
  // Asks the host.
  bool IsAlive();
  // Ends it. Batches fail from now on. Any thread, once it is certain that no batch is under way or that it may fail.
  void Kill();

 private:
  void Run(std::span<const HostOp> ops, AckPipes::Pipe& pipe, Outcome& outcome);
  // The answer to a batch, byte by byte.
  class Answer;
  void FollowCpu();

  const pid_t pid_;
  CommandPages& commands_;
  AckPipes& acks_;
  base::FiberMutex lock_;                     // one batch at a time
  uint32_t sequence_ = 0;                     // lock_
  int cpu_ = -1;                              // lock_: the one it is bound to
  uint32_t slot_descriptor_ = kNoDescriptor;  // its user's
  std::atomic<bool> dead_{false};
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_HELPER_H_
