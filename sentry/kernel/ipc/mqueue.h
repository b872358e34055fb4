// POSIX message queues. (man 7 mq_overview; ipc/mqueue.c) fs/mqueue shows them as files.
#ifndef SENTRY_KERNEL_IPC_MQUEUE_H_
#define SENTRY_KERNEL_IPC_MQUEUE_H_

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/wait_queue.h"
#include "sentry/kernel/signal.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

class Task;
class ThreadGroup;

struct MqAttr {  // struct mq_attr
  int64_t flags, maxmsg, msgsize, curmsgs;
  int64_t reserved[4];
};
static_assert(sizeof(MqAttr) == 64);

class Mqueue final : public base::RefCounted {
 public:
  static constexpr uint32_t kMaxPriority = 32768;  // MQ_PRIO_MAX
  Mqueue(const Credentials& creds, uint32_t mode, const MqAttr& attr);

  int64_t max_messages() const { return max_messages_; }
  int64_t message_size() const { return message_size_; }
  // `may`: R_OK 4, W_OK 2. EACCES.
  Result<void> CheckAccess(const Credentials& creds, int may) const;
  uint32_t owner() const { return uid_; }
  uint32_t group() const { return gid_; }
  uint32_t mode() const { return mode_; }
  uint64_t id() const { return id_; }  // ascending; no two queues of the sandbox have the same

  // EAGAIN: full, empty. `told` gets whom to signal: a message came to an empty queue and nobody waits for it.
  struct Told {
    RefPtr<ThreadGroup> process;
    SignalInfo info;
  };
  Result<void> Send(std::vector<std::byte>& message, uint32_t priority, Told* told) EXCLUDES(mu_);
  struct Received {
    std::vector<std::byte> message;
    uint32_t priority = 0;
  };
  Result<Received> Receive() EXCLUDES(mu_);
  // How many wait in mq_timedreceive: they come before mq_notify.
  void AddReceiver(int n) EXCLUDES(mu_);
  // mq_notify(2); EBUSY. `info` without si_signo: SIGEV_NONE.
  Result<void> SetNotify(RefPtr<ThreadGroup> process, const SignalInfo& info) EXCLUDES(mu_);
  void ClearNotify(const ThreadGroup* process) EXCLUDES(mu_);
  int64_t count() const EXCLUDES(mu_);
  uint64_t bytes() const EXCLUDES(mu_);
  std::string Describe() const EXCLUDES(mu_);  // what read(2) gives
  base::EventMask Readiness() const EXCLUDES(mu_);
  base::WaitQueue& events() { return events_; }

 private:
  ~Mqueue() override;
  const uint32_t uid_, gid_, mode_;
  const uint64_t id_;
  const int64_t max_messages_, message_size_;
  mutable base::Mutex mu_;
  std::map<uint32_t, std::deque<std::vector<std::byte>>, std::greater<>> messages_ GUARDED_BY(mu_);
  int64_t count_ GUARDED_BY(mu_) = 0;
  uint64_t bytes_ GUARDED_BY(mu_) = 0;
  int receivers_ GUARDED_BY(mu_) = 0;
  RefPtr<ThreadGroup> notified_ GUARDED_BY(mu_);
  SignalInfo notify_info_ GUARDED_BY(mu_){};
  base::WaitQueue events_;
};

// The queues of a namespace by name.
class MqueueTable {
 public:
  static constexpr size_t kMaxQueues = 256;  // fs.mqueue.queues_max
  static constexpr int64_t kDefaultMessages = 10, kDefaultSize = 8192;
  static constexpr int64_t kMaxMessages = 10, kMaxSize = 8192;  // without CAP_SYS_RESOURCE
  static constexpr int64_t kHardMessages = 65536, kHardSize = 16 << 20;
  // Differs from Linux: what all queues of the sandbox may hold; more is ENOMEM.
  static constexpr int64_t kMaxInSandbox = 64 << 20;

  // mq_open(2) and mq_unlink(2), errors as there.
  Result<RefPtr<Mqueue>> Open(Task& task, const std::string& name, uint32_t flags, uint32_t mode, const MqAttr* attr)
      EXCLUDES(mu_);
  Result<void> Unlink(Task& task, const std::string& name) EXCLUDES(mu_);

  // For the file system. Null: there is none. List: names and ids.
  RefPtr<Mqueue> Find(const std::string& name) EXCLUDES(mu_);
  std::vector<std::pair<std::string, uint64_t>> List() EXCLUDES(mu_);
  // False: the name is not, or no longer, this queue's.
  bool Remove(const std::string& name, const Mqueue& queue) EXCLUDES(mu_);

 private:
  base::Mutex mu_;
  std::map<std::string, RefPtr<Mqueue>> queues_ GUARDED_BY(mu_);
};

// A descriptor of a queue.
class MqueueFile final : public FileDescription {
 public:
  MqueueFile(RefPtr<Mqueue> queue, const std::string& name, uint32_t flags);
  // Opened in the file system.
  MqueueFile(RefPtr<Mqueue> queue, const VfsPath& path, uint32_t flags)
      : FileDescription(path, flags), queue_(std::move(queue)) {}
  Mqueue& queue() const { return *queue_; }
  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override;
  base::EventMask Readiness() override { return queue_->Readiness(); }
  base::WaitQueue* wait_queue() override { return &queue_->events(); }
  void OnDescriptorClosed(VfsContext& ctx) override;

 private:
  const RefPtr<Mqueue> queue_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_IPC_MQUEUE_H_
