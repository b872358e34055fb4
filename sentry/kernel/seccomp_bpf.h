// The classic BPF programs that seccomp(2) takes: which are accepted, and what they answer.
//
// Linux checks them twice, net/core/filter.c (bpf_check_classic) and kernel/seccomp.c (seccomp_check_filter); what
// passes both can only jump forward, read words of seccomp_data, and ends with a return, so that running it needs no
// further checks and always ends.
#ifndef SENTRY_KERNEL_SECCOMP_BPF_H_
#define SENTRY_KERNEL_SECCOMP_BPF_H_

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>
#include <optional>
#include <span>

#include "base/errno.h"

namespace sentry {

inline constexpr size_t kSeccompMaxInstructions = 4096;  // BPF_MAXINSNS
inline constexpr uint32_t kAuditArchX86_64 = 0xc000003e;

// EINVAL unless the kernel would take it.
base::Result<void> CheckSeccompProgram(std::span<const sock_filter> program);

// Instructions of the eBPF program that Linux makes of it (net/core/filter.c: bpf_convert_filter): what the limit on
// all filters of a task counts.
size_t SeccompProgramCost(std::span<const sock_filter> program);

// What a checked program returns: an action and 16 bits of data.
uint32_t RunSeccompProgram(std::span<const sock_filter> program, const seccomp_data& data);

// The same knowing the number and the architecture alone; nothing if the answer depends on the arguments or on the
// instruction's address.
std::optional<uint32_t> RunSeccompProgramOnNumber(std::span<const sock_filter> program, int number, uint32_t arch);

}  // namespace sentry

#endif  // SENTRY_KERNEL_SECCOMP_BPF_H_
