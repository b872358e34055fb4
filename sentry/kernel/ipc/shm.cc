#include "sentry/kernel/ipc/shm.h"

#include <cstdio>

#include "sentry/kernel/ipc/ipc_namespace.h"

namespace sentry {

RefPtr<ShmAttachment> ShmSegment::Attach(int pid, int64_t now) {
  RefPtr<ShmAttachment> attachment = base::MakeRef<ShmAttachment>(RefPtr<ShmSegment>(this));
  base::MutexLock lock(mu_);
  attachments_.insert(attachment.get());
  last_pid = pid;
  attach_time = now;
  return attachment;
}

void ShmSegment::NoteDetach(int pid, int64_t now) {
  base::MutexLock lock(mu_);
  last_pid = pid;
  detach_time = now;
}

size_t ShmSegment::attached() const {
  base::MutexLock lock(mu_);
  size_t count = 0;
  for (const ShmAttachment* attachment : attachments_) count += attachment->MappingCount();
  return count;
}

bool ShmSegment::unused() const {
  base::MutexLock lock(mu_);
  return attachments_.empty();
}

ShmidDs ShmSegment::Stat() const {
  ShmidDs ds{};
  ds.perm = perm.ToGuest();
  ds.segsz = bytes_;
  ds.nattch = attached();
  base::MutexLock lock(mu_);
  ds.atime = attach_time;
  ds.dtime = detach_time;
  ds.ctime = change_time;
  ds.cpid = creator_pid;
  ds.lpid = last_pid;
  return ds;
}

void ShmSegment::SetChangeTime(int64_t now) {
  base::MutexLock lock(mu_);
  change_time = now;
}

void ShmSegment::NamespaceGone() {
  base::MutexLock lock(mu_);
  ns_ = nullptr;
}

ShmAttachment::~ShmAttachment() {
  RefPtr<IpcNamespace> ns;
  {
    base::MutexLock lock(segment_->mu_);
    segment_->attachments_.erase(this);
    if (segment_->attachments_.empty() && segment_->ns_ != nullptr && segment_->ns_->TryRef()) {
      ns = RefPtr<IpcNamespace>::Adopt(segment_->ns_);
    }
  }
  if (ns) ns->ForgetShmIfDoomed(*segment_);
}

Mappable::Identity ShmAttachment::MappedIdentity() const {
  char name[32];
  snprintf(name, sizeof(name), "/SYSV%08x (deleted)", static_cast<uint32_t>(segment_->first_key_));
  return {name, segment_->memory()->MappedIdentity().dev, static_cast<uint64_t>(segment_->perm.id)};
}

}  // namespace sentry
