// System V shared memory. (man 7 sysvipc, man 2 shmget, shmop, shmctl; ipc/shm.c)
//
// A segment owns its pages. Every shmat makes an object of its own that gives access to them, so that what is attached
// can be counted and found again: VMAs of two attachments never become one.
#ifndef SENTRY_KERNEL_IPC_SHM_H_
#define SENTRY_KERNEL_IPC_SHM_H_

#include <set>

#include "sentry/kernel/ipc/ipc_ids.h"
#include "sentry/mm/shared_anonymous.h"

namespace sentry {

class IpcNamespace;

struct ShmidDs {  // struct shmid64_ds
  IpcPerm64 perm;
  uint64_t segsz;
  int64_t atime, dtime, ctime;
  int32_t cpid, lpid;
  uint64_t nattch;
  uint64_t unused[2];
};
static_assert(sizeof(ShmidDs) == 112);

class ShmAttachment;

class ShmSegment final : public base::RefCounted {
 public:
  static constexpr uint64_t kMaxSegments = 4096;  // shmmni
  static constexpr uint32_t kDest = 01000, kLocked = 02000;
  ShmSegment(IpcNamespace& ns, int32_t key, uint32_t mode, const Credentials& creds, uint64_t bytes,
             RefPtr<SharedAnonymous> memory, int pid, int64_t now)
      : perm(key, mode, creds),
        bytes_(bytes),
        first_key_(key),
        memory_(std::move(memory)),
        creator_pid(pid),
        change_time(now),
        ns_(&ns) {}

  IpcPerm perm;  // IpcIds::mu
  uint64_t bytes() const { return bytes_; }
  const RefPtr<SharedAnonymous>& memory() const { return memory_; }
  // A way into it, for one shmat.
  RefPtr<ShmAttachment> Attach(int pid, int64_t now) EXCLUDES(mu_);
  void NoteDetach(int pid, int64_t now) EXCLUDES(mu_);
  size_t attached() const EXCLUDES(mu_);  // address spaces, once for each shmat
  bool unused() const EXCLUDES(mu_);      // nobody could get at it through what is attached
  ShmidDs Stat() const;                   // IpcIds::mu
  void SetChangeTime(int64_t now) EXCLUDES(mu_);
  void NamespaceGone() EXCLUDES(mu_);

 private:
  friend class ShmAttachment;
  const uint64_t bytes_;
  const int32_t first_key_;  // by which maps name it, also when the key means something else
  const RefPtr<SharedAnonymous> memory_;
  mutable base::Mutex mu_;  // after IpcIds::mu
  const int creator_pid;
  int last_pid GUARDED_BY(mu_) = 0;
  int64_t attach_time GUARDED_BY(mu_) = 0, detach_time GUARDED_BY(mu_) = 0, change_time GUARDED_BY(mu_);
  std::set<ShmAttachment*> attachments_ GUARDED_BY(mu_);
  IpcNamespace* ns_ GUARDED_BY(mu_);  // null once that is gone
};

class ShmAttachment final : public Mappable {
 public:
  explicit ShmAttachment(RefPtr<ShmSegment> segment) : segment_(std::move(segment)) {}
  ~ShmAttachment() override;
  Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) override {
    return segment_->memory()->Translate(offset, length, for_write);
  }
  Mappable& FutexIdentity() override { return *segment_->memory(); }
  Identity MappedIdentity() const override;
  Result<void> PunchHole(uint64_t offset, uint64_t length) override {
    return segment_->memory()->PunchHole(offset, length);
  }
  ShmSegment& segment() const { return *segment_; }

 private:
  const RefPtr<ShmSegment> segment_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_IPC_SHM_H_
