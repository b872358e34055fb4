// System V semaphores. (man 2 semget, semop, semctl; ipc/sem.c)
#ifndef SENTRY_KERNEL_IPC_SEM_H_
#define SENTRY_KERNEL_IPC_SEM_H_

#include <list>
#include <span>
#include <vector>

#include "base/time.h"
#include "base/wait_queue.h"
#include "sentry/kernel/ipc/ipc_ids.h"

namespace sentry {

class Task;

struct SemBuf {  // struct sembuf
  uint16_t number;
  int16_t op;
  int16_t flags;
};
static_assert(sizeof(SemBuf) == 6);

struct SemidDs {  // struct semid64_ds of amd64
  IpcPerm64 perm;
  int64_t otime;
  uint64_t unused1;
  int64_t ctime;
  uint64_t unused2;
  uint64_t nsems;
  uint64_t unused3[2];
};
static_assert(sizeof(SemidDs) == 104);

class SemSet final : public base::RefCounted {
 public:
  static constexpr int kMaxSets = 32000, kMaxPerSet = 32000, kMaxOps = 500, kMaxValue = 32767;  // semmni, semmsl, …
  static constexpr int16_t kUndo = 0x1000;                                                      // SEM_UNDO
  // Differs from Linux: the sandbox as a whole, as they are memory of the sentry's.
  static constexpr int64_t kMaxInSandbox = 1 << 20;
  // ENOSPC.
  static Result<RefPtr<SemSet>> Create(int32_t key, uint32_t mode, const Credentials& creds, int count, int64_t now);

  IpcPerm perm;  // IpcIds::mu
  size_t count() const { return count_; }

  // All operations at once, waiting until that is possible. EAGAIN, EFBIG, ERANGE, EIDRM, EINTR.
  Result<void> Operate(Task& task, std::span<const SemBuf> ops, base::MonotonicNs deadline);
  // A task's accumulated undo is applied at its end.
  void Undo(std::span<const int16_t> adjustments, int pid);
  void Removed();  // wakes who waits

  Result<int> Value(size_t number) const;
  Result<int> LastPid(size_t number) const;
  Result<int> Waiters(size_t number, bool for_zero) const;
  std::vector<uint16_t> Values() const;
  // Both make everybody's undo of these semaphores void.
  Result<void> SetValue(size_t number, int value, int pid, int64_t now);
  Result<void> SetValues(std::span<const uint16_t> values, int pid, int64_t now);
  void SetChangeTime(int64_t now);
  SemidDs Stat() const;  // IpcIds::mu

 private:
  friend class SemUndoList;
  template <typename T, typename... A>
  friend RefPtr<T> base::MakeRef(A&&...);
  SemSet(int32_t key, uint32_t mode, const Credentials& creds, int count, int64_t now);
  ~SemSet() override;
  using ResetTimes = std::vector<uint64_t, base::ChargedAllocator<uint64_t>>;
  struct Sem {
    int value = 0;
    int pid = 0;
  };
  struct Waiter {
    size_t number;
    bool for_zero;
  };
  // False: not now; *blocker says on what it would wait.
  Result<bool> TryLocked(std::span<const SemBuf> ops, int pid, int64_t now, Waiter* blocker, std::vector<int16_t>* undo)
      REQUIRES(mu_);
  const size_t count_;
  mutable base::Mutex mu_;  // after IpcIds::mu, before SemUndoList::mu_
  std::vector<Sem, base::ChargedAllocator<Sem>> sems_ GUARDED_BY(mu_);
  std::list<Waiter*> waiters_ GUARDED_BY(mu_);
  uint64_t resets_ GUARDED_BY(mu_) = 0;  // SETALL so far
  ResetTimes reset_at_ GUARDED_BY(mu_);
  std::atomic<bool> removed_{false};  // written under mu_
  int64_t operation_time_ GUARDED_BY(mu_) = 0, change_time_ GUARDED_BY(mu_);
  base::WaitQueue changed_;
};

// What has to be undone at the end of the tasks that share it (CLONE_SYSVSEM).
class SemUndoList final : public base::RefCounted {
 public:
  void AddUser() { users_.fetch_add(1, std::memory_order_relaxed); }
  // The last one applies it. No lock held.
  void DropUser(int pid);

 private:
  friend class SemSet;
  struct Entry {
    RefPtr<SemSet> set;
    std::vector<int16_t> adjustments;
    SemSet::ResetTimes seen_resets;  // of each semaphore, when its adjustment began
  };
  std::atomic<int> users_{1};
  base::Mutex mu_;
  std::list<Entry> entries_ GUARDED_BY(mu_);
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_IPC_SEM_H_
