// IpcNamespace: the System V IPC objects that a group of tasks sees. (man 7 ipc_namespaces)
#ifndef SENTRY_KERNEL_IPC_IPC_NAMESPACE_H_
#define SENTRY_KERNEL_IPC_IPC_NAMESPACE_H_

#include "sentry/kernel/ipc/ipc_ids.h"
#include "sentry/kernel/ipc/msg.h"
#include "sentry/kernel/ipc/sem.h"
#include "sentry/kernel/ipc/shm.h"
#include "sentry/vfs/inode.h"

namespace sentry {

class MqueueTable;  // mqueue.h

class IpcNamespace final : public base::RefCounted {
 public:
  static constexpr uint64_t kInitialNumber = 0xEFFFFFFF;  // include/linux/proc_ns.h
  explicit IpcNamespace(uint64_t number_in = AllocateNamespaceNumber());

  const uint64_t number;  // /proc/<pid>/ns
  IpcIds<ShmSegment> shm{ShmSegment::kMaxSegments};
  IpcIds<SemSet> sem{SemSet::kMaxSets};
  IpcIds<MsgQueue> msg{MsgQueue::kMaxQueues};

  MqueueTable& mqueues() { return *mqueues_; }

  // IPC_RMID on a segment that is attached waits for the last detach: it was that.
  void ForgetShmIfDoomed(ShmSegment& segment) EXCLUDES(shm.mu);

 private:
  ~IpcNamespace() override;
  const std::unique_ptr<MqueueTable> mqueues_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_IPC_IPC_NAMESPACE_H_
