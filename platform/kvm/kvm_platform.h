// The KVM platform: guest code runs in ring 3 of virtual CPUs, with page tables the sentry builds; a page of code in
// ring 0 turns system calls, faults and interrupts into exits.
//
// Who is who:
//   Machine        the virtual machine of the sandbox: guest-physical memory, what all virtual CPUs share.
//   FileWindows    parts of the memory file and of donated files in guest-physical memory.
//   KvmAddressSpace  what one guest has mapped, and its page tables.
//   Vcpu           one virtual CPU per executor.
//   Cpu            an executor's idle strategy: an executor with no fiber to run runs guest code, on its own thread.
//   The
//                  guest threads that are ready wait in its queue; what is to be done in the sentry takes it out of
//                  the guest at once, so timers, I/O and other tasks never wait for ring 3.
#ifndef PLATFORM_KVM_KVM_PLATFORM_H_
#define PLATFORM_KVM_KVM_PLATFORM_H_

#include <memory>

#include "base/errno.h"
#include "base/unique_fd.h"
#include "platform/platform.h"

namespace platform::kvm {

struct Options {
  base::UniqueFd device;  // an open /dev/kvm; without one it is opened
  // Let system calls exit by the gate where `syscall` leaves ring 3 where it is (Vcpu::UseGate). For tests of the other
  // way, which is slower there.
  bool gate = true;
};

// Makes the virtual machine. Before the seccomp filter; the virtual CPUs are made by NewIdleStrategy,
// also before it. What the platform needs from the host later is in kvm/host_calls.h. ENOENT, EACCES, ENXIO: there is
// no /dev/kvm, or not for us; ENOTSUP: the host's KVM lacks something.
//
// Every executor of the scheduler uses NewIdleStrategy. Contexts and address spaces end before the scheduler, the
// scheduler before the platform.
base::Result<std::unique_ptr<Platform>> New(Options options = {});

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_KVM_PLATFORM_H_
