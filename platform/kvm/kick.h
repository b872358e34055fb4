// The signal that takes a host thread out of KVM_RUN.
#ifndef PLATFORM_KVM_KICK_H_
#define PLATFORM_KVM_KICK_H_

#include "base/errno.h"

namespace platform::kvm {

// One that nothing else uses, not a real-time one, which the host may refuse to queue. Its handler does nothing.
inline constexpr int kKickSignal = 16;  // SIGSTKFLT

base::Result<void> InstallKickHandler();
// On the calling thread.
void UnblockKick();

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_KICK_H_
