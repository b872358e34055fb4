#include "runsc/container/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"
#include "runsc/host/process.h"
#include "runsc/oci/json_reader.h"
#include "runsc/oci/spec.h"

namespace runsc::container {
namespace {

using nlohmann::ordered_json;

constexpr const char* kStateFile = "state.json";
constexpr size_t kMaxIdBytes = 255;  // NAME_MAX

std::string Dump(const ordered_json& json, int indent) {
  // Bytes that are no UTF-8 (a bundle path may have any) are replaced rather than thrown about.
  return json.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

ordered_json ProcessToJson(const HostProcess& process) {
  return {{"pid", process.pid}, {"startTime", process.start_time}};
}

HostProcess ProcessFromJson(const oci::JsonReader& in) {
  return {static_cast<pid_t>(in["pid"].Int(0, 1 << 30)), in["startTime"].Uint64()};
}

absl::Status DoesNotExist(const std::string& id) {
  return absl::NotFoundError("container \"" + id + "\" does not exist");
}

}  // namespace

std::string_view StatusName(Status status) {
  switch (status) {
    case Status::kCreating:
      return "creating";
    case Status::kCreated:
      return "created";
    case Status::kRunning:
      return "running";
    case Status::kPaused:
      return "paused";
    case Status::kStopped:
      break;
  }
  return "stopped";
}

std::string StateToJson(const State& state) {
  ordered_json json = {{"version", 1},
                       {"id", state.id},
                       {"bundle", state.bundle},
                       {"rootfs", state.rootfs},
                       {"created", state.created_unix_ns},
                       {"owner", state.owner},
                       {"status", StatusName(state.status)},
                       {"creator", ProcessToJson(state.creator)},
                       {"sandbox", ProcessToJson(state.sandbox)},
                       {"gofer", ProcessToJson(state.gofer)},
                       {"annotations", ordered_json(state.annotations)},
                       {"cgroupDirectories", ordered_json(state.cgroup_directories)},
                       {"cgroupCreated", ordered_json(state.cgroup_created)}};
  return Dump(json, 2) + "\n";
}

absl::StatusOr<State> StateFromJson(std::string_view text, std::string_view name) {
  ASSIGN_OR_RETURN(nlohmann::json document, oci::ParseJson(text, name));
  absl::Status status;
  oci::JsonReader in(document, name, status);
  State state;
  state.id = in["id"].String();
  state.bundle = in["bundle"].String();
  state.rootfs = in["rootfs"].String();
  state.created_unix_ns = in["created"].Int();
  state.owner = in["owner"].String();
  std::string word = in["status"].String();
  state.status = Status::kStopped;
  for (Status s : {Status::kCreating, Status::kCreated, Status::kRunning, Status::kPaused}) {
    if (word == StatusName(s)) state.status = s;
  }
  state.creator = ProcessFromJson(in["creator"]);
  state.sandbox = ProcessFromJson(in["sandbox"]);
  state.gofer = ProcessFromJson(in["gofer"]);
  state.annotations = in["annotations"].StringMap();
  state.cgroup_directories = in["cgroupDirectories"].StringMap();
  state.cgroup_created = in["cgroupCreated"].Strings();
  if (!status.ok()) return status;
  return state;
}

Status CurrentStatus(const State& state) {
  if (state.status == Status::kStopped) return Status::kStopped;
  bool sandbox_alive = host::IsSameProcess(state.sandbox.pid, state.sandbox.start_time);
  if (state.status == Status::kCreating) {
    bool creating = sandbox_alive || host::IsSameProcess(state.creator.pid, state.creator.start_time);
    return creating ? Status::kCreating : Status::kStopped;
  }
  return sandbox_alive ? state.status : Status::kStopped;
}

std::string OciStateJson(const State& state, Status status, bool indent) {
  ordered_json json = {{"ociVersion", oci::kOciVersion}, {"id", state.id}, {"status", StatusName(status)}};
  if (status != Status::kStopped && state.sandbox.pid != 0) json["pid"] = state.sandbox.pid;
  json["bundle"] = state.bundle;
  if (!state.annotations.empty()) json["annotations"] = state.annotations;
  return Dump(json, indent ? 2 : -1);
}

absl::Status ValidateId(const std::string& id) {
  auto valid = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+' ||
           c == '-' || c == '.';
  };
  if (id.empty()) return absl::InvalidArgumentError("the container id must not be empty");
  if (id.size() > kMaxIdBytes) return absl::InvalidArgumentError("the container id is longer than 255 characters");
  if (id == "." || id == ".." || !std::all_of(id.begin(), id.end(), valid)) {
    return absl::InvalidArgumentError("invalid container id \"" + id +
                                      "\": only letters, digits and _ + - . are allowed");
  }
  return absl::OkStatus();
}

absl::StatusOr<StateDirectory> StateDirectory::Create(const std::string& root, const std::string& id) {
  RETURN_IF_ERROR(ValidateId(id));
  RETURN_IF_ERROR(host::MakeDirectories(root, 0711));
  StateDirectory directory;
  directory.id_ = id;
  directory.path_ = root + "/" + id;
  if (mkdir(directory.path_.c_str(), 0700) < 0) {
    if (errno == EEXIST) return absl::AlreadyExistsError("container with id \"" + id + "\" already exists");
    return host::ErrnoStatus(errno, "cannot create " + directory.path_);
  }
  ASSIGN_OR_RETURN(directory.fd_, host::Open(AT_FDCWD, directory.path_, O_RDONLY | O_DIRECTORY));
  RETURN_IF_ERROR(directory.Lock());
  return directory;
}

absl::StatusOr<StateDirectory> StateDirectory::Open(const std::string& root, const std::string& id) {
  RETURN_IF_ERROR(ValidateId(id));
  StateDirectory directory;
  directory.id_ = id;
  directory.path_ = root + "/" + id;
  auto fd = host::Open(AT_FDCWD, directory.path_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (absl::IsNotFound(fd.status())) return DoesNotExist(id);
  if (!fd.ok()) return fd.status();
  directory.fd_ = std::move(*fd);
  return directory;
}

absl::Status StateDirectory::Lock() {
  while (flock(fd_.get(), LOCK_EX) < 0) {
    if (errno != EINTR) return host::ErrnoStatus(errno, "cannot lock " + path_);
  }
  // It may have been removed, and perhaps made again, while we waited.
  struct stat held, named;
  if (fstat(fd_.get(), &held) < 0 || stat(path_.c_str(), &named) < 0 || held.st_ino != named.st_ino ||
      held.st_dev != named.st_dev) {
    return DoesNotExist(id_);
  }
  return absl::OkStatus();
}

absl::StatusOr<State> StateDirectory::Load() const {
  auto text = host::ReadFile(fd_.get(), kStateFile);
  if (absl::IsNotFound(text.status())) {
    struct stat st;
    if (fstat(fd_.get(), &st) == 0 && st.st_nlink == 0) return DoesNotExist(id_);
    State state;
    state.id = id_;
    // Whoever makes it holds the lock; if nobody does, nobody will go on with it (CurrentStatus makes it stopped).
    base::UniqueFd other = host::Open(fd_.get(), ".", O_RDONLY | O_DIRECTORY).value_or(base::UniqueFd());
    if (other.valid() && flock(other.get(), LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
      state.creator = {getpid(), host::GetProcessStatus(getpid()).start_time};
    }
    return state;
  }
  if (!text.ok()) return text.status();
  return StateFromJson(*text, path_ + "/" + kStateFile);
}

absl::Status StateDirectory::Save(const State& state) const {
  return host::WriteAtomically(fd_.get(), kStateFile, StateToJson(state), 0600);
}

absl::Status StateDirectory::Remove() { return host::RemoveFlatDirectory(path_); }

absl::StatusOr<std::vector<std::string>> ListIds(const std::string& root) {
  std::vector<std::string> ids;
  DIR* dir = opendir(root.c_str());
  if (dir == nullptr) {
    if (errno == ENOENT) return ids;
    return host::ErrnoStatus(errno, "cannot open " + root);
  }
  while (dirent* entry = readdir(dir)) {
    if (ValidateId(entry->d_name).ok() && entry->d_type != DT_REG) ids.push_back(entry->d_name);
  }
  closedir(dir);
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace runsc::container
