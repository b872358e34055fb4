#include "sentry/kernel/ipc/ipc_namespace.h"

#include "sentry/kernel/ipc/mqueue.h"

namespace sentry {

IpcNamespace::IpcNamespace(uint64_t number_in) : number(number_in), mqueues_(std::make_unique<MqueueTable>()) {}

void IpcNamespace::ForgetShmIfDoomed(ShmSegment& segment) {
  RefPtr<ShmSegment> gone;  // dropped after the lock
  base::MutexLock lock(shm.mu);
  if (!(segment.perm.mode & ShmSegment::kDest) || segment.perm.removed || !segment.unused()) return;
  gone = shm.RemoveLocked(segment);
  segment.NamespaceGone();  // an shmat that found it before attaches it still
}

IpcNamespace::~IpcNamespace() {
  std::vector<RefPtr<ShmSegment>> segments;
  {
    base::MutexLock lock(shm.mu);
    segments = shm.ListLocked();
  }
  for (RefPtr<ShmSegment>& segment : segments) segment->NamespaceGone();
}

}  // namespace sentry
