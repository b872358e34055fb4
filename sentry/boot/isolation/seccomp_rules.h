// The allow-lists as tables: every host call a process of ours may make, under which conditions, and why. Used at build
// time only, by seccomp_generator.cc, which turns them into BPF.
#ifndef SENTRY_BOOT_ISOLATION_SECCOMP_RULES_H_
#define SENTRY_BOOT_ISOLATION_SECCOMP_RULES_H_

#include <cstdint>
#include <string>
#include <vector>

namespace sentry::isolation {

// (argument[index] & mask) == value
struct ArgumentCheck {
  unsigned index = 0;
  uint64_t mask = ~uint64_t{0};
  uint64_t value = 0;
};

struct SeccompRule {
  long number = 0;
  std::string why;
  std::vector<ArgumentCheck> checks;  // all have to hold; several rules for one number are alternatives
  int fail_with = 0;                  // nonzero: answered with this errno instead of being carried out
};

struct SeccompFilter {
  std::string name;  // of the array: kGoferFilter
  std::vector<SeccompRule> rules;
};

// The sentry, for each platform, without and with host sockets (network=host).
std::vector<SeccompFilter> SentryFilters();
// The gofer without and with --host-uds.
SeccompFilter GoferFilter();
SeccompFilter GoferHostUdsFilter();

}  // namespace sentry::isolation

#endif  // SENTRY_BOOT_ISOLATION_SECCOMP_RULES_H_
