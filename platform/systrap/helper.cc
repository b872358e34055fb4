#include "platform/systrap/helper.h"

#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "base/executor.h"
#include "base/fiber.h"
#include "base/syscall_unsafe.h"
#include "base/time.h"
#include "base/worker_pool.h"

namespace platform::systrap {
namespace {

// A batch that may take long: blocking workers wait for it, not an executor.
constexpr uint64_t kLongPopulate = 4 << 20;
constexpr int64_t kLivenessCheckNs = 100'000'000;

}  // namespace

void AckPipes::Add(Pipe pipe) {
  base::MutexLock lock(mu_);
  all_.push_back(std::make_unique<Pipe>(std::move(pipe)));
  free_.push_back(all_.back().get());
}

AckPipes::Pipe* AckPipes::Take() {
  base::MutexLock lock(mu_);
  if (free_.empty()) return nullptr;
  Pipe* pipe = free_.back();
  free_.pop_back();
  return pipe;
}

void AckPipes::Give(Pipe* pipe) {
  base::MutexLock lock(mu_);
  free_.push_back(pipe);
}

Helper::~Helper() { Kill(); }

void Helper::Kill() {
  if (dead_.exchange(true, std::memory_order_acq_rel)) return;
  (void)base::Host(SYS_kill, pid_, SIGKILL);
  (void)base::HostRetry(SYS_wait4, pid_, nullptr, __WALL, nullptr);
}

bool Helper::IsAlive() {
  if (dead()) return false;
  siginfo_t info = {};
  auto asked = base::Host(SYS_waitid, P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr);
  if (asked.ok() && info.si_pid != pid_) return true;
  Kill();
  return false;
}

Helper::Outcome Helper::Execute(std::span<const HostOp> ops) {
  base::FiberMutexLock lock(lock_);
  Outcome outcome;
  if (dead()) {
    outcome.error = ESRCH;
    return outcome;
  }
  AckPipes::Pipe* pipe = acks_.Take();
  // One for each executor and each blocking worker.
  while (pipe == nullptr) {
    base::Fiber::Yield();
    pipe = acks_.Take();
  }
  bool is_long = false;
  for (const HostOp& op : ops) {
    if (op.nr == SYS_mmap && (op.args[3] & MAP_POPULATE) != 0 && op.args[1] >= kLongPopulate) is_long = true;
  }
  base::Executor* executor = base::Executor::Current();
  if (is_long && executor != nullptr) {
    executor->scheduler().workers().Run([&] { Run(ops, *pipe, outcome); });
  } else {
    FollowCpu();
    Run(ops, *pipe, outcome);
  }
  if (dead()) {
    // What it may have said before it died is for nobody.
    uint8_t bytes[8];
    pollfd poll = {pipe->read.get(), POLLIN, 0};
    timespec now = {};
    for (;;) {
      auto ready = base::Host(SYS_ppoll, &poll, 1, &now, nullptr, 8);
      if (!ready.ok() || *ready != 1) break;
      (void)base::Host(SYS_read, pipe->read.get(), bytes, sizeof(bytes));
    }
  }
  acks_.Give(pipe);
  return outcome;
}

void Helper::FollowCpu() {
  base::Executor* executor = base::Executor::Current();
  const int cpu = executor ? executor->cpu() : -1;
  if (cpu < 0 || cpu == cpu_ || cpu >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  (void)base::Host(SYS_sched_setaffinity, pid_, sizeof(set), &set);
  cpu_ = cpu;
}

class Helper::Answer {
 public:
  Answer(Helper& helper, AckPipes::Pipe& pipe) : helper_(helper), pipe_(pipe) {}
  // −1: the helper is dead.
  int Next() {
    while (at_ == count_) {
      // On one CPU the helper, whose slices are short, has run by now, and its answer is there.
      auto n = base::Host(SYS_read, pipe_.read.get(), bytes_, sizeof(bytes_));
      if (n.ok()) {
        at_ = 0;
        count_ = static_cast<size_t>(*n);
        continue;
      }
      if (helper_.dead()) return -1;
      pollfd poll = {pipe_.read.get(), POLLIN, 0};
      timespec limit = {0, kLivenessCheckNs};
      auto ready = base::Host(SYS_ppoll, &poll, 1, &limit, nullptr, 8);
      if (!(ready.ok() && *ready == 1) && !helper_.IsAlive()) return -1;
    }
    return bytes_[at_++];
  }

 private:
  Helper& helper_;
  AckPipes::Pipe& pipe_;
  uint8_t bytes_[8];
  size_t at_ = 0, count_ = 0;
};

void Helper::Run(std::span<const HostOp> ops, AckPipes::Pipe& pipe, Outcome& outcome) {
  while (outcome.done < ops.size()) {
    const size_t n = std::min(ops.size() - outcome.done, CommandPages::kOps);
    memcpy(static_cast<void*>(commands_.ops), ops.data() + outcome.done, n * sizeof(HostOp));
    commands_.count = n;
    commands_.ack_fd = static_cast<uint64_t>(pipe.write);
    commands_.sequence.store(++sequence_, std::memory_order_seq_cst);
    // All: guest threads can sleep on the word too.
    (void)base::Host(SYS_futex, &commands_.sequence, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    Answer answer(*this, pipe);
    const int status = answer.Next();
    if (status < 0) {
      outcome.error = ESRCH;
      return;
    }
    if (status > 0) {
      outcome.done += std::min<size_t>(static_cast<size_t>(status) - 1, n - 1);
      outcome.error = answer.Next();
      if (outcome.error <= 0) outcome.error = ESRCH;
      return;
    }
    const auto kind = ops[outcome.done + n - 1].kind;
    if (kind == OP_IS_CALL || kind == OP_IS_DESCRIPTOR) {
      outcome.done += n;
      continue;
    }
    // A number of a process has 22 bits at most (PID_MAX_LIMIT), and so has one of woken threads.
    uint32_t pid = 0;
    for (int i = 0; i < 3; ++i) {
      const int byte = answer.Next();
      if (byte < 0) {
        outcome.error = ESRCH;
        return;
      }
      pid |= static_cast<uint32_t>(byte) << (8 * i);
    }
    outcome.cloned = static_cast<pid_t>(pid);
    outcome.done += n;
  }
}

}  // namespace platform::systrap
