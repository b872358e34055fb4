#include "gofer/server/host_calls.h"
#include "sentry/boot/isolation/seccomp.h"
#include "sentry/boot/isolation/seccomp_rules.h"

namespace sentry::isolation {
namespace {

SeccompFilter Make(const char* name, bool host_uds) {
  SeccompFilter filter{name, {}};
  for (const gofer::HostCall& call : gofer::kHostCalls) {
    if (call.only_with_host_uds && !host_uds) continue;
    SeccompRule rule{call.number, call.reason, {}, call.fail_with};
    for (const gofer::HostCallCondition& condition : call.conditions) {
      switch (condition.kind) {
        case gofer::HostCallCondition::Kind::kNone:
          break;
        case gofer::HostCallCondition::Kind::kMaskedEqual:
          rule.checks.push_back({condition.argument, condition.mask, condition.value});
          break;
        case gofer::HostCallCondition::Kind::kProcSelfFd:
          rule.checks.push_back({condition.argument, 0xffffffff, static_cast<uint64_t>(kGoferProcSelfFd)});
          break;
      }
    }
    filter.rules.push_back(std::move(rule));
  }
  return filter;
}

}  // namespace

SeccompFilter GoferFilter() { return Make("kGoferFilter", false); }
SeccompFilter GoferHostUdsFilter() { return Make("kGoferHostUdsFilter", true); }

}  // namespace sentry::isolation
