// HostOp: one host system call that a helper process makes for the sentry in the address space that it keeps, and the
// translation of MapOps to them. For the platforms whose address spaces are processes of the host.
#ifndef PLATFORM_HOST_OP_H_
#define PLATFORM_HOST_OP_H_

#include <cstdint>

#include "base/interval_map.h"
#include "platform/platform.h"

namespace platform {

// Laid out for the assembly of the helpers.
struct HostOp {
  uint64_t nr;
  uint64_t args[6];
  uint64_t kind;  // the platform's own use
};
static_assert(sizeof(HostOp) == 64);

// True for an operation on whole pages that lie in `guest`.
bool IsValid(const MapOp& op, base::Range guest);
HostOp Translate(const MapOp& op);

}  // namespace platform

#endif  // PLATFORM_HOST_OP_H_
