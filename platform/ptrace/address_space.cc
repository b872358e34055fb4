#include "platform/ptrace/address_space.h"

#include <vector>

#include "base/executor.h"
#include "platform/host_op.h"

namespace platform::ptrace {

PtraceAddressSpace::~PtraceAddressSpace() {
  if (!stub_) return;
  if (home_.IsCurrent()) {
    stub_->DetachAll();
    stub_->Kill();
    return;
  }
  home_.executor().Post([stub = std::move(stub_)] {
    stub->DetachAll();
    stub->Kill();
  });
}

base::Result<void> PtraceAddressSpace::Apply(std::span<const MapOp> ops) {
  if (ops.empty()) return {};
  // The stub's own pages lie outside of the range: no operation can reach them.
  for (const MapOp& op : ops) {
    if (!IsValid(op, {kGuestStart, kGuestEnd})) return base::Errno(EINVAL);
  }
  home_.Enter();
  if (!stub_) return base::Errno(ESRCH);
  std::vector<HostOp> host;
  host.reserve(ops.size());
  for (const MapOp& op : ops) host.push_back(Translate(op));
  Stub::Outcome outcome = stub_->Execute(host);
  if (outcome.done != ops.size()) return base::Errno(static_cast<int>(-outcome.result));
  return {};
}

void PtraceAddressSpace::Release() {
  home_.Enter();
  base::RefPtr<Stub> stub = std::move(stub_);
  if (!stub || stub->dead()) return;
  if (stub->DetachAll() && stub->Clear() && home_.Pool(*stub)) return;
  stub->Kill();
}

}  // namespace platform::ptrace
