// System V message queues. (man 2 msgget, msgop, msgctl; ipc/msg.c)
#ifndef SENTRY_KERNEL_IPC_MSG_H_
#define SENTRY_KERNEL_IPC_MSG_H_

#include <list>
#include <vector>

#include "base/wait_queue.h"
#include "sentry/kernel/ipc/ipc_ids.h"

namespace sentry {

class Task;

struct MsqidDs {  // struct msqid64_ds
  IpcPerm64 perm;
  int64_t stime, rtime, ctime;
  uint64_t cbytes, qnum, qbytes;
  int32_t lspid, lrpid;
  uint64_t unused[2];
};
static_assert(sizeof(MsqidDs) == 120);

struct Message {
  int64_t type = 0;
  std::vector<std::byte> data;
};

class MsgQueue final : public base::RefCounted {
 public:
  static constexpr uint64_t kMaxMessage = 8192, kDefaultBytes = 16384;  // msgmax, msgmnb
  static constexpr int kMaxQueues = 32000;                              // msgmni
  // Differs from Linux: what all queues of the sandbox may hold; a message beyond it is ENOMEM.
  static constexpr int64_t kMaxInSandbox = 64 << 20;
  enum : int { kNoError = 010000, kExcept = 020000, kCopy = 040000 };

  MsgQueue(int32_t key, uint32_t mode, const Credentials& creds, int64_t now)
      : perm(key, mode, creds), change_time_(now) {}

  IpcPerm perm;  // IpcIds::mu
  // EAGAIN, EIDRM, EINTR.
  Result<void> Send(Task& task, Message message, bool nowait);
  // `type` and `flags` as in msgrcv(2). ENOMSG, E2BIG, EIDRM, EINTR.
  Result<Message> Receive(Task& task, int64_t type, uint64_t max, int flags);
  void Removed();
  void Set(uint64_t max_bytes, int64_t now);
  MsqidDs Stat() const;  // IpcIds::mu
  uint64_t max_bytes() const;

 private:
  ~MsgQueue() override;
  std::list<Message>::iterator FindLocked(int64_t type, int flags) REQUIRES(mu_);
  mutable base::Mutex mu_;  // after IpcIds::mu
  std::list<Message> messages_ GUARDED_BY(mu_);
  uint64_t bytes_ GUARDED_BY(mu_) = 0, max_bytes_ GUARDED_BY(mu_) = kDefaultBytes;
  bool removed_ GUARDED_BY(mu_) = false;
  int send_pid_ GUARDED_BY(mu_) = 0, receive_pid_ GUARDED_BY(mu_) = 0;
  int64_t send_time_ GUARDED_BY(mu_) = 0, receive_time_ GUARDED_BY(mu_) = 0, change_time_ GUARDED_BY(mu_);
  base::WaitQueue changed_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_IPC_MSG_H_
