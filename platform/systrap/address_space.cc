#include "platform/systrap/address_space.h"

#include <utility>
#include <vector>

#include "platform/host_op.h"
#include "platform/systrap/platform_impl.h"

namespace platform::systrap {

SystrapAddressSpace::~SystrapAddressSpace() {
  // The last reference to the stub, or one that a context holds: its thread must not run on.
  if (base::RefPtr<Stub> stub = this->stub()) (void)stub->End(false);
}

base::RefPtr<Stub> SystrapAddressSpace::stub() const {
  base::MutexLock lock(mu_);
  return stub_;
}

base::Result<void> SystrapAddressSpace::Apply(std::span<const MapOp> ops) {
  if (ops.empty()) return {};
  // The stub's own pages lie outside of the range: no operation can reach them.
  for (const MapOp& op : ops) {
    if (!IsValid(op, {kGuestStart, kGuestEnd})) return base::Errno(EINVAL);
  }
  base::RefPtr<Stub> stub = this->stub();
  if (!stub || stub->ended()) return base::Errno(ESRCH);
  std::vector<HostOp> host;
  host.reserve(ops.size());
  for (const MapOp& op : ops) host.push_back(Translate(op));
  Helper::Outcome outcome = stub->Execute(host);
  if (outcome.done != ops.size()) return base::Errno(outcome.error);
  return {};
}

void SystrapAddressSpace::Release() {
  base::RefPtr<Stub> stub;
  {
    base::MutexLock lock(mu_);
    stub = std::exchange(stub_, nullptr);
  }
  if (!stub) return;
  if (auto shell = stub->End(true)) platform_.Pool(std::move(*shell));
}

}  // namespace platform::systrap
