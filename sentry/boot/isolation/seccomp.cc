#include "sentry/boot/isolation/seccomp.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "base/logging.h"
#include "sentry/boot/isolation/seccomp_filters.inc"

namespace sentry::isolation {
namespace {

// --debug: the filter traps instead of killing, and this handler finishes the job.
void ReportViolation(int, siginfo_t* info, void*) {
  LOG_ERROR("seccomp: host call %d is not in the allow-list (called from %p)", info->si_syscall, info->si_call_addr);
  signal(SIGSYS, SIG_DFL);
  syscall(SYS_exit_group, 128 + SIGSYS);
}

}  // namespace

FilterId SentryFilterFor(std::string_view platform, bool host_network) {
  if (platform == "ptrace") {
    return host_network ? FilterId::kSentryPtraceHostNetwork : FilterId::kSentryPtrace;
  }
  if (platform == "kvm") return host_network ? FilterId::kSentryKvmHostNetwork : FilterId::kSentryKvm;
  return host_network ? FilterId::kSentrySystrapHostNetwork : FilterId::kSentrySystrap;
}

FilterProgram GetFilter(FilterId id) {
  switch (id) {
    case FilterId::kSentrySystrap:
      return {kSentrySystrapFilter, std::size(kSentrySystrapFilter)};
    case FilterId::kSentrySystrapHostNetwork:
      return {kSentrySystrapHostNetworkFilter, std::size(kSentrySystrapHostNetworkFilter)};
    case FilterId::kSentryPtrace:
      return {kSentryPtraceFilter, std::size(kSentryPtraceFilter)};
    case FilterId::kSentryPtraceHostNetwork:
      return {kSentryPtraceHostNetworkFilter, std::size(kSentryPtraceHostNetworkFilter)};
    case FilterId::kSentryKvm:
      return {kSentryKvmFilter, std::size(kSentryKvmFilter)};
    case FilterId::kSentryKvmHostNetwork:
      return {kSentryKvmHostNetworkFilter, std::size(kSentryKvmHostNetworkFilter)};
    case FilterId::kGofer:
      return {kGoferFilter, std::size(kGoferFilter)};
    case FilterId::kGoferHostUds:
      return {kGoferHostUdsFilter, std::size(kGoferHostUdsFilter)};
  }
  return {nullptr, 0};
}

absl::Status InstallFilter(FilterId id, bool report) {
  FilterProgram filter = GetFilter(id);
  sock_fprog program{static_cast<unsigned short>(filter.count), const_cast<sock_filter*>(filter.instructions)};
  std::vector<sock_filter> trapping;
  if (report) {
    trapping.assign(filter.instructions, filter.instructions + filter.count);
    for (sock_filter& instruction : trapping) {
      if (instruction.code == (BPF_RET | BPF_K) && instruction.k == SECCOMP_RET_KILL_PROCESS) {
        instruction.k = SECCOMP_RET_TRAP;
      }
    }
    program.filter = trapping.data();
    struct sigaction action {};
    action.sa_sigaction = &ReportViolation;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSYS, &action, nullptr);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    return absl::InternalError(std::string("no_new_privs: ") + strerror(errno));
  }
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
  if (result != 0) {
    return absl::InternalError(std::string("cannot install the seccomp filter: ") +
                               (result > 0 ? "a thread has another one" : strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace sentry::isolation
