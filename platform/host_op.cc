#include "platform/host_op.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "platform/memory_file.h"

namespace platform {
namespace {

uint64_t HostProtection(uint8_t prot) {
  uint64_t p = PROT_NONE;
  if (prot & static_cast<uint8_t>(Protection::kRead)) p |= PROT_READ;
  if (prot & static_cast<uint8_t>(Protection::kWrite)) p |= PROT_WRITE;
  if (prot & static_cast<uint8_t>(Protection::kExecute)) p |= PROT_EXEC;
  return p;
}

}  // namespace

bool IsValid(const MapOp& op, base::Range guest) {
  if ((op.start | op.length | op.offset) % kPageSize != 0 || op.length == 0) return false;
  return op.start >= guest.start && op.start < guest.end && op.length <= guest.end - op.start;
}

HostOp Translate(const MapOp& op) {
  switch (op.kind) {
    case MapOp::Kind::kMap: {
      const uint64_t flags = MAP_SHARED | MAP_FIXED | (op.populate ? MAP_POPULATE : 0);
      const uint64_t fd = static_cast<uint64_t>(op.fd);
      return {SYS_mmap, {op.start, op.length, HostProtection(op.prot), flags, fd, op.offset}, 0};
    }
    case MapOp::Kind::kUnmap:
      return {SYS_munmap, {op.start, op.length}, 0};
    case MapOp::Kind::kProtect:
      return {SYS_mprotect, {op.start, op.length, HostProtection(op.prot)}, 0};
  }
  __builtin_unreachable();
}

}  // namespace platform
