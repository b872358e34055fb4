// AddressSpace of the systrap platform: a Stub and the translation of MapOps to its helper's host calls.
#ifndef PLATFORM_SYSTRAP_ADDRESS_SPACE_H_
#define PLATFORM_SYSTRAP_ADDRESS_SPACE_H_

#include "platform/platform.h"
#include "platform/systrap/stub.h"

namespace platform::systrap {

class SystrapAddressSpace final : public AddressSpace {
 public:
  SystrapAddressSpace(SystrapPlatform& platform, base::RefPtr<Stub> stub)
      : platform_(platform), stub_(std::move(stub)) {}
  ~SystrapAddressSpace() override;

  base::Result<void> Apply(std::span<const MapOp> ops) override EXCLUDES(mu_);
  void AddFutexWaiters(uint64_t address, int n) override EXCLUDES(mu_);
  base::Result<int> WakeFutex(uint64_t address, int count) override EXCLUDES(mu_);
  base::Result<int> RequeueFutex(uint64_t address, uint64_t to, int wake, int requeue) override EXCLUDES(mu_);
  base::Result<base::RefPtr<AddressSpace>> Renew(Context& context, std::span<const MapOp> ops) override EXCLUDES(mu_);
  bool CanRenew(const Context& context) const override EXCLUDES(mu_);
  void Release() override EXCLUDES(mu_);

  // Null after Release.
  base::RefPtr<Stub> stub() const EXCLUDES(mu_);

 private:
  SystrapPlatform& platform_;
  mutable base::Mutex mu_;
  base::RefPtr<Stub> stub_ GUARDED_BY(mu_);
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_ADDRESS_SPACE_H_
