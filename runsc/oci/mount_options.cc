#include "runsc/oci/mount_options.h"

#include <sys/mount.h>

#include <algorithm>

namespace runsc::oci {
namespace {

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

struct Word {
  const char* name;
  uint64_t set;
  uint64_t clear;
};

// runtime-spec, config.md#linux-mount-options. The last group changes nothing for a guest whose mounts nobody else
// sees: propagation between host and guest does not exist.
constexpr Word kWords[] = {
    {"defaults", 0, 0},
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC, 0},
    {"mand", MS_MANDLOCK, 0},
    {"nomand", 0, MS_MANDLOCK},
    {"noatime", MS_NOATIME, 0},
    {"atime", 0, MS_NOATIME},
    {"nodiratime", MS_NODIRATIME, 0},
    {"diratime", 0, MS_NODIRATIME},
    {"relatime", MS_RELATIME, MS_STRICTATIME},
    {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, MS_RELATIME | MS_NOATIME},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"iversion", MS_I_VERSION, 0},
    {"noiversion", 0, MS_I_VERSION},
    {"lazytime", MS_LAZYTIME, 0},
    {"nolazytime", 0, MS_LAZYTIME},
    {"nosymfollow", MS_NOSYMFOLLOW, 0},
    {"symfollow", 0, MS_NOSYMFOLLOW},
    // The recursive forms: a bind mount is one tree here.
    {"rro", MS_RDONLY, 0},
    {"rrw", 0, MS_RDONLY},
    {"rnosuid", MS_NOSUID, 0},
    {"rsuid", 0, MS_NOSUID},
    {"rnodev", MS_NODEV, 0},
    {"rdev", 0, MS_NODEV},
    {"rnoexec", MS_NOEXEC, 0},
    {"rexec", 0, MS_NOEXEC},
    {"rnoatime", MS_NOATIME, 0},
    {"ratime", 0, MS_NOATIME},
    {"rnodiratime", MS_NODIRATIME, 0},
    {"rdiratime", 0, MS_NODIRATIME},
    {"rrelatime", MS_RELATIME, 0},
    {"rnorelatime", 0, MS_RELATIME},
    {"rstrictatime", MS_STRICTATIME, 0},
    {"rnostrictatime", 0, MS_STRICTATIME},
    {"rnosymfollow", MS_NOSYMFOLLOW, 0},
    {"rsymfollow", 0, MS_NOSYMFOLLOW},
    {"private", 0, 0},
    {"rprivate", 0, 0},
    {"shared", 0, 0},
    {"rshared", 0, 0},
    {"slave", 0, 0},
    {"rslave", 0, 0},
    {"unbindable", 0, 0},
    {"runbindable", 0, 0},
    {"remount", 0, 0},
    {"silent", 0, 0},
    {"loud", 0, 0},
    {"nofail", 0, 0},
    {"tmpcopyup", 0, 0},
};

}  // namespace

MountOptions ParseMountOptions(const std::vector<std::string>& options) {
  MountOptions result;
  for (const std::string& option : options) {
    if (option.empty()) continue;
    if (option == "bind" || option == "rbind") {
      result.bind = true;
      result.recursive = result.recursive || option == "rbind";
      continue;
    }
    const Word* word =
        std::find_if(std::begin(kWords), std::end(kWords), [&](const Word& w) { return option == w.name; });
    if (word != std::end(kWords)) {
      result.flags = (result.flags & ~word->clear) | word->set;
      continue;
    }
    if (!result.data.empty()) result.data += ',';
    result.data += option;
  }
  return result;
}

bool IsBindMount(const Mount& mount, const MountOptions& options) { return options.bind || mount.type == "bind"; }

std::vector<std::string> KnownMountOptions() {
  std::vector<std::string> names = {"bind", "rbind"};
  for (const Word& word : kWords) names.push_back(word.name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace runsc::oci
