// What engines and people write: configurations, processes, resources, our own state files, flags.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runsc/cgroup/cgroup.h"
#include "runsc/config/config.h"
#include "runsc/container/state.h"
#include "runsc/oci/mount_options.h"
#include "runsc/oci/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto spec = runsc::oci::ParseSpec(text);
  if (spec.ok()) {
    for (const auto& mount : spec->mounts) (void)runsc::oci::ParseMountOptions(mount.options);
    runsc::config::Config config;
    (void)runsc::config::ApplyAnnotations(spec->annotations, config);
    for (bool systemd : {false, true}) (void)runsc::cgroup::ResolvePath(spec->linux_.cgroups_path, systemd, "/own");
  }
  (void)runsc::oci::ParseProcess(text, "process.json");
  (void)runsc::oci::ParseResources(text, "resources.json");
  if (auto state = runsc::container::StateFromJson(text, "state.json"); state.ok()) {
    (void)runsc::container::OciStateJson(*state, runsc::container::Status::kRunning, true);
    (void)runsc::container::StateToJson(*state);
  }
  std::string words(text);
  (void)runsc::cgroup::Layout::Parse(words, words);
  (void)runsc::config::ParseOverlay(text);
  return 0;
}
