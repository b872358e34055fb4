#include <nlohmann/json.hpp>

#include "runsc/oci/names.h"
#include "runsc/oci/spec.h"

namespace runsc::oci {

std::string DefaultSpecJson(const SpecTemplate& options) {
  using nlohmann::ordered_json;
  const ordered_json caps = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};

  ordered_json network = {{"type", "network"}};
  if (!options.netns.empty()) network["path"] = options.netns;

  ordered_json spec = {
      {"ociVersion", kOciVersion},
      {"process",
       {{"terminal", options.terminal},
        {"user", {{"uid", 0}, {"gid", 0}}},
        {"args", options.args},
        {"env", {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"}},
        {"cwd", options.cwd},
        {"capabilities", {{"bounding", caps}, {"effective", caps}, {"inheritable", caps}, {"permitted", caps}}},
        {"rlimits", ordered_json::array({{{"type", "RLIMIT_NOFILE"}, {"hard", 1024}, {"soft", 1024}}})},
        {"noNewPrivileges", true}}},
      {"root", {{"path", "rootfs"}, {"readonly", true}}},
      {"hostname", "runsc"},
      {"mounts", ordered_json::array({
                     {{"destination", "/proc"}, {"type", "proc"}, {"source", "proc"}},
                     {{"destination", "/dev"}, {"type", "tmpfs"}, {"source", "tmpfs"}},
                     {{"destination", "/sys"},
                      {"type", "sysfs"},
                      {"source", "sysfs"},
                      {"options", {"nosuid", "noexec", "nodev", "ro"}}},
                 })},
      {"linux",
       {{"namespaces", ordered_json::array(
                           {{{"type", "pid"}}, network, {{"type", "ipc"}}, {{"type", "uts"}}, {{"type", "mount"}}})}}},
  };
  return spec.dump(2) + "\n";
}

}  // namespace runsc::oci
