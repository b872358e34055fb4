// The host system calls that the platform makes after its executors have started besides the common ones, for the
// sentry's filter.
#ifndef PLATFORM_KVM_HOST_CALLS_H_
#define PLATFORM_KVM_HOST_CALLS_H_

#include <sys/syscall.h>

#include "platform/host_calls.h"
#include "platform/kvm/kvm_abi.h"

namespace platform::kvm {

inline constexpr HostCall kHostCalls[] = {
    {SYS_futex, "an executor waits; a change of an address space waits for another executor to leave the guest"},
    {SYS_tgkill, "takes an executor out of the guest"},
    {SYS_getpid, "our own id for tgkill"},
    {SYS_clock_gettime, "where the vDSO has no clock"},
    {SYS_madvise, "takes pages out of a window, so that the host's KVM forgets its translations"},
    {SYS_close, "a file that no guest maps any more"},
};

// Requests of ioctl. They go to the machine and its virtual CPUs; no other machine can be made.
struct HostIoctl {
  unsigned long request;
  const char* reason;
};

inline constexpr HostIoctl kIoctls[] = {
    {KVM_RUN, "runs guest code"},
    {KVM_INTERRUPT, "takes a guest thread out of its virtual CPU"},
    {KVM_SET_USER_MEMORY_REGION, "more guest-physical memory; recycling of page tables"},
    {KVM_GET_SREGS, "the address of a page fault; the state after an exit that is not ours"},
    {KVM_SET_SREGS, "back to ring 0 after such an exit"},
    {KVM_GET_REGS, "the registers after such an exit"},
    {KVM_SET_REGS, "back to ring 0 after such an exit"},
    {KVM_SET_VCPU_EVENTS, "no event is left of such an exit"},
    {kGetXsave, "the vector state of a guest thread that leaves its virtual CPU"},
    {kGetXsave2, "the same"},
    {kSetXsave, "the vector state of one that comes"},
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_HOST_CALLS_H_
