#include "platform/systrap/address_space.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "platform/host_op.h"
#include "platform/systrap/context.h"
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

void SystrapAddressSpace::AddFutexWaiters(uint64_t address, int n) {
  if (base::RefPtr<Stub> stub = this->stub()) stub->AddFutexWaiters(address, n);
}

base::Result<int> SystrapAddressSpace::WakeFutex(uint64_t address, int count) {
  base::RefPtr<Stub> stub = this->stub();
  if (!stub || count <= 0 || !stub->HasFutexWaiters(address)) return 0;
  const HostOp op = {SYS_futex, {address, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, static_cast<uint64_t>(count)}, OP_IS_VALUE};
  Helper::Outcome woken = stub->Execute({&op, 1});
  if (woken.done != 1) return base::Errno(woken.error);
  return woken.cloned - 1;
}

base::Result<int> SystrapAddressSpace::RequeueFutex(uint64_t address, uint64_t to, int wake, int requeue) {
  base::RefPtr<Stub> stub = this->stub();
  if (!stub || (wake <= 0 && requeue <= 0) || !stub->HasFutexWaiters(address)) return 0;
  const HostOp op = {SYS_futex,
                     {address, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, static_cast<uint64_t>(std::max(wake, 0)),
                      static_cast<uint64_t>(std::max(requeue, 0)), to},
                     OP_IS_VALUE};
  // Before they can be looked for there.
  stub->MoveFutexWaiters(to, std::max(requeue, 0));
  Helper::Outcome moved = stub->Execute({&op, 1});
  if (moved.done != 1) return base::Errno(moved.error);
  const int n = moved.cloned - 1;
  // At most so many of them were moved.
  stub->MoveFutexWaiters(to, std::min(std::max(requeue, 0), n) - std::max(requeue, 0));
  return n;
}

base::Result<base::RefPtr<AddressSpace>> SystrapAddressSpace::Renew(Context& context, std::span<const MapOp> ops) {
  for (const MapOp& op : ops) {
    if (!IsValid(op, {kGuestStart, kGuestEnd})) return base::Errno(ENOTSUP);
  }
  if (!CanRenew(context)) return base::Errno(ENOTSUP);
  auto& runs_here = static_cast<SystrapContext&>(context);
  base::RefPtr<Stub> stub;
  {
    base::MutexLock lock(mu_);
    stub = std::exchange(stub_, nullptr);
  }
  if (!stub) return base::Errno(ENOTSUP);
  std::vector<HostOp> host;
  host.reserve(ops.size());
  for (const MapOp& op : ops) host.push_back(Translate(op));
  Helper::Outcome outcome = stub->Renew(host);
  if (outcome.done != ops.size()) {
    (void)stub->End(false);
    return base::Errno(outcome.error);
  }
  runs_here.Renew();
  return base::RefPtr<AddressSpace>(base::MakeRef<SystrapAddressSpace>(platform_, std::move(stub)));
}

bool SystrapAddressSpace::CanRenew(const Context& context) const {
  base::RefPtr<Stub> stub = this->stub();
  return stub && static_cast<const SystrapContext&>(context).IsAloneIn(*stub);
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
