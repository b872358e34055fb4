#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "runsc/cmd/command.h"
#include "runsc/oci/mount_options.h"
#include "runsc/oci/names.h"
#include "runsc/oci/spec.h"

namespace runsc::cmd {

absl::StatusOr<int> Features(Context& context) {
  config::FlagSet flags;
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "", 0, 0));
  if (arguments.help_asked) return 0;
  using nlohmann::ordered_json;
  config::Config defaults;
  config::FlagSet global;
  config::RegisterFlags(global, defaults);
  ordered_json annotations = ordered_json::object();
  ordered_json unsafe = ordered_json::array();
  for (const auto& flag : global.Describe()) {
    annotations["dev.gvisor.flag." + flag.name] = flag.default_text;
    unsafe.push_back("dev.gvisor.flag." + flag.name);
  }
  ordered_json features = {
      {"ociVersionMin", "1.0.0"},
      {"ociVersionMax", oci::kOciVersion},
      {"hooks", {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}},
      {"mountOptions", oci::KnownMountOptions()},
      {"linux",
       {{"namespaces", {"cgroup", "ipc", "mount", "network", "pid", "user", "uts"}},
        {"capabilities", oci::CapabilityNames()},
        // systemd: its form of cgroupsPath is understood, its daemon is not asked.
        {"cgroup", {{"v1", true}, {"v2", true}, {"systemd", false}, {"systemdUser", false}, {"rdma", false}}},
        // With --oci-seccomp.
        {"seccomp",
         {{"enabled", true},
          {"actions",
           {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"}},
          {"operators",
           {"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE"}},
          {"archs", {"SCMP_ARCH_X86_64"}}}},
        {"apparmor", {{"enabled", false}}},
        {"selinux", {{"enabled", false}}},
        {"intelRdt", {{"enabled", false}}}}},
      {"annotations", annotations},
      {"potentiallyUnsafeConfigAnnotations", unsafe}};
  printf("%s\n", features.dump(2).c_str());
  return 0;
}

absl::StatusOr<int> Syscalls(Context& context) {
  config::FlagSet flags;
  std::string format = "table";
  flags.String("format", &format, "table or json");
  flags.Alias("o", "format");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[-format table|json]", 0, 0));
  if (arguments.help_asked) return 0;
  if (format != "table" && format != "json") {
    return absl::InvalidArgumentError("invalid value \"" + format + "\" for flag -format: must be table or json");
  }
  if (context.kernel.describe_syscalls == nullptr)
    return absl::UnimplementedError("this build has no kernel to describe");
  fputs(context.kernel.describe_syscalls(format == "json").c_str(), stdout);
  return 0;
}

}  // namespace runsc::cmd
