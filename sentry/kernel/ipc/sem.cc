#include "sentry/kernel/ipc/sem.h"

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

std::atomic<int64_t> g_semaphores{0};  // in all sets

}  // namespace

Result<RefPtr<SemSet>> SemSet::Create(int32_t key, uint32_t mode, const Credentials& creds, int count, int64_t now) {
  if (g_semaphores.load(std::memory_order_relaxed) + count > kMaxInSandbox) return Errno(ENOSPC);
  return base::TryMakeRef<SemSet>(key, mode, creds, count, now);
}

SemSet::SemSet(int32_t key, uint32_t mode, const Credentials& creds, int count, int64_t now)
    : perm(key, mode, creds), count_(static_cast<size_t>(count)), sems_(count_), reset_at_(count_), change_time_(now) {
  g_semaphores.fetch_add(count, std::memory_order_relaxed);
}

SemSet::~SemSet() { g_semaphores.fetch_sub(static_cast<int64_t>(count_), std::memory_order_relaxed); }

// perform_atomic_semop: in order, and back if one of them cannot be done.
Result<bool> SemSet::TryLocked(std::span<const SemBuf> ops, int pid, int64_t now, Waiter* blocker,
                               std::vector<int16_t>* undo) {
  size_t done = 0;
  bool possible = true;
  int error = 0;
  for (; done < ops.size(); ++done) {
    const SemBuf& op = ops[done];
    int& value = sems_[op.number].value;
    if ((op.op == 0 && value != 0) || value + op.op < 0) {
      *blocker = {op.number, op.op == 0};
      possible = false;
      if (op.flags & kIpcNoWait) error = EAGAIN;
      break;
    }
    if (value + op.op > kMaxValue) {
      error = ERANGE;
      break;
    }
    if (op.flags & kUndo) {
      const int adjusted = (*undo)[op.number] - op.op;
      if (adjusted < -kMaxValue - 1 || adjusted > kMaxValue) {
        error = ERANGE;
        break;
      }
      (*undo)[op.number] = static_cast<int16_t>(adjusted);
    }
    value += op.op;
  }
  if (possible && error == 0) {
    for (const SemBuf& op : ops) sems_[op.number].pid = pid;
    operation_time_ = now;
    return true;
  }
  while (done-- > 0) {
    sems_[ops[done].number].value -= ops[done].op;
    if (ops[done].flags & kUndo) {
      (*undo)[ops[done].number] = static_cast<int16_t>((*undo)[ops[done].number] + ops[done].op);
    }
  }
  if (error != 0) return Errno(error);
  return false;
}

Result<void> SemSet::Operate(Task& task, std::span<const SemBuf> ops, base::MonotonicNs deadline) {
  bool undoes = false, changes = false;
  for (const SemBuf& op : ops) {
    if (op.number >= count_) return Errno(EFBIG);
    if (op.flags & kUndo) undoes = true;
    if (op.op != 0) changes = true;
  }
  if (undoes && !task.sem_undo) task.sem_undo = TRY(base::TryMakeRef<SemUndoList>());
  const int pid = task.thread_group().pid();
  Waiter waiter{};
  Result<bool> done = false;
  std::list<SemUndoList::Entry> garbage;  // dropped without locks
  auto attempt = [&]() -> bool {
    const int64_t now = task.kernel().time().RealtimeNow() / 1'000'000'000;
    base::MutexLock lock(mu_);
    if (removed_) {
      done = Errno(EIDRM);
      return true;
    }
    std::vector<int16_t> none;
    if (!undoes) {
      done = TryLocked(ops, pid, now, &waiter, &none);
    } else {
      SemUndoList& list = *task.sem_undo;
      base::MutexLock undo_lock(list.mu_);
      auto it = std::find_if(list.entries_.begin(), list.entries_.end(), [&](auto& e) { return e.set.get() == this; });
      if (it == list.entries_.end()) {
        // What is for sets that are gone is of no use any more.
        for (auto old = list.entries_.begin(); old != list.entries_.end();) {
          auto next = std::next(old);
          if (old->set->removed_) garbage.splice(garbage.end(), list.entries_, old);
          old = next;
        }
        it = list.entries_.insert(list.entries_.end(), {RefPtr<SemSet>(this), std::vector<int16_t>(count_), reset_at_});
      }
      for (size_t i = 0; i < count_; ++i) {
        // SETVAL and SETALL have come since.
        if (it->seen_resets[i] != reset_at_[i]) it->adjustments[i] = 0;
        it->seen_resets[i] = reset_at_[i];
      }
      done = TryLocked(ops, pid, now, &waiter, &it->adjustments);
    }
    return !done.ok() || *done;
  };
  if (!attempt()) {
    {
      base::MutexLock lock(mu_);
      waiters_.push_back(&waiter);
    }
    Result<void> waited = task.BlockUntil(changed_, base::kEventAll, attempt, deadline);
    {
      base::MutexLock lock(mu_);
      waiters_.remove(&waiter);
    }
    if (waited.failed_with(ETIMEDOUT)) return Errno(EAGAIN);
    if (!waited.ok()) return Errno(EINTR);  // never restarted (man 7 signal)
  }
  if (!done.ok()) return done.error();
  if (changes) changed_.Notify(base::kEventIn);
  return {};
}

void SemSet::Undo(std::span<const int16_t> adjustments, int pid) {
  {
    base::MutexLock lock(mu_);
    if (removed_) return;
    for (size_t i = 0; i < count_; ++i) {
      if (adjustments[i] == 0) continue;
      sems_[i].value = std::clamp(sems_[i].value + adjustments[i], 0, kMaxValue);
      sems_[i].pid = pid;
    }
  }
  changed_.Notify(base::kEventIn);
}

void SemSet::Removed() {
  {
    base::MutexLock lock(mu_);
    removed_ = true;
  }
  changed_.Notify(base::kEventIn);
}

Result<int> SemSet::Value(size_t number) const {
  base::MutexLock lock(mu_);
  if (number >= count_) return Errno(EINVAL);
  return sems_[number].value;
}

Result<int> SemSet::LastPid(size_t number) const {
  base::MutexLock lock(mu_);
  if (number >= count_) return Errno(EINVAL);
  return sems_[number].pid;
}

Result<int> SemSet::Waiters(size_t number, bool for_zero) const {
  base::MutexLock lock(mu_);
  if (number >= count_) return Errno(EINVAL);
  return static_cast<int>(std::count_if(waiters_.begin(), waiters_.end(), [&](const Waiter* w) {
    return w->number == number && w->for_zero == for_zero;
  }));
}

std::vector<uint16_t> SemSet::Values() const {
  std::vector<uint16_t> values(count_);
  base::MutexLock lock(mu_);
  for (size_t i = 0; i < count_; ++i) values[i] = static_cast<uint16_t>(sems_[i].value);
  return values;
}

Result<void> SemSet::SetValue(size_t number, int value, int pid, int64_t now) {
  if (number >= count_) return Errno(EINVAL);
  if (value < 0 || value > kMaxValue) return Errno(ERANGE);
  {
    base::MutexLock lock(mu_);
    sems_[number] = {value, pid};
    reset_at_[number] = ++resets_;
    change_time_ = now;
  }
  changed_.Notify(base::kEventIn);
  return {};
}

Result<void> SemSet::SetValues(std::span<const uint16_t> values, int pid, int64_t now) {
  for (uint16_t value : values) {
    if (value > kMaxValue) return Errno(ERANGE);
  }
  {
    base::MutexLock lock(mu_);
    ++resets_;
    for (size_t i = 0; i < count_; ++i) {
      sems_[i] = {values[i], pid};
      reset_at_[i] = resets_;
    }
    change_time_ = now;
  }
  changed_.Notify(base::kEventIn);
  return {};
}

void SemSet::SetChangeTime(int64_t now) {
  base::MutexLock lock(mu_);
  change_time_ = now;
}

SemidDs SemSet::Stat() const {
  SemidDs ds{};
  ds.perm = perm.ToGuest();
  ds.nsems = count_;
  base::MutexLock lock(mu_);
  ds.otime = operation_time_;
  ds.ctime = change_time_;
  return ds;
}

void SemUndoList::DropUser(int pid) {
  if (users_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  std::list<Entry> entries;
  {
    base::MutexLock lock(mu_);
    entries.swap(entries_);
  }
  for (Entry& entry : entries) {
    {
      base::MutexLock lock(entry.set->mu_);
      for (size_t i = 0; i < entry.adjustments.size(); ++i) {
        if (entry.seen_resets[i] != entry.set->reset_at_[i]) entry.adjustments[i] = 0;
      }
    }
    entry.set->Undo(entry.adjustments, pid);
  }
}

}  // namespace sentry
