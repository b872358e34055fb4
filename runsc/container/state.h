// What is remembered about a container between two runs of runsc, and the directory it is kept in:
//
//   ROOT/ID/             mode 0700; flock(2) on the directory itself is the container's lock
//     state.json         written atomically
//     config.json        the configuration that the container was created from
//     control.sock       the sandbox's control interface
#ifndef RUNSC_CONTAINER_STATE_H_
#define RUNSC_CONTAINER_STATE_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace runsc::container {

// runtime-spec, runtime.md#state, and "paused".
enum class Status { kCreating, kCreated, kRunning, kPaused, kStopped };
std::string_view StatusName(Status status);

struct HostProcess {
  pid_t pid = 0;
  uint64_t start_time = 0;
};

struct State {
  std::string id;
  std::string bundle;
  std::string rootfs;
  int64_t created_unix_ns = 0;
  std::string owner;
  // As of the last command; a dead sandbox makes it kStopped (CurrentStatus).
  Status status = Status::kCreating;
  HostProcess creator;  // the runsc that is at it while status is kCreating
  HostProcess sandbox;
  HostProcess gofer;
  std::map<std::string, std::string> annotations;
  std::map<std::string, std::string> cgroup_directories;
  std::vector<std::string> cgroup_created;
};

std::string StateToJson(const State& state);
absl::StatusOr<State> StateFromJson(std::string_view json, std::string_view name);

// The status now: what was written, corrected by which processes are alive.
Status CurrentStatus(const State& state);

// The object of `runsc state`, of `list -format json` and of hooks' standard input. Hooks take it in one line.
std::string OciStateJson(const State& state, Status status, bool indent);

// Letters, digits and _+-. only, as runc; not "." or "..".
absl::Status ValidateId(const std::string& id);

class StateDirectory {
 public:
  // Makes ROOT/ID and takes the lock. kAlreadyExists if the id is in use.
  static absl::StatusOr<StateDirectory> Create(const std::string& root, const std::string& id);
  // Opens an existing one. kNotFound: `container "x" does not exist`.
  static absl::StatusOr<StateDirectory> Open(const std::string& root, const std::string& id);

  // Waits for the lock. kNotFound if the container was deleted meanwhile. Held until the object's end.
  absl::Status Lock();
  // A directory whose creator got no further than making it reads as kCreating with that id.
  absl::StatusOr<State> Load() const;
  absl::Status Save(const State& state) const;
  // The container is gone after that.
  absl::Status Remove();

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }

 private:
  base::UniqueFd fd_;
  std::string path_;
  std::string id_;
};

// Ids of all containers below `root`, sorted. None if the directory does not exist.
absl::StatusOr<std::vector<std::string>> ListIds(const std::string& root);

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_STATE_H_
