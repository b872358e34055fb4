#include <errno.h>
#include <linux/seccomp.h>

#include <cctype>
#include <map>
#include <set>

#include "base/status_macros.h"
#include "runsc/oci/json_reader.h"
#include "runsc/oci/names.h"
#include "runsc/oci/spec.h"

namespace runsc::oci {
namespace {

constexpr int64_t kMaxId = 0xffffffff;

uint64_t ReadCapabilities(const JsonReader& list) {
  uint64_t set = 0;
  list.ForEach([&](const JsonReader& name) {
    std::string text = name.String();
    std::optional<int> number = CapabilityNumber(text);
    if (number) {
      set |= uint64_t{1} << *number;
    } else {
      name.Fail("is no capability: \"" + text + "\"");
    }
  });
  return set;
}

Process ReadProcess(const JsonReader& in) {
  Process p;
  p.terminal = in["terminal"].Bool();
  p.console_rows = static_cast<uint16_t>(in["consoleSize"]["height"].Int(0, 65535));
  p.console_columns = static_cast<uint16_t>(in["consoleSize"]["width"].Int(0, 65535));

  JsonReader user = in["user"];
  p.user.uid = static_cast<uint32_t>(user["uid"].Int(0, kMaxId - 1));
  p.user.gid = static_cast<uint32_t>(user["gid"].Int(0, kMaxId - 1));
  if (user["umask"].exists()) p.user.umask = static_cast<uint32_t>(user["umask"].Int(0, 0777));
  user["additionalGids"].ForEach(
      [&](const JsonReader& gid) { p.user.additional_gids.push_back(static_cast<uint32_t>(gid.Int(0, kMaxId - 1))); });

  p.args = in["args"].Strings();
  if (p.args.empty()) {
    in["args"].Fail("must name the program to run");
  } else if (p.args[0].empty()) {
    in["args"].Fail("must not begin with an empty string");
  }
  p.env = in["env"].Strings();
  in["env"].ForEach([](const JsonReader& variable) {
    std::string text = variable.String();
    if (size_t equals = text.find('='); equals == std::string::npos || equals == 0) {
      variable.Fail("must be NAME=value: \"" + text + "\"");
    }
  });
  p.cwd = in["cwd"].String();
  if (p.cwd.empty()) {
    in["cwd"].Fail("must be given: the working directory, an absolute path");
  } else if (p.cwd[0] != '/') {
    in["cwd"].Fail("must be an absolute path: \"" + p.cwd + "\"");
  }

  if (JsonReader caps = in["capabilities"]; caps.exists()) {
    Capabilities& c = p.capabilities.emplace();
    c.bounding = ReadCapabilities(caps["bounding"]);
    c.effective = ReadCapabilities(caps["effective"]);
    c.inheritable = ReadCapabilities(caps["inheritable"]);
    c.permitted = ReadCapabilities(caps["permitted"]);
    // An ambient capability has to be permitted and inheritable (man 7 capabilities); runc drops others with a warning.
    c.ambient = ReadCapabilities(caps["ambient"]) & c.permitted & c.inheritable;
  }
  std::set<int> seen;
  in["rlimits"].ForEach([&](const JsonReader& limit) {
    std::string type = limit["type"].String();
    std::optional<int> number = RlimitNumber(type);
    if (!number) return limit["type"].Fail("is no resource limit: \"" + type + "\"");
    if (!seen.insert(*number).second) return limit.Fail("repeats " + type);
    Rlimit r{*number, limit["soft"].Uint64(), limit["hard"].Uint64()};
    if (r.soft > r.hard) return limit.Fail("has a soft limit above the hard one");
    p.rlimits.push_back(r);
  });
  p.no_new_privileges = in["noNewPrivileges"].Bool();
  if (in["oomScoreAdj"].exists()) p.oom_score_adj = static_cast<int>(in["oomScoreAdj"].Int(-1000, 1000));
  return p;
}

std::vector<Hook> ReadHooks(const JsonReader& in) {
  std::vector<Hook> hooks;
  in.ForEach([&](const JsonReader& entry) {
    Hook hook;
    hook.path = entry["path"].String();
    if (hook.path.empty() || hook.path[0] != '/') entry["path"].Fail("must be an absolute path");
    hook.args = entry["args"].Strings();
    hook.env = entry["env"].Strings();
    if (entry["timeout"].exists()) {
      hook.timeout_s = static_cast<int>(entry["timeout"].Int(std::numeric_limits<int>::min(), 1 << 30));
      if (*hook.timeout_s <= 0) entry["timeout"].Fail("must be greater than zero");
    }
    hooks.push_back(std::move(hook));
  });
  return hooks;
}

template <typename T>
void ReadOptional(const JsonReader& in, std::optional<T>& out) {
  if (!in.exists()) return;
  if constexpr (std::is_same_v<T, bool>) {
    out = in.Bool();
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    out = in.Uint64();
  } else {
    out = static_cast<T>(in.Int(std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
  }
}

Resources ReadResources(const JsonReader& in) {
  Resources r;
  JsonReader memory = in["memory"], cpu = in["cpu"];
  ReadOptional(memory["limit"], r.memory_limit);
  ReadOptional(memory["reservation"], r.memory_reservation);
  ReadOptional(memory["swap"], r.memory_swap);
  ReadOptional(memory["kernel"], r.memory_kernel);
  ReadOptional(memory["kernelTCP"], r.memory_kernel_tcp);
  ReadOptional(memory["swappiness"], r.memory_swappiness);
  ReadOptional(memory["disableOOMKiller"], r.memory_disable_oom_killer);
  ReadOptional(cpu["shares"], r.cpu_shares);
  ReadOptional(cpu["quota"], r.cpu_quota);
  ReadOptional(cpu["period"], r.cpu_period);
  ReadOptional(cpu["burst"], r.cpu_burst);
  ReadOptional(cpu["realtimeRuntime"], r.cpu_realtime_runtime);
  ReadOptional(cpu["realtimePeriod"], r.cpu_realtime_period);
  ReadOptional(cpu["idle"], r.cpu_idle);
  r.cpuset_cpus = cpu["cpus"].String();
  r.cpuset_mems = cpu["mems"].String();
  ReadOptional(in["pids"]["limit"], r.pids_limit);
  ReadOptional(in["blockIO"]["weight"], r.blkio_weight);
  r.unified = in["unified"].StringMap();
  for (const auto& [key, value] : r.unified) {
    if (key.empty() || key.find('/') != std::string::npos) in["unified"].Fail("has a key that is no file name: " + key);
  }
  return r;
}

bool PlausibleHostname(const std::string& name) { return name.size() <= 64 && name.find('/') == std::string::npos; }

void CheckAbsolutePaths(const JsonReader& list) {
  list.ForEach([](const JsonReader& path) {
    std::string text = path.String();
    if (text.empty() || text[0] != '/') path.Fail("must be an absolute path: \"" + text + "\"");
  });
}

void CheckVersion(const JsonReader& version, const std::string& text) {
  if (text.empty()) return version.Fail("must be given, for example \"" + std::string(kOciVersion) + "\"");
  if (text.substr(0, 2) != "1.") version.Fail("is \"" + text + "\"; this runtime understands versions 1.x");
}

std::vector<IdMapping> ReadIdMappings(const JsonReader& in) {
  std::vector<IdMapping> mappings;
  in.ForEach([&](const JsonReader& entry) {
    mappings.push_back({static_cast<uint32_t>(entry["containerID"].Int(0, kMaxId)),
                        static_cast<uint32_t>(entry["hostID"].Int(0, kMaxId)),
                        static_cast<uint32_t>(entry["size"].Int(1, kMaxId))});
  });
  return mappings;
}

// An action with its errnoRet, as the kernel has it. (runtime-spec, config-linux.md: Seccomp)
uint32_t ReadSeccompAction(const JsonReader& action, const JsonReader& errno_ret) {
  static const std::map<std::string, uint32_t> kActions = {{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},
                                                           {"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
                                                           {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
                                                           {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
                                                           {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},
                                                           {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},
                                                           {"SCMP_ACT_LOG", SECCOMP_RET_LOG},
                                                           {"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW}};
  const std::string name = action.String();
  auto it = kActions.find(name);
  if (it == kActions.end()) {
    action.Fail("is no action that can be taken here: \"" + name + "\"");
    return SECCOMP_RET_KILL_PROCESS;
  }
  const bool has_errno = it->second == SECCOMP_RET_ERRNO || it->second == SECCOMP_RET_TRACE;
  return it->second | (has_errno ? static_cast<uint32_t>(errno_ret.Int(0, 4095, EPERM)) : 0);
}

Seccomp ReadSeccomp(const JsonReader& in) {
  static const std::set<std::string> kOps = {"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE",       "SCMP_CMP_EQ",
                                             "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"};
  Seccomp seccomp;
  in["defaultAction"].Require("must be given");
  seccomp.default_action = ReadSeccompAction(in["defaultAction"], in["defaultErrnoRet"]);
  in["syscalls"].ForEach([&](const JsonReader& entry) {
    SeccompRule rule;
    rule.names = entry["names"].Strings();
    if (rule.names.empty()) entry["names"].Fail("must name a system call");
    rule.action = ReadSeccompAction(entry["action"], entry["errnoRet"]);
    entry["args"].ForEach([&](const JsonReader& arg) {
      SeccompArg a;
      a.index = static_cast<uint32_t>(arg["index"].Int(0, 5));
      a.value = arg["value"].Uint64();
      a.value_two = arg["valueTwo"].Uint64();
      a.op = arg["op"].String();
      if (kOps.count(a.op) == 0) arg["op"].Fail("is no comparison: \"" + a.op + "\"");
      rule.args.push_back(std::move(a));
    });
    seccomp.rules.push_back(std::move(rule));
  });
  return seccomp;
}

Linux ReadLinux(const JsonReader& in) {
  Linux l;
  l.uid_mappings = ReadIdMappings(in["uidMappings"]);
  l.gid_mappings = ReadIdMappings(in["gidMappings"]);
  in["namespaces"].ForEach([&](const JsonReader& entry) {
    static const std::set<std::string> kTypes = {"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"};
    Namespace n{entry["type"].String(), entry["path"].String()};
    if (kTypes.count(n.type) == 0) return entry["type"].Fail("is no namespace: \"" + n.type + "\"");
    for (const Namespace& other : l.namespaces) {
      if (other.type == n.type) return entry.Fail("repeats the namespace " + n.type);
    }
    l.namespaces.push_back(std::move(n));
  });
  l.cgroups_path = in["cgroupsPath"].String();
  l.resources = ReadResources(in["resources"]);
  l.sysctl = in["sysctl"].StringMap();
  l.masked_paths = in["maskedPaths"].Strings();
  CheckAbsolutePaths(in["maskedPaths"]);
  l.readonly_paths = in["readonlyPaths"].Strings();
  CheckAbsolutePaths(in["readonlyPaths"]);
  if (in["seccomp"].exists()) l.seccomp = ReadSeccomp(in["seccomp"]);
  return l;
}

Spec ReadSpec(const JsonReader& in) {
  Spec spec;
  spec.oci_version = in["ociVersion"].String();
  CheckVersion(in["ociVersion"], spec.oci_version);

  in["process"].Require("must be given: it says what to run");
  if (in["process"].exists()) spec.process = ReadProcess(in["process"]);

  spec.root.path = in["root"]["path"].String();
  if (spec.root.path.empty())
    in["root"]["path"].Fail("must be given: the directory of the container's root file system");
  spec.root.readonly = in["root"]["readonly"].Bool();

  spec.hostname = in["hostname"].String();
  if (!PlausibleHostname(spec.hostname)) in["hostname"].Fail("must be at most 64 characters and no path");
  spec.domainname = in["domainname"].String();
  if (!PlausibleHostname(spec.domainname)) in["domainname"].Fail("must be at most 64 characters and no path");

  in["mounts"].ForEach([&](const JsonReader& entry) {
    Mount m{entry["destination"].String(), entry["type"].String(), entry["source"].String(),
            entry["options"].Strings()};
    if (m.destination.empty()) entry["destination"].Fail("must be given");
    spec.mounts.push_back(std::move(m));
  });

  JsonReader hooks = in["hooks"];
  spec.hooks.prestart = ReadHooks(hooks["prestart"]);
  spec.hooks.create_runtime = ReadHooks(hooks["createRuntime"]);
  spec.hooks.create_container = ReadHooks(hooks["createContainer"]);
  spec.hooks.start_container = ReadHooks(hooks["startContainer"]);
  spec.hooks.poststart = ReadHooks(hooks["poststart"]);
  spec.hooks.poststop = ReadHooks(hooks["poststop"]);

  spec.annotations = in["annotations"].StringMap();
  spec.linux_ = ReadLinux(in["linux"]);
  return spec;
}

// Runs `read` over the document and returns what it made, or the first error.
template <typename T>
absl::StatusOr<T> ReadDocument(std::string_view json, std::string_view name, T (*read)(const JsonReader&)) {
  ASSIGN_OR_RETURN(nlohmann::json document, ParseJson(json, name));
  absl::Status status;
  T value = read(JsonReader(document, name, status));
  if (!status.ok()) return status;
  return value;
}

}  // namespace

absl::StatusOr<Spec> ParseSpec(std::string_view json) { return ReadDocument(json, "config.json", &ReadSpec); }

absl::StatusOr<Process> ParseProcess(std::string_view json, std::string_view name) {
  return ReadDocument(json, name, &ReadProcess);
}

absl::StatusOr<Resources> ParseResources(std::string_view json, std::string_view name) {
  return ReadDocument(json, name, &ReadResources);
}

}  // namespace runsc::oci
