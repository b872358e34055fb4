// AddressSpace of the ptrace platform: a Stub and the translation of MapOps to its host calls.
#ifndef PLATFORM_PTRACE_ADDRESS_SPACE_H_
#define PLATFORM_PTRACE_ADDRESS_SPACE_H_

#include "platform/platform.h"
#include "platform/ptrace/stub.h"
#include "platform/ptrace/tracer.h"

namespace platform::ptrace {

class PtraceAddressSpace final : public AddressSpace {
 public:
  PtraceAddressSpace(Tracer& home, base::RefPtr<Stub> stub) : home_(home), stub_(std::move(stub)) {}
  ~PtraceAddressSpace() override;

  base::Result<void> Apply(std::span<const MapOp> ops) override;
  void Release() override;

  Tracer& home() { return home_; }
  // Null after Release. On home's thread only.
  Stub* stub() { return stub_.get(); }

 private:
  Tracer& home_;
  base::RefPtr<Stub> stub_;
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_ADDRESS_SPACE_H_
