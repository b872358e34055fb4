#include "sentry/boot/platforms.h"

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "platform/kvm/kvm_platform.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/systrap/systrap_platform.h"

namespace sentry {
namespace {

base::Result<std::unique_ptr<platform::Platform>> NewSystrap(PlatformOptions& options) {
  return platform::systrap::New({.cpu_limit = options.cpu_limit, .patching = options.systrap_patching});
}
base::Result<std::unique_ptr<platform::Platform>> NewPtrace(PlatformOptions&) { return platform::ptrace::New(); }
base::Result<std::unique_ptr<platform::Platform>> NewKvm(PlatformOptions& options) {
  return platform::kvm::New({.device = std::move(options.kvm)});
}

struct Entry {
  std::string_view name;
  base::Result<std::unique_ptr<platform::Platform>> (*make)(PlatformOptions& options);
  const char* refused;  // what it means that the host does not let it work
};

constexpr Entry kPlatforms[] = {
    {"systrap", &NewSystrap,
     "the host cannot run the systrap platform (it needs seccomp filters and the FSGSBASE instructions); try "
     "--platform=ptrace"},
    {"ptrace", &NewPtrace, "the host does not let the sandbox trace its own children (--platform=ptrace)"},
    {"kvm", &NewKvm, "the host's KVM does not do what --platform=kvm needs; try --platform=systrap"},
};

}  // namespace

absl::StatusOr<std::unique_ptr<platform::Platform>> NewPlatform(std::string_view name, PlatformOptions options) {
  std::string names;
  for (const Entry& entry : kPlatforms) {
    if (entry.name == name) {
      auto made = entry.make(options);
      if (made.ok()) return std::move(*made);
      return absl::FailedPreconditionError(absl::StrCat(entry.refused, ": ", strerror(made.error().value())));
    }
    absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(entry.name));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("platform \"", std::string(name), "\" is not available; this build has: ", names));
}

}  // namespace sentry
