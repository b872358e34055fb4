// Names that the OCI configuration spells out: capabilities, resource limits, signals.
#ifndef RUNSC_OCI_NAMES_H_
#define RUNSC_OCI_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace runsc::oci {

// "CAP_NET_RAW" (also without prefix, any case) → 13.
std::optional<int> CapabilityNumber(std::string_view name);
// All names in the order of their numbers.
const std::vector<std::string>& CapabilityNames();
// Every capability that exists.
uint64_t AllCapabilities();
// The set that Docker gives a container, which is also what `runsc spec` and `runsc do` give when they drop nothing
// more.
uint64_t DefaultCapabilities();

// "RLIMIT_NOFILE" → 7.
std::optional<int> RlimitNumber(std::string_view name);

// "9", "KILL", "SIGKILL", "sigrtmin+3" → number; empty for anything else, also for numbers outside of 1 … 64.
std::optional<int> SignalNumber(std::string_view name);

}  // namespace runsc::oci

#endif  // RUNSC_OCI_NAMES_H_
