#include <sstream>

#include "runsc/cgroup/cgroup.h"
#include "runsc/host/files.h"

namespace runsc::cgroup {
namespace {

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  std::string part;
  while (std::getline(stream, part, separator)) parts.push_back(part);
  return parts;
}

// Mount points in mountinfo have \040 and the like for blanks (man 5 proc).
std::string Unescape(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

bool IsController(const std::string& option) {
  static const char* const kControllers[] = {"cpu",     "cpuacct",    "cpuset", "memory",  "devices",
                                             "freezer", "blkio",      "pids",   "net_cls", "net_prio",
                                             "hugetlb", "perf_event", "rdma",   "misc",    "name=systemd"};
  for (const char* c : kControllers) {
    if (option == c) return true;
  }
  return false;
}

}  // namespace

Layout Layout::Parse(const std::string& mountinfo, const std::string& self_cgroup) {
  Layout layout;
  for (const std::string& line : Split(mountinfo, '\n')) {
    // "36 35 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu"
    size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::vector<std::string> before = Split(line.substr(0, dash), ' '), after = Split(line.substr(dash + 3), ' ');
    if (before.size() < 6 || after.size() < 3) continue;
    std::string mount_point = Unescape(before[4]);
    if (after[0] == "cgroup2") {
      if (layout.unified.empty()) layout.unified = mount_point;
    } else if (after[0] == "cgroup") {
      for (const std::string& option : Split(after[2], ',')) {
        if (IsController(option)) layout.controllers.emplace(option, mount_point);
      }
    }
  }
  for (const std::string& line : Split(self_cgroup, '\n')) {
    // "4:cpu,cpuacct:/user.slice", version 2: "0::/user.slice"
    size_t first = line.find(':');
    size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string path = line.substr(second + 1);
    std::string names = line.substr(first + 1, second - first - 1);
    if (names.empty()) {
      layout.own[""] = path;
    } else {
      for (const std::string& name : Split(names, ',')) layout.own[name] = path;
    }
  }
  // name=systemd alone is no resource controller: such a host is in effect on version 2.
  if (layout.controllers.size() == 1 && layout.controllers.count("name=systemd") != 0 && !layout.unified.empty()) {
    layout.controllers.clear();
  }
  return layout;
}

Layout Layout::Detect() {
  auto mountinfo = host::ReadFile("/proc/self/mountinfo");
  auto self = host::ReadFile("/proc/self/cgroup");
  return Parse(mountinfo.value_or(""), self.value_or(""));
}

absl::StatusOr<std::string> ResolvePath(const std::string& cgroups_path, bool systemd, const std::string& own) {
  if (!systemd) {
    if (!cgroups_path.empty() && cgroups_path[0] == '/') return host::CleanPath(cgroups_path);
    return host::CleanPath(own + "/" + cgroups_path);
  }
  std::vector<std::string> parts = Split(cgroups_path, ':');
  if (parts.size() != 3 || parts[2].empty() || cgroups_path.find('/') != std::string::npos) {
    return absl::InvalidArgumentError(
        "config.json: linux.cgroupsPath must be \"slice:prefix:name\" with --systemd-cgroup, not \"" + cgroups_path +
        "\"");
  }
  std::string slice = parts[0].empty() ? "system.slice" : parts[0];
  std::string unit = parts[1].empty() ? parts[2] : parts[1] + "-" + parts[2];
  if (unit.size() < 6 || unit.compare(unit.size() - 6, 6, ".slice") != 0) unit += ".scope";
  // "a-b.slice" lies in "a.slice" (man 5 systemd.slice).
  std::string path, name;
  const std::string suffix = ".slice";
  auto no_slice = [&] {
    return absl::InvalidArgumentError("config.json: linux.cgroupsPath: \"" + slice + "\" is no slice");
  };
  if (slice.size() <= suffix.size() || slice.compare(slice.size() - suffix.size(), suffix.size(), suffix) != 0)
    return no_slice();
  std::string stem = slice.substr(0, slice.size() - suffix.size());
  if (stem != "-") {
    for (const std::string& part : Split(stem, '-')) {
      if (part.empty()) return no_slice();
      name += (name.empty() ? "" : "-") + part;
      path += "/" + name + suffix;
    }
  }
  return host::CleanPath(path + "/" + unit);
}

}  // namespace runsc::cgroup
