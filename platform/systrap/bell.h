// Bell: how an executor waits on this platform, and the guest threads that it serves at the moment. Guest threads ring
// by writing the number of their slot to a pipe; they have its write end only and cannot take a ring away from others.
//
// Everything but Wake, running(), asleep() and what is about leases is for the executor's thread only, from fibers
// (which hold it: base::ThreadHold) and between them.
//
// An executor that waits spins if all its guest threads are on CPUs of their own (GuestThread::Place::kApart), for as
// long as a wake-up would cost; the stubs of these do not ring. Before it sleeps it takes that back (`polled` in the
// state page), and then looks at their slots once more.
//
// One whose guest threads are all on its own CPU yields that to them before it sleeps, while that pays (yield_meter.h);
// their stubs do the same.
#ifndef PLATFORM_SYSTRAP_BELL_H_
#define PLATFORM_SYSTRAP_BELL_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/executor.h"
#include "base/time.h"
#include "platform/systrap/yield_meter.h"

namespace platform::systrap {

class GuestThread;
class SystrapPlatform;

class Bell final : public base::IdleStrategy {
 public:
  // `read_fd` is the reader's end of the pipe, `write_fd` the other, by the number that stubs know.
  Bell(SystrapPlatform& platform, int index, int read_fd, int write_fd)
      : platform_(platform), index_(index), read_fd_(read_fd), write_fd_(write_fd) {}
  ~Bell() override;

  // base::IdleStrategy
  void Attach(base::Executor& executor) override;
  // Nothing of the host's is bound to the thread but the tick. What fibers do here they do in a base::ThreadHold.
  bool MayMove() const override { return true; }
  bool HasWork() const override { return running() != 0; }
  void Poll() override;
  void Wait() override;
  void Wake() override;

  SystrapPlatform& platform() { return platform_; }
  base::Executor& executor() { return *executor_; }
  int index() const { return index_; }
  int write_fd() const { return write_fd_; }
  int cpu() const { return cpu_; }
  // Whether guest threads are bound to the executor's CPU and set free: there is more than one to choose from.
  bool binds() const { return binds_; }

  // Guest threads that run guest code for a context that this executor started.
  void Add(GuestThread& thread, base::MonotonicNs now);
  void Remove(GuestThread& thread);
  int running() const { return running_count_.load(std::memory_order_relaxed); }

  // Nobody had to make room for it lately.
  bool may_spin(base::MonotonicNs now) const { return binds_ && now >= no_spin_until_; }

  // Whether the executor yields its CPU to guest threads that are there, and they to it.
  bool yields(base::MonotonicNs now) const { return cpu_ >= 0 && yield_meter_.Pays(now); }

  // ---- The CPU of an executor that sleeps is lent to a guest thread of another one. The lease ends when the executor
  // starts a guest thread itself, and when it has not been used for a while.
  bool asleep() const { return word_.load(std::memory_order_relaxed) == kWaiting; }
  bool lends(base::MonotonicNs now) const;
  bool Lend(uint32_t borrower, base::MonotonicNs now);
  // Whether the borrower still has it, who uses it.
  bool LendsTo(uint32_t borrower, base::MonotonicNs now);
  void TakeBack(uint32_t borrower);

 private:
  struct Entry {
    uint32_t id;
    GuestThread* thread;
  };
  void Scan();
  void Heard(const uint32_t* ids, size_t count);
  void ArmTimer(int64_t period_ns);
  void Tick();
  // Looks whether it was woken, or a guest thread has posted an event, which it takes then.
  bool HasCome();
  bool MaySpin() const;
  // True: something has come.
  bool Spin();
  bool MayYield(base::MonotonicNs now) const;
  // The same. `exact`: that is what time it is, not what it was a while ago.
  bool Yield(base::MonotonicNs now, bool exact);
  bool Unpoll();

  SystrapPlatform& platform_;
  const int index_;
  const int read_fd_, write_fd_;
  base::Executor* executor_ = nullptr;  // set in Attach, as the next three
  int cpu_ = -1;
  bool binds_ = false;
  pid_t host_tid_ = 0;

  static constexpr uint32_t kAwake = 0, kWoken = 1, kWaiting = 2;  // kWaiting: or is about to
  std::atomic<uint32_t> word_{kAwake};
  std::vector<Entry> running_;
  std::atomic<int> running_count_{0};
  base::MonotonicNs no_spin_until_ = 0;
  base::MonotonicNs pause_ns_ = 0;  // that ends then
  YieldMeter yield_meter_;
  base::MonotonicNs added_ = 0;  // when it started one, and has not waited since
  bool exactly_ = false;         // the last yield took long: the next is to be timed exactly

  static constexpr uint32_t kNobody = ~uint32_t{0};
  std::atomic<uint32_t> borrower_{kNobody};
  std::atomic<base::MonotonicNs> lease_used_{0};

  int timer_ = 0;  // the host's id of a POSIX timer
  bool have_timer_ = false;
  int64_t period_ns_ = 0;  // 0: not armed
  int ticks_ = 0;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_BELL_H_
