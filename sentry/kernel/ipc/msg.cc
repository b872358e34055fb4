#include "sentry/kernel/ipc/msg.h"

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

std::atomic<int64_t> g_bytes{0};  // in all queues, with what an entry costs

int64_t CostOf(const Message& message) { return static_cast<int64_t>(message.data.size()) + 64; }

void Uncharge(int64_t cost) {
  base::ChargedMemory::Uncharge(static_cast<size_t>(cost));
  g_bytes.fetch_sub(cost, std::memory_order_relaxed);
}

// False, and nothing charged, at the limit.
bool Charge(int64_t cost) {
  base::ChargedMemory::Charge(static_cast<size_t>(cost));
  if (g_bytes.fetch_add(cost, std::memory_order_relaxed) + cost <= MsgQueue::kMaxInSandbox) return true;
  Uncharge(cost);
  return false;
}

int64_t Seconds(Task& task) { return task.kernel().time().RealtimeNow() / 1'000'000'000; }

}  // namespace

MsgQueue::~MsgQueue() {
  for (const Message& message : messages_) Uncharge(CostOf(message));
}

Result<void> MsgQueue::Send(Task& task, Message message, bool nowait) {
  const uint64_t size = message.data.size();
  TRY(base::ChargedMemory::Admit());
  std::list<Message> node;  // made without the lock
  node.push_back(std::move(message));
  Result<void> done;
  auto attempt = [&]() -> bool {
    base::MutexLock lock(mu_);
    done = {};
    if (removed_) {
      done = Errno(EIDRM);
      return true;
    }
    if (bytes_ + size > max_bytes_ || messages_.size() + 1 > max_bytes_) return false;
    const int64_t cost = CostOf(node.front());
    if (!Charge(cost)) {
      done = Errno(ENOMEM);
      return true;
    }
    messages_.splice(messages_.end(), node);
    bytes_ += size;
    send_pid_ = task.thread_group().pid();
    send_time_ = Seconds(task);
    return true;
  };
  if (!attempt()) {
    if (nowait) return Errno(EAGAIN);
    if (!task.BlockUntil(changed_, base::kEventAll, attempt).ok()) return Errno(base::ERESTARTNOHAND_);
  }
  TRY(done);
  changed_.Notify(base::kEventIn);
  return {};
}

std::list<Message>::iterator MsgQueue::FindLocked(int64_t type, int flags) {
  if (flags & kCopy) {
    if (type < 0 || static_cast<uint64_t>(type) >= messages_.size()) return messages_.end();
    return std::next(messages_.begin(), type);
  }
  if (type == 0) return messages_.begin();
  if (type > 0) {
    const bool except = flags & kExcept;
    return std::find_if(messages_.begin(), messages_.end(),
                        [&](const Message& m) { return (m.type == type) != except; });
  }
  // The lowest type up to |type|, the first of those.
  const int64_t limit = type == INT64_MIN ? INT64_MAX : -type;
  auto best = messages_.end();
  for (auto it = messages_.begin(); it != messages_.end(); ++it) {
    if (it->type <= limit && (best == messages_.end() || it->type < best->type)) best = it;
  }
  return best;
}

Result<Message> MsgQueue::Receive(Task& task, int64_t type, uint64_t max, int flags) {
  std::list<Message> taken;
  Result<void> done;
  auto attempt = [&]() -> bool {
    base::MutexLock lock(mu_);
    done = {};
    if (removed_) {
      done = Errno(EIDRM);
      return true;
    }
    auto it = FindLocked(type, flags);
    if (it == messages_.end()) return false;
    if (it->data.size() > max && !(flags & kNoError)) {
      done = Errno(E2BIG);
      return true;
    }
    if (flags & kCopy) {
      taken.push_back(*it);
      return true;
    }
    bytes_ -= it->data.size();
    Uncharge(CostOf(*it));
    taken.splice(taken.end(), messages_, it);
    receive_pid_ = task.thread_group().pid();
    receive_time_ = Seconds(task);
    return true;
  };
  if (!attempt()) {
    if (flags & kIpcNoWait) return Errno(ENOMSG);
    if (!task.BlockUntil(changed_, base::kEventAll, attempt).ok()) return Errno(base::ERESTARTNOHAND_);
  }
  TRY(done);
  if (!(flags & kCopy)) changed_.Notify(base::kEventOut);
  Message message = std::move(taken.front());
  if (message.data.size() > max) message.data.resize(max);
  return message;
}

void MsgQueue::Removed() {
  {
    base::MutexLock lock(mu_);
    removed_ = true;
  }
  changed_.Notify(base::kEventIn);
}

void MsgQueue::Set(uint64_t max_bytes, int64_t now) {
  {
    base::MutexLock lock(mu_);
    max_bytes_ = max_bytes;
    change_time_ = now;
  }
  changed_.Notify(base::kEventOut);
}

uint64_t MsgQueue::max_bytes() const {
  base::MutexLock lock(mu_);
  return max_bytes_;
}

MsqidDs MsgQueue::Stat() const {
  MsqidDs ds{};
  ds.perm = perm.ToGuest();
  base::MutexLock lock(mu_);
  ds.stime = send_time_;
  ds.rtime = receive_time_;
  ds.ctime = change_time_;
  ds.cbytes = bytes_;
  ds.qnum = messages_.size();
  ds.qbytes = max_bytes_;
  ds.lspid = send_pid_;
  ds.lrpid = receive_pid_;
  return ds;
}

}  // namespace sentry
