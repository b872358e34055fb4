#include "runsc/oci/names.h"

#include <signal.h>
#include <sys/resource.h>

#include <charconv>
#include <iterator>

namespace runsc::oci {
namespace {

std::string Upper(std::string_view s) {
  std::string r(s);
  for (char& c : r) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return r;
}

// linux/capability.h, in order.
const char* const kCapabilities[] = {"CHOWN",
                                     "DAC_OVERRIDE",
                                     "DAC_READ_SEARCH",
                                     "FOWNER",
                                     "FSETID",
                                     "KILL",
                                     "SETGID",
                                     "SETUID",
                                     "SETPCAP",
                                     "LINUX_IMMUTABLE",
                                     "NET_BIND_SERVICE",
                                     "NET_BROADCAST",
                                     "NET_ADMIN",
                                     "NET_RAW",
                                     "IPC_LOCK",
                                     "IPC_OWNER",
                                     "SYS_MODULE",
                                     "SYS_RAWIO",
                                     "SYS_CHROOT",
                                     "SYS_PTRACE",
                                     "SYS_PACCT",
                                     "SYS_ADMIN",
                                     "SYS_BOOT",
                                     "SYS_NICE",
                                     "SYS_RESOURCE",
                                     "SYS_TIME",
                                     "SYS_TTY_CONFIG",
                                     "MKNOD",
                                     "LEASE",
                                     "AUDIT_WRITE",
                                     "AUDIT_CONTROL",
                                     "SETFCAP",
                                     "MAC_OVERRIDE",
                                     "MAC_ADMIN",
                                     "SYSLOG",
                                     "WAKE_ALARM",
                                     "BLOCK_SUSPEND",
                                     "AUDIT_READ",
                                     "PERFMON",
                                     "BPF",
                                     "CHECKPOINT_RESTORE"};

struct Named {
  const char* name;
  int number;
};

const Named kRlimits[] = {{"AS", RLIMIT_AS},           {"CORE", RLIMIT_CORE},         {"CPU", RLIMIT_CPU},
                          {"DATA", RLIMIT_DATA},       {"FSIZE", RLIMIT_FSIZE},       {"LOCKS", RLIMIT_LOCKS},
                          {"MEMLOCK", RLIMIT_MEMLOCK}, {"MSGQUEUE", RLIMIT_MSGQUEUE}, {"NICE", RLIMIT_NICE},
                          {"NOFILE", RLIMIT_NOFILE},   {"NPROC", RLIMIT_NPROC},       {"RSS", RLIMIT_RSS},
                          {"RTPRIO", RLIMIT_RTPRIO},   {"RTTIME", RLIMIT_RTTIME},     {"SIGPENDING", RLIMIT_SIGPENDING},
                          {"STACK", RLIMIT_STACK}};

// man 7 signal, amd64 and arm64.
const Named kSignals[] = {{"HUP", 1},   {"INT", 2},   {"QUIT", 3},  {"ILL", 4},     {"TRAP", 5},    {"ABRT", 6},
                          {"IOT", 6},   {"BUS", 7},   {"FPE", 8},   {"KILL", 9},    {"USR1", 10},   {"SEGV", 11},
                          {"USR2", 12}, {"PIPE", 13}, {"ALRM", 14}, {"TERM", 15},   {"STKFLT", 16}, {"CHLD", 17},
                          {"CLD", 17},  {"CONT", 18}, {"STOP", 19}, {"TSTP", 20},   {"TTIN", 21},   {"TTOU", 22},
                          {"URG", 23},  {"XCPU", 24}, {"XFSZ", 25}, {"VTALRM", 26}, {"PROF", 27},   {"WINCH", 28},
                          {"IO", 29},   {"POLL", 29}, {"PWR", 30},  {"SYS", 31},    {"UNUSED", 31}};

constexpr int kFirstRealTime = 34;  // what the C library leaves of 32 … 64 (man 7 signal)
constexpr int kLastSignal = 64;

std::optional<int> Number(std::string_view s) {
  int n = 0;
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), n);
  if (error != std::errc() || end != s.data() + s.size()) return std::nullopt;
  return n;
}

}  // namespace

std::optional<int> CapabilityNumber(std::string_view name) {
  std::string upper = Upper(name);
  std::string_view key = upper;
  if (key.substr(0, 4) == "CAP_") key.remove_prefix(4);
  for (size_t i = 0; i < std::size(kCapabilities); ++i) {
    if (key == kCapabilities[i]) return static_cast<int>(i);
  }
  return std::nullopt;
}

const std::vector<std::string>& CapabilityNames() {
  static const auto& names = *[] {
    auto* list = new std::vector<std::string>;
    for (const char* name : kCapabilities) list->push_back(std::string("CAP_") + name);
    return list;
  }();
  return names;
}

uint64_t AllCapabilities() { return (uint64_t{1} << std::size(kCapabilities)) - 1; }

uint64_t DefaultCapabilities() {
  uint64_t set = 0;
  for (const char* name : {"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
                           "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"}) {
    set |= uint64_t{1} << *CapabilityNumber(name);
  }
  return set;
}

std::optional<int> RlimitNumber(std::string_view name) {
  if (name.substr(0, 7) != "RLIMIT_") return std::nullopt;
  name.remove_prefix(7);
  for (const Named& n : kRlimits) {
    if (name == n.name) return n.number;
  }
  return std::nullopt;
}

std::optional<int> SignalNumber(std::string_view name) {
  if (std::optional<int> n = Number(name)) {
    if (*n < 1 || *n > kLastSignal) return std::nullopt;
    return n;
  }
  std::string upper = Upper(name);
  std::string_view key = upper;
  if (key.substr(0, 3) == "SIG") key.remove_prefix(3);
  for (const Named& n : kSignals) {
    if (key == n.name) return n.number;
  }
  if (key == "RTMIN") return kFirstRealTime;
  if (key == "RTMAX") return kLastSignal;
  bool from_min = key.substr(0, 6) == "RTMIN+";
  if (from_min || key.substr(0, 6) == "RTMAX-") {
    std::optional<int> offset = Number(key.substr(6));
    if (offset && *offset >= 0 && *offset <= kLastSignal - kFirstRealTime) {
      return from_min ? kFirstRealTime + *offset : kLastSignal - *offset;
    }
  }
  return std::nullopt;
}

}  // namespace runsc::oci
