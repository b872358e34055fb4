// The parts of the host's KVM interface that <linux/kvm.h> does not give to C++: its structures with flexible arrays
// have another size there, and so their ioctls another number; and what is newer than some headers.
#ifndef PLATFORM_KVM_KVM_ABI_H_
#define PLATFORM_KVM_KVM_ABI_H_

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>

namespace platform::kvm {

struct CpuidList {  // kvm_cpuid2
  static constexpr uint32_t kMax = 256;
  uint32_t count = kMax, padding = 0;
  kvm_cpuid_entry2 entries[kMax];
};

template <int N>
struct MsrList {  // kvm_msrs
  uint32_t count = N, padding = 0;
  kvm_msr_entry entries[N];
};

inline constexpr unsigned long kGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
inline constexpr unsigned long kSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);
inline constexpr unsigned long kSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, 8);

inline constexpr long kCapXsave2 = 208;
inline constexpr size_t kXsaveBytes = 4096;  // of KVM_GET_XSAVE; the other two may have more
inline constexpr unsigned long kGetXsave = _IOC(_IOC_READ, KVMIO, 0xa4, kXsaveBytes);
inline constexpr unsigned long kSetXsave = _IOC(_IOC_WRITE, KVMIO, 0xa5, kXsaveBytes);
inline constexpr unsigned long kGetXsave2 = _IOC(_IOC_READ, KVMIO, 0xcf, kXsaveBytes);
inline constexpr long kCapDisableQuirks2 = 213;
inline constexpr uint64_t kQuirkFixHypercall = 1 << 5;  // KVM_X86_QUIRK_FIX_HYPERCALL_INSN
inline constexpr long kCapMemoryFaultInfo = 232;
inline constexpr uint32_t kExitMemoryFault = 39;
struct MemoryFault {  // kvm_run::memory_fault
  uint64_t flags, physical, size;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_KVM_ABI_H_
