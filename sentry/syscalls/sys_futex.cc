#include "sentry/syscalls/sys_futex.h"

#include <linux/futex.h>
#include <time.h>

#include "base/time.h"
#include "sentry/kernel/kernel.h"

namespace sentry {

namespace {

// A timeout as a deadline of the monotonic clock. Relative, or absolute in one of the two clocks.
Result<base::MonotonicNs> Deadline(const abi::Timespec& ts, bool absolute, bool realtime) {
  if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= 1'000'000'000) return Errno(EINVAL);
  int64_t ns;
  if (__builtin_mul_overflow(ts.tv_sec, int64_t{1'000'000'000}, &ns) || __builtin_add_overflow(ns, ts.tv_nsec, &ns)) {
    return base::kNever;
  }
  if (absolute && !realtime) return ns;
  if (absolute) ns -= base::HostClockNs(CLOCK_REALTIME);
  int64_t deadline;
  if (__builtin_add_overflow(base::MonotonicNow(), ns, &deadline)) return base::kNever;
  return deadline;
}

// FUTEX_WAIT with a relative timeout goes on until the same moment after a stop (man 2 futex, EINTR; restart_syscall).
Result<int64_t> WaitUntil(Task& task, Addr addr, bool private_futex, uint32_t value, uint32_t bitset,
                          base::MonotonicNs deadline) {
  Result<void> waited = task.kernel().futexes().Wait(task, addr, private_futex, value, bitset, deadline);
  if (waited.ok()) return 0;
  if (waited.failed_with(base::ERESTARTSYS_) && deadline != base::kNever) {
    task.SetRestartBlock([=](Task& t) { return WaitUntil(t, addr, private_futex, value, bitset, deadline); });
    return Errno(base::ERESTART_RESTARTBLOCK_);
  }
  return waited.error();
}

}  // namespace

Result<int> SysFutex(Task& task, uint64_t addr, int op, uint32_t value, uint64_t timeout_or_value2, uint64_t addr2,
                     uint32_t value3) {
  const int command = op & FUTEX_CMD_MASK;
  const bool private_futex = op & FUTEX_PRIVATE_FLAG;
  const bool realtime = op & FUTEX_CLOCK_REALTIME;
  if (realtime && command != FUTEX_WAIT && command != FUTEX_WAIT_BITSET && command != FUTEX_LOCK_PI2 &&
      command != FUTEX_WAIT_REQUEUE_PI) {
    return Errno(ENOSYS);
  }
  FutexManager& futexes = task.kernel().futexes();
  base::MonotonicNs deadline = base::kNever;
  const bool timed =
      command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET || command == FUTEX_LOCK_PI || command == FUTEX_LOCK_PI2;
  if (timed && timeout_or_value2 != 0) {
    abi::Timespec ts = TRY(task.mm().Read(UserPtr<abi::Timespec>{timeout_or_value2}));
    // FUTEX_LOCK_PI's clock is the realtime one whatever the flag says.
    deadline = TRY(Deadline(ts, command != FUTEX_WAIT, realtime || command == FUTEX_LOCK_PI));
  }
  const int value2 = static_cast<int>(timeout_or_value2);
  switch (command) {
    case FUTEX_WAIT:
      value3 = FUTEX_BITSET_MATCH_ANY;
      [[fallthrough]];
    case FUTEX_WAIT_BITSET:
      return static_cast<int>(TRY(WaitUntil(task, addr, private_futex, value, value3, deadline)));
    case FUTEX_WAKE:
      value3 = FUTEX_BITSET_MATCH_ANY;
      [[fallthrough]];
    case FUTEX_WAKE_BITSET:
      return futexes.Wake(task.mm(), addr, private_futex, value3,
                          static_cast<int>(value) <= 0 ? 1 : static_cast<int>(value));
    case FUTEX_REQUEUE:
      return futexes.Requeue(task, addr, addr2, private_futex, nullptr, static_cast<int>(value), value2);
    case FUTEX_CMP_REQUEUE:
      return futexes.Requeue(task, addr, addr2, private_futex, &value3, static_cast<int>(value), value2);
    case FUTEX_WAKE_OP:
      return futexes.WakeOp(task, addr, addr2, private_futex, static_cast<int>(value), value2, value3);
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      TRY(futexes.LockPi(task, addr, private_futex, deadline, /*try_only=*/false));
      return 0;
    case FUTEX_TRYLOCK_PI:
      TRY(futexes.LockPi(task, addr, private_futex, base::kNever, /*try_only=*/true));
      return 0;
    case FUTEX_UNLOCK_PI:
      TRY(futexes.UnlockPi(task, addr, private_futex));
      return 0;
    default:
      return Errno(ENOSYS);
  }
}

Result<int> SysFutexWaitv(Task& task, UserPtr<FutexWaitv> waiters, uint32_t count, uint32_t flags,
                          UserPtr<abi::Timespec> timeout, int clock) {
  constexpr uint32_t kFutex32 = 2;
  if (flags != 0 || count == 0 || count > FUTEX_WAITV_MAX || !waiters) return Errno(EINVAL);
  base::MonotonicNs deadline = base::kNever;
  if (timeout) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return Errno(EINVAL);
    abi::Timespec ts = TRY(task.mm().Read(timeout));
    deadline = TRY(Deadline(ts, /*absolute=*/true, clock == CLOCK_REALTIME));
  }
  std::vector<FutexWaitv> raw = TRY(task.mm().ReadArray(waiters, count));
  std::vector<FutexManager::WaitSpec> specs;
  for (const FutexWaitv& w : raw) {
    if ((w.flags & ~uint32_t{kFutex32 | FUTEX_PRIVATE_FLAG}) || !(w.flags & kFutex32) || w.reserved != 0)
      return Errno(EINVAL);
    if (w.value >> 32) return Errno(EINVAL);
    specs.push_back({w.uaddr, (w.flags & FUTEX_PRIVATE_FLAG) != 0, static_cast<uint32_t>(w.value)});
  }
  return task.kernel().futexes().WaitMultiple(task, specs, deadline);
}

Result<void> SysSetRobustList(Task& task, uint64_t head, uint64_t length) {
  if (length != 24) return Errno(EINVAL);  // sizeof(struct robust_list_head)
  task.robust_list_head = head;
  return {};
}

Result<void> SysGetRobustList(Task& task, int pid, UserPtr<uint64_t> head, UserPtr<uint64_t> length) {
  RefPtr<Task> target = pid == 0 ? RefPtr<Task>(&task) : task.kernel().FindTask(pid, task.pid_namespace());
  if (!target) return Errno(ESRCH);
  if (target.get() != &task && &target->thread_group() != &task.thread_group() && !task.Capable(CAP_SYS_PTRACE)) {
    return Errno(EPERM);
  }
  TRY(task.mm().Write(length, uint64_t{24}));
  return task.mm().Write(head, target->robust_list_head);
}

}  // namespace sentry
