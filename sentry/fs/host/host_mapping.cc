#include "sentry/fs/host/host_mapping.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>

#include "base/syscall_unsafe.h"

namespace sentry {

HostMapping::~HostMapping() {
  base::MutexLock l(object_->mapping_mu_);
  if (object_->mapping_ == this) object_->mapping_ = nullptr;
}

Result<HostPages> HostMapping::Translate(uint64_t offset, uint64_t length, bool for_write) {
  if (for_write && (object_->host_flags() & O_ACCMODE) != O_RDWR) return Errno(EACCES);
  // Asked each time, for the file is the host's: what it cuts off later is a SIGBUS there, and the guest's here.
  uint64_t end = PageRoundUp(static_cast<uint64_t>(TRY(object_->GetAttr()).size));
  if (offset >= end) return Errno(EINVAL);
  return HostPages{.fd = object_->fd(),
                   .offset = offset,
                   .length = std::min(PageRoundUp(length), end - offset),
                   .memory_file = false};
}

Result<void> HostMapping::Msync(uint64_t offset, uint64_t length) {
  TRY(base::HostRetry(SYS_fdatasync, object_->fd()));
  return {};
}

Result<void> HostMapping::PunchHole(uint64_t offset, uint64_t length) {
  TRY(base::HostRetry(SYS_fallocate, object_->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
  InvalidateMappings(offset, offset + length, /*keep_private=*/true);
  return {};
}

Result<RefPtr<HostMapping>> HostObject::Mapping(const std::string& name) {
  if (RefPtr<HostMapping> known = MappingIfAny()) return known;
  Attr attr = TRY(GetAttr());
  auto fresh = base::MakeRef<HostMapping>(RefPtr<HostObject>(this), Mappable::Identity{name, attr.dev, attr.ino});
  base::MutexLock l(mapping_mu_);
  if (mapping_ != nullptr && mapping_->TryRef()) return RefPtr<HostMapping>::Adopt(mapping_);
  mapping_ = fresh.get();
  return fresh;
}

RefPtr<HostMapping> HostObject::MappingIfAny() {
  base::MutexLock l(mapping_mu_);
  if (mapping_ == nullptr || !mapping_->TryRef()) return nullptr;
  return RefPtr<HostMapping>::Adopt(mapping_);
}

Result<void> HostObject::SetSize(int64_t size) {
  TRY(base::HostRetry(SYS_ftruncate, fd(), size));
  if (RefPtr<HostMapping> mapping = MappingIfAny()) {
    mapping->InvalidateMappings(PageRoundUp(static_cast<uint64_t>(size)), UINT64_MAX - kPageMask);
  }
  return {};
}

}  // namespace sentry
