#include "platform/ptrace/address_space.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <vector>

#include "base/executor.h"
#include "platform/memory_file.h"

namespace platform::ptrace {
namespace {

bool Valid(const MapOp& op) {
  if ((op.start | op.length | op.offset) % kPageSize != 0 || op.length == 0) return false;
  return op.start >= kGuestStart && op.start < kGuestEnd && op.length <= kGuestEnd - op.start;
}

int HostProtection(uint8_t prot) {
  int p = PROT_NONE;
  if (prot & static_cast<uint8_t>(Protection::kRead)) p |= PROT_READ;
  if (prot & static_cast<uint8_t>(Protection::kWrite)) p |= PROT_WRITE;
  if (prot & static_cast<uint8_t>(Protection::kExecute)) p |= PROT_EXEC;
  return p;
}

HostOp Translate(const MapOp& op) {
  switch (op.kind) {
    case MapOp::Kind::kMap: {
      uint64_t flags = MAP_SHARED | MAP_FIXED | (op.populate ? MAP_POPULATE : 0);
      return {SYS_mmap,
              {op.start, op.length, static_cast<uint64_t>(HostProtection(op.prot)), flags, static_cast<uint64_t>(op.fd),
               op.offset},
              0};
    }
    case MapOp::Kind::kUnmap:
      return {SYS_munmap, {op.start, op.length}, 0};
    case MapOp::Kind::kProtect:
      return {SYS_mprotect, {op.start, op.length, static_cast<uint64_t>(HostProtection(op.prot))}, 0};
  }
  __builtin_unreachable();
}

}  // namespace

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
    if (!Valid(op)) return base::Errno(EINVAL);
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
