// What a guest maps of a regular file that it was given (standard input from a file, --pass-fd).
#ifndef SENTRY_FS_HOST_HOST_MAPPING_H_
#define SENTRY_FS_HOST_HOST_MAPPING_H_

#include <string>

#include "sentry/fs/host/host_object.h"
#include "sentry/mm/mappable.h"

namespace sentry {

class HostMapping final : public Mappable {
 public:
  HostMapping(RefPtr<HostObject> object, Identity identity)
      : object_(std::move(object)), identity_(std::move(identity)) {}
  ~HostMapping() override;
  Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) override;
  Identity MappedIdentity() const override { return identity_; }
  Result<void> Msync(uint64_t offset, uint64_t length) override;
  Result<void> PunchHole(uint64_t offset, uint64_t length) override;

 private:
  const RefPtr<HostObject> object_;
  const Identity identity_;
};

}  // namespace sentry

#endif  // SENTRY_FS_HOST_HOST_MAPPING_H_
