#include "sentry/kernel/ipc/mqueue.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>

#include <algorithm>
#include <atomic>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

std::atomic<uint64_t> g_next_id{1};
std::atomic<int64_t> g_bytes{0};  // in all queues, with what an entry costs
constexpr int64_t kEntryCost = 64;

constexpr base::EventMask kReadable = base::kEventIn | base::kEventRdNorm;
constexpr base::EventMask kWritable = base::kEventOut | base::kEventWrNorm;

int64_t CostOf(const std::vector<std::byte>& message) { return static_cast<int64_t>(message.size()) + kEntryCost; }

void Uncharge(int64_t cost) {
  base::ChargedMemory::Uncharge(static_cast<size_t>(cost));
  g_bytes.fetch_sub(cost, std::memory_order_relaxed);
}

// False, and nothing charged, at the limit.
bool Charge(int64_t cost) {
  if (!base::ChargedMemory::Admit().ok()) return false;
  base::ChargedMemory::Charge(static_cast<size_t>(cost));
  if (g_bytes.fetch_add(cost, std::memory_order_relaxed) + cost <= MqueueTable::kMaxInSandbox) return true;
  Uncharge(cost);
  return false;
}

}  // namespace

Mqueue::Mqueue(const Credentials& creds, uint32_t mode, const MqAttr& attr)
    : uid_(creds.fsuid),
      gid_(creds.fsgid),
      mode_(mode & 0777),
      id_(g_next_id.fetch_add(1, std::memory_order_relaxed)),
      max_messages_(attr.maxmsg),
      message_size_(attr.msgsize) {}

Mqueue::~Mqueue() {
  for (const auto& [priority, queue] : messages_) {
    for (const std::vector<std::byte>& message : queue) Uncharge(CostOf(message));
  }
}

Result<void> Mqueue::CheckAccess(const Credentials& creds, int may) const {
  uint32_t granted = mode_;
  if (creds.fsuid == uid_) {
    granted >>= 6;
  } else if (creds.InGroup(gid_)) {
    granted >>= 3;
  }
  if ((static_cast<uint32_t>(may) & ~granted & 7) && !creds.Capable(CAP_DAC_OVERRIDE)) return Errno(EACCES);
  return {};
}

Result<void> Mqueue::Send(std::vector<std::byte>& message, uint32_t priority, Told* told) {
  {
    base::MutexLock lock(mu_);
    if (count_ >= max_messages_) return Errno(EAGAIN);
    if (!Charge(CostOf(message))) return Errno(ENOMEM);
    bytes_ += message.size();
    messages_[priority].push_back(std::move(message));
    if (count_++ == 0 && notified_ && receivers_ == 0) {
      // Once: then it has to be asked for again.
      told->process = std::move(notified_);
      told->info = notify_info_;
    }
  }
  events_.Notify(kReadable);
  return {};
}

Result<Mqueue::Received> Mqueue::Receive() {
  Received received;
  {
    base::MutexLock lock(mu_);
    if (count_ == 0) return Errno(EAGAIN);
    auto first = messages_.begin();
    received.priority = first->first;
    received.message = std::move(first->second.front());
    first->second.pop_front();
    if (first->second.empty()) messages_.erase(first);
    --count_;
    bytes_ -= received.message.size();
    Uncharge(CostOf(received.message));
  }
  events_.Notify(kWritable);
  return received;
}

void Mqueue::AddReceiver(int n) {
  base::MutexLock lock(mu_);
  receivers_ += n;
}

Result<void> Mqueue::SetNotify(RefPtr<ThreadGroup> process, const SignalInfo& info) {
  base::MutexLock lock(mu_);
  if (notified_) return Errno(EBUSY);
  notified_ = std::move(process);
  notify_info_ = info;
  return {};
}

void Mqueue::ClearNotify(const ThreadGroup* process) {
  RefPtr<ThreadGroup> old;  // dropped after the lock
  base::MutexLock lock(mu_);
  if (notified_.get() == process) old = std::move(notified_);
}

int64_t Mqueue::count() const {
  base::MutexLock lock(mu_);
  return count_;
}

uint64_t Mqueue::bytes() const {
  base::MutexLock lock(mu_);
  return bytes_;
}

std::string Mqueue::Describe() const {
  base::MutexLock lock(mu_);
  char text[96];
  snprintf(text, sizeof(text), "QSIZE:%-10lu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", bytes_,
           notified_ && notify_info_.si_signo == 0 ? 1 : 0, notified_ ? notify_info_.si_signo : 0,
           notified_ ? notified_->pid() : 0);
  return text;
}

base::EventMask Mqueue::Readiness() const {
  base::MutexLock lock(mu_);
  base::EventMask events = 0;
  if (count_ > 0) events |= kReadable;
  if (count_ < max_messages_) events |= kWritable;
  return events;
}

// --- Names.

namespace {

Result<void> CheckName(const std::string& name) {
  if (name.empty()) return Errno(ENOENT);
  if (name.size() > NAME_MAX) return Errno(ENAMETOOLONG);
  // lookup_one_len.
  if (name.find('/') != std::string::npos || name == "." || name == "..") return Errno(EACCES);
  return {};
}

// mq_attr_ok.
Result<MqAttr> Attributes(Task& task, const MqAttr* given) {
  MqAttr attr{};
  if (given == nullptr) {
    attr.maxmsg = MqueueTable::kDefaultMessages;
    attr.msgsize = MqueueTable::kDefaultSize;
    return attr;
  }
  attr = *given;
  if (attr.maxmsg <= 0 || attr.msgsize <= 0) return Errno(EINVAL);
  const bool privileged = task.Capable(CAP_SYS_RESOURCE);
  if (attr.maxmsg > (privileged ? MqueueTable::kHardMessages : MqueueTable::kMaxMessages)) return Errno(EINVAL);
  if (attr.msgsize > (privileged ? MqueueTable::kHardSize : MqueueTable::kMaxSize)) return Errno(EINVAL);
  return attr;
}

}  // namespace

Result<RefPtr<Mqueue>> MqueueTable::Open(Task& task, const std::string& name, uint32_t flags, uint32_t mode,
                                         const MqAttr* attr) {
  TRY(CheckName(name));
  const uint32_t access = flags & O_ACCMODE;
  if (access == O_ACCMODE) return Errno(EINVAL);
  const int may = access == O_RDONLY ? 4 : access == O_WRONLY ? 2 : 6;
  base::MutexLock lock(mu_);
  if (auto it = queues_.find(name); it != queues_.end()) {
    if ((flags & O_CREAT) && (flags & O_EXCL)) return Errno(EEXIST);
    TRY(it->second->CheckAccess(task.creds(), may));
    return it->second;
  }
  if (!(flags & O_CREAT)) return Errno(ENOENT);
  const MqAttr wanted = TRY(Attributes(task, attr));
  if (queues_.size() >= kMaxQueues && !task.Capable(CAP_SYS_RESOURCE)) return Errno(ENOSPC);
  if (queues_.size() >= 16 * kMaxQueues) return Errno(ENOSPC);
  // Differs from Linux: RLIMIT_MSGQUEUE is asked of each queue, not of all that a user has.
  uint64_t bytes;
  if (__builtin_mul_overflow(static_cast<uint64_t>(wanted.maxmsg), static_cast<uint64_t>(wanted.msgsize) + 48,
                             &bytes) ||
      bytes > task.thread_group().Limit(RLIMIT_MSGQUEUE)) {
    return Errno(EMFILE);
  }
  RefPtr<Mqueue> queue = TRY(base::TryMakeRef<Mqueue>(task.creds(), mode & ~task.fs().umask(), wanted));
  queues_.emplace(name, queue);
  return queue;
}

Result<void> MqueueTable::Unlink(Task& task, const std::string& name) {
  TRY(CheckName(name));
  RefPtr<Mqueue> gone;  // dropped after the lock
  base::MutexLock lock(mu_);
  auto it = queues_.find(name);
  if (it == queues_.end()) return Errno(ENOENT);
  // The directory is sticky.
  if (task.creds().fsuid != it->second->owner() && !task.Capable(CAP_FOWNER)) return Errno(EPERM);
  gone = std::move(it->second);
  queues_.erase(it);
  return {};
}

RefPtr<Mqueue> MqueueTable::Find(const std::string& name) {
  base::MutexLock lock(mu_);
  auto it = queues_.find(name);
  return it == queues_.end() ? nullptr : it->second;
}

std::vector<std::pair<std::string, uint64_t>> MqueueTable::List() {
  std::vector<std::pair<std::string, uint64_t>> list;
  base::MutexLock lock(mu_);
  for (const auto& [name, queue] : queues_) list.emplace_back(name, queue->id());
  return list;
}

bool MqueueTable::Remove(const std::string& name, const Mqueue& queue) {
  RefPtr<Mqueue> gone;  // dropped after the lock
  base::MutexLock lock(mu_);
  auto it = queues_.find(name);
  if (it == queues_.end() || it->second.get() != &queue) return false;
  gone = std::move(it->second);
  queues_.erase(it);
  return true;
}

// --- Descriptors.

MqueueFile::MqueueFile(RefPtr<Mqueue> queue, const std::string& name, uint32_t flags)
    : FileDescription(NewAnonymousPath("/" + name, S_IFREG | 0600), flags), queue_(std::move(queue)) {}

Result<size_t> MqueueFile::Read(IoBuffer& to, const IoFlags&) {
  if (!readable()) return Errno(EBADF);
  base::FiberMutexLock lock(position_lock_);
  const std::string text = queue_->Describe();
  const int64_t at = position();
  if (at >= static_cast<int64_t>(text.size())) return size_t{0};
  const size_t n = TRY(to.CopyOut(std::as_bytes(std::span(text)).subspan(static_cast<size_t>(at))));
  position_.store(at + static_cast<int64_t>(n), std::memory_order_relaxed);
  return n;
}

void MqueueFile::OnDescriptorClosed(VfsContext& ctx) {
  // The process's registration goes with any of its descriptors (mqueue_flush_file).
  if (Task* task = Task::Current()) queue_->ClearNotify(&task->thread_group());
  FileDescription::OnDescriptorClosed(ctx);
}

}  // namespace sentry
